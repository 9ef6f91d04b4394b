"""The check for missing shared libraries in the layers of an image, before the image is written or pushed.

The cache keeps the result by diff-ids, so an unchanged image is not checked again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from hatch_docker.bases.model import Base
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError
from hatch_docker.engines.model import BuiltImage
from hatch_docker.plan.model import DEBIAN_PYTHONS, Plan

if TYPE_CHECKING:
    from hatch_docker.build.checks.loader import MissingLibrary

RECIPE = 1
KIND = "native"
MAX_SIZE = 4 << 20  # bytes; larger modules are not read
OPTION = "tool.hatch-docker.native-libraries"
_LOADER = re.compile(r"/.*/ld(-linux|64|-musl)[^/]*")


def check_native(plan: Plan, built: Sequence[BuiltImage], ctx: Context) -> tuple[str, ...]:
    """Check for shared libraries that the dynamic loader would not find; return hints about optional ones.

    With `native-libraries = "error"`, every missing library is an error (BuildError); with "warn", a warning. With
    "auto" it is an error if code compiled for this image needs it (the project, or a dependency built from its sdist),
    or a file that the first import of its package loads; otherwise it is a hint.
    """
    failed: dict[str, None] = {}
    wanted: set[str] = set()  # Debian packages, in quotes
    warned: dict[str, None] = {}
    hints: dict[str, None] = {}
    for result in built:
        needs, optional = _missing_libraries(result, ctx), dict[str, list[tuple[str, str]]]()
        for need in needs:
            if need.apart and _is_own(need, result):
                line = (
                    f"{need.library}: {_file(need)} needs it, and the wheel has it as "
                    f"{need.apart.rpartition('/site-packages/')[2]}, where the loader does not search: "
                    "link with -Wl,-rpath,'$ORIGIN/...', or load it first"
                )
                warned[line] = None
        missing = list(dict.fromkeys(need.library for need in needs if not need.apart))
        packages = _packages(missing, result.base, ctx)
        for library in missing:
            files = [need for need in needs if need.library == library and not need.apart]
            own = any(_is_own(need, result) for need in files)
            if plan.native_libraries == "auto" and not own and (loaded := [
                need for need in files if need.path in _loaded_by_import(need, result, ctx)
            ]):
                files, own = [*loaded, *(need for need in files if need not in loaded)], True
            others = {1: "", 2: ", and another file"}.get(len(files), f", and {len(files) - 1} other files")
            advice = _advice(library, packages.get(library), plan, result.base)
            line = f"{library}: {advice}; {_file(files[0])} needs it{others}"
            if plan.native_libraries == "error" or (plan.native_libraries == "auto" and own):
                failed[line] = None
                if advice.startswith("add "):
                    wanted.add(packages[library].partition(" ")[0])
            elif plan.native_libraries == "auto":
                wheel = files[0].owner if library in packages else ""
                optional.setdefault(wheel or library, []).append((library, line))
            else:
                warned[line] = None
        hints |= dict.fromkeys(_optional_hints(optional, packages, plan, result.base))
    for line in warned:
        ctx.progress.warn(line)
    if failed:
        lines = "".join(f"\n  {line}" for line in failed)
        listed = ", ".join(sorted({*(f'"{name}"' for name in plan.base.packages), *wanted}))
        paste = f"\nadd to pyproject.toml:\n  [tool.hatch-docker.runtime]\n  packages = [{listed}]" if wanted else ""
        raise BuildError(f'the image lacks shared libraries ({OPTION} = "warn" builds the image anyway):{lines}{paste}')
    return tuple(hints)


def _missing_libraries(built: BuiltImage, ctx: Context) -> list[MissingLibrary]:
    """Return the libraries that an image lacks; from the cache, if layers and loader settings are the same."""
    variable = built.image.env.get("LD_LIBRARY_PATH", "")
    base, architecture = len(built.base.image.layers), built.image.platform.architecture
    musl, interpreter = built.base.libc[0] == "musl", built.base.interpreter.path
    diff_ids = [layer.diff_id for layer in built.image.layers]
    key = key_of(RECIPE, diff_ids, base, variable, architecture, musl, interpreter)
    known: Mapping[str, Any] | None = ctx.store.recall(KIND, key)
    if known is not None and not known["needs"]:
        return []  # an unchanged build ends here, and does not need the following imports
    from hatch_docker.build.checks.loader import MissingLibrary, find_missing, make_loader, read_files

    if known is None:
        files = read_files(built.image.layers, base, ctx)
        loader = make_loader(files, architecture, musl=musl, variable=variable, interpreter=interpreter)
        known = {"needs": [asdict(need) for need in find_missing(loader, architecture, base)]}
        ctx.store.remember(KIND, key, known)
    return [MissingLibrary(**need) for need in known["needs"]]


def _loaded_by_import(need: MissingLibrary, built: BuiltImage, ctx: Context) -> Sequence[str]:
    """Return the compiled files that an import loads, of the wheel with the file at `need.path`. Cached by diff-id."""
    layer = built.image.layers[need.layer]

    def read() -> list[str]:
        from hatch_docker.build.checks.imports import files_loaded_by_import
        from hatch_docker.build.checks.loader import read_files
        from hatch_docker.oci.layer import layer_entries

        site = need.path.partition("/site-packages/")[0] + "/site-packages/"
        files = read_files(built.image.layers, len(built.base.image.layers), ctx).code
        code = {file.path.removeprefix(site): file.elf for file in files if file.owner == need.owner}
        tops = {path.partition("/")[0] for path in code}
        sources: dict[str, bytes] = {}
        for entry, stream in layer_entries(layer):
            path = entry.path.removeprefix(site)
            inside = "/" not in path or path.partition("/")[0] in tops
            if stream is not None and path != entry.path and inside and path.endswith(".py") and entry.size < MAX_SIZE:
                sources[path] = stream.read()
        return sorted(site + path for path in files_loaded_by_import(sources, code))

    if not need.owner or "/site-packages/" not in need.path:
        return ()
    return ctx.store.recall_or_make("native-loaded", key_of(RECIPE, layer.diff_id, need.owner), read)


def _is_own(need: MissingLibrary, built: BuiltImage) -> bool:
    """Return whether the file that lacks a library was compiled for this image: in the project or from an sdist."""
    if built.notes[need.layer].kind != "dependencies":
        return True
    owner = canonicalize_name(need.owner.rpartition(" ")[0])
    return any(owner == canonicalize_name(pin.name) for pin in built.pins if not pin.is_wheel)


def _packages(libraries: Sequence[str], base: Base, ctx: Context) -> dict[str, str]:
    """Return the Debian package of each library, in quotes, with a remark if only the name suggests it."""
    if not libraries or base.suite not in DEBIAN_PYTHONS:
        return {}
    from hatch_docker.bases.debian.find_library import find_providers
    from hatch_docker.bases.debian.suite import Suite

    found = find_providers(libraries, Suite(base.plan, base.suite, base.platform.architecture, ctx))
    return {
        library: f'"{provider.package}"' + ("" if provider.seen else " (guessed from its name)")
        for library, provider in found.items()
    }


def _advice(library: str, package: str | None, plan: Plan, base: Base) -> str:
    """Return advice on a missing library. `package`: its Debian package as `_packages` returns it, None if unknown."""
    if _LOADER.fullmatch(library):
        return f"the loader of another C library than the base's {base.libc[0]}: use another base or another wheel"
    if base.libc[0] == "musl":
        return f"take a base that has it (`apk add so:{library}`)"
    if package is None:
        return "no Debian package that contains it was found: use a base that has it, or a wheel that includes it"
    if base.plan.kind == "debian" or plan.engine == "buildkit":
        return f"add {package} to runtime.packages"
    return f'take a base with Debian\'s {package}, or engine = "buildkit" and add it to runtime.packages'


def _optional_hints(
    found: Mapping[str, Sequence[tuple[str, str]]], packages: Mapping[str, str], plan: Plan, base: Base
) -> Iterator[str]:
    """Yield a hint for each wheel about libraries that parts of it need. `found`: these libraries and their lines."""
    for wheel, rows in found.items():
        if len(rows) == 1:
            yield f"{rows[0][1]}, only if this file is imported"
        else:
            names = [library for library, _ in rows]
            quoted = ", ".join(dict.fromkeys(packages[name] for name in names))
            advice = _advice(names[0], quoted, plan, base)
            yield f"{', '.join(names)}: {advice}; files of {wheel} need them, only if these files are imported"


def _file(need: MissingLibrary) -> str:
    path = need.path.rpartition("/site-packages/")[2]
    path = path if path != need.path else f"/{path}"
    return f"{path} of {need.owner}" if need.owner else path
