"""Model of what an image contains: layers, packages and files with their sizes, for `inspect`, `why` and `diff`.

Sizes are in bytes. `size` of a layer is as a registry stores it, `unpacked_size` that of its tar, headers and padding
included. Fields have the names that they have in `--json` (docs/inspect.md).
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hatch_docker.oci.media_types import LAYER_TYPES
from hatch_docker.oci.model import Image

BASE, SYSTEM, DEPENDENCIES, PROJECT, FILES, STEP = "base", "system", "dependencies", "project", "files", "step"
OTHER = "other"        # of no package, in images that other programs built
REMOVED = "removed"    # by a later layer: in the image, and not in its file system
HEADERS = "headers"    # of tars, and their padding
YOURS = (PROJECT, FILES, STEP)

TITLES = {
    BASE: "base", SYSTEM: "system packages", DEPENDENCIES: "dependencies", PROJECT: "your code", FILES: "your files",
    STEP: "your steps", OTHER: "other files", REMOVED: "removed again", HEADERS: "tar headers",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class File:
    """A file or link of a layer. `package` is an index of `ImageContents.packages`, -1 for none.

    `layer` counts from 0. `kind` is a key of TITLES: REMOVED if a later layer removed or replaced it. `digest` is the
    SHA-256 of its content, of a symlink's target, b"" if it was not asked for.
    """

    path: str
    size: int
    layer: int
    kind: str
    package: int = -1
    link: bool = False       # symlinks and hard links, whose size is 0
    mode: int = 0
    owner: tuple[int, int] = (0, 0)
    digest: bytes = b""

    @property
    def present(self) -> bool:
        """Return whether the file system of the image has it."""
        return self.kind != REMOVED


@dataclass(frozen=True, slots=True)
class Dependency:
    """A package that another one requires: its index, the requirement as written, and the extra that it belongs to."""

    package: int
    line: str
    extra: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package. `type` is python, deb, apk, or interpreter for a Python that no package brought.

    `layer` is the one with most of its bytes, -1 if it has no file; `size` and `files` count what the file system of
    the image has. `root` is True for the project, and if no package of the image requires it.
    """

    type: str
    name: str
    version: str
    layer: int
    size: int
    files: int
    kind: str
    root: bool = False
    dependencies: tuple[Dependency, ...] = ()

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}".rstrip()


@dataclass(frozen=True, slots=True)
class LayerContents:
    """A layer. `title` is the command that made it, or the packages in it; `removed_size` is what later layers removed
    of `files_size`.
    """

    digest: str
    diff_id: str
    kind: str
    title: str
    size: int
    unpacked_size: int
    files: int
    files_size: int
    removed_size: int


@dataclass(frozen=True, slots=True)
class OwnedFiles:
    """Number and bytes of the files that one user and group own."""

    files: int
    size: int


@dataclass(frozen=True, slots=True)
class Permissions:
    """Owners and writable paths of an image's file system; paths are absolute.

    `user` is the number of the image's user, None if etc/passwd lacks its name. `owners` is by "uid:gid". `setuid` are
    the programs with a set-user-ID or set-group-ID bit. `writable` are the paths that the image's user may write to,
    without those of `writable_by_everybody`.
    """

    user: int | None
    owners: Mapping[str, OwnedFiles]
    setuid: tuple[str, ...]
    writable: tuple[str, ...]
    writable_by_everybody: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KindSize:
    """Bytes of the files of one kind; `size` is None if a layer holds several kinds."""

    kind: str
    unpacked_size: int
    size: int | None


@dataclass(frozen=True, slots=True)
class ImageContents:
    """An image and what it contains; `by_hatch_docker` means that each layer holds one kind of files."""

    image: Image
    by_hatch_docker: bool
    system: str                      # "Debian GNU/Linux 13 (trixie)", "" if no file says so
    python: str                      # the version that markers are evaluated for, "" without a Python
    layers: tuple[LayerContents, ...]
    packages: tuple[Package, ...]
    files: tuple[File, ...]
    permissions: Permissions
    kinds: tuple[KindSize, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all layers as stored."""
        return sum(layer.size for layer in self.layers)

    @property
    def unpacked_size(self) -> int:
        """Bytes of the tars of all layers."""
        return sum(layer.unpacked_size for layer in self.layers)

    @property
    def yours(self) -> int:
        """Bytes of the project, as far as the image tells."""
        return sum(kind.unpacked_size for kind in self.kinds if kind.kind in YOURS)

    @property
    def compressed(self) -> bool:
        """Return whether layers are stored compressed; a daemon has plain tars."""
        return any(LAYER_TYPES[layer.descriptor.media_type] != "none" for layer in self.image.layers)

    @property
    def created(self) -> str:
        """The time of creation (config.md), "" if the image does not say."""
        return str(self.image.config_json.get("created") or "")

    @property
    def settings(self) -> Mapping[str, Any]:
        """The `config` of the image's configuration (config.md)."""
        return self.image.settings

    @property
    def labels(self) -> dict[str, str]:
        """The image's labels, by name."""
        return {str(name): str(value) for name, value in sorted((self.settings.get("Labels") or {}).items())}

    @property
    def command(self) -> str:
        """The command that runs, as a shell would take it."""
        words = [*(self.settings.get("Entrypoint") or ()), *(self.settings.get("Cmd") or ())]
        return shlex.join(words) if words else "no command of its own"

    @property
    def user(self) -> str:
        """The user and directory that the command runs with."""
        return f"{self.settings.get('User') or 'root'} in {self.settings.get('WorkingDir') or '/'}"

    @property
    def platform_text(self) -> str:
        """The distribution and Python in the image, "" if neither was found."""
        return ", ".join(filter(None, [self.system, self.python and f"Python {self.python}"]))

    @property
    def owners(self) -> list[tuple[str, OwnedFiles]]:
        """The owners of files, those of most bytes first."""
        owners = [(name, owned) for name, owned in self.permissions.owners.items() if owned.files]
        return sorted(owners, key=lambda item: (-item[1].size, item[0]))

    def package_of(self, file: File, default: str = "") -> str:
        """Return the name of the package that has a file."""
        return self.packages[file.package].name if file.package >= 0 else default


def largest_packages(packages: Iterable[Package]) -> list[Package]:
    """Return packages, the largest first."""
    return sorted(packages, key=lambda package: (-package.size, package.name, package.type))


def largest_files(contents: ImageContents) -> list[File]:
    """Return the files of all layers without links, the largest first."""
    files = (file for file in contents.files if not file.link)
    return sorted(files, key=lambda file: (-file.size, file.path, file.layer))
