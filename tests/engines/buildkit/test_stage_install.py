"""The installer of the Dockerfile's stages writes the same bytes as the embedded engine."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hatch_docker.bases.bytecode import compile_sources
from hatch_docker.bases.model import Interpreter
from hatch_docker.engines.buildkit import stage_diff, stage_install
from hatch_docker.engines.buildkit.context import STAGE_MODULES, tree_entries, write_tools
from hatch_docker.engines.buildkit.stage_install import REPAIRED
from hatch_docker.oci.layer import Entry
from hatch_docker.wheels.builder import compiler_cache, compiler_places, pep517
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.install.slim import KINDS, NONE, Rules
from hatch_docker.wheels.install.venv import bytecode_entries, python_sources, venv_entries, wheel_entries
from tests.fakes.compiled import compile_library, strip_bytes
from tests.fakes.wheels import Wheel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="programs of Linux images run on Linux")

HOST = Interpreter(str(Path(sys.executable).resolve()), ".".join(map(str, sys.version_info[:3])))
VENV = VenvTarget(HOST)
DATA = "demo-1.0.data"
RICH = {
    "demo/__init__.py": b"def main():\n    return 0\n",
    "demo/python2.py": b"print 'no module of ours'\n",
    "demo/tests/test_it.py": b"pass\n",
    "demo/_native.so": b"\x7fELF" + bytes(range(256)) * 5000,
    f"{DATA}/scripts/tool": b"#!python\nimport demo\n",
    f"{DATA}/scripts/run.sh": b"#!/bin/sh\n",
    f"{DATA}/data/share/demo/d.txt": b"data",
    f"{DATA}/data/lib64/x.txt": b"through a link",
    f"{DATA}/headers/demo.h": b"int x;\n",
    f"{DATA}/purelib/other.py": b"x = 1\n" * 20000,
}


def rich(directory: Path, **changes: Any) -> Path:
    directory.mkdir(exist_ok=True)
    scripts = "[console_scripts]\ndemo = demo:main\n"
    wheel = Wheel(files=dict(RICH), modes={"demo/_native.so": 0o755}, scripts=scripts, **changes)
    return wheel.write(directory / "demo-1.0-py3-none-any.whl")


def run_installer(wheels: Path, work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the program with the command line of a stage."""
    tools = work / "tools"
    write_tools(tools)
    command = [HOST.path, "-I", "-S", str(tools / "install.py"), str(wheels), str(work / "out"), VENV.root, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, umask=0o077)


def embedded_entries(wheel: Path, rules: Rules = NONE, tally: dict[str, list[int]] | None = None) -> list[Entry]:
    installed = wheel_entries(wheel, VENV, rules=rules, tally=tally)
    compiled = compile_sources([python_sources(installed, VENV)], Path("/"), HOST)
    found = {entry.path: entry for entry in [*venv_entries(VENV), *installed]}
    found |= {entry.path: entry for entry in bytecode_entries(installed, compiled, VENV)}
    return [found[path] for path in sorted(found)]


def facts(entries: list[Entry]) -> dict[str, tuple[object, ...]]:
    def content(entry: Entry) -> bytes:
        if isinstance(entry.content, Path):
            return entry.content.read_bytes()
        if callable(entry.content):
            with entry.content() as stream:
                return stream.read()
        return entry.content or b""

    return {entry.path: (entry.kind, entry.mode, entry.mtime, entry.target, content(entry)) for entry in entries}


def test_both_engines_install_the_same_files(tmp_path: Path) -> None:
    """This includes modes, scripts, RECORD, links and .pyc files, and does not depend on the umask."""
    wheel = rich(tmp_path / "wheels")
    done = run_installer(tmp_path / "wheels", tmp_path / "work", "--venv")
    assert done.returncode == 0, done.stderr
    installed = facts(tree_entries(tmp_path / "work/out", VENV.root))
    assert installed == facts(embedded_entries(wheel))
    assert any(path.endswith(".pyc") for path in installed)


