"""The result of `diff`: the differences between two images in packages, files, settings and sizes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.cli.inspect.document import SCHEMA, settings
from hatch_docker.cli.inspect.model import TITLES, File, ImageContents
from hatch_docker.cli.inspect.reader import NamedImage
from hatch_docker.cli.inspect.text import MAX_ROWS
from hatch_docker.core.text import megabytes
from hatch_docker.oci.diff import changed_items

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}

Rows = Mapping[str, tuple[Any, int]]
"""Values and sizes of packages or settings, by name."""


@dataclass(frozen=True, slots=True)
class Change:
    """A changed package, file or setting. Sizes are in bytes.

    `old` and `new`: the version of a package, the changed attributes of a file, or the value of a setting; None if the
    image does not have it. `package`: the package of a file.
    """

    name: str
    old: Any
    new: Any
    old_size: int = 0
    new_size: int = 0
    package: str = ""

    @property
    def change(self) -> str:
        """The kind of change: added, removed or changed."""
        return "added" if self.old is None else "removed" if self.new is None else "changed"

    @property
    def growth(self) -> int:
        """The difference of the sizes, in bytes: new minus old."""
        return self.new_size - self.old_size

    @property
    def values(self) -> str:
        """The old and the new value as text, or the only value."""
        values = [value for value in (self.old, self.new) if value is not None]
        texts = (" ".join(value) if isinstance(value, list) else str(value) for value in values)
        return " -> ".join(repr(text) if not text or text.strip() != text else text for text in texts)


@dataclass(frozen=True, slots=True)
class Difference:
    """All changes between two images. `kinds`: the unpacked bytes of all kinds of layers, also of unchanged ones."""

    packages: tuple[Change, ...]
    files: tuple[Change, ...]
    settings: tuple[Change, ...]
    kinds: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.packages or self.files or self.settings)


def compare(old: ImageContents, new: ImageContents) -> Difference:
    """Return the differences between two images. Both must be read with `hashed=True`."""
    before, after = ({kind.kind: kind.unpacked_size for kind in contents.kinds} for contents in (old, new))
    kinds = (kind for kind in TITLES if kind in before or kind in after)
    return Difference(
        tuple(_rows(_packages(old), _packages(new))),
        tuple(_files(old, new)),
        tuple(_rows(_settings(old), _settings(new))),
        tuple(Change(kind, None, None, before.get(kind, 0), after.get(kind, 0)) for kind in kinds),
    )


def _rows(old: Rows, new: Rows) -> Iterator[Change]:
    for name, before, after in changed_items(old, new, by=lambda row: row[0]):
        (old_value, old_size), (new_value, new_size) = before or (None, 0), after or (None, 0)
        yield Change(name, old_value, new_value, old_size, new_size)


def _packages(contents: ImageContents) -> Rows:
    rows: dict[str, tuple[Any, int]] = {}
    for package in contents.packages:
        name = canonicalize_name(package.name) if package.type == "python" else package.name
        title = name if package.type in ("python", "interpreter") else f"{name} ({package.type})"
        versions, size = rows.get(title, ("", 0))
        rows[title] = (f"{versions}, {package.version}" if versions else package.version, size + package.size)
    return rows


def _settings(contents: ImageContents) -> Rows:
    """Return the platform and the settings by name, with a row for each environment variable and label."""
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
    for path, was, now in changed_items(before, after, by=lambda file: (file.digest, file.mode, file.owner)):
        contents, file = (old, was) if now is None else (new, now)
        assert file is not None
        yield Change(
            f"/{path}", _describe(was, now), _describe(now, was), was.size if was else 0, now.size if now else 0,
            contents.package_of(file),
        )  # fmt: skip


def _describe(file: File | None, other: File | None) -> str | None:
    """Return the attributes of a file that differ from `other`; "file" without `other`, None without `file`."""
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


def diff_lines(old: NamedImage, new: NamedImage, found: Difference, *, files: bool) -> Iterator[str]:
    """Yield the differences as lines for a terminal, sizes first. `files`: also list the files of changed packages."""
    for named in (old, new):
        yield f"{named.name} {named.contents.image.digest}"
    yield from ("", _sizes("unpacked", old.contents.unpacked_size, new.contents.unpacked_size))
    if old.contents.compressed and new.contents.compressed:
        yield _sizes("compressed", old.contents.size, new.contents.size)
    yield from (_sizes(f"  {TITLES[kind.name]}", kind.old_size, kind.new_size) for kind in found.kinds if kind.growth)
    if not found:
        yield "the same packages, files and settings"
    if found.packages:
        yield from ("", "packages")
    yield from (_line(_signed(change.growth), change, change.values) for change in sorted(found.packages, key=_weight))
    if found.settings:
        yield from ("", "settings")
    yield from (_line("", change, change.values) for change in found.settings)
    if found.files:
        changes = [change.change for change in found.files]
        yield from ("", "files: " + ", ".join(f"{changes.count(kind)} {kind}" for kind in _SIGNS if kind in changes))
        yield from _file_lines(found, show_all=files)


def _weight(change: Change) -> tuple[int, str]:
    return -abs(change.growth), change.name


def _line(size: str, change: Change, text: str) -> str:
    return f"{size:>14}  {_SIGNS[change.change]} {change.name} {text}".rstrip()


def _sizes(title: str, old: int, new: int) -> str:
    change = f"  {_signed(new - old)}" if new != old else "  the same"
    return f"{title:<20}{megabytes(old):>11} -> {megabytes(new):>11}{change}"


def _signed(size: int) -> str:
    return f"{'-' if size < 0 else '+'}{megabytes(abs(size))}" if size else "same size"


def _file_lines(found: Difference, *, show_all: bool) -> Iterator[str]:
    packages = {change.name.partition(" ")[0] for change in found.packages}
    rows = [
        change for change in sorted(found.files, key=_weight)
        if show_all or not {change.package, canonicalize_name(change.package)} & packages
    ]  # fmt: skip
    listed = rows if show_all else rows[:MAX_ROWS]
    for change in listed:
        mode = change.change == "changed" and "sha256" not in change.new
        yield _line(_signed(change.growth), change, f" {change.values}" if mode else "")
    for count, text in ((len(rows) - len(listed), "more"), (len(found.files) - len(rows), "of the packages above")):
        if count:
            yield f"{'':>14}  and {count} {text} (--files)"


def diff_document(old: NamedImage, new: NamedImage, found: Difference) -> dict[str, Any]:
    """Return the differences as JSON. Sizes are in bytes; `size` is compressed."""
    contents = [(named.name, named.contents) for named in (old, new)]
    return {
        "schema": SCHEMA,
        "images": [
            {"name": name, "digest": image.image.digest, "size": image.size, "unpacked_size": image.unpacked_size,
             "yours": image.yours}
            for name, image in contents
        ],
        "kinds": [{"kind": kind.name, "old_size": kind.old_size, "new_size": kind.new_size} for kind in found.kinds],
        "packages": _documents(found.packages, "change", "name", "old", "new", "old_size", "new_size"),
        "settings": _documents(found.settings, "change", "name", "old", "new"),
        "files": _documents(found.files, "change", "name", "old", "new", "old_size", "new_size", "package"),
    }  # fmt: skip


def _documents(changes: Sequence[Change], *names: str) -> list[dict[str, Any]]:
    return [{name: getattr(change, name) for name in names} for change in changes]
