"""The example project's image in real engines, which run it with the restrictions of a hardened cluster."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_docker.engines.common import MAX_LAYERS
from hatch_docker.oci.filesystem import merge_layers
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.layout import write_layout
from tests.conftest import need, need_docker, run
from tests.fakes.package_index import FakeIndex, make_wheel
from tests.integration.builds import Outcome, build, require
from tests.projects import write_project

pytestmark = [pytest.mark.engine, pytest.mark.network]

EXAMPLE = Path(__file__).parent.parent.parent / "example_project"
NAME = "hatch-docker-tests/mandelbrot"
# Restrictions of a hardened cluster. Without a network the image serves on the loopback interface of the container.
RESTRICTED = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none"]
# Prints for each volume: its path, the files in it, the user and the owner; writes a file into it.
WRITE = (
    "import os\nfor path in ('/data', '/var/lib/app/store'):\n    found = os.listdir(path)\n"
    "    open(path + '/x', 'a').close()\n    print(path, *found, os.getuid(), os.stat(path).st_uid)"
)
TILE = (
    "import urllib.request, os;"
    "tile = urllib.request.urlopen('http://127.0.0.1:8000/tiles/3/3/3.png', timeout=5).read();"
    "assert tile.startswith(b'\\x89PNG'); print(os.getuid(), len(tile))"
)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Outcome:
    """Build a copy of the example project: C extension, dependencies, check of the image."""
    project = tmp_path_factory.mktemp("example") / "example_project"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("dist", "build", "__pycache__", "*.so"))
    return build(project, cache, variables={
        "HATCH_DOCKER_IMAGE": NAME, "HATCH_DOCKER_TAGS": "tested", "HATCH_DOCKER_VOLUMES": "/data,/var/lib/app/store",
    })  # fmt: skip


@pytest.fixture(scope="module")
def docker(example: Outcome) -> Iterator[list[str]]:
    program = need_docker()
    run(program, "load", "-i", example.archive)
    yield [program]
    subprocess.run([program, "rmi", "-f", f"{NAME}:tested"], capture_output=True, check=False)


@pytest.fixture(scope="module")
def podman(example: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Return a Podman command with its own storage and a configuration that needs no systemd; it has the image."""
    program = need("podman")
    need("runc")
    place = tmp_path_factory.mktemp("podman")
    settings = place / "containers.conf"
    settings.write_text(
        '[containers]\ndefault_ulimits = ["nofile=1024:1024"]\n[engine]\nruntime = "runc"\n'
        'cgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    command = [
        "env", f"CONTAINERS_CONF={settings}", program, f"--root={place / 'podman'}",
        f"--runroot={place / 'run'}", "--storage-driver=vfs", "--runtime=runc",
    ]
    run(*command, "load", "-i", example.archive)
    yield command
    subprocess.run([*command, "rm", "-af", "-t", "0"], capture_output=True, check=False)
    subprocess.run([*command, "rmi", "-af"], capture_output=True, check=False)


