"""Compiler cache: a program that stands in the place of a compiler and keeps what that makes of each input.

gcc and g++, by whatever name a build calls them, run `cc1` and `cc1plus` to make assembly of C and C++; cargo runs
`rustc`. The program has the name of one of these, and the compiler itself has the same name after a dot. It runs in the
sandbox or in a stage of a Dockerfile, by the target's Python (3.9 or newer); standard library only.

An input is known by all that decides the result: all arguments, the working directory, and

    cc1, cc1plus   the preprocessed source, with the names and lines of all files that it comes from, and these lines
    rustc          the files of the crate's directory, what its build script made, the environment, and all that
                   decides the crates that it uses

so that a known input gives the very bytes that the compiler would make again. What is not understood is left to the
compiler. A C file is also known without preprocessing, by what decides that: the arguments, the environment, the files
that it read, and the names of all files where it looks for them, see `Direct`.

The cache is the directory DIRECTORY, which only builds of one project see. Its files are written whole under another
name first, and read by their checksum, so that builds at once are safe and a killed build leaves no harm.
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
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

RECIPE = b"1"               # to be raised if the same input shall give another result
DIRECTORY = "/compiler-cache"
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

# Of a call whose preprocessed source is never taken for known: how arguments begin, and words in the project's files
# and in arguments. They look for files in places that are not listed, or tell the time of a file.
INDIRECT_STARTS = ("-I-", "-MG", "-idirafter", "-imultilib", "-include", "-iprefix", "-isystem", "-iwith")
INDIRECT = (b"has_include", b"has_embed", b"system_header", b"STAMP__")
OBJECTS = (".a", ".d", ".lo", ".o", ".so")  # suffixes of files that a build makes meanwhile, and that are not listed
LISTED = 2000               # names where a call looks for files
TICK = 0.02                 # seconds by which the times of files may be behind the clock
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


def key_of(parts: Iterable[bytes]) -> str:
    """Return a key for some byte strings, each hashed with its length."""
    digest = blake2b(RECIPE, digest_size=32)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def spawn(compiler: str, command: list[str]) -> tuple[int, bytes]:
    """Run the compiler; return its exit status and its messages, which are shown."""
    reading, writing = os.pipe()
    process = os.posix_spawn(compiler, command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writing, 2)])
    os.close(writing)
    pieces = []
    while piece := os.read(reading, 1 << 20):
        pieces.append(piece)
        write_all(2, piece)
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return status if status >= 0 else 128 - status, b"".join(pieces)


def preprocess(compiler: str, command: list[str]) -> tuple[bytes, bytes]:
    """Return what the preprocessor makes, and its messages, in English; raise Unknown if it fails."""
    files = [os.memfd_create(name) for name in ("source", "messages")]
    actions = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate(files, 1)]
    environ = {**os.environ, "LC_ALL": "C", "LANGUAGE": "C"}
    process = os.posix_spawn(compiler, command, environ, file_actions=actions)
    if os.waitpid(process, 0)[1] != 0:
        raise Unknown
    source, messages = (os.pread(file, os.fstat(file).st_size, 0) for file in files)
    if b"#embed" in source or b"pch_preprocess" in source:
        raise Unknown
    return source, messages


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
    target = output if output != "-" else f"{os.environ['TMPDIR']}/{os.urandom(8).hex()}.s"
    direct = Direct(name, rest)
    key = direct.recall() or _preprocessed_key(name, compiler, place, rest, direct)
    return Call(key, lambda _: target, lambda: ["assembly"]), [place, *rest, "-o", target]


def _preprocessed_key(name: str, compiler: str, place: str, rest: list[str], direct: Direct) -> str:
    # With -MD it writes the file of dependencies, too.
    text, messages = preprocess(compiler, [place, "-E", "-v", *rest, "-o", "-"])
    deciding = [word for word, before in zip(rest, ["", *rest]) if not {word, before} & set(AUXILIARY)]  # noqa: B905
    if any(word.startswith("-flto") for word in rest):  # which puts its options into what it makes
        deciding = rest

    def parts() -> Iterator[bytes]:
        yield from map(os.fsencode, [name, os.getcwd(), *deciding])
        yield from (os.fsencode(f"{key}={os.environ[key]}") for key in sorted(os.environ) if key.startswith(MESSAGES))
        yield text
        # It has neither the comments nor all the spaces of the project's files, and yet the columns decide debug
        # information, what std::source_location gives, and messages.
        for path in paths:
            with open(path, "rb") as stream:
                yield b"".join(line for line in stream if not line.lstrip().startswith(b"#"))

    paths = _read_paths(text)
    key = key_of(parts())
    direct.keep(key, paths, messages)
    return key


def _read_paths(text: bytes) -> list[str]:
    """Return the project's files that a preprocessed source comes from."""
    marks = (part.partition(b"\n")[0].split(b'"') for part in text.split(b"\n# "))
    names = sorted({os.fsdecode(mark[1]) for mark in marks if len(mark) == 3})
    return [name for name in names if not is_system(name) and os.path.isfile(name)]


