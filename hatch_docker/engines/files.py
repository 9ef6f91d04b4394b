"""The layer of `files`: files and directories of the project that are in no wheel."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from hatch_docker.bases import Base, real_path
from hatch_docker.context import Context
from hatch_docker.errors import ConfigError
from hatch_docker.layers import layer_by_key
from hatch_docker.oci.compression import LAYER_LIMIT
from hatch_docker.oci.layer import Compression, Entry
from hatch_docker.oci.model import Layer
from hatch_docker.plan import FilePlan
from hatch_docker.store import file_digest, key_of
from hatch_docker.wheels.install import SOURCE_DATE, parent_entries
from hatch_docker.wheels.secrets import looks_secret, secret_part

OPTION = "tool.hatch-docker.files"


def make_files(
    plans: Sequence[FilePlan], root: Path, base: Base, compression: Compression, ctx: Context
) -> tuple[Layer, bool]:
    """The layer of some files, and whether it was there; raises ConfigError for what cannot be copied.

    A file keeps whether it can be executed, nothing else: 0755 or 0644, root's. A symbolic link stays one, if
    it stays within what is copied. A directory that the base brought is not written again.
    """
    entries = file_entries(plans, root, base)
    _check_size(entries)
    files = {path: entry.content for path, entry in entries.items() if isinstance(entry.content, Path)}
    with _readable():
        digests = {path: file_digest(file) for path, file in files.items()}
    for entry in parent_entries(list(entries), base.directories):
        entries.setdefault(entry.path, entry)
    ordered = [entries[path] for path in sorted(entries)]
    key = key_of("files", 1, [[one.path, one.kind, one.mode, one.target, digests.get(one.path, "")] for one in ordered])
    return layer_by_key(
        key, compression, ctx, lambda: [_watched(one, digests.get(one.path, "")) for one in ordered],
        title="layer of your files",
    )  # fmt: skip


def file_entries(plans: Sequence[FilePlan], root: Path, base: Base) -> dict[str, Entry]:
    """What some files become, by their paths; without the directories above them. Raises ConfigError as make_files."""
    with _readable():
        return {entry.path: entry for plan in plans for entry in _entries(plan, root, base)}


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{OPTION}: cannot read {error.filename}: {error.strerror}") from error


def _check_size(entries: Mapping[str, Entry]) -> None:
    """Refuse what no layer could hold that is read again, ours or another's, before it is read the first time."""
    large = max(entries.values(), key=lambda entry: entry.size, default=None)
    if large is not None and sum(entry.size for entry in entries.values()) > LAYER_LIMIT:
        raise ConfigError(
            f"{OPTION}: /{large.path} has {large.size / 1e9:.1f} GB, and a layer holds {LAYER_LIMIT / 1e9:.1f} GB at "
            "most; what is that large belongs into a volume"
        )


def _watched(entry: Entry, digest: str) -> Entry:
    """The entry of a file, read on the condition that its contents are still those that the layer's key names."""
    path = entry.content
    if not isinstance(path, Path):
        return entry
    return replace(entry, content=lambda: cast("BinaryIO", _Watched(path, digest)))


class _Watched:
    def __init__(self, path: Path, digest: str) -> None:
        self._path = path
        self._digest = digest
        self._hash = hashlib.sha256()
        self._stream = path.open("rb")

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        if not data and "sha256:" + self._hash.hexdigest() != self._digest:
            raise ConfigError(f"{OPTION}: {self._path} changed during the build; build again")
        return data

    def close(self) -> None:
        self._stream.close()


def _entries(plan: FilePlan, root: Path, base: Base) -> Iterator[Entry]:
    source = root / plan.source
    target = _target(plan, source, base)
    # realpath and not resolve: that raises where links go round in circles
    real, top = Path(os.path.realpath(source)), os.path.realpath(root)
    if not real.is_relative_to(top):
        raise ConfigError(f"{OPTION}: {plan.source} is a link that leads out of the project")
    if part := secret_part(f"{plan.source}/{real.relative_to(top).as_posix()}"):
        raise ConfigError(f"{OPTION}: {plan.source} is {part} or in it, which looks like a secret; name another file")
    if source.is_file():
        yield _file(source, target, plan)
    elif source.is_dir():
        yield from _directory(source, target, plan, base.directories)
    elif source.exists():
        raise ConfigError(f"{OPTION}: {plan.source} is neither a file nor a directory")
    else:
        raise ConfigError(f"{OPTION}: there is no {plan.source} in {root.name}/")


def _target(plan: FilePlan, source: Path, base: Base) -> str:
    """Where the file goes, with the base's symbolic links followed: /bin/x is usr/bin/x on a merged /usr."""
    parent, _, name = plan.target.strip("/").rpartition("/")
    parent = real_path(base.symlinks, parent) if parent else ""
    path = f"{parent}/{name}" if parent else name
    if source.is_dir():
        return real_path(base.symlinks, path)
    if path in base.directories or plan.target.endswith("/"):
        file = f"{plan.target.rstrip('/')}/{source.name}"
        raise ConfigError(f"{OPTION}: {plan.target} is a directory; name the file: {file}")
    return path


def _file(source: Path, target: str, plan: FilePlan) -> Entry:
    try:
        status = source.stat()
        with source.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{OPTION}: cannot read {source}: {error.strerror}") from error
    mode = plan.mode if plan.mode is not None else 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    return Entry(target, "file", mode, SOURCE_DATE, size=status.st_size, content=source)


def _directory(source: Path, target: str, plan: FilePlan, present: frozenset[str]) -> Iterator[Entry]:
    if target not in present:
        yield Entry(target, "directory", 0o755, SOURCE_DATE)
    try:
        children = sorted(source.iterdir())
    except OSError as error:
        raise ConfigError(f"{OPTION}: cannot read {source}: {error.strerror}") from error
    for child in children:
        path = f"{target}/{child.name}"
        if os.fsencode(child.name) != child.name.encode(errors="replace"):
            raise ConfigError(f"{OPTION}: {plan.source} holds {child.name!r}, which is not UTF-8; rename it")
        if child.name in ("__pycache__", ".git"):
            continue
        if looks_secret(child.name):
            raise ConfigError(f"{OPTION}: {plan.source} holds {child.name}, which looks like a secret; move it away")
        if child.is_symlink():
            yield Entry(path, "symlink", 0o777, SOURCE_DATE, target=_link(child, source, plan))
        elif child.is_dir():
            yield from _directory(child, path, plan, present)
        elif child.is_file():
            yield _file(child, path, plan)
        else:
            raise ConfigError(f"{OPTION}: {child} is neither a file, a directory nor a link")


def _link(link: Path, top: Path, plan: FilePlan) -> str:
    target = os.readlink(link)  # noqa: PTH115 - as it is written, not normalised
    end = os.path.normpath(link.parent / target)
    if os.path.isabs(target) or not Path(end).is_relative_to(top):  # noqa: PTH117
        raise ConfigError(f"{OPTION}: {link.name} in {plan.source} is a link out of what is copied: {target}")
    return target
