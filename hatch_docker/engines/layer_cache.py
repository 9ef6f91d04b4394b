"""Cache of layers. The key of a layer is a hash of everything that decides its bytes: a known key is a known digest.

Keys are made of contents, never of paths or times. `layer_by_key` adds the compression to each of them; the keys of a
Debian base hold it already.

    layer                     key                   what enters it
    wheels                    wheels_layer_key      Python's version; the base's layers where its Python is not Debian's
                                                    (it makes the .pyc); the environment's directory, and the path of
                                                    the interpreter if the environment's own files are in the layer; of
                                                    each wheel its digest, and the rules by which files are left out;
                                                    "sources only" if nothing can make the .pyc
    wheels out of a stage     stage_tree_key        the same, but of wheels that the stage builds the sdist's contents,
                                                    the digests of its build requirements, the compiler's key, and
                                                    variables, arguments, secrets' names, network and SSH of the build
    `runtime.packages`, apt   packages_layer_key    the base's layers; the digests of the .debs, or the names where apt
                                                    of the base finds the packages
    `files`                   files_layer_key       path, kind, mode, link and digest of every entry
    a step                    step_layer_key        the layers below: of base, wheels, files, and steps before it;
                                                    command, outputs, variables, secrets' names, network, user,
                                                    working directory, engine; path, kind, mode and digest of
                                                    every input
    `volumes`                 volumes_layer_key     path, mode, user and group of every directory
    compiler, for a builder   compiler_layer_key    the name of its tree in the store, a key of its packages
    Debian base               `bases.debian.base`   the digests of its packages; `debian.slim`; whether .pyc are in it
    `runtime.packages`, .deb  `bases.debian.base`   the layer below; the digests of the packages; whether BusyBox is
                                                    its shell
    base from a registry      none                  its own digest

Facts about wheels (files, programs, modules without .pyc) are remembered under `wheel_facts_key` and `programs_key`.
Raise a recipe's number when the same inputs give other bytes from now on.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hatch_docker.bases.model import Base
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import SecretError
from hatch_docker.core.secrets import PIECE, fingerprint
from hatch_docker.core.streams import pieces
from hatch_docker.core.text import abbreviate
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.media_types import OCI
from hatch_docker.oci.model import Descriptor, Layer
from hatch_docker.oci.tar import Entry
from hatch_docker.plan.model import StepPlan
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.install.slim import Rules

KIND = "layer"
SEARCHED = "layer-searched"  # secrets that a layer was searched for, by its digest and the key of the marks
WHEELS_RECIPE = STAGE_RECIPE = PACKAGES_RECIPE = FILES_RECIPE = VOLUMES_RECIPE = STEP_RECIPE = 1


def wheels_layer_key(base: Base, venv: VenvTarget, identities: Sequence[object], *, own_files: bool) -> str:
    """Return the key of a layer of wheels; `identities` are theirs, `own_files` are the environment's."""
    return key_of("wheels", WHEELS_RECIPE, *_environment(base, venv, own_files=own_files), identities)


def stage_tree_key(base: Base, venv: VenvTarget, inputs: Sequence[object], *, own_files: bool) -> str:
    """Return the key of a layer of wheels that a stage of the Dockerfile installs; `inputs` decide the wheels."""
    return key_of("stage", STAGE_RECIPE, *_environment(base, venv, own_files=own_files), inputs)


def _environment(base: Base, venv: VenvTarget, *, own_files: bool) -> tuple[str, ...]:
    home = base.interpreter.path if own_files else ""
    return base.interpreter.build, base.interpreter_trust_key, venv.root, home


def with_packages_key(base: Base, packages: Sequence[str], *, given: bool) -> str:
    """Return the key of a base with packages: their digests if they are `given`, else their names."""
    diff_ids = [layer.diff_id for layer in base.image.layers]
    return key_of("debs", PACKAGES_RECIPE, diff_ids, not given, packages)


def packages_layer_key(with_packages: str) -> str:
    """Return the key of the layer of `runtime.packages`, of the base's key with them."""
    return key_of("system", STAGE_RECIPE, with_packages)


def compiler_layer_key(tree: str) -> str:
    """Return the key of the layer of a builder root, of its tree's name in the store."""
    return key_of("builder image", STAGE_RECIPE, tree)


def files_layer_key(entries: Iterable[Entry], digests: Mapping[str, str]) -> str:
    """Return the key of the layer of `files`; `digests` are those of their contents, by path."""
    return key_of("files", FILES_RECIPE, _rows(entries, digests))


def _rows(entries: Iterable[Entry], digests: Mapping[str, str]) -> list[list[object]]:
    return [[entry.path, entry.kind, entry.mode, entry.target, digests.get(entry.path, "")] for entry in entries]


