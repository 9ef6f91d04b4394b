"""Unpacking .debs into a root file system, in parallel. Links are made last, and no script is executed."""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from hatch_docker.bases.debian.deb import Deb
from hatch_docker.core.errors import BaseImageError
from hatch_docker.core.progress import Progress
from hatch_docker.core.text import plural
from hatch_docker.oci.filesystem import write_entries, write_file
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.oci.tar import Entry, parent_entries

Keep = Callable[[str, Entry], bool]
"""Function of a package's name and an entry (after the usr-merge) that returns whether the entry is unpacked."""

Entries = dict[str, Entry]

Unpacked = Mapping[str, tuple[Path, Sequence[Entry]]]
"""Packages that are unpacked in another tree, by name: the tree, and the package's entries in it."""

MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # the directories that are merged into usr
# The links of the merged /usr and of base-files' postinst. Packages of bookworm still have directories at these paths.
_LINKS = {name: f"usr/{name}" for name in MERGED} | {"var/run": "run", "var/lock": "run/lock"}
_LINKED = tuple(f"{link}/" for link in _LINKS)

_DOCUMENTATION = re.compile(
    r"usr/share/(man|info|locale|lintian|linda|bug|gdb|gcc|doc-base|menu|applications|pixmaps|bash-completion|zsh"
    r"|fish)(/.*)?"
)


def merged_path(path: str) -> str:
    """Return the path of a package's file after following the links in `_LINKS`."""
    for link, target in _LINKS.items() if path.startswith(_LINKED) else ():
        if path.startswith(f"{link}/"):
            return target + path[len(link) :]
    return path


def wanted_at_run_time(path: str) -> bool:
    """Return whether a path is needed: not documentation and not a translation. Licences are kept."""
    if path.startswith("usr/share/doc/"):
        # usr/share/doc/NAME is kept, because it may be a link to the directory of another package of the same source.
        return path.count("/") == 3 or (path.count("/") == 4 and path.endswith("/copyright"))
    return _DOCUMENTATION.fullmatch(path) is None


def unpack(
    debs: Sequence[Deb | Future[Deb]], tree: Path, keep: Keep, progress: Progress,
    unpacked: Unpacked = MappingProxyType({}),
    note: Callable[[str, Sequence[Entry]], object] = lambda _name, _entries: None,
    written: dict[str, bytes] | None = None,
) -> Entries:
    """Unpack packages into `tree`, an empty directory, and return the entries that `keep` accepts, with content there.

    `debs`: the largest package should be first, because it takes longest. `unpacked`: packages that are copied from
    another tree, which was made with the same `keep`. `note` is called with the name and entries of each package.
    `written`: gets the SHA256 of each file by path; without it, files are compared with the md5sums of the package
    (the SHA256 of the .deb was verified before). Links are made after all files, so that no file is written through a
    link. The files in `tree` have no owners; only the entries do. Raises BaseImageError for a damaged package, a
    device, or a path in two packages.
    """
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4
    title = f"unpacking {plural(len(debs), 'package')}"
    with progress.task(title, len(debs), unit="packages", part=True) as task, ThreadPoolExecutor(workers) as pool:

        def unpack_one(pending: Deb | Future[Deb]) -> tuple[Deb, list[Entry]]:
            deb = wait_for_deb(pending)
            members = _copy(unpacked, deb, tree, written) or _unpack(deb, tree, keep, written)
            task.advance(1)
            return deb, members

        results = list(pool.map(unpack_one, debs))
    for deb, members in results:
        note(deb.name, members)
    entries: Entries = {}
    owners: dict[str, str] = {}
    # base-files is first, because it has the right modes of common directories.
    ordered = sorted(results, key=lambda item: (item[0].name != "base-files", item[0].name))
    for deb, members in ordered:
        for entry in members:
            known = entries.setdefault(entry.path, entry)
            if known is not entry and not (known.kind == entry.kind == "directory"):
                raise BaseImageError(
                    f"packages {owners[entry.path]} and {deb.name} both have /{entry.path}; leave one of them out"
                )
            owners.setdefault(entry.path, deb.name)
    _make_links(entries, tree)
    return entries


def wait_for_deb(deb: Deb | Future[Deb]) -> Deb:
    """Return a .deb; wait for its download if necessary."""
    return deb.result() if isinstance(deb, Future) else deb


