"""`hatch build -t docker` for several kinds of projects, with Debian's archive and a package index, without Docker."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hatch_docker.oci.layer import layer_entries
from tests.integration.builds import (
    build,
    check_failed,
    check_option,
    environment,
    install_in_new_venv,
    other_python,
    paths,
    require,
    run_build,
    run_in,
)
from tests.projects import KINDS, write_project

pytestmark = pytest.mark.network

EXAMPLE = Path(__file__).parent.parent.parent / "example_project"


# Maximum sizes that the README promises, in bytes: unpacked, compressed.
MAX_SIZES = {"hello": (52_000_000, 22_000_000), "fastapi-numpy": (132_000_000, 50_000_000)}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_image_of_each_kind_of_project_runs(kind: str, tmp_path: Path, cache: Path) -> None:
    """The archive is valid, and the project's command runs in the finished file system."""
    project = write_project(kind, tmp_path / kind, options=check_option(kind))
    outcome = build(project, cache)
    image = outcome.image()
    config = image.config_json["config"]
    assert config["User"] == "65532"
    (platform,) = outcome.receipt["platforms"]
    assert platform["layers"][0]["kind"] == "base"
    unpacked, compressed = MAX_SIZES.get(kind, (200_000_000, 100_000_000))
    assert (platform["unpacked_size"] <= unpacked, platform["size"] <= compressed) == (True, True)
    added_paths = paths(image, above_base=True)
    assert all(path == "opt/venv" or path.startswith("opt/venv/") for path in added_paths)
    assert not [path for path in added_paths if path.endswith(".whl") or "/.git/" in path]
    for layer in image.layers[1:]:  # all files belong to root, and others may not write to them
        for entry, _ in layer_entries(layer):
            assert (entry.uid, entry.gid) == (0, 0)
            assert entry.kind == "symlink" or not entry.mode & 0o6022, entry.path


def test_extras_and_groups_add_only_their_packages(tmp_path: Path, cache: Path) -> None:
    options = 'extras = ["all"]\ndependency-groups = ["production"]'
    outcome = build(write_project("extras-and-groups", tmp_path / "p", options=options), cache)
    contents = [item for layer in outcome.layers for item in layer["contents"]]
    names = {item.split()[0] for item in contents} & {"idna", "colorama", "h11", "click", "pywin32"}
    assert names == {"idna", "colorama", "h11", "click"}
    outcome.item()


def test_same_wheel_is_the_same_layer_in_two_projects(tmp_path: Path, cache: Path) -> None:
    """numpy has its own layer, the small wheels share one, and the project's layer is small."""
    found = []
    for project in (
        write_project("fastapi-numpy", tmp_path / "one"),
        require(write_project("hello", tmp_path / "other"), "numpy>=2"),
    ):
        layers = build(project, cache).layers
        assert (layers[0]["kind"], layers[-1]["kind"]) == ("base", "project")
        assert layers[-1]["size"] < 10_000
        (numpy,) = [layer for layer in layers if layer["contents"][0].startswith("numpy ")]
        assert len(numpy["contents"]) == 1
        found.append(numpy["digest"])
    assert found[0] == found[1]


def test_edit_remakes_only_the_projects_layer(tmp_path: Path, cache: Path) -> None:
    project = write_project("fastapi-numpy", tmp_path / "p")
    first = build(project, cache).digest
    again = build(project, cache)
    assert (again.digest, again.new_layers()) == (first, [])
    source = project / "fastapi_numpy" / "app.py"
    source.write_text(source.read_text() + "\n# edited\n")
    edited = build(project, cache)
    assert edited.new_layers() == ["project"]
    assert edited.digest != first
    edited.item()


def test_edit_of_a_c_file_remakes_only_the_projects_layer(tmp_path: Path, cache: Path) -> None:
    project = write_project("c-extension", tmp_path / "p", options=check_option("c-extension"))
    build(project, cache)
    source = project / "c_extension" / "_answer.c"
    source.write_text(source.read_text().replace("42", "43"))
    edited = build(project, cache)
    assert edited.new_layers() == ["project"]
    assert "building c_extension-1.0.0.tar.gz" in edited.output
    assert "downloading" not in edited.output


def test_digest_does_not_depend_on_the_host(tmp_path: Path, cache: Path, public_dir: Path) -> None:
    """Different: Python, user, path, umask, locale, time zone, hash seed, cache. The project has compiled code."""
    venv = public_dir / "venv"
    install_in_new_venv(other_python(), venv)
    project = write_project("c-extension", tmp_path / "p", options='tags = ["x"]')
    twin = public_dir / "another name"
    shutil.copytree(project, twin)
    (public_dir / "cache").mkdir()
    closed = tmp_path / "closed"  # the ordinary user may not read it, and configuration in it must not matter
    (closed / "inner").mkdir(parents=True, mode=0o700)
    options: dict[str, object] = {"umask": 0o077}
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", "65534:65534", str(twin), str(public_dir / "cache")], check=True)
        options |= {"user": 65534, "group": 65534, "extra_groups": []}
    variables = {
        "LC_ALL": "C", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7", "HOME": str(public_dir / "cache"),
        "TMPDIR": str(public_dir / "cache"), "VIRTUAL_ENV": str(closed),
    }
    here = build(project, cache, variables={"TZ": "UTC", "LC_ALL": "C.UTF-8"}, umask=0o022)
    other = build(twin, public_dir / "cache", python=str(venv / "bin/python"), variables=variables, **options)
    assert other.new_layers()
    assert here.digest == other.digest
    other.item()


