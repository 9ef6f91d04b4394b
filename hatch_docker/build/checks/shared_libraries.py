"""Shared libraries that an image lacks: found in the finished layers, before anything is written or published.

What was found is remembered by the layers, so that an unchanged image is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from hatch_docker.bases.model import Base
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.errors import BuildError
from hatch_docker.engines.model import BuiltImage

if TYPE_CHECKING:
    from hatch_docker.build.checks.loader import Need
    from hatch_docker.core.context import Context
    from hatch_docker.plan.model import Plan

RECIPE = 1
KIND = "native"
OPTION = "tool.hatch-docker.native-libraries"
_LOADER = re.compile(r"/.*/ld(-linux|64|-musl)[^/]*")


def check_native(plan: Plan, built: Sequence[BuiltImage], ctx: Context) -> None:
    """Warn of libraries that the loader would not find; raises BuildError where a plan makes that an error.

    `auto` does so for what was compiled for this image: the project's files, and dependencies that were built here.
    """
    failed: dict[str, None] = {}
    warned: dict[str, None] = {}
    for one in built:
        needs = _needs(one, ctx)
        for need in needs:
            if need.apart and _is_own(need, one):
                warned[_astray(need)] = None
        missing = list(dict.fromkeys(need.library for need in needs if not need.apart))
        packages = _packages(missing, one.base, ctx)
        for library in missing:
            files = [need for need in needs if need.library == library and not need.apart]
            own = any(_is_own(need, one) for need in files)
            line = f"{library}: {_cure(library, packages.get(library), plan, one.base)}; {_shown(files)}"
            fatal = plan.native_libraries == "error" or (plan.native_libraries == "auto" and own)
            (failed if fatal else warned)[line] = None
    for line in warned:
        ctx.progress.warn(line)
    if failed:
        lines = "".join(f"\n  {line}" for line in failed)
        raise BuildError(f'the image lacks shared libraries ({OPTION} = "warn" builds it all the same):{lines}')


def _needs(one: BuiltImage, ctx: Context) -> list[Need]:
    """Return the libraries that an image lacks, as remembered by its layers and by all else that the loader asks."""
    environment = [item.partition("=") for item in (one.image.config_json.get("config") or {}).get("Env") or []]
    variable = next((value for name, _, value in environment if name == "LD_LIBRARY_PATH"), "")
    base, architecture = len(one.base.image.layers), one.image.platform.architecture
    musl, interpreter = one.base.libc[0] == "musl", one.base.interpreter.path
    diff_ids = [layer.diff_id for layer in one.image.layers]
    key = key_of(RECIPE, diff_ids, base, variable, architecture, musl, interpreter)
    known: Mapping[str, Any] | None = ctx.store.recall(KIND, key)
    if known is not None and not known["needs"]:
        return []  # without the imports that follow: an unchanged build ends here
    from hatch_docker.build.checks.loader import Need, find_needs, make_loader

    if known is None:
        from hatch_docker.build.checks.elf_files import read_files

        files = read_files(one.image.layers, base, ctx)
        loader = make_loader(files, architecture, musl=musl, variable=variable, interpreter=interpreter)
        known = {"needs": [asdict(need) for need in find_needs(loader, architecture, base)]}
        ctx.store.remember(KIND, key, known)
    return [Need(**need) for need in known["needs"]]


def _is_own(need: Need, one: BuiltImage) -> bool:
    """Whether a file was compiled for this image: then nobody else has tried it."""
    if one.notes[need.layer].kind != "dependencies":
        return True
    owner = canonicalize_name(need.owner.rpartition(" ")[0])
    return any(owner == canonicalize_name(pin.name) for pin in one.pins if not pin.is_wheel)


def _packages(libraries: Sequence[str], base: Base, ctx: Context) -> dict[str, str]:
    """The Debian packages of some libraries, in quotes; where nobody saw the library in it, that is said."""
    from hatch_docker.plan.model import DEBIAN_PYTHONS

    if not libraries or base.suite not in DEBIAN_PYTHONS:
        return {}
    from hatch_docker.bases.debian.find_library import find_providers
    from hatch_docker.bases.debian.suite import Suite

    found = find_providers(libraries, Suite(base.plan, base.suite, base.platform.architecture, ctx))
    return {
        library: f'"{one.package}"' + ("" if one.seen else " (by its name: not seen in it)")
        for library, one in found.items()
    }


def _cure(library: str, package: str | None, plan: Plan, base: Base) -> str:
    """What to do about a library that is missing."""
    if _LOADER.fullmatch(library):
        return f"the loader of another C library than the base's {base.libc[0]}: take another base or another wheel"
    if base.libc[0] == "musl":
        return f"take a base that has it (`apk add so:{library}`)"
    if package is None:
        return "no package is known that has it: take a base that does, or have the wheel bring it"
    if base.plan.kind == "debian" or plan.engine == "buildkit":
        return f"add {package} to runtime.packages"
    return f'take a base with Debian\'s {package}, or engine = "buildkit" and add it to runtime.packages'


def _shown(files: Sequence[Need]) -> str:
    """Who needs a library: the first file, and how many others."""
    rest = f", and {len(files) - 1} other files" if len(files) > 2 else ", and another file" if len(files) == 2 else ""
    return f"{_file(files[0])} needs it{rest}"


def _file(need: Need) -> str:
    path = need.path.rpartition("/site-packages/")[2]
    path = path if path != need.path else f"/{path}"
    return f"{path} of {need.owner}" if need.owner else path


def _astray(need: Need) -> str:
    place = need.apart.rpartition("/site-packages/")[2]
    return (
        f"{need.library}: {_file(need)} needs it, and the wheel has it as {place}, where the loader does not look: "
        "link with -Wl,-rpath,'$ORIGIN/...', or load it first"
    )
