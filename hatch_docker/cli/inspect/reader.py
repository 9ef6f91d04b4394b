"""Reader of an image's contents. It reads each layer once, and unpacks nothing to disk."""

import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from hatch_docker.build.existing import existing_image
from hatch_docker.build.publish import DIST, resolve_archive
from hatch_docker.build.receipt import Receipt
from hatch_docker.cli.inspect.model import (
    BASE,
    DEPENDENCIES,
    HEADERS,
    OTHER,
    PROJECT,
    REMOVED,
    SYSTEM,
    TITLES,
    Dependency,
    File,
    ImageContents,
    KindSize,
    LayerContents,
    Package,
)
from hatch_docker.cli.inspect.packages import Metadata, PackageFiles, dependencies_of, permissions_of, source_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.streams import HashingStream, drain
from hatch_docker.engines.model import Excluded
from hatch_docker.oci.archive import child_for
from hatch_docker.oci.filesystem import LayerMember, list_members
from hatch_docker.oci.model import Image, Index, Platform, host_platform

_OURS = re.compile(r"hatch-docker (?P<kind>base|system|dependencies|project|files)|hatch-docker: (?P<base>.+)")
_APPLICATION = ("app/", "code/", "srv/", "src/", "home/", "workspace/", "usr/src/", "opt/")
_HIDDEN = re.compile(r"(?:home/[^/]+|root)/\.")  # files of adduser and other programs
_INTERPRETER = re.compile(r"(?P<prefix>(?:.*/)?)lib/python(?P<short>3\.\d{1,2})t?/os\.py")
_INTERPRETER_FILES = (
    r"{prefix}(?:lib/(?:python{short}/(?!site-packages/)|(?:[^/]+/)?libpython3|pkgconfig/python)|include/python{short}/|"
    r"bin/(?:python|pydoc|idle|2to3)[^/]*|share/man/man1/python)"
)
_SITE = re.compile(r"(?:^|/)lib/python(?P<short>3\.\d{1,2})t?/site-packages/")
_DEBIAN_PYTHON = re.compile(r"(?:lib)?python3\.\d+-minimal")

History = Sequence[tuple[str, str]]
"""Kind and title of each layer. The kind is "" for layers of other programs."""
Present = Mapping[str, LayerMember]
"""The members of the image's final file system, by path."""


def read_contents(image: Image, *, hashed: bool = False) -> ImageContents:
    """Return the contents of an image. `hashed`: compute the digest of each file, for comparisons.

    Raises ImageError for damaged layers, and for layers that exceed the limits for memory.
    """
    package_files = PackageFiles()

    def read_file(path: str, stream: BinaryIO) -> bytes | None:
        if not hashed:
            package_files.read(path, stream)
            return None
        hashing = HashingStream(stream)
        package_files.read(path, hashing)
        drain(hashing)
        return hashing.hash.digest()

    members, sizes = list_members(image.layers, read_file)
    present = {member.entry.path: member for member in members if member.visible}
    metadata = {path: value for path, value in package_files.metadata.items() if path in present}
    history = _history(image)
    python = _python_version(image, metadata, present)
    found = _metadata(metadata, present, history, package_files.direct, python)
    owners = _Owners(found, package_files, metadata, present)
    files = tuple(_files(members, found, owners, history, image))
    packages = tuple(_packages(found, files, dependencies_of(found, python, image.platform)))
    contents = ImageContents(
        image, any(kind for kind, _ in history), package_files.system, python,
        tuple(_layers(image, files, sizes, history)), packages, files, permissions_of(image, members, package_files),
    )  # fmt: skip
    return replace(contents, kinds=tuple(_kinds(contents)))


def _history(image: Image) -> History:
    """Return kind and title of each layer from the image's history (config.md)."""
    lines = [line for line in image.config_json.get("history") or [] if not line.get("empty_layer")]
    if len(lines) != len(image.layers):
        return [("", "")] * len(image.layers)
    found = []
    for line in lines:
        command, comment = str(line.get("created_by") or ""), str(line.get("comment") or "")
        match = _OURS.match(command)
        if match and match["base"]:
            found.append((BASE, match["base"]))
        else:
            # For layers of other programs, remove the shell and the comments that builders add to the instruction.
            text = re.sub(r"^/bin/sh -c (?:#\(nop\) +)?|\s*# buildkit$", "", command.strip())
            text = re.sub(r"^(RUN )(?:\|\d+ .*?)?/bin/sh -c ", r"\1", text, flags=re.DOTALL)
            found.append((match["kind"], comment) if match else ("", " ".join(text.split())))
    if any(kind for kind, _ in found):  # the layers below our first layer are those of the base
        first = next(number for number, (kind, _) in enumerate(found) if kind)
        found[:first] = [(BASE, title) for _, title in found[:first]]
    return found


