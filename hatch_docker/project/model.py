"""Project: a Python project of any build backend, the input of plan, engines and pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

from hatch_docker.core.cache.kept_file import KeptFile
from hatch_docker.core.cache.shared import SharedCache
from hatch_docker.project.metadata import Metadata

DIST = "dist"  # hatchling's default output directory


class Application(Protocol):
    """The methods of hatchling's application that print messages; hatch passes an application of its own."""

    @property
    def verbosity(self) -> int:
        """0 by default, plus 1 for each -v, minus 1 for each -q."""

    def display_warning(self, message: str = "") -> None:
        """Print a warning, unless the verbosity is too low."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that a build of the project's artifacts may read: those below `top`, and `extra_paths`.

    `is_skipped` takes a directory's path relative to `top` and returns True if no file below it is read. Its result may
    depend on these files, and on whether the directory has a file with a name in `marker_names`.
    """

    top: Path
    is_skipped: Callable[[str], bool]
    extra_paths: tuple[Path, ...] = ()
    marker_names: tuple[str, ...] = ()


def _no_artifact() -> NoReturn:
    raise AssertionError("the project was opened to be read")


@dataclass(frozen=True, slots=True, eq=False)
class Project:
    """A project: its directory, its pyproject.toml, and the functions that build its wheel and its sdist.

    `wheel`, `sdist`: build the artifact at the first call, and return the same path or file later.
    `requires`: returns the build requirements (PEP 508), () if the wheel exists already.
    `wheel_with`: builds the wheel with the build requirements installed in a directory, given that directory and the
    environment of the process; None if it is not supported.
    `name`, `programs`: return the project's name, and the names of its scripts.
    `member`: returns another project of the workspace, given its path relative to `root`.
    `tables`: the parsed pyproject.toml. `file`: the name of the file that contains [tool.hatch-docker].
    `output`: returns the default output directory. `read`: returns the metadata (arguments: see `metadata`).
    `sources`: returns the files that the artifacts depend on, given whether the wheel is built in the builder stage;
    None if only code of the project determines them.
    `shared`: returns the shared cache of the builder stage, or None.
    `wheels`: prebuilt wheels that are installed unchanged, each for other targets.
    """

    root: Path
    wheel: Callable[[], Path] = _no_artifact
    sdist: Callable[[], KeptFile] = _no_artifact
    requires: Callable[[], tuple[str, ...]] = tuple
    wheel_with: Callable[[Path, Mapping[str, str]], Path] | None = None
    name: Callable[[], str] = str
    programs: Callable[[], tuple[str, ...]] = tuple
    member: Callable[[str], Project] | None = None
    tables: Mapping[str, Any] = field(default_factory=dict)
    output: Callable[[], Path] = lambda: Path(DIST)
    read: Callable[[Path, Mapping[str, str], Sequence[str], Callable[[str], None]], Metadata] | None = None
    app: Application | None = None
    sources: Callable[[bool], Sources | None] = lambda _isolated: None
    shared: Callable[[], SharedCache | None] = lambda: None
    wheels: tuple[Path, ...] = ()
    file: str = "pyproject.toml"

    @property
    def table(self) -> Mapping[str, Any]:
        """The table [tool.hatch-docker], not validated."""
        table: Mapping[str, Any] = self.tables.get("tool", {}).get("hatch-docker", {})
        return table

    def metadata(
        self, environ: Mapping[str, str], outputs: Sequence[str] = (), warn: Callable[[str], None] = lambda _line: None
    ) -> Metadata:
        """Return the metadata of the project; raises ConfigError for invalid metadata.

        `outputs`: paths below the root that builds write to; changes there do not make the sources dirty. `warn`: gets
        a message if the commit cannot be read.
        """
        assert self.read is not None
        return self.read(self.root, environ, outputs, warn)
