"""Permissions in an image: owners of files, writable paths, programs that run as another user."""

from collections.abc import Sequence

from hatch_docker.cli.inspect.model import OwnedFiles, Permissions
from hatch_docker.cli.inspect.ownership import USERS, PackageFiles
from hatch_docker.oci.filesystem import LayerMember
from hatch_docker.oci.model import Image

_SET_ID = 0o6000
_STICKY = 0o1000


def permissions_of(image: Image, members: Sequence[LayerMember], package_files: PackageFiles) -> Permissions:
    """Return the permissions of the image's file system, sorted by path."""
    user, group = _user(image, package_files.texts.get(USERS, ""))
    owners: dict[str, tuple[int, int]] = {}
    setuid, writable, everybody = [], [], []
    for member in sorted((member for member in members if member.shown), key=lambda item: item.entry.path.split("/")):
        entry = member.entry
        if entry.kind == "symlink":
            continue
        name = f"{entry.uid}:{entry.gid}"
        files, size = owners.get(name, (0, 0))
        owners[name] = (files + (entry.kind == "file"), size + entry.size)
        path = f"/{entry.path}"
        if entry.mode & _SET_ID and entry.kind in ("file", "hardlink"):
            setuid.append(path)
        if entry.mode & 0o002:
            everybody.append(path + ("" if entry.kind != "directory" or entry.mode & _STICKY else " (not sticky)"))
        elif user and ((entry.uid == user and entry.mode & 0o200) or (entry.gid == group and entry.mode & 0o020)):
            writable.append(path)
    owned = {name: OwnedFiles(*counts) for name, counts in sorted(owners.items())}
    return Permissions(user, owned, tuple(setuid), tuple(writable), tuple(everybody))


def _user(image: Image, passwd: str) -> tuple[int | None, int | None]:
    """Return the numbers of the user and group that the image runs as; 0 if it names none, as runtimes do."""
    name, _, group = str((image.config_json.get("config") or {}).get("User") or "0").partition(":")
    rows = [line.split(":") for line in passwd.splitlines()]
    known = next((row for row in rows if len(row) > 3 and name in (row[0], row[2])), None)
    numbers = [known[2], known[3]] if known else [name, "0"]
    if group:
        numbers[1] = group
    user, main = (int(word) if word.isascii() and word.isdigit() and len(word) < 11 else None for word in numbers)
    return user, main
