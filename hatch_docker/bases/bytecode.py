"""Compiling sources to .pyc with the base's own Python, in the sandbox. Debian's signed Python needs no sandbox.

The bytes depend only on the unit (a wheel, the standard library) and on the interpreter's version:

- The .pyc files are unchecked hash-based (PEP 552): they contain no file time, and imports do not check the source.
- marshal writes an object differently if there are other references to it (CPython #129724), so compiling one file
  may change the bytes of a later one. A unit is cut into chunks by its contents alone, and each chunk is compiled in
  a fork of a process that has compiled nothing.
- PYTHONHASHSEED is 0, because before Python 3.11 the order of frozensets changes the bytes.
"""

import contextlib
import io
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hatch_docker.bases.model import Interpreter, follow_links
from hatch_docker.core.elf import read_elf
from hatch_docker.core.errors import BaseImageError, ProgramError, SandboxError
from hatch_docker.core.files import temporary_directory
from hatch_docker.core.process import run
from hatch_docker.core.progress import Advance, no_progress
from hatch_docker.oci.model import Content, open_content
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.oci.tar import Entry

_NOT_RUNNABLE = (
    "cannot run {path} of the base on this machine: {why}; "
    "is the cache on a file system mounted noexec? HATCH_DOCKER_CACHE_DIR sets another directory"
)

_LARGEST = 64 << 20  # bytes of one .pyc

# The driver runs in the base's Python, 3.7 or newer. It imports only built-in and frozen modules, because the standard
# library may have no .pyc yet. A job on stdin has the fields unit, name, file, offset and size, each with a NUL at its
# end. A source that this Python cannot compile (such as Python 2 in a wheel) gets no .pyc. One fork compiles CHUNK
# bytes of source of a unit: small enough to use all CPUs, large enough to be worth a fork.
DRIVER = r"""
import _imp, gc, marshal, posix, sys
from _frozen_importlib_external import MAGIC_NUMBER

CHUNK = 256 * 1024

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
    chunks, running, last, room = [], {}, None, 0
    for number in range(len(fields) // 5):
        unit, name, path, offset, size = fields[5 * number : 5 * number + 5]
        if unit != last or room <= 0:
            chunks.append([])
            last, room = unit, CHUNK
        room -= int(size)
        chunks[-1].append((name.decode(), path, int(offset), int(size), str(number)))
    gc.disable()
    gc.freeze()
    for jobs in chunks:
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

SourceFile = tuple[str, Content]
"""The path of a source in the image, relative to the root ("usr/lib/python3.13/os.py"), and its contents."""


class Sandbox(Protocol):
    """Function that runs a command in a sandbox on the tree `root`. The host's `directory` is at `cwd`, writable."""

    def __call__(
        self, root: Path, command: Sequence[str], *, env: Mapping[str, str], directory: Path, cwd: str
    ) -> None: ...


