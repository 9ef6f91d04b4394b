"""hatch_docker.bases.bytecode: a base's own Python compiles, to the same bytes in any order and on any machine."""

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

# The Python that runs the tests plays the base's: its tree is the whole machine.
HOST = Interpreter(str(Path(sys.executable).resolve()), ".".join(map(str, sys.version_info[:3])))
ROOT = Path("/")
STDLIB = Path(sysconfig.get_path("stdlib"))
SITE = "opt/venv/lib/python3.13/site-packages"


def header(pyc: bytes) -> tuple[bytes, int, bytes]:
    return pyc[:4], int.from_bytes(pyc[4:8], "little"), pyc[8:16]


def test_bytecode_is_unchecked_and_of_this_source(tmp_path: Path) -> None:
    """PEP 552: no time in it, no check of the source at import; a traceback shows the path in the image."""
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


def test_python_takes_it_instead_of_the_source(tmp_path: Path) -> None:
    """The path is the one that import looks for (PEP 3147)."""
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


def test_same_bytes_in_any_order_and_with_any_number_of_workers() -> None:
    """The bytes of a unit depend on the unit only, not on other wheels or the number of CPUs."""
    first, second = library(60)[:40], library(60)[40:]
    told: list[int] = []
    together = compile_sources([first, second], ROOT, HOST, workers=3, advance=told.append)
    assert sum(told) == 60
    alone = compile_sources([list(reversed(first))], ROOT, HOST, workers=1)
    other = compile_sources([second], ROOT, HOST, workers=2)
    assert len(together) == 60
    assert together == {**alone, **other}
    in_memory = [(path, Path(content).read_bytes()) for path, content in first if isinstance(content, Path)]
    assert compile_sources([in_memory], ROOT, HOST) == alone


def test_an_interpreter_runs_in_the_sandbox_where_there_is_one() -> None:
    """Debian's own runs without it where the kernel refuses; another one does not run at all."""
    unit, calls = [("a.py", b"x = 1\n")], []

    def refused(_root: Path, command: Sequence[str], **_options: object) -> None:
        calls.append(command)
        raise SandboxError("refused")

    assert list(compile_sources([unit], ROOT, HOST, sandbox=refused, trusted=True)) == [bytecode_path("a.py", HOST)]
    with pytest.raises(SandboxError):
        compile_sources([unit], ROOT, HOST, sandbox=refused)
    assert [command[0] for command in calls] == [HOST.path] * 2


def test_hash_seed_of_the_user_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the user does not reach the interpreter."""
    unit = [("demo.py", b"def f(x):\n    return x in {'a', 'b', 'c', 'd', 'e', 'f', 'g'}\n")]
    found = set()
    for seed in ("1", "2", "random"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        monkeypatch.setenv("PYTHONOPTIMIZE", seed)
        (pyc,) = compile_sources([unit], ROOT, HOST).values()
        found.add(hashlib.sha256(pyc).hexdigest())
    assert len(found) == 1


def test_source_that_is_not_accepted_has_no_bytecode(capfd: pytest.CaptureFixture[str]) -> None:
    """Wheels have Python 2, templates and broken encodings: like pip, we skip them."""
    unit = [
        ("a.py", b"print 'two'\n"), ("b.py", b"\0"), ("c.py", b"# coding: no-such-thing\n"), ("d.py", b"'\xff'\n"),
        ("e.py", b"x = " + b"(" * 5000), ("empty.py", b""),
        ("latin.py", "# coding: latin-1\nx = 'é'\n".encode("latin-1")),
        ("warned.py", b"x = '\\d'\nassert (x, 'never')\n"),
    ]  # fmt: skip
    made = compile_sources([unit], ROOT, HOST)
    assert sorted(made) == [bytecode_path(name, HOST) for name in ("empty.py", "latin.py", "warned.py")]
    assert capfd.readouterr() == ("", "")


def test_names_may_hold_anything() -> None:
    unit = [("opt/ä b/x\ny.py", b"x = 1\n")]
    (pyc,) = compile_sources([unit], ROOT, HOST).values()
    assert marshal.loads(pyc[16:]).co_filename == "/opt/ä b/x\ny.py"
    assert compile_sources([], ROOT, HOST) == compile_sources([[]], ROOT, HOST) == {}


def test_nothing_of_a_source_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    compile_sources([[("a.py", f"open({str(mark)!r}, 'w')\n".encode())]], ROOT, HOST)
    assert not mark.exists()


def test_interpreter_that_does_not_run(tmp_path: Path) -> None:
    """The error is one line with the interpreter, whatever is wrong with it."""
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


def test_links_stay_inside_the_tree(tmp_path: Path) -> None:
    """Symbolic links are followed inside the tree only."""
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("/usr/lib")
    (tmp_path / "usr/lib/loader").symlink_to("../../../../etc/passwd")
    (tmp_path / "loop").symlink_to("loop")
    assert inside(tmp_path, "/lib/loader") == tmp_path / "etc/passwd"
    assert inside(tmp_path, "/lib/x/../y") == tmp_path / "usr/lib/y"
    assert inside(tmp_path, "/../../x") == tmp_path / "x"
    with pytest.raises(BaseImageError, match="loop"):
        inside(tmp_path, "/loop/x")


def test_libraries_are_the_trees_own() -> None:
    """The tree's own loader runs, without the host's cache of libraries."""
    command = python_command(ROOT, HOST)
    assert command[-1] == HOST.path
    if len(command) > 1:
        assert "--library-path" in command
        assert os.access(command[0], os.X_OK)
