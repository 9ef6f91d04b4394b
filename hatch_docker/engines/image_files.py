"""The layers of the options `files` (files copied from the project) and `volumes` (directories for volumes)."""

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from hatch_docker.bases.model import Base, numeric_user, real_path
from hatch_docker.core.cache.store import file_digest, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, ImageError
from hatch_docker.core.files import is_cache, is_output
from hatch_docker.core.secrets import looks_secret, secret_part
from hatch_docker.core.streams import HashingStream
from hatch_docker.engines.launch import uses_variables
from hatch_docker.engines.layer_cache import files_layer_key, layer_by_key, volumes_layer_key
from hatch_docker.engines.model import LayerInfo
from hatch_docker.engines.own_files import certificates_layer, launcher_layer
from hatch_docker.oci.compression import LAYER_LIMIT, RATIO_GRACE, RATIO_LIMIT
from hatch_docker.oci.filesystem import merge_layers
from hatch_docker.oci.layer import Compression, Entry
from hatch_docker.oci.model import Layer
from hatch_docker.oci.paths import SOURCE_DATE, WHITEOUT, safe_path
from hatch_docker.oci.tar import parent_entries
from hatch_docker.plan.model import VENV, FilePlan, Plan
from hatch_docker.project.model import DIST

OPTION = "tool.hatch-docker.files"
VOLUMES = "tool.hatch-docker.volumes"
HIDDEN = ("proc/", "sys/", "dev/", "etc/hosts/", "etc/hostname/", "etc/resolv.conf/")


def file_layers(
    plan: Plan, root: Path, base: Base, compression: Compression, ctx: Context
) -> dict[str, tuple[Layer, LayerInfo]]:
    """Return the layers between the wheels and the steps by their names: files, volumes, certificates, launcher."""
    layers = {}
    if plan.files:
        layer, cached = make_files(plan.files, root, base, compression, ctx)
        layers["files"] = layer, LayerInfo("files", tuple(item.target for item in plan.files), cached)
    if plan.config.volumes and (volumes := make_volumes(plan, root, base, compression, ctx)):
        layers["volumes"] = volumes
    if plan.ca_certificates:
        layers["certificates"] = certificates_layer(plan, root, base, compression, ctx)
    if uses_variables(plan.config.command):
        layers["launcher"] = launcher_layer(base, compression, ctx)
    return layers


def make_files(
    plans: Sequence[FilePlan], root: Path, base: Base, compression: Compression, ctx: Context
) -> tuple[Layer, bool]:
    """Return the layer of the option `files`, and whether it was cached; raises ConfigError for a wrong file or target.

    Files belong to root and have the mode 0755 if they are executable, else 0644. A symlink is kept, but it must not
    point out of the copied directory. Directories of the base are not added to the layer.
    """
    entries = file_entries(plans, root, base)
    large = max(entries.values(), key=lambda entry: entry.size, default=None)
    if large is not None and sum(entry.size for entry in entries.values()) > LAYER_LIMIT:
        raise ConfigError(
            f"{OPTION}: /{large.path} has {large.size / 1e9:.1f} GB, and a layer holds {LAYER_LIMIT / 1e9:.1f} GB at "
            "most; put such large data into a volume"
        )
    directories = {entry.path for entry in parent_entries(entries)}
    directories |= {path for path, entry in entries.items() if is_directory(entry)}
    missing = {path: f"/{path}" for path in directories if path not in base.directories}
    check_directories(missing, entries, base, OPTION, ctx)
    if hidden := next((path for path in sorted(entries) if f"{path}/".startswith(HIDDEN)), ""):
        ctx.progress.warn(f"{OPTION}: containers do not see /{hidden}: container runtimes mount their own file there")
    files = {path: entry.content for path, entry in entries.items() if isinstance(entry.content, Path)}
    with readable():
        digests = {path: file_digest(file) for path, file in files.items()}
    for entry in parent_entries(list(entries), base.directories):
        entries.setdefault(entry.path, entry)
    ordered = [entries[path] for path in sorted(entries)]
    key = files_layer_key(ordered, digests)
    layer, cached = layer_by_key(
        key, compression, ctx, lambda: [watched(entry, digests) for entry in ordered], title="layer of your files"
    )
    size = layer.unpacked_size or 0
    if large is not None and size > RATIO_GRACE and size > RATIO_LIMIT * layer.descriptor.size:
        raise ConfigError(
            f"{OPTION}: /{large.path} compresses so much that it looks like a decompression bomb, and is refused; let "
            "the program create it, in a volume"
        )
    return layer, cached