def _unpack(deb: Deb, tree: Path, keep: Keep, written: dict[str, bytes] | None) -> list[Entry]:
    members: list[Entry] = []
    for entry, content in deb.members():
        if entry.kind not in ("file", "directory", "symlink", "hardlink"):
            raise BaseImageError(
                f"package {deb.name} has a {entry.kind}, /{entry.path}, which is not allowed in an image"
            )
        original = entry.path
        if original in _LINKS and entry.kind == "directory":
            continue
        target = merged_path(entry.target) if entry.kind == "hardlink" else entry.target
        entry = replace(entry, path=original if original in _LINKS else merged_path(original), target=target)
        if not keep(deb.name, entry):
            continue
        if entry.kind == "file" and content is not None:
            place = tree / entry.path
            hashed = _write(content, place, entry, deb, "md5" if written is None else "sha256")
            if written is not None:
                written[entry.path] = hashed
            elif deb.sums.get(original) not in (None, hashed.hex()):
                raise BaseImageError(f"package {deb.name} is damaged: /{original} is not what its md5sums say")
            entry = replace(entry, content=place)
        elif entry.kind == "directory":
            (tree / entry.path).mkdir(parents=True, exist_ok=True)
            entry = replace(entry, mtime=SOURCE_DATE)
        members.append(entry)
    return members


def _copy(unpacked: Unpacked, deb: Deb, tree: Path, written: dict[str, bytes] | None) -> list[Entry]:
    """Copy the files and directories of a package in `unpacked`. Return all its entries; none if it is not in there."""
    source, entries = unpacked.get(deb.name, (tree, ()))
    members = []
    for entry in entries:
        place = tree / entry.path
        if entry.kind == "directory":
            place.mkdir(parents=True, exist_ok=True)
        elif entry.kind == "file":
            with (source / entry.path).open("rb") as content:
                hashed = _write(content, place, entry, deb, "sha256")
            if written is not None:
                written[entry.path] = hashed
            entry = replace(entry, content=place)
        members.append(entry)
    return members


def _write(content: BinaryIO, place: Path, entry: Entry, deb: Deb, algorithm: str) -> bytes:
    """Write a file, make missing directories above it, and return the hash of its contents as bytes."""
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    mode = 0o755 if entry.mode & 0o111 else 0o644
    try:
        try:
            write_file(str(place), content, mode, hashed.update)
        except FileNotFoundError:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_file(str(place), content, mode, hashed.update)
    except FileExistsError as error:
        raise BaseImageError(f"package {deb.name} has /{entry.path}, and another package has it, too") from error
    return hashed.digest()


def _make_links(entries: Mapping[str, Entry], tree: Path) -> None:
    for path, entry in sorted(entries.items()):
        if entry.kind == "hardlink":
            file = entries.get(entry.target)
            if file is None or file.kind != "file":
                raise BaseImageError(f"the packages have /{path} as a link to /{entry.target}, which is not a file")
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            os.link(tree / entry.target, tree / path)
    for path in sorted(entries):
        parent = entries.get(path.rpartition("/")[0])
        if parent is not None and parent.kind != "directory":
            raise BaseImageError(f"the packages have both /{path} and /{parent.path} as a {parent.kind}")
    with _refuse_taken_paths(tree):
        for path, entry in sorted(entries.items(), reverse=True):  # deepest first, so none is made through a link
            if entry.kind == "symlink":
                (tree / path).parent.mkdir(parents=True, exist_ok=True)
                (tree / path).symlink_to(entry.target)


def write_into(tree: Path, entries: Iterable[Entry]) -> None:
    """Write generated entries into a tree. Raises BaseImageError if a path exists already."""
    with _refuse_taken_paths(tree):
        write_entries(entries, tree)


@contextlib.contextmanager
def _refuse_taken_paths(tree: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        path = os.path.relpath(error.filename2 or error.filename, tree)
        raise BaseImageError(f"/{path} cannot be written: another file has its path") from error


def with_parents(entries: Entries) -> Entries:
    """Return the entries together with their missing parent directories."""
    return entries | {entry.path: entry for entry in parent_entries(entries, entries)}


def directory(path: str, mode: int = 0o755, owner: int = 0) -> Entry:
    """Return an entry for a generated directory."""
    return Entry(path, "directory", mode, SOURCE_DATE, uid=owner, gid=owner)


def text_file(path: str, text: str | bytes) -> Entry:
    """Return an entry for a generated file that all users can read."""
    data = text.encode() if isinstance(text, str) else text
    return Entry(path, "file", 0o644, SOURCE_DATE, size=len(data), content=data)


def symlink(path: str, target: str) -> Entry:
    """Return an entry for a generated symbolic link."""
    return Entry(path, "symlink", 0o777, SOURCE_DATE, target)
