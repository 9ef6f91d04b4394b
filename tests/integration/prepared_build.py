"""Prepared builds for tests of interruptions and faults: a project, its own cache, and the expected digest."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.core.http.client import Client
from hatch_docker.core.progress import silent
from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.make_image import make_index
from hatch_docker.oci.model import Image, host_platform
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.registry import Remote
from tests.fakes.images import image_of
from tests.fakes.registry import FakeRegistry, push
from tests.integration.builds import Outcome, build, start
from tests.projects import write_project
from tests.validate import validate

FETCHED_FACTS = ("debian-snapshot", "debian-resolution")  # facts that the store keeps about Debian's archive
PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class PreparedBuild:
    """A project, its own cache, a directory for temporary files, and the digest that the build must have."""

    project: Path
    cache: Path
    temporary: Path
    digest: str

    @property
    def archive(self) -> Path:
        return self.project / "dist/hello-1.0.0.oci.tar"

    def start(
        self, *arguments: str, variables: Mapping[str, str] = {}, wrapper: tuple[str, ...] = ()
    ) -> subprocess.Popen[str]:
        """Start a build, or another Python module; `wrapper`: a program that runs it, with its arguments."""
        program = [*wrapper, sys.executable, "-m", *(arguments or ("hatchling", "build", "-t", "docker"))]
        return start(self.project, self.cache, *program, variables={"TMPDIR": str(self.temporary), **variables})

    def build(self) -> Outcome:
        """Run the build, which must succeed with the expected digest."""
        outcome = build(self.project, self.cache)
        outcome.item()
        assert outcome.digest == self.digest
        return outcome

    def temporary_files(self) -> list[str]:
        """Return the temporary files in dist/, in TMPDIR and in the cache."""
        places = (self.project / "dist", self.temporary, self.cache / "v1/tmp")
        return [str(path) for place in places if place.exists() for path in place.iterdir() if is_temporary(path)]

    def check_files(self) -> None:
        """Check that each blob of the cache has the SHA-256 in its name, and that an archive, if present, is valid."""
        for path in (self.cache / "v1/blobs").glob("*"):
            with path.open("rb") as stream:
                assert hashlib.file_digest(stream, "sha256").hexdigest() == path.name
        if self.archive.exists():
            validate(read_archive(self.archive))


def is_temporary(path: Path) -> bool:
    """Return False for the file with which `tempfile` tests a directory, and for FIFOs that fiu-run leaves behind."""
    if path.parent.name == "dist":
        return path.name.startswith(".")
    if path.is_fifo() and path.name.startswith("fiu-ctrl-"):
        return False
    probe = len(path.name) == 8 and path.is_file() and path.read_bytes() in (b"", b"blat")
    return not probe


def prepare_build(directory: Path, cache: Path, *, warm: bool, kind: str = "hello", options: str = "") -> PreparedBuild:
    """Write a project and copy the cache for it; `warm`: keep all entries, else only Debian packages and wheels."""
    project = write_project(kind, directory / "p", options=options)
    own = shutil.copytree(cache, directory / "cache", symlinks=True)
    digest = build(project, own).digest
    shutil.rmtree(project / "dist")
    (directory / "tmp").mkdir()
    if not warm:
        shutil.rmtree(own / "v1/trees")
        for path in (own / "v1/facts").iterdir():
            if path.name not in FETCHED_FACTS:
                shutil.rmtree(path)
        for path in (own / "v1/blobs").iterdir():
            with path.open("rb") as stream:  # files that were fetched: .deb, Packages.xz and wheels
                if not stream.read(8).startswith((b"!<arch>\n", b"\xfd7zXZ\0", b"PK\3\4")):
                    path.unlink()
    return PreparedBuild(project, own, directory / "tmp", digest)


def base_image(archive: Path) -> Image:
    """Return the lowest layer of an archive as an ordinary base image, without hatch-docker's configuration."""
    image = read_archive(archive)
    assert isinstance(image, Image)
    return image_of(image.layers[0], architecture=host_platform().architecture, path=PATH)


def push_base(registry: FakeRegistry, cache: Path, directory: Path) -> str:
    """Build a project and push its base to a registry; return the name of the base."""
    outcome = build(write_project("hello", directory), cache)
    name = f"{registry.host}/base:1"
    push_image(base_image(outcome.archive), name)
    registry.requests.clear()
    return name


def push_image(image: Image, name: str) -> None:
    """Push an image with the code that a build uses."""
    progress = silent()
    push(Remote(Client(os.environ, progress), os.environ), image, [parse_reference(name)])


def push_index(registry: FakeRegistry, bases: tuple[Image, Image], name: str) -> str:
    """Push an index of both bases to a registry; return its digest."""
    environ = {"PATH": os.environ["PATH"]}
    index = make_index(bases, {})
    reference = parse_reference(f"{registry.host}/{name}")
    return push(Remote(Client(environ, silent()), environ), index, [reference]).digest
