"""The values Base and Interpreter, and functions that follow the symbolic links of a base."""

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
    """The Python of an image: its path in the image, without symbolic links, and its full version."""

    path: str                                 # "/usr/bin/python3.13"
    version: str                              # "3.13.5"
    abi: str = ""                             # sys.abiflags: "t" is free-threaded, "d" is a debug build

    @property
    def short(self) -> str:
        """The version without the micro release: "3.13"."""
        return ".".join(self.version.split(".")[:2])

    @property
    def name(self) -> str:
        """The version in the name of the standard library's directory: "3.14", or "3.14t" if free-threaded."""
        return self.short + self.abi.replace("d", "")

    @property
    def build(self) -> str:
        """The full version with the ABI flags: "3.14.0", "3.14.0t"."""
        return self.version + self.abi

    @property
    def cache_tag(self) -> str:
        """The tag in the names of this interpreter's .pyc files (PEP 3147): "cpython-313"."""
        return "cpython-" + self.short.replace(".", "")


@dataclass(frozen=True, slots=True)
class Base:
    """A base image for one platform and the facts read from it. Paths are relative to the root, without "./".

    `digest` is the digest that `name` resolves to: of the index, if there is one, because tools that look for newer
    bases compare this digest. `contents` and `kinds` have one item for each layer, as in the receipt. With `plan` and
    `source`, the same base can be opened for another architecture (`open.compiler_tree`). `fact_keys` has kind and key
    of each fact in the store from which a Debian base was made.
    """

    plan: BasePlan
    name: str                                 # as the user typed it: "debian:trixie"
    digest: str
    image: Image
    interpreter: Interpreter
    libc: tuple[str, str]                     # ("glibc", "2.41") or ("musl", "1.2")
    users: Mapping[str, tuple[int, int]]      # name -> user id, group id, from etc/passwd
    directories: frozenset[str]               # "usr", "usr/bin"; the layers on the base must not have entries for them
    symlinks: Mapping[str, str] = field(default_factory=dict)  # "lib" -> "usr/lib"
    suite: str = ""                           # Debian's codename, "" if os-release names none
    contents: tuple[tuple[str, ...], ...] = ()           # ("libc6 2.41-12", ...) for each layer
    kinds: tuple[str, ...] = ()               # "base" or "system" for each layer
    cached: bool = True                       # False if a part of the base was made or downloaded in this build
    hashes: Mapping[str, str] = field(default_factory=dict)    # debian: "libc6 2.41-12 amd64" -> the digest of its .deb
    source: str = ""                          # registry: repository@digest of the index that named this image
    fact_keys: tuple[tuple[str, str], ...] = ()
    builder: Base | None = None               # build.base: the base in which the wheels are built
    archive: tuple[str, str] = ("", "")       # standalone: name and digest of the archive with the Python
    bundled: Mapping[str, str] = field(default_factory=dict)   # standalone: library -> version, in that archive

    @property
    def platform(self) -> Platform:
        """The platform that the base runs on."""
        return self.image.platform

    @property
    def interpreter_trust_key(self) -> str:
        """A part of the cache keys of everything that this interpreter compiles: "" if Debian signed the interpreter.

        For an unsigned interpreter it is a key of the image's layers. Such an interpreter could compile anything and
        report any version, so its output is used for this image only, and it runs in the sandbox.
        """
        signed = self.plan.kind == "debian" and self.plan.standalone is None
        return "" if signed else key_of([layer.diff_id for layer in self.image.layers])


def split_build(build: str) -> tuple[str, str]:
    """Split an `Interpreter.build` into version and ABI flags: "3.14.0t" into "3.14.0" and "t"."""
    version = build.rstrip("td")
    return version, build[len(version) :]


def runnable_platform() -> Platform | None:
    """Return the platform of this machine, whose programs run here without emulation; None outside of Linux."""
    return host_platform() if sys.platform == "linux" else None


def real_path(symlinks: Mapping[str, str], path: str) -> str:
    """Return a path, relative to the root, after following the base's symbolic links: "lib/x" -> "usr/lib/x".

    Layers need this path: an entry "lib/x" would replace the base's link "lib" with a directory. Raises BaseImageError
    for a loop of links.
    """
    return follow_links(path, symlinks.get)


def follow_links(path: str, readlink: Callable[[str], str | None]) -> str:
    """Return a path after following its symbolic links, also links in the middle of the path, inside the root.

    `readlink` returns the target of a link by its path relative to the root, and None for any other path. Raises
    BaseImageError for a loop of links.
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
    """Return a user as numbers, which runAsNonRoot of Kubernetes requires. Raises ConfigError for an unknown name."""
    name, colon, group = user.partition(":")
    if name.isdigit() and (not colon or group.isdigit()):
        return user
    if colon or name not in base.users:
        known = ", ".join(sorted(base.users))
        raise ConfigError(
            f"tool.hatch-docker.user: {user!r} is not a user of base {base.name}; use a number, or one of: {known}"
        )
    return "{}:{}".format(*base.users[name])