def _system_packages(metadata: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (package for value in metadata.values() if value["kind"] == "system" for package in value["packages"])


def _python_version(image: Image, metadata: Mapping[str, Any], present: Iterable[str]) -> str:
    """Return the version of the Python that packages are installed for: "3.13.5" if it is known, otherwise "3.13"."""
    versions = Counter(match["short"] for path in metadata if (match := _SITE.search(path)))
    if not versions:
        versions = Counter(match["short"] for path in present if (match := _INTERPRETER.fullmatch(path)))
    if not versions:
        return ""
    short = versions.most_common(1)[0][0]
    known = [image.env.get("PYTHON_VERSION", "")]
    known += [item["version"] for item in _system_packages(metadata) if _DEBIAN_PYTHON.fullmatch(item["name"])]
    full = (re.match(r"3\.\d+\.\d+", version) for version in known)
    return next((match[0] for match in full if match and match[0].startswith(f"{short}.")), short)


def _metadata(
    metadata: Mapping[str, Any], present: Present, history: History, direct: frozenset[str], python: str
) -> list[Metadata]:
    """Return the installed packages, sorted by type and name.

    If two layers have a package, the one of the later layer comes first, because Python imports it. A Python that is in
    no system package, as in Docker's official images, is added at the end.
    """
    packages = []
    for path, value in metadata.items():
        if value["kind"] == "python" and value["name"]:
            kind = history[present[path].layer][0]
            own = kind == PROJECT or (not kind and path.rpartition("/")[0] in direct)
            requires = tuple(value["requires"])
            packages.append(Metadata("python", value["name"], value["version"], path, requires, own=own))
        elif value["kind"] == "system":
            packages += [
                Metadata(value["type"], item["name"], item["version"], path, tuple(item["requires"]),
                         tuple(item["provides"]))
                for item in value["packages"]
            ]  # fmt: skip
    packages.sort(key=lambda item: (item.type, item.name.lower(), -present[item.path].layer, item.path))
    names = [package["name"] for package in _system_packages(metadata)]
    if python and not any(_DEBIAN_PYTHON.fullmatch(name) or name == "python3" for name in names):
        short = ".".join(python.split(".")[:2])
        paths = [path for path in present if (match := _INTERPRETER.fullmatch(path)) and match["short"] == short]
        packages += [Metadata("interpreter", "python", python, min(paths), ())] if paths else []
    return packages


class _Owners:
    """The package of each path, as an index. Python packages take precedence: pip may replace files of the system."""

    def __init__(
        self, found: Sequence[Metadata], package_files: PackageFiles, metadata: Mapping[str, Any], present: Present
    ) -> None:
        numbers = {(package.type, package.path if package.type == "python" else package.name): number
                   for number, package in enumerate(found)}  # fmt: skip
        links = {path: member.entry.target.strip("/") for path, member in present.items()
                 if member.entry.kind == "symlink" and "/" not in path}  # fmt: skip
        self.paths: dict[str, int] = {}
        for type_, name, paths in sorted(package_files.owned(metadata), key=lambda row: row[0] != "python"):
            number = numbers.get((type_, name), -1)
            for path in paths if number >= 0 else ():
                first, slash, rest = path.partition("/")
                real = f"{links[first]}/{rest}" if slash and first in links else path  # the merged /usr
                self.paths.setdefault(real, number)
        self.interpreter: tuple[re.Pattern[str], int] | None = None
        for number, package in enumerate(found):
            if package.type == "python":
                directory = package.path.rpartition("/")[0]
                own = (package.path, f"{directory}/RECORD", f"{directory}/INSTALLER")
                self.paths |= dict.fromkeys(own, number)
            elif match := _INTERPRETER.fullmatch(package.path):
                prefix, short = map(re.escape, match.groups())
                self.interpreter = re.compile(_INTERPRETER_FILES.format(prefix=prefix, short=short)), number

    def owner(self, path: str) -> int:
        """Return the index of the package of a path, -1 if it is of no package."""
        number = self.paths.get(path, -1)
        if number < 0 and (source := source_of(path)):
            number = self.paths.get(source, -1)
        if number < 0 and self.interpreter and self.interpreter[0].match(path):
            return self.interpreter[1]
        return number


def _files(
    members: Sequence[LayerMember], found: Sequence[Metadata], owners: _Owners, history: History, image: Image
) -> Iterator[File]:
    """Yield the files and links of all layers."""
    workdir = str(image.settings.get("WorkingDir") or "").strip("/")
    places = (*_APPLICATION, *([f"{workdir}/"] if workdir else []))
    paths = (member.entry.path for member in members)
    venvs = tuple(path.removesuffix("pyvenv.cfg") for path in paths if path.endswith("/pyvenv.cfg"))
    for member in members:
        entry, kind = member.entry, history[member.layer][0]
        if entry.kind == "directory":
            continue
        package = owners.owner(entry.path) if member.visible else -1
        if not member.visible:
            kind = REMOVED
        elif not kind:
            path = entry.path
            yours = path.startswith(places) and not path.startswith(venvs) and not _HIDDEN.match(path)
            kind = _kind_of(found[package]) if package >= 0 else PROJECT if yours else OTHER
        digest = entry.content if isinstance(entry.content, bytes) else b""
        if entry.kind == "symlink":
            digest = hashlib.sha256(entry.target.encode(errors="surrogateescape")).digest()
        yield File(
            entry.path, entry.size, member.layer, kind, package, entry.kind != "file", entry.mode,
            (entry.uid, entry.gid), digest,
        )  # fmt: skip


def _kind_of(package: Metadata) -> str:
    """Return the kind of a package's files, for images of other programs."""
    if package.type != "python":
        return SYSTEM
    return PROJECT if package.own else DEPENDENCIES


def _packages(
    found: Sequence[Metadata], files: Iterable[File], dependencies: Sequence[tuple[Dependency, ...]]
) -> Iterator[Package]:
    own_files: list[list[File]] = [[] for _ in found]
    for file in files:
        if file.package >= 0:
            own_files[file.package].append(file)
    required = {dependency.package for row in dependencies for dependency in row}
    for number, (package, own) in enumerate(zip(found, own_files, strict=True)):
        layers, kinds = Counter[int](), Counter[str]()
        for file in own:
            layers[file.layer] += file.size + 1
            kinds[file.kind] += file.size + 1
        layer = max(sorted(layers), key=layers.__getitem__, default=-1)
        yield Package(
            package.type, package.name, package.version, layer, sum(file.size for file in own), len(own),
            max(sorted(kinds), key=kinds.__getitem__, default=_kind_of(package)),
            package.own or number not in required, dependencies[number],
        )  # fmt: skip


def _layers(image: Image, files: Iterable[File], sizes: Sequence[int], history: History) -> Iterator[LayerContents]:
    counts: list[Counter[str]] = [Counter() for _ in image.layers]
    bytes_of: list[Counter[str]] = [Counter() for _ in image.layers]
    for file in files:
        counts[file.layer][file.kind] += 1
        bytes_of[file.layer][file.kind] += file.size
    for layer, (kind, title), unpacked, count, size in zip(image.layers, history, sizes, counts, bytes_of, strict=True):
        largest = max(sorted(count), key=(size + count).__getitem__, default=OTHER)
        yield LayerContents(
            layer.descriptor.digest, layer.diff_id, kind or largest, title, layer.descriptor.size, unpacked,
            count.total(), size.total(), size[REMOVED],
        )  # fmt: skip


def _kinds(contents: ImageContents) -> Iterator[KindSize]:
    """Yield the size of each kind: summed over layers in our images, over files in images of other programs."""
    if contents.by_hatch_docker:
        for kind in TITLES:
            if layers := [layer for layer in contents.layers if layer.kind == kind]:
                yield KindSize(kind, sum(layer.unpacked_size for layer in layers), sum(layer.size for layer in layers))
        return
    sizes = Counter[str]()
    for file in contents.files:
        sizes[file.kind] += file.size
    sizes[HEADERS] = contents.unpacked_size - sizes.total()
    yield from (KindSize(kind, sizes[kind], None) for kind in TITLES if sizes[kind])


@dataclass(frozen=True, slots=True)
class NamedImage:
    """The contents of an image, with its name.

    `digest`: of the index if there is one, otherwise of the image. `platforms`: platform, digest and compressed bytes
    of all images in the index. `left_out`: files of wheels that are not in the image, according to its receipt.
    """

    name: str
    digest: str
    platforms: tuple[tuple[Platform, str, int], ...]
    contents: ImageContents
    left_out: tuple[Excluded, ...]
    receipt: Receipt | None


@contextlib.contextmanager
def open_image(name: str, platform: str, ctx: Context, *, hashed: bool = False) -> Iterator[NamedImage]:
    """Open and read an image, for `platform` or for this machine's. `hashed`: see `read_contents`.

    `name`: an archive, a directory with one archive or an OCI layout, or a name for `existing_image`. Raises
    ConfigError if there is no image for the platform.
    """
    path, place = Path(name), name
    if (path / "oci-layout").is_file():
        place = f"oci:{path}"
    elif path == DIST or path.is_dir():
        place = str(resolve_archive(path))
    with existing_image(place, ctx) as existing:
        platforms = tuple((image.platform, image.digest, image.size) for image in existing.images)
        if not platform:
            image = child_for(existing.item, host_platform()) if isinstance(existing.item, Index) else existing.item
        else:
            wanted = Platform.parse(platform)
            matching = [image for image in existing.images if image.platform == wanted]
            if not matching:
                known = ", ".join(str(platform) for platform, _, _ in platforms)
                raise ConfigError(f"{place} has no image for {wanted}; it has: {known}")
            image = matching[0]
        tag = f":{existing.tags[0]}" if existing.tags else ""
        title = f"{existing.image}{tag}" if existing.image else existing.label("title") or name
        contents = read_contents(image, hashed=hashed)
        left_out = existing.left_out(image)
        yield NamedImage(title, existing.item.digest, platforms, contents, left_out, existing.receipt)
