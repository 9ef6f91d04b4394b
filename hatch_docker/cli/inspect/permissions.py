"""Who owns the files of an image, who may write to them, and which programs run as somebody else."""

from __future__ import annotations

from collections.abc import Sequence

from hatch_docker.cli.inspect.model import Permissions
from hatch_docker.cli.inspect.ownership import USERS, Reading
from hatch_docker.oci.filesystem import Member
from hatch_docker.oci.model import Image

_SET_ID = 0o6000
_STICKY = 0o1000


def permissions_of(image: Image, members: Sequence[Member], reading: Reading) -> Permissions:
    """The facts of the file system as it is in the end, in the order of its paths."""
    user, group = _user(image, reading.texts.get(USERS, ""))
    owners: dict[str, tuple[int, int]] = {}
    privileged, writable, open_ = [], [], []
    for member in sorted((one for one in members if one.shown), key=lambda one: one.entry.path.split("/")):
        entry = member.entry
        if entry.kind == "symlink":
            continue
        name = f"{entry.uid}:{entry.gid}"
        files, size = owners.get(name, (0, 0))
        owners[name] = (files + (entry.kind == "file"), size + entry.size)
        path = f"/{entry.path}"
        if entry.mode & _SET_ID and entry.kind in ("file", "hardlink"):
            privileged.append(path)
        if entry.mode & 0o002:
            open_.append(path + ("" if entry.kind != "directory" or entry.mode & _STICKY else " (not sticky)"))
        elif user and ((entry.uid == user and entry.mode & 0o200) or (entry.gid == group and entry.mode & 0o020)):
            writable.append(path)
    return Permissions(user, owners, tuple(privileged), tuple(writable), tuple(open_))


def _user(image: Image, text: str) -> tuple[int | None, int | None]:
    """The numbers of the user and the group that the image runs as; 0 where it does not say, as runtimes do."""
    name, _, group = str((image.config_json.get("config") or {}).get("User") or "0").partition(":")
    rows = [line.split(":") for line in text.splitlines()]
    known = next((row for row in rows if len(row) > 3 and name in (row[0], row[2])), None)
    numbers = [known[2], known[3]] if known else [name, "0"]
    if group:
        numbers[1] = group
    user, main = (int(word) if word.isascii() and word.isdigit() and len(word) < 11 else None for word in numbers)
    return user, main
