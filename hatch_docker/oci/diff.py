"""Where two images differ: the first layer that does, its files with the bytes and header fields, the settings.

What hangs on the rest (digests, a wheel's RECORD, .pyc of other sources) is told last or not at all.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from hatch_docker.core.files import scratch
from hatch_docker.core.streams import CHUNK, HashingReader, drain, pieces, read_fully
from hatch_docker.oci.compression import LAYER_LIMIT, Decompressed
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.model import Image, Index, Layer, images_of
from hatch_docker.oci.tar import Entry, read_tar

FILES = 10   # differing files of a layer that are told
RANGES = 3   # differing ranges of a file that are told
NEAR = 16    # bytes between two ranges that are told as one
_FIELDS = ("kind", "mode", "uid", "gid", "mtime", "target", "size")


def differences(one: Image | Index, other: Image | Index) -> list[str]:
    """What is different in `other`, as lines, the causes first; none where both have one digest.

    Of each platform the first layer that differs is looked into. Raises ImageError for a layer that cannot be read.
    """
    if one.digest == other.digest:
        return []
    left, right = ({image.platform: image for image in images_of(item)} for item in (one, other))
    apart = sorted(set(left) ^ set(right))
    lines = [f"{platform} is {'missing' if platform in left else 'new'}" for platform in apart]
    for platform in sorted(set(left) & set(right)):
        if left[platform].digest != right[platform].digest:
            lines += [f"{platform}: {line}" for line in _of_image(left[platform], right[platform])]
    if not lines and isinstance(one, Index) and isinstance(other, Index):
        lines = _of_json(json.loads(one.index), json.loads(other.index), "index")
    return lines or [f"{_kind(one)} became {_kind(other)}"]


def _kind(item: Image | Index) -> str:
    return "an index" if isinstance(item, Index) else "an image"


def _of_image(one: Image, other: Image) -> Iterator[str]:
    count = max(len(one.layers), len(other.layers))
    titles = _titles(one)
    for number, (left, right) in enumerate(zip(one.layers, other.layers, strict=False), 1):
        if left.diff_id != right.diff_id:
            yield f"layer {number} of {count}{titles[number - 1]}, {left.diff_id[:19]}, is {right.diff_id[:19]}"
            yield from (f"  {line}" for line in _of_layer(left, right))
            break
        if left.descriptor.digest != right.descriptor.digest:
            yield (
                f"layer {number} of {count}{titles[number - 1]} has the same files and is compressed otherwise: "
                f"{left.descriptor.size} bytes of {left.descriptor.media_type}, "
                f"{right.descriptor.size} of {right.descriptor.media_type}"
            )
            break
    if len(one.layers) != len(other.layers):
        yield f"{len(one.layers)} layers became {len(other.layers)}"
    yield from _of_json(_settings(one.config_json), _settings(other.config_json), "config")
    yield from _of_json(one.manifest_json.get("annotations"), other.manifest_json.get("annotations"), "annotations")


def _titles(image: Image) -> list[str]:
    """What made each layer, where the history says it of all."""
    lines = [line for line in image.config_json.get("history") or [] if not line.get("empty_layer")]
    if len(lines) != len(image.layers):
        return [""] * len(image.layers)
    return [f" ({line['created_by']})" if line.get("created_by") else "" for line in lines]


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what only repeats the layers."""
    return {key: value for key, value in config.items() if key != "rootfs"}


