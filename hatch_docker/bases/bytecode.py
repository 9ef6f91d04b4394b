"""Sources to .pyc, by the Python of the base itself, which runs here without root, namespaces or a container.

The bytes depend on the unit (a wheel, the standard library) and the interpreter's version, on nothing else:

- unchecked hash .pyc (PEP 552): no time of a file in them, and nothing to check at import;
- marshal writes an object in another way when something else refers to it (CPython #129724), so what was
  compiled before may show: a unit is cut into chunks by its own contents, and each chunk is compiled in a
  fork of a process that has compiled nothing;
- PYTHONHASHSEED=0: before 3.11 the order of frozensets shows.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from hatch_docker.bases.model import Interpreter, follow_links
from hatch_docker.core.elf import read_elf
from hatch_docker.core.errors import BaseImageError, ProgramError
from hatch_docker.core.files import scratch
from hatch_docker.core.process import run
from hatch_docker.oci.model import Opener

_NOT_RUNNABLE = (
    "cannot run {path} of the base on this machine: {why}; "
    "is the cache on a file system mounted noexec? HATCH_DOCKER_CACHE_DIR names another place"
)

# Bytes of source that one fork compiles: small enough to share among CPUs, large enough to pay for the fork.
CHUNK = 256 * 1024
_LARGEST = 64 << 20  # bytes of one .pyc

# Runs in the base's Python, 3.7 or newer, perhaps without a single .pyc of the standard library: so it
# imports only what is built in or frozen. Jobs come on stdin: chunk, name, file, offset, size, each ended by
# NUL. A source that this Python does not accept (Python 2 in a wheel, say) gets no .pyc.
DRIVER = r"""
import _imp, gc, marshal, posix, sys
from _frozen_importlib_external import MAGIC_NUMBER

def compile_one(name, path, offset, size, out):
    file = posix.open(path, posix.O_RDONLY)
    source = b""
    while len(source) < size:
        source += posix.pread(file, size - len(source), offset + len(source)) or stop(4)
    posix.close(file)
    try:
        code = marshal.dumps(compile(source, name, "exec", dont_inherit=True))
    except Exception:
        return
    token = int.from_bytes(MAGIC_NUMBER, "little")
    data = MAGIC_NUMBER + b"\1\0\0\0" + _imp.source_hash(token, source) + code
    file = posix.open(out, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL, 0o600)
    while data:
        data = data[posix.write(file, data):]
    posix.close(file)

def stop(status):
    posix._exit(status)

def wait(running):
    pid, status = posix.waitpid(-1, 0)
    names = running.pop(pid)
    if status:
        kind = "signal %d" % (status & 127) if status & 127 else "status %d" % (status >> 8)
        posix.write(2, ("compiling %s to %s ended with %s\n" % (names[0], names[-1], kind)).encode())
        stop(3)

def main(limit):
    fields = sys.stdin.buffer.read().split(b"\0")
    chunks, running = {}, {}
    for number in range(len(fields) // 5):
        chunk, name, path, offset, size = fields[5 * number : 5 * number + 5]
        chunks.setdefault(chunk, []).append((name.decode(), path, int(offset), int(size), str(number)))
    gc.disable()
    gc.freeze()
    for jobs in chunks.values():
        while len(running) >= limit:
            wait(running)
        pid = posix.fork()
        if pid == 0:
            try:
                for job in jobs:
                    compile_one(*job)
                stop(0)
            finally:
                stop(2)
        running[pid] = [job[0] for job in jobs]
    while running:
        wait(running)

main(int(sys.argv[1]))
"""

SourceFile = tuple[str, bytes | Path | Opener]
"""A path in the image, relative to the root ("usr/lib/python3.13/os.py"), and the contents."""


class Sandbox(Protocol):
    """Runs a command of the tree `root` in a sandbox; `directory` of this machine is `cwd` there, writable."""

    def __call__(
        self, root: Path, command: Sequence[str], *, env: Mapping[str, str], directory: Path, cwd: str
    ) -> None: ...


class Compiled(Mapping[str, bytes]):
    """Some .pyc by their paths in the image, in a file without a name: of a large wheel they are many."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, int]] = {}
        self._file = tempfile.TemporaryFile(prefix="hatch-docker-")  # noqa: SIM115 - closed with the last who knows it

    def __del__(self) -> None:
        self._file.close()

    def add(self, path: str, data: bytes) -> None:
        """Keep one more."""
        self._places[path] = self._file.seek(0, os.SEEK_END), len(data)
        self._file.write(data)

    def size(self, path: str) -> int:
        """Its bytes."""
        return self._places[path][1]

    def opener(self, path: str) -> Opener:
        """What opens it."""
        return lambda: io.BytesIO(self[path])

    def __getitem__(self, path: str) -> bytes:
        start, size = self._places[path]
        self._file.flush()
        return os.pread(self._file.fileno(), size, start)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def bytecode_path(source: str, interpreter: Interpreter) -> str:
    """Where an interpreter looks for the .pyc of a source (PEP 3147)."""
    directory, _, name = source.rpartition("/")
    compiled = f"__pycache__/{name.removesuffix('.py')}.{interpreter.cache_tag}.pyc"
    return f"{directory}/{compiled}" if directory else compiled


def compile_sources(
    units: Sequence[Sequence[SourceFile]], tree: Path, interpreter: Interpreter, *, workers: int = 0,
    sandbox: Sandbox | None = None,
) -> Compiled:
    """The .pyc of some units of sources: its path in the image -> its bytes.

    A unit is what is always compiled together, as a wheel's sources or the standard library's: a file's bytes
    may depend on the other files of its unit, never on another unit. A traceback will show a source's path
    with a leading "/". `tree` is an extracted base whose interpreter runs on this machine
    (`bases.compiler_tree`); `workers` 0 means one a CPU. A source that this Python does not accept has no
    item. An interpreter that is not Debian's own is a stranger's program: with `enclosed` it runs in the
    sandbox. Raises BaseImageError where the interpreter does not run, SandboxError where the kernel refuses.
    """
    sources = [(number, *source) for number, unit in enumerate(units) for source in sorted(unit, key=_path)]
    compiled = Compiled()
    if not sources:
        return compiled
    workers = workers or len(os.sched_getaffinity(0))
    with scratch() as directory:
        try:
            if sandbox is None:
                _run(sources, directory, tree, interpreter, str(workers))
            else:
                _run_in_sandbox(sandbox, sources, directory, tree, interpreter, str(workers))
        except ProgramError as error:
            why = str(error).strip().splitlines()[-1]
            raise BaseImageError(_NOT_RUNNABLE.format(path=interpreter.path, why=why)) from error
        for number, (_, path, _) in enumerate(sources):
            data = _made(directory / str(number))
            if data is not None:
                compiled.add(bytecode_path(path, interpreter), data)
                (directory / str(number)).unlink()
    return compiled


_OPTIONS = ("-S", "-s", "-W", "ignore", "-c")
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}


