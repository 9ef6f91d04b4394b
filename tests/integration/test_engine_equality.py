"""Both engines make the same image of a plan: the digest and so layers, configuration, labels and annotations agree."""

import re
import secrets
from pathlib import Path
from urllib.parse import quote

import pytest

from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.registry import Remote
from tests.fakes.registry import push
from tests.fakes.repositories import commit_all, make_repository
from tests.fakes.workspaces import write_member
from tests.integration.builds import build, check_failed, edit, run_build, uv
from tests.integration.compare_engines import (
    BUILDKIT,
    PLAIN,
    SIX_KINDS,
    check_engines,
    materials,
    new_project,
    stages,
    written_dockerfile,
)
from tests.integration.docker_registry import Server
from tests.projects import write_project

pytestmark = [pytest.mark.network, pytest.mark.engine]


@pytest.mark.parametrize("kind", SIX_KINDS)
def test_both_engines_make_the_same_image(kind: str, docker: str, tmp_path: Path, cache: Path) -> None:
    """The same digest, receipt and container; both engines run the check of the finished image."""
    check_engines(kind, "debian:trixie", docker, tmp_path, cache)


@pytest.mark.parametrize("kind", ["hello", "extras-and-groups"])
def test_base_from_registry_in_both_engines(
    kind: str, docker: str, server: Server, remote: Remote, tmp_path: Path, cache: Path
) -> None:
    """With BuildKit the daemon pulls the base by its digest."""
    _, dockerfile = written_dockerfile(write_project("hello", tmp_path / "base"), cache)
    base = read_archive(dockerfile.with_suffix(".context") / "images" / "base.tar", foreign=True)  # without names
    push(remote, base, [server.name("python:3.13-slim")])
    project = new_project(kind, tmp_path / "p")
    named = {"HATCH_DOCKER_BASE": f"{server.host}/python:3.13-slim"}
    digest = build(project, cache, variables={**PLAIN, **named}).digest
    other = build(project, cache, variables={**BUILDKIT, **named})
    assert "install-project" in stages(other)
    assert other.digest == digest
    assert other.image().config_json["config"]["Labels"]["org.opencontainers.image.base.name"].endswith("3.13-slim")


def test_git_and_path_dependencies_in_both_engines(docker: str, tmp_path: Path, cache: Path) -> None:
    """uv.lock has two packages of a git repository, whose branch has a newer commit; Poetry's table has a path."""
    commit = make_repository(tmp_path / "there")
    write_member(tmp_path / "beside", "beside", code="VALUE = 3")
    where = f'{{ git = "{(tmp_path / "there").as_uri()}", branch = "main"'
    code = "import below, beside, top_dep; assert (top_dep.VALUE, beside.VALUE) == (2, 3)"
    more = f'[tool.uv.sources]\ntop-dep = {where} }}\nbelow = {where}, subdirectory = "sub" }}\n'
    more += '[tool.poetry.dependencies]\nbeside = { path = "../beside", develop = true }\n'
    more += '[tool.hatch-docker]\nbase = "debian:trixie"\nentrypoint = ["python", "-m", "app"]\n'
    more += '[tool.hatch-docker.check]\ncommand = ["python", "-m", "app"]\n'
    project = tmp_path / "app"
    write_member(project, "app", dependencies=["top-dep", "below"], more=more, code=code)
    uv("lock", "-q", cwd=project)
    edit(project, '"below"', '"below", "beside"')
    (tmp_path / "there/top_dep/__init__.py").write_text("VALUE = 9\n")
    commit_all(tmp_path / "there")
    embedded, other = (build(project, cache, variables=engine) for engine in (PLAIN, BUILDKIT))
    assert other.digest == embedded.digest
    # uv fetches two packages of a repository at once, and sometimes runs the backend before it has the tags.
    lock = (project / "uv.lock").read_text()
    known = re.search(rf'"top-dep"\nversion = "((1\.6\.dev1|0\.1\.dev2)\+g{commit[:9]})"', lock)
    assert known
    assert f"pkg:pypi/top-dep@{quote(known[1])}" in "".join(materials(embedded))
    assert f"%40{commit}" in "".join(materials(embedded))


def test_new_version_runs_only_install_project(docker: str, tmp_path: Path, cache: Path) -> None:
    project = new_project("extras-and-groups", tmp_path / "p")
    build(project, cache, variables=BUILDKIT)
    source = project / "pyproject.toml"
    source.write_text(source.read_text().replace('version = "1.0.0"', 'version = "1.0.1"'))
    (project / "dist").rename(tmp_path / "before")
    bumped = build(project, cache, variables=BUILDKIT)
    assert bumped.new_layers() == ["project"]
    assert stages(bumped) == ["install-project"]


def test_failed_stage_keeps_the_earlier_output(docker: str, tmp_path: Path, cache: Path) -> None:
    project = new_project("c-extension", tmp_path / "p")
    first = build(project, cache, variables=BUILDKIT)
    before = first.archive.read_bytes()
    source = project / "c_extension" / "_answer.c"
    source.write_text(source.read_text() + "\n#error no luck today\n")
    failed = run_build(project, cache, variables=BUILDKIT)
    assert failed.status == 1
    assert "stage build-project failed (exit status 1):" in failed.output
    assert "error: #error no luck today" in failed.output
    assert "returned non-zero exit status" in failed.output
    assert first.archive.read_bytes() == before


def test_build_secret_is_only_in_the_build(docker: str, tmp_path: Path, cache: Path) -> None:
    """The hook has it as a variable; Dockerfile, context, image and output do not contain its value."""
    secret = f"s3cret{secrets.token_hex()}"
    project = new_project("c-extension", tmp_path / "p", options='[tool.hatch-docker.build]\nsecrets = ["TOKEN"]')
    hook = project / "hatch_build.py"
    seen = 'import os\nassert os.environ["TOKEN"].startswith("s3cret")\n'
    hook.write_text(seen + hook.read_text())
    outcome = build(project, cache, variables={**BUILDKIT, "TOKEN": secret}, verb="docker:image,dockerfile")
    assert secret not in outcome.output
    found = [path for path in outcome.directory.rglob("*") if path.is_file() and path.suffix != ".tar"]
    assert not [path for path in [*found, outcome.archive] if secret.encode() in path.read_bytes()]
    image = outcome.image()
    assert secret.encode() not in image.config
    for layer in image.layers[1:]:
        for _, stream in layer_entries(layer):
            assert stream is None or secret.encode() not in stream.read()
    hook.write_text(f"{hook.read_text()}# again\n")
    missing = run_build(project, cache, variables=BUILDKIT)
    check_failed(missing, "TOKEN is not set")
