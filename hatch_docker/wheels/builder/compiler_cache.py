"""Compiler cache: a program that runs instead of a compiler and stores the compiler's output for each input.

gcc and g++, under any name, run `cc1` and `cc1plus` to compile C and C++ to assembly; cargo runs `rustc`. This program
has the name of one of these compilers. The compiler itself is beside it, with a dot before the same name. The program
runs in the sandbox or in a stage of a Dockerfile, with the target's Python (3.9 or newer); standard library only.

The key of an input contains everything that affects the output: all arguments, the working directory, and

    cc1, cc1plus   the preprocessed source, with the names and line numbers of all its files, and the files' lines
    rustc          the files of the crate's directory, the output of its build script, the environment, and the keys
                   of the crates that it uses

So the stored output has the same bytes as a new compilation. Calls that this program does not understand are passed to
the compiler. A C file can also be found without preprocessing, by everything that affects the preprocessor: the
arguments, the environment, the files that it read, and the names of all files in its search path; see `Direct`.

The cache is the directory DIRECTORY, which only builds of one project can access. Files are written under a temporary
name and renamed, and verified by checksum when they are read. So concurrent and killed builds are safe.
"""

from __future__ import annotations

import marshal
import os
import stat
import sys
import time
import zlib
from _blake2 import blake2b  # hashlib tries OpenSSL first, which takes as long as compiling a small file

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes longer to import than all other modules
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

RECIPE = b"1"               # increase it if the same input must give another result
DIRECTORY = "/compiler-cache"
SUFFIX = ".tmp"
UNTRACKED = "rust-untracked"  # marker file: a crate reads files that its key does not contain

# Options of cc1 for output other than assembly, for additional files, or for inputs that are not in the preprocessed
# source: complete arguments, and prefixes.
REFUSED = frozenset({"-E", "-M", "-MM", "-P", "-", "-aux-info", "-output-pch", "--output-pch", "-imacros"})
REFUSED_STARTS = (
    "@", "-d", "-fauto-profile", "-fbranch-probabilities", "-fcallgraph-info", "-fcompare-debug",
    "-fcondition-coverage", "-fdeps", "-fdiagnostics-add", "-fdiagnostics-format", "-fdiagnostics-set",
    "-fdirectives-only", "-fdump", "-fmodule", "-fopt-info", "-fpath-coverage", "-fpch", "-fplugin", "-fpreprocessed",
    "-fprofile", "-fsave-optimization-record", "-fself-test", "-fstack-usage", "-fsyntax-only", "-ftest-coverage",
    "-g3", "-ggdb3", "-gsplit-dwarf",
)  # fmt: skip
AUXILIARY = ("-dumpbase", "-dumpbase-ext", "-dumpdir")  # allowed, although they begin with -d
APPENDED = ("DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES")  # files that the preprocessor appends to
SCRATCH = ("/CMakeScratch/", "/meson-private/")  # parts of temporary paths for checks of the compiler
MESSAGES = ("GCC_", "LANG", "LC_")          # prefixes of variables that affect messages
PER_RUN = ("CARGO_MAKEFLAGS", "MAKEFLAGS", "MFLAGS", "OLDPWD", "PWD", "SHLVL", "_")  # variables that differ in each run

# A call is always preprocessed if its arguments have these prefixes, or if arguments or the project's files contain
# these words. They search for files in directories that are not listed, or contain the time of a file.
INDIRECT_STARTS = ("-I-", "-MG", "-idirafter", "-imultilib", "-include", "-iprefix", "-isystem", "-iwith")
INDIRECT = (b"has_include", b"has_embed", b"system_header", b"STAMP__")
OBJECTS = (".a", ".d", ".lo", ".o", ".so")  # suffixes of files that a build writes; they are not listed
LISTED = 2000               # maximum number of files in the search path of a call
TICK = 0.02                 # seconds by which the times of files may lag behind the clock
SOURCES = "/build/src"
SYSTEM = ("/usr/", "/env/")                 # read-only, and the same for all builds with this cache
RUST_REFUSED = ("-", "-o", "-v", "-V", "--version", "--print")
RUST_REFUSED_STARTS = ("@", "-Z", "--extern=")
RUST_CODE = ("incremental", "instrument-coverage", "profile-generate", "profile-use", "save-temps")  # of -C
PYTHON = (".py", ".pyi", ".pyc")
METADATA = ("PKG-INFO", "__pycache__", ".git")


