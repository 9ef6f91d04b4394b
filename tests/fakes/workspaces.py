"""Writing the projects of a workspace."""

from collections.abc import Sequence
from pathlib import Path

from tests.projects import BUILD_SYSTEM

UV_WORKSPACE = '[tool.uv.workspace]\nmembers = ["packages/*"]\n'
UV_SOURCES = "[tool.uv.sources]\nlib = { workspace = true }\ncore = { workspace = true }\n"


def write_member(
    directory: Path, name: str, *, version: str = "1.0", dependencies: Sequence[str] = (), more: str = "",
    system: str = BUILD_SYSTEM, code: str = "",
) -> Path:
    """Write a project with one module that has the project's name, and return its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = ", ".join(f'"{line}"' for line in dependencies)
    (directory / "pyproject.toml").write_text(
        f'{system}[project]\nname = "{name}"\nversion = "{version}"\nrequires-python = ">=3.11"\n'
        f"dependencies = [{lines}]\n{more}"
    )
    (directory / f"{name.replace('-', '_').replace('.', '_').lower()}.py").write_text(code or f"NAME = {name!r}\n")
    return directory
