"""Inventory of an image: what is installed in it, read from its files, and remembered for each layer.

    python     distributions, by their METADATA (PEP 376, and eggs of old), with their own SBOMs (PEP 770)
    system     packages of Debian (var/lib/dpkg/status and status.d) and Alpine (lib/apk/db/installed)
    release    which distribution of Linux it is (os-release)

Labels, locks and resolutions are not used: they say what should be there.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, BinaryIO

from hatch_docker.core.cache.store import Store, key_of
from hatch_docker.core.context import Context
from hatch_docker.oci.layer import Entry, LayerReader
from hatch_docker.oci.model import Layer
from hatch_docker.project.licences import NO_LICENCE, debian_licence, licence_of, stated
from hatch_docker.release.sbom.embedded import people, read_embedded

RECIPE = 2               # raise it if the same files must be read differently
LIMIT = 16 << 20         # bytes of a file that is read
KIND = "inventory"
_METADATA = re.compile(r"(?:.*/)?(?:[^/]+\.dist-info/METADATA|[^/]+\.egg-info(?:/PKG-INFO)?)")
_BUNDLED = re.compile(r"(?P<owner>(?:.*/)?[^/]+\.dist-info)/sboms/.+")
_DPKG = re.compile(r"var/lib/dpkg/(?:status|status\.d/[^/]+(?<!\.md5sums))")
_APK = re.compile(r"(?:usr/)?lib/apk/db/installed")
_COPYRIGHT = re.compile(r"usr/share/doc/(?P<package>[^/]+)/copyright")
RELEASES = ("etc/os-release", "usr/lib/os-release")
_INSTALLED = "install ok installed"

Findings = Mapping[str, Any]
"""Parsed JSON: path -> {"kind", ...}; the kind of a path that the layer removes is "whiteout" or "opaque"."""


def read_inventory(layers: Sequence[Layer], ctx: Context) -> dict[str, tuple[int, dict[str, Any]]]:
    """Return the findings of an image by path, with the number of the layer; later layers win (layer.md)."""
    merged: dict[str, tuple[int, dict[str, Any]]] = {}
    for number, layer in enumerate(layers):
        found: Findings = InventoryReader(ctx.store, layer).remembered()
        for path, finding in found.items():
            if finding["kind"] in ("whiteout", "opaque"):
                gone = [other for other in merged if other.startswith(f"{path}/") or path in ("", other)]
                for other in gone:
                    del merged[other]
            else:
                merged[path] = (number, finding)
    return merged


class InventoryReader(LayerReader):
    """The reader of one layer."""

    def __init__(self, store: Store, layer: Layer) -> None:
        super().__init__(store, layer, KIND, key_of(RECIPE, layer.diff_id))
        self._removed: dict[str, dict[str, Any]] = {}
        self._found: dict[str, dict[str, Any]] = {}

    def see(self, entry: Entry, stream: BinaryIO | None) -> None:
        """Add the finding of an entry, if there is one."""
        path = entry.path
        if entry.kind in ("whiteout", "opaque"):
            self._removed[path] = {"kind": entry.kind}
        elif entry.kind == "symlink" and (match := re.fullmatch(r"usr/share/doc/([^/]+)", path)):
            self._found[f"{path}/copyright"] = {"kind": "copyright", "of": match[1], "like": entry.target}
        elif stream is not None and entry.size <= LIMIT and (read := reader(path)):
            self._found[path] = read(path, stream.read(entry.size))

    def found(self) -> Findings:
        """Return all findings, removals first: they do not concern the layer's own files."""
        return self._removed | self._found


def reader(path: str) -> Any:
    """Return the function that reads a file of that path; None for most paths."""
    if path in RELEASES:
        return _release
    name = path.rpartition("/")[2]
    if name == "copyright" and _COPYRIGHT.fullmatch(path):
        return _copyright
    if name in ("METADATA", "PKG-INFO") or name.endswith(".egg-info"):
        return _distribution if _METADATA.fullmatch(path) else None
    if "/sboms/" in path and _BUNDLED.fullmatch(path):
        return _bundled
    if path.startswith("var/lib/dpkg/") and _DPKG.fullmatch(path):
        return _dpkg
    return _apk if _APK.fullmatch(path) else None


