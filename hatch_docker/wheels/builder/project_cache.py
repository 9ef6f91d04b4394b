"""The compiler cache of a project: a directory of the store that its builds alone see, and may write what they like to.

So nothing in it is read here but names and sizes, it is bounded after each build, and other users cannot reach it: a
build may leave a program there that runs as its owner. See `compiler_cache.py` for what is in it.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from hatch_docker.core.cache.store import ChangedTreeError, Store
from hatch_docker.core.context import Context
from hatch_docker.wheels.builder import compiler_cache, compiler_places
from hatch_docker.wheels.builder.sandbox import NOBODY, Bind

PLACE = "compilers"  # in the store


@contextlib.contextmanager
def cached_compilers(key: str, root: Path, python: str, work: Path, ctx: Context) -> Iterator[list[Bind]]:
    """Yield what puts the cache under a key into a sandbox with a root; afterwards keep it within its bounds.

    `python` is the path of an interpreter in the sandbox; `work` gets the program that takes the compilers' places.
    Nothing is yielded for a root without compilers, nor where the cache cannot be written.
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
    binds = [Bind(directory, compiler_cache.DIRECTORY, kept=True)]
    for path in compilers:
        binds += [Bind(program, f"/{path}"), Bind(root / path, f"/{path.with_name(f'.{path.name}')}")]
    try:
        yield binds
    except ChangedTreeError:  # a damaged compiler may have filled it
        ctx.store.discard(directory)
        raise
    finally:
        try:
            compiler_places.trim(str(directory))
        except (ValueError, OSError) as error:
            ctx.progress.detail(f"the project's compiler cache is removed: {error}")
            ctx.store.discard(directory)


def _open(store: Store, key: str) -> Path | None:
    directory = store.root / PLACE / key
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
