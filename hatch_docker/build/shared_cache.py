"""The shared cache of a build: its places (options `cache.from` and `cache.to`), reading and writing.

Without these options, a build that pushes uses a tag in the first repository of the push, and other builds use no
shared cache. `hatch-docker verify` never uses one.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.bases.image import tree_key
from hatch_docker.core.at_once import at_once
from hatch_docker.core.cache.shared import CacheData, Fact, SharedCache, SharedStore
from hatch_docker.core.cache.store import NO_CACHE, Store, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, HatchDockerError, ImageError, SecretError
from hatch_docker.core.files import atomic_write, mark_as_cache, temporary_directory, write_file
from hatch_docker.core.text import megabytes
from hatch_docker.engines.model import BuiltImage
from hatch_docker.oci.layout import LAYOUT, blob_path, copy_layer, index_json, open_blob_of, read_document
from hatch_docker.oci.manifest import parse_index
from hatch_docker.oci.model import Descriptor, Opener, digest_of
from hatch_docker.oci.reference import Reference, parse_reference
from hatch_docker.plan.model import Plan
from hatch_docker.project.model import Project

if TYPE_CHECKING:
    from hatch_docker.oci.registry import Remote
    from hatch_docker.release.cache_artifact import CacheArtifact

LAST_DIGEST = "shared-cache"  # kind of fact: the digest that this machine wrote or read last, by reference
TAG = "hatch-docker-cache"
LONGEST_TAG = 128


def default_place(plan: Plan) -> dict[str, str]:
    """Return the default shared cache of an image: a tag in its first repository, by image name and platforms."""
    words = [TAG, *filter(None, [plan.part]), *(platform.replace("/", "-") for platform in plan.platforms)]
    return {"type": "registry", "ref": f"{plan.repositories[0]}:{'-'.join(words)[:LONGEST_TAG]}"}


def _places(option: Sequence[Mapping[str, str]], plan: Plan, environ: Mapping[str, str]) -> list[Mapping[str, str]]:
    """Return the places in an option (`cache.from` or `cache.to`), or the default one for a push."""
    if plan.engine != "embedded" or environ.get(NO_CACHE, "") not in ("", "0"):
        return []
    if option:
        return [fields for fields in option if fields["type"] != "none"]
    return [default_place(plan)] if plan.push and plan.repositories else []


def with_shared_cache(plan: Plan, root: Path, ctx: Context, before: SharedCache | None = None) -> Context:
    """Return `ctx` with the shared cache of a build, unchanged if the build does not use one.

    `root`: the project's directory. `before`: the shared cache of an earlier step, used if its places are the same.
    """
    sources, targets = (_places(option, plan, ctx.environ) for option in (plan.cache.sources, plan.cache.targets))
    if sources and not _may_read(plan, ctx):
        sources = []
    if not sources and not targets:
        return ctx
    from hatch_docker.release.cache_artifact import COSTLY, KINDS

    places = [fields.get("ref") or str(root / fields["src"]) for fields in sources]
    scope = key_of("shared cache", places, plan.sign and plan.sign.key) if sources else ""
    if before is not None and before.scope == scope:
        shared = before
        shared.written = bool(targets)
    else:
        shared = SharedCache(
            scope, partial(_read, sources, plan, root, ctx), KINDS, COSTLY, ctx.progress, written=bool(targets)
        )
        if before is not None:
            shared.written_facts |= before.written_facts
            shared.opened_files |= before.opened_files
    return replace(ctx, store=SharedStore(ctx.store.root, ctx.store.verified, shared=shared))


def read_if_new(plan: Plan, ctx: Context) -> None:
    """Read the shared cache now, if this machine has no base of the plan's kind: the build will need it anyway."""
    if not (ctx.store.root / "facts" / ("debian-layer" if plan.base.kind == "debian" else "base")).exists():
        ctx.store.load_shared()


