"""Secrets of a user are in no layer, document, output or cache of a whole build."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.core.http.client import Client
from hatch_docker.core.progress import silent
from hatch_docker.oci.compression import Decompressed
from hatch_docker.oci.layout import blobs_of
from hatch_docker.oci.model import Layer
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.registry import Remote
from tests.conftest import need_docker
from tests.fakes.bases import python_image
from tests.fakes.images import image_of
from tests.fakes.network import login
from tests.fakes.package_index import FakeIndex, make_wheel
from tests.fakes.registry import FakeRegistry, push
from tests.fakes.sandbox_roots import need_sandbox
from tests.integration.builds import Outcome, build, check_failed, environment, require, run_build
from tests.projects import write_files, write_project

pytestmark = pytest.mark.network

MARK = "planted-secret"


def mark(name: str) -> str:
    """A secret that can be told from the others, with characters that are written otherwise in a URL or in quotes."""
    return f"{MARK}-{name}"


def traces(data: bytes) -> bool:
    """Return whether a secret is in some bytes, as it is or in the base64 of a login."""
    # Whatever stands before it, the middle of its base64 is one of three.
    forms = [MARK.encode(), *(base64.b64encode(pad + MARK.encode())[4:-4] for pad in (b"", b"x", b"xx"))]
    return any(form in data for form in forms)


CLEAN: set[str] = set()  # digests and names of what was searched, to no avail


def contents(outcome: Outcome) -> Iterator[tuple[str, bytes]]:
    """Every document and every unpacked layer of the image that is not CLEAN, and every other file in dist/."""
    for descriptor, content in blobs_of(outcome.item()):
        if isinstance(content, Layer):
            if descriptor.digest in CLEAN:
                continue
            with content.open() as stream:
                plain = Decompressed(stream)
                yield descriptor.digest, b"".join(iter(lambda plain=plain: plain.read(1 << 20), b""))
        else:
            yield descriptor.digest, content
    for path in outcome.directory.iterdir():
        if path.suffix == ".json":
            yield path.name, path.read_bytes()


def leaks(outcome: Outcome, cache: Path, start: float) -> list[str]:
    """Where a secret shows: in the output, in dist/, or in what the cache has gained since `start`."""
    found = ["the output"] if traces(outcome.output.encode()) else []
    if outcome.status == 0:
        for name, data in contents(outcome):
            if traces(data):
                found.append(name)
            else:
                CLEAN.add(name)
    for name in ("blobs", "facts", "locks", "tmp", "trees/wheel", "trees/build-env"):
        paths = [path for path in (cache / "v1" / name).rglob("*") if path.is_file()]
        new = [path for path in paths if path.stat().st_mtime >= start - 1]
        found += [str(path.relative_to(cache)) for path in new if traces(path.read_bytes())]
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's home with a secret in every file that tools keep theirs in."""
    home = tmp_path / "home"
    files = {
        ".netrc": f"machine 127.0.0.2 login netrc password {mark('netrc')}\n",
        ".pypirc": f"[pypi]\nusername = __token__\npassword = {mark('pypirc')}\n",
        ".git-credentials": f"https://user:{mark('git')}@git.example\n",
        ".config/pip/pip.conf": f"[global]\ntimeout = 10\nproxy-note = {mark('pip')}\n",
        ".ssh/id_rsa": f"-----BEGIN\n{mark('ssh')}\n-----END\n",
        ".aws/credentials": f"[default]\naws_secret_access_key = {mark('aws-file')}\n",
    }
    write_files(home, files)
    (home / ".netrc").chmod(0o600)
    return home


def variables(home: Path, **more: str) -> dict[str, str]:
    """The environment of somebody who has secrets, and asks to see everything."""
    return {
        "HOME": str(home), "HATCH_VERBOSE": "2", "TOKEN": mark("token"), "AWS_SECRET_ACCESS_KEY": mark("aws"),
        "GITHUB_TOKEN": mark("github"), "UV_PUBLISH_TOKEN": mark("publish"), **more,
    }