def _run(jobs: _Jobs, directory: Path, tree: Path, interpreter: Interpreter, workers: str) -> None:
    home = str(tree / interpreter.path.lstrip("/")).rpartition("/bin/")[0]
    run(
        [*python_command(tree, interpreter), *_OPTIONS, DRIVER, workers], cwd=directory,
        env={**_ENVIRONMENT, "PYTHONHOME": home}, stdin=_write_jobs(jobs, directory / "sources"),
    )


def _run_in_sandbox(
    sandbox: Sandbox, jobs: _Jobs, directory: Path, tree: Path, interpreter: Interpreter, workers: str
) -> None:
    """Compile in a sandbox, which has no standard input: the driver reads the jobs from a file."""
    (directory / "jobs").write_bytes(_write_jobs(jobs, directory / "sources", b"/spool/sources"))
    driver = 'import posix; posix.dup2(posix.open("jobs", posix.O_RDONLY), 0)\n' + DRIVER
    libraries = interpreter.path.rpartition("/bin/")[0] + "/lib"
    command = [interpreter.path, *_OPTIONS, driver, workers]
    sandbox(tree, command, env={**_ENVIRONMENT, "LD_LIBRARY_PATH": libraries}, directory=directory, cwd="/spool")


def _made(path: Path) -> bytes | None:
    """What an interpreter wrote, if it did; one of a stranger's may have put anything there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BaseImageError(f"the base's Python left no .pyc that can be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            raise BaseImageError("the base's Python left no .pyc that can be read")
        return stream.read()


_Jobs = Sequence[tuple[int, str, bytes | Path | Opener]]


def _path(source: SourceFile) -> str:
    return source[0]


def _opened(content: bytes | Path | Opener) -> BinaryIO:
    if isinstance(content, bytes):
        return io.BytesIO(content)
    return content.open("rb") if isinstance(content, Path) else content()


def _write_jobs(sources: _Jobs, spool: Path, seen_as: bytes = b"") -> bytes:
    """The jobs as the driver reads them; sources that are no files go to `spool`, one after another.

    Where the driver has another root than we, all of them do, and `spool` is `seen_as` there.
    """
    jobs = bytearray()
    chunk, room, last = 0, 0, -1
    with spool.open("wb") as stream:
        for unit, name, content in sources:
            if isinstance(content, Path) and not seen_as:
                place = (os.fsencode(content.absolute()), 0, content.stat().st_size)
            else:
                start = stream.tell()
                with _opened(content) as source:
                    shutil.copyfileobj(source, stream)
                place = (seen_as or os.fsencode(spool), start, stream.tell() - start)
            if unit != last or room <= 0:
                chunk, room, last = chunk + 1, CHUNK, unit
            room -= place[2]
            jobs += b"%d\0/%b\0%b\0%d\0%d\0" % (chunk, name.encode(), *place)
    return bytes(jobs)


def python_command(tree: Path, interpreter: Interpreter) -> list[str]:
    """The start of a command that runs a tree's interpreter with the tree's own libraries, by its own loader.

    Raises BaseImageError where the interpreter is no ELF program for this machine.
    """
    program = inside(tree, interpreter.path)
    try:
        with program.open("rb") as stream:
            elf = read_elf(stream)
        if elf is None or elf.bits != 64:
            raise BaseImageError(_NOT_RUNNABLE.format(path=program, why="no 64-bit ELF program"))
        loader = inside(tree, elf.interpreter)
    except OSError as error:
        raise BaseImageError(_NOT_RUNNABLE.format(path=program, why=error.strerror)) from error
    if not elf.interpreter:  # static
        return [str(program)]
    multiarch = [path for path in (tree / "usr/lib").glob("*-linux-*") if path.is_dir()]
    places = ["usr/local/lib", "lib", "usr/lib", "lib64", "usr/lib64"]
    libraries = [*(inside(tree, place) for place in places), *sorted(multiarch)]
    search = ":".join(dict.fromkeys(str(path) for path in libraries if path.is_dir()))
    # The host's ld.so.cache would bring the host's libraries in; musl has no cache, and no such option.
    options = [] if "musl" in elf.interpreter else ["--inhibit-cache"]
    return [str(loader), *options, "--library-path", search, str(program)]


def inside(root: Path, path: str) -> Path:
    """Return the file that `path` names if `root` is the root directory: links are followed within it.

    Raises BaseImageError for a loop of links.
    """

    def readlink(place: str) -> str | None:
        file = root / place
        return str(file.readlink()) if file.is_symlink() else None

    return root / follow_links(path, readlink)