def shared_of(ctx: Context) -> SharedCache | None:
    """Return the shared cache of a context, None if it has none."""
    return ctx.store.shared if isinstance(ctx.store, SharedStore) else None


def _may_read(plan: Plan, ctx: Context) -> bool:
    """Return whether a build may read the shared cache; if not, log the reason.

    If the kernel does not allow the sandbox, a base's Python runs without it. That Python must come from Debian, not
    from a shared cache that others can write.
    """
    why = ""
    if plan.sign is not None and not plan.sign.key:
        why = "with sign.keyless, no identity is set whose signature it must have"
    elif plan.base.kind == "debian":
        from hatch_docker.wheels.builder.sandbox import cached_sandbox_error

        if reason := cached_sandbox_error(ctx):
            why = f"the Python of a shared cache may run only in the sandbox; {reason}"
    if why:
        ctx.progress.detail(f"the shared cache is not read: {why}")
    return not why


def _read(sources: Sequence[Mapping[str, str]], plan: Plan, root: Path, ctx: Context, store: Store) -> CacheData:
    """Return the merged contents of the shared caches in `sources`; earlier ones take precedence."""
    facts: list[Fact] = []
    blobs: dict[str, Callable[[Store], object]] = {}
    for fields in reversed(sources):
        name = fields.get("ref") or fields["src"]
        with ctx.progress.task(f"reading the shared cache {name}", quick=True):
            read = _read_registry if fields["type"] == "registry" else _read_directory
            found = read(fields, plan, root, ctx, store)
        if found is None:
            ctx.progress.detail(f"nothing is in the shared cache {name} yet")
            continue
        facts += list(found.facts)
        blobs |= found.blobs
    return CacheData(facts, blobs)


def _read_registry(fields: Mapping[str, str], plan: Plan, root: Path, ctx: Context, store: Store) -> CacheData | None:
    from hatch_docker.oci.pull import fetch_blob
    from hatch_docker.oci.registry import Remote, response_error

    reference = parse_reference(fields["ref"])
    remote = Remote(ctx.client, ctx.environ)
    def attempt() -> bytes | None:
        response = remote.request_manifest(reference)
        if response.status == 404:
            return None
        if response.status != 200:
            raise response_error(reference, response)
        return response.body

    manifest = remote.client.retry(f"{reference}: get the shared cache", attempt)
    if manifest is None:
        return None
    digest = digest_of(manifest)
    if reference.digest not in ("", digest):
        raise ImageError(f"the registry sent wrong content for {reference}: its digest is {digest}")
    if plan.sign is not None:
        _verify(reference.pinned(digest), plan, root, ctx)

    def fetch(descriptor: Descriptor, store: Store) -> Path:
        return fetch_blob(remote, reference, descriptor, store)

    if store.recall(LAST_DIGEST, key_of(str(reference))) == digest:  # this machine has all its facts
        from hatch_docker.release.cache_artifact import read_manifest

        _facts, layers = read_manifest(manifest, str(reference))
        return CacheData((), {layer.digest: partial(fetch, layer) for layer in layers})
    store.remember(LAST_DIGEST, key_of(str(reference)), digest)

    return _contents(manifest, lambda first: fetch(first, store).read_bytes(), fetch, str(reference), ctx)


def _read_directory(
    fields: Mapping[str, str], _plan: Plan, root: Path, ctx: Context, _store: Store
) -> CacheData | None:
    directory = root / fields["src"]
    if not (directory / "index.json").is_file():
        return None
    what = f"the shared cache {fields['src']}"
    open_blob = open_blob_of(directory, what)

    def read_whole(descriptor: Descriptor) -> bytes:
        with open_blob(descriptor.digest) as stream:
            data: bytes = stream.read(descriptor.size + 1)
        if digest_of(data) != descriptor.digest:
            raise ImageError(f"{what}: the blob {descriptor.digest} is damaged")
        return data

    def copy(descriptor: Descriptor, store: Store) -> None:
        with open_blob(descriptor.digest) as stream, store.writer() as writer:
            shutil.copyfileobj(stream, writer)
            if writer.digest != descriptor.digest:
                raise ImageError(f"{what}: the blob {descriptor.digest} is damaged")
            writer.commit()

    entries = parse_index((directory / "index.json").read_bytes(), what)
    if len(entries) != 1:
        raise ImageError(f"{what} is a different layout: it has {len(entries)} manifests")
    return _contents(read_document(entries[0], open_blob, what), read_whole, copy, what, ctx)