def secret_files(project: Path) -> None:
    """Secrets beside the sources, which git is told to ignore."""
    write_files(project, {
        ".env": f"PASSWORD={mark('env')}\n", "id_rsa": mark("key"), ".pypirc": mark("own-pypirc"), ".netrc": mark("n"),
        ".git/config": f'[remote "origin"]\n\turl = https://x:{mark("remote")}@git.example/p\n',
        ".git/HEAD": "ref: refs/heads/main\n", ".gitignore": ".env\nid_rsa\n.pypirc\n.netrc\ndist\n",
    })  # fmt: skip


@pytest.fixture
def index() -> Iterator[FakeIndex]:
    """An index that wants a password, and has one package."""
    fake = FakeIndex(login=("user", mark("index")))
    fake.add("gadget", make_wheel("gadget", "1.0"))
    with fake.serving():
        yield fake


def needing_gadget(project: Path, *, table: str = "") -> Path:
    """Asked for as nobody did before, since another index had the same port perhaps."""
    with (project / "pyproject.toml").open("a") as stream:
        stream.write(table)
    return require(project, f"gadget!=0.{time.time_ns()}")


TABLES = {
    "tool.uv": '[[tool.uv.index]]\nname = "inner"\nurl = "@"\ndefault = true\n',
    "tool.uv.sources": '[[tool.uv.index]]\nname = "inner"\nurl = "@"\nexplicit = true\n'
                       '[tool.uv.sources]\ngadget = { index = "inner" }\n',
    "tool.poetry": '[[tool.poetry.source]]\nname = "inner"\nurl = "@"\npriority = "explicit"\n'
                   '[tool.poetry.dependencies]\ngadget = { version = "*", source = "inner" }\n',
    "tool.pdm": '[[tool.pdm.source]]\nname = "inner"\nurl = "@"\ninclude_packages = ["gadget"]\n',
}  # fmt: skip


@pytest.mark.parametrize("where", ["UV_INDEX_URL", "PIP_INDEX_URL", "UV_INDEX", "netrc", *TABLES])
def test_the_password_of_an_index(where: str, index: FakeIndex, home: Path, tmp_path: Path, cache: Path) -> None:
    """Wherever it stands, the index gets it and nobody else."""
    project = write_project("hello", tmp_path / "p")
    secret_files(project)
    own: dict[str, str] = {}
    table = ""
    if where == "netrc":
        (home / ".netrc").write_text(f"machine 127.0.0.1 login user password {mark('index')}\n")
        own = {"UV_INDEX_URL": index.url}
    elif where in TABLES:
        table = "\n" + TABLES[where].replace("@", index.url_with_login)
    elif where == "UV_INDEX":
        own = {
            "UV_INDEX": f"inner={index.url}", "UV_INDEX_INNER_USERNAME": "user",
            "UV_INDEX_INNER_PASSWORD": mark("index"),
        }
    else:
        own = {where: index.url_with_login}
    needing_gadget(project, table=table)
    start = time.time()
    outcome = build(project, cache, variables=variables(home, **own))
    assert "gadget 1.0" in str(outcome.receipt)
    assert leaks(outcome, cache, start) == []


def test_an_index_that_takes_the_password_no_more(index: FakeIndex, home: Path, tmp_path: Path, cache: Path) -> None:
    """The refusal is told without what was refused."""
    start = time.time()
    project = needing_gadget(write_project("hello", tmp_path / "p"))
    index.login, url = ("user", "changed"), index.url_with_login
    refused = run_build(project, cache, variables=variables(home, UV_DEFAULT_INDEX=url))
    check_failed(refused, "gadget")
    assert leaks(refused, cache, start) == []


