"""Both engines make the same image of the same plan; and so does whoever builds the Dockerfile by hand.

The engines' images agree to the digest: the same layers, configuration, labels and annotations. What `docker
build` and `podman build` make of the written Dockerfile agrees in every file, mode, owner and setting; what
differs there, and why, is DIFFERENT.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import resource
import secrets
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatch_docker.engines.dockerfile import pair, quoted, words
from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.model import Image, Platform
from hatch_docker.oci.push import push
from hatch_docker.oci.registry import Remote
from hatch_docker.wheels.secrets import secret_part
from tests.conftest import need, need_docker
from tests.integration.builds import Outcome, build, run_build
from tests.integration.test_builds import check_option
from tests.integration.test_docker_registry import Server, remote, server  # noqa: F401 - fixtures
from tests.projects import KINDS, write_project
from tests.test_dockerfile import TEXT

pytestmark = [pytest.mark.network, pytest.mark.engine]

SIX = ("hello", "c-extension", "scripts-and-data", "extras-and-groups", "namespace", "vcs-version")
OPTIONS = {
    "extras-and-groups": 'extras = ["all"]\ndependency-groups = ["production"]',
    "c-extension": 'volumes = ["/data", "/data/cache", "/var/lib/app/store", "/var/run/app", "/var/tmp"]',
}
# A daemon's bridge is not there on every machine, and no build here asks for the network.
PLAIN = {"HATCH_DOCKER_BUILD_NETWORK": "false"}
NAME = "hatch-docker/tested"  # no image of whoever runs the tests
BUILDKIT = {**PLAIN, "HATCH_DOCKER_ENGINE": "buildkit"}

DIFFERENT: Mapping[str, str] = {
    "opt": "COPY makes the directories above a tree, which the embedded engine leaves to whoever unpacks it",
    "w $y": "WORKDIR makes its directory, which a runtime makes when a container starts",
}
"""Paths that only the image of `docker build` has, and why. Of the configuration nothing but Podman's label."""

WILD = r"""
env = { A = "q\"u'o$te $HOME ${X:-y} \\ # ő", "W#1" = "" }
labels."org.example.$x" = "a \\\" b\t c"
volumes = ["/da ta$x", "/etc/hello", "/etc/hello/own", "/srv/seed"]
workdir = "/w $y"
cmd = ["a b", "$HOME", "\u2028\n\"x"]
ports = [80]
stop-signal = "SIGINT"
user = "1000:1001"
[tool.hatch-docker.healthcheck]
command = ["hello", "$x"]
interval = "1500ms"
retries = 2
"""

# Directories of the base among the targets: /tmp and /root have modes that no builder makes of itself.
FILES = """
[[tool.hatch-docker.files]]
source = "conf"
target = "/etc/hello"
[[tool.hatch-docker.files]]
source = "conf/run"
target = "/bin/run"
mode = "0755"
[[tool.hatch-docker.files]]
source = "conf/a.toml"
target = "/srv/seed/a.toml"
[[tool.hatch-docker.files]]
source = "conf"
target = "/tmp"
[[tool.hatch-docker.files]]
source = "conf/a.toml"
target = "/root/a b.toml"
mode = "0600"
"""


def add_files(made: Path) -> None:
    """What FILES names: a link, a name that is a pattern, an empty directory and a program among them."""
    (made / "conf" / "[a-c]*$x").mkdir(parents=True)
    (made / "conf" / "a.toml").write_text("x = 1\n")
    (made / "conf" / "run").write_text("#!/opt/venv/bin/python\n")
    (made / "conf" / "link").symlink_to("a.toml")


# What hadolint can read: it takes the quote of \\" for an end, as no builder does, and warns of odd names of labels.
WORDS = """
env = { A = "q\\"u'o$te $HOME ${X:-y} \\\\ # ő" }
labels."org.example.x" = "a $b"
volumes = ["/da ta$x"]
workdir = "/w $y"
cmd = ["a b", "$HOME", "\\u2028\\n\\"x"]
ports = [80]
user = "0:1001"
[tool.hatch-docker.healthcheck]
command = ["hello", "$x"]
interval = "1m30s"
start-period = "5s"
"""