def _of_json(one: Any, other: Any, path: str) -> list[str]:
    if one == other:
        return []
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted({*one, *other})
        return [line for key in keys for line in _of_json(one.get(key), other.get(key), f"{path}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [line for number, pair in pairs for line in _of_json(*pair, f"{path}[{number}]")]
    return [f"{path}: {_shown(one)} -> {_shown(other)}"]


def _shown(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + "..."


@dataclass(frozen=True, slots=True)
class _Seen:
    """A member of a layer, and the digest of its bytes."""

    entry: Entry
    digest: str


def _of_layer(one: Layer, other: Layer) -> list[str]:
    left, right = _members(one), _members(other)
    paths = sorted({*left, *right}, key=lambda path: (_follows(path), path.split("/")))
    changed = [path for path in paths if left.get(path) != right.get(path)]
    if not changed:
        return [_of_tar(one, other)]
    lines = []
    both = [path for path in changed[:FILES] if path in left and path in right]
    ranges = _ranges(one, other, [path for path in both if left[path].digest != right[path].digest])
    for path in changed[:FILES]:
        if path not in right:
            lines.append(f"{path} is missing")
        elif path not in left:
            lines.append(f"{path} is new")
        else:
            fields = _of_entry(left[path].entry, right[path].entry)
            lines.append(f"{path}: " + ", ".join([*ranges.get(path, []), *fields]))
    more = len(changed) - FILES
    return [*lines, f"and {more} more"] if more > 0 else lines


def _follows(path: str) -> bool:
    """Whether a file is made from others, so that its difference explains nothing."""
    return path.endswith((".pyc", ".dist-info/RECORD"))


def _members(layer: Layer) -> dict[str, _Seen]:
    found = {}
    for entry, content in layer_entries(layer):
        hashed = HashingReader(content or io.BytesIO())
        drain(hashed)
        found[entry.path] = _Seen(entry, hashed.digest)
    return found


def _of_entry(one: Entry, other: Entry) -> list[str]:
    found = []
    for name in _FIELDS:
        values = getattr(one, name), getattr(other, name)
        if values[0] != values[1]:
            shown = [f"{value:04o}" if name == "mode" else str(value) for value in values]
            found.append(f"{name} {shown[0]} -> {shown[1]}")
    return found


def _ranges(one: Layer, other: Layer, paths: list[str]) -> dict[str, list[str]]:
    """The ranges of bytes, the first byte being 0, in which some files of two layers differ."""
    found: dict[str, list[str]] = {}
    with scratch() as directory:
        kept = {path: directory / str(number) for number, path in enumerate(paths)}
        for entry, content in layer_entries(one):
            if entry.path in kept and content is not None:
                with kept[entry.path].open("wb") as out:
                    out.writelines(pieces(content))
        for entry, content in layer_entries(other):
            if entry.path in kept and content is not None and kept[entry.path].exists():
                with kept[entry.path].open("rb") as stream:
                    found[entry.path] = _told(stream, content)
    return found


def _told(one: BinaryIO, other: BinaryIO) -> list[str]:
    """Where two files differ: the ranges, or where one is longer, from where on they do."""
    ranges: list[tuple[int, int]] = []
    offset = 0
    while True:
        left, right = one.read(CHUNK), read_fully(other, CHUNK)
        if left != right:
            for at, pair in enumerate(zip(left, right, strict=False), offset):
                if pair[0] != pair[1]:
                    start = ranges.pop()[0] if ranges and at - ranges[-1][1] < NEAR else at
                    ranges.append((start, at + 1))
        if len(left) != len(right):
            return [f"from byte {ranges[0][0] if ranges else offset + min(len(left), len(right))} on"]
        if not left:
            break
        offset += len(left)
    lines = [f"byte {start}" if end == start + 1 else f"bytes {start} to {end - 1}" for start, end in ranges[:RANGES]]
    return lines + ([f"{len(ranges) - RANGES} more ranges"] if len(ranges) > RANGES else [])


def _of_tar(one: Layer, other: Layer) -> str:
    """Where two tars of the same members differ: their order, or what a header says beside the fields."""
    with contextlib.closing(one.open()) as left, contextlib.closing(other.open()) as right:
        streams = Decompressed(left, LAYER_LIMIT), Decompressed(right, LAYER_LIMIT)
        offset = 0
        while True:
            a, b = (read_fully(stream, CHUNK) for stream in streams)
            if a != b or not a:
                break
            offset += len(a)
        pairs = enumerate(zip(a, b, strict=False))
        offset += next((at for at, pair in pairs if pair[0] != pair[1]), min(len(a), len(b)))
    path = "the end"
    with contextlib.closing(one.open()) as stream:
        counted = HashingReader(Decompressed(stream, LAYER_LIMIT))
        for entry, _content in read_tar(counted):
            if counted.size > offset:
                path = entry.path
                break
    return f"the tar at byte {offset}, in the header of {path}: members in another order, or written by another tar"
