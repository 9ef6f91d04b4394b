"""The layer of `volumes`: a directory for each, which the image's user may write to.

A new volume of Docker or Podman takes owner and mode of the directory that it is mounted on, and root's is what they
make where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hatch_docker.bases.model import Base, real_path
from hatch_docker.context import Context
from hatch_docker.engines import LayerNote
from hatch_docker.engines.files import check_ways, file_entries, is_directory, located
from hatch_docker.engines.settings import numeric_user
from hatch_docker.layers import layer_by_key
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.model import SOURCE_DATE, Layer
from hatch_docker.oci.tar import parent_entries
from hatch_docker.plan import VENV, Plan
from hatch_docker.store import key_of

OPTION = "tool.hatch-docker.volumes"


def make_volumes(
    plan: Plan, root: Path, base: Base, compression: Compression, ctx: Context
) -> tuple[Layer, LayerNote] | None:
    """The layer of those directories that are in no other, and its note; None where all are there already.

    Each is 0755 and belongs to the image's user, missing ones above it to root. What the base or `files` brought stays
    as it is. Raises ConfigError where one of them has a file in the way.
    """
    files = file_entries(plan.files, root, base)
    missing = _missing(plan, files, base, ctx)
    if not missing:
        return None
    uid, gid = owner(plan.config.user, base)
    there = {one.path for one in (*files.values(), *parent_entries(files)) if one.kind == "directory"}
    entries = {one.path: one for one in parent_entries(missing, base.directories | there)}
    entries |= {path: Entry(path, "directory", 0o755, SOURCE_DATE, uid=uid, gid=gid) for path in missing}
    ordered = [entries[path] for path in sorted(entries)]
    key = key_of("volumes", 1, [[one.path, one.mode, one.uid, one.gid] for one in ordered])
    layer, cached = layer_by_key(key, compression, ctx, lambda: ordered)
    return layer, LayerNote("files", tuple(missing.values()), cached)


def owner(user: str, base: Base) -> tuple[int, int]:
    """The numbers of a user and its group: where only the user is given the base's passwd has it, else 0 is it."""
    name, _, group = numeric_user(user, base).partition(":")
    uid = int(name)
    groups = (gid for _, (number, gid) in sorted(base.users.items()) if number == uid)
    return uid, int(group) if group else next(groups, 0)


def _missing(plan: Plan, files: Mapping[str, Entry], base: Base, ctx: Context) -> dict[str, str]:
    """The directories to be made, relative to the root, and what the user calls them."""
    missing: dict[str, str] = {}
    for volume in plan.config.volumes:
        path = located(volume, base, OPTION)
        if path in base.symlinks:
            ctx.progress.warn(
                f"{OPTION}: {volume} is a link to {base.symlinks[path]} in base {base.name}, and stays as it is; "
                f"name the directory: /{real_path(base.symlinks, path)}"
            )
        elif f"{path}/".startswith(f"{VENV}/"):
            ctx.progress.warn(
                f"{OPTION}: {volume} is where the code is, which belongs to root, and stays as it is; "
                "name a directory elsewhere, such as /data"
            )
        elif not (path in base.directories or f"{VENV}/".startswith(f"{path}/") or is_directory(files.get(path))):
            missing.setdefault(path, volume)
    check_ways(missing, files, base, OPTION, ctx)
    return missing
