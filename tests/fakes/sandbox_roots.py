"""Root directories for the sandbox, made of the host's files: some programs, or a Python."""

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from hatch_docker.wheels.builder.sandbox import sandbox_error
from tests.conftest import missing, need

PROGRAMS = ("sh", "cat", "id", "ls", "touch", "sleep", "env", "stat", "hostname", "mkdir")
UNSHARE = {"x86_64": 272, "aarch64": 97}  # the number of the system call


def need_sandbox() -> None:
    """Skip the test if the kernel does not allow a sandbox. With CI=true the test fails."""
    reason = sandbox_error(os.environ)
    if reason is not None:
        missing(reason)


@contextlib.contextmanager
def readable_root(fill: Callable[[Path], Path]) -> Iterator[Path]:
    """Yield a new root, filled by `fill`, that all users can read. Without a sandbox, see `need_sandbox`."""
    need_sandbox()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield fill(Path(directory))


def program_root(root: Path, programs: Iterable[str] = PROGRAMS) -> Path:
    """Copy some of the host's programs to bin, with the libraries that they need, and return the root."""
    (root / "bin").mkdir()
    for program in programs:
        found = Path(need(program)).resolve()
        shutil.copy(found, root / "bin" / program)
        _libraries(found, root)
    (root / "etc").mkdir()
    (root / "etc/motd").write_text("hello\n")
    return root


def python_root(root: Path) -> Path:
    """Copy the Python that runs the tests to usr, without site-packages, and return the root."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    library = Path(sysconfig.get_path("stdlib"))
    skipped = ("test", "tests", "idlelib", "site-packages", "dist-packages", "config-*", "*.a")
    shutil.copytree(
        library, root / "usr/lib" / name, ignore=shutil.ignore_patterns(*skipped), copy_function=_link,
        symlinks=True, ignore_dangling_symlinks=True,
    )
    (root / "usr/bin").mkdir()
    python = Path(sys.executable).resolve()
    shutil.copy(python, root / "usr/bin" / name)
    for file in (python, *(library / "lib-dynload").glob("*.so")):
        _libraries(file, root)
    return root


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)  # with the time, because .pyc files contain it


@functools.cache
def _loaded(program: str) -> list[str]:
    """Return the words in ldd's output for a program of the host."""
    return subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout.split()


def _libraries(program: Path, root: Path) -> None:
    for word in _loaded(str(program)):
        copy = root / word[1:]
        if word.startswith("/") and not word.endswith(":") and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, copy)


def tree(root: Path) -> dict[str, tuple[str, int]]:
    """Return the files below a directory: path -> (kind or contents, mode)."""
    found = {}
    for path in sorted(root.rglob("*")):
        kind = f"link {path.readlink()}" if path.is_symlink() else "dir" if path.is_dir() else path.read_text()
        found[str(path.relative_to(root))] = (kind, 0 if path.is_symlink() else path.stat().st_mode & 0o1777)
    return found