@pytest.fixture(scope="module")
def docker() -> Iterator[str]:
    program = need_docker()
    yield program
    # The daemon is its user's: only what is beyond a bound goes.
    subprocess.run([program, "builder", "prune", "-af", "--keep-storage=2GB"], capture_output=True, check=False)


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables that give Podman a storage of the test's own, and what it needs without systemd."""
    need("podman"), need("runc")
    processes = "{}:{}".format(*resource.getrlimit(resource.RLIMIT_NPROC))
    places = f'graphroot = "{tmp_path}/graph"\nrootless_storage_path = "{tmp_path}/graph"\n'
    driver = "overlay" if os.geteuid() == 0 else "vfs"
    (tmp_path / "storage.conf").write_text(f'[storage]\ndriver = "{driver}"\n{places}runroot = "{tmp_path}/run"\n')
    (tmp_path / "containers.conf").write_text(
        f'[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc={processes}"]\nnetns = "host"\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
    )
    variables = {
        "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"), "CONTAINERS_CONF": str(tmp_path / "containers.conf"),
    }
    yield variables
    subprocess.run(["podman", "rmi", "-af"], capture_output=True, check=False, env={**os.environ, **variables})


def project(kind: str, directory: Path, **options: str) -> Path:
    """A project that no cache has seen."""
    made = write_project(kind, directory, options=options.get("options", OPTIONS.get(kind, "")))
    edit(made)
    return made


def edit(made: Path) -> None:
    """Change a module to what it never was before."""
    module = next(path for path in sorted(made.rglob("*.py")) if path.name != "hatch_build.py")
    module.write_text(f"{module.read_text()}\n# {secrets.token_hex()}\n")


def run(*command: str | Path, cwd: Path | None = None, variables: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **(variables or {})}
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.mark.parametrize("kind", SIX)
def test_both_engines_make_the_same_image(kind: str, docker: str, tmp_path: Path, cache: Path) -> None:
    """The same digest and receipt, and containers that do the same; the check of the finished image runs with both."""
    check_agreement(kind, "debian:trixie", docker, tmp_path, cache)


def materials(outcome: Outcome) -> list[str]:
    """What the provenance says that an image, and the wheels in it, were made of."""
    statement = json.loads((outcome.directory / outcome.receipt["provenance"]["file"]).read_bytes())
    found = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    return [one.get("uri", one.get("name")) for one in found if one["digest"]]


def check_agreement(kind: str, base: str, docker: str, work: Path, cache: Path) -> None:
    """Build a project that no cache has seen with both engines, and compare everything."""
    options = f'image = "{NAME}"\n{OPTIONS.get(kind, "")}\n{check_option(kind)}'
    made = project(kind, work / "p", options=options)
    plain = {"SOURCE_DATE_EPOCH": "1700000000", "HATCH_DOCKER_BASE": base}
    one = build(made, cache, variables={**PLAIN, **plain, "HATCH_DOCKER_TAGS": "embedded"})
    one.directory.rename(work / "embedded")
    one = replace(one, directory=work / "embedded")
    other = build(made, cache, variables={**BUILDKIT, **plain, "HATCH_DOCKER_TAGS": "buildkit"})
    assert "install-project" in other.output, "it came from a cache: nothing was compared"
    assert other.digest == one.digest
    (there,), (here,) = other.receipt["platforms"], one.receipt["platforms"]
    assert [layer["contents"] for layer in there["layers"]] == [layer["contents"] for layer in here["layers"]]
    assert abs(there["unpacked_size"] - here["unpacked_size"]) <= 0.03 * here["unpacked_size"]
    assert other.receipt["wheel"] == one.receipt["wheel"]
    if base.startswith("debian:"):  # else that base's own apt brings the compiler, and not all of it is new
        assert materials(other) == materials(one)
        assert kind != "c-extension" or any("/gcc@" in uri for uri in materials(one))
    found, expected = behaviours(docker, {"buildkit": other, "embedded": one})
    assert found == expected
    assert (found.status, found.user, found.group) == (0, 65532, 65532 if base.startswith("debian:") else 0)
    if kind not in ("extras-and-groups", "vcs-version"):  # there it depends on the options, and on the edit
        assert found.output == KINDS[kind].says


