"""A base like python:3.13-slim, out of a registry: both engines on it, compilers and Debian packages included."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.model import Image, Platform
from hatch_docker.oci.push import push
from hatch_docker.oci.registry import Remote
from tests.fakes.slim import slim_image
from tests.integration.builds import build, run_build
from tests.integration.test_builds import check_option
from tests.integration.test_docker_registry import Server, remote, server  # noqa: F401 - fixtures
from tests.integration.test_engines_agree import (  # noqa: F401 - a fixture
    BUILDKIT,
    OPTIONS,
    PLAIN,
    SIX,
    assert_same,
    docker,
    ejected,
    project,
    run,
    stages,
    tree,
)

pytestmark = [pytest.mark.network, pytest.mark.engine]


@pytest.fixture(scope="module")
def slim(server: Server, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> str:  # noqa: F811
    """The reference of such a base in a registry of this machine."""
    from hatch_docker.progress import silent
    from hatch_docker.transport import make_client

    image = slim_image(cache, tmp_path_factory.mktemp("slim"))
    push(Remote(make_client({}, silent()), {}), image, [server.name("python:3.13-slim")])
    return f"{server.host}/python:3.13-slim"


@pytest.mark.parametrize("kind", SIX)
def test_both_engines_make_the_same_image_on_it(
    kind: str, docker: str, slim: str, tmp_path: Path, cache: Path  # noqa: F811
) -> None:
    """The same digest, compiled code included: one compiles in a Debian root, the other in the base itself."""
    made = project(kind, tmp_path / "p", options=f"{OPTIONS.get(kind, '')}\n{check_option(kind)}")
    named = {"HATCH_DOCKER_BASE": slim}
    digest = build(made, cache, variables={**PLAIN, **named}).digest
    other = build(made, cache, variables={**BUILDKIT, **named})
    assert "install-project" in stages(other)
    assert other.digest == digest


def saved(docker: str, name: str, work: Path) -> Image:  # noqa: F811
    """An image that Docker has."""
    run(docker, "save", "--output", work / "saved.tar", name)
    image = read_archive(work / "saved.tar", Platform("linux", "amd64"))
    assert isinstance(image, Image)
    return image


def test_runtime_packages_are_installed_with_their_scripts(
    docker: str, slim: str, tmp_path: Path, cache: Path  # noqa: F811
) -> None:
    """By the base's own apt, out of Debian's archive as this machine knows it: a layer of them and nothing more.

    `docker build` without a cache makes the same of the written Dockerfile: nothing in it hangs on the day.
    """
    options = '''
image = "hatch-docker/tested"
[tool.hatch-docker.runtime]
packages = ["netcat-openbsd"]
[tool.hatch-docker.check]
command = ["python", "-c", "import os; assert 'OpenBSD' in os.popen('nc -h 2>&1').read()"]
'''
    made = project("hello", tmp_path / "p", options=options)
    named = {"HATCH_DOCKER_BASE": slim}
    refused = run_build(made, cache, variables={**PLAIN, **named})
    assert refused.status == 1
    assert 'set engine = "buildkit", or base = "debian:trixie"' in refused.output

    outcome = build(made, cache, verb="docker:image,dockerfile", variables={**BUILDKIT, **named})
    layers = outcome.receipt["platforms"][0]["layers"]
    assert [layer["kind"] for layer in layers] == ["base", "base", "system", "project"]
    assert layers[2]["contents"][-1].startswith("netcat-openbsd 1.")
    found = [entry for entry, _ in layer_entries(outcome.image().layers[2])]
    entries = {entry.path: entry for entry in found if entry.kind not in ("whiteout", "opaque")}
    assert entries["etc/alternatives/nc"].target == "/bin/nc.openbsd"  # which a script of the package made
    assert {entry.mtime for entry in entries.values()} == {315532800}
    left = ("var/cache/apt/", "var/lib/apt/lists/", "var/log/", "usr/share/man/", "tmp/", "packages")
    assert not [path for path in entries if path.startswith(left) or path.endswith((".deb", "-old"))]
    assert build(made, cache, variables={**BUILDKIT, **named}).made() == []

    (dockerfile,) = outcome.directory.glob("*.Dockerfile")
    (line,) = [line for line in dockerfile.read_text().splitlines() if line.startswith("# docker build")]
    run(*line.removeprefix("# ").split(), "--no-cache", cwd=outcome.directory)
    name = "hatch-docker/tested:1.0.0"
    try:
        assert_same(saved(docker, name, tmp_path), outcome.image())
    finally:
        run(docker, "rmi", "--force", name)
