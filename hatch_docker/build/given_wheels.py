"""A project of existing wheels, for example of `python -m build`, cibuildwheel or auditwheel.

Name, version, dependencies and scripts are those of the wheel's metadata: no backend and no builder stage is needed.
[tool.hatch-docker], the locks, and the paths in `files` are those of the directory around the wheel.
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
    """Return the project of wheels of one version, each for another platform or Python.

    `file`: the file in `root` with [tool.hatch-docker]; without it the options have their defaults. Raises ConfigError
    if the wheels differ, and WheelError for a file that cannot be read as a wheel.
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
        """Return the metadata without a commit: a wheel does not contain the commit that it was built from."""
        found = read(place, environ, outputs, lambda _line: None)
        time = found.source_date if "SOURCE_DATE_EPOCH" in environ else None
        return replace(found, revision=None, source_date=time, pythons=_pythons(wheels))

    return replace(
        project, wheel=lambda: wheels[0], wheels=tuple(wheels), read=metadata, file=file,
        output=lambda: root / "dist" if root != wheels[0].parent else root,
        sources=lambda _isolated: Sources(root, lambda _name: True, (*wheels, root / file)),
    )  # fmt: skip


def _table(wheels: Sequence[Path]) -> Mapping[str, Any]:
    """Return the [project] table of the wheels' metadata; raise ConfigError if they differ."""
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
    named, inside = identities[first], (table.get("name", ""), table.get("version", ""))
    if [canonicalize_name(inside[0]), canonicalize_version(inside[1])] != [named[0], canonicalize_version(named[1])]:
        raise ConfigError(
            f"{first.name} was renamed: its metadata are those of {' '.join(inside)}; "
            "give it that name again"
        )
    for other in others:
        if identities[other] != identities[first]:
            raise ConfigError(
                f"{first.name} and {other.name} are of different packages or versions, and an image is made from one: "
                "give one, and build the other with a second command"
            )
        if project_table(other) != table:
            raise ConfigError(
                f"{first.name} and {other.name} have different metadata (dependencies, scripts or requires-python): "
                "build each with a separate command"
            )
    return table


def _pythons(wheels: Sequence[Path]) -> tuple[str, ...]:
    """Return the Python versions of the wheels' tags (PEP 425) as specifiers (PEP 440), "" for any version."""
    found = []
    for tag in sorted({tag for wheel in wheels for tag in parse_wheel_filename(wheel.name)[3]}, key=str):
        version = re.fullmatch(r"(cp|py)3(\d*)", tag.interpreter)
        if version is None:
            continue  # another language version or implementation
        later = version[1] == "py" or tag.abi == "abi3"
        found.append("" if not version[2] else f">=3.{version[2]}" if later else f"==3.{version[2]}.*")
    return tuple(dict.fromkeys(found))
