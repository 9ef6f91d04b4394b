"""The written Dockerfile gives the image of hatch-docker, for all options and values.

The images of `docker build` and `podman build` have the same files, modes, owners and settings. The exceptions and
their reasons are in ONLY_IN_DOCKER_BUILD.
"""

import json
import random
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatch_docker.core.secrets import secret_part
from hatch_docker.engines.buildkit.dockerfile import exec_form, key_value, quoted
from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.model import Image, Platform
from tests.conftest import need, run
from tests.integration.builds import build
from tests.integration.compare_engines import (
    BUILDKIT,
    OPTIONS,
    PLAIN,
    STEPS,
    assert_same,
    new_project,
    stages,
    written_dockerfile,
)
from tests.projects import KINDS, write_files

pytestmark = [pytest.mark.network, pytest.mark.engine]

SPECIAL_CHARACTERS = r"""
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

# Some targets are directories of the base: /tmp and /root have modes that differ from a builder's default.
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


def add_files(project: Path) -> None:
    """Write the sources of FILES: a link, a directory whose name is a pattern, an empty directory and a program."""
    (project / "conf" / "[a-c]*$x").mkdir(parents=True)
    (project / "conf" / "a.toml").write_text("x = 1\n")
    (project / "conf" / "run").write_text("#!/opt/venv/bin/python\n")
    (project / "conf" / "link").symlink_to("a.toml")


# Without \\", whose quote hadolint misreads as the end of the string, and without labels that hadolint warns about.
FOR_HADOLINT = """
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


@pytest.mark.parametrize(("kind", "options"), [
    ("hello", SPECIAL_CHARACTERS + FILES + STEPS), ("c-extension", ""), ("extras-and-groups", ""),
])
def test_docker_builds_the_dockerfile(kind: str, options: str, docker: str, tmp_path: Path, cache: Path) -> None:
    """With the command in its first lines, and with every option that a Dockerfile can express."""
    project = new_project(kind, tmp_path / "p", options=options or OPTIONS.get(kind, ""))
    add_files(project)
    outcome, dockerfile = written_dockerfile(project, cache)
    for line in re.findall(r"^# (docker (?:load|build) .*)$", dockerfile.read_text(), re.MULTILINE):
        run(*line.split(), cwd=outcome.directory)
    name = re.findall(r"--tag (\S+)", dockerfile.read_text())[0]
    try:
        run(docker, "save", "--output", tmp_path / "saved.tar", name)
    finally:
        run(docker, "rmi", name)
    saved = read_archive(tmp_path / "saved.tar", Platform("linux", "amd64"), foreign=True)
    assert isinstance(saved, Image)
    assert_same(saved, outcome.image())


def test_podman_builds_the_written_dockerfile(podman: dict[str, str], tmp_path: Path, cache: Path) -> None:
    project = new_project("c-extension", tmp_path / "p", options=OPTIONS["c-extension"] + FILES)
    add_files(project)
    outcome, dockerfile = written_dockerfile(project, cache)
    for line in re.findall(r"^# docker ((?:load|build) .*)$", dockerfile.read_text(), re.MULTILINE):
        run("podman", *line.split(), cwd=outcome.directory, variables=podman)
    name = re.findall(r"--tag (\S+)", dockerfile.read_text())[0]
    run("podman", "save", "--format", "oci-archive", "--output", tmp_path / "saved.tar", name, variables=podman)
    saved = read_archive(tmp_path / "saved.tar", Platform("linux", "amd64"), foreign=True)
    assert isinstance(saved, Image)
    assert_same(saved, outcome.image())


SECRETS_AND_ARGS = """
[tool.hatch-docker.build]
ssh = true
network = true
secrets = ["TOKEN"]
args = { EDITION = "a $b \\"c\\"" }
env = { LINES = "1\\n2", FLAGS = "-D'x' #" }
"""


@pytest.mark.parametrize(
    ("kind", "options"), [*((kind, "") for kind in KINDS), ("c-extension", SECRETS_AND_ARGS), ("hello", FOR_HADOLINT)]
)
def test_hadolint_reports_nothing(kind: str, options: str, tmp_path: Path, cache: Path) -> None:
    """The threshold is `info`."""
    program = need("hadolint")
    project = new_project(kind, tmp_path / "p", options=options or OPTIONS.get(kind, ""))
    variables = {} if options == SECRETS_AND_ARGS else PLAIN
    outcome = build(project, cache, verb="docker:dockerfile", variables={**variables, "TOKEN": "s3cret"})
    (dockerfile,) = outcome.directory.glob("*.Dockerfile")
    assert ("podman (and --format docker" in dockerfile.read_text()) == ("healthcheck" in options)  # OCI has none
    assert run(program, "--no-color", "--failure-threshold", "info", dockerfile) == ""


