"""Roots for the sandbox out of the host's own files: some programs, or a Python."""

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
    """Where the kernel refuses the sandbox the test is skipped, and fails where CI=true."""
    reason = sandbox_error(os.environ)
    if reason is not None:
        missing(reason)


@contextlib.contextmanager
def readable_root(fill: Callable[[Path], Path]) -> Iterator[Path]:
    """Yield a new root that `fill` makes and every user can read; without a sandbox the test is skipped, not in CI."""
    need_sandbox()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield fill(Path(directory))


def program_root(root: Path, programs: Iterable[str] = PROGRAMS) -> Path:
    """Some of the host's programs in /bin, and the libraries they need."""
    (root / "bin").mkdir()
    for program in programs:
        found = Path(need(program)).resolve()
        shutil.copy(found, root / "bin" / program)
        _libraries(found, root)
    (root / "etc").mkdir()
    (root / "etc/motd").write_text("hello\n")
    return root


def python_root(root: Path) -> Path:
    """The Python that runs the tests in /usr, without what its packages brought."""
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
        shutil.copy2(source, target, follow_symlinks=False)  # its time, too, which compiled modules are valid for


@functools.cache
def _loaded(program: str) -> list[str]:
    """Return the words of ldd about a program of the host."""
    return subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout.split()


def _libraries(program: Path, root: Path) -> None:
    for word in _loaded(str(program)):
        copy = root / word[1:]
        if word.startswith("/") and not word.endswith(":") and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, copy)


def tree(root: Path) -> dict[str, tuple[str, int]]:
    """Return what is below a directory, by its path: kind or contents, and mode."""
    found = {}
    for path in sorted(root.rglob("*")):
        kind = f"link {path.readlink()}" if path.is_symlink() else "dir" if path.is_dir() else path.read_text()
        found[str(path.relative_to(root))] = (kind, 0 if path.is_symlink() else path.stat().st_mode & 0o1777)
    return found
