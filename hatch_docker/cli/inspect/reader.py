"""Read what an image consists of: its layers are walked once, nothing is unpacked."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from hatch_docker.cli.inspect.model import (
    BASE,
    DEPENDENCIES,
    HEADERS,
    OTHER,
    PROJECT,
    REMOVED,
    SYSTEM,
    TITLES,
    Contents,
    File,
    LayerContents,
    Need,
    Package,
    Part,
)
from hatch_docker.cli.inspect.ownership import Reading, lists_of, source_of
from hatch_docker.cli.inspect.permissions import permissions_of
from hatch_docker.cli.inspect.requirements import Found, needs_of
from hatch_docker.core.streams import HashingReader, drain
from hatch_docker.oci.filesystem import Member, survey
from hatch_docker.oci.model import Image

OURS = re.compile(r"hatch-docker (?P<kind>base|system|dependencies|project|files)|hatch-docker: (?P<base>.+)")
_APPLICATION = ("app/", "code/", "srv/", "src/", "home/", "workspace/", "usr/src/", "opt/")
_INTERPRETER = re.compile(r"(?P<prefix>(?:.*/)?)lib/python(?P<short>3\.\d{1,2})/os\.py")
_HIDDEN = re.compile(r"(?:home/[^/]+|root)/\.")  # what adduser and tools leave there
_SITE = re.compile(r"(?:^|/)lib/python(?P<short>3\.\d{1,2})/site-packages/")
_DEBIAN = re.compile(r"(?:lib)?python3\.\d+-minimal")


def read_contents(image: Image, *, hashed: bool = False) -> Contents:
    """What is in an image; `hashed` gives every file the digest of its content, for comparisons.

    Raises ImageError for layers that are damaged, or hold more than can be kept in memory.
    """
    reading = Reading()

    def look(path: str, stream: BinaryIO) -> bytes | None:
        if not hashed:
            reading.look(path, stream)
            return None
        copy = HashingReader(stream)
        reading.look(path, copy)
        drain(copy)
        return copy.hash.digest()

    members, sizes = survey(image.layers, look)
    shown = {member.entry.path: member for member in members if member.shown}
    finds = {path: find for path, find in reading.finds.items() if path in shown}
    history = _history(image)
    ours = any(kind for kind, _ in history)
    python = _python_version(image, finds, shown)
    found = [*_found(finds, shown, history, reading.direct), *_interpreter(finds, shown, python)]
    owners = _owners(found, reading, finds, shown)
    files, kinds = _files(members, found, owners, history, image)
    packages = _packages(found, files, needs_of(found, python, image.platform), kinds)
    layers = _layers(image, files, sizes, history)
    contents = Contents(
        image, ours, _system(reading.release), python, layers, packages, files,
        permissions_of(image, members, reading),
    )  # fmt: skip
    return replace(contents, parts=tuple(_parts(contents)))


def _history(image: Image) -> list[tuple[str, str]]:
    """Kind and title of each layer; the kind is "" where it is not of ours."""
    lines = [line for line in image.config_json.get("history") or [] if not line.get("empty_layer")]
    if len(lines) != len(image.layers):
        return [("", "")] * len(image.layers)
    made = []
    for line in lines:
        maker, comment = str(line.get("created_by") or ""), str(line.get("comment") or "")
        match = OURS.match(maker)
        if match and match["base"]:
            made.append((BASE, match["base"]))
        else:
            made.append((match["kind"], comment) if match else ("", _command(maker)))
    if any(kind for kind, _ in made):  # what ours stand on, whoever made it
        first = next(number for number, (kind, _) in enumerate(made) if kind)
        made[:first] = [(BASE, title) for _, title in made[:first]]
    return made


def _command(maker: str) -> str:
    """The instruction that made a layer, without what builders put around it."""
    text = re.sub(r"^/bin/sh -c (?:#\(nop\) +)?|\s*# buildkit$", "", maker.strip())
    text = re.sub(r"^(RUN )(?:\|\d+ .*?)?/bin/sh -c ", r"\1", text, flags=re.DOTALL)
    return " ".join(text.split())


def _system(release: Mapping[str, str]) -> str:
    return release.get("PRETTY_NAME") or f"{release.get('NAME', '')} {release.get('VERSION_ID', '')}".strip()


def _python_version(image: Image, finds: Mapping[str, Any], shown: Iterable[str]) -> str:
    """The version of the Python that packages are installed for: in full where a package or a variable tells."""
    versions = Counter(match["short"] for path in finds if (match := _SITE.search(path)))
    if not versions:
        versions = Counter(match["short"] for path in shown if (match := _INTERPRETER.fullmatch(path)))
    if not versions:
        return ""
    short = versions.most_common(1)[0][0]
    told = [str(value).partition("=")[2] for value in (image.config_json.get("config") or {}).get("Env") or ()
            if str(value).startswith("PYTHON_VERSION=")]  # fmt: skip
    told += [package["version"] for find in finds.values() if find["kind"] == "system"
             for package in find["packages"] if _DEBIAN.fullmatch(package["name"])]  # fmt: skip
    full = (re.match(r"3\.\d+\.\d+", version) for version in told)
    return next((match[0] for match in full if match and match[0].startswith(f"{short}.")), short)


def _found(
    finds: Mapping[str, Mapping[str, Any]], shown: Mapping[str, Member], history: Sequence[tuple[str, str]],
    direct: frozenset[str],
) -> list[Found]:
    """The packages that the image's files tell of, in an order of their own."""
    packages = []
    for path, find in finds.items():
        if find["kind"] == "python" and find["name"]:
            kind = history[shown[path].layer][0]
            own = kind == PROJECT or (not kind and path.rpartition("/")[0] in direct)
            packages.append(Found("python", find["name"], find["version"], path, tuple(find["requires"]), (), own))
        elif find["kind"] == "system":
            packages += [
                Found(find["type"], one["name"], one["version"], path, tuple(one["requires"]), tuple(one["provides"]))
                for one in find["packages"]
            ]
    # Of one name in two places the later layer's comes first: it is the one that is imported.
    return sorted(packages, key=lambda one: (one.type, one.name.lower(), -shown[one.place].layer, one.place))


