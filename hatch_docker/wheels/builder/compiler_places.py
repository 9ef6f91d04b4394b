"""Places of the compilers whose results are kept, where `compiler_cache.py` stands instead, and the cache's bounds.

The target's Python (3.9 or newer) runs it in a stage of a Dockerfile, where `pep517.py` puts that program into their
places; in the sandbox it is mounted over them. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from pathlib import Path

PATTERNS = ("usr/lib*/gcc/*/*/cc1", "usr/lib*/gcc/*/*/cc1plus", "usr/bin/rustc", "usr/lib/rust-*/bin/rustc")
LIMIT = 1_000_000_000       # bytes of a project's cache
MANY = 100_000              # files of it
UNFINISHED = 3600           # seconds after which an unfinished file, which has a dot in its name, is abandoned
# An interpreter compiles a program anew in each run. So the bytecode is kept in the cache, by the source's hash.
STARTER = """
import marshal, os, sys
from _blake2 import blake2b
def bytecode(directory):
    path = f"{directory}/{blake2b((sys.version + SOURCE).encode(), digest_size=32).hexdigest()}"
    try:
        with open(path, "rb") as stream:
            checksum, data = stream.read(32), stream.read()
        if blake2b(data, digest_size=32).digest() == checksum:
            return marshal.loads(data)
    except OSError:
        pass
    code = compile(SOURCE, "compiler_cache.py", "exec", dont_inherit=True)
    data = marshal.dumps(code)
    partial = f"{path}.{os.getpid()}.tmp"
    try:
        with open(partial, "xb") as stream:
            stream.write(blake2b(data, digest_size=32).digest() + data)
        os.rename(partial, path)
    except OSError:
        pass
    return code
exec(bytecode("/compiler-cache"))
"""


def find_compilers(root: Path) -> list[Path]:
    """Return the compilers of a system whose results are kept, relative to its root."""
    found = [path for pattern in PATTERNS for path in sorted(root.glob(pattern)) if path.is_file()]
    return [path.relative_to(root) for path in found if not path.is_symlink()]


def program(python: str, source: str) -> str:
    """Return the compiler cache, the text of its file, as a program that an interpreter runs."""
    return f"#!{python} -IS\nSOURCE = {source!r}\n{STARTER}"


def take_places(root: Path, python: str, source: Path) -> None:
    """Put the program of a source into the places of a system's compilers, which get a dot before their names."""
    text = program(python, source.read_text(encoding="utf-8"))
    for compiler in find_compilers(root):
        path = root / compiler
        ours = path.with_name(f".{path.name}.new")
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
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # another build finishes a file
                status = entry.stat(follow_symlinks=False)
                found.append((status.st_mtime, status.st_blocks * 512, entry.path))
                if not stat.S_ISREG(status.st_mode) or len(found) > MANY:
                    raise ValueError(f"{entry.name[:80]!r} does not belong into the compiler cache")
    size = sum(blocks for _, blocks, _ in found)
    for used, blocks, path in sorted(found):
        abandoned = "." in Path(path).name and used < time.time() - UNFINISHED
        if abandoned or size > limit:
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
            size -= blocks


def trim_mounted(directory: str) -> None:
    """Trim a cache whose directory cannot be removed: instead all that is in it is."""
    try:
        trim(directory)
    except (ValueError, OSError):
        shutil.rmtree(directory, ignore_errors=True)
