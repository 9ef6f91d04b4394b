"""Build environments: the build requirements of an sdist, installed in a directory of the cache."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hatch_docker.bases.bytecode import Compiled, compile_sources
from hatch_docker.bases.model import Interpreter
from hatch_docker.bases.partial_tree import watch
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.text import sanitize
from hatch_docker.oci.filesystem import write_entries
from hatch_docker.oci.layer import Entry
from hatch_docker.wheels.builder.sandbox import run_at
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.install.venv import bytecode_entries, python_sources, venv_entries, wheel_entries
from hatch_docker.wheels.target import Pin

RECIPE = 2


def build_environment(
    pins: Sequence[Pin], venv: VenvTarget, project: Path, ctx: Context, *, compiler: Callable[[], Path],
    trust_key: str = "",
) -> Path:
    """Return the directory with `venv` and the pinned wheels. It is made once for the same wheels and interpreter.

    The modules are byte-compiled with the interpreter of `compiler`'s tree; no code of the wheels is executed. Without
    .pyc files, importing the backend takes half the time of a small build. A runner that has only a shared cache
    imports them once, and does not compile them. `trust_key`: `Base.interpreter_trust_key` if the interpreter is the
    base's. Then it runs in the sandbox, and the result is used for this base only. Raise what `fetch`, `wheel_entries`
    and `compile_sources` raise.
    """

    def make(directory: Path) -> None:
        wheels = fetch(pins, ctx, root=project)
        installed = [_entries(pin, wheel, venv, ctx) for pin, wheel in zip(pins, wheels, strict=True)]
        compiled = Compiled()
        if not once:
            tree, sources = compiler(), [python_sources(entries, venv) for entries in installed]
            trusted = not trust_key and not ctx.store.uses_shared
            compiled = watch(
                tree, ctx, lambda: compile_sources(sources, tree, venv.interpreter, sandbox=run_at, trusted=trusted)
            )
        for entries in (venv_entries(venv), *installed):
            write_entries([*entries, *bytecode_entries(entries, compiled, venv)], directory)

    interpreter, once = venv.interpreter, is_imported_once(ctx)
    parts = trust_key, [pin.sha256 for pin in pins], *["once"] * once
    key = key_of(RECIPE, venv.root, interpreter.path, interpreter.build, *parts)
    return ctx.store.tree("build-env", key, make)


def is_imported_once(ctx: Context) -> bool:
    """Return whether the modules of build environments are not byte-compiled; then no interpreter is needed."""
    return ctx.is_ci_runner and ctx.store.uses_shared


def install_pure(pins: Sequence[Pin], project: Path, ctx: Context) -> Path:
    """Return a directory of the cache with the modules of pure wheels, for the Python that runs this build.

    Raise what `fetch` and `wheel_entries` raise.
    """
    venv = VenvTarget(Interpreter(sys.executable, ".".join(map(str, sys.version_info[:2]))), "env")

    def make(directory: Path) -> None:
        for pin, wheel in zip(pins, fetch(pins, ctx, root=project), strict=True):
            write_entries(_entries(pin, wheel, venv, ctx), directory)

    key = key_of(RECIPE, "pure", venv.interpreter.version, [pin.sha256 for pin in pins])
    return ctx.store.tree("build-env", key, make) / venv.site_packages


def _entries(pin: Pin, wheel: Path, venv: VenvTarget, ctx: Context) -> list[Entry]:
    """Return the files of a build requirement. A wrong RECORD is only a warning: the pin's hash was verified."""
    faults: list[str] = []
    entries = wheel_entries(wheel, venv, filename=pin.filename, faults=faults)
    if faults:
        line = f"build requirement {pin.filename} has a wrong RECORD: {sanitize(faults[0])}; its own hash is correct"
        ctx.progress.warn(line)
    return entries
