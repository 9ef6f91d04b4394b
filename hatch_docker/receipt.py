"""Receipt: what was made, as JSON beside the archive and as the summary a user reads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hatch_docker.engines import Built, LeftOut
from hatch_docker.errors import ImageError
from hatch_docker.oci.model import Image, Index, images_of
from hatch_docker.outputs import ARCHIVE, RECEIPT
from hatch_docker.plan import Plan
from hatch_docker.progress import megabytes, share
from hatch_docker.release.deliver import Delivery
from hatch_docker.release.model import Document
from hatch_docker.release.names import PREFIX
from hatch_docker.revision import DIRTY
from hatch_docker.shape import misfit

KINDS = ("base", "system", "dependencies", "project", "files")
CALLED = {"base": "base", "system": "system packages", "dependencies": "dependencies", "project": "your code",
          "files": "your files"}
# What is read of the file, as `shape.misfit` reads it: it names files, and goes on to pipelines line by line.
_LINE = r"[^\x00-\x1f\x7f]*"
_FILE = r"[^\x00-\x1f\x7f/]*"
_SECONDS = (int, float)
_DOCUMENT = {"file": _FILE, "*": _LINE}
_LAYER = {
    "size": int, "unpacked_size": (int, lambda value: value is None), "contents": [str], "cached": bool, "*": _LINE,
}
_PLATFORM = {
    "size": int, "unpacked_size": int, "layers": [_LAYER], "left_out?": [{"files": int, "size": int, "*": _LINE}],
    "*": _LINE,
}  # fmt: skip
_DELIVERY = {
    "tags": [_LINE], "sent": int, "mounted": int, "seconds": _SECONDS, "attached": int, "transient": bool, "error": str,
    "*": _LINE,
}  # fmt: skip
_RECEIPT = {
    "schema": int, "archive": _FILE, "references": [_LINE], "tags": [_LINE], "repositories": [_LINE],
    "deliveries": [_DELIVERY], "dirty": [str], "platforms": [_PLATFORM], "base": {"*": _LINE},
    "wheel": ({"filename": _FILE, "sha256": _LINE}, lambda value: value is None), "sbom": [_DOCUMENT],
    "provenance": (_DOCUMENT, lambda value: value is None), "timings": {"*": _SECONDS}, "hints?": [str],
    "part?": "[a-z0-9_-]*", "*": _LINE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LayerReceipt:
    """One layer; sizes in bytes, `size` as stored."""

    digest: str
    diff_id: str
    size: int
    unpacked_size: int | None
    kind: str
    contents: tuple[str, ...]
    cached: bool


@dataclass(frozen=True, slots=True)
class PlatformReceipt:
    """One image of the platforms asked for; `unpacked_size` is the sum of the layers' tars.

    `left_out` is what its wheels have and it has not.
    """

    platform: str
    digest: str
    size: int
    unpacked_size: int
    layers: tuple[LayerReceipt, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a build made; `digest` is that of the manifest, or of the index where there are several platforms.

    `references` are the names that it can be had by: by digest where it was pushed, by tag where it was loaded.
    `repositories` and `tags` are where a push would bring it, `deliveries` what became of one.
    """

    schema: int
    name: str
    version: str
    digest: str
    references: tuple[str, ...]
    archive: str                                # a name beside the receipt; "" where none was written
    image: str                                  # the name without a tag
    tags: tuple[str, ...]
    repositories: tuple[str, ...]
    deliveries: tuple[Delivery, ...]
    revision: str                               # the commit, "" where there is none
    dirty: tuple[str, ...]                      # paths that are not as that commit has them
    platforms: tuple[PlatformReceipt, ...]
    base: Mapping[str, str]
    python: str
    wheel: Mapping[str, str] | None             # the project's own; None where each platform has another
    sbom: tuple[Document, ...]
    provenance: Document | None
    timings: Mapping[str, float]
    hints: tuple[str, ...] = ()                 # what makes it large
    part: str = ""                              # which of several images of the project: NAME of images.NAME

    @property
    def pushed(self) -> tuple[str, ...]:
        """Its names by digest in the registries that have it."""
        return tuple(delivery.reference for delivery in self.deliveries if not delivery.error)

    @property
    def documents(self) -> tuple[Document, ...]:
        """What lies beside the archive and goes where the image goes."""
        return (*self.sbom, *((self.provenance,) if self.provenance else ()))

    @property
    def size(self) -> int:
        """Bytes of all layers of all platforms as stored, each once."""
        layers = {layer.digest: layer.size for platform in self.platforms for layer in platform.layers}
        return sum(layers.values())

    def to_json(self) -> bytes:
        """The file `<name>-<version>.image.json`."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False).encode() + b"\n"


def make_receipt(
    plan: Plan, item: Image | Index, built: Sequence[Built], *,
    archive: str, documents: Sequence[Document], loaded: Sequence[str], deliveries: Sequence[Delivery],
    timings: Mapping[str, float], hints: Sequence[str] = (),
) -> Receipt:
    """The receipt of what an engine built; timings are in seconds, to the millisecond."""
    first = built[0]
    pushed = [delivery.reference for delivery in deliveries if not delivery.error]
    return Receipt(
        schema=1,
        name=plan.name,
        version=plan.version,
        digest=item.digest,
        references=(*pushed, *loaded),
        archive=archive,
        image=plan.image,
        tags=plan.tags,
        repositories=plan.repositories,
        deliveries=tuple(deliveries),
        revision=plan.revision,
        dirty=plan.dirty,
        platforms=tuple(_platform(one) for one in built),
        base={"name": first.base.name, "digest": first.base.digest},
        python=first.base.interpreter.version,
        wheel=_wheel(built),
        sbom=tuple(one for one in documents if one.format != "slsa"),
        provenance=next((one for one in documents if one.format == "slsa"), None),
        timings={step: round(seconds, 3) for step, seconds in timings.items()},
        hints=tuple(hints),
        part=plan.part,
    )


def bare_receipt(item: Image | Index, archive: str, image: str, tags: Sequence[str]) -> Receipt:
    """What can be told of an archive that has lost its receipt; of its layers, no more than their sizes."""
    images = images_of(item)
    labels: dict[str, str] = (images[0].config_json.get("config") or {}).get("Labels") or {}
    revision = labels.get(PREFIX + "revision", "")
    platforms = tuple(
        PlatformReceipt(str(one.platform), one.digest, one.size, 0, tuple(
            LayerReceipt(layer.descriptor.digest, layer.diff_id, layer.descriptor.size, None, "", (), True)
            for layer in one.layers
        ))
        for one in images
    )  # fmt: skip
    return Receipt(
        schema=1, name=labels.get(PREFIX + "title", image), version=labels.get(PREFIX + "version", ""),
        digest=item.digest, references=(), archive=archive, image=image, tags=tuple(tags), repositories=(),
        deliveries=(), revision=revision, dirty=(revision,) if revision.endswith(DIRTY) else (), platforms=platforms,
        base={}, python="", wheel=None, sbom=(), provenance=None, timings={},
    )  # fmt: skip


def read_receipt(path: Path) -> Receipt:
    """The receipt in a file; raises ImageError for one that another version wrote, or nobody."""
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
        if misfit(_RECEIPT, value) is not None:
            raise ValueError
        value["deliveries"] = [Delivery(**_tuples(delivery)) for delivery in value["deliveries"]]
        value["sbom"] = [Document(**document) for document in value["sbom"]]
        value["provenance"] = Document(**value["provenance"]) if value["provenance"] else None
        for platform in value["platforms"]:
            platform["layers"] = [LayerReceipt(**_tuples(layer)) for layer in platform["layers"]]
            platform["left_out"] = [LeftOut(**one) for one in platform.get("left_out", ())]
        value["platforms"] = [PlatformReceipt(**_tuples(platform)) for platform in value["platforms"]]
        return Receipt(**_tuples(value))
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ImageError(f"{path} is no receipt of this version of hatch-docker: build again") from error


def receipt_path(archive: Path) -> Path:
    """Where the receipt of an archive is, or would be: beside it."""
    return archive.with_name(archive.name.removesuffix(ARCHIVE) + RECEIPT)


def receipt_beside(archive: Path) -> Receipt | None:
    """The receipt of an archive; None where there is no archive, or none that can be read is beside it."""
    path = receipt_path(archive)
    with contextlib.suppress(ImageError):
        return read_receipt(path) if archive.is_file() and path.is_file() else None
    return None


def _tuples(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}


def _wheel(built: Sequence[Built]) -> dict[str, str] | None:
    wheels = {one.wheel for one in built}
    only = wheels.pop() if len(wheels) == 1 else None
    return {"filename": only.filename, "sha256": only.sha256} if only else None


def _platform(built: Built) -> PlatformReceipt:
    layers = tuple(
        LayerReceipt(
            layer.descriptor.digest, layer.diff_id, layer.descriptor.size, layer.unpacked_size,
            note.kind, note.contents, note.cached,
        )
        for layer, note in zip(built.image.layers, built.notes, strict=True)
    )
    unpacked = sum(layer.unpacked_size or 0 for layer in layers)
    image = built.image
    return PlatformReceipt(str(image.platform), image.digest, image.size, unpacked, layers, built.left_out)


@dataclass(frozen=True, slots=True)
class Cost:
    """What the layers of one kind take, in bytes; `state` says whether they had to be made."""

    title: str
    unpacked: int
    stored: int
    state: str


def costs(platform: PlatformReceipt) -> list[Cost]:
    """What each kind of layer costs, and all of them together."""
    found = []
    for kind in KINDS:
        layers = [layer for layer in platform.layers if layer.kind == kind]
        if layers:
            made = sum(not layer.cached for layer in layers)
            state = "reused" if not made else "made" if made == len(layers) else f"{made} of {len(layers)} made"
            unpacked = sum(layer.unpacked_size or 0 for layer in layers)
            found.append(Cost(CALLED[kind], unpacked, sum(layer.size for layer in layers), state))
    return [*found, Cost("total", platform.unpacked_size, platform.size, "")]


def summary(receipt: Receipt, *, short: bool = False) -> list[str]:
    """What each kind of layer costs, in MB (10^6 bytes) and share of the unpacked size, one line each.

    `short` cuts the digests, so that a line fits a terminal.
    """
    lines = []
    for platform in receipt.platforms:
        title = f"{receipt.part}: " if receipt.part else ""
        lines.append(f"{title}{platform.platform}  {platform.digest[:19] if short else platform.digest}")
        for cost in costs(platform):
            part = share(cost.unpacked, platform.unpacked_size)
            unpacked, stored = (f"{megabytes(size):>10}" for size in (cost.unpacked, cost.stored))
            lines.append(f"  {cost.title:<16}{unpacked}  {part:>7}   {stored} compressed   {cost.state}".rstrip())
        lines += [f"  {line}" for line in left_out_lines(platform.left_out)]
    return lines


def left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """What is not in an image of what its wheels have, in MB; nothing where nothing is left out."""
    if not left_out:
        return []
    kinds = ", ".join(f"{one.kind} {megabytes(one.size)}" for one in left_out)
    return [f"{'left out':<16}{megabytes(sum(one.size for one in left_out)):>10}  {kinds}"]