class Direct:
    """Key of a C file without preprocessing, of the call that was made last with these arguments and variables.

    It is as before if the files that were read then have the same bytes, and where the preprocessor looks for files
    there are the same names: a new one may come before another, or precompile it. That is where these files are, and
    where options say; in each of these directories, and below it. Nothing outside of them is asked for, as long as the
    files have no `..` in their paths, and no `__has_include`. A file may also be left out because another one has its
    bytes (`#pragma once`); so two such files are not understood.
    """

    def __init__(self, name: str, rest: list[str]) -> None:
        self.started = time.time()
        words = [os.fsencode(word) for word in rest]
        environ = [os.fsencode(f"{key}={os.environ[key]}") for key in sorted(os.environ) if key not in PASSING]
        at = [n for n, word in enumerate(rest) if word in ("-MD", "-MMD", "-MF")]
        self.dependencies = rest[at[-1] + 1] if at else ""
        self.known = (
            "SOURCE_DATE_EPOCH" in os.environ  # otherwise the time of day may be in a source
            and not any(key.endswith("INCLUDE_PATH") or key == "CPATH" for key in os.environ)
            and not any(word.startswith(INDIRECT_STARTS) for word in rest)
            and not any(part in word for word in words for part in (*INDIRECT, b"\n"))
            and (len(at) <= 1 or (len(at) == 2 and rest[at[1]] == "-MF"))
            and not (self.dependencies and os.path.lexists(self.dependencies))
        )
        self.key = key_of([b"direct", os.fsencode(name), os.fsencode(os.getcwd()), *words, b"", *environ,
                           os.fsencode(os.environ.get("PWD", ""))])  # fmt: skip

    def recall(self) -> str:
        """Return the key, and write the file of dependencies; "" if it is not known."""
        entry = read_entry(self.key) if self.known else None
        try:
            if entry is None:
                return ""
            key, decisive, trees, names, dependencies = entry
            if any(file_digest(path) != digest for path, digest in decisive.items()) or names_below(trees) != names:
                return ""
        except (OSError, Unknown):
            return ""
        if self.dependencies:
            write_file(self.dependencies, dependencies)
        return str(key)

    def keep(self, key: str, paths: list[str], messages: bytes) -> None:
        """Keep the key under what decides it, unless that is not understood, or was written during this call."""
        try:
            hidden = any(".." in path.split("/") or path.endswith(OBJECTS) for path in paths)  # from the listings
            if not self.known or hidden or any(contains(path, INDIRECT) for path in paths):
                return
            trees = _search_directories(messages, paths)
            names = names_below(trees)
            decisive = {path: file_digest(path) for path in self._deciding(paths, names)}
            dependencies = b""
            if self.dependencies:
                with open(self.dependencies, "rb") as stream:
                    dependencies = stream.read()
            write_entry(self.key, (key, decisive, trees, names, dependencies))
        except (OSError, ValueError, Unknown):
            pass

    def _deciding(self, paths: list[str], names: list[str]) -> list[str]:
        """Return the files that were read, and the listed ones of the same sizes.

        Raise Unknown if two have the same bytes, or one is new.
        """
        files: dict[tuple[int, int], str] = {}  # by device and inode
        sizes = {os.path.getsize(path) for path in paths}
        for path in [*paths, *filter(os.path.exists, names)]:
            entry = os.stat(path)
            if entry.st_ctime > self.started - TICK or entry.st_nlink > 1:
                raise Unknown
            if entry.st_size in sizes:
                files.setdefault((entry.st_dev, entry.st_ino), path)
        if len({file_digest(path) for path in files.values()}) < len(files):
            raise Unknown
        return [*paths, *(path for path in files.values() if path not in paths)]


