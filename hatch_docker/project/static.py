"""Projects with another backend than hatchling: their Project value, from the table [project] (PEP 621).

Only the fields that an image needs are read, and only their types are checked: the backend checks the rest when it
builds the wheel.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from hatch_docker.core.errors import ConfigError
from hatch_docker.project.hatch import safe_application
from hatch_docker.project.licences import licence_of
from hatch_docker.project.metadata import CoreMetadata, Metadata, read_metadata, script_names
from hatch_docker.project.model import DIST, Project
from hatch_docker.project.pyproject import BuildSystem

Value = TypeVar("Value")
_KINDS: Mapping[type, str] = {str: "a string", list: "an array", dict: "a table"}


def static_project(
    root: Path, tables: Mapping[str, Any], system: BuildSystem, table: Mapping[str, Any], programs: Sequence[str] = ()
) -> Project:
    """Return a Project with metadata only, without functions that build artifacts.

    `tables`: the parsed pyproject.toml. `table`: [project] with all dynamic fields resolved. `programs`: scripts that
    are not entry points.
    """

    def read(root: Path, environ: Mapping[str, str], outputs: Sequence[str], warn: Callable[[str], None]) -> Metadata:
        core = core_metadata(table)
        core = replace(core, scripts=tuple(sorted({*core.scripts, *programs})))
        return read_metadata(core, tables, system[:2], (), root, environ, outputs, warn)

    return Project(
        root, name=lambda: canonicalize_name(_value(table, "name", str)),
        programs=lambda: tuple(sorted({*_value(table, "scripts", dict), *programs})),
        tables={**tables, "project": dict(table)}, output=lambda: root / DIST, read=read, app=safe_application(),
    )  # fmt: skip


def core_metadata(table: Mapping[str, Any]) -> CoreMetadata:
    """Return the core metadata of a [project] table; raises ConfigError for a missing or invalid value."""
    name, version, python = (_value(table, field, str) for field in ("name", "version", "requires-python"))
    for field, value in (("name", name), ("version", version)):
        if not value:
            raise ConfigError(f"pyproject.toml: project.{field} is missing")
    try:
        version, python = str(Version(version)), str(SpecifierSet(python))
    except ValueError as error:  # an invalid version or specifier, or a number of more than 4300 digits
        raise ConfigError(f"pyproject.toml: [project]: {error}") from error
    extras = _value(table, "optional-dependencies", dict)
    return CoreMetadata(
        canonicalize_name(name), version, " ".join(_value(table, "description", str).splitlines()), python,
        _licence(table), _authors(_strings(_value(table, "authors", list), "authors", dict)),
        {str(label): str(url) for label, url in _value(table, "urls", dict).items()},
        script_names({str(label): str(reference) for label, reference in _value(table, "scripts", dict).items()}),
        _requirements(_value(table, "dependencies", list), "dependencies"),
        {canonicalize_name(extra): _requirements(lines, f"optional-dependencies.{extra}")
         for extra, lines in sorted(extras.items())},
    )  # fmt: skip


def _value(table: Mapping[str, Any], name: str, kind: type[Value]) -> Value:
    value = table.get(name, kind())
    if not isinstance(value, kind):
        raise ConfigError(f"pyproject.toml: project.{name} must be {_KINDS[kind]}, not {value!r}")
    return value


def _strings(values: Any, name: str, kind: type[Value]) -> list[Value]:
    """Return an array's values; raises ConfigError unless all of them have the type `kind`."""
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise ConfigError(f"pyproject.toml: project.{name} must be an array, each item {_KINDS[kind]}")
    return values


def _requirements(lines: Any, name: str) -> tuple[str, ...]:
    """Return requirements sorted and in hatchling's form; an invalid one stays unchanged."""
    return tuple(sorted({_requirement(line) for line in _strings(lines, name, str)}))


def _requirement(line: str) -> str:
    from hatchling.metadata.utils import format_dependency, normalize_requirement

    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return line  # `collect_requirements` reports the error, if the requirement is used
    normalize_requirement(requirement)
    return str(format_dependency(requirement))


def _authors(people: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    from email.headerregistry import Address

    names, addresses = [], []
    for person in people:
        name, address = str(person.get("name", "")), str(person.get("email", ""))
        try:
            addresses += [str(Address(name, addr_spec=address))] if address else []
        except (ValueError, IndexError):  # not a valid address
            addresses.append(f"{name} <{address}>")
        names += [name] if name and not address else []
    return *names, *addresses


def _licence(table: Mapping[str, Any]) -> str:
    """Return the licence as an SPDX expression, "" if the table contains none."""
    licence = table.get("license", "")
    text = licence.get("text", "") if isinstance(licence, dict) else licence
    classifiers = [str(line) for line in _value(table, "classifiers", list)]
    return licence_of({"license": [str(text)], "classifier": classifiers}).expression