def headers(text: str) -> dict[str, list[str]]:
    """Return the fields of the first paragraph of METADATA or of a Debian control file, by lower-case names."""
    fields: dict[str, list[list[str]]] = {}
    last: list[str] | None = None
    for line in text.splitlines():
        if not line.strip():
            break
        if line[0] in " \t":
            if last is not None:
                last.append(line.strip())
            continue
        name, colon, value = line.partition(":")
        if colon:
            last = [value.strip()]
            fields.setdefault(name.strip().lower(), []).append(last)
    return {name: ["\n".join(lines) for lines in found] for name, found in fields.items()}


def _first(fields: Mapping[str, Sequence[str]], *names: str) -> str:
    """Return the first of some fields that is not empty, on one line."""
    return next((" ".join(fields[name][0].split()) for name in names if fields.get(name) and fields[name][0]), "")


def _distribution(_path: str, data: bytes) -> dict[str, Any]:
    fields = headers(data.decode(errors="replace"))
    return {
        "kind": "python", "name": _first(fields, "name"), "version": _first(fields, "version"),
        "licence": asdict(licence_of(fields)), "requires": fields.get("requires-dist", []),
        "supplier": people(_first(fields, "author", "author-email", "maintainer", "maintainer-email")),
    }  # fmt: skip


def _bundled(path: str, data: bytes) -> dict[str, Any]:
    match = _BUNDLED.fullmatch(path)
    assert match is not None
    return {"kind": "bundled", "of": match["owner"], "sha256": hashlib.sha256(data).hexdigest(), **read_embedded(data)}


def _dpkg(_path: str, data: bytes) -> dict[str, Any]:
    paragraphs = (headers(text) for text in re.split(r"\n\s*\n", data.decode(errors="replace")))
    return {"kind": "system", "type": "deb", "packages": [
        {
            "name": fields["package"][0], "version": _first(fields, "version"),
            "architecture": _first(fields, "architecture"), "source": _source(fields),
            "supplier": people(_first(fields, "maintainer")), "licence": asdict(NO_LICENCE),
            "requires": _relations(_first(fields, "pre-depends"), _first(fields, "depends")),
            "provides": [names[0] for names in _relations(_first(fields, "provides"))],
        }
        for fields in paragraphs
        if fields.get("package") and _first(fields, "status") in ("", _INSTALLED)
    ]}  # fmt: skip


def _source(fields: Mapping[str, Sequence[str]]) -> str:
    """Return the source package for purl's `upstream`, as "gcc-14@14.2.0-19"; "" if it is named like the binary one."""
    name, _, version = _first(fields, "source").partition(" ")
    version = version.strip("()")
    if not version or version == _first(fields, "version"):
        return name if name != fields["package"][0] else ""
    return f"{name}@{version}"


def _relations(*texts: str) -> list[list[str]]:
    """Return the names of relationship fields (deb-control(5)): one of each list is needed."""
    groups = [group for text in texts for group in text.replace("\n", " ").split(",") if group.strip()]
    return [[re.split(r"[\s(:]", name.strip(), maxsplit=1)[0] for name in group.split("|")] for group in groups]


def _apk(_path: str, data: bytes) -> dict[str, Any]:
    """Read Alpine's database: a paragraph for each package, a letter for each field."""
    packages = []
    for text in re.split(r"\n\s*\n", data.decode(errors="replace")):
        pairs = (line.partition(":") for line in text.splitlines() if line[1:2] == ":")
        fields = {letter: value for letter, _, value in pairs if letter in "PVALomDp"}
        if fields.get("P"):
            packages.append({
                "name": fields["P"], "version": fields.get("V", ""), "architecture": fields.get("A", ""),
                "source": fields["o"] if fields.get("o") not in (None, fields["P"]) else "",
                "supplier": people(fields.get("m", "")), "licence": asdict(stated(fields.get("L", ""))),
                "requires": [[_bare(word)] for word in fields.get("D", "").split() if word[0] != "!"],
                "provides": [_bare(word) for word in fields.get("p", "").split()],
            })  # fmt: skip
    return {"kind": "system", "type": "apk", "packages": packages}


def _bare(word: str) -> str:
    return re.split(r"[<>=~]", word, maxsplit=1)[0]


def _copyright(path: str, data: bytes) -> dict[str, Any]:
    licence = debian_licence(data.decode(errors="replace"))
    return {"kind": "copyright", "of": path.split("/")[3], "licence": asdict(licence)}


def _release(_path: str, data: bytes) -> dict[str, Any]:
    pairs = (line.partition("=") for line in data.decode(errors="replace").splitlines())
    wanted = ("ID", "VERSION_ID", "PRETTY_NAME", "NAME")
    return {"kind": "release", **{key: value.strip("\"'") for key, _, value in pairs if key in wanted}}