class NotCacheable(Exception):
    """A call that is passed to the compiler."""


class Call:
    """A call whose output can be stored: its key, the names of its output files, and the path for each name."""

    def __init__(self, key: str, path_of: Callable[[str], str], outputs: Callable[[], list[str]]) -> None:
        self.key, self.path_of, self.outputs = key, path_of, outputs


def key_of(parts: Iterable[bytes]) -> str:
    """Return a key for byte strings; each is hashed with its length."""
    digest = blake2b(RECIPE, digest_size=32)
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.hexdigest()


def spawn(compiler: str, command: list[str]) -> tuple[int, bytes]:
    """Run the compiler and show its messages; return its exit status and the messages."""
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
    """Return the preprocessed source and the preprocessor's messages in English; raise NotCacheable if it fails."""
    files = [os.memfd_create(name) for name in ("source", "messages")]
    actions = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate(files, 1)]
    environ = {**os.environ, "LC_ALL": "C", "LANGUAGE": "C"}
    process = os.posix_spawn(compiler, command, environ, file_actions=actions)
    if os.waitpid(process, 0)[1] != 0:
        raise NotCacheable
    source, messages = (os.pread(file, os.fstat(file).st_size, 0) for file in files)
    if b"#embed" in source or b"pch_preprocess" in source:
        raise NotCacheable
    return source, messages


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes to a descriptor, which may be a pipe that accepts only a part of them at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view):]


def c_call(name: str, compiler: str, argv0: str, arguments: list[str]) -> tuple[Call, list[str]]:
    """Return the call of cc1 or cc1plus, and the command that writes the assembly to a file; raise NotCacheable."""
    if arguments.count("-o") != 1 or any(variable in os.environ for variable in APPENDED):
        raise NotCacheable
    if any(part in f"{os.getcwd()}/" for part in SCRATCH):
        raise NotCacheable
    at = arguments.index("-o")
    output, rest = arguments[at + 1], [*arguments[:at], *arguments[at + 2:]]
    if any(word in REFUSED or (word.startswith(REFUSED_STARTS) and word not in AUXILIARY) for word in rest):
        raise NotCacheable
    if any(option == "-include" and os.path.exists(f"{rest[n + 1]}.gch") for n, option in enumerate(rest[:-1])):
        raise NotCacheable
    if output != "-" and os.path.lexists(output) and not stat.S_ISREG(os.lstat(output).st_mode):
        raise NotCacheable
    target = output if output != "-" else f"{os.environ['TMPDIR']}/{os.urandom(8).hex()}.s"
    direct = Direct(name, rest)
    key = direct.recall() or _preprocessed_key(name, compiler, argv0, rest, direct)
    return Call(key, lambda _: target, lambda: ["assembly"]), [argv0, *rest, "-o", target]


def _preprocessed_key(name: str, compiler: str, argv0: str, rest: list[str], direct: Direct) -> str:
    # With -MD the preprocessor writes the file of dependencies too.
    text, messages = preprocess(compiler, [argv0, "-E", "-v", *rest, "-o", "-"])
    deciding = [word for word, before in zip(rest, ["", *rest]) if not {word, before} & set(AUXILIARY)]  # noqa: B905
    if any(word.startswith("-flto") for word in rest):  # the output then contains the options
        deciding = rest

    def parts() -> Iterator[bytes]:
        yield from map(os.fsencode, [name, os.getcwd(), *deciding])
        yield from (os.fsencode(f"{key}={os.environ[key]}") for key in sorted(os.environ) if key.startswith(MESSAGES))
        yield text
        # The preprocessed source lacks comments and some spaces of the project's files, but column numbers affect
        # debug information, std::source_location and messages.
        for path in paths:
            with open(path, "rb") as stream:
                yield b"".join(line for line in stream if not line.lstrip().startswith(b"#"))

    paths = _read_paths(text)
    key = key_of(parts())
    direct.keep(key, paths, messages)
    return key