def _contents(
    manifest: bytes, read: Callable[[Descriptor], bytes], fetch: Callable[[Descriptor, Store], object], what: str,
    ctx: Context,
) -> CacheData:
    """Return the contents of a shared cache. `read`: returns a blob. `fetch`: copies a blob into a store."""
    from hatch_docker.release.cache_artifact import read_facts, read_manifest

    first, layers = read_manifest(manifest, what)
    facts, invalid = read_facts(read(first), what)
    if invalid:
        ctx.progress.warn(f"{what}: {invalid} of its records are not valid, and are ignored")
    return CacheData(facts, {layer.digest: partial(fetch, layer) for layer in layers})


def _verify(name: Reference, plan: Plan, root: Path, ctx: Context) -> None:
    """Raise SignatureError if a shared cache is not signed with the plan's key."""
    from hatch_docker.release.cosign import Cosign, key_secrets
    from hatch_docker.release.sign import Trust, verify_image

    assert plan.sign is not None
    cosign = Cosign(root, ctx)
    with temporary_directory() as temporary:
        public = temporary / "key.pub"
        secrets = key_secrets(plan.sign, ctx.environ)
        public.write_text(cosign.run("public-key", "--key", cosign.key(plan.sign.key), secrets=secrets))
        verify_image(cosign, name, Trust(key=str(public), log=plan.sign.log))


def write_shared_cache(
    plan: Plan, project: Project, built: Sequence[BuiltImage], pushed: Sequence[str], ctx: Context,
    remote: Remote | None = None,
) -> None:
    """Write the facts and layers of a build to its shared caches; a failure is only a warning.

    `pushed`: the repositories to which the images were pushed. `remote`: the registry client of that push. Raises
    SecretError if the facts contain a secret of the build.
    """
    shared, targets = shared_of(ctx), _places(plan.cache.targets, plan, ctx.environ)
    if shared is None or not targets:
        return
    from hatch_docker.bases.partial_tree import keep_partial_trees
    from hatch_docker.release.cache_artifact import make_artifact

    _note_unused_facts(built, ctx)
    try:
        layers = [layer for result in built for layer in result.image.layers]
        artifact = make_artifact(shared.written_facts, [*layers, *keep_partial_trees(ctx)])
        ctx.secrets.check("the shared cache", artifact.text)
        for fields in targets:
            name = fields.get("ref") or fields["dest"]
            if fields["type"] == "local":
                _write_directory(project.root / name, artifact)
            else:
                images = {layer.descriptor.digest for layer in layers}
                _push(name, artifact, pushed, images, plan, project.root, ctx, remote)
            ctx.progress.detail(f"the shared cache {name} has {megabytes(len(artifact.facts))} of records")
    except SecretError:
        raise
    except (HatchDockerError, OSError) as error:
        ctx.progress.warn(f"the shared cache was not written: {error}")


def _note_unused_facts(built: Iterable[BuiltImage], ctx: Context) -> None:
    """Add facts to the shared cache that this build did not read, because it had the results that depend on them."""
    from hatch_docker.bases.partial_tree import note_partial
    from hatch_docker.build.checks import loader, named
    from hatch_docker.release.sbom import inventory

    for result in built:
        note_partial(tree_key(result.base), ctx)
        for layer in result.image.layers:
            ctx.store.recall(inventory.KIND, key_of(inventory.RECIPE, layer.diff_id))
            ctx.store.recall(named.FILES, key_of(named.RECIPE, layer.diff_id))
            for whole in (False, True):
                ctx.store.recall(loader.KIND, key_of(loader.RECIPE, layer.diff_id, whole))
        for kind, key in result.base.fact_keys:
            ctx.store.recall(kind, key)