def step_layer_key(
    below: Iterable[Layer], step: StepPlan, env: Mapping[str, str], user: Sequence[int], workdir: str,
    inputs: Iterable[Entry], digests: Mapping[str, str],
) -> str:  # fmt: skip
    """Return the key of the layer of a step above some layers; `digests` are those of its inputs, by path."""
    settings = [step.command, step.outputs, dict(env), sorted(step.secrets), step.network, user, workdir]
    return key_of("step", STEP_RECIPE, [layer.diff_id for layer in below], settings, _rows(inputs, digests))


def volumes_layer_key(entries: Iterable[Entry]) -> str:
    """Return the key of the layer of `volumes`."""
    return key_of("volumes", VOLUMES_RECIPE, [[entry.path, entry.mode, entry.uid, entry.gid] for entry in entries])


def wheel_facts_key(venv: VenvTarget, digest: str, rules: Rules) -> str:
    """Return the key of what is remembered of a wheel, as it is installed by some rules."""
    return key_of(WHEELS_RECIPE, venv.root, venv.interpreter.name, digest, *(rules if rules.leave_out else ()))


def programs_key(venv: VenvTarget, identities: Sequence[object]) -> str:
    """Return the key of the names of the programs that some wheels bring."""
    return key_of(WHEELS_RECIPE, venv.root, venv.interpreter.name, identities)


def recall_layer(key: str, compression: Compression, ctx: Context) -> Layer | None:
    """Return the layer remembered under a key, if the store still has its bytes or the build may do without them."""
    fact = ctx.store.recall(KIND, _full(key, compression))
    if fact is None or not (ctx.store.has(fact["digest"]) or ctx.lazy or ctx.store.is_available(fact["digest"])):
        return None
    return _layer(fact, compression, ctx)


def layer_by_key(
    key: str, compression: Compression, ctx: Context, make: Callable[[], Iterable[Entry]], *, title: str = ""
) -> tuple[Layer, bool]:
    """Return the layer remembered under a key, else one made of `make()`'s entries, and whether it was remembered.

    `key` stands for the entries' contents; `title` is shown while the layer is made. Two builds that want the same
    layer at once make it once. Raises SecretError, and does not keep the layer, if it holds a secret of the build.
    """
    if found := recall_layer(key, compression, ctx):
        return found, True
    with ctx.store.lock(f"{KIND}-{_full(key, compression)}"):
        if found := recall_layer(key, compression, ctx):
            return found, True
        from hatch_docker.oci.layer import without_setid, write_layer

        shown = ctx.progress.task(title, part=True) if title else contextlib.nullcontext()
        with shown, ctx.store.writer() as writer:
            fact = asdict(write_layer(map(without_setid, make()), writer, compression, ctx.secrets.search()))
            writer.commit()
        ctx.store.remember(KIND, _full(key, compression), fact)
    return _layer(fact, compression, ctx), False


def search_layers(layers: Iterable[Layer], ctx: Context, new: Collection[str] = ()) -> None:
    """Search layers for secrets that they were not searched for when they were made.

    `new` are the digests of layers that were searched just now, when they were made. Raises SecretError for a layer
    that holds a secret, and removes it from the store.
    """
    sought = ctx.secrets.search_terms
    for layer in layers:
        digest = layer.descriptor.digest
        key = key_of(digest, fingerprint())
        searched = set(ctx.store.recall(SEARCHED, key) or ())
        if sought <= searched or (ctx.lazy and not ctx.store.has(digest)):
            continue  # it is made again where it is needed
        if digest not in new:
            try:
                _search(layer, ctx)
            except SecretError:
                ctx.store.blob_path(digest).unlink(missing_ok=True)
                raise
        ctx.store.remember(SEARCHED, key, sorted(sought | searched))


def _search(layer: Layer, ctx: Context) -> None:
    search = ctx.secrets.search()
    if search is None:
        return
    from hatch_docker.oci.layer import layer_entries

    for entry, content in layer_entries(layer):
        feed = search(entry.path)
        feed(f"{entry.path}\0{entry.target}\0".encode(errors="surrogateescape"))
        for piece in pieces(content, PIECE) if content is not None else ():
            feed(piece)


def layer_title(titles: Sequence[str]) -> str:
    """Return the title shown while the layer of some packages is made."""
    return f"layer of {abbreviate(titles)}"


def _full(key: str, compression: Compression) -> str:
    return key_of(key, compression.identity)


def _layer(fact: dict[str, Any], compression: Compression, ctx: Context) -> Layer:
    """Return the layer that a remembered LayerFacts describes; its bytes are in the store."""
    digest = fact["digest"]
    descriptor = Descriptor(OCI.layer_type(compression.name), digest, fact["size"])
    return Layer(descriptor, fact["diff_id"], fact["unpacked_size"], lambda: ctx.store.open(digest))
