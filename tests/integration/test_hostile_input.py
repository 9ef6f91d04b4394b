"""Hostile input of whole builds: exit status 1, an error that names the input, and no file written or changed.

The input is a wheel or an sdist from an index, a base image, or the code of a build. The parsers have their own tests
in tests/wheels, tests/bases and tests/oci.
"""

import gzip
import io
import json
import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.layout import write_layout
from hatch_docker.oci.model import Image, Layer
from tests.fakes.bases import file
from tests.fakes.images import image_of, layer_of, raw_layer, with_config
from tests.fakes.package_index import FakeIndex, make_wheel
from tests.fakes.sandbox_roots import need_sandbox
from tests.fakes.wheels import record_hash
from tests.integration.builds import Outcome, build, check_failed, files_in_dist, linked_cache, require, run_build
from tests.integration.memory_peak import run_measured
from tests.projects import write_project

pytestmark = pytest.mark.network

MEMORY = 300 << 20  # the maximum memory of a build, in bytes


def check_rejected(outcome: Outcome, *words: str) -> None:
    """Check that a build fails with `words` in its output, without terminal escape sequences, and writes no file."""
    check_failed(outcome, *words)
    assert "\x1b" not in outcome.output
    assert files_in_dist(outcome) == []


def requiring(name: str, directory: Path) -> Path:
    """Write a project that requires a package; the unique specifier avoids a cached page of another test's index."""
    return require(write_project("hello", directory), f"{name}!=0.{time.time_ns()}")


def edited_wheel(change: Callable[[dict[str, bytes]], object]) -> tuple[str, bytes]:
    """Return a wheel whose files are changed after RECORD was written."""
    name, data = make_wheel("gadget", "1.0")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist()}
    change(files)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return name, out.getvalue()


def with_files(files: Mapping[str, bytes]) -> tuple[str, bytes]:
    return make_wheel("gadget", "1.0", files=files)


WHEELS: dict[str, tuple[Callable[[], tuple[str, bytes]], str]] = {
    "path with ..": (lambda: with_files({"../../../../../../evil.py": b""}), "evil.py"),
    "replaces the interpreter": (lambda: with_files({"gadget-1.0.data/scripts/python3": b"#!python\n"}), "bin/python3"),
    "metadata of another package": (
        lambda: with_files({"gadget-1.0.data/purelib/hello-9.dist-info/METADATA": b"Name: hello\n"}),
        "hello-9.dist-info",
    ),
    "ZIP bomb": (lambda: edited_wheel(lambda files: files.update({"gadget/zeros": bytes(80 << 20)})), "unpacks to"),
    "deep directories": (lambda: with_files({"a/" * 400 + "x.py": b""}), "deep"),
    "escape sequences in a path": (lambda: with_files({"gadget/\x1b[2J\x1b]0;owned\x07\\x.py": b""}), "unsafe path"),
    "file of the project": (lambda: with_files({"hello.py": b"import os\n"}), "both contain"),
}


@pytest.mark.parametrize("case", WHEELS)
def test_hostile_wheel_is_rejected(case: str, tmp_path: Path, cache: Path) -> None:
    make, words = WHEELS[case]
    index = FakeIndex().add("gadget", make())
    with index.serving():
        outcome = run_build(requiring("gadget", tmp_path / "p"), cache, variables={"UV_DEFAULT_INDEX": index.url})
    check_rejected(outcome, "gadget", words)


def test_wrong_record_of_a_wheel_is_corrected(tmp_path: Path, cache: Path) -> None:
    """The wheel's hash is that of the index, so it is what was published. The warning is printed in each build."""
    stamp = str(time.time_ns()).encode()  # for a wheel that is in no cache
    index = FakeIndex().add("gadget", edited_wheel(lambda files: files.update({"gadget/__init__.py": stamp})))
    project = requiring("gadget", tmp_path / "p")
    with index.serving():
        variables = {"UV_DEFAULT_INDEX": index.url}
        strict = {**variables, "HATCH_DOCKER_WHEEL_RECORDS": "refuse"}
        outcome = run_build(project, cache, variables=strict)
        check_rejected(outcome, "has a wrong RECORD: gadget/__init__.py differs", "refuse")
        for _ in range(2):
            outcome = build(project, cache, variables=variables)
            assert "wheel gadget-1.0-py3-none-any.whl has a wrong RECORD: gadget/__init__.py" in outcome.output
    layer = outcome.image().layers[-2]
    texts = {entry.path: content.read() for entry, content in layer_entries(layer) if content is not None}
    (record,) = (text for path, text in texts.items() if path.endswith("gadget-1.0.dist-info/RECORD"))
    assert record_hash(stamp) in record.decode()


