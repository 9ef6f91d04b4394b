"""A shared cache as an OCI artifact (manifest.md, Guidelines for Artifact Usage): the facts of a build, and its layers.

    artifact type   ARTIFACT
    config          the empty descriptor
    layers          first the facts, gzip of {"facts": [[kind, key, value], ...]}, sorted; then the image layers that
                    the facts name, so that the registry keeps these layers as long as the artifact

The same facts give the same bytes. A cache that is read is not trusted: facts with another shape than in `KINDS` are
ignored.
"""

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hatch_docker.bases.debian.layer import KIND as DEBIAN_LAYER
from hatch_docker.bases.debian.layer import DebianLayer
from hatch_docker.bases.inspection import Facts
from hatch_docker.bases.partial_tree import KIND as PARTIAL_TREE
from hatch_docker.core.cache.shared import Fact
from hatch_docker.core.elf import Elf
from hatch_docker.core.errors import ImageError
from hatch_docker.core.streams import CHUNK
from hatch_docker.core.validation import first_mismatch, read_record
from hatch_docker.engines.layer_cache import KIND as LAYER
from hatch_docker.oci.compression import Compression, Decompressed
from hatch_docker.oci.manifest import parse_json
from hatch_docker.oci.media_types import OCI
from hatch_docker.oci.model import Descriptor, Layer, canonical_json, digest_of
from hatch_docker.oci.referrers import EMPTY, EMPTY_TYPE
from hatch_docker.wheels.builder.sdist import TABLE

ARTIFACT = "application/vnd.hatch-docker.cache.v1"
FACTS = "application/vnd.hatch-docker.cache.facts.v1+json+gzip"
LIMIT = 16 << 20     # bytes of the facts, compressed
UNPACKED = 256 << 20  # bytes of the facts
MOST = 1000          # the most layers of an artifact

_HEX, _DIGEST, _LINE = "[a-f0-9]{64}", "sha256:[a-f0-9]{64}", r"[^\x00-\x1f\x7f]*"
_WORD = r"[^\s\x00-\x1f\x7f]+"
_LICENCE = {"expression": str, "names": [str]}
_PACKAGE = {
    "name": str, "version": str, "architecture": str, "source": str, "supplier": str, "licence": _LICENCE,
    "requires": [[str]], "provides": [str],
}  # fmt: skip
_FINDING = (  # of release.sbom.inventory
    {"kind": "python", "name": str, "version": str, "licence": _LICENCE, "requires": [str], "supplier": str},
    {"kind": "system", "type": "deb|apk", "packages": [_PACKAGE]},
    {"kind": "copyright", "of": str, "licence?": _LICENCE, "like?": str},
    {"kind": "release", "ID?": str, "VERSION_ID?": str, "PRETTY_NAME?": str, "NAME?": str},
    {"kind": "bundled", "of": str, "sha256": _HEX, "format": str, "parts": [{"requires": [int], "*": object}],
     "top": [int]},
    {"kind": "whiteout|opaque"},
)  # fmt: skip


def _is(kind: type, *digests: str) -> Callable[[object], bool]:
    """Return a check that a value can be read as the record `kind`, and that its fields `digests` are digests."""

    def check(value: object) -> bool:
        try:
            record: Any = read_record(kind, value)
        except ValueError:
            return False
        facts = [getattr(getattr(record, "facts", record), name) for name in digests]
        return all(first_mismatch(_DIGEST, item) is None for item in facts)

    return check


def _row(*expected: Any) -> Callable[[object], bool]:
    """Return a check that a value is a list with one item for each of `expected`, each with the expected shape."""
    return lambda row: isinstance(row, list) and len(row) == len(expected) and all(
        first_mismatch(kind, item) is None for kind, item in zip(expected, row, strict=True)
    )  # fmt: skip


# The first seven fields of a `bases.debian.resolver.Package`.
_PACKAGE_ROW = _row(_WORD, _WORD, _WORD, r"(?!/)(?!.*\.\.)[\w./+~:%=-]+", int, _DIGEST, "main|security")


_FILE = {"name": r"[^\x00-\x1f\x7f/]+", "digest": _DIGEST}
_LAYER = {"digest": _DIGEST, "size": int, "diff_id": _DIGEST, "unpacked_size": int}
KINDS: Mapping[str, Any] = {
    LAYER: _LAYER,
    PARTIAL_TREE: _LAYER,
    DEBIAN_LAYER: _is(DebianLayer, "digest", "diff_id"),
    "base": (_is(Facts), [_LINE]),
    "debian-resolution": [_PACKAGE_ROW],
    "files": {"*": _LINE},
    "left out": {"*": _row(int, int)},
    "step-code": _LINE,
    "uncompiled": [_LINE],
    "programs": [_LINE],
    "fits": lambda value: value is True,
    "wheel": _FILE,
    "tree-sdist": _FILE,
    "sdist": _row(_HEX, [_LINE], _LINE, [_LINE], f"({_HEX})?"),  # what `cached_sdist` remembers
    TABLE: f"({_HEX})?",
    "build-pins": {"at": int, "pins": [_row(r"[a-z0-9]+(-[a-z0-9]+)*", r"[\w.!+-]+", r"[\w.!+-]+\.whl", _HEX)]},
    "builder-resolution": {"time": int, "resolution": _HEX},
    "build-requires": [_LINE],
    "sdist-requires": [_LINE],
    "metadata": {"*": object},
    "modules": [_LINE],
    "inventory": {"*": _FINDING},
    "native-files": {
        "names": [_LINE], "links": {"*": _LINE}, "texts": {"*": str}, "programs": [_LINE], "scripts": {"*": str},
        "code": {"*": {"elf": _is(Elf), "size": int, "sha256": _HEX, "owner": _LINE}},
        "gone": [_row(str, object)],
    },
}  # fmt: skip
"""The kinds of facts in a shared cache, with the shape of their values for `first_mismatch`."""
COSTLY = frozenset({DEBIAN_LAYER, "base", "debian-resolution", "wheel", "tree-sdist"})
"""Kinds of facts that take seconds to make again: only if such a fact is missing, the shared cache is downloaded."""


