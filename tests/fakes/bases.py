"""Base images with fake files of a Python and a C library, which cannot be executed."""

import struct
from typing import Any

from hatch_docker.bases.model import Base
from hatch_docker.bases.open import open_base
from hatch_docker.core.context import Context
from hatch_docker.oci.layer import Compression, Entry
from hatch_docker.oci.media_types import OCI
from hatch_docker.oci.model import Image, Index, Layer, Platform
from hatch_docker.plan.model import BasePlan
from tests.fakes.images import AMD64, image_of, layer_of, small_index, with_config
from tests.fakes.registry import FakeRegistry

MACHINES = {"amd64": 62, "arm64": 183}
PASSWD = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/sbin/nologin\napp:x:1000:1001::/srv:\n"
RELEASE = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_CODENAME=trixie\n'
GLIBC = b"\0GNU C Library (Debian GLIBC 2.41-12) stable release version 2.41.\n\0"


def program(architecture: str, *texts: str) -> bytes:
    """Return an ELF header, followed by some strings between NULs."""
    head = b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<HH", 3, MACHINES[architecture]) + bytes(44)
    return head + b"\0" + b"".join(text.encode() + b"\0" for text in texts)


def file(path: str, content: bytes | str = b"", mode: int = 0o644) -> Entry:
    data = content.encode() if isinstance(content, str) else content
    return Entry(path, "file", mode, 0, size=len(data), content=data)


def link(path: str, target: str) -> Entry:
    return Entry(path, "symlink", 0o777, 0, target=target)


def directory(path: str, mode: int = 0o755) -> Entry:
    return Entry(path, "directory", mode, 0)


def debian_layer(architecture: str = "amd64") -> Layer:
    """Return a layer like the lowest layer of python:slim: a Debian with merged /usr."""
    return layer_of([
        link("bin", "usr/bin"), link("lib", "usr/lib"), directory("usr"), directory("usr/bin"), directory("usr/lib"),
        directory("etc"), directory("tmp", 0o1777), directory("opt"), file("etc/passwd", PASSWD),
        link("etc/os-release", "../usr/lib/os-release"), file("usr/lib/os-release", RELEASE),
        file("usr/lib/libc.so.6", program(architecture) + GLIBC, 0o755),
    ])  # fmt: skip


def python_layer(architecture: str = "amd64", version: str = "3.13.5", prefix: str = "usr/local") -> Layer:
    """Return a layer with a Python as in the official images: a small program and libpython."""
    short = version.rpartition(".")[0]
    return layer_of([
        directory(prefix), directory(f"{prefix}/bin"), directory(f"{prefix}/lib"),
        file(f"{prefix}/bin/python{short}", program(architecture, "1.2.3", "Py_BytesMain"), 0o755),
        link(f"{prefix}/bin/python3", f"python{short}"), link(f"{prefix}/bin/python", "python3"),
        file(f"{prefix}/lib/libpython{short}.so.1.0", program(architecture, "3.8.1", version), 0o755),
    ])  # fmt: skip


def python_image(architecture: str = "amd64", version: str = "3.13.5") -> Image:
    """Return an image like python:3.13-slim."""
    return image_of(debian_layer(architecture), python_layer(architecture, version), architecture=architecture)


def publish(registry: FakeRegistry, item: Image | Index, tag: str = "3.13") -> None:
    for image in item.images if isinstance(item, Index) else (item,):
        registry.put_blob("python", image.config)
        for layer in image.layers:
            with layer.open() as stream:
                registry.put_blob("python", stream.read())
        registry.put_manifest("python", "" if isinstance(item, Index) else tag, OCI.manifest, image.manifest)
    if isinstance(item, Index):
        registry.put_manifest("python", tag, OCI.index, item.index)


BOTH = small_index(python_image("amd64"), python_image("arm64"))


def python_base(version: str = "3.13.5", *, path: str = "/usr/local/bin:/usr/bin:/bin", extra: str = "",
                architecture: str = "amd64", prefix: str = "usr/local", glibc: str = "2.41", **config: Any) -> Image:
    """Return an image like python:3.13-slim, with its variables. `extra`: the path of a file in a third layer."""
    system = debian_layer(architecture)
    if glibc != "2.41":
        text = program(architecture) + GLIBC.replace(b"2.41", glibc.encode())
        system = layer_of([directory("usr"), directory("usr/lib"), file("usr/lib/libc.so.6", text, 0o755)])
    image = image_of(system, python_layer(architecture, version, prefix), *([layer_of([file(extra)])] if extra else []),
                     architecture=architecture)  # fmt: skip
    settings = {"Env": [f"PATH={path}", f"PYTHON_VERSION={version}"], "Cmd": ["python3"], **config}
    return with_config(image, {**image.config_json, "config": settings})


def open_registry_base(name: str, ctx: Context, platform: Platform = AMD64) -> Base:
    return open_base(BasePlan("registry", name, name), platform, ctx, compression=Compression())