@dataclass(frozen=True, slots=True)
class _Owners:
    """Which package, by number, has a path; `interpreter` is where a Python that no package brought lies."""

    paths: Mapping[str, int]
    interpreter: tuple[re.Pattern[str], int] | None

    def of(self, path: str) -> int:
        """The number, -1 for a file of no package."""
        found = self.paths.get(path, -1)
        if found < 0 and (source := source_of(path)):
            found = self.paths.get(source, -1)
        if found < 0 and self.interpreter and self.interpreter[0].match(path):
            return self.interpreter[1]
        return found


def _interpreter(finds: Mapping[str, Any], shown: Mapping[str, Member], python: str) -> list[Found]:
    """A Python that no package of the system brought, as in Docker's official images."""
    systems = [find for find in finds.values() if find["kind"] == "system"]
    names = [package["name"] for find in systems for package in find["packages"]]
    if not python or any(_DEBIAN.fullmatch(name) or name == "python3" for name in names):
        return []
    short = ".".join(python.split(".")[:2])
    places = [path for path in shown if (match := _INTERPRETER.fullmatch(path)) and match["short"] == short]
    return [Found("interpreter", "python", python, min(places), ())] if places else []


def _owners(
    found: Sequence[Found], reading: Reading, finds: Mapping[str, Any], shown: Mapping[str, Member]
) -> _Owners:
    """Who has which path; of two that say so, Python's package: what pip installed over the system's is pip's."""
    numbers = {(one.type, one.place if one.type == "python" else one.name): number for number, one in enumerate(found)}
    links = {path: member.entry.target.strip("/") for path, member in shown.items()
             if member.entry.kind == "symlink" and "/" not in path}  # fmt: skip
    paths: dict[str, int] = {}
    listed = sorted(lists_of(reading, finds), key=lambda row: row[0] != "python")
    for type_, name, names in listed:
        number = numbers.get((type_, name), -1)
        if number < 0:
            continue
        for path in names:
            first, slash, rest = path.partition("/")
            real = f"{links[first]}/{rest}" if slash and first in links else path  # the merged /usr
            paths.setdefault(real, number)
    for number, one in enumerate(found):
        if one.type == "python":
            directory = one.place.rpartition("/")[0]
            paths |= dict.fromkeys((one.place, f"{directory}/RECORD", f"{directory}/INSTALLER"), number)
        elif one.type == "interpreter":
            match = _INTERPRETER.fullmatch(one.place)
            assert match is not None
            prefix, short = re.escape(match["prefix"]), re.escape(match["short"])
            return _Owners(paths, (re.compile(
                rf"{prefix}(?:lib/(?:python{short}/(?!site-packages/)|(?:[^/]+/)?libpython3|pkgconfig/python)|include/python{short}/|"
                rf"bin/(?:python|pydoc|idle|2to3)[^/]*|share/man/man1/python)"
            ), number))
    return _Owners(paths, None)