def _read_paths(text: bytes) -> list[str]:
    """Return the paths of the project's files in a preprocessed source."""
    marks = (part.partition(b"\n")[0].split(b'"') for part in text.split(b"\n# "))
    names = sorted({os.fsdecode(mark[1]) for mark in marks if len(mark) == 3})
    return [name for name in names if not is_system(name) and os.path.isfile(name)]


class Direct:
    """The key of a C file without preprocessing: the key of the last call with the same arguments and variables.

    It is still valid if all files that were read then have the same bytes, and if the directories of the search path,
    with their subdirectories, contain the same file names: a new file could be found before another one, or be a
    precompiled header. The search path consists of the directories of these files and those in options. No other
    directory is searched if the paths have no `..` and the files no `__has_include`. `#pragma once` skips a file that
    has the same bytes as an earlier one. So calls with two equal files are not stored.
    """

    def __init__(self, name: str, rest: list[str]) -> None:
        self.started = time.time()
        words = [os.fsencode(word) for word in rest]
        environ = [os.fsencode(f"{key}={os.environ[key]}") for key in sorted(os.environ) if key not in PER_RUN]
        at = [n for n, word in enumerate(rest) if word in ("-MD", "-MMD", "-MF")]
        self.dependencies = rest[at[-1] + 1] if at else ""
        self.known = (
            "SOURCE_DATE_EPOCH" in os.environ  # otherwise __TIME__ is the current time
            and not any(key.endswith("INCLUDE_PATH") or key == "CPATH" for key in os.environ)
            and not any(word.startswith(INDIRECT_STARTS) for word in rest)
            and not any(part in word for word in words for part in (*INDIRECT, b"\n"))
            and (len(at) <= 1 or (len(at) == 2 and rest[at[1]] == "-MF"))
            and not (self.dependencies and os.path.lexists(self.dependencies))
        )
        self.key = key_of([b"direct", os.fsencode(name), os.fsencode(os.getcwd()), *words, b"", *environ,
                           os.fsencode(os.environ.get("PWD", ""))])  # fmt: skip

    def recall(self) -> str:
        """Return the key, and write the file of dependencies; "" if there is no valid key."""
        entry = read_entry(self.key) if self.known else None
        try:
            if entry is None:
                return ""
            key, decisive, trees, names, dependencies = entry
            if any(file_digest(path) != digest for path, digest in decisive.items()) or names_below(trees) != names:
                return ""
        except (OSError, NotCacheable):
            return ""
        if self.dependencies:
            write_file(self.dependencies, dependencies)
        return str(key)

    def keep(self, key: str, paths: list[str], messages: bytes) -> None:
        """Store the key, unless the call is not understood or one of its files was written during the call."""
        try:
            hidden = any(".." in path.split("/") or path.endswith(OBJECTS) for path in paths)  # from `names_below`
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
        except (OSError, ValueError, NotCacheable):
            pass

    def _deciding(self, paths: list[str], names: list[str]) -> list[str]:
        """Return the files that were read, and the listed files of the same sizes.

        Raise NotCacheable if two of them have the same bytes, or one is new.
        """
        files: dict[tuple[int, int], str] = {}  # by device and inode
        sizes = {os.path.getsize(path) for path in paths}
        for path in [*paths, *filter(os.path.exists, names)]:
            entry = os.stat(path)
            if entry.st_ctime > self.started - TICK or entry.st_nlink > 1:
                raise NotCacheable
            if entry.st_size in sizes:
                files.setdefault((entry.st_dev, entry.st_ino), path)
        if len({file_digest(path) for path in files.values()}) < len(files):
            raise NotCacheable
        return [*paths, *(path for path in files.values() if path not in paths)]


