"""Images with installed distributions and packages, for tests of `hatch-docker inspect`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hatch_docker.oci.archive import write_archive
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.model import Image, Layer
from tests.fakes.bases import directory, file
from tests.fakes.images import AMD64, image_of, layer_of, with_config
from tests.fakes.sbom_images import SITE, metadata
from tests.validate import validate

NAME = "registry.example/hatch-docker-tests/inspect"
EVIL = "<script>alert(1)</script>\"'&\x1b[2J\u202e"


def with_valid_config(image: Image, **changes: Any) -> Image:
    """Return the image with another configuration, after validating it."""
    changed = with_config(image, {**image.config_json, **changes})
    validate(changed)
    return changed


def foreign_image(*layers: Layer, commands: Iterable[str] = (), **config: Any) -> Image:
    """Return an image of some layers that was not made by hatch-docker."""
    history = [{"created_by": command} for command in commands]
    return with_valid_config(image_of(*layers), config=config, **({"history": history} if history else {}))


def dist(name: str, version: str, files: dict[str, int], *lines: str, site: str = SITE) -> list[Entry]:
    """Return the entries of an installed distribution: files with their sizes, METADATA and RECORD."""
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/METADATA", f"{info}/RECORD"])
    return [
        *(file(f"{site}/{path}", bytes(size)) for path, size in files.items() if not path.startswith("..")),
        metadata(name, version, *lines, site=site), file(f"{site}/{info}/RECORD", record),
    ]  # fmt: skip


def write_image_archive(item: Any, directory: Path, name: str = "app") -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}.oci.tar"
    with path.open("wb") as stream:
        write_archive(item, [f"{NAME}:1.0"], stream, host=AMD64)
    return path


STATUS = """\
Package: libc6
Version: 2
Architecture: amd64
Depends: libgcc-s1

Package: libgcc-s1
Version: 14
Architecture: amd64
Depends: libc6, gcc-base | other

Package: gcc-base
Version: 14
Architecture: amd64

Package: zlib
Version: 1
Architecture: amd64
Depends: libc-any
Provides: z

Package: python-min
Version: 3
Architecture: amd64
Depends: zlib, libc6

Package: libx
Version: 1
Architecture: amd64
Provides: libc-any
"""
WHEELS = (
    dist("web", "2", {"web.py": 100}, "Requires-Dist: core>=1", "Requires-Dist: fast; extra == 'speed'")
    + dist("core", "1", {"core.py": 200}, "Requires-Dist: leaf; python_version >= '3.8'",
           "Requires-Dist: absent; python_version < '3'")
    + dist("leaf", "1", {"leaf.py": 300}, "Requires-Dist: Deep_One")
    + dist("deep-one", "1", {"deep.py": 400})
    + dist("fast", "9", {"fast.py": 500})
    + dist("queue", "1", {"queue.py": 600}, "Requires-Dist: leaf")
    + dist("loose", "1", {"loose.py": 700})
)  # fmt: skip
PROJECT = dist("my_app", "1", {"app.py": 50}, "Requires-Dist: web[speed]", "Requires-Dist: queue; extra == 'jobs'",
               "Requires-Dist: ghost; extra == 'haunted'")  # fmt: skip


def image_with_history(*layers: tuple[str, str, Layer], **config: Any) -> Image:
    """Return an image with a history entry for each layer: (created_by, comment, layer)."""
    history = [{"created_by": maker, "comment": comment} for maker, comment, _ in layers]
    return with_valid_config(foreign_image(*(layer for _, _, layer in layers), **config), history=history)


def project_image(wheels: list[Entry] = WHEELS, project: list[Entry] = PROJECT, **config: Any) -> Image:
    base = layer_of([file("var/lib/dpkg/status", STATUS), directory("tmp", 0o1777)])
    return image_with_history(
        ("hatch-docker: debian:trixie", "", base), ("hatch-docker dependencies", "web 2", layer_of(wheels)),
        ("hatch-docker project", "my_app 1", layer_of(project)), **config,
    )  # fmt: skip