def _files(
    members: Sequence[Member], found: Sequence[Found], owners: _Owners, history: Sequence[tuple[str, str]],
    image: Image,
) -> tuple[tuple[File, ...], list[str]]:
    """Every file of every layer, and the kind of each package."""
    workdir = str((image.config_json.get("config") or {}).get("WorkingDir") or "").strip("/")
    places = (*_APPLICATION, *([f"{workdir}/"] if workdir else []))
    paths = (member.entry.path for member in members)
    venvs = tuple(path.removesuffix("pyvenv.cfg") for path in paths if path.endswith("/pyvenv.cfg"))
    kinds = [_kind_of(one) for one in found]
    files = []
    for member in members:
        entry, kind = member.entry, history[member.layer][0]
        if entry.kind == "directory":
            continue
        package = owners.of(entry.path) if member.shown else -1
        if not kind:
            yours = entry.path.startswith(places) and not entry.path.startswith(venvs) and not _HIDDEN.match(entry.path)
            kind = kinds[package] if package >= 0 else PROJECT if yours else OTHER
        digest = entry.content if isinstance(entry.content, bytes) else b""
        if entry.kind == "symlink":
            digest = hashlib.sha256(entry.target.encode(errors="surrogateescape")).digest()
        files.append(File(
            entry.path, entry.size, member.layer, kind if member.shown else REMOVED, package, entry.kind != "file",
            entry.mode, (entry.uid, entry.gid), digest,
        ))  # fmt: skip
    return tuple(files), kinds


def _kind_of(package: Found) -> str:
    if package.type == "python":
        return PROJECT if package.own else DEPENDENCIES
    return SYSTEM


def _packages(
    found: Sequence[Found], files: Iterable[File], needs: Sequence[tuple[Need, ...]], kinds: Sequence[str]
) -> tuple[Package, ...]:
    sizes = [0] * len(found)
    counts = [0] * len(found)
    places: list[Counter[int]] = [Counter() for _ in found]
    layer_kinds: list[Counter[str]] = [Counter() for _ in found]
    for file in files:
        if file.package >= 0:
            sizes[file.package] += file.size
            counts[file.package] += 1
            places[file.package][file.layer] += file.size + 1
            layer_kinds[file.package][file.kind] += file.size + 1
    asked_for = {need.package for row in needs for need in row}
    return tuple(
        Package(
            one.type, one.name, one.version,
            max(places[number], key=lambda layer: (places[number][layer], -layer), default=-1),
            sizes[number], counts[number],
            max(sorted(layer_kinds[number]), key=layer_kinds[number].__getitem__, default=kinds[number]),
            one.own or number not in asked_for, needs[number],
        )
        for number, one in enumerate(found)
    )  # fmt: skip


def _layers(
    image: Image, files: Iterable[File], sizes: Sequence[int], history: Sequence[tuple[str, str]]
) -> tuple[LayerContents, ...]:
    content, removed, counts = Counter[int](), Counter[int](), Counter[int]()
    kinds: list[Counter[str]] = [Counter() for _ in image.layers]
    for file in files:
        counts[file.layer] += 1
        content[file.layer] += file.size
        if file.kind == REMOVED:
            removed[file.layer] += file.size
        kinds[file.layer][file.kind] += file.size + 1
    return tuple(
        LayerContents(
            layer.descriptor.digest, layer.diff_id,
            history[number][0] or max(sorted(kinds[number]), key=kinds[number].__getitem__, default=OTHER),
            history[number][1], layer.descriptor.size, sizes[number], content[number], counts[number], removed[number],
        )
        for number, layer in enumerate(image.layers)
    )  # fmt: skip


def _parts(contents: Contents) -> Iterable[Part]:
    """What each kind takes: of ours by layers, of images that others made by files."""
    order = list(TITLES)
    if contents.ours:
        for kind in order:
            layers = [layer for layer in contents.layers if layer.kind == kind]
            if layers:
                yield Part(kind, sum(layer.unpacked for layer in layers), sum(layer.stored for layer in layers))
        return
    sizes = Counter[str]()
    for file in contents.files:
        sizes[file.kind] += file.size
    sizes[HEADERS] = contents.unpacked - sizes.total()
    yield from (Part(kind, sizes[kind], None) for kind in order if sizes[kind])
