"""Installed wheels: paths and contents of the entries, and checks against the base."""

import csv
import io
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from hatch_docker.bases.bytecode import Compiled
from hatch_docker.bases.model import Interpreter
from hatch_docker.core.errors import WheelError
from hatch_docker.oci.layer import Compression, write_layer
from hatch_docker.oci.model import Platform
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.oci.tar import parent_entries
from hatch_docker.wheels.install.compatibility import check_fits
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.install.venv import (
    bytecode_entries,
    check_owners,
    python_sources,
    venv_entries,
    wheel_entries,
    wheel_files,
)
from hatch_docker.wheels.target import Target
from tests.fakes.sbom_images import SITE
from tests.fakes.wheels import INFO, VENV, Wheel, content, install, read_entries, record_hash, with_file


def test_paths_of_installation_schemes(tmp_path: Path) -> None:
    """The paths of sysconfig's venv scheme, as in other installers."""
    wheel = Wheel(scripts="[console_scripts]\nserve = demo.web:app.main [fast]\n[gui_scripts]\nshow = demo:show\n")
    start = "demo-1.0.data"
    for name in ("data/share/man/man1/demo.1", "purelib/pure.py", "platlib/plat.so", "headers/demo.h",
                 "scripts/tool", "data/lib64/extra"):  # fmt: skip
        wheel.files[f"{start}/{name}"] = b"#!python -u\nprint(1)\n"
    entries = install(wheel, tmp_path)
    files = {path for path, entry in entries.items() if entry.kind == "file"}
    assert {path for path in files if INFO not in path} == {
        f"{SITE}/demo/__init__.py", f"{SITE}/pure.py", f"{SITE}/plat.so", "opt/venv/share/man/man1/demo.1",
        "opt/venv/include/site/python3.13/demo/demo.h", "opt/venv/bin/tool", "opt/venv/bin/serve",
        "opt/venv/bin/show", "opt/venv/lib/extra",
    }  # fmt: skip
    assert entries["opt/venv/bin/tool"].content == b"#!/opt/venv/bin/python\nprint(1)\n"
    assert entries["opt/venv/bin/tool"].mode == 0o755
    assert entries[f"{SITE}/pure.py"].content == b"#!python -u\nprint(1)\n"
    assert entries[f"{SITE}/pure.py"].mode == 0o644
    assert entries["opt/venv/bin/serve"].content == (
        b'#!/opt/venv/bin/python\nimport sys\nfrom demo.web import app\n'
        b'if __name__ == "__main__":\n    sys.exit(app.main())\n'
    )


def test_record_lists_installed_files_sorted(tmp_path: Path) -> None:
    """RECORD lists every file with its hash (PEP 376), independent of the order in the archive."""
    wheel = Wheel(scripts="[console_scripts]\nserve = demo:main\n")
    wheel.files["demo/a,b.txt"] = b"comma"
    vendored = "demo/_vendor/other-1.0.dist-info/RECORD"  # of a vendored package, which is not installed
    wheel.files = {vendored: b"other.py,,\n", **wheel.files}
    wheel.records["demo/__init__.py"] = f"./demo/__init__.py,{record_hash(wheel.files['demo/__init__.py'])},14\n"
    entries = install(wheel, tmp_path)
    record = entries[f"{SITE}/{INFO}/RECORD"].content
    assert isinstance(record, bytes)
    rows = list(csv.reader(io.StringIO(record.decode())))
    assert [row[0] for row in rows] == [
        "../../../bin/serve", f"{INFO}/INSTALLER", f"{INFO}/METADATA", f"{INFO}/WHEEL",
        f"{INFO}/entry_points.txt", "demo/__init__.py", vendored, "demo/a,b.txt", f"{INFO}/RECORD",
    ]  # fmt: skip
    files = wheel_files(entries.values(), VENV)
    hashes: dict[str, str] = {}
    wheel_entries(tmp_path / "demo-1.0-py3-none-any.whl", VENV, hashes=hashes)
    assert hashes == files
    assert set(files) == {path for path, entry in entries.items() if entry.kind == "file"}
    for path, digest in files.items():
        content = entries[path].content
        assert isinstance(content, bytes)
        assert digest in ("", record_hash(content))
    assert entries[f"{SITE}/{INFO}/INSTALLER"].content == b"hatch-docker\n"