@contextlib.contextmanager
def serving(engine: list[str], *options: str) -> Iterator[tuple[str, str]]:
    """Run a container until it serves a tile; yield its ID and the output of TILE: user ID and size of the tile."""
    container = run(*engine, "run", "-d", *RESTRICTED, *options, f"{NAME}:tested").strip()
    try:
        for _ in range(60):
            done = subprocess.run(
                [*engine, "exec", container, "python", "-c", TILE], capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                break
            time.sleep(0.5)
        else:
            logs = subprocess.run([*engine, "logs", container], capture_output=True, text=True, check=False)
            pytest.fail(f"no tile: {done.stderr}\n{logs.stdout}{logs.stderr}")
        yield container, done.stdout
    finally:
        subprocess.run([*engine, "rm", "-f", container], capture_output=True, check=False)


def test_image_of_130_large_wheels_runs(index: FakeIndex, tmp_path: Path, cache: Path) -> None:
    """Docker's overlay driver supports fewer layers, so that the smallest wheels share a layer."""
    program, name = need_docker(), "hatch-docker-tests/many:tested"
    for number in range(130):
        files = {f"heavy_{number}/__init__.py": b"", f"heavy_{number}/data.bin": bytes(1_100_000 + number)}
        index.add(f"heavy-{number}", make_wheel(f"heavy-{number}", "1.0", files=files))
    project = require(write_project("hello", tmp_path / "p"), *index.files)
    repository, _, tag = name.partition(":")
    outcome = build(project, cache, variables={
        "HATCH_DOCKER_IMAGE": repository, "HATCH_DOCKER_TAGS": tag, "UV_DEFAULT_INDEX": index.url, "no_proxy": "*",
    })  # fmt: skip
    assert len(outcome.layers) == MAX_LAYERS
    run(program, "load", "-i", outcome.archive)
    try:
        code = "import importlib; print(len([importlib.import_module(f'heavy_{n}') for n in range(130)]))"
        assert run(program, "run", "--rm", *RESTRICTED, "--entrypoint", "python", name, "-c", code) == "130\n"
    finally:
        run(program, "rmi", "--force", name)


def test_buildkit_image_of_the_example(example: Outcome, docker: list[str], tmp_path: Path, cache: Path) -> None:
    """It has the digest of the embedded engine's image. After a random edit of the C file no cache has the wheel."""
    project = Path(shutil.copytree(example.directory.parent, tmp_path / "p", ignore=shutil.ignore_patterns("dist")))
    with (project / "src/mandelbrot_tiles/_mandelbrot.c").open("a") as stream:
        stream.write(f'const char edit[] = "{secrets.token_hex()}";\n')
    variables = {"HATCH_DOCKER_BUILD_NETWORK": "false"}
    built = build(project, cache, variables={**variables, "HATCH_DOCKER_ENGINE": "buildkit"})
    assert "install-project" in built.output
    assert "checking the image: mandelbrot-tiles --self-check" in built.output
    digest = built.digest
    assert build(project, cache, variables=variables).digest == digest


@pytest.mark.parametrize(("options", "user"), [((), "65532"), (("--user", "12345"), "12345")])
def test_docker_runs_the_restricted_container(docker: list[str], options: tuple[str, ...], user: str) -> None:
    """As the image's user and as another one: read-only root, no capability, no network."""
    with serving(docker, *options) as (_, output):
        assert output.split()[0] == user


@pytest.mark.parametrize(("options", "user"), [((), "65532"), (("--user", "12345"), "12345")])
def test_podman_runs_the_restricted_container(podman: list[str], options: tuple[str, ...], user: str) -> None:
    with serving(podman, *options) as (_, output):
        assert output.split()[0] == user


def check_volumes(engine: list[str]) -> None:
    """Run two containers in turn on new named volumes, and one on anonymous volumes; each must write to them."""
    volumes = {f"hatch-docker-tests-{secrets.token_hex(4)}": path for path in ("/data", "/var/lib/app/store")}
    mounts = [word for name, path in volumes.items() for word in ("-v", f"{name}:{path}")]
    command = [f"{NAME}:tested", "-c", WRITE]
    start = [*engine, "run", "--rm", *RESTRICTED, "--entrypoint", "python"]
    try:
        new, again = (run(*start, *mounts, *command).splitlines() for _ in range(2))
    finally:
        subprocess.run([*engine, "volume", "rm", "-f", *volumes], capture_output=True, check=False)
    assert new == run(*start, *command).splitlines() == [f"{path} 65532 65532" for path in volumes.values()]
    assert again == [f"{path} x 65532 65532" for path in volumes.values()]


def test_new_volume_is_writable_in_docker(docker: list[str]) -> None:
    check_volumes(docker)


def test_new_volume_is_writable_in_podman(podman: list[str]) -> None:
    check_volumes(podman)


def test_docker_stop_ends_the_service(docker: list[str]) -> None:
    """The service gets SIGTERM directly, without a shell, and exits with 0; Docker does not have to kill it."""
    with serving(docker) as (container, _):
        run(*docker, "stop", "-t", "30", container)
        assert run(*docker, "inspect", "-f", "{{.State.ExitCode}}", container).strip() == "0"


def test_image_has_no_build_tools_and_no_sources(example: Outcome) -> None:
    """It also has no pip, uv, wheels, shell, VCS directory, setuid files or files that the user can write to."""
    unwanted = {"gcc", "cc", "ld", "as", "make", "pip", "pip3", "uv", "sh", "bash", "dash", "apt", "dpkg", "wheel"}
    seen = set()
    for layer in example.image().layers:
        for entry, _ in layer_entries(layer):
            name = entry.path.rpartition("/")[2]
            seen.add(entry.path)
            assert entry.kind != "file" or name not in unwanted, entry.path
            assert not entry.path.endswith((".whl", ".tar.gz", ".c", ".h", ".o", ".deb")), entry.path
            assert name not in (".git", "pyproject.toml", "hatch_build.py", "site-packages/pip"), entry.path
            assert entry.kind == "symlink" or not entry.mode & 0o6000, entry.path
            if entry.mode & 0o022 and entry.kind not in ("symlink", "hardlink"):
                allowed = entry.path in ("tmp", "var/tmp") or entry.uid == 65532 or entry.path.startswith("run")
                assert allowed, entry.path
    assert "opt/venv/bin/mandelbrot-tiles" in seen
    assert "var/lib/dpkg/status.d" in seen
    assert not [path for path in seen if path.startswith(("var/lib/apt", "var/cache/apt", "etc/shadow", "etc/gshadow"))]


def test_users_of_the_image_are_unique_and_cannot_log_in(example: Outcome) -> None:
    """CIS benchmark and dockle: unique names and IDs, no password, no login shell, a numeric user."""
    image = example.image()
    names = ("etc/passwd", "etc/group")
    files = merge_layers(image.layers, lambda path, stream: stream.read() if path in names else None)
    for path, shell in (("etc/passwd", 6), ("etc/group", None)):
        content = files[path].content
        assert isinstance(content, bytes)
        rows = [line.split(":") for line in content.decode().splitlines()]
        assert len(rows) == len({row[0] for row in rows}) == len({row[2] for row in rows}) > 2
        assert {row[1] for row in rows} == {"x"}
        assert shell is None or {row[shell] for row in rows} == {"/sbin/nologin"}
    assert image.config_json["config"]["User"] == "65532"


def test_layers_belong_to_root_and_keep_the_base(example: Outcome) -> None:
    """Only the directories of volumes have another owner; no layer has a path of the base."""
    base_layer, *layers = example.image().layers
    base_paths = {entry.path for entry, _ in layer_entries(base_layer)}
    for layer in layers:
        for entry, _ in layer_entries(layer):
            assert (entry.uid == entry.gid == 0) != (entry.path in ("data", "var/lib/app/store"))
            assert entry.path not in base_paths


def test_skopeo_and_umoci_read_archive_and_layout(example: Outcome, tmp_path: Path) -> None:
    """skopeo reads the archive as OCI and as Docker archive, with the receipt's digest; umoci reads the layout."""
    image = example.image()
    skopeo = need("skopeo")
    assert json.loads(run(skopeo, "inspect", f"oci-archive:{example.archive}"))["Digest"] == example.digest
    config = json.loads(run(skopeo, "inspect", "--config", f"docker-archive:{example.archive}"))
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in image.layers]
    write_layout(image, tmp_path / "layout", [f"{NAME}:tested"])
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    layout = f"{tmp_path / 'layout'}:{NAME}:tested"
    run(need("umoci"), "unpack", *rootless, "--image", layout, tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/opt/venv/bin/python").readlink() == Path("/usr/bin/python3.13")


def test_build_loads_the_image_into_docker(docker: list[str], cache: Path, tmp_path: Path) -> None:
    """With its tags, which the receipt contains. The receipt of a second build, which sends nothing, is the same."""
    project = write_project("hello", tmp_path / "p", options='image = "hatch-docker-tests/hello"\ntags = ["a", "b"]')
    names = ["hatch-docker-tests/hello:a", "hatch-docker-tests/hello:b"]
    try:
        for _ in range(2):
            outcome = build(project, cache, variables={"HATCH_DOCKER_LOAD": "always"})
            assert [reference.removeprefix("docker.io/") for reference in outcome.receipt["references"]] == names
        assert run(*docker, "run", "--rm", "--network", "none", names[1]) == "hello, world\n"
    finally:
        subprocess.run([*docker, "rmi", "-f", *names], capture_output=True, check=False)
