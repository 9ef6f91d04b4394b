"""Compiler cache: a program that stands in the place of a compiler and keeps what that makes of each input.

gcc and g++, by whatever name a build calls them, run `cc1` and `cc1plus` to make assembly of C and C++; cargo runs
`rustc`. The program has the name of one of these, and the compiler itself has the same name after a dot. It runs in the
sandbox or in a stage of a Dockerfile, by the target's Python (3.9 or newer); standard library only.

An input is known by all that decides the result: all arguments, the working directory, and

    cc1, cc1plus   the preprocessed source, with the names and lines of all files that it comes from, and these lines
    rustc          the files of the crate's directory, what its build script made, the environment, and all that
                   decides the crates that it uses

so that a known input gives the very bytes that the compiler would make again. What is not understood is left to the
compiler. The cache is the directory DIRECTORY, which only builds of one project see. Its files are written whole under
another name first, and read by their checksum, so that builds at once are safe and a killed build leaves no harm.
"""

from __future__ import annotations

import marshal
import os
import stat
import sys
import time
import zlib
from _blake2 import blake2b  # hashlib looks for OpenSSL's first, which takes as long as a small file

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes longer to import than all the others
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

RECIPE = b"1"               # to be raised if the same input shall give another result
DIRECTORY = "/compiler-cache"
PATTERNS = ("usr/lib*/gcc/*/*/cc1", "usr/lib*/gcc/*/*/cc1plus", "usr/bin/rustc", "usr/lib/rust-*/bin/rustc")
LIMIT = 1_000_000_000       # bytes of a project's cache
MANY = 100_000              # files of it
UNFINISHED = 3600           # seconds after which an unfinished file is abandoned
SUFFIX = ".tmp"
UNTRACKED = "rust-untracked"  # a file: some crate reads files that its input does not have

# Options of cc1 for other results than assembly, for files beside it, or for inputs that preprocessing does not show:
# whole arguments, and how others begin.
REFUSED = frozenset({"-E", "-M", "-MM", "-P", "-", "-aux-info", "-output-pch", "--output-pch", "-imacros"})
REFUSED_STARTS = (
    "@", "-d", "-fauto-profile", "-fbranch-probabilities", "-fcallgraph-info", "-fcompare-debug",
    "-fcondition-coverage", "-fdeps", "-fdiagnostics-add", "-fdiagnostics-format", "-fdiagnostics-set",
    "-fdirectives-only", "-fdump", "-fmodule", "-fopt-info", "-fpath-coverage", "-fpch", "-fplugin", "-fpreprocessed",
    "-fprofile", "-fsave-optimization-record", "-fself-test", "-fstack-usage", "-fsyntax-only", "-ftest-coverage",
    "-g3", "-ggdb3", "-gsplit-dwarf",
)  # fmt: skip
AUXILIARY = ("-dumpbase", "-dumpbase-ext", "-dumpdir")  # they begin like -d, and name files that nothing here makes
APPENDED = ("DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES")  # variables: files that the preprocessor adds lines to
SCRATCH = ("/CMakeScratch/", "/meson-private/")  # of directories with random names, for questions to the compiler
MESSAGES = ("GCC_", "LANG", "LC_")          # prefixes of variables that decide its messages
PASSING = ("CARGO_MAKEFLAGS", "MAKEFLAGS", "MFLAGS", "OLDPWD", "PWD", "SHLVL", "_")  # variables of one run
SOURCES = "/build/src"
SYSTEM = ("/usr/", "/env/")                 # read-only, and the same for all builds with this cache
RUST_REFUSED = ("-", "-o", "-v", "-V", "--version", "--print")
RUST_REFUSED_STARTS = ("@", "-Z", "--extern=")
RUST_CODE = ("incremental", "instrument-coverage", "profile-generate", "profile-use", "save-temps")  # of -C
PYTHON = (".py", ".pyi", ".pyc")
METADATA = ("PKG-INFO", "__pycache__", ".git")


class Unknown(Exception):
    """A call that is left to the compiler."""


class Call:
    """A call whose result is kept: its key, and its files by their names in the cache."""

    def __init__(self, key: str, place: Callable[[str], str], made: Callable[[], list[str]]) -> None:
        self.key, self.place, self.made = key, place, made


