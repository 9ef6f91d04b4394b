"""Tests of hatch_docker.bases.bytecode: the base's Python compiles to the same bytes in any order, on any machine."""

import hashlib
import importlib.util
import marshal
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

from hatch_docker.bases.bytecode import bytecode_path, compile_sources, inside, python_command
from hatch_docker.bases.model import Interpreter
from hatch_docker.core.errors import BaseImageError, SandboxError
from tests.fakes.bases import program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="programs of Linux images run on Linux")

# The Python that runs the tests is used as the base's interpreter, with the host's root directory as its tree.
HOST = Interpreter(str(Path(sys.executable).resolve()), ".".join(map(str, sys.version_info[:3])))
ROOT = Path("/")
STDLIB = Path(sysconfig.get_path("stdlib"))
SITE = "opt/venv/lib/python3.13/site-packages"


def header(pyc: bytes) -> tuple[bytes, int, bytes]:
    return pyc[:4], int.from_bytes(pyc[4:8], "little"), pyc[8:16]


def test_pyc_is_unchecked_and_hash_based(tmp_path: Path) -> None:
    """PEP 552: it has no file time, and imports do not check the source. A traceback shows the path in the image."""
    source = b"def hello():\n    return 'hello'\n"
    (pyc,) = compile_sources([[(f"{SITE}/demo.py", source)]], ROOT, HOST).values()
    magic, flags, digest = header(pyc)
    assert magic == importlib.util.MAGIC_NUMBER
    assert flags == 1
    assert digest == importlib.util.source_hash(source)
    code = marshal.loads(pyc[16:])
    assert code.co_filename == f"/{SITE}/demo.py"
    namespace: dict[str, object] = {}
    exec(code, namespace)
    assert namespace["hello"]() == "hello"  # type: ignore[operator]


def test_python_imports_pyc_instead_of_source(tmp_path: Path) -> None:
    """The path of the .pyc is the one that import uses (PEP 3147)."""
    path = f"{str(tmp_path).lstrip('/')}/demo.py"
    for name, data in compile_sources([[(path, b"print('compiled', __file__)\n")]], ROOT, HOST).items():
        assert name == bytecode_path(path, HOST)
        place = Path("/", name)
        place.parent.mkdir()
        place.write_bytes(data)
    Path("/", path).write_text("print('source')\n")
    run = [sys.executable, "-c", "import demo"]
    done = subprocess.run(run, cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    assert done.stdout == f"compiled /{path}\n"


def library(count: int) -> list[tuple[str, bytes | Path]]:
    paths = sorted(path for path in STDLIB.glob("*/*.py") if "test" not in path.parts[-2])[:count]
    return [(str(path).lstrip("/"), path) for path in paths]


def test_bytes_are_independent_of_order_workers_and_other_units() -> None:
    first, second = library(60)[:40], library(60)[40:]
    counts: list[int] = []
    together = compile_sources([first, second], ROOT, HOST, workers=3, advance=counts.append)
    assert sum(counts) == 60
    alone = compile_sources([list(reversed(first))], ROOT, HOST, workers=1)
    other = compile_sources([second], ROOT, HOST, workers=2)
    assert len(together) == 60
    assert together == {**alone, **other}
    in_memory = [(path, Path(content).read_bytes()) for path, content in first if isinstance(content, Path)]
    assert compile_sources([in_memory], ROOT, HOST) == alone


def test_only_trusted_interpreter_runs_without_sandbox() -> None:
    """If the kernel allows no sandbox, an untrusted interpreter is not run."""
    unit, calls = [("a.py", b"x = 1\n")], []

    def refused(_root: Path, command: Sequence[str], **_options: object) -> None:
        calls.append(command)
        raise SandboxError("refused")

    assert list(compile_sources([unit], ROOT, HOST, sandbox=refused, trusted=True)) == [bytecode_path("a.py", HOST)]
    with pytest.raises(SandboxError):
        compile_sources([unit], ROOT, HOST, sandbox=refused)
    assert [command[0] for command in calls] == [HOST.path] * 2


def test_environment_of_user_does_not_change_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = [("demo.py", b"def f(x):\n    return x in {'a', 'b', 'c', 'd', 'e', 'f', 'g'}\n")]
    found = set()
    for seed in ("1", "2", "random"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        monkeypatch.setenv("PYTHONOPTIMIZE", seed)
        (pyc,) = compile_sources([unit], ROOT, HOST).values()
        found.add(hashlib.sha256(pyc).hexdigest())
    assert len(found) == 1


def test_invalid_sources_are_skipped(capfd: pytest.CaptureFixture[str]) -> None:
    """Wheels contain Python 2, templates and broken encodings. pip skips them, too."""
    unit = [
        ("a.py", b"print 'two'\n"), ("b.py", b"\0"), ("c.py", b"# coding: no-such-thing\n"), ("d.py", b"'\xff'\n"),
        ("e.py", b"x = " + b"(" * 5000), ("empty.py", b""),
        ("latin.py", "# coding: latin-1\nx = 'é'\n".encode("latin-1")),
        ("warned.py", b"x = '\\d'\nassert (x, 'never')\n"),
    ]  # fmt: skip
    compiled = compile_sources([unit], ROOT, HOST)
    assert sorted(compiled) == [bytecode_path(name, HOST) for name in ("empty.py", "latin.py", "warned.py")]
    assert capfd.readouterr() == ("", "")


def test_source_names_may_have_any_character() -> None:
    unit = [("opt/ä b/x\ny.py", b"x = 1\n")]
    (pyc,) = compile_sources([unit], ROOT, HOST).values()
    assert marshal.loads(pyc[16:]).co_filename == "/opt/ä b/x\ny.py"
    assert compile_sources([], ROOT, HOST) == compile_sources([[]], ROOT, HOST) == {}


def test_sources_are_not_executed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    compile_sources([[("a.py", f"open({str(mark)!r}, 'w')\n".encode())]], ROOT, HOST)
    assert not mark.exists()


def test_broken_interpreter_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    python = tmp_path / "usr/bin/python3.13"
    interpreter = Interpreter("/usr/bin/python3.13", "3.13.5")
    for content in (None, b"#!/bin/sh\n", program("arm64", "3.13.5")):
        if content is not None:
            python.write_bytes(content)
            python.chmod(0o755)
        with pytest.raises(BaseImageError, match=r"python3\.13") as caught:
            compile_sources([[("a.py", b"")]], tmp_path, interpreter)
        assert "\n" not in str(caught.value)


def test_links_are_followed_inside_the_tree(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("/usr/lib")
    (tmp_path / "usr/lib/loader").symlink_to("../../../../etc/passwd")
    (tmp_path / "loop").symlink_to("loop")
    assert inside(tmp_path, "/lib/loader") == tmp_path / "etc/passwd"
    assert inside(tmp_path, "/lib/x/../y") == tmp_path / "usr/lib/y"
    assert inside(tmp_path, "/../../x") == tmp_path / "x"
    with pytest.raises(BaseImageError, match="loop"):
        inside(tmp_path, "/loop/x")


def test_interpreter_runs_with_loader_of_its_tree() -> None:
    command = python_command(ROOT, HOST)
    assert command[-1] == HOST.path
    if len(command) > 1:
        assert "--library-path" in command
        assert os.access(command[0], os.X_OK)