def _search_directories(messages: bytes, paths: list[str]) -> list[str]:
    """Return the directories of the preprocessor's search path without the system's; also those that do not exist.

    Raise ValueError if the messages do not list them.
    """
    lines = [os.fsdecode(line) for line in messages.split(b"\n")]
    last = lines.index("End of search list.")
    found = [line[1:] for line in lines[lines.index('#include "..." search starts here:'):last] if line[:1] == " "]
    missing = 'ignoring nonexistent directory "'
    found += [line[len(missing):-1] for line in lines[:last] if line.startswith(missing)]
    found += [os.path.dirname(path) or "." for path in paths]
    return sorted({path for path in found if not is_system(path)})


def is_system(path: str) -> bool:
    """Return whether a path is below a system directory, which is the same for all builds with this cache."""
    return (os.path.realpath(path) if ".." in path else path).startswith(SYSTEM)


def names_below(trees: list[str]) -> list[str]:
    """Return the paths of the files in directories, without objects; raise NotCacheable for links or too many files."""
    names, waiting = [], list(trees)
    while waiting:
        top = waiting.pop()
        try:
            with os.scandir(top) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        raise NotCacheable
                    if entry.is_dir():
                        waiting.append(entry.path)
                    elif not entry.name.endswith(OBJECTS):
                        names.append(entry.path)
        except FileNotFoundError:
            names.append(f"{top}/")
        if len(names) + len(waiting) > LISTED:
            raise NotCacheable
    return sorted(names)


def contains(path: str, words: tuple[bytes, ...]) -> bool:
    """Return whether a file contains one of the words."""
    with open(path, "rb") as stream:
        text = stream.read()
    return any(word in text for word in words)


def rust_call(argv0: str, arguments: list[str]) -> tuple[Call, list[str], set[str]]:
    """Return the call of rustc by cargo, its command, and the files in its key; raise NotCacheable."""
    values: dict[str, list[str]] = {}
    for option, value in zip(arguments, [*arguments[1:], ""]):  # noqa: B905 - Python 3.9
        if option in RUST_REFUSED or option.startswith(RUST_REFUSED_STARTS):
            raise NotCacheable
        if option in ("--crate-name", "--out-dir", "--extern", "-C", "-L"):
            values.setdefault(option, []).append(value)
        elif option.startswith(("-C", "-L")):
            values.setdefault(option[:2], []).append(option[2:])
    package, code = os.environ.get("CARGO_MANIFEST_DIR", ""), values.get("-C", [])
    known = package and all(len(values.get(option, [])) == 1 for option in ("--crate-name", "--out-dir"))
    tells = any(option.startswith("--emit=") and "dep-info," in f"{option}," for option in arguments)
    if not known or not tells or any(value.startswith(RUST_CODE) or "cpu=native" in value for value in code):
        raise NotCacheable
    if os.path.exists(os.path.join(DIRECTORY, UNTRACKED)):
        raise NotCacheable
    (crate,), (directory,) = values["--crate-name"], values["--out-dir"]
    stem = crate + next((value.partition("=")[2] for value in code if value.startswith("extra-filename=")), "")
    used = []
    for value in values.get("--extern", []):
        if path := value.partition("=")[2]:
            with open(os.path.splitext(path)[0] + ".key", "rb") as stream:  # of a crate that is in the cache
                used.append(stream.read())
    # A published crate is complete in its directory; a crate of the project may read any file of the project.
    inside = package.startswith(SOURCES) and not os.path.exists(os.path.join(package, ".cargo-checksum.json"))
    top = SOURCES if inside else package
    libraries = [value.rpartition("=")[2] for value in values.get("-L", []) if not value.startswith("dependency=")]
    trees = [top, *(path for path in [os.environ.get("OUT_DIR", ""), *libraries] if path)]
    files = {path: file_digest(path) for tree in trees for path in walk(tree)}

    def parts() -> Iterator[bytes]:
        yield from map(os.fsencode, [os.getcwd(), *arguments])
        yield from (os.fsencode(f"{key}={os.environ[key]}") for key in sorted(os.environ) if key not in PER_RUN)
        yield from used
        for path in sorted(files):
            yield os.fsencode(path)
            yield files[path]

    def outputs() -> list[str]:
        names = [name for name in os.listdir(directory) if name in (stem, f"lib{stem}")]
        names += [name for name in os.listdir(directory) if name.startswith((f"{stem}.", f"lib{stem}."))]
        return sorted(name for name in names if not name.endswith(".key"))

    key = key_of(parts())
    for kind in (stem, f"lib{stem}"):  # before the crate is finished, because cargo starts dependent crates early
        write_file(os.path.join(directory, f"{kind}.key"), key.encode())
    return Call(key, lambda name: os.path.join(directory, name), outputs), [argv0, *arguments], set(files)


