"""The rebase engine: it puts the layers of a finished image on a newer base, unchanged, and builds nothing.

The image's configuration (entry point, labels, time) is kept, except for values that came from the old base: these are
taken from the new base.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from hatch_docker.bases.inspection import Facts, read_facts
from hatch_docker.bases.model import Base
from hatch_docker.bases.open import open_base
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, ImageError, RegistryError
from hatch_docker.core.streams import HashingStream, drain
from hatch_docker.engines.common import base_labels, with_absolute_paths
from hatch_docker.engines.model import HISTORY_PREFIX, BuiltImage, Engine, Excluded, LayerInfo, WheelInfo
from hatch_docker.engines.own_files import certificates_layer
from hatch_docker.oci.compression import LAYER_LIMIT, Compression, Decompressed
from hatch_docker.oci.layout import copy_layer
from hatch_docker.oci.make_image import Settings, build_image
from hatch_docker.oci.model import History, Image, Index, Layer, canonical_json, images_of
from hatch_docker.oci.pull import pull
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.registry import Remote
from hatch_docker.plan.model import CA_BUNDLE, DEFAULT_PATH, VENV, Plan
from hatch_docker.plan.naming import PREFIX
from hatch_docker.project.model import Project

DEBIAN = "hatch-docker: debian:"  # the start of `created_by` in the history of a Debian base's layers


@dataclass(frozen=True, slots=True)
class OldBase:
    """The base of an existing image: name and digest from the labels, its configuration and its number of layers."""

    name: str
    digest: str
    config: Mapping[str, Any]
    layers: int


def rebase(
    item: Image | Index, wheel: WheelInfo | None = None,
    left_out: Callable[[Image], tuple[Excluded, ...]] = lambda _image: (),
) -> Engine:
    """Return the engine that puts the images of `item` on the base of a plan.

    `wheel`: the project's wheel in it, if known. `left_out`: returns the files that were left out of an image's wheels.
    """

    def build(plan: Plan, project: Project, ctx: Context) -> tuple[BuiltImage, ...]:
        return tuple(
            replace(_rebase(image, plan, project, ctx), wheel=wheel, left_out=left_out(image))
            for image in images_of(item)
        )

    return build


def _rebase(image: Image, plan: Plan, project: Project, ctx: Context) -> BuiltImage:
    """Return the image on the new base.

    Raises BaseImageError if the wheels do not fit the new base, ImageError for an image that hatch-docker did not make,
    and RegistryError if the old base's settings cannot be read.
    """
    old = old_base(image, ctx)
    base_plan = replace(with_absolute_paths(plan.base, project.root), builder=None)
    base = open_base(base_plan, image.platform, ctx, compression=Compression(plan.compression))
    config = canonical_json({**image.config_json, "config": old.config.get("config")})
    below = replace(image, config=config, layers=image.layers[: old.layers])
    _check_fits(read_facts(below, old.name, ctx), old, base)
    _warn_if_older(str(old.config.get("created", "")), str(base.image.config_json.get("created", "")), base.name, ctx)
    history = [line for line in image.config_json["history"] if not line.get("empty_layer")][old.layers :]
    layers = [_store_layer(layer, ctx) for layer in image.layers[old.layers :]]
    if plan.ca_certificates:  # this layer contains the base's certificates too, so it is made again
        trusted, _ = certificates_layer(plan, project.root, base, Compression(plan.compression), ctx)
        layers = [
            trusted if CA_BUNDLE in line.get("comment", "").split(", ") else layer
            for layer, line in zip(layers, history, strict=True)
        ]
    # If the image's time was the old base's (no commit and no wheel had a date), take the new base's time.
    time = image.config_json.get("created")
    time = base.image.config_json.get("created", time) if time == old.config.get("created") else time
    try:
        created = int(datetime.fromisoformat(str(time)).timestamp())
    except ValueError:
        raise ImageError(f"{image.digest} has an invalid creation time: {str(time)[:40]!r}; build again") from None
    lines = (History(line["created_by"], line.get("comment", "")) for line in history)
    annotations = _with_base_labels(image.manifest_json.get("annotations") or {}, base, created)
    additions = list(zip(layers, lines, strict=True))
    rebased = build_image(base.image, additions, _settings(image, old, base, created), created, annotations)
    notes = [LayerInfo(kind, contents, base.cached) for kind, contents in zip(base.kinds, base.contents, strict=True)]
    for line in history:
        kind = str(line["created_by"]).removeprefix(HISTORY_PREFIX)
        notes.append(LayerInfo(kind, tuple(line.get("comment", "").split(", ")), cached=True))
    return BuiltImage(rebased, base, tuple(notes), origin=image.digest)


def _warn_if_older(old: str, new: str, name: str, ctx: Context) -> None:
    """Print a warning if the new base's time (RFC 3339) is before the old base's: it may lack security fixes."""
    try:
        older = datetime.fromisoformat(new) < datetime.fromisoformat(old)
    except (ValueError, TypeError):  # a base without a time, or without a time zone
        return
    if older:
        ctx.progress.warn(f"the base {name}, made {new}, is older than the one that the image has, made {old}")


def _with_base_labels(labels: Mapping[str, str], base: Base, created: int) -> dict[str, str]:
    """Return labels or annotations with the values of the new base (`base_labels`)."""
    own = {key: value for key, value in labels.items() if not key.startswith(PREFIX + "base.")}
    return {**own, **base_labels(base, created)}


def old_base(image: Image, ctx: Context) -> OldBase:
    """Return the base of an image that hatch-docker made; raises ImageError and RegistryError like `_rebase`."""
    config = image.config_json
    labels = image.settings.get("Labels") or {}
    name, digest = labels.get(PREFIX + "base.name", ""), labels.get(PREFIX + "base.digest", "")
    lines = [line for line in config.get("history") or [] if not line.get("empty_layer")]
    makers = [str(line.get("created_by", "")) for line in lines]
    own = any(maker.startswith(HISTORY_PREFIX) for maker in makers)
    if not digest or len(makers) != len(image.layers) or not own:
        raise ImageError(f"{image.digest} was not made by hatch-docker: it does not name its base")
    if name.startswith("debian:"):
        from hatch_docker.bases.debian.base import ENV

        where, count = name, sum(maker.startswith(DEBIAN) for maker in makers)
        fits = all(maker.startswith(DEBIAN) for maker in makers[:count])
        config = {"config": {"Env": [f"{variable}={value}" for variable, value in sorted(ENV.items())]}}
    else:
        found = _pull_old_base(name, digest, image, ctx)
        where, count, config = f"{name}@{digest}", len(found.layers), found.config_json
        fits = [layer.diff_id for layer in found.layers] == [layer.diff_id for layer in image.layers[:count]]
    if not fits or not all(maker.startswith(HISTORY_PREFIX) for maker in makers[count:]):
        raise ImageError(
            f"{image.digest} names the base {where}, and its layers are not those of that base; build again"
        )
    return OldBase(name, digest, config, count)


def _pull_old_base(name: str, digest: str, image: Image, ctx: Context) -> Image:
    """Return the old base from its registry or the cache; only the configuration is fetched, no layer."""
    if not name:
        raise ImageError(
            f"{image.digest} has the base {digest}, but not where it is (a layout on the machine that built it?), so "
            "its settings that come from the base are not known; build again"
        )
    try:
        return pull(Remote(ctx.client, ctx.environ), parse_reference(name).pinned(digest), image.platform, ctx.store)
    except RegistryError as error:
        reason = "the old base cannot be read, so the settings that the image has from it are not known; build again"
        raise error.with_message(f"{reason}: {error}") from error


def _check_fits(old: Facts, was: OldBase, base: Base) -> None:
    """Raise BaseImageError if the interpreter or the C library of the new base does not fit the image's wheels."""
    former, other = old.interpreter, base.interpreter
    if (former.name, former.path) != (other.name, other.path):
        raise BaseImageError(
            f"the image was made for Python {former.build} ({former.path}) of {was.name}, and base {base.name} has "
            f"Python {other.build} ({other.path}): its wheels do not fit; build again"
        )
    if old.libc[0] != base.libc[0] or _numbers(base.libc[1]) < _numbers(old.libc[1]):
        raise BaseImageError(
            f"the image was made for {' '.join(old.libc)} of {was.name}, and base {base.name} has "
            f"{' '.join(base.libc)}: its wheels may not run there; build again"
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _store_layer(layer: Layer, ctx: Context) -> Layer:
    """Copy a layer to the store and check its diff-id: this build may replace the archive that contains the layer."""
    digest = layer.descriptor.digest
    if not ctx.store.has(digest):
        with ctx.store.writer() as writer:
            copy_layer(layer, writer)
            writer.commit()
    with ctx.store.open(digest) as stream:
        unpacked = Decompressed(stream, LAYER_LIMIT)
        plain = HashingStream(unpacked)
        drain(plain)
    if plain.digest != layer.diff_id:
        raise ImageError(f"the layer {digest} does not unpack to {layer.diff_id}, as its image says")
    return replace(layer, unpacked_size=unpacked.size, open=lambda: ctx.store.open(digest))


def _settings(image: Image, old: OldBase, base: Base, created: int) -> Settings:
    """Return the image's settings that differ from the old base's."""
    image_config, base_config = (dict(config.get("config") or {}) for config in (image.config_json, old.config))
    # An image that sets one of entry point and command replaces both of its base.
    same = all(image_config.get(name) == base_config.get(name) for name in ("Entrypoint", "Cmd"))
    own = _difference(image_config, base_config)
    ports, volumes, labels = (
        _difference(image_config.get(name), base_config.get(name)) for name in ("ExposedPorts", "Volumes", "Labels")
    )
    return Settings(
        entrypoint=() if same else tuple(image_config.get("Entrypoint") or ()),
        cmd=() if same else tuple(image_config.get("Cmd") or ()),
        env=_environment(image_config.get("Env") or [], base_config.get("Env") or [], base),
        labels=_with_base_labels(labels, base, created),
        user=str(own.get("User") or ""), workdir=str(own.get("WorkingDir") or ""),
        ports=tuple(ports), volumes=tuple(volumes),
        stop_signal=str(own.get("StopSignal") or ""), healthcheck=own.get("Healthcheck"),
    )  # fmt: skip


def _difference(image: Mapping[str, Any] | None, base: Mapping[str, Any] | None) -> dict[str, Any]:
    before = base or {}
    return {key: value for key, value in (image or {}).items() if key not in before or before[key] != value}


def _environment(image: Sequence[str], old: Sequence[str], base: Base) -> dict[str, str]:
    """Return the image's variables that differ from the old base's; in PATH, the base's part is updated."""
    own, before = (dict(line.split("=", 1) for line in lines) for lines in (image, old))
    found = _difference(own, before)
    programs = f"/{VENV}/bin:"
    if found.get("PATH") == programs + before.get("PATH", DEFAULT_PATH):
        found["PATH"] = programs + base.image.env.get("PATH", DEFAULT_PATH)
    return found