def test_files_of_other_installers_are_left_out(tmp_path: Path) -> None:
    """A wheel may be made from an installed package. .pyc files in a wheel are not trusted."""
    wheel = Wheel()
    for name in ("INSTALLER", "REQUESTED", "direct_url.json"):
        wheel.files[f"{INFO}/{name}"] = b"file:///home/someone"
    wheel.files["demo/__pycache__/demo.cpython-313.pyc"] = b"?"
    entries = install(wheel, tmp_path)
    assert entries[f"{SITE}/{INFO}/INSTALLER"].content == b"hatch-docker\n"
    assert not [path for path in entries if "direct_url" in path or "REQUESTED" in path or "pycache" in path]


def test_entries_are_reproducible(tmp_path: Path) -> None:
    """Times, modes and order of the archive do not matter; no entry is above the environment."""
    first, second = Wheel(), Wheel(modes={"demo/__init__.py": stat.S_IFREG | 0o600})
    second.files = {"demo/b.py": b"b", **second.files}
    first.files["demo/b.py"] = b"b"
    (tmp_path / "other").mkdir()
    entries, others = install(first, tmp_path), install(second, tmp_path / "other")
    layers = [io.BytesIO(), io.BytesIO()]
    for out, some in zip(layers, (entries, others), strict=True):
        write_layer(some.values(), out, Compression("gzip"))
    assert layers[0].getvalue() == layers[1].getvalue()
    assert {entry.mtime for entry in entries.values()} == {SOURCE_DATE}
    assert {entry.mode for entry in entries.values()} == {0o644, 0o755}
    assert min(entries) == "opt/venv"


def test_file_name_of_wheel_may_differ_from_path(tmp_path: Path) -> None:
    """In the store the path is the digest."""
    path = Wheel().write(tmp_path / "0123abc")
    assert wheel_entries(path, VENV, filename="demo-1.0-py3-none-any.whl")
    with pytest.raises(WheelError, match="wheel 0123abc cannot"):
        wheel_entries(path, VENV)


def test_environment_has_pyvenv_cfg_and_links() -> None:
    """The files of `python -m venv`, with the interpreter of the base."""
    entries = {entry.path: entry for entry in venv_entries(VENV)}
    assert entries["opt/venv/bin/python"].target == "/usr/bin/python3.13"
    assert entries["opt/venv/bin/python3"].target == "python"
    assert entries["opt/venv/bin/python3.13"].target == "python"
    pyvenv_cfg = entries["opt/venv/pyvenv.cfg"].content
    assert isinstance(pyvenv_cfg, bytes)
    assert b"home = /usr/bin\n" in pyvenv_cfg
    assert entries[SITE].kind == "directory"
    assert "opt" not in entries


def test_parent_entries_skip_existing_directories() -> None:
    entries = parent_entries(["srv/app/static/x.css", "srv/app/y"], {"srv"})
    assert [(entry.path, entry.kind, entry.mode) for entry in entries] == [
        ("srv/app", "directory", 0o755), ("srv/app/static", "directory", 0o755),
    ]  # fmt: skip


@pytest.mark.parametrize("wheel", [
    Wheel(files={"demo/.wh.other.py": b""}), Wheel(files={".wh..wh..opq": b""}), Wheel(files={".wh.other/x.py": b""}),
    Wheel(files={"demo-1.0.data/data/lib/.wh.python3.13": b""}),
    Wheel(scripts="[console_scripts]\n.wh.sh = demo:main\n"),
])  # fmt: skip
def test_whiteout_names_in_a_wheel_are_rejected(wheel: Wheel, tmp_path: Path) -> None:
    """In a layer such an entry removes a file of lower layers (layer.md, Whiteouts)."""
    with pytest.raises(WheelError, match="which would remove what other layers have"):
        wheel_entries(wheel.write(tmp_path / "demo-1.0-py3-none-any.whl"), VENV)