def key_of(parts: Iterator[bytes]) -> str:
    """Return a key for some byte strings, each hashed with its length."""
    digest = blake2b(RECIPE, digest_size=32)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def spawn(compiler: str, command: list[str], captured: int, show: bool) -> tuple[int, bytes]:
    """Run the compiler; return its exit status and what it writes to a descriptor, which goes on to ours with `show`.

    Without `show` its messages are dropped.
    """
    reading, writing = os.pipe()
    actions: list[Any] = [(os.POSIX_SPAWN_DUP2, writing, captured)]
    if not show:
        actions.append((os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0))
    process = os.posix_spawn(compiler, command, os.environ, file_actions=actions)
    os.close(writing)
    pieces = []
    while piece := os.read(reading, 1 << 20):
        pieces.append(piece)
        if show:
            write_all(captured, piece)
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return status if status >= 0 else 128 - status, b"".join(pieces)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes to a descriptor, perhaps a pipe that takes them in pieces."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view):]


def c_call(name: str, compiler: str, place: str, arguments: list[str]) -> tuple[Call, list[str]]:
    """Return the call of cc1 or cc1plus, and the command that writes its assembly to a file; raise Unknown."""
    if arguments.count("-o") != 1 or any(variable in os.environ for variable in APPENDED):
        raise Unknown
    if any(part in f"{os.getcwd()}/" for part in SCRATCH):
        raise Unknown
    at = arguments.index("-o")
    output, rest = arguments[at + 1], [*arguments[:at], *arguments[at + 2:]]
    if any(word in REFUSED or (word.startswith(REFUSED_STARTS) and word not in AUXILIARY) for word in rest):
        raise Unknown
    if any(option == "-include" and os.path.exists(f"{rest[n + 1]}.gch") for n, option in enumerate(rest[:-1])):
        raise Unknown
    if output != "-" and os.path.lexists(output) and not stat.S_ISREG(os.lstat(output).st_mode):
        raise Unknown
    # With -MD it writes the file of dependencies, too.
    status, text = spawn(compiler, [place, "-E", *rest, "-o", "-"], 1, show=False)
    if status != 0 or b"#embed" in text or b"pch_preprocess" in text:
        raise Unknown

    deciding = [word for word, before in zip(rest, ["", *rest]) if not {word, before} & set(AUXILIARY)]  # noqa: B905
    if any(word.startswith("-flto") for word in rest):  # which puts its options into what it makes
        deciding = rest

    def parts() -> Iterator[bytes]:
        yield from map(os.fsencode, [name, os.getcwd(), *deciding])
        yield from (os.fsencode(f"{key}={os.environ[key]}") for key in sorted(os.environ) if key.startswith(MESSAGES))
        yield text
        yield from _lines(text)

    target = output if output != "-" else f"{os.environ['TMPDIR']}/{os.urandom(8).hex()}.s"
    return Call(key_of(parts()), lambda _: target, lambda: ["assembly"]), [place, *rest, "-o", target]


def _lines(text: bytes) -> Iterator[bytes]:
    """Yield the lines, but for directives, of the project's files that a preprocessed source comes from.

    It has neither their comments nor all their spaces, and yet the columns decide debug information, what
    std::source_location gives, and messages.
    """
    marks = (part.partition(b"\n")[0].split(b'"') for part in text.split(b"\n# "))
    for name in sorted({mark[1] for mark in marks if len(mark) == 3}):
        if not os.fsdecode(name).startswith(SYSTEM) and os.path.isfile(name):
            with open(name, "rb") as stream:
                yield b"".join(line for line in stream if not line.lstrip().startswith(b"#"))