def _push(
    name: str, artifact: CacheArtifact, pushed: Sequence[str], images: Collection[str], plan: Plan, root: Path,
    ctx: Context, remote: Remote | None,
) -> None:
    """Push an artifact to a tag, unless this machine wrote or read the same digest there last; sign it if images are.

    `images`: the digests of layers that the repositories in `pushed` already have.
    """
    from hatch_docker.oci.push import Target, push_blob, put_manifest
    from hatch_docker.oci.referrers import EMPTY, EMPTY_TYPE
    from hatch_docker.oci.registry import Remote
    from hatch_docker.release.cache_artifact import FACTS

    reference, digest = parse_reference(name), artifact.descriptor.digest
    if reference.digest:
        raise ConfigError(f"tool.hatch-docker.cache.to: {name} is a digest, which cannot be written; use a tag")
    assert isinstance(ctx.store, SharedStore)
    key = key_of(str(reference))
    if ctx.store.local.recall(LAST_DIGEST, key) == digest:
        return
    names = [parse_reference(repository) for repository in pushed]
    mount = next((known.repository for known in names if known.registry == reference.registry), "")
    new_blobs = frozenset({digest_of(artifact.facts)})
    access = remote or Remote(ctx.client, ctx.environ)
    target = Target(access, replace(reference, tag=""), lambda _digest: mount, new_blobs=new_blobs)
    present = images if reference.name in [known.name for known in names] else frozenset[str]()
    blobs: list[tuple[Descriptor, Opener]] = [
        (Descriptor(media_type, digest_of(data), len(data)), partial(io.BytesIO, data))
        for media_type, data in ((EMPTY_TYPE, EMPTY), (FACTS, artifact.facts))
    ]
    blobs += [(layer.descriptor, layer.open) for layer in artifact.layers if layer.descriptor.digest not in present]
    at_once(*(partial(push_blob, target, *blob) for blob in blobs))
    put_manifest(target, reference.tag, artifact.descriptor, artifact.manifest)
    if plan.sign is not None:
        from hatch_docker.release.cosign import Cosign
        from hatch_docker.release.sign import Signer

        signer = Signer(Cosign(root, ctx), plan.sign, target)
        signer.run(*signer.arguments("sign"), str(reference.pinned(digest)))
    ctx.store.local.remember(LAST_DIGEST, key, digest)


def _write_directory(directory: Path, artifact: CacheArtifact) -> None:
    """Write an artifact with its layers as an OCI layout, and remove the blobs of the previous artifact."""
    from hatch_docker.oci.referrers import EMPTY

    if any(directory.glob("*")) and not (directory / "oci-layout").is_file():
        raise ImageError(f"{directory} contains other files than a shared cache: set an empty directory")
    mark_as_cache(directory)
    paths = set()

    def write(digest: str, copy: Callable[[Any], object]) -> None:
        path = directory / blob_path(digest)
        paths.add(path)
        if not path.is_file():
            with atomic_write(path) as out:
                copy(out)

    for data in (EMPTY, artifact.facts, artifact.manifest):
        write(digest_of(data), lambda out, data=data: out.write(data))  # type: ignore[misc]
    for layer in artifact.layers:
        write(layer.descriptor.digest, partial(copy_layer, layer))
    for name, data in (("oci-layout", LAYOUT), ("index.json", index_json(artifact.descriptor, []))):
        write_file(directory / name, data)
    for path in set((directory / "blobs/sha256").iterdir()) - paths:
        path.unlink(missing_ok=True)
