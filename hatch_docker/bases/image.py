"""A base made from an image of somebody else, the checks of a base, and its files in a directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.bases.model import Base
from hatch_docker.core.errors import BaseImageError
from hatch_docker.oci.model import Image, Platform
from hatch_docker.plan.model import BasePlan

if TYPE_CHECKING:
    from hatch_docker.core.context import Context


def base_of(plan: BasePlan, image: Image, ctx: Context, *, digest: str = "", source: str = "") -> Base:
    """Return the base that an existing image is; `digest` is that of its name, if it differs from the image's.

    Raises BaseImageError if the image has no usable Python.
    """
    from hatch_docker.bases.inspection import read_facts

    facts = read_facts(image, plan.name, ctx)
    sizes = zip(image.layers, facts.unpacked_sizes, strict=True)
    layers = tuple(replace(layer, unpacked_size=size) for layer, size in sizes)
    return Base(
        plan=plan, name=plan.name, digest=digest or image.digest, image=replace(image, layers=layers),
        interpreter=facts.interpreter, libc=facts.libc, users=facts.users, directories=facts.directories,
        symlinks=facts.symlinks, suite=facts.suite, contents=((),) * len(layers),
        kinds=("base",) * len(layers), source=source,
    )  # fmt: skip


def check_pinned(image: Image, plan: BasePlan, platform: Platform, ctx: Context) -> None:
    """Raise BaseImageError if the image for a platform is not the one that the image lock pins."""
    lock = ctx.image_lock
    entry = lock.find("base", {"name": plan.name}) if lock is not None and not lock.ask else None
    if entry is None:
        return
    rows = {row["platform"]: row for row in entry["platforms"]}
    pinned = rows.get(str(platform), {}).get("digest", "nothing")
    by_index = "digest" in entry and str(platform) not in rows  # such as the base whose Python compiles for another
    if pinned != image.digest and not by_index:
        raise BaseImageError(
            f"base {plan.name} is {image.digest} for {platform}, and {pinned} in the project's lock; "
            "restore the old base, or run `hatch-docker lock --upgrade`"
        )


def check_python(base: Base, requires_python: str) -> None:
    """Raise BaseImageError, naming both versions, if the project does not run on the base's Python."""
    from packaging.specifiers import SpecifierSet

    if not SpecifierSet(requires_python).contains(base.interpreter.version, prereleases=True):
        raise BaseImageError(
            f"the project needs Python {requires_python}, but base {base.name} has "
            f"{base.interpreter.version}; choose another `base` (or `python`), or widen `requires-python`"
        )


def base_tree(base: Base, ctx: Context) -> Path:
    """Return a directory of the store with the base's files, to run its interpreter from; extracted once."""
    from hatch_docker.core.cache.store import key_of
    from hatch_docker.oci.filesystem import extract

    layers = base.image.layers
    key = key_of("base tree", 1, [layer.diff_id for layer in layers])
    return ctx.store.tree("base", key, lambda root: extract(layers, root))