@dataclass(frozen=True)
class Behaviour:
    """What a container does: its program's output and status, its user and group, variables, directory and Python."""

    output: str
    status: int
    user: int
    group: int
    variables: Mapping[str, str]
    directory: str
    python: str
    path: Sequence[str]


REPORT = """
import json, os, sys
env = {name: os.environ[name] for name in sorted(os.environ) if name != "HOSTNAME"}
print(json.dumps([os.getuid(), os.getgid(), env, os.getcwd(), sys.version, sys.path]))
"""


def behaviours(docker: str, outcomes: Mapping[str, Outcome]) -> list[Behaviour]:
    """What containers of some builds' images, by their tags, do in Docker: read-only and without capabilities."""
    start = [docker, "run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL"]
    names = [f"{NAME}:{tag}" for tag in outcomes]
    found = []
    try:
        for name, outcome in zip(names, outcomes.values(), strict=True):
            run(docker, "load", "--quiet", "--input", outcome.archive)
            done = subprocess.run([*start, name], capture_output=True, text=True, check=False)
            report = json.loads(run(*start, "--entrypoint=python", name, "-c", REPORT))
            found.append(Behaviour(done.stdout, done.returncode, *report))
    finally:
        run(docker, "rmi", "--force", *names)
    return found


@pytest.mark.parametrize("kind", ["hello", "extras-and-groups"])
def test_they_agree_on_a_base_from_a_registry(
    kind: str, docker: str, server: Server, remote: Remote, tmp_path: Path, cache: Path  # noqa: F811
) -> None:
    """Which the daemon pulls itself, by its digest."""
    _, dockerfile = ejected(write_project("hello", tmp_path / "base"), cache)
    base = read_archive(dockerfile.with_suffix(".context") / "images" / "base.tar")
    push(remote, base, [server.name("python:3.13-slim")])
    made = project(kind, tmp_path / "p")
    named = {"HATCH_DOCKER_BASE": f"{server.host}/python:3.13-slim"}
    one = build(made, cache, variables={**PLAIN, **named}).digest
    other = build(made, cache, variables={**BUILDKIT, **named})
    assert "install-project" in stages(other)
    assert other.digest == one
    assert other.image().config_json["config"]["Labels"]["org.opencontainers.image.base.name"].endswith("3.13-slim")


def test_podman_makes_it_too(podman: dict[str, str], tmp_path: Path, cache: Path) -> None:
    made = project("hello", tmp_path / "p")
    digest = build(made, cache).digest
    other = build(made, cache, variables={**BUILDKIT, **podman, "HATCH_DOCKER_BUILDER": "podman"})
    assert "building in Podman" in other.output
    assert other.digest == digest


def stages(outcome: Outcome) -> list[str]:
    """The stages that a build had to run."""
    return re.findall(r"^  ((?:install|build|environment)-\S+) ", outcome.output, re.MULTILINE)


def test_after_an_edit_only_the_wheel_is_built_and_installed(docker: str, tmp_path: Path, cache: Path) -> None:
    """And a version bump leaves the dependencies alone."""
    made = project("extras-and-groups", tmp_path / "p")
    build(made, cache, variables=BUILDKIT)
    source = made / "pyproject.toml"
    source.write_text(source.read_text().replace('version = "1.0.0"', 'version = "1.0.1"'))
    (made / "dist").rename(tmp_path / "before")
    bumped = build(made, cache, variables=BUILDKIT)
    assert bumped.made() == ["project"]
    assert stages(bumped) == ["install-project"]


