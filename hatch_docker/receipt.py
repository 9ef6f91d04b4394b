"""Receipt: what was made, as JSON beside the archive and as the summary a user reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from hatch_docker.engines import Built
from hatch_docker.oci.model import Image, Index

KINDS = ("base", "system", "dependencies", "project", "files")
_CALLED = {"base": "base", "system": "system packages", "dependencies": "dependencies", "project": "your code",
           "files": "your files"}


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
    """One image of the platforms asked for; `unpacked_size` is the sum of the layers' tars."""

    platform: str
    digest: str
    size: int
    unpacked_size: int
    layers: tuple[LayerReceipt, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a build made; `digest` is that of the manifest, or of the index where there are several platforms."""

    schema: int
    name: str
    version: str
    digest: str
    references: tuple[str, ...]
    archive: str
    platforms: tuple[PlatformReceipt, ...]
    base: Mapping[str, str]
    python: str
    wheel: Mapping[str, str] | None             # the project's own; None where each platform has another
    sbom: str | None
    timings: Mapping[str, float]

    def to_json(self) -> bytes:
        """The file `<name>-<version>.image.json`."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False).encode() + b"\n"


def make_receipt(
    name: str, version: str, item: Image | Index, built: Sequence[Built], *,
    archive: str, references: Sequence[str], timings: Mapping[str, float],
) -> Receipt:
    """The receipt of what an engine built; timings are in seconds, to the millisecond."""
    first = built[0]
    return Receipt(
        schema=1,
        name=name,
        version=version,
        digest=item.digest,
        references=tuple(references),
        archive=archive,
        platforms=tuple(_platform(one) for one in built),
        base={"name": first.base.name, "digest": first.base.digest},
        python=first.base.interpreter.version,
        wheel=_wheel(built),
        sbom=None,
        timings={step: round(seconds, 3) for step, seconds in timings.items()},
    )


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
    return PlatformReceipt(str(built.image.platform), built.image.digest, built.image.size, unpacked, layers)


def summary(receipt: Receipt) -> list[str]:
    """What each kind of layer costs, in MB (10^6 bytes) and share of the unpacked size, one line each."""
    lines = []
    for platform in receipt.platforms:
        lines.append(f"{platform.platform}  {platform.digest}")
        for kind in KINDS:
            layers = [layer for layer in platform.layers if layer.kind == kind]
            if layers:
                lines.append(_row(_CALLED[kind], layers, platform.unpacked_size))
        lines.append(_row("total", list(platform.layers), platform.unpacked_size))
    return lines


def _row(title: str, layers: Sequence[LayerReceipt], whole: int) -> str:
    unpacked = sum(layer.unpacked_size or 0 for layer in layers)
    stored = sum(layer.size for layer in layers)
    made = sum(not layer.cached for layer in layers)
    state = "reused" if not made else "made" if made == len(layers) else f"{made} of {len(layers)} layers made"
    share = 100 * unpacked / whole if whole else 0
    row = f"  {title:<16}{_mb(unpacked)}  {share:5.1f} %   {_mb(stored)} compressed"
    return row if title == "total" else f"{row}   {state}"


def _mb(size: int) -> str:
    return f"{size / 1e6:7.2f} MB" if size >= 1_000_000 else f"{size / 1e3:7.2f} kB"
