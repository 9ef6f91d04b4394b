"""Secrets of the user do not reach layers, documents, output or cache of a whole build."""

import base64
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
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


def secret_of(name: str) -> str:
    """Return a unique secret, which contains MARK."""
    return f"{MARK}-{name}"


def has_secret(data: bytes) -> bool:
    """Return whether `data` contains MARK, as text or in base64 (as in an Authorization header)."""
    # The base64 of MARK depends on its offset modulo 3: there are three forms.
    forms = [MARK.encode(), *(base64.b64encode(pad + MARK.encode())[4:-4] for pad in (b"", b"x", b"xx"))]
    return any(form in data for form in forms)


CLEAN: set[str] = set()  # digests and names of content that was searched and has no secret


def contents(outcome: Outcome) -> Iterator[tuple[str, bytes]]:
    """Yield the documents and the unpacked layers of an image, except layers in CLEAN, and the JSON files in dist/."""
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
    """Return the places of secrets: the output, files in dist/, or new files of the cache since `start`."""
    found = ["the output"] if has_secret(outcome.output.encode()) else []
    if outcome.status == 0:
        for name, data in contents(outcome):
            if has_secret(data):
                found.append(name)
            else:
                CLEAN.add(name)
    for name in ("blobs", "facts", "locks", "tmp", "trees/wheel", "trees/build-env"):
        for path in (Path(top, file) for top, _, files in os.walk(cache / "v1" / name) for file in files):
            with contextlib.suppress(FileNotFoundError):  # a temporary file of another build
                if path.is_file() and path.stat().st_mtime >= start - 1 and has_secret(path.read_bytes()):
                    found.append(str(path.relative_to(cache)))
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home directory with secrets in the files that pip, git, ssh and other tools use."""
    home = tmp_path / "home"
    files = {
        ".netrc": f"machine 127.0.0.2 login netrc password {secret_of('netrc')}\n",
        ".pypirc": f"[pypi]\nusername = __token__\npassword = {secret_of('pypirc')}\n",
        ".git-credentials": f"https://user:{secret_of('git')}@git.example\n",
        ".config/pip/pip.conf": f"[global]\ntimeout = 10\nproxy-note = {secret_of('pip')}\n",
        ".ssh/id_rsa": f"-----BEGIN\n{secret_of('ssh')}\n-----END\n",
        ".aws/credentials": f"[default]\naws_secret_access_key = {secret_of('aws-file')}\n",
    }
    write_files(home, files)
    (home / ".netrc").chmod(0o600)
    return home


def variables(home: Path, **others: str) -> dict[str, str]:
    """Return an environment with secrets and the highest verbosity."""
    return {
        "HOME": str(home), "HATCH_VERBOSE": "2", "TOKEN": secret_of("token"), "AWS_SECRET_ACCESS_KEY": secret_of("aws"),
        "GITHUB_TOKEN": secret_of("github"), "UV_PUBLISH_TOKEN": secret_of("publish"), **others,
    }


def write_secret_files(project: Path) -> None:
    """Write secrets beside the sources, which .gitignore lists."""
    write_files(project, {
        ".env": f"PASSWORD={secret_of('env')}\n", "id_rsa": secret_of("key"), ".pypirc": secret_of("pypi"),
        ".git/config": f'[remote "origin"]\n\turl = https://x:{secret_of("remote")}@git.example/p\n',
        ".netrc": secret_of("n"), ".git/HEAD": "ref: refs/heads/main\n",
        ".gitignore": ".env\nid_rsa\n.pypirc\n.netrc\ndist\n",
    })  # fmt: skip


@pytest.fixture
def index() -> Iterator[FakeIndex]:
    """Start an index that requires a password and has one package."""
    fake = FakeIndex(login=("user", secret_of("index")))
    fake.add("gadget", make_wheel("gadget", "1.0"))
    with fake.serving():
        yield fake


def require_gadget(project: Path, *, table: str = "") -> Path:
    """Require the package; the unique specifier avoids a cached page of another test's index."""
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
def test_index_password_is_not_leaked(where: str, index: FakeIndex, home: Path, tmp_path: Path, cache: Path) -> None:
    """Only the index gets it, for every place in which it can be configured."""
    project = write_project("hello", tmp_path / "p")
    write_secret_files(project)
    own: dict[str, str] = {}
    table = ""
    if where == "netrc":
        (home / ".netrc").write_text(f"machine 127.0.0.1 login user password {secret_of('index')}\n")
        own = {"UV_INDEX_URL": index.url}
    elif where in TABLES:
        table = "\n" + TABLES[where].replace("@", index.url_with_login)
    elif where == "UV_INDEX":
        own = {
            "UV_INDEX": f"inner={index.url}", "UV_INDEX_INNER_USERNAME": "user",
            "UV_INDEX_INNER_PASSWORD": secret_of("index"),
        }
    else:
        own = {where: index.url_with_login}
    require_gadget(project, table=table)
    start = time.time()
    outcome = build(project, cache, variables=variables(home, **own))
    assert "gadget 1.0" in str(outcome.receipt)
    assert leaks(outcome, cache, start) == []


