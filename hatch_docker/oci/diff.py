"""Differences between two images: settings, and the files of the first differing layer with their bytes and fields.

Derived files (a wheel's RECORD, .pyc) come last. Digests that only follow from other differences are omitted.
"""

import contextlib
import io
import json
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, TypeVar

from hatch_docker.core.files import temporary_directory
from hatch_docker.core.streams import CHUNK, HashingStream, drain, pieces, read_fully
from hatch_docker.oci.compression import LAYER_LIMIT, Decompressed
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.model import Image, Index, Layer, images_of
from hatch_docker.oci.tar import Entry, read_tar

FILES = 10   # differing files of a layer that are listed
RANGES = 3   # differing ranges of a file that are listed
NEAR = 16    # bytes; ranges with a smaller gap are listed as one range
_FIELDS = ("kind", "mode", "uid", "gid", "mtime", "target", "size")

K = TypeVar("K", bound=Any)
V = TypeVar("V")


def changed_items(
    old: Mapping[K, V], new: Mapping[K, V], by: Callable[[V], object] = lambda value: value
) -> Iterator[tuple[K, V | None, V | None]]:
    """Yield each key whose values differ, sorted, with the old and the new value (None if the key is missing).

    `by` returns the part of a value that is compared.
    """
    for key in sorted({*old, *new}):
        if key not in old or key not in new or by(old[key]) != by(new[key]):
            yield key, old.get(key), new.get(key)


def differences(old: Image | Index, new: Image | Index) -> list[str]:
    """Return a line for each difference, causes first; [] if both have the same digest.

    Of each platform only the first differing layer is read. Raises ImageError for a layer that cannot be read.
    """
    if old.digest == new.digest:
        return []
    before, after = ({image.platform: image for image in images_of(item)} for item in (old, new))
    found = list(changed_items(before, after, by=operator.attrgetter("digest")))
    lines = [f"{platform} is {'missing' if was else 'new'}" for platform, was, now in found if not (was and now)]
    for platform, was, now in found:
        if was and now:
            lines += [f"{platform}: {line}" for line in _image(was, now)]
    if not lines and isinstance(old, Index) and isinstance(new, Index):
        lines = _json(json.loads(old.index), json.loads(new.index), "index")
    return lines or [f"{_kind(old)} became {_kind(new)}"]


def _kind(item: Image | Index) -> str:
    return "an index" if isinstance(item, Index) else "an image"


def _image(old: Image, new: Image) -> Iterator[str]:
    count = max(len(old.layers), len(new.layers))
    lines = [line for line in old.config_json.get("history") or [] if not line.get("empty_layer")]
    titles = [f" ({line['created_by']})" if line.get("created_by") else "" for line in lines]
    titles = titles if len(lines) == len(old.layers) else [""] * len(old.layers)  # the history may be incomplete
    for number, (was, now) in enumerate(zip(old.layers, new.layers, strict=False), 1):
        title = f"layer {number} of {count}{titles[number - 1]}"
        if was.diff_id != now.diff_id:
            yield f"{title}, {was.diff_id[:19]}, is {now.diff_id[:19]}"
            yield from (f"  {line}" for line in _layer(was, now))
            break
        if was.descriptor.digest != now.descriptor.digest:
            yield (
                f"{title} has the same files, compressed differently: "
                f"{was.descriptor.size} bytes of {was.descriptor.media_type}, "
                f"{now.descriptor.size} of {now.descriptor.media_type}"
            )
            break
    if len(old.layers) != len(new.layers):
        yield f"{len(old.layers)} layers became {len(new.layers)}"
    # rootfs only repeats the layers
    before, after = ({**image.config_json, "rootfs": None} for image in (old, new))
    yield from _json(before, after, "config")
    yield from _json(old.manifest_json.get("annotations"), new.manifest_json.get("annotations"), "annotations")