SHOUTING_HOOK = '''
import base64, hashlib, json, os, sys
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

class Hook(BuildHookInterface):
    def initialize(self, version, build_data):
        if self.target_name != "wheel":
            return
        secret = os.environ["BUILD_KEY"]
        assert hashlib.sha256(secret.encode()).hexdigest() == "DIGEST"
        print(os.environ, json.dumps(dict(os.environ)), secret, flush=True)
        print(base64.b64encode(secret.encode()).decode(), file=sys.stderr, flush=True)
        for name in ("TOKEN", "AWS_SECRET_ACCESS_KEY", "UV_INDEX_URL", "PIP_INDEX_URL", "GITHUB_TOKEN"):
            assert name not in os.environ
        assert not os.path.exists(os.environ["HOME"] + "/.ssh")
        ENDING
'''


@pytest.mark.parametrize("engine", ["embedded", pytest.param("buildkit", marks=pytest.mark.engine)])
@pytest.mark.parametrize("ending", ["pass", "raise RuntimeError(repr(secret))"], ids=["built", "failed"])
def test_a_secret_of_the_build(ending: str, engine: str, home: Path, tmp_path: Path, cache: Path) -> None:
    """build.secrets: the build reads the value and prints it, nobody else does; it gets no other variable or file."""
    if engine == "buildkit":
        need_docker()
    else:
        need_sandbox()
    start = time.time()
    secret = f"-----BEGIN KEY-----\n{mark('line-1')}\n{mark('line-2')} 'quoted\" and \\slashed\n-----END KEY-----\n"
    project = write_project("hello", tmp_path / "p", options='[tool.hatch-docker.build]\nsecrets = ["BUILD_KEY"]')
    hook = SHOUTING_HOOK.replace("DIGEST", hashlib.sha256(secret.encode()).hexdigest()).replace("ENDING", ending)
    (project / "hatch_build.py").write_text(f"# {tmp_path}\n{hook}")
    with (project / "pyproject.toml").open("a") as stream:
        stream.write("\n[tool.hatch.build.hooks.custom]\n")
    secret_files(project)
    own = {"UV_DEFAULT_INDEX": os.environ["UV_DEFAULT_INDEX"]} if "UV_DEFAULT_INDEX" in os.environ else {}
    outcome = run_build(project, cache, variables=variables(home, BUILD_KEY=secret, HATCH_DOCKER_ENGINE=engine, **own))
    assert outcome.status == (ending != "pass"), outcome.output
    assert "Traceback" not in outcome.output or ending != "pass"
    assert "***" in outcome.output
    assert leaks(outcome, cache, start) == []


WRITING_HOOK = '''
import base64, os
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

class Hook(BuildHookInterface):
    def initialize(self, version, build_data):
        if self.target_name == "wheel":
            secret = os.environ["BUILD_KEY"]
            with open("generated.py", "w") as stream:
                stream.write("KEY = " + repr(WRITTEN))
            build_data["force_include"]["generated.py"] = "generated.py"
'''


@pytest.mark.parametrize(
    "written", ["secret", "base64.b64encode(('user:' + secret).encode()).decode()"], ids=["as it is", "in a login"]
)
def test_a_secret_that_a_build_writes_into_its_wheel(written: str, home: Path, tmp_path: Path, cache: Path) -> None:
    """The error names the file; no image, no document and no wheel of it is kept, and the next build finds it too."""
    need_sandbox()
    start = time.time()
    project = write_project("hello", tmp_path / "p", options='[tool.hatch-docker.build]\nsecrets = ["BUILD_KEY"]')
    (project / "hatch_build.py").write_text(f"# {tmp_path}\n" + WRITING_HOOK.replace("WRITTEN", written))
    with (project / "pyproject.toml").open("a") as stream:
        stream.write("\n[tool.hatch.build.hooks.custom]\n")
    own = {"UV_DEFAULT_INDEX": os.environ["UV_DEFAULT_INDEX"]} if "UV_DEFAULT_INDEX" in os.environ else {}
    for _ in range(2):
        refused = run_build(project, cache, variables=variables(home, BUILD_KEY=mark("written"), **own))
        check_failed(refused, "the value of BUILD_KEY (build.secrets) is in /generated.py of the image")
        assert leaks(refused, cache, start) == []
        assert not list(refused.directory.glob("*"))