def file_entries(plans: Sequence[FilePlan], root: Path, base: Base, option: str = OPTION) -> dict[str, Entry]:
    """Return the entries of the files to copy by their paths, without the directories above the targets.

    Of two files with the same path, the last one is used. `option`: the option's name, for errors.
    """
    entries: dict[str, Entry] = {}
    with readable(option):
        for plan in plans:
            for entry in _entries(plan, root, base, option):
                earlier = entries.get(entry.path)
                directory = real_path(base.symlinks, entry.path) in base.directories or is_directory(earlier)
                if (earlier or directory) and directory != is_directory(entry):
                    raise ConfigError(f"{option}: /{entry.path} would be a file and a directory; choose another target")
                entries[entry.path] = entry
    return entries


def is_directory(entry: Entry | None) -> bool:
    """Return whether an entry is a directory; False for None."""
    return entry is not None and entry.kind == "directory"


def layer_path(path: str, base: Base, option: str) -> str:
    """Return the layer's path for an option's absolute path, with the base's symlinks resolved; raises ConfigError."""
    try:
        parent, _, name = safe_path(path.lstrip("/")).rpartition("/")
    except ImageError as error:
        raise ConfigError(f"{option}: {path[:60]!r}: {str(error).rpartition(': ')[2]}; choose another") from error
    if any(part.startswith(WHITEOUT) for part in path.split("/")):
        raise ConfigError(
            f"{option}: {path}: a layer cannot contain a name that starts with {WHITEOUT}; choose another"
        )
    parent = real_path(base.symlinks, parent) if parent else ""
    return f"{parent}/{name}" if parent else name


def check_directories(
    missing: Mapping[str, str], files: Mapping[str, Entry], base: Base, option: str, ctx: Context
) -> None:
    """Raise ConfigError if a directory to create, or a directory above it, is a file in `files` or in the base.

    `missing`: the directories to create, with their paths in the option for the message.
    """
    new = {path: [path, *(entry.path for entry in parent_entries([path], base.directories))] for path in missing}
    # Only the topmost of a path's new directories may be a file of the base: the base has nothing below a file.
    in_base = _files_of(base, {min(paths, key=len) for paths in new.values()}, ctx)
    for path, paths in new.items():
        for directory in paths:
            in_files = directory in files and not is_directory(files[directory])
            if in_files or directory in in_base:
                whose = "`files`" if in_files else f"base {base.name}"
                raise ConfigError(
                    f"{option}: {missing[path]} cannot be a directory: /{directory} of {whose} is not a directory; "
                    "choose another path"
                )


def _files_of(base: Base, paths: Iterable[str], ctx: Context) -> frozenset[str]:
    """Return the paths that exist in the base (none may be a directory there); the result is cached."""
    wanted = sorted(paths)
    if not wanted:
        return frozenset()
    key = key_of("base files", 1, [layer.diff_id for layer in base.image.layers], wanted)

    found = ctx.store.recall_or_make("base", key, lambda: sorted(merge_layers(base.image.layers).keys() & wanted))
    return frozenset(found)