def walk(top: str) -> Iterator[str]:
    """Yield the files below a directory that a crate may read, none below the system's directories.

    Python modules are included only if a source names one. Directories marked as caches, such as cargo's, are skipped.
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
    """Return whether rustc read only files that are in the key, by its .d file. If not, mark the cache as UNTRACKED."""
    for name in call.outputs():
        if name.endswith(".d"):
            with open(call.path_of(name), encoding="utf-8", errors="surrogateescape") as stream:
                lines = [line.partition(": ")[2] for line in stream if not line.startswith("#")]
            text = " ".join(lines).replace("\\ ", "\0")
            paths = (os.path.join(os.getcwd(), path.replace("\0", " ")) for path in text.split())
            if any(os.path.normpath(path) not in files and not path.startswith(SYSTEM) for path in paths):
                write_file(os.path.join(DIRECTORY, UNTRACKED), b"")
                return False
    return True


def restore(call: Call) -> bytes | None:
    """Write the output files of a stored call and return the compiler's messages; None if the call is not stored."""
    entry = read_entry(call.key)
    if entry is None:
        return None
    messages, files = entry
    for name, (mode, data) in files.items():
        write_file(call.path_of(name), data, mode)
    return messages  # type: ignore[no-any-return]


def keep(call: Call, messages: bytes) -> None:
    """Store the output files of a call and the compiler's messages. Errors of the disk or permissions are ignored."""
    files = {}
    for name in call.outputs():
        with open(call.path_of(name), "rb") as stream:
            files[name] = stat.S_IMODE(os.fstat(stream.fileno()).st_mode), stream.read()
    try:
        write_entry(call.key, (messages, files))
    except OSError:
        pass


def read_entry(key: str) -> Any:
    """Return a value of the cache and update its time of use; None if it is missing or damaged."""
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
    return marshal.loads(zlib.decompress(packed))  # noqa: S302 - written by builds of this project


def write_entry(key: str, value: Any) -> None:
    """Write a value to the cache, atomically."""
    packed = zlib.compress(marshal.dumps(value), 1)
    write_file(os.path.join(DIRECTORY, key), blake2b(packed, digest_size=32).digest() + packed)


def write_file(path: str, data: bytes, mode: int = 0o644) -> None:
    """Write a file atomically."""
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


def compile_once(name: str, compiler: str, argv0: str, arguments: list[str]) -> int:
    """Run a compiler call, from the cache if possible; return its exit status."""
    files: set[str] | None = None
    if name == "rustc":
        call, command, files = rust_call(argv0, arguments)
    else:
        call, command = c_call(name, compiler, argv0, arguments)
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
            with open(call.path_of(""), "rb") as stream:
                write_all(1, stream.read())
    finally:
        if streamed and os.path.exists(call.path_of("")):
            os.unlink(call.path_of(""))
    return status


def main() -> None:
    """Run the call from the cache, or replace this process by the compiler."""
    argv0 = os.path.realpath(sys.argv[0])
    directory, name = os.path.split(argv0)
    compiler, arguments = os.path.join(directory, f".{name}"), sys.argv[1:]
    if os.path.isdir(DIRECTORY):
        try:
            status = compile_once(name, compiler, sys.argv[0], arguments)
        except Exception:  # noqa: BLE001 - not cacheable or a failure: the compiler runs, or reports the error
            pass
        else:
            os._exit(status)
    os.execv(compiler, [sys.argv[0], *arguments])  # noqa: S606


if __name__ == "__main__":
    main()