@pytest.mark.parametrize("where", ["the code", "files", "env"])
def test_a_login_that_is_in_the_project(where: str, index: FakeIndex, home: Path, tmp_path: Path, cache: Path) -> None:
    """The password that the index was given is in no layer and no configuration, whoever wrote it there."""
    options = {
        "files": '[[tool.hatch-docker.files]]\nsource = "settings.txt"\ntarget = "/srv/settings.txt"',
        "env": f'env = {{ PASSWORD = "{mark("index")}" }}',
    }
    project = needing_gadget(write_project("hello", tmp_path / "p", options=options.get(where, "")))
    (project / "settings.txt").write_text(f"password: {mark('index')}\n")
    if where == "the code":
        with (project / "hello.py").open("a") as stream:
            stream.write(f"PASSWORD = {mark('index')!r}\n")
    refused = run_build(project, cache, variables=variables(home, UV_INDEX_URL=index.url_with_login))
    check_failed(refused, f"the login of the index {index.url}")
    place = {"the code": "site-packages/", "files": "/srv/settings.txt of the image", "env": "the configuration of"}
    assert place[where] in refused.output
    assert mark("index") not in refused.output
    assert not list(refused.directory.glob("*"))


def test_the_password_of_a_registry(home: Path, tmp_path: Path, cache: Path) -> None:
    """From Docker's configuration, to that registry alone; and nothing of it is told when it is refused."""
    start = time.time()
    base = image_of(build(write_project("hello", tmp_path / "base"), cache).image().layers[0])
    password = mark("registry")
    with FakeRegistry(password=password) as registry:
        login(home / ".docker", registry, password=password)
        environ = {"HOME": str(home)}
        name = f"{registry.host}/private:1"
        push(Remote(Client(environ, silent()), environ), base, [parse_reference(name)])
        project = write_project("hello", tmp_path / "p", base=name)
        secret_files(project)
        outcome = build(project, cache, variables=variables(home))
        assert outcome.receipt["base"]["name"] == name
        assert leaks(outcome, cache, start) == []
        tokens = list(registry.tokens)
        assert tokens
        registry.password = "changed"
        registry.tokens.clear()
        other = write_project("hello", tmp_path / "q", base=f"{registry.host}/private:2")
        refused = run_build(other, cache, variables=variables(home))
        assert refused.status == 1
        assert leaks(refused, cache, start) == []
        assert not any(token in outcome.output + refused.output for token in tokens)


# A fault of each kind, on the way of the base to us and of the image to the registry.
MISHAPS: list[tuple[str, str, Any]] = [
    ("GET", "/token", 503), ("GET", "/token", "reset"), ("HEAD", "/manifests/", 502), ("GET", "/manifests/", "cut"),
    ("GET", "/blobs/", "flip"), ("HEAD", "/blobs/", "close"), ("POST", "/blobs/uploads/", 500),
    ("PUT", "/blobs/uploads/", "midway"), ("PUT", "/blobs/uploads/", "lost"), ("PUT", "/manifests/", 429),
]  # fmt: skip