def sdist(*members: tuple[str, bytes], name: str = "gadget-1.0", headers: Mapping[str, str] = {}) -> tuple[str, bytes]:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as stream, \
            tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers) as tar:
        for path, data in members:
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return f"{name}.tar.gz", out.getvalue()


OLD = ("PKG-INFO", b"Metadata-Version: 2.1\nName: gadget\nVersion: 1.0\n")
STATIC = ("PKG-INFO", b"Metadata-Version: 2.2\nName: gadget\nVersion: 1.0\n")


def system(requirements: str) -> tuple[str, bytes]:
    return "pyproject.toml", f'[build-system]\nrequires = [{requirements}]\nbuild-backend = "x"\n'.encode()


SDISTS: dict[str, tuple[Callable[[], tuple[str, bytes]], str]] = {
    "large PAX header": (lambda: sdist(OLD, headers={"comment": "x" * (2 << 20)}), "extended header"),
    "deeply nested TOML": (lambda: sdist(OLD, ("pyproject.toml", b"a = " + b"[" * 50_000)), "pyproject.toml"),
    "dependencies of a wrong type": (
        lambda: sdist(OLD, ("pyproject.toml", b"[project]\nname='x'\ndependencies = 7\n")), "setuptools"),
    "requirement is an option": (
        lambda: sdist(STATIC, system('"--index-url=http://127.0.0.1:1/evil"')), "gadget-1.0.tar.gz: "),
    "requirement names a file": (lambda: sdist(STATIC, system('"-r /etc/group"')), "gadget-1.0.tar.gz: "),
    "path with ..": (lambda: sdist(STATIC, ("../../evil", b"")), "climbs out"),
}


@pytest.mark.parametrize("case", SDISTS)
def test_hostile_sdist_is_rejected(case: str, tmp_path: Path, cache: Path) -> None:
    """Before any code of the sdist runs. Its build requirements cannot be options of uv or paths."""
    need_sandbox()
    make, words = SDISTS[case]
    index = FakeIndex().add("gadget", make())
    with index.serving():
        outcome = run_build(requiring("gadget", tmp_path / "p"), cache, variables={"UV_DEFAULT_INDEX": index.url})
    check_rejected(outcome, words)
    assert not index.paths("evil")


def test_hostile_build_directory_is_removed(tmp_path: Path, cache: Path) -> None:
    """The directories are deeper than the recursion limit and unreadable; the build succeeds."""
    need_sandbox()
    project = write_project("hello", tmp_path / "p")
    (project / "hatch_build.py").write_text(
        f"# {tmp_path}\n"
        "import os\n"
        "from hatchling.builders.hooks.plugin.interface import BuildHookInterface\n"
        "class Hook(BuildHookInterface):\n"
        "    def initialize(self, version, build_data):\n"
        "        here = os.getcwd()\n"
        "        os.chdir('/build')\n"
        "        for _ in range(3000):\n"
        "            os.mkdir('d')\n"
        "            os.chdir('d')\n"
        "        os.chmod('/build/d/d', 0)\n"
        "        os.chdir(here)\n"
    )
    with (project / "pyproject.toml").open("a") as stream:
        stream.write("\n[tool.hatch.build.targets.wheel.hooks.custom]\n")
    private = linked_cache(cache, tmp_path / "cache")
    build(project, private)
    assert list((private / "v1/tmp").iterdir()) == []


