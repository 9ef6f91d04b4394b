"""Whole builds as a user starts them: a process of hatchling in a project's directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.model import Image, Index
from hatch_docker.oci.validate import validate
from tests.conftest import need


@dataclass(frozen=True)
class Outcome:
    """What a build said, and what it left in dist/."""

    status: int
    output: str
    directory: Path

    @property
    def archive(self) -> Path:
        (path,) = self.directory.glob("*.oci.tar")
        return path

    @property
    def receipt(self) -> dict[str, Any]:
        (path,) = self.directory.glob("*.image.json")
        value: dict[str, Any] = json.loads(path.read_bytes())
        return value

    @property
    def digest(self) -> str:
        return str(self.receipt["digest"])

    def item(self) -> Image | Index:
        """What is in the archive, every invariant computed anew, and the same as the receipt says."""
        item = read_archive(self.archive)
        validate(item)
        assert item.digest == self.digest
        return item

    def image(self) -> Image:
        item = self.item()
        assert isinstance(item, Image)
        return item

    def made(self) -> list[str]:
        """The kinds of the layers that this build had to make."""
        (platform,) = self.receipt["platforms"]
        return [layer["kind"] for layer in platform["layers"] if not layer["cached"]]


def run_build(
    project: Path, cache: Path, *, verb: str = "docker", python: str = sys.executable,
    variables: Mapping[str, str] | None = None, **options: Any,
) -> Outcome:
    """Run `hatchling build -t VERB`; nothing is loaded into a daemon unless `variables` ask for it."""
    environment = {
        **os.environ, "HATCH_DOCKER_CACHE_DIR": str(cache), "HATCH_DOCKER_LOAD": "never", **(variables or {}),
    }
    done = subprocess.run(
        [python, "-m", "hatchling", "build", "-t", verb], cwd=project, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600, **options,
    )
    return Outcome(done.returncode, done.stdout, project / "dist")


def other_python() -> str:
    """A Python that any user can run, of another version than this one where there is one: Debian's own."""
    found = [path for minor in (13, 11, 12, 14) if (path := Path(f"/usr/bin/python3.{minor}")).exists()]
    if not found:
        need("/usr/bin/python3")
    own = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(next((path for path in found if path.name != own), found[0]))


def install_elsewhere(python: str, venv: Path) -> None:
    """Install this project into a new virtual environment of another Python, as its users would."""
    root = Path(__file__).parent.parent.parent
    uv = os.environ.get("UV") or shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    for arguments in (
        ["venv", "-q", "--python", python, str(venv)],
        ["pip", "install", "-q", "--python", str(venv / "bin/python"), "--link-mode", "copy", f"{root}[uv]"],
    ):
        subprocess.run([uv, *arguments], check=True)


def build(project: Path, cache: Path, **options: Any) -> Outcome:
    """A build that must succeed."""
    outcome = run_build(project, cache, **options)
    assert outcome.status == 0, outcome.output
    return outcome
