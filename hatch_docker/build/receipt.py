"""Receipt: the result of a build, as JSON beside the archive and as the table of sizes that a user reads."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from hatch_docker.core.errors import ImageError
from hatch_docker.core.files import ARCHIVE, RECEIPT, json_text, write_file
from hatch_docker.core.progress import LongTask
from hatch_docker.core.text import megabytes, share
from hatch_docker.core.validation import FileName, Line, read_record
from hatch_docker.engines.model import BuiltImage, Excluded, LayerInfo, WheelInfo
from hatch_docker.oci.model import Image, Index, images_of
from hatch_docker.plan.model import Plan
from hatch_docker.plan.naming import PREFIX
from hatch_docker.project.git import DIRTY
from hatch_docker.release.model import Document
from hatch_docker.release.push import PushResult

TITLES = {"base": "base", "system": "system packages", "dependencies": "dependencies", "project": "your code",
          "files": "your files", "step": "your steps"}
KINDS = tuple(TITLES)


@dataclass(frozen=True, slots=True)
class LayerReceipt:
    """One layer; sizes in bytes, `size` as stored, `unpacked_size` of its tar."""

    digest: Line
    diff_id: Line
    size: int
    unpacked_size: int | None
    kind: Line
    contents: tuple[str, ...]
    cached: bool


@dataclass(frozen=True, slots=True)
class PlatformReceipt:
    """The image for one platform; `unpacked_size` is the sum of its layers' tars in bytes.

    `left_out` counts the files of its wheels that were left out of the image.
    """

    platform: Line
    digest: Line
    size: int
    unpacked_size: int
    layers: tuple[LayerReceipt, ...]
    left_out: tuple[Excluded, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a build that took a second or more, its seconds, and the title of the step that it is a part of."""

    title: Line
    seconds: float
    within: Line = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of a build; `digest` is that of the manifest, or of the index if there are several platforms.

    `references` are the image's names: by digest where it was pushed, by tag where it was loaded. `repositories` and
    `tags` say where a push would bring it, `deliveries` how each push ended. The fields' types are those that
    `read_receipt` accepts.
    """

    schema: int
    name: Line
    version: Line
    digest: Line
    references: tuple[Line, ...]
    archive: FileName                           # beside the receipt; "" if none was written
    image: Line                                 # the name without a tag
    tags: tuple[Line, ...]
    repositories: tuple[Line, ...]
    deliveries: tuple[PushResult, ...]
    revision: Line                              # the commit, "" if there is none
    dirty: tuple[str, ...]                      # paths that differ from that commit
    platforms: tuple[PlatformReceipt, ...]
    base: Mapping[str, Line]                    # "name" and "digest"
    python: Line
    wheel: WheelInfo | None                     # the project's own; None if each platform has another
    sbom: tuple[Document, ...]
    provenance: Document | None
    timings: Mapping[str, float]                # seconds by step
    steps: tuple[Step, ...] = ()                # of those timings, each that took a second or more, as it was shown
    hints: tuple[str, ...] = ()
    part: Annotated[str, "[a-z0-9_-]*"] = ""    # NAME of images.NAME, if the project has several images
    members: tuple[WheelInfo, ...] = ()         # of the workspace; empty as well if each platform has others

    @property
    def pushed(self) -> tuple[str, ...]:
        """The image's names by digest in the registries that have it."""
        return tuple(delivery.reference for delivery in self.deliveries if not delivery.error)

    @property
    def documents(self) -> tuple[Document, ...]:
        """The files beside the archive that are pushed with the image."""
        return (*self.sbom, *((self.provenance,) if self.provenance else ()))

    @property
    def size(self) -> int:
        """Bytes of all layers of all platforms as stored, each once."""
        layers = {layer.digest: layer.size for platform in self.platforms for layer in platform.layers}
        return sum(layers.values())

    def write(self, path: Path) -> None:
        """Write the file `<name>-<version>.image.json`."""
        write_file(path, self.to_json())

    def to_json(self) -> bytes:
        """Return the contents of that file."""
        return json_text(asdict(self))


def make_receipt(
    plan: Plan, item: Image | Index, built: Sequence[BuiltImage], *,
    archive: str, documents: Sequence[Document], loaded: Sequence[str], deliveries: Sequence[PushResult],
    timings: Mapping[str, float], steps: Sequence[LongTask] = (), hints: Sequence[str] = (),
) -> Receipt:
    """Return the receipt of what an engine built; times are in seconds and get rounded to milliseconds."""
    base = built[0].base
    wheels, members = {image.wheel for image in built}, {image.members for image in built}
    pushed = [delivery.reference for delivery in deliveries if not delivery.error]
    return Receipt(
        schema=1, name=plan.name, version=plan.version, digest=item.digest, references=(*pushed, *loaded),
        archive=archive, image=plan.image, tags=plan.tags, repositories=plan.repositories,
        deliveries=tuple(deliveries), revision=plan.revision, dirty=plan.dirty,
        platforms=tuple(_platform(result.image, result.notes, result.left_out) for result in built),
        base={"name": base.name, "digest": base.digest}, python=base.interpreter.build,
        wheel=wheels.pop() if len(wheels) == 1 else None,
        sbom=tuple(document for document in documents if document.format != "slsa"),
        provenance=next((document for document in documents if document.format == "slsa"), None),
        timings={step: round(seconds, 3) for step, seconds in timings.items()},
        steps=tuple(Step(title, round(seconds, 3), within) for title, seconds, within in steps), hints=tuple(hints),
        part=plan.part, members=members.pop() if len(members) == 1 else (),
    )  # fmt: skip


