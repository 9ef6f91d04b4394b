"""What is different in one image from another: packages, files, settings and sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.cli.inspect.document import SCHEMA, settings
from hatch_docker.cli.inspect.model import TITLES, File, ImageContents
from hatch_docker.cli.inspect.named_image import NamedImage
from hatch_docker.cli.inspect.text import MOST
from hatch_docker.core.text import megabytes
from hatch_docker.oci.diff import changed

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


@dataclass(frozen=True, slots=True)
class Change:
    """A package, a file or a setting: `old` and `new` are its version, what a file is like, or its value, None where it
    is not there; sizes are in bytes."""

    name: str
    old: Any
    new: Any
    old_size: int = 0
    new_size: int = 0
    package: str = ""   # of a file: the package that has it, in the newer image if it is there

    @property
    def how(self) -> str:
        """added, removed or changed."""
        return "added" if self.old is None else "removed" if self.new is None else "changed"

    @property
    def grown(self) -> int:
        """By how many bytes."""
        return self.new_size - self.old_size


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs. `kinds` are the bytes of each kind in both, unpacked."""

    packages: tuple[Change, ...]
    files: tuple[Change, ...]
    settings: tuple[Change, ...]
    kinds: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.packages or self.files or self.settings)


def compare(old: ImageContents, new: ImageContents) -> Difference:
    """Return what differs in `new`; both were read with the digests of their files."""
    return Difference(
        tuple(_rows(_packages(old), _packages(new))),
        tuple(_files(old, new)),
        tuple(_rows(_settings(old), _settings(new))),
        tuple(_kinds(old, new)),
    )


Rows = Mapping[str, tuple[Any, int]]  # value and size by name


def _rows(old: Rows, new: Rows) -> Iterator[Change]:
    for name, was, now in changed(old, new, by=lambda row: row[0]):
        (old_value, old_size), (new_value, new_size) = was or (None, 0), now or (None, 0)
        yield Change(name, old_value, new_value, old_size, new_size)


def _packages(contents: ImageContents) -> Rows:
    rows: dict[str, tuple[Any, int]] = {}
    for one in contents.packages:
        name = canonicalize_name(one.name) if one.type == "python" else one.name
        title = name if one.type in ("python", "interpreter") else f"{name} ({one.type})"
        versions, size = rows.get(title, ("", 0))
        rows[title] = (f"{versions}, {one.version}" if versions else one.version, size + one.size)
    return rows


def _settings(contents: ImageContents) -> Rows:
    """The settings by name, variables and labels one by one, and what the image is for."""
    rows: dict[str, tuple[Any, int]] = {"platform": (str(contents.image.platform), 0)}
    for name, value in settings(contents).items():
        if name == "env":
            rows.update({f"env {key}": (text, 0) for key, _, text in (line.partition("=") for line in value)})
        elif name == "labels":
            rows.update({f"label {key}": (text, 0) for key, text in value.items()})
        else:
            rows[name] = (value, 0)
    return rows


def _files(old: ImageContents, new: ImageContents) -> Iterator[Change]:
    before, after = ({file.path: file for file in contents.files if file.present} for contents in (old, new))
    for path, was, now in changed(before, after, by=lambda file: (file.digest, file.mode, file.owner)):
        contents, file = (old, was) if now is None else (new, now)
        assert file is not None
        yield Change(
            f"/{path}", _describe(was, now), _describe(now, was), was.size if was else 0, now.size if now else 0,
            contents.package_of(file),
        )  # fmt: skip


def _describe(file: File | None, other: File | None) -> str | None:
    """Describe what differs in a file from the other one: "file" if there is no other, None if there is no file."""
    if file is None or other is None:
        return None if file is None else "file"
    words = []
    if file.digest != other.digest:
        words.append("sha256:" + file.digest.hex())
    if file.mode != other.mode:
        words.append(f"mode {file.mode:04o}")
    if file.owner != other.owner:
        words.append("owner {}:{}".format(*file.owner))
    return ", ".join(words)


def _kinds(old_contents: ImageContents, new_contents: ImageContents) -> Iterator[Change]:
    old, new = ({kind.kind: kind.unpacked_size for kind in contents.kinds} for contents in (old_contents, new_contents))
    for kind in (kind for kind in TITLES if kind in old or kind in new):
        sizes = old.get(kind), new.get(kind)
        yield Change(kind, sizes[0], sizes[1], sizes[0] or 0, sizes[1] or 0)