@pytest.fixture(scope="module")
def debian_base(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Image:
    """Return a Debian base with Python as an ordinary base image."""
    return image_of(build(write_project("hello", tmp_path_factory.mktemp("base") / "p"), cache).image().layers[0])


def on_base(base: Image, directory: Path) -> Path:
    project = write_project("hello", directory, base="oci:base")
    write_layout(base, project / "base")
    return project


CONFIGS: dict[str, tuple[dict[str, object], str]] = {
    "Env without =": ({"config": {"Env": ["PATH"]}}, "config.Env"),
    "config is an empty list": ({"config": []}, ""),
    "config is a list": ({"config": ["x"]}, "config.config"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_base_with_an_invalid_configuration(case: str, debian_base: Image, tmp_path: Path, cache: Path) -> None:
    settings, words = CONFIGS[case]
    base = with_config(debian_base, {**debian_base.config_json, **settings})
    outcome = run_build(on_base(base, tmp_path / "p"), cache)
    if words:
        check_rejected(outcome, "base oci:base", words)
    else:
        assert outcome.status == 0, outcome.output


def layers() -> dict[str, tuple[Layer, str]]:
    out = "../" * 12
    return {
        "path with ..": (raw_layer(("../../evil", tarfile.REGTYPE, "")), "climbs out"),
        "symlink loop": (raw_layer(("a", tarfile.SYMTYPE, "a"), ("a/x", tarfile.REGTYPE, "")), "too many symlinks"),
        "hard link out of the layer": (raw_layer(("evil", tarfile.LNKTYPE, f"{out}etc/passwd")), "climbs out"),
        "unknown C library": (
            layer_of([file("usr/lib/x86_64-linux-gnu/libc.so.6", b"\0GNU C Library version 2.99999999.\0")]),
            "C library",
        ),
        "no Python": (raw_layer(("usr/bin/.wh..wh..opq", tarfile.REGTYPE, "")), "no Python 3"),
        "large etc/passwd": (layer_of([file("etc/passwd", bytes(2 << 20))]), "too many to read"),
    }


@pytest.mark.parametrize("case", [
    "path with ..", "symlink loop", "hard link out of the layer", "unknown C library", "no Python", "large etc/passwd",
])
def test_base_with_a_hostile_layer_is_rejected(case: str, debian_base: Image, tmp_path: Path, cache: Path) -> None:
    """The layer is only read, within a limit of memory, and no file of it is written."""
    layer, words = layers()[case]
    project = on_base(image_of(*debian_base.layers, layer), tmp_path / "p")
    outcome, peak = run_measured(project, cache, "hatchling", "build", "-t", "docker", HATCH_DOCKER_LOAD="never")
    check_rejected(outcome, "base oci:base", words)
    assert not list(tmp_path.rglob("evil"))
    assert peak < MEMORY


def test_base_with_a_hostile_python(debian_base: Image, tmp_path: Path, cache: Path) -> None:
    """It runs only in the sandbox, without the user's files; its bytecode is in no image of another base."""
    need_sandbox()
    canary = tmp_path / "canary"
    canary.write_text("alive")
    evil = (
        "import posix\n"
        f"for path in ({str(canary)!r}, {str(tmp_path / 'new')!r}):\n"
        "    try:\n"
        "        posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC)\n"
        "    except OSError:\n"
        "        pass\n"
        "import _imp\n"
        "_imp.source_hash = lambda key, source: b'hostile!'\n"
    )
    where = "usr/lib/python3.13/encodings/__init__.py"
    source = next(
        stream.read().decode() for entry, stream in layer_entries(debian_base.layers[0])
        if entry.path == where and stream is not None
    )
    hostile = layer_of([
        file(where, source.replace("import codecs\n", "import codecs\n" + evil, 1)),
        file("usr/lib/python3.13/encodings/__pycache__/.wh.__init__.cpython-313.pyc"),
    ])  # fmt: skip
    marked = f"\nMARK = {str(tmp_path)!r}\n"  # for a wheel that no cache has compiled

    def bytecode(project: Path) -> bytes:
        (project / "hello.py").write_text((project / "hello.py").read_text() + marked)
        (layer,) = build(project, cache).image().layers[-1:]
        found = [
            stream.read() for entry, stream in layer_entries(layer)
            if entry.path.endswith(".pyc") and stream is not None
        ]
        assert len(found) == 1
        return found[0]

    bad = bytecode(on_base(image_of(*debian_base.layers, hostile), tmp_path / "bad"))
    assert bad[8:16] == b"hostile!"  # the hostile code has run
    good = bytecode(write_project("hello", tmp_path / "good"))
    assert good[8:16] != b"hostile!"
    assert good == bytecode(on_base(debian_base, tmp_path / "same"))
    assert canary.read_text() == "alive"
    assert not (tmp_path / "new").exists()


def test_pipes_and_links_in_dist_are_not_opened(tmp_path: Path, cache: Path) -> None:
    """They have the names of outputs and of a killed build's temporary files."""
    project = write_project("hello", tmp_path / "p")
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (project / "dist").mkdir()
    os.mkfifo(project / "dist/.hello-1.0.0.oci.tar.x.tmp")
    (project / "dist/hello-1.0.0.oci.tar").symlink_to(precious)
    (project / "dist/hello-1.0.0.image.json").symlink_to(precious)
    outcome = run_build(project, cache)
    assert outcome.status == 0, outcome.output
    assert precious.read_text() == "mine"
    assert json.loads((project / "dist/hello-1.0.0.image.json").read_bytes())["name"] == "hello"
    shutil.rmtree(project)