def test_a_failed_build_shows_its_last_lines_and_leaves_earlier_output(
    docker: str, tmp_path: Path, cache: Path
) -> None:
    made = project("c-extension", tmp_path / "p")
    first = build(made, cache, variables=BUILDKIT)
    before = first.archive.read_bytes()
    source = made / "c_extension" / "_answer.c"
    source.write_text(source.read_text() + "\n#error no luck today\n")
    failed = run_build(made, cache, variables=BUILDKIT)
    assert failed.status == 1
    assert "stage build-project failed (exit status 1):" in failed.output
    assert "error: #error no luck today" in failed.output
    assert "returned non-zero exit status" in failed.output
    assert first.archive.read_bytes() == before


def test_secrets_reach_the_build_and_nothing_else(docker: str, tmp_path: Path, cache: Path) -> None:
    """As a variable of the build; neither Dockerfile, image nor history has its value."""
    secret = f"s3cret{secrets.token_hex()}"
    made = project("c-extension", tmp_path / "p", options='[tool.hatch-docker.build]\nsecrets = ["TOKEN"]')
    hook = made / "hatch_build.py"
    seen = 'import os\nassert os.environ["TOKEN"].startswith("s3cret")\n'
    hook.write_text(seen + hook.read_text())
    outcome = build(made, cache, variables={**BUILDKIT, "TOKEN": secret}, verb="docker:image,dockerfile")
    assert secret not in outcome.output
    found = [path for path in outcome.directory.rglob("*") if path.is_file() and path.suffix != ".tar"]
    assert not [path for path in [*found, outcome.archive] if secret.encode() in path.read_bytes()]
    image = outcome.image()
    assert secret.encode() not in image.config
    for layer in image.layers[1:]:
        for _, stream in layer_entries(layer):
            assert stream is None or secret.encode() not in stream.read()
    hook.write_text(f"{hook.read_text()}# again\n")
    missing = run_build(made, cache, variables=BUILDKIT)
    assert missing.status == 1
    assert "TOKEN is not set" in missing.output


def ejected(made: Path, cache: Path) -> tuple[Outcome, Path]:
    """The image by the embedded engine, and the Dockerfile that was written."""
    outcome = build(made, cache, verb="docker:image,dockerfile", variables={**PLAIN, "HATCH_DOCKER_IMAGE": NAME})
    (dockerfile,) = outcome.directory.glob("*.Dockerfile")
    return outcome, dockerfile


def tree(image: Image) -> dict[str, tuple[object, ...]]:
    """Every path: type, mode, owner, target and content; of the upper layer where two have it."""
    found: dict[str, tuple[object, ...]] = {}
    for layer in image.layers:
        gone = [entry for entry, _ in layer_entries(layer) if entry.kind in ("whiteout", "opaque")]
        for path in list(found):
            if any(path == one.path or path.startswith(f"{one.path}/") for one in gone):
                del found[path]
        for entry, stream in layer_entries(layer):
            if entry in gone:
                continue
            content = hashlib.sha256(stream.read()).hexdigest() if stream is not None else ""
            mode = entry.mode if entry.kind != "symlink" else 0
            found[entry.path] = (entry.kind, mode, entry.uid, entry.gid, entry.target, content)
    return found


def settled(image: Image) -> dict[str, Any]:
    """The configuration, empty values left out as they mean the same."""
    config = {key: value for key, value in image.config_json["config"].items() if value}
    config.pop("ArgsEscaped", None)  # for Windows
    config["Labels"].pop("io.buildah.version", None)  # Podman signs what it builds
    return {**config, "Env": sorted(config["Env"])}


def assert_same(by_hand: Image, ours: Image) -> None:
    here, there = tree(ours), tree(by_hand)
    extra = set(there) - set(here)
    assert extra <= set(DIFFERENT)
    assert {path: there.get(path) for path in here} == here
    assert settled(by_hand) == settled(ours)
    assert abs(size(by_hand) - size(ours)) <= 0.03 * size(ours)


