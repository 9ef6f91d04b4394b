"""A base pulled from a registry: the configuration at once, a layer when it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hatch_docker.bases.image import base_of, check_pinned
from hatch_docker.bases.model import Base
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.errors import BaseImageError, ImageError, RegistryError, TransientError
from hatch_docker.oci.model import DIGEST, Platform

if TYPE_CHECKING:
    from hatch_docker.core.context import Context
    from hatch_docker.oci.reference import Reference
    from hatch_docker.oci.registry import Remote
    from hatch_docker.plan.model import BasePlan


WITHOUT = 'base = "debian:trixie" needs no registry'


def pull_base(plan: BasePlan, platform: Platform, ctx: Context) -> Base:
    """Return the base that a reference names, for one platform of an index.

    A tag takes one request each time. A digest takes none once the facts of the layers are remembered. If the
    registry does not answer, the last digest of the tag is used, with a warning. The image lock pins the digest of a
    tag, whatever the registry has by now. Raises RegistryError, whose text names the way out, BaseImageError, and
    ConfigError for a lock that is out of date.
    """
    from hatch_docker.oci.pull import pull
    from hatch_docker.oci.reference import parse_reference
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
        raise error.with_message(f"base {plan.name}: {error}; {_way_out(error, ctx)}") from error
    check_pinned(image, plan, platform, ctx)
    for credential in remote.known.credentials.values():
        if credential is not None:
            ctx.secrets.add(f"the password of {reference.registry}", credential.password or credential.identity_token)
    return base_of(plan, image, ctx, digest=pinned.digest, source=str(pinned))


def pinned_digest(plan: BasePlan, ctx: Context) -> str:
    """Return the digest that the image lock has for a base, "" if it has none."""
    entry = ctx.image_lock.find("base", {"name": plan.name}) if ctx.image_lock is not None else None
    return str(entry.get("digest", "")) if entry else ""


def _way_out(error: RegistryError, ctx: Context) -> str:
    if ctx.image_lock is None or isinstance(error, TransientError):
        return WITHOUT
    return (
        f"{ctx.image_lock.name} pins it, and registries delete images without a tag after a while: "
        "`hatch-docker lock --upgrade` pins the current image"
    )


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
