"""A project whose wheels exist: made by `python -m build`, cibuildwheel or auditwheel, on this machine or another one.

The wheel says name, version, dependencies and scripts, so that neither a backend nor a builder stage is needed for it.
The table, the locks and what `files` names are those of the project around the wheel.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_name, canonicalize_version, parse_wheel_filename

from hatch_docker.core.errors import ConfigError
from hatch_docker.project.metadata import Metadata
from hatch_docker.project.model import Project, Sources
from hatch_docker.project.pyproject import HATCHLING, check_tables, read_toml
from hatch_docker.project.static import core_metadata, static_project
from hatch_docker.wheels.metadata import programs, project_table


def open_wheels(wheels: Sequence[Path], root: Path, file: str) -> Project:
    """Return the project of some wheels of one version, each for other platforms or Pythons; raises ConfigError.

    [tool.hatch-docker] is that of the `file` in `root`; without such a file the defaults hold. Raises WheelError for a
    file that cannot be read as a wheel.
    """
    tables = read_toml(root / file) if (root / file).is_file() else {}
    check_tables(tables)
    table = _table(wheels)
    system = ((), HATCHLING, ())  # nothing is built
    project = static_project(root, tables, system, table, programs(wheels[0]))
    read = project.read
    assert read is not None

    def metadata(
        place: Path, environ: Mapping[str, str], outputs: Sequence[str], _warn: Callable[[str], None]
    ) -> Metadata:
        """Return the metadata without a commit: a wheel does not tell the one that it was made of."""
        found = read(place, environ, outputs, lambda _line: None)
        time = found.source_date if "SOURCE_DATE_EPOCH" in environ else None
        return replace(found, revision=None, source_date=time, pythons=_pythons(wheels))

    return replace(
        project, wheel=lambda: wheels[0], wheels=tuple(wheels), read=metadata, file=file,
        output=lambda: root / "dist" if root != wheels[0].parent else root,
        sources=lambda _isolated: Sources(root, lambda _name: True, (*wheels, root / file)),
    )  # fmt: skip


def _table(wheels: Sequence[Path]) -> Mapping[str, Any]:
    """Return the [project] table that all wheels have; raises ConfigError where they differ."""
    first, *others = wheels
    identities = {}
    for wheel in wheels:
        if not wheel.is_file():
            raise ConfigError(f"there is no wheel {wheel}; correct the path, or build it")
        try:
            identities[wheel] = parse_wheel_filename(wheel.name)[:2]
        except InvalidWheelFilename as error:
            raise ConfigError(f"{wheel.name} is not the name of a wheel: {error}") from None
    table = project_table(first)
    try:
        core_metadata(table)
    except ConfigError as error:
        why = str(error).removeprefix("pyproject.toml: ")
        raise ConfigError(f"the metadata of {first.name} are not valid; build it again: {why}") from error
    named, said = identities[first], (table.get("name", ""), table.get("version", ""))
    if [canonicalize_name(said[0]), canonicalize_version(said[1])] != [named[0], canonicalize_version(named[1])]:
        raise ConfigError(
            f"{first.name} was renamed: its metadata are those of {' '.join(said)}; "
            "give it that name again"
        )
    for other in others:
        if identities[other] != identities[first]:
            raise ConfigError(
                f"{first.name} and {other.name} are of different packages or versions, and an image is made of one: "
                "name one, and build the other by a second command"
            )
        if project_table(other) != table:
            raise ConfigError(
                f"{first.name} and {other.name} have different metadata (dependencies, scripts or requires-python): "
                "build each by a command of its own"
            )
    return table


def _pythons(wheels: Sequence[Path]) -> tuple[str, ...]:
    """Return the Pythons that some wheels are for, as specifiers (PEP 440), "" for any (PEP 425)."""
    found = []
    for tag in sorted({tag for wheel in wheels for tag in parse_wheel_filename(wheel.name)[3]}, key=str):
        version = re.fullmatch(r"(cp|py)3(\d*)", tag.interpreter)
        if version is None:
            continue  # another language version or implementation
        later = version[1] == "py" or tag.abi == "abi3"
        found.append("" if not version[2] else f">=3.{version[2]}" if later else f"==3.{version[2]}.*")
    return tuple(dict.fromkeys(found))
