"""The files that a program and its child processes create, change or remove, from a trace of strace."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.conftest import need

# System calls that change a file system.
CHANGES = (
    "creat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "link", "linkat",
    "symlink", "symlinkat", "chmod", "fchmodat", "chown", "lchown", "fchownat", "utimensat", "truncate", "mknod",
    "mknodat", "setxattr", "lsetxattr",
)
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
STARTS = ("clone", "clone3", "fork", "vfork")
CALL = re.compile(r"(\w+)\((.*)\) += (\d+)(?: /\* (\d+) in strace's PID NS \*/)?")
TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class _Process:
    """The ID of a process, the tmpfs that it has mounted, and whether it has called pivot_root."""

    number: int
    mounts: tuple[str, ...] = ()
    has_new_root: bool = False


def changed_by(command: Sequence[str | Path], directory: Path, traces: Path, environ: Mapping[str, str]) -> set[str]:
    """Run a program in a directory, which must succeed; return the absolute paths that it changed.

    Not counted are changes after pivot_root, which cannot reach the old root, and on a tmpfs that the process mounted.
    """
    traces.mkdir()
    calls = ",".join(("open", "openat", "mount", "pivot_root", *CHANGES, *STARTS))
    done = subprocess.run(
        [need("strace"), "-ff", "-y", "-qq", "-s", "4096", "--pidns-translation", "-e", "signal=none",
         "-e", f"trace={calls}", "-o", traces / "of", *command],
        cwd=directory, env=dict(environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    numbers = {int(path.suffix[1:]) for path in traces.iterdir()}
    changed: set[str] = set()
    waiting = [_Process(min(numbers))]
    while waiting:
        process = waiting.pop()
        numbers.remove(process.number)
        waiting += _read(traces / f"of.{process.number}", process, changed)
    assert not numbers, "a traced process has no traced parent"
    return changed


def _read(trace: Path, process: _Process, changed: set[str]) -> list[_Process]:
    """Add the paths that a process changed to `changed`; return the processes that it started."""
    started = []
    for line in trace.read_text(errors="surrogateescape").splitlines():
        match = CALL.match(line)
        if not match:  # a failed call, or no call
            continue
        name, arguments = match[1], match[2]
        if name == "pivot_root":
            process = replace(process, has_new_root=True)
        elif name == "mount":
            if '"tmpfs"' in arguments:
                process = replace(process, mounts=(*process.mounts, TEXT.findall(arguments)[1]))
        elif name in STARTS:
            started.append(replace(process, number=int(match[4] or match[3])))
        elif not process.has_new_root:
            paths = set(_changes(name, arguments, line))
            changed |= {path for path in paths if not any(path.startswith(f"{mount}/") for mount in process.mounts)}
    return started


def _changes(name: str, arguments: str, line: str) -> Iterator[str]:
    paths = [text.encode().decode("unicode_escape") for text in TEXT.findall(arguments)]
    if name in ("open", "openat"):
        if WRITES.search(TEXT.sub("", arguments)):
            opened = re.search(r"= \d+<(.*)>$", line)
            yield opened[1] if opened else paths[0]
        return
    if name.startswith(("link", "symlink")):
        paths = paths[-1:]  # the new name; the target of the link does not change
    places = re.findall(r"(?:AT_FDCWD|\d+)<(/[^>]*)>", arguments) or [""]
    for number, path in enumerate(paths or places):
        yield f"{places[min(number, len(places) - 1)]}/{path}" if not path.startswith("/") else path