def test_two_wheels_with_the_same_path_are_rejected() -> None:
    """Unless the contents are equal."""
    same = {"site/google/__init__.py": "sha256=a"}
    check_owners({"one 1": same, "two 2": {**same, "site/two.py": "sha256=b"}})
    with pytest.raises(WheelError, match=r"one 1 and two 2 both contain /site/x.py"):
        check_owners({"one 1": {"site/x.py": "sha256=a"}, "two 2": {"site/x.py": "sha256=b"}})
    with pytest.raises(WheelError, match=r"/site/x is a file in one 1 and a directory in two 2"):
        check_owners({"one 1": {"site/x": "sha256=a"}, "two 2": {"site/x/y.py": "sha256=b"}})


def test_wheel_for_another_platform_is_rejected() -> None:
    """The error names the wheel and the target."""
    target = Target("3.13.5", Platform("linux", "amd64"), ("glibc", "2.36"))
    check_fits("demo-1.0-cp313-cp313-manylinux_2_28_x86_64.whl", target)
    check_fits("demo-1.0-py3-none-any.whl", target)
    for tags in ("cp312-cp312-manylinux_2_28_x86_64", "cp313-cp313-manylinux_2_39_x86_64",
                 "cp313-cp313-manylinux_2_28_aarch64", "cp313-cp313-musllinux_1_2_x86_64"):  # fmt: skip
        with pytest.raises(WheelError, match=rf"demo-1.0-{tags}.whl.*Python 3.13 on linux/amd64 with glibc 2.36"):
            check_fits(f"demo-1.0-{tags}.whl", target)


def test_bytecode_entries_of_modules(tmp_path: Path) -> None:
    """A .pyc file for each module in site-packages, with the directories; none for scripts."""
    entries = install(with_file("demo-1.0.data/scripts/tool.py"), tmp_path)
    sources = python_sources(entries.values(), VENV)
    assert sources == [(f"{SITE}/demo/__init__.py", b"name = 'demo'\n")]
    compiled = Compiled()
    compiled.add(f"{SITE}/demo/__pycache__/__init__.cpython-313.pyc", b"pyc")
    compiled.add("elsewhere", b"x")
    entries = bytecode_entries(entries.values(), compiled, VENV)
    assert [(entry.path, entry.kind) for entry in entries] == [
        (f"{SITE}/demo/__pycache__", "directory"),
        (f"{SITE}/demo/__pycache__/__init__.cpython-313.pyc", "file"),
    ]
    assert content(entries[1]) == b"pyc"


def test_installed_environment_runs(tmp_path: Path) -> None:
    """Python in the environment finds the package, its metadata and its script."""
    interpreter = Interpreter(str(Path(sys.executable).resolve()), sysconfig.get_python_version() + ".0")
    venv = VenvTarget(interpreter, str(tmp_path).lstrip("/") + "/venv")
    wheel = Wheel(scripts="[console_scripts]\nserve = demo:main\n")
    wheel.files["demo/__init__.py"] = b"import sys\ndef main():\n    print(sys.prefix)\n"
    path = wheel.write(tmp_path / "demo-1.0-py3-none-any.whl")
    for entry in [*venv_entries(venv), *read_entries(wheel_entries(path, venv)).values()]:
        place = Path("/", entry.path)
        if entry.kind == "directory":
            place.mkdir(exist_ok=True)
        elif entry.kind == "symlink":
            place.symlink_to(entry.target)
        else:
            assert isinstance(entry.content, bytes)
            place.write_bytes(entry.content)
            place.chmod(entry.mode)
    run = [f"/{venv.root}/bin/serve"]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == f"/{venv.root}\n"
    code = "import importlib.metadata as m; print(m.version('demo'), all(f.locate().exists() for f in m.files('demo')))"
    run = [venv.python, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "1.0 True\n"
