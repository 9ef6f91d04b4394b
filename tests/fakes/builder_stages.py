"""Helpers for tests of the builder stage: a target, a base, a pyproject.toml with an in-tree backend."""

import os
import sys
import zipfile
from pathlib import Path

from hatch_docker.bases.model import Base, Interpreter
from hatch_docker.oci.make_image import scratch
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import BasePlan
from hatch_docker.wheels.target import Target

VERSION = ".".join(str(part) for part in sys.version_info[:3])
PLATFORM = Platform("linux", {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine))
TARGET = Target(VERSION, PLATFORM, ("glibc", "2.41"))

PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def make_base(suite: str = "trixie") -> Base:
    interpreter = Interpreter(f"/usr/bin/python{TARGET.short}", VERSION)
    return Base(
        BasePlan("debian", f"debian:{suite}", suite), f"debian:{suite}", "", scratch(PLATFORM), interpreter,
        TARGET.libc, {}, frozenset(), suite=suite,
    )


def demo_text(wheel: Path) -> str:
    """Return the text of demo.txt in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read("demo.txt").decode()
