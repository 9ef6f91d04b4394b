"""Metadata: the facts of a project that decide its image: core metadata, locks, build system and commit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hatch_docker.core.errors import ConfigError
from hatch_docker.project.git import Revision, read_revision
from hatch_docker.project.sources import Source

PURE_HOOKS = frozenset({"version", "vcs"})  # hooks that only write a Python file: the wheel needs no builder stage
LOCK_NAMES = ("pylock.toml", "uv.lock", "poetry.lock", "pdm.lock")
REQUIREMENTS_NAMES = ("requirements.lock", "requirements.txt")
IMAGE_LOCK = "hatch-docker.lock"
LAST_DATE = 4354819199  # 2107-12-31, the last date in a zip file, in seconds since the epoch
_SCRIPT = re.compile(r"\s*[\w.]+\s*:\s*[\w.]+\s*(\[.*\]\s*)?")  # entry points specification, object reference


@dataclass(frozen=True, slots=True)
class CoreMetadata:
    """The core metadata of a project."""

    name: str                                   # as written in [project], or normalised: my-app
    version: str
    description: str
    requires_python: str
    licence: str                                # an SPDX expression, "" if the project names none
    authors: tuple[str, ...]
    urls: Mapping[str, str]
    scripts: tuple[str, ...]                    # console scripts
    dependencies: tuple[str, ...]               # PEP 508
    extras: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Metadata(CoreMetadata):
    """The facts of one project, read from its files and from git; no defaults, no guesses."""

    root: Path
    file_name: str                              # the name in file names of artifacts: my_app
    groups: Mapping[str, tuple[str, ...]]       # PEP 735, include-group expanded
    locks: tuple[str, ...]                      # lock files at the root, the preferred one first
    hooks: tuple[str, ...]                      # build hooks of the wheel
    revision: Revision | None
    source_date: int | None                     # SOURCE_DATE_EPOCH, else the commit's time
    requires: tuple[str, ...] = ()              # build requirements: [build-system] requires (PEP 518)
    pins: str = ""                              # "hatch-docker.lock" if that file is at the root, else ""
    backend: str = "hatchling.build"            # the build backend (PEP 517)
    members: Mapping[str, Metadata] = field(default_factory=dict)  # workspace members it depends on, by normalised name
    sources: tuple[Source, ...] = ()            # the sources of its dependencies
    pinned: str = ""                            # a requirements file without hashes at the root, if there is no lock
    pythons: tuple[str, ...] = ()               # prebuilt wheels: specifiers (PEP 440) of the Pythons that they support


def read_metadata(
    core: CoreMetadata, tables: Mapping[str, Any], system: tuple[Sequence[str], str], hooks: tuple[str, ...],
    root: Path, environ: Mapping[str, str], outputs: Sequence[str], warn: Callable[[str], None],
    included: Callable[[], Iterable[Path]] = tuple,
) -> Metadata:
    """Return the metadata of the project at `root`; raises ConfigError for invalid metadata.

    `core`: its core metadata, possibly from an sdist of the project. `tables`: the parsed pyproject.toml. `system`: the
    build requirements and the backend's name. `hooks`: the build hooks of the wheel. `outputs`, `warn`, `included`: see
    `read_revision`.
    """
    revision = read_revision(root, environ, outputs, warn, included)
    return Metadata(
        **{field.name: getattr(core, field.name) for field in fields(core)},
        root=root,
        file_name=re.sub(r"[^\w.]+", "_", core.name),  # as hatchling names its artifacts (PEP 427)
        groups=_groups(tables.get("dependency-groups", {})),
        locks=(locks := _locks(root)),
        pinned="" if locks else next((name for name in REQUIREMENTS_NAMES if (root / name).is_file()), ""),
        pins=IMAGE_LOCK if (root / IMAGE_LOCK).is_file() else "",
        hooks=hooks,
        requires=tuple(system[0]),
        backend=system[1],
        revision=revision,
        source_date=_source_date(environ, revision),
    )


def script_names(table: Mapping[str, str]) -> tuple[str, ...]:
    """Return the sorted names of [project.scripts]; raises ConfigError for an invalid object reference."""
    for name, reference in table.items():
        if not _SCRIPT.fullmatch(reference):
            raise ConfigError(f"pyproject.toml: project.scripts.{name}: must be \"module:function\", not {reference!r}")
    return tuple(sorted(table))


def _groups(table: Any) -> dict[str, tuple[str, ...]]:
    if not table:
        return {}
    from packaging.dependency_groups import DependencyGroupResolver

    if not isinstance(table, dict):
        raise ConfigError(f"pyproject.toml: dependency-groups must be a table, not {table!r}")
    resolver = DependencyGroupResolver(table)
    groups = {}
    for name in table:
        try:
            groups[name] = tuple(str(requirement) for requirement in resolver.resolve(name))
        except (ExceptionGroup, ValueError, LookupError, TypeError) as error:
            first: BaseException = error
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise ConfigError(f"pyproject.toml: dependency-groups.{name}: {first}") from error
    return groups


def _locks(root: Path) -> tuple[str, ...]:
    # A dangling symlink counts as a lock: the build must fail, and not continue without a lock.
    found = [name for name in LOCK_NAMES if (root / name).is_file() or (root / name).is_symlink()]
    texts = (root / name for name in REQUIREMENTS_NAMES if (root / name).is_file())
    hashed = (path.name for path in texts if "--hash=" in path.read_text(encoding="utf-8", errors="replace"))
    return (*found, *hashed)


def _source_date(environ: Mapping[str, str], revision: Revision | None) -> int | None:
    text = environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        return revision.time if revision else None
    if not re.fullmatch(r"\d{1,11}", text):
        raise ConfigError(f"SOURCE_DATE_EPOCH is {text!r}: it must be a number of seconds since 1970")
    if int(text) > LAST_DATE:
        raise ConfigError(f"SOURCE_DATE_EPOCH is {text}: a wheel cannot contain a date after 2107")
    return int(text)