def test_a_registry_that_misbehaves(home: Path, tmp_path: Path) -> None:
    """Passwords, tokens and signed URLs are in no retry, refusal, receipt or cache."""
    base = python_image("arm64")
    password = mark("registry")
    with FakeRegistry(password=password, referrers=True) as registry, FakeRegistry(address="127.0.0.2") as storage:
        login(home / ".docker", registry, password=password)
        environ = {"HOME": str(home)}
        push(Remote(Client(environ, silent()), environ), base, [parse_reference(f"{registry.host}/private:1")])
        storage.repositories, registry.redirect_blobs = registry.repositories, storage.origin
        for method, part, action in MISHAPS:
            registry.fault(method, part, action, headers={"retry-after": "0"})
        storage.fault("GET", "/blobs/", 503)
        project = write_project("hello", tmp_path / "p", base=f"{registry.host}/private:1")
        own = variables(home, HATCH_DOCKER_IMAGE=f"{registry.host}/team/app", HATCH_DOCKER_ALLOW_DIRTY="1")
        own |= {"HATCH_DOCKER_REFRESH": "1", "HATCH_DOCKER_PLATFORMS": "linux/arm64"}
        own_cache = tmp_path / "cache"
        outcomes = [run_build(project, own_cache, verb="docker:push", variables=own)]
        assert outcomes[0].status == 0, outcomes[0].output
        assert all(fault.times == 0 for fault in registry.faults), registry.faults
        for method, part in (("GET", "/token"), ("POST", "/blobs/uploads/"), ("PUT", "/manifests/")):
            registry.tokens.clear()
            registry.fault(method, part, 403, times=99)
            (project / "hello.py").write_text(f"def main() -> None: print({method!r}, {part!r})\n")
            outcomes.append(run_build(project, own_cache, verb="docker:push", variables=own))
            assert outcomes[-1].status == 1, outcomes[-1].output
            registry.faults.clear()
        text = "".join(outcome.output for outcome in outcomes)
        assert text.count("again in") >= len(MISHAPS)
        kept = [path for place in (outcomes[0].directory, own_cache) for path in place.rglob("*") if path.is_file()]
        lines = [text.encode(), *(path.read_bytes() for path in kept)]
        assert not any(traces(data) or b"s3cret" in data for data in lines)


def test_the_password_of_a_registry_that_is_pushed_to(home: Path, tmp_path: Path, cache: Path) -> None:
    """It is in no layer that is made for the push, nor in what goes with the image; without it, the push is made."""
    start = time.time()
    password = mark("pushing")
    options = f'# {tmp_path}\n[[tool.hatch-docker.files]]\nsource = "settings.txt"\ntarget = "/srv/settings.txt"'
    project = write_project("hello", tmp_path / "p", options=options)
    (project / "settings.txt").write_text(f"{tmp_path} {password}\n")
    with FakeRegistry(password=password) as registry:
        login(home / ".docker", registry, password=password)
        own = variables(home, HATCH_DOCKER_REGISTRIES=registry.host, HATCH_DOCKER_ALLOW_DIRTY="1")
        refused = run_build(project, cache, verb="docker:push", variables=own)
        check_failed(refused, f"the password of {registry.host} is in /srv/settings.txt of the image")
        # It is asked whether we may push, and nothing is sent.
        assert {request.method for request in registry.requests} <= {"GET", "POST", "DELETE"}
        assert registry.repository("hello").blobs == {}
        assert leaks(refused, cache, start) == []
        (project / "settings.txt").write_text(f"{tmp_path}\n")
        done = run_build(project, cache, verb="docker:push", variables=own)
        assert done.status == 0, done.output
        # Made and archived when nobody asked for the registry's login; whoever pushes it then, by whichever door.
        (project / "settings.txt").write_text(f"{tmp_path} then {password}\n")
        without = variables(home, HATCH_DOCKER_ALLOW_DIRTY="1")
        build(project, cache, variables=without)
        registry.requests.clear()
        for command in (["hatchling", "build", "-t", "docker:push"], ["hatch_docker", "push"]):
            late = subprocess.run(
                [sys.executable, "-m", *command], cwd=project, text=True, capture_output=True, check=False,
                env=environment(cache, own),
            )
            assert late.returncode == 1, late.stderr
            assert f"the password of {registry.host} is in /srv/settings.txt of the image" in late.stderr
        assert registry.requests == []
        blobs = registry.repository("hello").blobs.values()
        assert not any(traces(data) for data in blobs)
        assert MARK not in done.output