NAMED = '[tool.hatch.build.targets.sdist.force-include]\n".npmrc" = ".npmrc"\n'
PRIVATE = (".env", "deploy/.env.prod", ".netrc", ".pypirc", "vcs_version/id_rsa", ".git/notes", "kept.local")


def test_ignored_files_and_secrets_are_not_in_the_context(docker: str, tmp_path: Path, cache: Path) -> None:
    """The wheel is built in a stage, with the version from git."""
    options = f'[tool.hatch-docker.build]\nisolated = "always"\n{NAMED}'
    project = new_project("vcs-version", tmp_path / "p", options=options)
    (project / ".npmrc").write_text("loglevel=silent")
    (project / ".gitignore").write_text("*.local\n")
    write_files(project, dict.fromkeys(PRIVATE, "private"))
    outcome = build(project, cache, verb="docker:image,dockerfile", variables=BUILDKIT)
    assert "build-project" in stages(outcome)
    names = ".env, .netrc, .pypirc, deploy/.env.prod, vcs_version/id_rsa"
    assert f"excluded from the sdist: {names} (files with such names often contain secrets; " in outcome.output
    (dockerfile,) = outcome.directory.glob("*.Dockerfile")
    context = dockerfile.with_suffix(".context")
    assert not [path for path in context.rglob("*") if secret_part(path.relative_to(context).as_posix())]
    (sdist,) = context.glob("build/project/sdist/*.tar.gz")
    with tarfile.open(sdist) as tar:
        names = [name.partition("/")[2] for name in tar.getnames()]
    assert {"vcs_version/__init__.py", ".npmrc"} <= set(names)
    assert not set(names) & set(PRIVATE)
    assert outcome.receipt["wheel"]["filename"].startswith(f"{sdist.name.removesuffix('.tar.gz')}-py3-")


# Text that an option may contain.
TEXT = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]))


def built_config(docker: str, work: Path, *lines: str) -> Any:
    """Build an image with these instructions; return its configuration."""
    (work / "Dockerfile").write_text("\n".join(["FROM scratch", "COPY Dockerfile /", *lines]) + "\n", newline="")
    name = "hatch-docker/quoting:test"
    run(docker, "build", "--quiet", "--tag", name, work)
    try:
        return json.loads(run(docker, "image", "inspect", name))[0]["Config"]
    finally:
        run(docker, "rmi", name)


def check_values(docker: str, work: Path, texts: Sequence[str]) -> None:
    """Check that each text is unchanged as a variable, a label, a volume, a word of a command and an argument."""

    def pairs(letter: str) -> list[str]:
        return [key_value(f"{letter}{number}", text) for number, text in enumerate(texts)]

    # ENV comes last and ARG is in another build, as BuildKit takes minutes to substitute 1000 variables in later words.
    found = built_config(
        docker, work, f"VOLUME {exec_form(*(quoted(f'/{text}') for text in texts))}", f"CMD {exec_form(*texts)}",
        "LABEL " + " \\\n    ".join(pairs("l")), "ENV " + " \\\n    ".join(pairs("E")),
    )  # fmt: skip
    assert [item for item in found["Env"] if item.startswith("E")] == [f"E{n}={text}" for n, text in enumerate(texts)]
    assert {key: value for key, value in found["Labels"].items() if key.startswith("l")} == {
        f"l{n}": text for n, text in enumerate(texts)
    }
    assert set(found["Volumes"]) == {f"/{text}" for text in texts}
    assert found["Cmd"] == list(texts)
    from_args = "ENV " + " ".join(f'E{number}="$A{number}"' for number in range(len(texts)))
    found = built_config(docker, work, *(f"ARG {text}" for text in pairs("A")), from_args)
    assert [item for item in found["Env"] if item.startswith("E")] == [f"E{n}={text}" for n, text in enumerate(texts)]


def test_special_characters_are_quoted(docker: str, tmp_path: Path) -> None:
    """500 random texts in real builds."""
    alphabet = "\"'\\$`{}()#%<>|&;*?![]~^=: \t\r\x01\x7f\u0085\u2028őa0-+/@," + "EOF"
    generator = random.Random(1)
    texts = ["".join(generator.choices(alphabet, k=generator.randrange(1, 30))) for _ in range(500)]
    check_values(docker, tmp_path, texts)


@pytest.mark.long
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXT, min_size=10, max_size=20))
def test_unicode_is_quoted(docker: str, tmp_path: Path, texts: list[str]) -> None:
    """More than a thousand texts from hypothesis."""
    check_values(docker, tmp_path, texts)
