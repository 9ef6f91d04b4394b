"""Functions that run whole builds as a user does: a process of hatchling in the project's directory."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.model import Image, Index
from tests.conftest import need
from tests.integration.forked_python import is_forkable, run_module
from tests.projects import BUILD_SYSTEM, KINDS, write_files
from tests.validate import validate


@dataclass(frozen=True)
class Outcome:
    """The exit status and the output of a program, the path of dist/, and the receipts in it."""

    status: int
    output: str
    directory: Path

    def __post_init__(self) -> None:
        """Read the receipts now: the next build overwrites them."""
        files = [path for path in self.directory.glob("*.image.json") if path.is_file()]
        object.__setattr__(self, "receipts", [path.read_bytes() for path in files])

    @property
    def archive(self) -> Path:
        (path,) = self.directory.glob("*.oci.tar")
        return path

    @property
    def receipt(self) -> dict[str, Any]:
        (data,) = self.receipts
        value: dict[str, Any] = json.loads(data)
        return value

    @property
    def layers(self) -> list[dict[str, Any]]:
        """Return the layers of the first platform in the receipt."""
        found: list[dict[str, Any]] = self.receipt["platforms"][0]["layers"]
        return found

    @property
    def digest(self) -> str:
        return str(self.receipt["digest"])

    def item(self) -> Image | Index:
        """Return the image or index in the archive, after checks of its structure and its digest."""
        item = read_archive(self.archive)
        validate(item)
        assert item.digest == self.digest
        return item

    def image(self) -> Image:
        item = self.item()
        assert isinstance(item, Image)
        return item

    def new_layers(self) -> list[str]:
        """Return the kinds of the layers that did not come from the cache."""
        (platform,) = self.receipt["platforms"]
        return [layer["kind"] for layer in platform["layers"] if not layer["cached"]]


def environment(cache: Path, variables: Mapping[str, str] = {}) -> dict[str, str]:
    """Return the environment with a cache directory, without loading into a daemon, and with `variables` added."""
    return {**os.environ, "HATCH_DOCKER_CACHE_DIR": str(cache), "HATCH_DOCKER_LOAD": "never", **variables}


def linked_cache(cache: Path, directory: Path, *without: str) -> Path:
    """Make a private cache: a copy of the shared one, by hard links, without the kinds `without` of its facts.

    This changes the ctime of the shared files, so that a remembered build that used them is not recalled.
    """
    left_out = {str(cache / "v1"): ("tmp", "locks"), str(cache / "v1/facts"): without}
    return shutil.copytree(
        cache, directory, symlinks=True, copy_function=os.link, ignore=lambda path, _names: left_out.get(path, ())
    )


def run_in(
    project: Path, cache: Path, *command: str, variables: Mapping[str, str] = {}, timeout: float = 600, **options: Any
) -> Outcome:
    """Run a program in a project's directory; return its outcome.

    `options` are passed to `subprocess.run`. Without them, `python -m hatchling` and `hatch_docker` run in a fork.
    """
    environ = environment(cache, variables)
    if not options and is_forkable(command, environ):
        return Outcome(*run_module(command, project, environ, timeout), project / "dist")
    done = subprocess.run(
        command, cwd=project, env=environ, text=True, timeout=timeout, check=False, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, **options,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, project / "dist")


def run_build(
    project: Path, cache: Path, *, verb: str = "docker", python: str = sys.executable, **options: Any
) -> Outcome:
    """Run `hatchling build -t VERB`; `options` are those of run_in."""
    return run_in(project, cache, python, "-m", "hatchling", "build", "-t", verb, **options)


def start(project: Path, cache: Path, *command: str, variables: Mapping[str, str] = {}) -> subprocess.Popen[str]:
    """Start a program in a project's directory; standard output and standard error are one pipe."""
    return subprocess.Popen(
        command, cwd=project, env=environment(cache, variables), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def other_python() -> str:
    """Return the path of a Python of Debian, which every user can run; preferably of another version than this one."""
    found = [path for minor in (13, 11, 12, 14) if (path := Path(f"/usr/bin/python3.{minor}")).exists()]
    if not found:
        need("/usr/bin/python3")
    own = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(next((path for path in found if path.name != own), found[0]))


def install_in_new_venv(python: str, venv: Path) -> None:
    """Install hatch-docker into a new virtual environment of another Python, as a user would."""
    root = Path(__file__).parent.parent.parent
    uv("venv", "-q", "--python", python, str(venv))
    uv("pip", "install", "-q", "--python", str(venv / "bin/python"), "--link-mode", "copy", f"{root}[uv]")


def build(project: Path, cache: Path, **options: Any) -> Outcome:
    """Run `hatchling build`, which must succeed; return its outcome."""
    outcome = run_build(project, cache, **options)
    assert outcome.status == 0, outcome.output
    return outcome


def check_failed(outcome: Outcome, *words: str, last_line: bool = False) -> None:
    """Check that a program failed with status 1, without a traceback, and printed `words` (in its last line)."""
    assert outcome.status == 1, outcome.output
    text = outcome.output.strip().splitlines()[-1] if last_line else outcome.output
    assert [word for word in words if word not in text] == [], outcome.output
    assert "Traceback" not in outcome.output


def files_in_dist(outcome: Outcome) -> list[Path]:
    """Return the files in dist/; after a first build that failed there are none."""
    return list(outcome.directory.iterdir()) if outcome.directory.exists() else []


def paths(image: Image, *, above_base: bool = False) -> list[str]:
    """Return the path of every entry of every layer, the base's layer first."""
    layers = image.layers[1:] if above_base else image.layers
    return [entry.path for layer in layers for entry, _ in layer_entries(layer)]


def check_option(kind: str) -> str:
    """Return the table `check` with the command of the project."""
    command = ", ".join(f'"{word}"' for word in KINDS[kind].command)
    return f"[tool.hatch-docker.check]\ncommand = [{command}]"


def run_command(project: Path, cache: Path, *arguments: str, **variables: str) -> Outcome:
    """Run `hatch-docker ARGUMENTS` in a project's directory."""
    return run_in(project, cache, sys.executable, "-m", "hatch_docker", *arguments, variables=variables)


def output_of(project: Path, cache: Path, *arguments: str, **variables: str) -> str:
    """Run a `hatch-docker` command that must succeed; return what it printed."""
    found = run_command(project, cache, *arguments, **variables)
    assert found.status == 0, found.output
    return found.output


def lock_of(project: Path) -> dict[str, Any]:
    return tomllib.loads((project / "hatch-docker.lock").read_text("utf-8"))


def uv(*arguments: str, cwd: Path | None = None) -> None:
    """Run uv, which must succeed."""
    program = os.environ.get("UV") or shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    subprocess.run([program, *arguments], cwd=cwd, check=True, capture_output=True)


def edit(project: Path, old: str, new: str) -> None:
    """Replace a text in a project's pyproject.toml, which must contain it."""
    path = project / "pyproject.toml"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def require(project: Path, *requirements: str) -> Path:
    """Add dependencies to a project that has none; return its directory."""
    edit(project, "requires-python", f"dependencies = {list(requirements)}\nrequires-python")
    return project


def write_program(directory: Path, name: str, code: str, options: str, *, dependencies: Sequence[str] = ()) -> Path:
    """Write a project of one module, whose function `main` is its command; `options` follow the base in the table."""
    project = (
        f'{BUILD_SYSTEM}[project]\nname = "{name}"\nversion = "1.0"\nrequires-python = ">=3.11"\n'
        f'dependencies = {list(dependencies)}\nscripts.{name} = "{name}:main"\n'
        f'[tool.hatch-docker]\nbase = "debian:trixie"\n{options}'
    )
    return write_files(directory, {f"{name}.py": code, "pyproject.toml": project})