def test_the_password_of_a_mirror(index: FakeIndex, home: Path, tmp_path: Path, cache: Path) -> None:
    """It is in the user's environment, and neither in the plan that is written nor in an error."""
    start = time.time()
    project = write_project("hello", tmp_path / "p")
    mirror = index.url.replace("//", f"//user:{mark('mirror')}@")  # no Debian's
    own = variables(home, HATCH_DOCKER_DEBIAN_MIRROR=mirror, HATCH_DOCKER_DEBIAN_SECURITY_MIRROR=mirror)
    plan = run_build(project, cache, verb="docker:plan", variables=own)
    (path,) = plan.directory.glob("*.plan.json")
    assert json.loads(path.read_bytes())["base"]["mirror"] == index.url
    assert not traces(plan.output.encode() + path.read_bytes())
    empty = tmp_path / "cache"
    refused = run_build(project, empty, variables=own)
    assert refused.status in (1, 75)
    assert leaks(refused, empty, start) == []


@pytest.mark.parametrize("variable", ["UV_INDEX_URL", "PIP_INDEX_URL", "UV_INDEX", "HATCH_DOCKER_DEBIAN_MIRROR"])
def test_a_password_with_characters_of_urls(variable: str, home: Path, tmp_path: Path, cache: Path) -> None:
    """With a slash in it the address is another one than it looks like; the error hides all before the host."""
    project = needing_gadget(write_project("hello", tmp_path / "p"))
    own = {variable: f"https://user:{mark('a')}/{mark('b')}@h.example/x"}
    place = tmp_path / "cache" if variable == "HATCH_DOCKER_DEBIAN_MIRROR" else cache
    outcome = run_build(project, place, variables=variables(home, **own))
    assert outcome.status in (1, 75)
    assert MARK not in outcome.output, outcome.output
    assert "Traceback" not in outcome.output


LEAKS = {
    "a file": ("hello_data/.env", ""),
    "a directory": ("hello_data/.aws/credentials", ""),
    "a link to a secret": ("hello_data/settings.txt", ".env"),
    "a link to the repository's configuration": ("hello_data/settings.txt", ".git/config"),
    "a link out of the project": ("hello_data/settings.txt", "../home/.config/pip/pip.conf"),
}


@pytest.mark.parametrize("what", LEAKS)
def test_a_wheel_with_a_secret_is_refused(what: str, home: Path, tmp_path: Path, cache: Path) -> None:
    """By its name, or that of what a link leads to; one line names the file, and no image is made."""
    name, link = LEAKS[what]
    project = write_project("hello", tmp_path / "p")
    secret_files(project)
    (project / ".gitignore").unlink()
    with (project / "pyproject.toml").open("a") as stream:
        stream.write('\n[tool.hatch.build.targets.wheel]\nonly-include = ["hello.py", "hello_data"]\n')
    path = project / name
    path.parent.mkdir(parents=True)
    path.symlink_to(project / link) if link else path.write_text(mark("wheel"))
    outcome = run_build(project, cache, variables=variables(home))
    assert outcome.status == 1, outcome.output
    assert Path(name).name in outcome.output
    assert "Traceback" not in outcome.output
    assert not list(outcome.directory.glob("*"))


@pytest.mark.parametrize("source", [".env", ".git", ".git/config", "settings.txt", "."])
def test_files_that_are_secrets_are_refused(source: str, home: Path, tmp_path: Path, cache: Path) -> None:
    """`files` copies no secret, by whatever name, link or directory it is reached."""
    options = f'[[tool.hatch-docker.files]]\nsource = "{source}"\ntarget = "/srv/x"\n'
    project = write_project("hello", tmp_path / "p", options=options)
    secret_files(project)
    (project / "settings.txt").symlink_to(".env")
    outcome = run_build(project, cache, variables=variables(home))
    check_failed(outcome, "looks like a secret")
    assert not list(outcome.directory.glob("*"))