def rust_call(place: str, arguments: list[str]) -> tuple[Call, list[str], set[str]]:
    """Return the call of rustc by cargo, its command, and the files of its input; raise Unknown."""
    values: dict[str, list[str]] = {}
    for option, value in zip(arguments, [*arguments[1:], ""]):  # noqa: B905 - Python 3.9
        if option in RUST_REFUSED or option.startswith(RUST_REFUSED_STARTS):
            raise Unknown
        if option in ("--crate-name", "--out-dir", "--extern", "-C", "-L"):
            values.setdefault(option, []).append(value)
        elif option.startswith(("-C", "-L")):
            values.setdefault(option[:2], []).append(option[2:])
    package, code = os.environ.get("CARGO_MANIFEST_DIR", ""), values.get("-C", [])
    known = package and all(len(values.get(option, [])) == 1 for option in ("--crate-name", "--out-dir"))
    tells = any(option.startswith("--emit=") and "dep-info," in f"{option}," for option in arguments)
    if not known or not tells or any(value.startswith(RUST_CODE) or "cpu=native" in value for value in code):
        raise Unknown
    if os.path.exists(os.path.join(DIRECTORY, UNTRACKED)):
        raise Unknown
    (crate,), (directory,) = values["--crate-name"], values["--out-dir"]
    stem = crate + next((value.partition("=")[2] for value in code if value.startswith("extra-filename=")), "")
    used = []
    for value in values.get("--extern", []):
        if path := value.partition("=")[2]:
            with open(os.path.splitext(path)[0] + ".key", "rb") as stream:  # of a crate that is in the cache itself
                used.append(stream.read())
    # A crate of others is published whole; one of the project may read any file of it.
    inside = package.startswith(SOURCES) and not os.path.exists(os.path.join(package, ".cargo-checksum.json"))
    top = SOURCES if inside else package
    libraries = [value.rpartition("=")[2] for value in values.get("-L", []) if not value.startswith("dependency=")]
    trees = [top, *(path for path in [os.environ.get("OUT_DIR", ""), *libraries] if path)]
    files = {path: file_digest(path) for tree in trees for path in walk(tree)}

    def parts() -> Iterator[bytes]:
        yield from map(os.fsencode, [os.getcwd(), *arguments])
        yield from (os.fsencode(f"{key}={os.environ[key]}") for key in sorted(os.environ) if key not in PASSING)
        yield from used
        for path in sorted(files):
            yield os.fsencode(path)
            yield files[path]

    def made() -> list[str]:
        names = [name for name in os.listdir(directory) if name in (stem, f"lib{stem}")]
        names += [name for name in os.listdir(directory) if name.startswith((f"{stem}.", f"lib{stem}."))]
        return sorted(name for name in names if not name.endswith(".key"))

    key = key_of(parts())
    for kind in (stem, f"lib{stem}"):  # before the crate is finished: cargo begins those that use it early
        write_file(os.path.join(directory, f"{kind}.key"), key.encode())
    return Call(key, lambda name: os.path.join(directory, name), made), [place, *arguments], set(files)


def walk(top: str) -> Iterator[str]:
    """Yield the files below a directory that Rust code may be made of, none outside of it or of the system's.

    Python's modules are among them only if a source names one; directories that are marked as caches are not, as
    cargo's own is.
    """
    if top.startswith(SYSTEM):
        return
    found, named = [], False
    for directory, subdirectories, names in os.walk(top):
        if "CACHEDIR.TAG" in names:
            subdirectories[:] = []
            continue
        subdirectories[:] = [name for name in subdirectories if name not in METADATA and not name.endswith(".egg-info")]
        for name in names:
            path = os.path.join(directory, name)
            if name not in METADATA and os.path.isfile(path):
                found.append(path)
            if name.endswith(".rs") and not named:
                with open(path, "rb") as stream:
                    text = stream.read()
                named = any(f'{suffix}"'.encode() in text for suffix in PYTHON)
    yield from (path for path in found if named or not path.endswith(PYTHON))


def file_digest(path: str) -> bytes:
    """Return the hash of a file."""
    digest = blake2b(digest_size=32)
    with open(path, "rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.digest()


def is_tracked(call: Call, files: set[str]) -> bool:
    """Return whether a crate was made of its input alone, by what rustc says that it read; note it if it was not."""
    for name in call.made():
        if name.endswith(".d"):
            with open(call.place(name), encoding="utf-8", errors="surrogateescape") as stream:
                lines = [line.partition(": ")[2] for line in stream if not line.startswith("#")]
            text = " ".join(lines).replace("\\ ", "\0")
            paths = (os.path.join(os.getcwd(), path.replace("\0", " ")) for path in text.split())
            if any(os.path.normpath(path) not in files and not path.startswith(SYSTEM) for path in paths):
                write_file(os.path.join(DIRECTORY, UNTRACKED), b"")
                return False
    return True


def restore(call: Call) -> bytes | None:
    """Write the files of a known call; return the messages of the compiler, None for one that is not known."""
    path = os.path.join(DIRECTORY, call.key)
    try:
        with open(path, "rb") as stream:
            checksum, packed = stream.read(32), stream.read()
    except FileNotFoundError:
        return None
    if blake2b(packed, digest_size=32).digest() != checksum:
        os.unlink(path)
        return None
    messages, files = marshal.loads(zlib.decompress(packed))  # noqa: S302 - of builds of this project
    for name, (mode, data) in files.items():
        write_file(call.place(name), data, mode)
    os.utime(path)
    return messages  # type: ignore[no-any-return]


def keep(call: Call, messages: bytes) -> None:
    """Keep the files of a call and the messages of the compiler; without room or permission they are not kept."""
    files = {}
    for name in call.made():
        with open(call.place(name), "rb") as stream:
            files[name] = stat.S_IMODE(os.fstat(stream.fileno()).st_mode), stream.read()
    packed = zlib.compress(marshal.dumps((messages, files)), 1)
    try:
        write_file(os.path.join(DIRECTORY, call.key), blake2b(packed, digest_size=32).digest() + packed)
    except OSError:
        pass


def write_file(path: str, data: bytes, mode: int = 0o644) -> None:
    """Write a file, whole or not at all."""
    temporary = f"{path}.{os.urandom(8).hex()}{SUFFIX}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
        os.fchmod(descriptor, mode)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)


