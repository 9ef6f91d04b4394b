"""Model of the contents of an image: layers, packages and files with their sizes, for `inspect`, `why` and `diff`.

Sizes are in bytes. `size` of a layer is the compressed size, `unpacked_size` that of its tar with headers and padding.
Fields have the same names as the keys of `--json` (docs/inspect.md).
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hatch_docker.oci.media_types import LAYER_TYPES
from hatch_docker.oci.model import Image

BASE, SYSTEM, DEPENDENCIES, PROJECT, FILES, STEP = "base", "system", "dependencies", "project", "files", "step"
OTHER = "other"        # files of no package, in images of other programs
REMOVED = "removed"    # files that a later layer removes or replaces
HEADERS = "headers"    # headers and padding of tars
YOURS = (PROJECT, FILES, STEP)

TITLES = {
    BASE: "base", SYSTEM: "system packages", DEPENDENCIES: "dependencies", PROJECT: "your code", FILES: "your files",
    STEP: "your steps", OTHER: "other files", REMOVED: "removed again", HEADERS: "tar headers",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class File:
    """A file or link in a layer. `package`: an index of `ImageContents.packages`, -1 if it is of no package.

    `layer` counts from 0. `kind`: a key of TITLES; REMOVED if a later layer removes or replaces the file. `digest`: the
    SHA-256 of the content, or of a symlink's target; b"" if it was not computed.
    """

    path: str
    size: int
    layer: int
    kind: str
    package: int = -1
    link: bool = False       # a symlink or hard link; its size is 0
    mode: int = 0
    owner: tuple[int, int] = (0, 0)
    digest: bytes = b""

    @property
    def present(self) -> bool:
        """Return whether the file is in the image's final file system."""
        return self.kind != REMOVED


@dataclass(frozen=True, slots=True)
class Dependency:
    """A dependency of a package: the index of the required package, the requirement as written, and its extra or ""."""

    package: int
    line: str
    extra: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package. `type`: python, deb, apk, or interpreter for a Python that is in no package.

    `layer`: the layer with most of its bytes, -1 if it has no file. `size` and `files` count its present files.
    `root`: it is the project, or no package of the image requires it.
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
        """The name and version."""
        return f"{self.name} {self.version}".rstrip()


@dataclass(frozen=True, slots=True)
class LayerContents:
    """A layer. `title`: its command or packages. `removed_size`: part of `files_size` that later layers remove."""

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
    """Number and bytes of the files of one owner (user and group)."""

    files: int
    size: int


@dataclass(frozen=True, slots=True)
class Permissions:
    """Owners and writable paths of an image's file system. Paths are absolute.

    `user`: the UID of the image's user, None if etc/passwd lacks its name. `owners`: by "uid:gid". `setuid`: programs
    with a set-user-ID or set-group-ID bit. `writable`: by the image's user, without those in `writable_by_everybody`.
    """

    user: int | None
    owners: Mapping[str, OwnedFiles]
    setuid: tuple[str, ...]
    writable: tuple[str, ...]
    writable_by_everybody: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KindSize:
    """Bytes of the files of one kind. `size` (compressed) is None if a layer contains several kinds."""

    kind: str
    unpacked_size: int
    size: int | None


@dataclass(frozen=True, slots=True)
class ImageContents:
    """An image and its contents. `by_hatch_docker`: hatch-docker built it, so each layer contains one kind of files."""

    image: Image
    by_hatch_docker: bool
    system: str                      # "Debian GNU/Linux 13 (trixie)", "" without os-release
    python: str                      # the Python version for environment markers, "" without a Python
    layers: tuple[LayerContents, ...]
    packages: tuple[Package, ...]
    files: tuple[File, ...]
    permissions: Permissions
    kinds: tuple[KindSize, ...] = ()

    @property
    def size(self) -> int:
        """The compressed size of all layers, in bytes."""
        return sum(layer.size for layer in self.layers)

    @property
    def unpacked_size(self) -> int:
        """The size of the tars of all layers, in bytes."""
        return sum(layer.unpacked_size for layer in self.layers)

    @property
    def yours(self) -> int:
        """The unpacked bytes of the project: its code, its files and its steps."""
        return sum(kind.unpacked_size for kind in self.kinds if kind.kind in YOURS)

    @property
    def compressed(self) -> bool:
        """Return whether layers are compressed; those from a daemon are plain tars."""
        return any(LAYER_TYPES[layer.descriptor.media_type] != "none" for layer in self.image.layers)

    @property
    def created(self) -> str:
        """The creation time in the configuration (config.md), or ""."""
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
        """The entrypoint and command, quoted for a shell."""
        words = [*(self.settings.get("Entrypoint") or ()), *(self.settings.get("Cmd") or ())]
        return shlex.join(words) if words else "no command of its own"

    @property
    def user(self) -> str:
        """The user and working directory of the command, as text."""
        return f"{self.settings.get('User') or 'root'} in {self.settings.get('WorkingDir') or '/'}"

    @property
    def platform_text(self) -> str:
        """The distribution and Python version, "" if both are unknown."""
        return ", ".join(filter(None, [self.system, self.python and f"Python {self.python}"]))

    @property
    def owners(self) -> list[tuple[str, OwnedFiles]]:
        """The owners ("uid:gid") and their files, sorted by size, largest first."""
        owners = [(name, owned) for name, owned in self.permissions.owners.items() if owned.files]
        return sorted(owners, key=lambda item: (-item[1].size, item[0]))

    def package_of(self, file: File, default: str = "") -> str:
        """Return the name of the package of a file, `default` if it is of no package."""
        return self.packages[file.package].name if file.package >= 0 else default


def largest_packages(packages: Iterable[Package]) -> list[Package]:
    """Return packages sorted by size, largest first."""
    return sorted(packages, key=lambda package: (-package.size, package.name, package.type))


def largest_files(contents: ImageContents) -> list[File]:
    """Return the files of all layers, without links, sorted by size, largest first."""
    files = (file for file in contents.files if not file.link)
    return sorted(files, key=lambda file: (-file.size, file.path, file.layer))