def _json(old: Any, new: Any, path: str) -> list[str]:
    if old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        return [line for key, was, now in changed_items(old, new) for line in _json(was, now, f"{path}.{key}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for number, pair in pairs for line in _json(*pair, f"{path}[{number}]")]
    return [f"{path}: {_abbreviated(old)} -> {_abbreviated(new)}"]


def _abbreviated(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + "..."


def _layer(old: Layer, new: Layer) -> list[str]:
    found = list(changed_items(_members(old), _members(new)))
    if not found:
        return [_tar(old, new)]
    # Derived files come last: they are no cause of a difference.
    found.sort(key=lambda row: (row[0].endswith((".pyc", ".dist-info/RECORD")), row[0].split("/")))
    lines = []
    ranges = _ranges(old, new, [path for path, was, now in found[:FILES] if was and now and was[1] != now[1]])
    for path, was, now in found[:FILES]:
        if was and now:
            lines.append(f"{path}: " + ", ".join([*ranges.get(path, []), *_fields(was[0], now[0])]))
        else:
            lines.append(f"{path} is {'missing' if was else 'new'}")
    return [*lines, f"and {len(found) - FILES} more"] if len(found) > FILES else lines


def _members(layer: Layer) -> dict[str, tuple[Entry, str]]:
    """Return the members of a layer by path, each with the digest of its content."""
    found = {}
    for entry, content in layer_entries(layer):
        hashed = HashingStream(content or io.BytesIO())
        drain(hashed)
        found[entry.path] = (entry, hashed.digest)
    return found


def _fields(old: Entry, new: Entry) -> list[str]:
    found = []
    for name in _FIELDS:
        was, now = getattr(old, name), getattr(new, name)
        if was != now:
            found.append(f"{name} {was:04o} -> {now:04o}" if name == "mode" else f"{name} {was} -> {now}")
    return found


def _ranges(old: Layer, new: Layer, paths: list[str]) -> dict[str, list[str]]:
    """Return the ranges of bytes (the first byte is 0) in which the files at `paths` differ."""
    found: dict[str, list[str]] = {}
    with temporary_directory() as directory:
        copies = {path: directory / str(number) for number, path in enumerate(paths)}
        for entry, content in layer_entries(old):
            if entry.path in copies and content is not None:
                with copies[entry.path].open("wb") as out:
                    out.writelines(pieces(content))
        for entry, content in layer_entries(new):
            if entry.path in copies and content is not None and copies[entry.path].exists():
                with copies[entry.path].open("rb") as stream:
                    found[entry.path] = _file_ranges(stream, content)
    return found


def _file_ranges(old: BinaryIO, new: BinaryIO) -> list[str]:
    """Describe where two files differ: ranges, or the first differing byte if their lengths differ."""
    ranges: list[tuple[int, int]] = []
    offset = 0
    while True:
        was, now = old.read(CHUNK), read_fully(new, CHUNK)
        if was != now:
            for at, pair in enumerate(zip(was, now, strict=False), offset):
                if pair[0] != pair[1]:
                    start = ranges.pop()[0] if ranges and at - ranges[-1][1] < NEAR else at
                    ranges.append((start, at + 1))
        if len(was) != len(now):
            return [f"from byte {ranges[0][0] if ranges else offset + min(len(was), len(now))} on"]
        if not was:
            break
        offset += len(was)
    lines = [f"byte {start}" if end == start + 1 else f"bytes {start} to {end - 1}" for start, end in ranges[:RANGES]]
    return lines + ([f"{len(ranges) - RANGES} more ranges"] if len(ranges) > RANGES else [])


def _tar(old: Layer, new: Layer) -> str:
    """Describe where two tars with equal members differ: the order, or a header field that `_fields` ignores."""
    with contextlib.closing(old.open()) as first, contextlib.closing(new.open()) as second:
        streams = Decompressed(first, LAYER_LIMIT), Decompressed(second, LAYER_LIMIT)
        offset = 0
        while True:
            was, now = (read_fully(stream, CHUNK) for stream in streams)
            if was != now or not was:
                break
            offset += len(was)
        pairs = enumerate(zip(was, now, strict=False))
        offset += next((at for at, pair in pairs if pair[0] != pair[1]), min(len(was), len(now)))
    path = "the end"
    with contextlib.closing(old.open()) as stream:
        hashed = HashingStream(Decompressed(stream, LAYER_LIMIT))
        for entry, _content in read_tar(hashed):
            if hashed.size > offset:
                path = entry.path
                break
    return f"the tar at byte {offset}, in the header of {path}: members in another order, or written by another tar"
