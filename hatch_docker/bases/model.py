"""The values of a base: its interpreter, what was read from its files, and paths through its symbolic links."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hatch_docker.core.cache.store import key_of
from hatch_docker.core.errors import BaseImageError, ConfigError
from hatch_docker.oci.model import Image, Platform, host_platform
from hatch_docker.plan.model import BasePlan

LINKS_LIMIT = 40  # symbolic links in one path, as in Linux


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python of an image: its real path there (no symbolic link) and its full version."""

    path: str                                 # "/usr/bin/python3.13"
    version: str                              # "3.13.5"
    abi: str = ""                             # sys.abiflags: "t" is free-threaded, "d" is a debug build

    @property
    def short(self) -> str:
        """The version as in directory names and `requires-python`: "3.13"."""
        return ".".join(self.version.split(".")[:2])

    @property
    def name(self) -> str:
        """The version as in the directory of its modules, which free-threaded builds have apart: "3.14", "3.14t"."""
        return self.short + self.abi.replace("d", "")

    @property
    def build(self) -> str:
        """The full version with the flags of its ABI: "3.14.0", "3.14.0t"."""
        return self.version + self.abi

    @property
    def cache_tag(self) -> str:
        """The tag in the name of a .pyc of this interpreter (PEP 3147): "cpython-313"."""
        return "cpython-" + self.short.replace(".", "")


@dataclass(frozen=True, slots=True)
class Base:
    """An image for one platform and the facts read from it. Paths are relative to the root, without "./".

    `digest` is that of the name: the index's if there is one, because tools that look for newer bases compare it.
    `contents` and `kinds` have one item for each layer, as in the receipt. `plan` and `source` lead to the same base
    for another architecture (`open.compiler_tree`). `made_of` are kinds and keys of the facts that a Debian base is
    made of.
    """

    plan: BasePlan
    name: str                                 # as the user typed it: "debian:trixie"
    digest: str
    image: Image
    interpreter: Interpreter
    libc: tuple[str, str]                     # ("glibc", "2.41") or ("musl", "1.2")
    users: Mapping[str, tuple[int, int]]      # name -> user id, group id, from etc/passwd
    directories: frozenset[str]               # "usr", "usr/bin"; no layer of ours may write them again
    symlinks: Mapping[str, str] = field(default_factory=dict)  # "lib" -> "usr/lib"
    suite: str = ""                           # Debian's codename, "" if os-release names none
    contents: tuple[tuple[str, ...], ...] = ()           # ("libc6 2.41-12", ...) for each layer
    kinds: tuple[str, ...] = ()               # "base" or "system" for each layer
    cached: bool = True                       # nothing of it had to be made or downloaded
    hashes: Mapping[str, str] = field(default_factory=dict)    # debian: "libc6 2.41-12 amd64" -> the digest of its .deb
    source: str = ""                          # registry: repository@digest of the index that named this image
    made_of: tuple[tuple[str, str], ...] = ()
    builder: Base | None = None               # build.base: where the wheels for this one are made
    archive: tuple[str, str] = ("", "")       # standalone: name and digest of the archive that Python is from
    bundled: Mapping[str, str] = field(default_factory=dict)   # standalone: the versions of the libraries in it

    @property
    def platform(self) -> Platform:
        """The platform that the base runs on."""
        return self.image.platform

    @property
    def interpreter_trust_key(self) -> str:
        """A part of the cache key of everything that this interpreter compiles: "" if Debian signed it.

        Otherwise a key of the image's layers: an unsigned interpreter could compile anything and report any version.
        Its output is used for that image only, and it runs in the sandbox.
        """
        signed = self.plan.kind == "debian" and self.plan.standalone is None
        return "" if signed else key_of([layer.diff_id for layer in self.image.layers])


def split_build(build: str) -> tuple[str, str]:
    """Return version and ABI flags of what `Interpreter.build` gives: "3.14.0t" is "3.14.0" and "t"."""
    version = build.rstrip("td")
    return version, build[len(version) :]


def runnable_platform() -> Platform | None:
    """Return the platform whose Linux programs run here without emulation; None if this machine is not Linux."""
    return host_platform() if sys.platform == "linux" else None


def real_path(symlinks: Mapping[str, str], path: str) -> str:
    """Return `path` (relative to the root) with the base's symbolic links followed: "lib/x" -> "usr/lib/x".

    A layer that wrote "lib/x" would replace the base's link with a directory. Raises BaseImageError for a loop.
    """
    return follow_links(path, symlinks.get)


def follow_links(path: str, readlink: Callable[[str], str | None]) -> str:
    """Return a path with every symbolic link followed inside the root, also those in the middle of the path.

    `readlink` gives the target of a path relative to the root, None if it is not a link. Raises BaseImageError for
    a loop.
    """
    todo = path.split("/")[::-1]
    place: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            del place[-1:]
        elif part not in ("", "."):
            target = readlink("/".join([*place, part]))
            if target is None:
                place.append(part)
                continue
            links += 1
            if links > LINKS_LIMIT:
                raise BaseImageError(f"/{path} is a loop of symbolic links in the base")
            if target.startswith("/"):
                place.clear()
            todo += target.split("/")[::-1]
    return "/".join(place)


def numeric_user(user: str, base: Base) -> str:
    """Return the user as numbers, so that a cluster sees it is not root; raises ConfigError for an unknown name."""
    name, colon, group = user.partition(":")
    if name.isdigit() and (not colon or group.isdigit()):
        return user
    if colon or name not in base.users:
        known = ", ".join(sorted(base.users))
        raise ConfigError(
            f"tool.hatch-docker.user: {user!r} is not a user of base {base.name}; use a number, or one of: {known}"
        )
    return "{}:{}".format(*base.users[name])