def test_rejected_index_password_is_not_printed(index: FakeIndex, home: Path, tmp_path: Path, cache: Path) -> None:
    start = time.time()
    project = require_gadget(write_project("hello", tmp_path / "p"))
    index.login, url = ("user", "changed"), index.url_with_login
    refused = run_build(project, cache, variables=variables(home, UV_DEFAULT_INDEX=url))
    check_failed(refused, "gadget")
    assert leaks(refused, cache, start) == []


PRINTING_HOOK = '''
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
def test_build_secret_is_hidden(ending: str, engine: str, home: Path, tmp_path: Path, cache: Path) -> None:
    """build.secrets: the build hook prints the value, but the output hides it. The hook gets no other secret."""
    if engine == "buildkit":
        need_docker()
    else:
        need_sandbox()
    start = time.time()
    lines = f"{secret_of('line-1')}\n{secret_of('line-2')} 'quoted\" and \\slashed"
    secret = f"-----BEGIN KEY-----\n{lines}\n-----END KEY-----\n"
    project = write_project("hello", tmp_path / "p", options='[tool.hatch-docker.build]\nsecrets = ["BUILD_KEY"]')
    hook = PRINTING_HOOK.replace("DIGEST", hashlib.sha256(secret.encode()).hexdigest()).replace("ENDING", ending)
    (project / "hatch_build.py").write_text(f"# {token_hex()}\n{hook}")  # no builder has run it
    with (project / "pyproject.toml").open("a") as stream:
        stream.write("\n[tool.hatch.build.hooks.custom]\n")
    write_secret_files(project)
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
    "value", ["secret", "base64.b64encode(('user:' + secret).encode()).decode()"], ids=["as it is", "in a login"]
)
def test_build_secret_in_the_wheel_is_rejected(value: str, home: Path, tmp_path: Path, cache: Path) -> None:
    """The error names the file; no image, document or wheel is kept; a second build fails in the same way."""
    need_sandbox()
    start = time.time()
    project = write_project("hello", tmp_path / "p", options='[tool.hatch-docker.build]\nsecrets = ["BUILD_KEY"]')
    (project / "hatch_build.py").write_text(f"# {tmp_path}\n" + WRITING_HOOK.replace("WRITTEN", value))
    with (project / "pyproject.toml").open("a") as stream:
        stream.write("\n[tool.hatch.build.hooks.custom]\n")
    own = {"UV_DEFAULT_INDEX": os.environ["UV_DEFAULT_INDEX"]} if "UV_DEFAULT_INDEX" in os.environ else {}
    for _ in range(2):
        refused = run_build(project, cache, variables=variables(home, BUILD_KEY=secret_of("written"), **own))
        check_failed(refused, "the value of BUILD_KEY (build.secrets) is in /generated.py of the image")
        assert leaks(refused, cache, start) == []
        assert not list(refused.directory.glob("*"))


@pytest.mark.parametrize("where", ["the code", "files", "env"])
def test_index_password_in_image(where: str, index: FakeIndex, home: Path, tmp_path: Path, cache: Path) -> None:
    """The project contains the password of the index: in its code, in `files` or in `env`."""
    options = {
        "files": '[[tool.hatch-docker.files]]\nsource = "settings.txt"\ntarget = "/srv/settings.txt"',
        "env": f'env = {{ PASSWORD = "{secret_of("index")}" }}',
    }
    project = require_gadget(write_project("hello", tmp_path / "p", options=options.get(where, "")))
    (project / "settings.txt").write_text(f"password: {secret_of('index')}\n")
    if where == "the code":
        with (project / "hello.py").open("a") as stream:
            stream.write(f"PASSWORD = {secret_of('index')!r}\n")
    refused = run_build(project, cache, variables=variables(home, UV_INDEX_URL=index.url_with_login))
    check_failed(refused, f"the login of the index {index.url}")
    place = {"the code": "site-packages/", "files": "/srv/settings.txt of the image", "env": "the configuration of"}
    assert place[where] in refused.output
    assert secret_of("index") not in refused.output
    assert not list(refused.directory.glob("*"))


def test_registry_password_is_not_leaked(home: Path, tmp_path: Path, cache: Path) -> None:
    """The password is in Docker's configuration. Neither it nor the tokens are printed, also if it is rejected."""
    start = time.time()
    base = image_of(build(write_project("hello", tmp_path / "base"), cache).image().layers[0])
    password = secret_of("registry")
    with FakeRegistry(password=password) as registry:
        login(home / ".docker", registry, password=password)
        environ = {"HOME": str(home)}
        name = f"{registry.host}/private:1"
        push(Remote(Client(environ, silent()), environ), base, [parse_reference(name)])
        project = write_project("hello", tmp_path / "p", base=name)
        write_secret_files(project)
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


# One fault of each kind, while the base is pulled and while the image is pushed.
FAULTS: list[tuple[str, str, Any]] = [
    ("GET", "/token", 503), ("GET", "/token", "reset"), ("HEAD", "/manifests/", 502), ("GET", "/manifests/", "cut"),
    ("GET", "/blobs/", "flip"), ("HEAD", "/blobs/", "close"), ("POST", "/blobs/uploads/", 500),
    ("PUT", "/blobs/uploads/", "midway"), ("PUT", "/blobs/uploads/", "lost"), ("PUT", "/manifests/", 429),
]  # fmt: skip


def test_registry_faults_leak_no_secret(home: Path, tmp_path: Path) -> None:
    """Passwords, tokens and signed URLs are not in messages about retries and errors, in receipts or in the cache."""
    base = python_image("arm64")
    password = secret_of("registry")
    with FakeRegistry(password=password, referrers=True) as registry, FakeRegistry(address="127.0.0.2") as storage:
        login(home / ".docker", registry, password=password)
        environ = {"HOME": str(home)}
        push(Remote(Client(environ, silent()), environ), base, [parse_reference(f"{registry.host}/private:1")])
        storage.repositories, registry.redirect_blobs = registry.repositories, storage.origin
        for method, part, action in FAULTS:
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
        assert text.count("again in") >= len(FAULTS)
        kept = [path for place in (outcomes[0].directory, own_cache) for path in place.rglob("*") if path.is_file()]
        lines = [text.encode(), *(path.read_bytes() for path in kept)]
        assert not any(has_secret(data) or b"s3cret" in data for data in lines)


def test_registry_password_in_image(home: Path, tmp_path: Path, cache: Path) -> None:
    """The password of the push's registry is in a file of the image. Without it, the push succeeds."""
    start = time.time()
    password = secret_of("pushing")
    options = f'# {tmp_path}\n[[tool.hatch-docker.files]]\nsource = "settings.txt"\ntarget = "/srv/settings.txt"'
    project = write_project("hello", tmp_path / "p", options=options)
    (project / "settings.txt").write_text(f"{tmp_path} {password}\n")
    with FakeRegistry(password=password) as registry:
        login(home / ".docker", registry, password=password)
        own = variables(home, HATCH_DOCKER_REGISTRIES=registry.host, HATCH_DOCKER_ALLOW_DIRTY="1")
        refused = run_build(project, cache, verb="docker:push", variables=own)
        check_failed(refused, f"the password of {registry.host} is in /srv/settings.txt of the image")
        # An upload is started to test the permission to push, and cancelled.
        assert {request.method for request in registry.requests} <= {"GET", "POST", "DELETE"}
        assert registry.repository("hello").blobs == {}
        assert leaks(refused, cache, start) == []
        (project / "settings.txt").write_text(f"{tmp_path}\n")
        done = run_build(project, cache, verb="docker:push", variables=own)
        assert done.status == 0, done.output
        # The archive was made without the registry's login; a later push by either command fails.
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
        assert not any(has_secret(data) for data in blobs)
        assert MARK not in done.output


def test_mirror_password_is_not_leaked(index: FakeIndex, home: Path, tmp_path: Path, cache: Path) -> None:
    """It comes from a variable, and is neither in the written plan nor in an error."""
    start = time.time()
    project = write_project("hello", tmp_path / "p")
    mirror = index.url.replace("//", f"//user:{secret_of('mirror')}@")  # not a mirror of Debian
    own = variables(home, HATCH_DOCKER_DEBIAN_MIRROR=mirror, HATCH_DOCKER_DEBIAN_SECURITY_MIRROR=mirror)
    plan = run_build(project, cache, verb="docker:plan", variables=own)
    (path,) = plan.directory.glob("*.plan.json")
    assert json.loads(path.read_bytes())["base"]["mirror"] == index.url
    assert not has_secret(plan.output.encode() + path.read_bytes())
    empty = tmp_path / "cache"
    refused = run_build(project, empty, variables=own)
    assert refused.status in (1, 75)
    assert leaks(refused, empty, start) == []


@pytest.mark.parametrize("variable", ["UV_INDEX_URL", "PIP_INDEX_URL", "UV_INDEX", "HATCH_DOCKER_DEBIAN_MIRROR"])
def test_password_with_a_slash_in_a_url_is_hidden(variable: str, home: Path, tmp_path: Path, cache: Path) -> None:
    """The slash ends the host part of the URL early; the error hides everything before the real host."""
    project = require_gadget(write_project("hello", tmp_path / "p"))
    own = {variable: f"https://user:{secret_of('a')}/{secret_of('b')}@h.example/x"}
    place = tmp_path / "cache" if variable == "HATCH_DOCKER_DEBIAN_MIRROR" else cache
    outcome = run_build(project, place, variables=variables(home, **own))
    assert outcome.status in (1, 75)
    assert MARK not in outcome.output, outcome.output
    assert "Traceback" not in outcome.output


LEAKS = {
    "secret file": ("hello_data/.env", ""),
    "directory of secrets": ("hello_data/.aws/credentials", ""),
    "link to a secret": ("hello_data/settings.txt", ".env"),
    "link to .git/config": ("hello_data/settings.txt", ".git/config"),
    "link out of the project": ("hello_data/settings.txt", "../home/.config/pip/pip.conf"),
}


@pytest.mark.parametrize("case", LEAKS)
def test_wheel_with_a_secret_file_is_rejected(case: str, home: Path, tmp_path: Path, cache: Path) -> None:
    """The name of the file, or of the target of a link, shows the secret; the error names the file."""
    name, link = LEAKS[case]
    project = write_project("hello", tmp_path / "p")
    write_secret_files(project)
    (project / ".gitignore").unlink()
    with (project / "pyproject.toml").open("a") as stream:
        stream.write('\n[tool.hatch.build.targets.wheel]\nonly-include = ["hello.py", "hello_data"]\n')
    path = project / name
    path.parent.mkdir(parents=True)
    path.symlink_to(project / link) if link else path.write_text(secret_of("wheel"))
    outcome = run_build(project, cache, variables=variables(home))
    assert outcome.status == 1, outcome.output
    assert Path(name).name in outcome.output
    assert "Traceback" not in outcome.output
    assert not list(outcome.directory.glob("*"))


@pytest.mark.parametrize("source", [".env", ".git", ".git/config", "settings.txt", "."])
def test_secret_in_files_option_is_rejected(source: str, home: Path, tmp_path: Path, cache: Path) -> None:
    """By its name, through a symlink, or in a directory."""
    options = f'[[tool.hatch-docker.files]]\nsource = "{source}"\ntarget = "/srv/x"\n'
    project = write_project("hello", tmp_path / "p", options=options)
    write_secret_files(project)
    (project / "settings.txt").symlink_to(".env")
    outcome = run_build(project, cache, variables=variables(home))
    check_failed(outcome, "looks like a secret")
    assert not list(outcome.directory.glob("*"))