def compile_once(name: str, compiler: str, place: str, arguments: list[str]) -> int:
    """Return the compiler's exit status for some arguments, and do what it does, out of the cache if it is known."""
    files: set[str] | None = None
    if name == "rustc":
        call, command, files = rust_call(place, arguments)
    else:
        call, command = c_call(name, compiler, place, arguments)
    streamed = name != "rustc" and arguments[arguments.index("-o") + 1] == "-"
    try:
        messages, status = restore(call), 0
        if messages is not None:
            write_all(2, messages)
        else:
            status, messages = spawn(compiler, command, 2, show=True)
            if status == 0 and (files is None or is_tracked(call, files)):
                keep(call, messages)
        if streamed and status == 0:
            with open(call.place(""), "rb") as stream:
                write_all(1, stream.read())
    finally:
        if streamed and os.path.exists(call.place("")):
            os.unlink(call.place(""))
    return status


def main() -> None:
    """Compile out of the cache, or become the compiler."""
    place = os.path.realpath(sys.argv[0])
    directory, name = os.path.split(place)
    compiler, arguments = os.path.join(directory, f".{name}"), sys.argv[1:]
    if os.path.isdir(DIRECTORY):
        try:
            status = compile_once(name, compiler, sys.argv[0], arguments)
        except Exception:  # noqa: BLE001 - unknown, or not as expected: the compiler does it, or says what fails
            pass
        else:
            os._exit(status)
    os.execv(compiler, [sys.argv[0], *arguments])  # noqa: S606


def find_compilers(root: Path) -> list[Path]:
    """Return the compilers of a system whose results are kept, relative to its root."""
    found = [path for pattern in PATTERNS for path in sorted(root.glob(pattern)) if path.is_file()]
    return [path.relative_to(root) for path in found if not path.is_symlink()]


def program(python: str, source: str) -> str:
    """Return this program, the text of its file, as one that an interpreter runs."""
    return f"#!{python} -IS\n{source}"


def take_places(root: Path, python: str) -> None:
    """Put this program into the places of a system's compilers, which get a dot before their names."""
    with open(__file__, encoding="utf-8") as stream:
        text = program(python, stream.read())
    for compiler in find_compilers(root):
        path = root / compiler
        ours = path.with_name(f".{path.name}{SUFFIX}")
        ours.write_text(text, encoding="utf-8")
        ours.chmod(0o755)
        path.rename(path.with_name(f".{path.name}"))
        ours.rename(path)


def trim(directory: str, limit: int = LIMIT) -> None:
    """Remove what does not belong into a cache, and the results that were not used for the longest time above `limit`.

    Builds write there what they like. Raise ValueError if something in it is not a file, or it has too many of them,
    and OSError if it cannot be read: then it is to be removed whole.
    """
    found = []
    import contextlib

    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # another build finishes a file
                status = entry.stat(follow_symlinks=False)
                found.append((status.st_mtime, status.st_blocks * 512, entry.path))
                if not stat.S_ISREG(status.st_mode) or len(found) > MANY:
                    raise ValueError(f"{entry.name[:80]!r} does not belong into the compiler cache")
    size = sum(blocks for _, blocks, _ in found)
    for used, blocks, path in sorted(found):
        abandoned = path.endswith(SUFFIX) and used < time.time() - UNFINISHED
        if abandoned or size > limit:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            size -= blocks


def trim_mounted(directory: str) -> None:
    """Trim a cache whose directory cannot be removed: instead all that is in it is."""
    try:
        trim(directory)
    except (ValueError, OSError):
        import shutil

        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
