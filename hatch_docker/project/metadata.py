"""Metadata: the facts of a project that its image depends on: core metadata, locks, build system and commit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hatch_docker.core.errors import ConfigError
from hatch_docker.project.git import Revision, read_revision
from hatch_docker.project.sources import Source

PURE_HOOKS = frozenset({"version", "vcs"})  # they only write Python text: their wheel needs no builder stage
LOCK_NAMES = ("pylock.toml", "uv.lock", "poetry.lock", "pdm.lock")
REQUIREMENTS_NAMES = ("requirements.lock", "requirements.txt")
IMAGE_LOCK = "hatch-docker.lock"
LAST_DATE = 4354819199  # 2107-12-31, the last day of a zip file, in seconds since the epoch
_SCRIPT = re.compile(r"\s*[\w.]+\s*:\s*[\w.]+\s*(\[.*\]\s*)?")  # entry points specification, object reference


@dataclass(frozen=True, slots=True)
class CoreMetadata:
    """The core metadata of a project."""

    name: str                                   # as published, or normalised: my-app
    version: str
    description: str
    requires_python: str
    licence: str                                # an SPDX expression, "" when the project states none
    authors: tuple[str, ...]
    urls: Mapping[str, str]
    scripts: tuple[str, ...]                    # console scripts
    dependencies: tuple[str, ...]               # PEP 508
    extras: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Metadata(CoreMetadata):
    """The facts of one project; none of them is a guess."""

    root: Path
    file_name: str                              # as in artifacts: my_app
    groups: Mapping[str, tuple[str, ...]]       # PEP 735, include-group expanded
    locks: tuple[str, ...]                      # lock files at the root, in our order of preference
    hooks: tuple[str, ...]                      # build hooks of the wheel
    revision: Revision | None
    source_date: int | None                     # SOURCE_DATE_EPOCH, else the commit's time
    requires: tuple[str, ...] = ()              # what makes the wheel (PEP 518)
    pins: str = ""                              # hatch-docker.lock, if it is at the root
    backend: str = "hatchling.build"            # what makes the wheel (PEP 517)
    members: Mapping[str, Metadata] = field(default_factory=dict)  # by normalised name: the projects it depends on
    sources: tuple[Source, ...] = ()            # of its dependencies
    pinned: str = ""                            # a requirements file without hashes at the root, if there is no lock
    pythons: tuple[str, ...] = ()               # specifiers (PEP 440) of the Pythons that given wheels are for


def read_metadata(
    core: CoreMetadata, tables: Mapping[str, Any], system: tuple[Sequence[str], str], hooks: tuple[str, ...],
    root: Path, environ: Mapping[str, str], outputs: Sequence[str], warn: Callable[[str], None],
    included: Callable[[], Iterable[Path]] = tuple,
) -> Metadata:
    """Return the facts of a project; raises ConfigError where they cannot be read.

    `tables` is its pyproject.toml, `system` the requirements and the name of its backend. `hooks` are the build hooks
    of its wheel. `root` is the project's directory; `core` may be that of an unpacked sdist of it. `outputs` are the
    paths below it that builds write, `warn` is called with what stays unknown, and `included` returns the files of the
    wheel.
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
    """Return the names of console scripts, given the objects that they call; raises ConfigError for no such object."""
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
    # A link to nowhere is a lock that cannot be read, not the lack of one.
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
        raise ConfigError(f"SOURCE_DATE_EPOCH is {text}: a wheel can hold no date after 2107")
    return int(text)
