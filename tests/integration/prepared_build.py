"""A prepared for builds that are disturbed: a project, a cache of its own, and the digest that is to come."""

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

FETCHED = ("debian-snapshot", "debian-resolution")  # what the store remembers of Debian's archive
PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Prepared:
    """A project, a cache of its own with Debian's packages and nothing made of them, and the digest to come."""

    project: Path
    cache: Path
    temporary: Path
    digest: str

    @property
    def archive(self) -> Path:
        return self.project / "dist/hello-1.0.0.oci.tar"

    def start(
        self, *arguments: str, variables: Mapping[str, str] = {}, wrapped: tuple[str, ...] = ()
    ) -> subprocess.Popen[str]:
        """Start a build, or another module of Python; `wrapped` are the words of a program that runs it."""
        program = [*wrapped, sys.executable, "-m", *(arguments or ("hatchling", "build", "-t", "docker"))]
        return start(self.project, self.cache, *program, variables={"TMPDIR": str(self.temporary), **variables})

    def build(self) -> Outcome:
        """A build that must succeed, with the digest that is to come."""
        outcome = build(self.project, self.cache)
        outcome.item()
        assert outcome.digest == self.digest
        return outcome

    def left(self) -> list[str]:
        """Temporary files anywhere."""
        places = (self.project / "dist", self.temporary, self.cache / "v1/tmp")
        return [str(path) for place in places if place.exists() for path in place.iterdir() if is_temporary(path)]

    def sound(self) -> None:
        """No entry of the cache has other bytes than its name says, and an archive is whole or not there."""
        for path in (self.cache / "v1/blobs").glob("*"):
            with path.open("rb") as stream:
                assert hashlib.file_digest(stream, "sha256").hexdigest() == path.name
        if self.archive.exists():
            validate(read_archive(self.archive))


def is_temporary(path: Path) -> bool:
    """Tell temporary files of ours from the probe by which Python's `tempfile` tries a directory, and from the pipes of
    a fork below fiu-run, which ends without removing them.
    """
    if path.parent.name == "dist":
        return path.name.startswith(".")
    if path.is_fifo() and path.name.startswith("fiu-ctrl-"):
        return False
    probe = len(path.name) == 8 and path.is_file() and path.read_bytes() in (b"", b"blat")
    return not probe


def prepare_build(directory: Path, cache: Path, *, warm: bool, kind: str = "hello", options: str = "") -> Prepared:
    """A prepared for a project of a kind, with a copy of a cache; a `warm` one's has everything."""
    project = write_project(kind, directory / "p", options=options)
    own = shutil.copytree(cache, directory / "cache", symlinks=True)
    digest = build(project, own).digest
    shutil.rmtree(project / "dist")
    (directory / "tmp").mkdir()
    if not warm:
        shutil.rmtree(own / "v1/trees")
        for path in (own / "v1/facts").iterdir():
            if path.name not in FETCHED:
                shutil.rmtree(path)
        for path in (own / "v1/blobs").iterdir():
            with path.open("rb") as stream:  # only a .deb, a Packages.xz and a wheel were fetched
                if not stream.read(8).startswith((b"!<arch>\n", b"\xfd7zXZ\0", b"PK\3\4")):
                    path.unlink()
    return Prepared(project, own, directory / "tmp", digest)


def base_of(archive: Path) -> Image:
    """The base of an image of ours, as an image that somebody else could have made."""
    image = read_archive(archive)
    assert isinstance(image, Image)
    return image_of(image.layers[0], architecture=host_platform().architecture, path=PATH)


def serve_base(registry: FakeRegistry, cache: Path, directory: Path) -> str:
    """Push a base to a registry; its name."""
    outcome = build(write_project("hello", directory), cache)
    name = f"{registry.host}/base:1"
    push_image(base_of(outcome.archive), name)
    registry.requests.clear()
    return name


def push_image(image: Image, name: str) -> None:
    """Push an image as a build would."""
    progress = silent()
    push(Remote(Client(os.environ, progress), os.environ), image, [parse_reference(name)])


def pushed(registry: FakeRegistry, bases: tuple[Image, Image], name: str) -> str:
    """The digest of an index of both bases in a registry."""
    environ = {"PATH": os.environ["PATH"]}
    index = make_index(bases, {})
    reference = parse_reference(f"{registry.host}/{name}")
    return push(Remote(Client(environ, silent()), environ), index, [reference]).digest
