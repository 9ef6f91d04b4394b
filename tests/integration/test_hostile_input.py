"""Hostile input of whole builds: one line that names it, status 1, nothing written, nothing touched.

A wheel and an sdist from an index, a base image, a build. What each of them may hold is tested piece by piece
elsewhere (test_install, test_tree, test_registry, test_builder); here a user's command has to end well.
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
from tests.integration.builds import Outcome, build, check_failed, require, run_build, written
from tests.integration.memory_peak import run_measured
from tests.projects import write_project

pytestmark = pytest.mark.network

MEMORY = 300 << 20  # bytes that a build takes at the most, with whatever it judges


def refused(outcome: Outcome, *said: str) -> None:
    """Check that a build fails with some words, without orders to the terminal, and writes nothing."""
    check_failed(outcome, *said)
    assert "\x1b" not in outcome.output
    assert written(outcome) == []


def needing(name: str, directory: Path) -> Path:
    """A project that needs a package; asked as nobody did before, since another index had the same port perhaps."""
    return require(write_project("hello", directory), f"{name}!=0.{time.time_ns()}")


def edited(change: Callable[[dict[str, bytes]], object]) -> tuple[str, bytes]:
    """A sound wheel whose files are changed after RECORD was written."""
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
    "climbs": (lambda: with_files({"../../../../../../evil.py": b""}), "evil.py"),
    "takes the interpreter": (lambda: with_files({"gadget-1.0.data/scripts/python3": b"#!python\n"}), "bin/python3"),
    "speaks for another package": (
        lambda: with_files({"gadget-1.0.data/purelib/hello-9.dist-info/METADATA": b"Name: hello\n"}),
        "hello-9.dist-info",
    ),
    "a bomb": (lambda: edited(lambda files: files.update({"gadget/zeros": bytes(80 << 20)})), "unpacks to"),
    "too deep": (lambda: with_files({"a/" * 400 + "x.py": b""}), "deep"),
    "orders to a terminal": (lambda: with_files({"gadget/\x1b[2J\x1b]0;owned\x07\\x.py": b""}), "unsafe path"),
    "takes a file of the project": (lambda: with_files({"hello.py": b"import os\n"}), "both bring"),
}


@pytest.mark.parametrize("what", WHEELS)
def test_a_bad_wheel(what: str, tmp_path: Path, cache: Path) -> None:
    make, said = WHEELS[what]
    index = FakeIndex().add("gadget", make())
    with index.serving():
        outcome = run_build(needing("gadget", tmp_path / "p"), cache, variables={"UV_DEFAULT_INDEX": index.url})
    refused(outcome, "gadget", said)


def test_a_wheel_with_a_wrong_record_is_installed_with_a_right_one(tmp_path: Path, cache: Path) -> None:
    """Its own hash is the index's, so it is what its makers published; also when its layer is known already."""
    stamp = str(time.time_ns()).encode()  # a wheel that no cache knows
    index = FakeIndex().add("gadget", edited(lambda files: files.update({"gadget/__init__.py": stamp})))
    project = needing("gadget", tmp_path / "p")
    with index.serving():
        variables = {"UV_DEFAULT_INDEX": index.url}
        strict = {**variables, "HATCH_DOCKER_WHEEL_RECORDS": "refuse"}
        refused(run_build(project, cache, variables=strict), "has a wrong RECORD: gadget/__init__.py differs", "refuse")
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


def system(requires: str) -> tuple[str, bytes]:
    return "pyproject.toml", f'[build-system]\nrequires = [{requires}]\nbuild-backend = "x"\n'.encode()


SDISTS: dict[str, tuple[Callable[[], tuple[str, bytes]], str]] = {
    "a header too large": (lambda: sdist(OLD, headers={"comment": "x" * (2 << 20)}), "extended header"),
    "a table that never ends": (lambda: sdist(OLD, ("pyproject.toml", b"a = " + b"[" * 50_000)), "pyproject.toml"),
    "dependencies that are none": (
        lambda: sdist(OLD, ("pyproject.toml", b"[project]\nname='x'\ndependencies = 7\n")), "setuptools"),
    "an option for uv": (lambda: sdist(STATIC, system('"--index-url=http://127.0.0.1:1/evil"')), "gadget-1.0.tar.gz: "),
    "a file for uv": (lambda: sdist(STATIC, system('"-r /etc/group"')), "gadget-1.0.tar.gz: "),
    "names that climb": (lambda: sdist(STATIC, ("../../evil", b"")), "climbs out"),
}


@pytest.mark.parametrize("what", SDISTS)
def test_a_bad_sdist(what: str, tmp_path: Path, cache: Path) -> None:
    """Judged out here, before anything of it runs: within bounds, and its requirements are only requirements."""
    need_sandbox()
    make, said = SDISTS[what]
    index = FakeIndex().add("gadget", make())
    with index.serving():
        outcome = run_build(needing("gadget", tmp_path / "p"), cache, variables={"UV_DEFAULT_INDEX": index.url})
    refused(outcome, said)
    assert not index.paths("evil")


