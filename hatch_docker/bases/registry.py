"""A base pulled from a registry by our own client: configuration first, layers when somebody reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hatch_docker.bases import Base, base_of
from hatch_docker.errors import BaseImageError, ImageError, RegistryError, TransientError
from hatch_docker.oci.model import DIGEST, Platform
from hatch_docker.store import key_of

if TYPE_CHECKING:
    from hatch_docker.context import Context
    from hatch_docker.oci.reference import Reference
    from hatch_docker.oci.registry import Remote
    from hatch_docker.plan import BasePlan


def pull_base(plan: BasePlan, platform: Platform, ctx: Context) -> Base:
    """The base behind a reference, one child of an index.

    A tag is asked for each time, with one request; by digest, and once the facts of the layers are remembered,
    nothing is asked or downloaded. Where the registry does not answer, what the tag meant last is taken, with
    a warning. Raises RegistryError, whose text names the way out, and BaseImageError.
    """
    from hatch_docker.oci.reference import parse_reference
    from hatch_docker.oci.registry import Remote, pull

    reference = parse_reference(plan.location)
    remote = Remote(ctx.client, ctx.environ)
    try:
        pinned = reference.pinned(_resolve(remote, reference, ctx))
        image = pull(remote, pinned, platform, ctx.store)
    except ImageError as error:
        raise BaseImageError(f"base {plan.name}: {error}") from error
    except RegistryError as error:
        kind = TransientError if isinstance(error, TransientError) else RegistryError
        raise kind(f'base {plan.name}: {error}; base = "debian:trixie" needs no registry') from error
    return base_of(plan, image, ctx, digest=pinned.digest, source=str(pinned))


def _resolve(remote: Remote, reference: Reference, ctx: Context) -> str:
    """The digest behind a reference, index or manifest."""
    from hatch_docker.oci.registry import resolve

    if reference.digest:
        return reference.digest
    key = key_of("tag", str(reference))
    try:
        digest = resolve(remote, reference, ctx.store)[0].digest
    except RegistryError as error:
        known = ctx.store.recall("tag", key)
        if not isinstance(known, str) or not DIGEST.fullmatch(known):
            raise
        ctx.progress.warn(f"{reference} as of the last build, {known}: {error}")
        return known
    if ctx.store.recall("tag", key) != digest:
        ctx.store.remember("tag", key, digest)
    return digest
