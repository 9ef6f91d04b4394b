"""Directories that `hatch-docker init` finds: files by their paths, and a mirror for the base it chooses."""

from collections.abc import Mapping
from pathlib import Path

MIRROR = {"HATCH_DOCKER_DEBIAN_MIRROR": "https://mirror.example/debian"}
FASTAPI = "from fastapi import FastAPI\n\napp = FastAPI()\n"
HATCHLING = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n\n'


def write(root: Path, files: Mapping[str, str]) -> Path:
    """A project of some files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")
    return root