def _search_directories(messages: bytes, paths: list[str]) -> list[str]:
    """Return the directories, but for the system's, where a preprocessor looked for files; also those that are missing.

    Raise ValueError if its messages do not tell.
    """
    lines = [os.fsdecode(line) for line in messages.split(b"\n")]
    last = lines.index("End of search list.")
    found = [line[1:] for line in lines[lines.index('#include "..." search starts here:'):last] if line[:1] == " "]
    missing = 'ignoring nonexistent directory "'
    found += [line[len(missing):-1] for line in lines[:last] if line.startswith(missing)]
    found += [os.path.dirname(path) or "." for path in paths]
    return sorted({path for path in found if not is_system(path)})


def is_system(path: str) -> bool:
    """Return whether a path is one of the system's, which is the same for all builds with this cache."""
    return (os.path.realpath(path) if ".." in path else path).startswith(SYSTEM)


def names_below(trees: list[str]) -> list[str]:
    """Return the paths of the files in directories, without objects; raise Unknown for links, or for too many."""
    names, waiting = [], list(trees)
    while waiting:
        top = waiting.pop()
        try:
            with os.scandir(top) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        raise Unknown
                    if entry.is_dir():
                        waiting.append(entry.path)
                    elif not entry.name.endswith(OBJECTS):
                        names.append(entry.path)
        except FileNotFoundError:
            names.append(f"{top}/")
        if len(names) + len(waiting) > LISTED:
            raise Unknown
    return sorted(names)


def contains(path: str, words: tuple[bytes, ...]) -> bool:
    """Return whether a file has one of some words."""
    with open(path, "rb") as stream:
        text = stream.read()
    return any(word in text for word in words)


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
    entry = read_entry(call.key)
    if entry is None:
        return None
    messages, files = entry
    for name, (mode, data) in files.items():
        write_file(call.place(name), data, mode)
    return messages  # type: ignore[no-any-return]


def keep(call: Call, messages: bytes) -> None:
    """Keep the files of a call and the messages of the compiler; without room or permission they are not kept."""
    files = {}
    for name in call.made():
        with open(call.place(name), "rb") as stream:
            files[name] = stat.S_IMODE(os.fstat(stream.fileno()).st_mode), stream.read()
    try:
        write_entry(call.key, (messages, files))
    except OSError:
        pass


def read_entry(key: str) -> Any:
    """Return a value of the cache, and note that it was used; None if it is not there or damaged."""
    path = os.path.join(DIRECTORY, key)
    try:
        with open(path, "rb") as stream:
            checksum, packed = stream.read(32), stream.read()
    except FileNotFoundError:
        return None
    if blake2b(packed, digest_size=32).digest() != checksum:
        os.unlink(path)
        return None
    os.utime(path)
    return marshal.loads(zlib.decompress(packed))  # noqa: S302 - of builds of this project


def write_entry(key: str, value: Any) -> None:
    """Put a value into the cache, whole or not at all."""
    packed = zlib.compress(marshal.dumps(value), 1)
    write_file(os.path.join(DIRECTORY, key), blake2b(packed, digest_size=32).digest() + packed)


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
            status, messages = spawn(compiler, command)
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


if __name__ == "__main__":
    main()