def told(one: NamedImage, other: NamedImage, found: Difference, *, files: bool) -> Iterator[str]:
    """The difference for a terminal, sizes first; the files of packages that are told already only if asked for."""
    yield f"{one.name} {one.contents.image.digest}"
    yield f"{other.name} {other.contents.image.digest}"
    yield ""
    yield _sizes("unpacked", one.contents.unpacked_size, other.contents.unpacked_size)
    if one.contents.compressed and other.contents.compressed:
        yield _sizes("compressed", one.contents.size, other.contents.size)
    for kind in found.kinds:
        if kind.grown:
            yield _sizes(f"  {TITLES[kind.name]}", kind.old_size, kind.new_size)
    if not found:
        yield "the same packages, files and settings"
        return
    if found.packages:
        yield from ("", "packages")
    for change in sorted(found.packages, key=_weight):
        yield f"{_signed(change.grown):>14}  {_SIGNS[change.how]} {change.name} {_versions(change)}"
    if found.settings:
        yield from ("", "settings")
    for change in found.settings:
        yield f"{'':>14}  {_SIGNS[change.how]} {change.name} {_values(change)}"
    yield from _told_files(found, every=files)


def _weight(change: Change) -> tuple[int, str]:
    return -abs(change.grown), change.name


def _sizes(title: str, old: int, new: int) -> str:
    change = f"  {_signed(new - old)}" if new != old else "  the same"
    return f"{title:<20}{megabytes(old):>11} -> {megabytes(new):>11}{change}"


def _signed(size: int) -> str:
    return f"{'-' if size < 0 else '+'}{megabytes(abs(size))}" if size else "same size"


def _versions(change: Change) -> str:
    return f"{change.old} -> {change.new}" if change.how == "changed" else str(change.new or change.old or "")


def _values(change: Change) -> str:
    if change.how == "changed":
        return f"{_value(change.old)} -> {_value(change.new)}"
    return _value(change.old if change.new is None else change.new)


def _value(value: Any) -> str:
    text = " ".join(value) if isinstance(value, list) else str(value)
    return repr(text) if not text or text.strip() != text else text


def _told_files(found: Difference, *, every: bool) -> Iterator[str]:
    named = {change.name.partition(" ")[0] for change in found.packages}
    rows = [change for change in found.files if every or canonicalize_name(change.package) not in named]
    rows = [change for change in rows if every or change.package not in named]
    if not found.files:
        return
    yield ""
    yield f"files: {_counts(found.files)}"
    chosen = sorted(rows, key=_weight) if every else sorted(rows, key=_weight)[:MOST]
    for change in chosen:
        what = f"  {change.old} -> {change.new}" if change.how == "changed" and "sha256" not in str(change.new) else ""
        yield f"{_signed(change.grown):>14}  {_SIGNS[change.how]} {change.name}{what}"
    if len(rows) > len(chosen):
        yield f"{'':>14}  and {len(rows) - len(chosen)} more (--files)"
    if len(rows) < len(found.files):
        yield f"{'':>14}  and {len(found.files) - len(rows)} of the packages above (--files)"


def _counts(changes: Iterable[Change]) -> str:
    hows = [change.how for change in changes]
    return ", ".join(f"{hows.count(how)} {how}" for how in _SIGNS if how in hows)


def document(one: NamedImage, other: NamedImage, found: Difference) -> dict[str, Any]:
    """The difference for programs; sizes are in bytes, `size` as stored."""
    return {
        "schema": SCHEMA,
        "images": [
            {"name": subject.name, "digest": subject.contents.image.digest, "size": subject.contents.size,
             "unpacked_size": subject.contents.unpacked_size, "yours": subject.contents.yours}
            for subject in (one, other)
        ],
        "kinds": [{"kind": change.name, "old_size": change.old_size, "new_size": change.new_size}
                  for change in found.kinds],
        "packages": _change_rows(found.packages), "settings": [
            {"change": change.how, "name": change.name, "old": change.old, "new": change.new}
            for change in found.settings
        ],
        "files": [{**row, "package": change.package}
                  for row, change in zip(_change_rows(found.files), found.files, strict=True)],
    }  # fmt: skip


def _change_rows(changes: Sequence[Change]) -> list[dict[str, Any]]:
    return [
        {"change": change.how, "name": change.name, "old": change.old, "new": change.new,
         "old_size": change.old_size, "new_size": change.new_size}
        for change in changes
    ]  # fmt: skip
