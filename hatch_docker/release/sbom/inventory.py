"""Inventory of an image: the installed packages, read from the image's files and kept in the store for each layer.

    python     distributions, from their METADATA (PEP 376, and eggs), with embedded SBOMs (PEP 770)
    system     packages of Debian (var/lib/dpkg/status and status.d) and Alpine (lib/apk/db/installed)
    release    the Linux distribution (os-release)

Labels, locks and resolutions are not used, because they may differ from the installed files.
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
from hatch_docker.project.licences import NO_LICENCE, debian_licence, licence_of, parse_licence
from hatch_docker.release.sbom.embedded import read_embedded, without_addresses

RECIPE = 2               # raise it when the findings for the same files change
LIMIT = 16 << 20         # bytes; larger files are ignored
KIND = "inventory"
_METADATA = re.compile(r"(?:.*/)?(?:[^/]+\.dist-info/METADATA|[^/]+\.egg-info(?:/PKG-INFO)?)")
_BUNDLED = re.compile(r"(?P<owner>(?:.*/)?[^/]+\.dist-info)/sboms/.+")
_DPKG = re.compile(r"var/lib/dpkg/(?:status|status\.d/[^/]+(?<!\.md5sums))")
_APK = re.compile(r"(?:usr/)?lib/apk/db/installed")
_COPYRIGHT = re.compile(r"usr/share/doc/(?P<package>[^/]+)/copyright")
RELEASES = ("etc/os-release", "usr/lib/os-release")
_INSTALLED = "install ok installed"

Findings = Mapping[str, Any]
"""JSON values: path -> {"kind", ...}. A path that the layer removes has the kind "whiteout" or "opaque"."""


def read_inventory(layers: Sequence[Layer], ctx: Context) -> dict[str, tuple[int, dict[str, Any]]]:
    """Return the findings in an image: path -> (number of the layer, finding). Later layers win (layer.md)."""
    merged: dict[str, tuple[int, dict[str, Any]]] = {}
    for number, layer in enumerate(layers):
        found: Findings = InventoryReader(ctx.store, layer).result()
        for path, finding in found.items():
            if finding["kind"] in ("whiteout", "opaque"):
                removed = [other for other in merged if other.startswith(f"{path}/") or path in ("", other)]
                for other in removed:
                    del merged[other]
            else:
                merged[path] = (number, finding)
    return merged


class InventoryReader(LayerReader):
    """Reader that collects the findings in one layer."""

    def __init__(self, store: Store, layer: Layer) -> None:
        super().__init__(store, layer, KIND, key_of(RECIPE, layer.diff_id))
        self._removed: dict[str, dict[str, Any]] = {}
        self._found: dict[str, dict[str, Any]] = {}

    def read_entry(self, entry: Entry, stream: BinaryIO | None) -> None:
        """Add the finding of an entry, if there is one."""
        path = entry.path
        if entry.kind in ("whiteout", "opaque"):
            self._removed[path] = {"kind": entry.kind}
        elif entry.kind == "symlink" and (match := re.fullmatch(r"usr/share/doc/([^/]+)", path)):
            self._found[f"{path}/copyright"] = {"kind": "copyright", "of": match[1], "like": entry.target}
        elif stream is not None and entry.size <= LIMIT and (read := reader(path)):
            self._found[path] = read(path, stream.read(entry.size))

    def fact(self) -> Findings:
        """Return all findings, removals first: whiteouts apply to lower layers only, not to files of this layer."""
        return self._removed | self._found


def reader(path: str) -> Any:
    """Return the function that reads the file at a path; None if the file is not needed."""
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
    """Return the fields in the first paragraph of METADATA or a Debian control file, by names in lower case."""
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
    """Return the first value that is not empty among some fields, as one line."""
    return next((" ".join(fields[name][0].split()) for name in names if fields.get(name) and fields[name][0]), "")


def _distribution(_path: str, data: bytes) -> dict[str, Any]:
    fields = headers(data.decode(errors="replace"))
    return {
        "kind": "python", "name": _first(fields, "name"), "version": _first(fields, "version"),
        "licence": asdict(licence_of(fields)), "requires": fields.get("requires-dist", []),
        "supplier": without_addresses(_first(fields, "author", "author-email", "maintainer", "maintainer-email")),
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
            "supplier": without_addresses(_first(fields, "maintainer")), "licence": asdict(NO_LICENCE),
            "requires": _relations(_first(fields, "pre-depends"), _first(fields, "depends")),
            "provides": [names[0] for names in _relations(_first(fields, "provides"))],
        }
        for fields in paragraphs
        if fields.get("package") and _first(fields, "status") in ("", _INSTALLED)
    ]}  # fmt: skip


def _source(fields: Mapping[str, Sequence[str]]) -> str:
    """Return the source package for the purl qualifier `upstream`: "gcc-14@14.2.0-19"; "" if equal to the package."""
    name, _, version = _first(fields, "source").partition(" ")
    version = version.strip("()")
    if not version or version == _first(fields, "version"):
        return name if name != fields["package"][0] else ""
    return f"{name}@{version}"


def _relations(*texts: str) -> list[list[str]]:
    """Return the package names in relationship fields (deb-control(5)): a list of alternatives for each dependency."""
    groups = [group for text in texts for group in text.replace("\n", " ").split(",") if group.strip()]
    return [[re.split(r"[\s(:]", name.strip(), maxsplit=1)[0] for name in group.split("|")] for group in groups]


def _apk(_path: str, data: bytes) -> dict[str, Any]:
    """Read Alpine's database. It has a paragraph for each package and a letter for each field."""
    packages = []
    for text in re.split(r"\n\s*\n", data.decode(errors="replace")):
        pairs = (line.partition(":") for line in text.splitlines() if line[1:2] == ":")
        fields = {letter: value for letter, _, value in pairs if letter in "PVALomDp"}
        if fields.get("P"):
            packages.append({
                "name": fields["P"], "version": fields.get("V", ""), "architecture": fields.get("A", ""),
                "source": fields["o"] if fields.get("o") not in (None, fields["P"]) else "",
                "supplier": without_addresses(fields.get("m", "")),
                "licence": asdict(parse_licence(fields.get("L", ""))),
                "requires": [[_name(word)] for word in fields.get("D", "").split() if word[0] != "!"],
                "provides": [_name(word) for word in fields.get("p", "").split()],
            })  # fmt: skip
    return {"kind": "system", "type": "apk", "packages": packages}


def _name(word: str) -> str:
    """Return the name in a dependency of Alpine, without the condition on the version."""
    return re.split(r"[<>=~]", word, maxsplit=1)[0]


def _copyright(path: str, data: bytes) -> dict[str, Any]:
    licence = debian_licence(data.decode(errors="replace"))
    return {"kind": "copyright", "of": path.split("/")[3], "licence": asdict(licence)}


def _release(_path: str, data: bytes) -> dict[str, Any]:
    pairs = (line.partition("=") for line in data.decode(errors="replace").splitlines())
    wanted = ("ID", "VERSION_ID", "PRETTY_NAME", "NAME")
    return {"kind": "release", **{key: value.strip("\"'") for key, _, value in pairs if key in wanted}}