def size(image: Image) -> int:
    """The bytes of all files of all layers."""
    return sum(entry.size for layer in image.layers for entry, _ in layer_entries(layer))


@pytest.mark.parametrize(
    ("kind", "options"), [("hello", WILD + FILES), ("c-extension", ""), ("extras-and-groups", "")]
)
def test_docker_builds_the_written_dockerfile(
    kind: str, options: str, docker: str, tmp_path: Path, cache: Path
) -> None:
    """As its first lines say, with every option that a Dockerfile can hold; hadolint finds nothing."""
    made = project(kind, tmp_path / "p", options=options or OPTIONS.get(kind, ""))
    add_files(made)
    outcome, dockerfile = ejected(made, cache)
    for line in re.findall(r"^# (docker (?:load|build) .*)$", dockerfile.read_text(), re.MULTILINE):
        run(*line.split(), cwd=outcome.directory)
    name = re.findall(r"--tag (\S+)", dockerfile.read_text())[0]
    try:
        run(docker, "save", "--output", tmp_path / "saved.tar", name)
    finally:
        run(docker, "rmi", name)
    saved = read_archive(tmp_path / "saved.tar", Platform("linux", "amd64"))
    assert isinstance(saved, Image)
    assert_same(saved, outcome.image())


def test_podman_builds_the_written_dockerfile(podman: dict[str, str], tmp_path: Path, cache: Path) -> None:
    """The very same file."""
    made = project("c-extension", tmp_path / "p", options=OPTIONS["c-extension"] + FILES)
    add_files(made)
    outcome, dockerfile = ejected(made, cache)
    for line in re.findall(r"^# docker ((?:load|build) .*)$", dockerfile.read_text(), re.MULTILINE):
        run("podman", *line.split(), cwd=outcome.directory, variables=podman)
    name = re.findall(r"--tag (\S+)", dockerfile.read_text())[0]
    run("podman", "save", "--format", "oci-archive", "--output", tmp_path / "saved.tar", name, variables=podman)
    saved = read_archive(tmp_path / "saved.tar", Platform("linux", "amd64"))
    assert isinstance(saved, Image)
    assert_same(saved, outcome.image())


LENT = """
[tool.hatch-docker.build]
ssh = true
network = true
secrets = ["TOKEN"]
args = { EDITION = "a $b \\"c\\"" }
env = { LINES = "1\\n2", FLAGS = "-D'x' #" }
"""


@pytest.mark.parametrize(
    ("kind", "options"), [*((kind, "") for kind in KINDS), ("c-extension", LENT), ("hello", WORDS)]
)
def test_hadolint_finds_nothing(kind: str, options: str, tmp_path: Path, cache: Path) -> None:
    """Not even at `info`."""
    program = need("hadolint")
    made = project(kind, tmp_path / "p", options=options or OPTIONS.get(kind, ""))
    variables = {} if options == LENT else PLAIN
    outcome = build(made, cache, verb="docker:dockerfile", variables={**variables, "TOKEN": "s3cret"})
    (dockerfile,) = outcome.directory.glob("*.Dockerfile")
    assert run(program, "--no-color", "--failure-threshold", "info", dockerfile) == ""


NAMED = '[tool.hatch.build.targets.sdist.force-include]\n".npmrc" = ".npmrc"\n'
PRIVATE = (".env", "deploy/.env.prod", ".netrc", ".pypirc", "vcs_version/id_rsa", ".git/notes", "kept.local")