@contextlib.contextmanager
def readable(option: str = OPTION) -> Iterator[None]:
    """Convert OSError into a ConfigError with the file and the option."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{option}: cannot read {error.filename}: {error.strerror}") from error


def watched(entry: Entry, digests: Mapping[str, str], option: str = OPTION) -> Entry:
    """Return an entry that raises ConfigError at its end if the file has changed since `digests` were computed."""
    if not isinstance(path := entry.content, Path):
        return entry
    return replace(entry, content=lambda: cast("BinaryIO", _Watched(path, digests[entry.path], option)))


class _Watched(HashingStream):
    """A file of the project; reading its end raises ConfigError if its contents do not match `digest`."""

    def __init__(self, path: Path, digest: str, option: str) -> None:
        super().__init__(path.open("rb"))
        self._path = path
        self._digest = digest
        self._option = option

    def read(self, size: int = -1, /) -> bytes:
        data = super().read(size)
        if not data and self.digest != self._digest:
            raise ConfigError(f"{self._option}: {self._path} changed during the build; build again")
        return data


def _entries(plan: FilePlan, root: Path, base: Base, option: str) -> Iterator[Entry]:
    source = root / plan.source
    target = layer_path(plan.target, base, option)
    if source.is_dir():  # with a merged /usr, /bin/x is usr/bin/x
        target = real_path(base.symlinks, target)
    elif target in base.directories or f"{VENV}/".startswith(f"{target}/"):
        raise ConfigError(f"{option}: {plan.target} is a directory; name the file: {plan.target}/{source.name}")
    # Not Path.resolve, which raises an error for a cycle of symlinks.
    real, top = Path(os.path.realpath(source)), os.path.realpath(root)
    if not real.is_relative_to(top):
        raise ConfigError(f"{option}: {plan.source} is a link that leads out of the project")
    if part := secret_part(f"{plan.source}/{real.relative_to(top).as_posix()}"):
        raise ConfigError(f"{option}: {plan.source} is {part} or in it, which looks like a secret; name another file")
    if source.is_file():
        yield _file(source, target, plan)
    elif source.is_dir():
        yield from _directory(source, target, plan, root, base, option)
    elif source.exists():
        raise ConfigError(f"{option}: {plan.source} is neither a file nor a directory")
    else:
        pattern = "; patterns are not expanded here, give a directory" if re.search(r"[*?[]", plan.source) else ""
        raise ConfigError(f"{option}: there is no {plan.source} in {root.name}/{pattern}")


def _file(source: Path, target: str, plan: FilePlan) -> Entry:
    status = source.stat()
    source.open("rb").close()
    mode = plan.mode if plan.mode is not None else 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    return Entry(target, "file", mode, SOURCE_DATE, size=status.st_size, content=source)


def _directory(source: Path, target: str, plan: FilePlan, root: Path, base: Base, option: str) -> Iterator[Entry]:
    if target not in base.directories:
        yield Entry(target, "directory", 0o755, SOURCE_DATE)
    for child in sorted(source.iterdir()):
        path = f"{target}/{child.name}"
        if os.fsencode(child.name) != child.name.encode(errors="replace"):
            raise ConfigError(f"{option}: {plan.source} contains {child.name!r}, which is not UTF-8; rename it")
        if child.name.startswith(WHITEOUT):
            raise ConfigError(
                f"{option}: {plan.source} contains {child.name}, a name that a layer cannot contain; rename it"
            )
        # Outputs of builds are skipped: with them, each build would make another image.
        if child.name in ("__pycache__", ".git") or child == root / DIST or is_output(child) or is_cache(child):
            continue
        if looks_secret(child.name):
            raise ConfigError(f"{option}: {plan.source} contains {child.name}, which looks like a secret; move it away")
        if child.is_symlink():
            link = os.readlink(child)  # noqa: PTH115 - the exact text; Path normalises it
            end = os.path.normpath(source / link)
            if os.path.isabs(link) or not Path(end).is_relative_to(source):  # noqa: PTH117
                raise ConfigError(
                    f"{option}: {child.name} in {plan.source} is a link to a place that is not copied: {link}"
                )
            yield Entry(path, "symlink", 0o777, SOURCE_DATE, target=link)
        elif child.is_dir():
            yield from _directory(child, real_path(base.symlinks, path), plan, root, base, option)
        elif child.is_file():
            yield _file(child, path, plan)
        else:
            raise ConfigError(f"{option}: {child} is neither a file, a directory nor a link")


def make_volumes(
    plan: Plan, root: Path, base: Base, compression: Compression, ctx: Context
) -> tuple[Layer, LayerInfo] | None:
    """Return the layer of the directories for `volumes`, with its note; None if all of them exist already.

    A new directory has the mode 0755 and belongs to the image's user; new directories above it belong to root.
    Directories of the base or of `files` stay unchanged. Raises ConfigError if a file has the path of a directory.
    """
    files = file_entries(plan.files, root, base)
    missing = _missing_volumes(plan, files, base, ctx)
    if not missing:
        return None
    uid, gid = owner(plan.config.user, base)
    existing = {entry.path for entry in (*files.values(), *parent_entries(files)) if entry.kind == "directory"}
    entries = {entry.path: entry for entry in parent_entries(missing, base.directories | existing)}
    entries |= {path: Entry(path, "directory", 0o755, SOURCE_DATE, uid=uid, gid=gid) for path in missing}
    ordered = [entries[path] for path in sorted(entries)]
    key = volumes_layer_key(ordered)
    layer, cached = layer_by_key(key, compression, ctx, lambda: ordered)
    return layer, LayerInfo("files", tuple(missing.values()), cached)


def owner(user: str, base: Base) -> tuple[int, int]:
    """Return the UID and GID of a user; without a group, the GID is taken from the base's passwd, else it is 0."""
    name, _, group = numeric_user(user, base).partition(":")
    uid = int(name)
    groups = (gid for _, (number, gid) in sorted(base.users.items()) if number == uid)
    return uid, int(group) if group else next(groups, 0)


def _missing_volumes(plan: Plan, files: Mapping[str, Entry], base: Base, ctx: Context) -> dict[str, str]:
    """Return the directories to create: path in the layer to path in the option."""
    missing: dict[str, str] = {}
    for volume in plan.config.volumes:
        path = layer_path(volume, base, VOLUMES)
        if path in base.symlinks:
            ctx.progress.warn(
                f"{VOLUMES}: {volume} is a link to {base.symlinks[path]} in base {base.name}, and stays a link; use "
                f"the directory: /{real_path(base.symlinks, path)}"
            )
        elif f"{path}/".startswith(f"{VENV}/"):
            ctx.progress.warn(
                f"{VOLUMES}: {volume} is where the code is, which belongs to root; choose another directory, such as "
                "/data"
            )
        elif not (path in base.directories or f"{VENV}/".startswith(f"{path}/") or is_directory(files.get(path))):
            missing.setdefault(path, volume)
    check_directories(missing, files, base, VOLUMES, ctx)
    return missing
