"""Bases that are images already: pulled from a registry, or read from an OCI layout (`oci:PATH`); their checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.bases.model import Base
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.cache.tree_digest import Written
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, ImageError, RegistryError, TransientError
from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.layout import read_layout
from hatch_docker.oci.manifest import check_platform
from hatch_docker.oci.model import DIGEST, Image, Index, Layer, Platform
from hatch_docker.oci.reference import Reference, parse_reference
from hatch_docker.plan.model import BasePlan

if TYPE_CHECKING:
    from hatch_docker.oci.registry import Remote

WITHOUT = 'base = "debian:trixie" needs no registry'


def pull_base(plan: BasePlan, platform: Platform, ctx: Context) -> Base:
    """Return the base that a reference names, for one platform of an index.

    A tag takes one request each time. A digest takes none once the facts of the layers are remembered. If the
    registry does not answer, the last digest of the tag is used, with a warning. The image lock pins the digest of a
    tag, whatever the registry has by now. Raises RegistryError, whose text names the way out, BaseImageError, and
    ConfigError for a lock that is out of date.
    """
    from hatch_docker.oci.pull import pull
    from hatch_docker.oci.registry import Remote

    reference = parse_reference(plan.location)
    remote = Remote(ctx.client, ctx.environ)
    try:
        digest = pinned_digest(plan, ctx)
        pinned = reference.pinned(digest or _resolve(remote, reference, ctx))
        image = pull(remote, pinned, platform, ctx.store)
    except ImageError as error:
        raise BaseImageError(f"base {plan.name}: {error}") from error
    except RegistryError as error:
        way_out = WITHOUT
        if ctx.image_lock is not None and not isinstance(error, TransientError):
            way_out = (
                f"{ctx.image_lock.name} pins it, and registries delete images without a tag after a while: "
                "`hatch-docker lock --upgrade` pins the current image"
            )
        raise error.with_message(f"base {plan.name}: {error}; {way_out}") from error
    check_pinned(image, plan, platform, ctx)
    for credential in remote.credentials.values():
        if credential is not None:
            ctx.secrets.add(f"the password of {reference.registry}", credential.password or credential.identity_token)
    return base_of(plan, image, ctx, digest=pinned.digest, source=str(pinned))


def pinned_digest(plan: BasePlan, ctx: Context) -> str:
    """Return the digest that the image lock has for a base, "" if it has none."""
    entry = ctx.image_lock.find("base", {"name": plan.name}) if ctx.image_lock is not None else None
    return str(entry.get("digest", "")) if entry else ""


def _resolve(remote: Remote, reference: Reference, ctx: Context) -> str:
    """Return the digest of the index or manifest that a reference names."""
    from hatch_docker.oci.pull import resolve

    if reference.digest:
        return reference.digest
    key = key_of("tag", str(reference))
    try:
        digest = resolve(remote, reference, ctx.store)[0].digest
    except RegistryError as error:
        known = ctx.store.recall("tag", key)
        if not isinstance(known, str) or not DIGEST.fullmatch(known):
            raise
        ctx.progress.warn(f"using {reference} of the last build, {known}: {error}")
        return known
    if ctx.store.recall("tag", key) != digest:
        ctx.store.remember("tag", key, digest)
    return digest


def read_base(plan: BasePlan, platform: Platform, ctx: Context) -> Base:
    """Return the base for a platform in the layout at `plan.location`; nothing is copied.

    Raises BaseImageError if there is no layout, or no image for the platform.
    """
    path = Path(plan.location).expanduser()
    if not path.exists():
        raise BaseImageError(f"base {plan.name}: {path.absolute()} does not exist; give the path of an OCI layout")
    try:
        image = read_layout(path, platform) if path.is_dir() else read_archive(path, platform, foreign=True)
        assert not isinstance(image, Index)  # a platform was asked for
        check_platform(image, platform, str(path))
    except ImageError as error:
        raise BaseImageError(f"base {plan.name}: {error}") from error
    check_pinned(image, plan, platform, ctx)
    return base_of(plan, image, ctx)


def base_of(plan: BasePlan, image: Image, ctx: Context, *, digest: str = "", source: str = "") -> Base:
    """Return the base that an existing image is; `digest` is that of its name, if it differs from the image's.

    Raises BaseImageError if the image has no usable Python.
    """
    from hatch_docker.bases.inspection import read_facts

    facts = read_facts(image, plan.name, ctx, unpack=True)
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

    from hatch_docker.plan.bases import fitting_bases

    if not SpecifierSet(requires_python).contains(base.interpreter.version, prereleases=True):
        raise BaseImageError(
            f"the project needs Python {requires_python}, but base {base.name} has "
            f"{base.interpreter.version}; set base to {fitting_bases(requires_python)}, or widen `requires-python`"
        )


def base_tree(base: Base, ctx: Context) -> Path:
    """Return a directory of the store with the base's files, to run its interpreter from; extracted once."""
    from hatch_docker.bases.inspection import unpack_layers

    return unpack_layers(base.image.layers, base.name, ctx)


def running_tree(base: Base, ctx: Context) -> Path:
    """Return what `base_tree` does, perhaps a partial tree: for work within `partial_tree.watch`."""
    from hatch_docker.bases.partial_tree import find_partial

    return find_partial("base", tree_key(base), ctx) or base_tree(base, ctx)


def note_builder(builder: Base, ctx: Context) -> None:
    """Note in the context that wheels are built in `build.base`."""
    ctx.used["base", builder.name] = builder.digest


def tree_key(base: Base) -> str:
    """Return the name of a base's directory in the store, a key of its contents."""
    from hatch_docker.bases.inspection import layers_key

    return layers_key(base.image.layers)


def image_roots(base: Base, layers: Sequence[Layer], ctx: Context) -> list[Path]:
    """Return directories of the store with the files of some layers on a base, the last layer first.

    The first that has a file decides, as in the sandbox. Each layer is unpacked once, so after an edit one is. Our
    layers have no whiteouts that this would lose.
    """
    from hatch_docker.oci.filesystem import extract


    def make(layer: Layer, root: Path) -> Written:
        written: dict[str, bytes] = {}
        extract([layer], root, written=written)
        return written

    trees = [ctx.store.tree("layer", key_of(1, layer.diff_id), partial(make, layer)) for layer in layers]
    return [*reversed(trees), base_tree(base, ctx)]