def test_what_hatch_leaves_out_and_secrets_are_in_no_context(docker: str, tmp_path: Path, cache: Path) -> None:
    """Also where the wheel is built in a stage, which still knows the version that git told."""
    made = project("vcs-version", tmp_path / "p", options=f'[tool.hatch-docker.build]\nisolated = "always"\n{NAMED}')
    (made / ".npmrc").write_text("loglevel=silent")
    (made / ".gitignore").write_text("*.local\n")
    for name in PRIVATE:
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text("for nobody else")
    outcome = build(made, cache, verb="docker:image,dockerfile", variables=BUILDKIT)
    assert "build-project" in stages(outcome)
    told = "as people keep secrets in such files (force-include of the sdist takes one along): "
    assert f"{told}.env, .netrc, .pypirc, deploy/.env.prod, vcs_version/id_rsa\n" in outcome.output
    (dockerfile,) = outcome.directory.glob("*.Dockerfile")
    context = dockerfile.with_suffix(".context")
    assert not [path for path in context.rglob("*") if secret_part(path.relative_to(context).as_posix())]
    (sdist,) = context.glob("build/project/sdist/*.tar.gz")
    with tarfile.open(sdist) as tar:
        names = [name.partition("/")[2] for name in tar.getnames()]
    assert {"vcs_version/__init__.py", ".npmrc"} <= set(names)
    assert not set(names) & set(PRIVATE)
    assert outcome.receipt["wheel"]["filename"].startswith(f"{sdist.name.removesuffix('.tar.gz')}-py3-")


def read_back(docker: str, work: Path, *lines: str) -> Any:
    """The configuration of the image that a real build of some instructions gives."""
    (work / "Dockerfile").write_text("\n".join(["FROM scratch", "COPY Dockerfile /", *lines]) + "\n", newline="")
    name = "hatch-docker/quoting:test"
    run(docker, "build", "--quiet", "--tag", name, work)
    try:
        return json.loads(run(docker, "image", "inspect", name))[0]["Config"]
    finally:
        run(docker, "rmi", name)


def check_values(docker: str, work: Path, texts: Sequence[str]) -> None:
    """Each text is a variable, a label, a volume, a word of a command and an argument, and comes back as it was."""

    def pairs(letter: str) -> list[str]:
        return [pair(f"{letter}{number}", text) for number, text in enumerate(texts)]

    # Variables last, and arguments apart: BuildKit takes minutes to look for 1000 of them in each later word.
    found = read_back(
        docker, work, f"VOLUME {words(*(quoted(f'/{text}') for text in texts))}", f"CMD {words(*texts)}",
        "LABEL " + " \\\n    ".join(pairs("l")), "ENV " + " \\\n    ".join(pairs("E")),
    )  # fmt: skip
    assert [item for item in found["Env"] if item.startswith("E")] == [f"E{n}={text}" for n, text in enumerate(texts)]
    assert {key: value for key, value in found["Labels"].items() if key.startswith("l")} == {
        f"l{n}": text for n, text in enumerate(texts)
    }
    assert set(found["Volumes"]) == {f"/{text}" for text in texts}
    assert found["Cmd"] == list(texts)
    taken = "ENV " + " ".join(f'E{number}="$A{number}"' for number in range(len(texts)))
    found = read_back(docker, work, *(f"ARG {one}" for one in pairs("A")), taken)
    assert [item for item in found["Env"] if item.startswith("E")] == [f"E{n}={text}" for n, text in enumerate(texts)]


def test_any_value_arrives_as_it_is(docker: str, tmp_path: Path) -> None:
    """Five hundred wild texts through real builds, read back."""
    alphabet = "\"'\\$`{}()#%<>|&;*?![]~^=: \t\r\x01\x7f\u0085\u2028őa0-+/@," + "EOF"
    generator = random.Random(1)
    texts = ["".join(generator.choices(alphabet, k=generator.randrange(1, 30))) for _ in range(500)]
    check_values(docker, tmp_path, texts)


@pytest.mark.long
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXT, min_size=10, max_size=20))
def test_whatever_unicode_has_arrives_as_it_is(docker: str, tmp_path: Path, texts: list[str]) -> None:
    """More than a thousand texts of hypothesis's, which looks for the shortest that does not."""
    check_values(docker, tmp_path, texts)
