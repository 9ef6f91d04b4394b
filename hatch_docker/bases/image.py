"""Bases that exist as images, pulled from a registry or read from an OCI layout (`oci:PATH`), and their checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.bases.model import Base
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.cache.tree_digest import FileDigests
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

NO_REGISTRY_HINT = 'base = "debian:trixie" needs no registry'


def pull_base(plan: BasePlan, platform: Platform, ctx: Context) -> Base:
    """Pull the image that the plan's reference names, for one platform, and return it as a base.

    A tag takes one request in each build. A digest takes none if the store has the facts of the layers. If the
    registry does not answer, the digest from the last build is used, with a warning. If there is an image lock, its
    digest is used and the tag is not resolved. Raises RegistryError, whose text suggests what to do, BaseImageError,
    and ConfigError for a lock that is out of date.
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
        way_out = NO_REGISTRY_HINT
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
    """Return the digest of a base in the image lock, "" if there is none."""
    entry = ctx.image_lock.find("base", {"name": plan.name}) if ctx.image_lock is not None else None
    return str(entry.get("digest", "")) if entry else ""


def _resolve(remote: Remote, reference: Reference, ctx: Context) -> str:
    """Return the digest of the index or manifest that a reference names; without an answer, the last known digest."""
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
    """Return the base for a platform from the OCI layout or archive at `plan.location`, without copying the blobs.

    Raises BaseImageError if there is no layout, or no image for the platform.
    """
    path = Path(plan.location).expanduser()
    if not path.exists():
        raise BaseImageError(f"base {plan.name}: {path.absolute()} does not exist; give the path of an OCI layout")
    try:
        image = read_layout(path, platform) if path.is_dir() else read_archive(path, platform, foreign=True)
        assert not isinstance(image, Index)  # with a platform, both functions return an image
        check_platform(image, platform, str(path))
    except ImageError as error:
        raise BaseImageError(f"base {plan.name}: {error}") from error
    check_pinned(image, plan, platform, ctx)
    return base_of(plan, image, ctx)


def base_of(plan: BasePlan, image: Image, ctx: Context, *, digest: str = "", source: str = "") -> Base:
    """Return an existing image as a base. `digest`: see `Base`; by default the image's. `source`: see `Base`.

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
    """Raise BaseImageError if the image for a platform has another digest than in the image lock."""
    lock = ctx.image_lock
    entry = lock.find("base", {"name": plan.name}) if lock is not None and not lock.update else None
    if entry is None:
        return
    rows = {row["platform"]: row for row in entry["platforms"]}
    pinned = rows.get(str(platform), {}).get("digest", "nothing")
    # A base that is opened only to compile for another platform has no row, but the digest of the index pins it.
    by_index = "digest" in entry and str(platform) not in rows
    if pinned != image.digest and not by_index:
        raise BaseImageError(
            f"base {plan.name} is {image.digest} for {platform}, and {pinned} in the project's lock; "
            "restore the old base, or run `hatch-docker lock --upgrade`"
        )


def check_python(base: Base, requires_python: str) -> None:
    """Raise BaseImageError, naming both versions, if `requires-python` does not allow the base's Python."""
    from packaging.specifiers import SpecifierSet

    from hatch_docker.plan.bases import fitting_bases

    if not SpecifierSet(requires_python).contains(base.interpreter.version, prereleases=True):
        raise BaseImageError(
            f"the project needs Python {requires_python}, but base {base.name} has "
            f"{base.interpreter.version}; set base to {fitting_bases(requires_python)}, or widen `requires-python`"
        )


def base_tree(base: Base, ctx: Context) -> Path:
    """Extract a base into a directory of the store, once, and return the directory. Its interpreter runs from there."""
    from hatch_docker.bases.inspection import unpack_layers

    return unpack_layers(base.image.layers, base.name, ctx)


def running_tree(base: Base, ctx: Context) -> Path:
    """Return `base_tree` or a partial tree of the base. Use the directory only within `partial_tree.watch`."""
    from hatch_docker.bases.partial_tree import find_partial

    return find_partial("base", tree_key(base), ctx) or base_tree(base, ctx)


def note_builder(builder: Base, ctx: Context) -> None:
    """Record in the context that wheels are built in `build.base`; provenance lists it."""
    ctx.materials["base", builder.name] = builder.digest


def tree_key(base: Base) -> str:
    """Return the name of a base's directory in the store, which is a key of its contents."""
    from hatch_docker.bases.inspection import layers_key

    return layers_key(base.image.layers)


def image_roots(base: Base, layers: Sequence[Layer], ctx: Context) -> list[Path]:
    """Return one directory of the store for each layer, the last layer first, and then the directory of the base.

    For each path the first directory that has it counts, as in the sandbox. Each layer is unpacked once, so after an
    edit only the changed layer is. Whiteouts are ignored: `layers` are made by hatch-docker and have none.
    """
    from hatch_docker.oci.filesystem import extract

    def make(layer: Layer, root: Path) -> FileDigests:
        written: dict[str, bytes] = {}
        extract([layer], root, file_digests=written)
        return written

    trees = [ctx.store.tree("layer", key_of(1, layer.diff_id), partial(make, layer)) for layer in layers]
    return [*reversed(trees), base_tree(base, ctx)]
