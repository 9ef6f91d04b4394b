"""Contents: what an image consists of, layers, packages and files, each with its size. What `inspect` is made from.

Sizes are in bytes. Of a file it is its content's; of a layer `stored` is as a registry has it, `unpacked` its tar's,
headers and padding included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hatch_docker.oci.model import Image

BASE, SYSTEM, DEPENDENCIES, PROJECT, FILES = "base", "system", "dependencies", "project", "files"
OTHER = "other"        # of no package, in images that others made
REMOVED = "removed"    # by a later layer: in the image, and not in its file system
HEADERS = "headers"    # of tars, and what pads them
YOURS = (PROJECT, FILES)

TITLES = {
    BASE: "base", SYSTEM: "system packages", DEPENDENCIES: "dependencies", PROJECT: "your code", FILES: "your files",
    OTHER: "other files", REMOVED: "removed again", HEADERS: "tar headers",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class File:
    """A member of a layer that is no directory. `package` is a number in `Contents.packages`, -1 for none.

    `layer` counts from 0. `kind` is one of those above, REMOVED for what a later layer took away or replaced. `digest`
    is the SHA-256 of its content, of a symlink's of its target, where that was asked for.
    """

    path: str
    size: int
    layer: int
    kind: str
    package: int = -1
    link: bool = False       # symlinks and hard links, which take no room
    mode: int = 0
    owner: tuple[int, int] = (0, 0)
    digest: bytes = b""

    @property
    def shown(self) -> bool:
        """Whether it is there when the image runs."""
        return self.kind != REMOVED


@dataclass(frozen=True, slots=True)
class Need:
    """What a package requires: `package` by its number, `line` as it says so, `extra` where that asks for it."""

    package: int
    line: str
    extra: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """Something installed. `type` is python, deb, apk, or interpreter for a Python that no package brought.

    `layer` is that of most of its bytes; `size` and `files` are what it has in the image's file system. `root` is True
    where nobody in the image asks for it: the project itself, and what the image's maker asked for.
    """

    type: str
    name: str
    version: str
    layer: int
    size: int
    files: int
    kind: str
    root: bool = False
    needs: tuple[Need, ...] = ()

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}".rstrip()


@dataclass(frozen=True, slots=True)
class LayerContents:
    """One layer: `title` is what made it or is in it, `size` the sum of its files, `removed` what of that is gone."""

    digest: str
    diff_id: str
    kind: str
    title: str
    stored: int
    unpacked: int
    size: int
    files: int
    removed: int


@dataclass(frozen=True, slots=True)
class Permissions:
    """Who may do what: `owners` maps "uid:gid" to files and bytes; paths are absolute.

    `privileged` are the programs with a set-user-ID or set-group-ID bit. `writable` are the directories and files that
    the image's user may write to beside those that everybody may, `open` those of everybody. `user` is the user's
    number, None where its name is not in etc/passwd.
    """

    user: int | None
    owners: Mapping[str, tuple[int, int]]
    privileged: tuple[str, ...]
    writable: tuple[str, ...]
    open: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What the files of one kind take; `stored` is None where a layer holds several kinds."""

    kind: str
    size: int
    stored: int | None


@dataclass(frozen=True, slots=True)
class Contents:
    """An image and what is in it; `ours` says whether hatch-docker made it, so that its layers are of one kind each."""

    image: Image
    ours: bool
    system: str                      # "Debian GNU/Linux 13 (trixie)", "" where no file says so
    python: str                      # the version that markers are judged by, "" without a Python
    layers: tuple[LayerContents, ...]
    packages: tuple[Package, ...]
    files: tuple[File, ...]
    permissions: Permissions
    parts: tuple[Part, ...] = field(default=())

    @property
    def stored(self) -> int:
        """As a registry has it."""
        return sum(layer.stored for layer in self.layers)

    @property
    def unpacked(self) -> int:
        """All layers' tars."""
        return sum(layer.unpacked for layer in self.layers)

    @property
    def yours(self) -> int:
        """What is of the project, as far as can be told."""
        return sum(part.size for part in self.parts if part.kind in YOURS)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The configuration's `config` (config.md)."""
        settings: Mapping[str, Any] = self.image.config_json.get("config") or {}
        return settings

    @property
    def labels(self) -> dict[str, str]:
        """The image's labels."""
        return {str(name): str(value) for name, value in (self.settings.get("Labels") or {}).items()}

    def requirers(self, number: int) -> Iterator[tuple[int, Need]]:
        """Who requires a package, by number."""
        for other, package in enumerate(self.packages):
            yield from ((other, need) for need in package.needs if need.package == number)
