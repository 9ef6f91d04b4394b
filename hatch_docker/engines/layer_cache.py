"""Cache of layers. A layer's key is a hash of everything that determines its bytes: equal keys mean equal layers.

Keys contain digests and options, but no times and no paths of this machine. `layer_by_key` adds the compression to each
key; the keys of a Debian base contain it already.

    layer                     key                   inputs of the key
    wheels                    wheels_layer_key      Python's version; the base's layers, unless its Python is Debian's
                                                    (the Python makes the .pyc files); the environment's directory, and
                                                    the interpreter's path if the environment's own files are in the
                                                    layer; for each wheel its digest and the rules for leaving files
                                                    out; "sources only" if there are no .pyc files
    wheels, by BuildKit       stage_tree_key        the same, but for wheels that the stage builds: the sdist's content,
                                                    the digests of its build requirements, the compiler's key, and the
                                                    build's variables, arguments, secrets' names, network and SSH
    `runtime.packages`, apt   packages_layer_key    the base's layers; the digests of the .deb files, or the names if
                                                    the base's own apt chooses the packages
    `files`                   files_layer_key       path, kind, mode, link target and digest of each entry
    a step                    step_layer_key        the layers below (base, wheels, files, earlier steps); command,
                                                    outputs, variables, secrets' names, network, user, working
                                                    directory, engine; path, kind, mode and digest of each input
    `volumes`                 volumes_layer_key     path, mode, user and group of each directory
    compiler, for a builder   compiler_layer_key    the name of its tree in the store, which is a key of its packages
    Debian base               `bases.debian.base`   the digests of its packages; `debian.slim`; whether it has .pyc
    `runtime.packages`, .deb  `bases.debian.base`   the layer below; the digests of the packages; whether BusyBox is
                                                    its shell
    base from a registry      none                  its own digest

Facts about wheels (files, programs, modules without .pyc) are stored under `wheel_facts_key` and `programs_key`. Raise
a recipe's number if the same inputs give other bytes from now on.
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
SEARCHED = "layer-searched"  # the secrets that a layer was searched for, by its digest and the key of the marks
WHEELS_RECIPE = STAGE_RECIPE = PACKAGES_RECIPE = FILES_RECIPE = VOLUMES_RECIPE = STEP_RECIPE = 1


def wheels_layer_key(base: Base, venv: VenvTarget, identities: Sequence[object], *, own_files: bool) -> str:
    """Return the key of a layer of wheels. `identities`: of the wheels; `own_files`: with the environment's files."""
    return key_of("wheels", WHEELS_RECIPE, *_environment(base, venv, own_files=own_files), identities)


def stage_tree_key(base: Base, venv: VenvTarget, inputs: Sequence[object], *, own_files: bool) -> str:
    """Return the key of a layer of wheels that a stage of the Dockerfile installs. `inputs`: see `CopyStep.key`."""
    return key_of("stage", STAGE_RECIPE, *_environment(base, venv, own_files=own_files), inputs)


def _environment(base: Base, venv: VenvTarget, *, own_files: bool) -> tuple[str, ...]:
    home = base.interpreter.path if own_files else ""
    return base.interpreter.build, base.interpreter_trust_key, venv.root, home


def with_packages_key(base: Base, packages: Sequence[str], *, digests: bool) -> str:
    """Return the key of a base with Debian packages. `packages`: their digests if `digests` is true, else names."""
    diff_ids = [layer.diff_id for layer in base.image.layers]
    return key_of("debs", PACKAGES_RECIPE, diff_ids, not digests, packages)


def packages_layer_key(with_packages: str) -> str:
    """Return the key of the layer of `runtime.packages`. `with_packages`: see `with_packages_key`."""
    return key_of("system", STAGE_RECIPE, with_packages)


def compiler_layer_key(tree: str) -> str:
    """Return the key of the layer of a builder root. `tree`: the name of its tree in the store."""
    return key_of("builder image", STAGE_RECIPE, tree)


