"""The compiler cache of a project: a directory of the store that only the project's builds can access.

Builds may write anything to it, even a program. So only names and sizes are read here, the size is limited after each
build, and other users of the machine have no access. See `compiler_cache.py` for the contents.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from hatch_docker.core.cache.store import ChangedTreeError, Store
from hatch_docker.core.context import Context
from hatch_docker.wheels.builder import compiler_cache, compiler_places
from hatch_docker.wheels.builder.sandbox import NOBODY, Bind

DIRECTORY = "compilers"  # in the store


@contextlib.contextmanager
def cached_compilers(key: str, root: Path, python: str, work: Path, ctx: Context) -> Iterator[list[Bind]]:
    """Yield the binds that add the cache with this key to a sandbox with this root; limit the cache's size afterwards.

    `python`: the path of an interpreter in the sandbox. `work`: a directory for the program that replaces the
    compilers. Yield nothing if the root has no compilers or the cache is not writable.
    """
    compilers = compiler_places.find_compilers(root)
    directory = _open(ctx.store, key) if compilers else None
    if directory is None:
        yield []
        return
    program = work / "compiler"
    source = Path(compiler_cache.__file__).read_text(encoding="utf-8")
    program.write_text(compiler_places.program(python, source), encoding="utf-8")
    program.chmod(0o755)
    binds = [Bind(directory, compiler_cache.DIRECTORY, persistent=True)]
    for path in compilers:
        binds += [Bind(program, f"/{path}"), Bind(root / path, f"/{path.with_name(f'.{path.name}')}")]
    try:
        yield binds
    except ChangedTreeError:  # a damaged compiler may have written to it
        ctx.store.discard(directory)
        raise
    finally:
        try:
            compiler_places.trim(str(directory))
        except (ValueError, OSError) as error:
            ctx.progress.detail(f"the project's compiler cache is removed: {error}")
            ctx.store.discard(directory)


def _open(store: Store, key: str) -> Path | None:
    directory = store.root / DIRECTORY / key
    with contextlib.suppress(OSError):
        directory.parent.mkdir(mode=0o700, exist_ok=True)
        directory.parent.chmod(0o700)
        if directory.is_symlink() or (directory.exists() and directory.stat().st_uid not in (os.geteuid(), NOBODY)):
            store.discard(directory)
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)  # an earlier build may have changed it
        os.utime(directory)
        return directory
    return None
