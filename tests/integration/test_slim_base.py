"""A base like python:3.13-slim from a registry, in both engines, with compilers and Debian packages."""

import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_docker.core.http.client import Client
from hatch_docker.core.progress import silent
from hatch_docker.oci.archive import read_archive, write_archive
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.layout import write_layout
from hatch_docker.oci.model import Image, Platform
from hatch_docker.oci.registry import Remote
from tests.conftest import need, run
from tests.fakes.bases import file
from tests.fakes.debian_image import PATH, slim_image
from tests.fakes.images import image_of, layer_of
from tests.fakes.registry import push
from tests.integration.builds import (
    Outcome,
    build,
    check_failed,
    linked_cache,
    lock_of,
    output_of,
    require,
    run_build,
    run_command,
)
from tests.integration.compare_engines import BUILDKIT, NAME, PLAIN, SIX_KINDS, assert_same, check_engines, new_project
from tests.integration.docker_registry import Server
from tests.projects import write_files

pytestmark = [pytest.mark.network, pytest.mark.engine]


@pytest.fixture(scope="module")
def slim(docker: str, server: Server, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the reference of the base in a registry of this machine. It is also loaded into Docker, to save time."""
    image = slim_image(cache, tmp_path_factory.mktemp("slim"))
    push(Remote(Client({}, silent()), {}), image, [server.name("python:3.13-slim")])
    with (tmp_path_factory.mktemp("base") / "base.tar").open("wb") as stream:
        write_archive(image, [f"{NAME}:base"], stream, host=image.platform)
    run(docker, "load", "--quiet", "--input", stream.name)
    yield f"{server.host}/python:3.13-slim"
    run(docker, "rmi", "--force", f"{NAME}:base")


# All compiled projects of this module use the same build packages, so that the compiler is installed once.
COMPILER = '[tool.hatch-docker.build]\npackages = ["libpq-dev"]\n'


# Kinds whose wheel is made in the same way as that of another kind; test_engine_equality compares all of them.
ALIKE = ("hello", "namespace", "vcs-version")


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.long] * (kind in ALIKE)) for kind in SIX_KINDS])
def test_both_engines_agree_on_a_slim_base(kind: str, docker: str, slim: str, tmp_path: Path, cache: Path) -> None:
    """Also for compiled code: the embedded engine compiles in a tree of Debian packages, BuildKit in the base."""
    check_engines(kind, slim, docker, tmp_path, cache, more=COMPILER if kind == "c-extension" else "")


def saved(docker: str, name: str, work: Path) -> Image:
    """Return an image from Docker (`docker save`)."""
    run(docker, "save", "--output", work / "saved.tar", name)
    image = read_archive(work / "saved.tar", Platform("linux", "amd64"), foreign=True)
    assert isinstance(image, Image)
    return image


def test_runtime_packages_with_maintainer_scripts(docker: str, slim: str, tmp_path: Path, cache: Path) -> None:
    """The base's apt installs them into one layer without caches or logs; `docker build` makes the same image."""
    options = '''
image = "hatch-docker/tested"
[tool.hatch-docker.runtime]
packages = ["netcat-openbsd"]
[tool.hatch-docker.check]
command = ["python", "-c", "import os; assert 'OpenBSD' in os.popen('nc -h 2>&1').read()"]
'''
    project = new_project("hello", tmp_path / "p", options=options)
    named = {"HATCH_DOCKER_BASE": slim}
    refused = run_build(project, cache, variables={**PLAIN, **named})
    check_failed(refused, 'set engine = "buildkit", or base = "debian:trixie"')

    outcome = build(project, cache, verb="docker:image,dockerfile", variables={**BUILDKIT, **named})
    layers = outcome.layers
    assert [layer["kind"] for layer in layers] == ["base", "base", "system", "project"]
    assert layers[2]["contents"][-1].startswith("netcat-openbsd 1.")
    found = [entry for entry, _ in layer_entries(outcome.image().layers[2])]
    entries = {entry.path: entry for entry in found if entry.kind not in ("whiteout", "opaque")}
    assert entries["etc/alternatives/nc"].target == "/bin/nc.openbsd"  # made by postinst
    assert {entry.mtime for entry in entries.values()} == {315532800}
    unwanted = ("var/cache/apt/", "var/lib/apt/lists/", "var/log/", "usr/share/man/", "tmp/", "packages")
    assert not [path for path in entries if path.startswith(unwanted) or path.endswith((".deb", "-old"))]
    assert build(project, cache, variables={**BUILDKIT, **named}).new_layers() == []

    (dockerfile,) = outcome.directory.glob("*.Dockerfile")
    (line,) = [line for line in dockerfile.read_text().splitlines() if line.startswith("# docker build")]
    run(*line.removeprefix("# ").split(), "--no-cache", cwd=outcome.directory)
    try:
        assert_same(saved(docker, f"{NAME}:1.0.0", tmp_path), outcome.image())
    finally:
        run(docker, "rmi", "--force", f"{NAME}:1.0.0")


DATABASE = """
import shutil

import pg

from c_extension._answer import answer


def main():
    tools = [name for name in ("cc", "gcc", "g++", "make", "pg_config", "pip") if shutil.which(name)]
    print(answer(), pg.get_pqlib_version() // 10000, tools)
    pg.connect(host="127.0.0.1", port=1, user="app")
"""
LIBPQ = f'''
image = "{NAME}"
tags = ["1.0.0"]
{COMPILER}[tool.hatch-docker.runtime]
packages = ["libpq5"]
'''


def test_compiled_project_and_dependency(docker: str, slim: str, tmp_path: Path, cache: Path) -> None:
    """Both engines make the same layers for both bases; the image has libpq and no compiler. There is no server."""
    project = new_project("c-extension", tmp_path / "p", options=LIBPQ)
    require(project, "PyGreSQL>=6.2")  # one C file
    (project / "c_extension/__init__.py").write_text(DATABASE)
    assert_connects(docker, build(project, cache, variables=PLAIN))
    named = {**PLAIN, "HATCH_DOCKER_BASE": slim, "HATCH_DOCKER_RUNTIME_PACKAGES": "[]"}
    without = build(project, cache, variables={**named, "HATCH_DOCKER_NATIVE_LIBRARIES": "warn"})
    assert "warning: libpq.so.5: take a base with Debian's \"libpq5\", or engine" in without.output
    expected = without.layers
    on_slim = build(project, cache, variables={**BUILDKIT, "HATCH_DOCKER_BASE": slim})
    layers = on_slim.layers
    assert [layer["kind"] for layer in layers] == ["base", "base", "system", "dependencies", "project"]
    assert [layer["digest"] for layer in layers[:2] + layers[3:]] == [layer["digest"] for layer in expected]
    assert_connects(docker, on_slim)


def assert_connects(docker: str, outcome: Outcome) -> None:
    """Check that libpq is loaded and tries to connect."""
    run(docker, "load", "--quiet", "--input", outcome.archive)
    name = f"{NAME}:1.0.0"
    try:
        command = [docker, "run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", name]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        run(docker, "rmi", "--force", name)
    assert ended.stdout == "42 17 []\n"
    assert ended.returncode == 1
    assert "Connection refused" in ended.stderr


def test_lock_pins_debian_packages(slim: str, tmp_path: Path, cache: Path) -> None:
    """The lock has all dependencies of `runtime.packages`, also those in the base, and the compiler's packages."""
    project = new_project("c-extension", tmp_path / "p", options=LIBPQ)
    variables = {"HATCH_DOCKER_BASE": slim, "HATCH_DOCKER_ENGINE": "buildkit"}
    output_of(project, cache, "lock", **variables)
    output_of(project, cache, "lock", "--check", **variables)
    entries = {entry["for"]: entry for entry in lock_of(project)["debian"]}
    assert set(entries) == {"system", "builder"}
    names = {package["name"] for package in entries["system"]["packages"]}
    assert {"libc6", "libldap2", "libpq5"} <= names
    stale = {**variables, "HATCH_DOCKER_RUNTIME_PACKAGES": "libxml2"}
    failed = run_build(project, cache, variables={**PLAIN, **stale})
    assert "hatch-docker.lock is out of date: for runtime.packages" in failed.output
    outcome = build(project, cache, verb="docker:dockerfile", variables=variables)
    (dockerfile,) = outcome.directory.glob("*.Dockerfile")
    context = dockerfile.with_suffix(".context")
    assert [path.name.split("_")[0] for path in context.glob("packages/system/*.deb")].count("libpq5") == 1
    assert run(need("hadolint"), "--no-color", "--failure-threshold", "info", dockerfile) == ""


def test_apt_sources_of_another_distribution(
    docker: str, slim: str, server: Server, cache: Path, tmp_path: Path
) -> None:
    """The archive is a directory with one package, whose postinst adds a user."""
    control = "Package: demo\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@b.example>\nDescription: demo\n"
    demo = {
        "DEBIAN/control": control,
        "DEBIAN/postinst": "#!/bin/sh\necho demo:x:1234:1234::/:/bin/sh >> /etc/passwd\n",
        "usr/bin/demo": "#!/bin/sh\nexec id -un\n",
    }
    write_files(tmp_path / "demo", demo)
    for name in demo:
        (tmp_path / "demo" / name).chmod(0o755)
    run(need("dpkg-deb"), "--root-owner-group", "--build", tmp_path / "demo", tmp_path / "demo.deb")
    deb = (tmp_path / "demo.deb").read_bytes()
    listing = f"{control}Filename: ./demo.deb\nSize: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}\n"
    release = "ID=other\nVERSION_CODENAME=some\n"
    image = slim_image(cache, tmp_path)
    layer = layer_of([
        file("etc/apt/sources.list", "deb [trusted=yes] file:/repository ./\n"), file("usr/lib/os-release", release),
        file("repository/Packages", listing), file("repository/demo.deb", deb),
    ])  # fmt: skip
    mixed = image_of(*image.layers, layer, path=PATH)
    push(Remote(Client({}, silent()), {}), mixed, [server.name("other:1")])
    options = 'user = "demo"\n[tool.hatch-docker.runtime]\npackages = ["demo"]\n'
    options += '[tool.hatch-docker.check]\ncommand = ["demo"]\n'
    project = new_project("hello", tmp_path / "p", options=options)
    variables = {**BUILDKIT, "HATCH_DOCKER_BASE": f"{server.host}/other:1"}
    outcome = build(project, cache, variables=variables)
    assert outcome.layers[3]["contents"] == ["demo"]
    assert outcome.image().config_json["config"]["User"] == "1234:1234"
    refused = run_command(project, cache, "lock", **variables)
    assert "cannot pin demo, ... for base" in refused.output


def test_podman_makes_the_same_layer(docker: str, podman: dict[str, str], tmp_path: Path, cache: Path) -> None:
    """The base is an OCI layout; the digest does not depend on the time, the builder or its storage."""
    options = '[tool.hatch-docker.runtime]\npackages = ["netcat-openbsd"]\n'
    project = new_project("hello", tmp_path / "p", options=options)
    write_layout(slim_image(cache, tmp_path), project / "base")
    named = {"HATCH_DOCKER_BASE": "oci:base"}
    receipt = build(project, cache, variables={**BUILDKIT, **named}).receipt
    private = linked_cache(cache, tmp_path / "cache", "stage tree", "layer")
    other = build(project, private, variables={**BUILDKIT, **named, **podman, "HATCH_DOCKER_BUILDER": "podman"})
    assert re.search(r"^  system  ", other.output, re.MULTILINE)
    assert other.digest == receipt["digest"]
