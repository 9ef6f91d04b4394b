"""Project: a Python project of any build backend, as every later step gets it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

from hatch_docker.core.cache.kept_file import KeptFile
from hatch_docker.core.cache.shared import Shared
from hatch_docker.project.metadata import Metadata

DIST = "dist"  # where hatchling builds, unless it is told otherwise


class Application(Protocol):
    """The part of hatchling's application that shows lines to the user; hatch hands in its own."""

    @property
    def verbosity(self) -> int:
        """0 by default, more for each -v, less for each -q."""

    def display_warning(self, message: str = "") -> None:
        """Show a warning, but not to a user who asked for silence."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that a project's artifacts may be made of: those below `top`, and `others`, files and directories.

    `is_skipped` tells of a directory, by its path from `top`, whether nothing is ever taken from it. It depends on
    nothing but those files, and on whether a file of a name in `marks` is in the directory.
    """

    top: Path
    is_skipped: Callable[[str], bool]
    others: tuple[Path, ...] = ()
    marks: tuple[str, ...] = ()


def _no_artifact() -> NoReturn:
    raise AssertionError("the project was opened to be read")


@dataclass(frozen=True, slots=True, eq=False)
class Project:
    """A project: its directory, its pyproject.toml, and the functions that make its wheel and its sdist.

    Each artifact is made once, however often it is asked for; a project that is only read has none. `requires` returns
    what makes the wheel, as requirements (PEP 508), none where the wheel exists already. `wheel_by` makes the wheel by
    the build requirements that are installed in a directory, in a process with the environment that it gets. `name`
    returns its name, `programs` those of its scripts. `member` returns another project of the workspace, by its path
    from this one. `tables` is pyproject.toml, parsed; `output` returns the directory that builds write to by default.
    `sources` returns what its artifacts are made of, for a wheel that is built in the builder stage or here, None where
    code decides that. `shared` returns the shared cache that its builder stage looks in, None if it has none. `wheels`
    are those that exist and are used as they are, each for other targets. `file` is the name of the file that has the
    table.
    """

    root: Path
    wheel: Callable[[], Path] = _no_artifact
    sdist: Callable[[], KeptFile] = _no_artifact
    requires: Callable[[], tuple[str, ...]] = tuple
    wheel_by: Callable[[Path, Mapping[str, str]], Path] | None = None
    name: Callable[[], str] = str
    programs: Callable[[], tuple[str, ...]] = tuple
    member: Callable[[str], Project] | None = None
    tables: Mapping[str, Any] = field(default_factory=dict)
    output: Callable[[], Path] = lambda: Path(DIST)
    read: Callable[[Path, Mapping[str, str], Sequence[str], Callable[[str], None]], Metadata] | None = None
    app: Application | None = None
    sources: Callable[[bool], Sources | None] = lambda _isolated: None
    shared: Callable[[], Shared | None] = lambda: None
    wheels: tuple[Path, ...] = ()
    file: str = "pyproject.toml"

    @property
    def table(self) -> Mapping[str, Any]:
        """[tool.hatch-docker] as the user wrote it, unchecked."""
        table: Mapping[str, Any] = self.tables.get("tool", {}).get("hatch-docker", {})
        return table

    def metadata(
        self, environ: Mapping[str, str], outputs: Sequence[str] = (), warn: Callable[[str], None] = lambda _line: None
    ) -> Metadata:
        """Return the metadata of the project; raises ConfigError where they cannot be read.

        `outputs` are the paths below the root that builds write, which count as no change of the sources; `warn` is
        called with what stays unknown.
        """
        assert self.read is not None
        return self.read(self.root, environ, outputs, warn)