@dataclass(frozen=True, slots=True)
class CacheArtifact:
    """A shared cache: its manifest, its facts as JSON text and compressed, and the image layers in the manifest."""

    manifest: bytes
    text: bytes
    facts: bytes
    layers: tuple[Layer, ...]

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of the manifest."""
        return Descriptor(OCI.manifest, digest_of(self.manifest), len(self.manifest))


def make_artifact(facts: Mapping[tuple[str, str], Any], layers: Iterable[Layer]) -> CacheArtifact:
    """Return the artifact for some facts: (kind, key) -> value. `layers`: the layers of the build's images.

    Facts about other layers, and layers without a fact, are left out. Raises ImageError if the artifact is too large.
    """
    known = {layer.descriptor.digest: layer for layer in layers}
    rows, named = [], {}
    for (kind, key), value in sorted(facts.items(), key=lambda item: item[0]):
        if kind in (LAYER, DEBIAN_LAYER, PARTIAL_TREE):
            fields = value["facts"] if kind == DEBIAN_LAYER else value
            digest = fields["digest"] if isinstance(fields, dict) else fields[0]
            if digest not in known:
                continue
            named[digest] = known[digest]
        rows.append([kind, key, value])
    text = canonical_json({"facts": rows})
    compressor = Compression("gzip").compressor()
    pieces = (text[start : start + CHUNK] for start in range(0, len(text), CHUNK))
    data = b"".join(map(compressor.compress, pieces)) + compressor.flush()
    if len(data) > LIMIT or len(text) > UNPACKED or len(named) > MOST:
        raise ImageError(f"the shared cache would have {len(data)} bytes, too many")
    ordered = tuple(named[digest] for digest in sorted(named))
    manifest = canonical_json({
        "schemaVersion": 2, "mediaType": OCI.manifest, "artifactType": ARTIFACT,
        "config": Descriptor(EMPTY_TYPE, digest_of(EMPTY), len(EMPTY)).to_json(),
        "layers": [
            Descriptor(FACTS, digest_of(data), len(data)).to_json(),
            *(layer.descriptor.to_json() for layer in ordered),
        ],
    })  # fmt: skip
    return CacheArtifact(manifest, text, data, ordered)


def read_manifest(data: bytes, what: str) -> tuple[Descriptor, list[Descriptor]]:
    """Parse a manifest: return the descriptor of the facts, and the descriptors of the layers. Raises ImageError."""
    value = parse_json(data, what)
    row = {"mediaType": str, "digest": _DIGEST, "size": int, "annotations?": object}
    expected = {"schemaVersion": int, "mediaType": OCI.manifest.replace("+", r"\+"), "artifactType": str,
                "config": object, "layers": [row], "annotations?": object}  # fmt: skip
    wrong = first_mismatch(expected, value)
    if wrong is not None or value["artifactType"] != ARTIFACT or not 0 < len(value["layers"]) <= MOST:
        raise ImageError(f"{what} is not a shared cache of this version: {wrong or 'its artifactType'} is another")
    first, *layers = [Descriptor(item["mediaType"], item["digest"], item["size"]) for item in value["layers"]]
    if first.media_type != FACTS or first.size > LIMIT:
        raise ImageError(f"{what}: its records have another format, or {first.size} bytes, more than {LIMIT}")
    return first, layers


def read_facts(data: bytes, what: str) -> tuple[list[Fact], int]:
    """Parse the facts of an artifact. Return the valid facts, and the number of facts with a wrong kind, key or value.

    Raises ImageError if the bytes have another format.
    """
    stream = Decompressed(io.BytesIO(data), UNPACKED)
    text = bytearray()
    while piece := stream.read(CHUNK):
        text += piece
    rows = parse_json(bytes(text), what).get("facts")
    if not isinstance(rows, list):
        raise ImageError(f"{what} has no records")
    found = [tuple(row) for row in rows if _is_fact(row)]
    return found, len(rows) - len(found)


def _is_fact(row: object) -> bool:
    return (
        isinstance(row, list) and len(row) == 3 and isinstance(row[0], str) and row[0] in KINDS
        and first_mismatch(_HEX, row[1]) is None and first_mismatch(KINDS[row[0]], row[2]) is None
    )  # fmt: skip
