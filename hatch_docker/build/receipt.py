"""Receipt: the result of a build, as JSON beside the archive and as the printed table of sizes."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from hatch_docker.core.errors import ImageError
from hatch_docker.core.files import ARCHIVE, RECEIPT, json_text, write_file
from hatch_docker.core.progress import LongTask
from hatch_docker.core.text import megabytes, percentage
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
    """One layer. Sizes are in bytes: `size` is compressed, as stored; `unpacked_size` is that of the tar."""

    digest: Line
    diff_id: Line
    size: int
    unpacked_size: int | None
    kind: Line
    contents: tuple[str, ...]
    cached: bool


@dataclass(frozen=True, slots=True)
class PlatformReceipt:
    """The image for one platform. `unpacked_size`: the sum of the layers' tars, in bytes.

    `left_out`: number and size of files of wheels that are not in the image, by kind.
    """

    platform: Line
    digest: Line
    size: int
    unpacked_size: int
    layers: tuple[LayerReceipt, ...]
    left_out: tuple[Excluded, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A task of a build that took a second or more. `within`: the title of the task that it is a part of."""

    title: Line
    seconds: float
    within: Line = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of a build. `digest`: of the manifest, or of the index if there are several platforms.

    `references`: the image's names, by digest in registries, by tag in a daemon. `repositories` and `tags`: the targets
    of a push. `deliveries`: the result of each push. `read_receipt` validates the types of the fields.
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
    wheel: WheelInfo | None                     # the project's wheel; None if platforms have different wheels
    sbom: tuple[Document, ...]
    provenance: Document | None
    timings: Mapping[str, float]                # seconds by step
    steps: tuple[Step, ...] = ()                # tasks that took a second or more, with the printed titles
    hints: tuple[str, ...] = ()
    part: Annotated[str, "[a-z0-9_-]*"] = ""    # NAME of images.NAME, if the project has several images
    members: tuple[WheelInfo, ...] = ()         # wheels of workspace members; () if platforms have different ones

    @property
    def pushed(self) -> tuple[str, ...]:
        """The image's references by digest, one for each successful push."""
        return tuple(delivery.reference for delivery in self.deliveries if not delivery.error)

    @property
    def documents(self) -> tuple[Document, ...]:
        """The files beside the archive that are pushed with the image."""
        return (*self.sbom, *((self.provenance,) if self.provenance else ()))

    @property
    def size(self) -> int:
        """The compressed size of the layers of all platforms, in bytes; a shared layer counts once."""
        layers = {layer.digest: layer.size for platform in self.platforms for layer in platform.layers}
        return sum(layers.values())

    def write(self, path: Path) -> None:
        """Write the file `<name>-<version>.image.json`."""
        write_file(path, self.to_json())

    def to_json(self) -> bytes:
        """Return the contents of the receipt file."""
        return json_text(asdict(self))


def make_receipt(
    plan: Plan, item: Image | Index, built: Sequence[BuiltImage], *,
    archive: str, documents: Sequence[Document], loaded: Sequence[str], deliveries: Sequence[PushResult],
    timings: Mapping[str, float], steps: Sequence[LongTask] = (), hints: Sequence[str] = (),
) -> Receipt:
    """Return the receipt of a build. `timings` and `steps` are in seconds, and rounded to milliseconds."""
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


def receipt_from_image(item: Image | Index, archive: str, image: str, tags: Sequence[str]) -> Receipt:
    """Return a receipt for an archive that has none, from the data in the image alone."""
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
    """Return the receipt in a file. Raises ImageError if it cannot be read or has another format."""
    try:
        return read_record(Receipt, json.loads(path.read_bytes()))
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{path} is not a receipt of this version of hatch-docker: build again") from error


def receipt_path(archive: Path) -> Path:
    """Return the path of the receipt beside an archive; the file may not exist."""
    return archive.with_name(archive.name.removesuffix(ARCHIVE) + RECEIPT)


def receipt_beside(archive: Path) -> Receipt | None:
    """Return the receipt beside an archive; None if the archive does not exist, or has no readable receipt."""
    path = receipt_path(archive)
    with contextlib.suppress(ImageError):
        return read_receipt(path) if archive.is_file() and path.is_file() else None
    return None


def size_rows(platform: PlatformReceipt) -> list[tuple[str, int, int, str]]:
    """Return a row for each kind of layer and the total: title, unpacked bytes, compressed bytes, made or reused."""
    found = []
    for kind in KINDS:
        if layers := [layer for layer in platform.layers if layer.kind == kind]:
            count = sum(not layer.cached for layer in layers)
            state = "reused" if not count else "made" if count == len(layers) else f"{count} of {len(layers)} made"
            unpacked = sum(layer.unpacked_size or 0 for layer in layers)
            found.append((TITLES[kind], unpacked, sum(layer.size for layer in layers), state))
    return [*found, ("total", platform.unpacked_size, platform.size, "")]


def size_table(receipt: Receipt, *, short: bool = False) -> list[str]:
    """Return a line for each kind of layer: its size in MB (10^6 bytes) and its share of the unpacked size.

    `short`: shorten the digests, for a terminal.
    """
    lines = []
    for platform in receipt.platforms:
        title = f"{receipt.part}: " if receipt.part else ""
        lines.append(f"{title}{platform.platform}  {platform.digest[:19] if short else platform.digest}")
        for kind, unpacked, stored, state in size_rows(platform):
            part = f"{megabytes(unpacked):>10}  {percentage(unpacked, platform.unpacked_size):>7}"
            lines.append(f"  {kind:<16}{part}   {megabytes(stored):>10} compressed   {state}".rstrip())
        lines += [f"  {line}" for line in left_out_lines(platform.left_out)]
    return lines


def left_out_lines(left_out: Sequence[Excluded]) -> list[str]:
    """Return a line with the sizes (MB) of files of wheels that are not in the image; [] if there are none."""
    if not left_out:
        return []
    kinds = ", ".join(f"{part.kind} {megabytes(part.size)}" for part in left_out)
    return [f"{'left out':<16}{megabytes(sum(part.size for part in left_out)):>10}  {kinds}"]