def _platform(image: Image, notes: Sequence[LayerInfo], left_out: tuple[Excluded, ...] = ()) -> PlatformReceipt:
    layers = tuple(
        LayerReceipt(
            layer.descriptor.digest, layer.diff_id, layer.descriptor.size, layer.unpacked_size,
            note.kind, note.contents, note.cached,
        )
        for layer, note in zip(image.layers, notes, strict=True)
    )
    unpacked = sum(layer.unpacked_size or 0 for layer in layers)
    return PlatformReceipt(str(image.platform), image.digest, image.size, unpacked, layers, left_out)


def bare_receipt(item: Image | Index, archive: str, image: str, tags: Sequence[str]) -> Receipt:
    """Return a receipt for an archive that has lost its own: no more than the image itself says."""
    images = images_of(item)
    labels: dict[str, str] = images[0].settings.get("Labels") or {}
    revision = labels.get(PREFIX + "revision", "")
    unknown = LayerInfo("", (), cached=True)
    platforms = tuple(_platform(image, [unknown] * len(image.layers)) for image in images)
    return Receipt(
        schema=1, name=labels.get(PREFIX + "title", image), version=labels.get(PREFIX + "version", ""),
        digest=item.digest, references=(), archive=archive, image=image, tags=tuple(tags), repositories=(),
        deliveries=(), revision=revision, dirty=(revision,) if revision.endswith(DIRTY) else (), platforms=platforms,
        base={}, python="", wheel=None, sbom=(), provenance=None, timings={},
    )  # fmt: skip


def read_receipt(path: Path) -> Receipt:
    """Return the receipt in a file. Raises ImageError if it cannot be read, or this version did not write it."""
    try:
        return read_record(Receipt, json.loads(path.read_bytes()))
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{path} is not a receipt of this version of hatch-docker: build again") from error


def receipt_path(archive: Path) -> Path:
    """Return the path of an archive's receipt: beside it, whether it exists or not."""
    return archive.with_name(archive.name.removesuffix(ARCHIVE) + RECEIPT)


def receipt_beside(archive: Path) -> Receipt | None:
    """Return the receipt of an archive; None if there is no archive, or no receipt beside it that can be read."""
    path = receipt_path(archive)
    with contextlib.suppress(ImageError):
        return read_receipt(path) if archive.is_file() and path.is_file() else None
    return None


def costs(platform: PlatformReceipt) -> list[tuple[str, int, int, str]]:
    """Return title, unpacked and stored bytes of each kind of layer, and whether its layers had to be made.

    The last row is the total.
    """
    found = []
    for kind in KINDS:
        if layers := [layer for layer in platform.layers if layer.kind == kind]:
            made = sum(not layer.cached for layer in layers)
            state = "reused" if not made else "made" if made == len(layers) else f"{made} of {len(layers)} made"
            unpacked = sum(layer.unpacked_size or 0 for layer in layers)
            found.append((TITLES[kind], unpacked, sum(layer.size for layer in layers), state))
    return [*found, ("total", platform.unpacked_size, platform.size, "")]


def size_table(receipt: Receipt, *, short: bool = False) -> list[str]:
    """Return a line for each kind of layer: its size in MB (10^6 bytes) and its share of the unpacked size.

    `short` cuts the digests, so that a line fits a terminal.
    """
    lines = []
    for platform in receipt.platforms:
        title = f"{receipt.part}: " if receipt.part else ""
        lines.append(f"{title}{platform.platform}  {platform.digest[:19] if short else platform.digest}")
        for kind, unpacked, stored, state in costs(platform):
            part = f"{megabytes(unpacked):>10}  {share(unpacked, platform.unpacked_size):>7}"
            lines.append(f"  {kind:<16}{part}   {megabytes(stored):>10} compressed   {state}".rstrip())
        lines += [f"  {line}" for line in left_out_lines(platform.left_out)]
    return lines


def left_out_lines(left_out: Sequence[Excluded]) -> list[str]:
    """Return a line with the sizes of what was left out of wheels, in MB; no line if nothing was."""
    if not left_out:
        return []
    kinds = ", ".join(f"{part.kind} {megabytes(part.size)}" for part in left_out)
    return [f"{'left out':<16}{megabytes(sum(part.size for part in left_out)):>10}  {kinds}"]