def test_what_a_build_leaves_is_removed(tmp_path: Path, cache: Path) -> None:
    """A tree that is deeper than any recursion, and closed: gone after the build, which ends as it would."""
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
    before = set((cache / "v1/tmp").iterdir())
    build(project, cache)
    assert set((cache / "v1/tmp").iterdir()) <= before


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Image:
    """A Debian base with Python, as an image of somebody's."""
    return image_of(build(write_project("hello", tmp_path_factory.mktemp("base") / "p"), cache).image().layers[0])


def on(base: Image, directory: Path) -> Path:
    project = write_project("hello", directory, base="oci:base")
    write_layout(base, project / "base")
    return project


CONFIGS: dict[str, tuple[dict[str, object], str]] = {
    "Env without =": ({"config": {"Env": ["PATH"]}}, "config.Env"),
    "no object": ({"config": []}, ""),
    "a list": ({"config": ["x"]}, "config.config"),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_base_with_a_bad_configuration(what: str, sound: Image, tmp_path: Path, cache: Path) -> None:
    settings, said = CONFIGS[what]
    outcome = run_build(on(with_config(sound, {**sound.config_json, **settings}), tmp_path / "p"), cache)
    if said:
        refused(outcome, "base oci:base", said)
    else:
        assert outcome.status == 0, outcome.output


def layers() -> dict[str, tuple[Layer, str]]:
    out = "../" * 12
    return {
        "climbs": (raw_layer(("../../evil", tarfile.REGTYPE, "")), "climbs out"),
        "loops": (raw_layer(("a", tarfile.SYMTYPE, "a"), ("a/x", tarfile.REGTYPE, "")), "too many symlinks"),
        "a hard link out": (raw_layer(("evil", tarfile.LNKTYPE, f"{out}etc/passwd")), "climbs out"),
        "a C library from the future": (
            layer_of([file("usr/lib/x86_64-linux-gnu/libc.so.6", b"\0GNU C Library version 2.99999999.\0")]),
            "C library",
        ),
        "no Python": (raw_layer(("usr/bin/.wh..wh..opq", tarfile.REGTYPE, "")), "no Python 3"),
        "zeros": (layer_of([file("etc/passwd", bytes(2 << 20))]), "too many to read"),
    }


@pytest.mark.parametrize("what", [
    "climbs", "loops", "a hard link out", "a C library from the future", "no Python", "zeros",
])
def test_a_base_with_a_bad_layer(what: str, sound: Image, tmp_path: Path, cache: Path) -> None:
    """Read as data, within bounds: it says what is wrong and leaves nothing anywhere."""
    layer, said = layers()[what]
    project = on(image_of(*sound.layers, layer), tmp_path / "p")
    outcome, peak = run_measured(project, cache, "hatchling", "build", "-t", "docker", HATCH_DOCKER_LOAD="never")
    refused(outcome, "base oci:base", said)
    assert not list(tmp_path.rglob("evil"))
    assert peak < MEMORY


def test_a_base_whose_python_is_hostile(sound: Image, tmp_path: Path, cache: Path) -> None:
    """It compiles in the sandbox, where it meets nothing of ours; what it makes is in no other image."""
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
        stream.read().decode() for entry, stream in layer_entries(sound.layers[0])
        if entry.path == where and stream is not None
    )
    hostile = layer_of([
        file(where, source.replace("import codecs\n", "import codecs\n" + evil, 1)),
        file("usr/lib/python3.13/encodings/__pycache__/.wh.__init__.cpython-313.pyc"),
    ])  # fmt: skip
    marked = f"\nMARK = {str(tmp_path)!r}\n"  # a wheel that nobody compiled before

    def made(project: Path) -> bytes:
        (project / "hello.py").write_text((project / "hello.py").read_text() + marked)
        (layer,) = build(project, cache).image().layers[-1:]
        found = [
            stream.read() for entry, stream in layer_entries(layer)
            if entry.path.endswith(".pyc") and stream is not None
        ]
        assert len(found) == 1
        return found[0]

    bad = made(on(image_of(*sound.layers, hostile), tmp_path / "bad"))
    assert bad[8:16] == b"hostile!"  # so it did run
    good = made(write_project("hello", tmp_path / "good"))
    assert good[8:16] != b"hostile!"
    assert good == made(on(sound, tmp_path / "same"))
    assert canary.read_text() == "alive"
    assert not (tmp_path / "new").exists()


def test_leftovers_that_are_traps(tmp_path: Path, cache: Path) -> None:
    """Pipes and links in dist/ that look like what a killed build left: not opened, not followed."""
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
