"""Differences of two images: layers, files, bytes, header fields and settings."""

import io
import tarfile
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_docker.core.errors import ImageError
from hatch_docker.oci.diff import differences
from hatch_docker.oci.layer import Compression, Entry, make_layer, write_layer
from hatch_docker.oci.make_image import Settings, build_image, make_index, scratch
from hatch_docker.oci.media_types import OCI
from hatch_docker.oci.model import Descriptor, History, Image, Layer, Platform, digest_of

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
TEXT = bytes(range(256)) * 300  # more than one CHUNK


def file(path: str, content: bytes = TEXT, mode: int = 0o644, **fields: int) -> Entry:
    return Entry(path, "file", mode, fields.pop("mtime", 1), size=len(content), content=content, **fields)


def layer(*entries: Entry, compression: str = "gzip") -> Layer:
    out = io.BytesIO()
    packed = Compression(compression)
    return make_layer(write_layer(entries, out, packed), packed, partial(io.BytesIO, out.getvalue()))


def image(*layers: Layer, platform: Platform = AMD64, created: int = 7, **options: object) -> Image:
    annotations = options.pop("annotations", {})
    assert isinstance(annotations, dict)
    added = [(one, History(f"hatch-docker layer-{number}")) for number, one in enumerate(layers)]
    return build_image(scratch(platform), added, Settings(**options), created, annotations)  # type: ignore[arg-type]


BASE = layer(file("base"))


def test_equal_images_have_no_differences() -> None:
    assert differences(image(BASE), image(BASE)) == []


@given(st.integers(0, len(TEXT) - 1), st.integers(1, 255))
@settings(max_examples=40)
def test_changed_byte_is_reported(at: int, change: int) -> None:
    """With the layer, the file, and the number of the byte, from 0."""
    data = bytearray(TEXT)
    data[at] ^= change
    one, other = (image(BASE, layer(file("a/x"), file("a/y", content))) for content in (TEXT, bytes(data)))
    first, second = differences(one, other)
    assert first.startswith("linux/amd64: layer 2 of 2 (hatch-docker layer-1), sha256:")
    assert second == f"linux/amd64:   a/y: byte {at}"


@pytest.mark.parametrize(("changed", "expected"), [
    (file("x", mode=0o755), "x: mode 0644 -> 0755"),
    (file("x", mtime=2), "x: mtime 1 -> 2"),
    (file("x", uid=5, gid=6), "x: uid 0 -> 5, gid 0 -> 6"),
    (file("x", TEXT + b"+"), f"x: from byte {len(TEXT)} on, size {len(TEXT)} -> {len(TEXT) + 1}"),
    (file("x", b"+" + TEXT), f"x: from byte 0 on, size {len(TEXT)} -> {len(TEXT) + 1}"),
    (file("x", TEXT[:70000] + b"????" + TEXT[70004:]), "x: bytes 70000 to 70003"),
    (file("x", b"????" + TEXT[4:10] + b"??" + TEXT[12:-1] + b"?"), "x: bytes 0 to 11, byte 76799"),
    (Entry("x", "symlink", 0o777, 1, target="y"),
     f"x: kind file -> symlink, mode 0644 -> 0777, target  -> y, size {len(TEXT)} -> 0"),
    (file("y"), "x is missing"),
])  # fmt: skip
def test_changed_file_is_reported(changed: Entry, expected: str) -> None:
    """With its bytes and every field of its header."""
    assert f"linux/amd64:   {expected}" in differences(image(BASE, layer(file("x"))), image(BASE, layer(changed)))


def test_first_layer_is_reported_with_causes_first() -> None:
    """Later layers, RECORD and .pyc may differ only as a consequence. A long list is cut."""
    def wheel(content: bytes) -> Layer:
        names = ["a-1.dist-info/RECORD", "a/__pycache__/m.cpython-313.pyc", "a/m.py", *(f"z{n}" for n in range(20))]
        return layer(*(file(name, content) for name in names))

    lines = differences(image(wheel(b"one"), layer(file("x"))), image(wheel(b"two"), layer(file("y"))))
    assert [line.partition(":   ")[2] for line in lines[1:4]] == [
        "a/m.py: bytes 0 to 2", "z0: bytes 0 to 2", "z1: bytes 0 to 2",
    ]  # fmt: skip
    assert lines[-1] == "linux/amd64:   and 13 more"
    assert not [line for line in lines if "layer 2" in line]


def test_difference_of_two_tars_with_equal_files() -> None:
    """The order of members, or a header field that is not compared."""
    def tar(*names: str, owner: str = "") -> Layer:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name in names:
                member = tarfile.TarInfo(name)
                member.uname = owner
                archive.addfile(member)
        data = out.getvalue()
        descriptor = Descriptor(OCI.layer, digest_of(data), len(data))
        return Layer(descriptor, digest_of(data), len(data), partial(io.BytesIO, data))

    (_, line) = differences(image(tar("a", "b")), image(tar("b", "a")))
    assert "byte 0, in the header of a" in line
    (_, line) = differences(image(tar("a", "b")), image(tar("a", "b", owner="me")))
    assert "in the header of a" in line


def test_different_compression_is_reported() -> None:
    (line, *_) = differences(image(BASE), image(layer(file("base"), compression="none")))
    assert "layer 1 of 1 (hatch-docker layer-0) has the same files, compressed differently" in line


def test_changed_settings_and_annotations_are_reported() -> None:
    one = image(BASE, env={"A": "1"}, labels={"x.y": "1"}, annotations={"k": "1"})
    other = image(BASE, env={"A": "2"}, labels={"x.y": "1", "z": "2"}, annotations={"k": "2"}, created=8)
    lines = differences(one, other)
    assert 'linux/amd64: config.config.Env[0]: "A=1" -> "A=2"' in lines
    assert 'linux/amd64: config.config.Labels.z: nothing -> "2"' in lines
    assert 'linux/amd64: config.created: "1970-01-01T00:00:07Z" -> "1970-01-01T00:00:08Z"' in lines
    assert 'linux/amd64: annotations.k: "1" -> "2"' in lines
    assert not [line for line in lines if "layer" in line]


def test_changed_number_of_layers_is_reported() -> None:
    assert "linux/amd64: 1 layers became 2" in differences(image(BASE), image(BASE, layer(file("x"))))


def test_differences_of_an_index() -> None:
    """Each platform, a missing platform, an index and an image, and the annotations of the index."""
    amd, arm = image(BASE), image(BASE, platform=ARM64)
    both = make_index([amd, arm], {})
    lines = differences(both, make_index([amd, image(layer(file("base", b"?")), platform=ARM64)], {}))
    assert lines[0].startswith("linux/arm64: layer 1 of 1")
    assert differences(both, make_index([amd], {})) == ["linux/arm64 is missing"]
    assert differences(both, amd) == ["linux/arm64 is missing"]
    assert differences(make_index([amd], {}), amd) == ["an index became an image"]
    assert differences(both, make_index([amd, arm], {"k": "v"})) == ['index.annotations: nothing -> {"k": "v"}']


def test_damaged_layer_is_an_error() -> None:
    broken = replace(layer(file("x")), open=partial(io.BytesIO, b"\x1f\x8b not"))
    with pytest.raises(ImageError):
        differences(image(BASE), image(broken))