def test_arm64_image_is_built_without_emulation(tmp_path: Path, cache: Path) -> None:
    """Every ELF file is for arm64, and the image has .pyc files."""
    project = require(write_project("hello", tmp_path / "p"), "fastapi")
    image = build(project, cache, variables={"HATCH_DOCKER_PLATFORMS": "linux/arm64"}).image()
    assert image.config_json["architecture"] == "arm64"
    machines = set()
    compiled = 0
    for layer in image.layers:
        for entry, stream in layer_entries(layer):
            compiled += entry.path.endswith(".pyc")
            head = stream.read(20) if stream is not None else b""
            if head[:4] == b"\x7fELF":
                machines.add(head[18:20])
    assert machines == {b"\xb7\x00"}
    assert compiled > 500


def test_compiling_for_arm64_on_amd64_is_rejected(tmp_path: Path, cache: Path) -> None:
    project = write_project("c-extension", tmp_path / "p")
    outcome = run_build(project, cache, variables={"HATCH_DOCKER_PLATFORMS": "linux/arm64"})
    check_failed(outcome, "arm64")


def test_cached_build_needs_no_network(tmp_path: Path, cache: Path) -> None:
    """With an unreachable proxy and with HATCH_DOCKER_OFFLINE. An empty cache offline is an error."""
    first = build(write_project("fastapi-numpy", tmp_path / "p"), cache)
    project = write_project("fastapi-numpy", tmp_path / "q")
    dead = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    offline = {**dead, "HATCH_DOCKER_OFFLINE": "1"}
    for variables in (dead, offline):
        assert build(project, cache, variables=variables).digest == first.digest
    check_failed(run_build(project, tmp_path / "cold", variables=offline), "HATCH_DOCKER_OFFLINE")


def test_system_packages_have_their_own_layer(tmp_path: Path, cache: Path) -> None:
    options = (
        '[tool.hatch-docker.runtime]\npackages = ["libpq5"]\n[tool.hatch-docker.check]\n'
        'command = ["python", "-c", "import ctypes; ctypes.CDLL(\'libpq.so.5\').PQlibVersion()"]'
    )
    outcome = build(write_project("hello", tmp_path / "p", options=options), cache)
    image = outcome.image()
    assert [layer["kind"] for layer in outcome.layers] == ["base", "system", "project"]
    assert any(item.startswith("libpq5 ") for item in outcome.layers[1]["contents"])
    assert "var/lib/dpkg/status.d/libpq5" in paths(image)


def test_bookworm_image_has_python_3_11(tmp_path: Path, cache: Path) -> None:
    project = write_project("hello", tmp_path / "p", base="debian:bookworm", options=check_option("hello"))
    outcome = build(project, cache)
    assert outcome.receipt["python"].startswith("3.11.")
    outcome.item()


def test_files_option_copies_files_with_modes(tmp_path: Path, cache: Path) -> None:
    options = (
        '[[tool.hatch-docker.files]]\nsource = "conf"\ntarget = "/etc/hello"\n'
        '[[tool.hatch-docker.files]]\nsource = "run.py"\ntarget = "/bin/run"\nmode = "0755"\n'
    )
    project = write_project("hello", tmp_path / "p", options=options)
    (project / "conf" / "sub").mkdir(parents=True)
    (project / "conf" / "sub" / "a.toml").write_text("x = 1\n")
    (project / "conf" / "b").symlink_to("sub/a.toml")
    (project / "run.py").write_text("#!/opt/venv/bin/python\n")
    image = build(project, cache).image()
    entries = {entry.path: entry for entry, _ in layer_entries(image.layers[-1])}
    assert sorted(entries) == ["etc/hello", "etc/hello/b", "etc/hello/sub", "etc/hello/sub/a.toml", "usr/bin/run"]
    assert (entries["usr/bin/run"].mode, entries["etc/hello/sub/a.toml"].mode) == (0o755, 0o644)


def test_docker_plan_writes_only_the_plan(tmp_path: Path, cache: Path) -> None:
    project = write_project("hello", tmp_path / "p")
    outcome = build(project, cache, verb="docker:plan")
    assert [path.name for path in outcome.directory.iterdir()] == ["hello-1.0.0.plan.json"]
    text = (outcome.directory / "hello-1.0.0.plan.json").read_text()
    assert '"location": "trixie"' in text
    assert str(tmp_path) not in text


def test_standard_output_is_only_the_archive_path(tmp_path: Path, cache: Path) -> None:
    """Release pipelines read it; other messages go to standard error."""
    project = write_project("hello", tmp_path / "p")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "docker"], cwd=project, capture_output=True, text=True,
        env=environment(cache), check=True,
    )
    assert done.stdout == "dist/hello-1.0.0.oci.tar\n"
    assert "your code" in done.stderr


@pytest.mark.parametrize("program", [("hatchling", "build", "-t", "docker"), ("hatch_docker", "build")])
@pytest.mark.parametrize("quiet", ["0", "1"])
def test_merged_output_has_the_path_once(program: tuple[str, ...], quiet: str, tmp_path: Path, cache: Path) -> None:
    """It is the last line, also if standard output and standard error are one file, as in the log of a pipeline."""
    project = write_project("hello", tmp_path / "p")
    outcome = run_in(project, cache, sys.executable, "-m", *program, variables={"HATCH_QUIET": quiet})
    assert outcome.status == 0
    lines = outcome.output.splitlines()
    assert lines[-1] == "dist/hello-1.0.0.oci.tar"
    assert lines.count(lines[-1]) == 1
    assert (len(lines) == 1) == (quiet == "1")