class Compiled(Mapping[str, bytes]):
    """The .pyc files by their paths in the image. Their bytes are in one temporary file, not in memory."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, int]] = {}
        self._file = tempfile.TemporaryFile(prefix="hatch-docker-")  # noqa: SIM115 - closed by __del__

    def __del__(self) -> None:
        self._file.close()

    def add(self, path: str, data: bytes) -> None:
        """Add a .pyc."""
        self._places[path] = self._file.seek(0, os.SEEK_END), len(data)
        self._file.write(data)

    def entry(self, path: str) -> Entry:
        """Return a .pyc as an entry of a layer."""
        size = self._places[path][1]
        return Entry(path, "file", 0o644, SOURCE_DATE, size=size, content=lambda: io.BytesIO(self[path]))

    def __getitem__(self, path: str) -> bytes:
        start, size = self._places[path]
        self._file.flush()
        return os.pread(self._file.fileno(), size, start)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def bytecode_path(source: str, interpreter: Interpreter) -> str:
    """Return the path at which an interpreter looks for the .pyc of a source (PEP 3147)."""
    directory, _, name = source.rpartition("/")
    compiled = f"__pycache__/{name.removesuffix('.py')}.{interpreter.cache_tag}.pyc"
    return f"{directory}/{compiled}" if directory else compiled


def compile_sources(
    units: Sequence[Sequence[SourceFile]], tree: Path, interpreter: Interpreter, *, workers: int = 0,
    sandbox: Sandbox | None = None, trusted: bool = False, advance: Advance = no_progress,
) -> Compiled:
    """Compile some units of sources, and return the .pyc files by their paths in the image.

    `units`: for example all sources of a wheel. The bytes of a .pyc may depend on other files of its unit, but never
    on another unit. Tracebacks show the path of a source with a leading "/". `tree`: an extracted base whose
    interpreter runs on this machine (`open.compiler_tree`). `workers`: 0 for one for each CPU. `sandbox`: None to run
    the interpreter without a sandbox; a `trusted` interpreter, Debian's own, also runs without one if the kernel does
    not allow it. `advance` is called with the number of newly compiled sources. Sources that this Python cannot compile
    are left out. Raises BaseImageError if the interpreter does not run, SandboxError if the kernel allows no sandbox.
    """
    ordered = (sorted(unit, key=lambda source: source[0]) for unit in units)
    sources = [(number, *source) for number, unit in enumerate(ordered) for source in unit]
    compiled = Compiled()
    if not sources:
        return compiled
    workers = workers or len(os.sched_getaffinity(0))
    with temporary_directory() as directory, _count_files(directory, len(sources), advance):
        try:
            try:
                _run(sources, directory, tree, interpreter, str(workers), sandbox)
            except SandboxError:
                if not trusted:
                    raise
                _run(sources, directory, tree, interpreter, str(workers), None)
        except ProgramError as error:
            why = str(error).strip().splitlines()[-1]
            raise BaseImageError(_NOT_RUNNABLE.format(path=interpreter.path, why=why)) from error
        for number, (_, path, _) in enumerate(sources):
            if (data := _read_output(directory / str(number))) is not None:
                compiled.add(bytecode_path(path, interpreter), data)
                (directory / str(number)).unlink()
    return compiled


@contextlib.contextmanager
def _count_files(directory: Path, total: int, advance: Advance) -> Iterator[None]:
    """Report the number of new files in a directory while the block runs; at its end the sum is always `total`."""
    done, over = 0, threading.Event()

    def count() -> None:
        nonlocal done
        while not over.wait(0.2):
            count_now = sum(path.name.isdigit() for path in directory.iterdir())
            advance(max(0, count_now - done))
            done = max(done, count_now)

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    advance(total - done)


_OPTIONS = ("-S", "-s", "-W", "ignore", "-c")
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
_Jobs = Sequence[tuple[int, str, Content]]


def _run(
    jobs: _Jobs, directory: Path, tree: Path, interpreter: Interpreter, workers: str, sandbox: Sandbox | None
) -> None:
    if sandbox is None:
        home = str(tree / interpreter.path.lstrip("/")).rpartition("/bin/")[0]
        command = [*python_command(tree, interpreter), *_OPTIONS, DRIVER, workers]
        env = {**_ENVIRONMENT, "PYTHONHOME": home}
        run(command, cwd=directory, env=env, stdin=_write_jobs(jobs, directory / "sources"))
        return
    # A sandbox has no standard input: the driver reads the jobs from a file.
    (directory / "jobs").write_bytes(_write_jobs(jobs, directory / "sources", b"/spool/sources"))
    driver = 'import posix; posix.dup2(posix.open("jobs", posix.O_RDONLY), 0)\n' + DRIVER
    libraries = interpreter.path.rpartition("/bin/")[0] + "/lib"
    command = [interpreter.path, *_OPTIONS, driver, workers]
    sandbox(tree, command, env={**_ENVIRONMENT, "LD_LIBRARY_PATH": libraries}, directory=directory, cwd="/spool")


def _read_output(path: Path) -> bytes | None:
    """Return a .pyc that was written, else None. Raises BaseImageError for a symlink, a FIFO or a huge file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BaseImageError(f"the base's Python wrote a .pyc that cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            raise BaseImageError("the base's Python wrote a .pyc that cannot be read")
        return stream.read()


def _write_jobs(sources: _Jobs, spool: Path, spool_inside: bytes = b"") -> bytes:
    """Return the jobs in the driver's format. Sources that are not files on disk are written to `spool`.

    `spool_inside`: the path of `spool` in the sandbox; then all sources are written to `spool`.
    """
    jobs = bytearray()
    with spool.open("wb") as stream:
        for unit, name, content in sources:
            if isinstance(content, Path) and not spool_inside:
                place = (os.fsencode(content.absolute()), 0, content.stat().st_size)
            else:
                start = stream.tell()
                with open_content(content) as source:
                    shutil.copyfileobj(source, stream)
                place = (spool_inside or os.fsencode(spool), start, stream.tell() - start)
            jobs += b"%d\0/%b\0%b\0%d\0%d\0" % (unit, name.encode(), *place)
    return bytes(jobs)


def python_command(tree: Path, interpreter: Interpreter) -> list[str]:
    """Return the start of a command line that runs a tree's interpreter with the tree's own loader and libraries.

    Raises BaseImageError if the interpreter is not a 64-bit ELF program.
    """
    program = inside(tree, interpreter.path)
    try:
        with program.open("rb") as stream:
            elf = read_elf(stream)
        if elf is None or elf.bits != 64:
            raise BaseImageError(_NOT_RUNNABLE.format(path=program, why="not a 64-bit ELF program"))
        loader = inside(tree, elf.interpreter)
    except OSError as error:
        raise BaseImageError(_NOT_RUNNABLE.format(path=program, why=error.strerror)) from error
    if not elf.interpreter:  # static
        return [str(program)]
    multiarch = [path for path in (tree / "usr/lib").glob("*-linux-*") if path.is_dir()]
    places = ["usr/local/lib", "lib", "usr/lib", "lib64", "usr/lib64"]
    libraries = [*(inside(tree, place) for place in places), *sorted(multiarch)]
    search = ":".join(dict.fromkeys(str(path) for path in libraries if path.is_dir()))
    # glibc's loader must not use the host's ld.so.cache. musl has neither a cache nor this option.
    options = [] if "musl" in elf.interpreter else ["--inhibit-cache"]
    return [str(loader), *options, "--library-path", search, str(program)]


def inside(root: Path, path: str) -> Path:
    """Return the file at a path in the tree `root`, following links inside `root`. Raises BaseImageError for a loop."""

    def readlink(place: str) -> str | None:
        file = root / place
        return str(file.readlink()) if file.is_symlink() else None

    return root / follow_links(path, readlink)
