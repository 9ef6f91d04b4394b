"""Paths of the compilers that `compiler_cache.py` replaces, and the limits of the cache.

In a stage of a Dockerfile, `pep517.py` calls this module with the target's Python (3.9 or newer) to replace the
compilers by that program. In the sandbox the program is mounted over them. Standard library only.
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
MANY = 100_000              # files in it
UNFINISHED = 3600           # seconds after which an unfinished file (with a dot in its name) is removed
# Python compiles a program in each run. So the bytecode is stored in the cache, by the source's hash.
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
    """Return the paths of the supported compilers below a root, relative to it."""
    found = [path for pattern in PATTERNS for path in sorted(root.glob(pattern)) if path.is_file()]
    return [path.relative_to(root) for path in found if not path.is_symlink()]


def program(python: str, source: str) -> str:
    """Return the source of the compiler cache as a program that the interpreter `python` runs."""
    return f"#!{python} -IS\nSOURCE = {source!r}\n{STARTER}"


def take_places(root: Path, python: str, source: Path) -> None:
    """Replace the compilers below a root by the program in `source`. The compilers get a dot before their names."""
    text = program(python, source.read_text(encoding="utf-8"))
    for compiler in find_compilers(root):
        path = root / compiler
        replacement = path.with_name(f".{path.name}.new")
        replacement.write_text(text, encoding="utf-8")
        replacement.chmod(0o755)
        path.rename(path.with_name(f".{path.name}"))
        replacement.rename(path)


def trim(directory: str, limit: int = LIMIT) -> None:
    """Remove abandoned files of a cache, and the least recently used results above `limit` bytes.

    Builds can write anything to the directory. Raise ValueError if it contains something else than files, or too many,
    and OSError if it cannot be read. Then the caller must remove the whole cache.
    """
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # another build renames a finished file
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
    """Trim a cache whose directory is a mount point. If that fails, remove the contents of the directory."""
    try:
        trim(directory)
    except (ValueError, OSError):
        shutil.rmtree(directory, ignore_errors=True)
