"""The layer of `files`: files and directories of the project that are in no wheel."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from hatch_docker.bases import Base, real_path
from hatch_docker.context import Context
from hatch_docker.errors import ConfigError
from hatch_docker.layers import layer_by_key
from hatch_docker.oci.layer import Compression, Entry
from hatch_docker.oci.model import Layer
from hatch_docker.plan import FilePlan
from hatch_docker.store import file_digest, key_of
from hatch_docker.wheels.install import SOURCE_DATE, parent_entries
from hatch_docker.wheels.secrets import looks_secret

OPTION = "tool.hatch-docker.files"


def make_files(
    plans: Sequence[FilePlan], root: Path, base: Base, compression: Compression, ctx: Context
) -> tuple[Layer, bool]:
    """The layer of some files, and whether it was there; raises ConfigError for what cannot be copied.

    A file keeps whether it can be executed, nothing else: 0755 or 0644, root's. A symbolic link stays one, if
    it stays within what is copied. A directory that the base brought is not written again.
    """
    entries: dict[str, Entry] = {}
    for plan in plans:
        for entry in _entries(plan, root, base):
            entries[entry.path] = entry
    for entry in parent_entries(list(entries), base.directories):
        entries.setdefault(entry.path, entry)
    key = key_of("files", 1, [_identity(entries[path]) for path in sorted(entries)])
    return layer_by_key(key, compression, ctx, entries.values)


def _identity(entry: Entry) -> list[object]:
    digest = file_digest(entry.content) if isinstance(entry.content, Path) else ""
    return [entry.path, entry.kind, entry.mode, entry.target, digest]


def _entries(plan: FilePlan, root: Path, base: Base) -> Iterator[Entry]:
    source = root / plan.source
    target = _target(plan, source, base)
    if source.is_symlink() and not source.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{OPTION}: {plan.source} is a link that leads out of the project")
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