def files_layer_key(entries: Iterable[Entry], digests: Mapping[str, str]) -> str:
    """Return the key of the layer of `files`. `digests`: the digests of the files' contents by path."""
    return key_of("files", FILES_RECIPE, _rows(entries, digests))


def _rows(entries: Iterable[Entry], digests: Mapping[str, str]) -> list[list[object]]:
    return [[entry.path, entry.kind, entry.mode, entry.target, digests.get(entry.path, "")] for entry in entries]


def step_layer_key(
    below: Iterable[Layer], step: StepPlan, env: Mapping[str, str], user: Sequence[int], workdir: str,
    inputs: Iterable[Entry], digests: Mapping[str, str],
) -> str:  # fmt: skip
    """Return the key of the layer of a step on the layers `below`. `digests`: of the inputs' contents by path."""
    settings = [step.command, step.outputs, dict(env), sorted(step.secrets), step.network, user, workdir]
    return key_of("step", STEP_RECIPE, [layer.diff_id for layer in below], settings, _rows(inputs, digests))


def volumes_layer_key(entries: Iterable[Entry]) -> str:
    """Return the key of the layer of `volumes`."""
    return key_of("volumes", VOLUMES_RECIPE, [[entry.path, entry.mode, entry.uid, entry.gid] for entry in entries])


def wheel_facts_key(venv: VenvTarget, digest: str, rules: Rules) -> str:
    """Return the key of the facts about a wheel that is installed with `rules`."""
    return key_of(WHEELS_RECIPE, venv.root, venv.interpreter.name, digest, *(rules if rules.leave_out else ()))


def programs_key(venv: VenvTarget, identities: Sequence[object]) -> str:
    """Return the key of the names of the wheels' programs."""
    return key_of(WHEELS_RECIPE, venv.root, venv.interpreter.name, identities)


def recall_layer(key: str, compression: Compression, ctx: Context) -> Layer | None:
    """Return the cached layer of a key; None unless its bytes are stored, obtainable or not needed (`ctx.lazy`)."""
    fact = ctx.store.recall(KIND, _full(key, compression))
    if fact is None or not (ctx.store.has(fact["digest"]) or ctx.lazy or ctx.store.is_available(fact["digest"])):
        return None
    return _layer(fact, compression, ctx)


def layer_by_key(
    key: str, compression: Compression, ctx: Context, make: Callable[[], Iterable[Entry]], *, title: str = ""
) -> tuple[Layer, bool]:
    """Return the cached layer of a key, else a new layer of the entries that `make` returns, and whether it was cached.

    `title`: shown while the layer is made. If two builds need the same layer at the same time, one of them makes it.
    Raises SecretError, and does not store the layer, if it contains a secret of the build.
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
    """Search layers for the secrets that they have not been searched for yet.

    `new`: the digests of layers that this build has made, and searched at that time. Raises SecretError for a layer
    that contains a secret, and removes the layer from the store.
    """
    sought = ctx.secrets.search_terms
    for layer in layers:
        digest = layer.descriptor.digest
        key = key_of(digest, fingerprint())
        searched = set(ctx.store.recall(SEARCHED, key) or ())
        if sought <= searched or (ctx.lazy and not ctx.store.has(digest)):
            continue  # not in the store: the layer is made again, and searched, if its bytes are needed
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
    """Return the title for the progress display of a layer of packages."""
    return f"layer of {abbreviate(titles)}"


def _full(key: str, compression: Compression) -> str:
    return key_of(key, compression.identity)


def _layer(fact: dict[str, Any], compression: Compression, ctx: Context) -> Layer:
    """Return the layer for stored LayerFacts; its bytes are read from the store."""
    digest = fact["digest"]
    descriptor = Descriptor(OCI.layer_type(compression.name), digest, fact["size"])
    return Layer(descriptor, fact["diff_id"], fact["unpacked_size"], lambda: ctx.store.open(digest))