def test_both_engines_leave_out_the_same_files(tmp_path: Path) -> None:
    """RECORD and the numbers in the report are the same too."""
    (tmp_path / "wheels").mkdir()
    library = compile_library(tmp_path)
    files = {
        **RICH, "demo/_native.so": library, "demo/kept.so": library, "demo/__init__.pyi": b"", "demo/de.py": b"",
        "demo/locale/de/LC_MESSAGES/d.mo": b"de", "demo/locale/fr/LC_MESSAGES/d.mo": b"fr",
    }
    wheel = Wheel(files=files).write(tmp_path / "wheels/demo-1.0-py3-none-any.whl")
    rules = Rules(KINDS, ("de",), ("demo/kept.so",))
    options = [f"--leave-out={kind}" for kind in KINDS]
    options += ["--venv", "--locale=de", "--keep=demo/kept.so"]
    done = run_installer(tmp_path / "wheels", tmp_path / "work", *options)
    assert done.returncode == 0, done.stderr
    tally: dict[str, list[int]] = {}
    installed = facts(tree_entries(tmp_path / "work/out", VENV.root))
    assert installed == facts(embedded_entries(wheel, rules, tally))
    site = VENV.site_packages
    assert f"{site}/demo/locale/de/LC_MESSAGES/d.mo" in installed
    assert not {f"{site}/{path}" for path in ("demo/tests", "demo/__init__.pyi", "demo/locale/fr")} & set(installed)
    assert installed[f"{site}/demo/kept.so"][-1] == library
    assert installed[f"{site}/demo/_native.so"][-1] == strip_bytes(library) != library
    assert json.loads((tmp_path / "work/slim/left-out.json").read_text()) == {wheel.name: tally}
    assert {kind: files for kind, (files, _) in tally.items()} == dict.fromkeys(KINDS, 1)
    assert tally["symbols"] == [1, len(library) - len(strip_bytes(library))]


def test_record_of_a_marked_wheel_is_repaired(tmp_path: Path) -> None:
    wheel = rich(tmp_path / "wheels")
    sound = facts(embedded_entries(wheel))
    rich(tmp_path / "wheels", unrecorded={"demo-1.0.dist-info/WHEEL"})
    (tmp_path / f"wheels/{wheel.name}{REPAIRED}").touch()
    done = run_installer(tmp_path / "wheels", tmp_path / "work", "--venv")
    assert done.returncode == 0, done.stderr
    assert facts(tree_entries(tmp_path / "work/out", VENV.root)) == sound


def test_files_have_a_fixed_time(tmp_path: Path) -> None:
    rich(tmp_path / "wheels")
    run_installer(tmp_path / "wheels", tmp_path / "work", "--venv")
    assert {int(path.lstat().st_mtime) for path in (tmp_path / "work/out/opt").rglob("*")} == {315532800}


@pytest.mark.parametrize(("invalid", "message"), [
    (Wheel(files={"../evil.py": b""}), "it climbs out with '..'"),
    (Wheel(files={"/evil.py": b""}), "it is absolute"),
    (Wheel(files={"demo/.wh.other.py": b""}), "would remove what other layers have"),
    (Wheel(files={"demo.py": b"x"}, unrecorded={"demo.py"}), "RECORD has no hash of demo.py"),
    (Wheel(records={"demo/__init__.py": "demo/__init__.py,sha256=AAAA,14\n"}), "differs from what RECORD says"),
    (Wheel(files={f"{DATA}/scripts/python": b"evil"}), "which is the environment's own"),
    (Wheel(scripts="[console_scripts]\n../demo = demo:main\n"), "is no file name"),
])  # fmt: skip
def test_invalid_wheel_is_rejected_without_a_traceback(invalid: Wheel, message: str, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    invalid.write(tmp_path / "wheels/demo-1.0-py3-none-any.whl")
    done = run_installer(tmp_path / "wheels", tmp_path / "work", "--venv")
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_wheel_is_reported(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    assert "no wheel in" in run_installer(tmp_path / "wheels", tmp_path / "work").stderr


@pytest.mark.parametrize("module", [*STAGE_MODULES, stage_install, stage_diff, pep517, compiler_cache, compiler_places])
def test_modules_of_stages_have_the_syntax_of_python_3_9(module: ModuleType) -> None:
    """They import only the standard library and each other; annotations are not evaluated."""
    source = Path(str(module.__file__)).read_text()
    tree = ast.parse(source, feature_version=(3, 9))
    assert "from __future__ import annotations\n" in source
    beside = {known.__name__ for known in STAGE_MODULES}
    checks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    unread = {id(inner) for node in checks for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in unread:
            assert str(node.module).partition(".")[0] in sys.stdlib_module_names or node.module in beside
