"""Project: what a project says of itself, read from hatchling; and Source, which makes its sdist and wheel."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.core.errors import ConfigError
from hatch_docker.project.git import Revision, read_revision

if TYPE_CHECKING:
    from hatchling.builders.plugin.interface import BuilderInterface, IncludedFile

OUR_HOOK = "docker"  # the build hook that makes the image of a wheel: no part of how the wheel is made
PURE_HOOKS = frozenset({"version", "vcs"})  # they only write Python text: their wheel needs no builder stage
LOCK_NAMES = ("pylock.toml", "uv.lock", "poetry.lock", "pdm.lock")
DIST = "dist"  # where hatchling builds, unless it is told otherwise
PINS_NAME = "hatch-docker.lock"
LAST_DATE = 4354819199  # 2107-12-31, the last day of a zip file, in seconds since the epoch
_SCRIPT = re.compile(r"\s*[\w.]+\s*:\s*[\w.]+\s*(\[.*\]\s*)?")  # entry points specification, object reference
_LEAVE_OUT = "mend it, or leave it out with [tool.hatch.build] exclude"
REQUIREMENTS_NAMES = ("requirements.lock", "requirements.txt")

_building = threading.Lock()


@dataclass(frozen=True, slots=True)
class Project:
    """Facts of one project; nothing here was guessed."""

    root: Path
    name: str                                   # as published: my-app
    file_name: str                              # as in artifacts: my_app
    version: str
    description: str
    requires_python: str
    licence: str                                # an SPDX expression, "" when the project states none
    authors: tuple[str, ...]
    urls: Mapping[str, str]
    scripts: tuple[str, ...]                    # console scripts
    dependencies: tuple[str, ...]               # PEP 508
    extras: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, tuple[str, ...]]       # PEP 735, include-group expanded
    locks: tuple[str, ...]                      # lock files at the root, in our order of preference
    hooks: tuple[str, ...]                      # build hooks of the wheel
    revision: Revision | None
    source_date: int | None                     # SOURCE_DATE_EPOCH, else the commit's time
    requires: tuple[str, ...] = ()              # what makes the wheel (PEP 518)
    pins: str = ""                              # hatch-docker.lock, where it is at the root
    backend: str = "hatchling.build"            # what makes the wheel (PEP 517)
    members: Mapping[str, Project] = field(default_factory=dict)  # by normalised name: the projects it depends on


@dataclass(frozen=True, slots=True)
class Source:
    """The project's files, and what makes its wheel and sdist on the host: once, however often it is called.

    `requires` gives what makes the wheel, as requirements, none where the wheel is given. `wheel_by` makes it by
    those that are installed in a directory, in a process of its own with the environment that it is handed. `member`
    gives the source of another project of the workspace, by its path from this one.
    """

    root: Path
    wheel: Callable[[], Path]
    sdist: Callable[[], Path]
    requires: Callable[[], tuple[str, ...]] = tuple
    wheel_by: Callable[[Path, Mapping[str, str]], Path] | None = None
    member: Callable[[str], Source] | None = None


def read_project(
    builder: BuilderInterface[Any, Any], environ: Mapping[str, str], root: Path, outputs: Sequence[str] = (),
    warn: Callable[[str], None] = lambda _line: None,
) -> Project:
    """The facts of the project that `builder` builds; raises ConfigError where they cannot be read.

    `root` is the project's directory; `builder` may be at work in an unpacked sdist of it. `outputs` are what
    builds write there, `warn` is told what is not known.
    """
    metadata = builder.metadata
    core = metadata.core
    revision = read_revision(root, environ, outputs, warn)
    return Project(
        root=root,
        name=core.name,
        file_name=builder.normalize_file_name_component(core.name),
        version=metadata.version,
        description=core.description,
        requires_python=core.requires_python,
        licence=_licence(core),
        authors=_authors(core.authors_data),
        urls=dict(core.urls),
        scripts=tuple(sorted({*_scripts(core.scripts), *getattr(builder, "programs", ())})),
        dependencies=tuple(core.dependencies),
        extras={name: tuple(values) for name, values in core.optional_dependencies.items()},
        groups=_groups(metadata.config.get("dependency-groups", {})),
        locks=_locks(root),
        pins=PINS_NAME if (root / PINS_NAME).is_file() else "",
        hooks=tuple(_wheel_builder(builder).config.hook_config),
        requires=tuple(metadata.build.requires),
        backend=metadata.build.build_backend or "hatchling.build",
        revision=revision,
        source_date=_source_date(environ, revision),
    )


def open_source(builder: BuilderInterface[Any, Any], directory: Path) -> Source:
    """The project's artifacts as hatchling makes them in this process, into `directory`."""

    def wheel() -> Path:
        made = _build(_wheel_builder(builder), directory)
        _check_code(made, builder.metadata.core)
        return made

    def sdist() -> Path:
        from hatchling.builders.sdist import SdistBuilder

        made = SdistBuilder(
            builder.root, plugin_manager=builder.plugin_manager, metadata=builder.metadata, app=builder.app
        )
        return _build(made, directory)

    def requires() -> tuple[str, ...]:
        asked = [*builder.metadata.build.requires, *_wheel_builder(builder).config.dependencies]
        return tuple(dict.fromkeys(asked))

    return Source(
        Path(builder.root), functools.cache(wheel), functools.cache(sdist), requires,
        functools.partial(_wheel_by, Path(builder.root), directory),
    )


def _wheel_by(root: Path, directory: Path, installed: Path, environ: Mapping[str, str]) -> Path:
    """The wheel, made by the hatchling that is in `installed`: it writes its version into every wheel."""
    import sys

    from hatch_docker.core.errors import BuildError
    from hatch_docker.core.process import ProcessFailed, run

    path = [str(installed), str(Path(__file__).parent.parent.parent), environ.get("PYTHONPATH", "")]
    env = {**environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    directory = directory / "pinned"
    directory.mkdir(exist_ok=True)
    try:
        output = run([sys.executable, "-P", "-m", "hatch_docker.project.build_wheel", str(root), str(directory)], env=env, cwd=root)
    except ProcessFailed as error:
        raise BuildError(
            f"the project's wheel cannot be made by the build requirements that are locked:\n{error.output}"
        ) from error
    return directory / output.splitlines()[-1]


def selected_files(builder: BuilderInterface[Any, Any], *, sdist: bool) -> Iterator[Path]:
    """The files that hatchling reads for a project's wheel, and with `sdist` for its sdist."""
    from hatch_docker.core.files import is_output

    builders = [_wheel_builder(builder)]
    if sdist:
        from hatchling.builders.sdist import SdistBuilder

        builders.append(SdistBuilder(
            builder.root, plugin_manager=builder.plugin_manager, metadata=builder.metadata, app=builder.app
        ))  # fmt: skip
    for one in builders:
        yield from (path for file in one.recurse_included_files() if not is_output(path := Path(file.path)))
    core = builder.metadata.core
    version = builder.metadata.hatch.config.get("version", {})
    named = [core.readme_path, *core.license_files, version.get("path", "")]
    yield from (Path(builder.root, name) for name in named if name)


def given_source(root: Path, wheel: Path) -> Source:
    """A project whose wheel is there: that very wheel, never another out of its sdist."""

    def sdist() -> Path:
        raise AssertionError(f"{wheel.name} is given")

    return Source(root, lambda: wheel, sdist)


def _wheel_builder(builder: BuilderInterface[Any, Any]) -> BuilderInterface[Any, Any]:
    """hatchling's builder of the wheel, without our own hook: an image made on the way would make no end."""
    from hatchling.builders.wheel import WheelBuilder

    made = WheelBuilder(
        builder.root, plugin_manager=builder.plugin_manager, metadata=builder.metadata, app=builder.app
    )
    made.config.hook_config.pop(OUR_HOOK, None)
    return made


def _build(builder: BuilderInterface[Any, Any], directory: Path) -> Path:
    from hatch_docker.core.files import is_cache, is_output
    from hatch_docker.core.progress import plain
    from hatch_docker.core.secrets import secret_part

    files, root = builder.recurse_included_files, Path(builder.root)
    kept_back: list[str] = []

    def included() -> Iterator[IncludedFile]:
        return (_checked(file, root) for file in files() if not left_out(file))

    def left_out(file: IncludedFile) -> bool:
        # What pins a build is no part of what is built: a new lock would have everything compiled again.
        if file.relative_path == PINS_NAME:
            return True
        forced = builder.config.get_force_include()
        if builder.PLUGIN_NAME != "sdist" or any(Path(file.path).is_relative_to(source) for source in forced):
            return False
        # Whoever builds it, far away perhaps, needs none of the user's secrets.
        if secret_part(file.relative_path):
            kept_back.append(file.relative_path)
            return True
        # A cache and an image are large, and others after each build.
        return is_output(Path(file.path)) or cached(Path(file.path).parent)

    @functools.cache
    def cached(directory: Path) -> bool:
        """Whether a directory of the project is a tool's cache, or in one."""
        if directory == root or not directory.is_relative_to(root):
            return False
        return is_cache(directory) or cached(directory.parent)

    builder.recurse_included_files = included  # type: ignore[method-assign]
    with _temporary_files_in(directory):
        (artifact,) = builder.build(
            directory=str(directory), versions=["standard"], hooks_only=False, clean=False, clean_hooks_after=False
        )
    if kept_back:
        names = ", ".join([*kept_back[:5], *(["..."] if kept_back[5:] else [])])
        why = "as people keep secrets in such files (force-include of the sdist takes one along)"
        builder.app.display_info(plain(f"kept back from the build, {why}: {names}"))
    return Path(artifact)


@contextlib.contextmanager
def _temporary_files_in(directory: Path) -> Iterator[None]:
    """Let what hatchling begins go with a directory: it leaves half a wheel where it is stopped or cannot write."""
    import tempfile

    with _building:
        before, tempfile.tempdir = tempfile.tempdir, str(directory)
        try:
            yield
        finally:
            tempfile.tempdir = before


def _check_code(wheel: Path, core: Any) -> None:
    """Raise ConfigError where scripts have nothing to call: hatchling takes a package that is not there for empty."""
    import zipfile

    if not core.scripts or core.dependencies or core.optional_dependencies:
        return
    with zipfile.ZipFile(wheel) as archive:
        if all(".dist-info/" in name for name in archive.namelist()):
            raise ConfigError(
                f"the project's wheel {wheel.name} holds no file of the project, and project.scripts has nothing to "
                "call; correct `packages` or `include` in [tool.hatch.build.targets.wheel]"
            )


def _checked(file: IncludedFile, root: Path) -> IncludedFile:
    """A file that hatchling is about to read: it would wait at a pipe forever, and stop at a socket."""
    from hatch_docker.core.secrets import refused_link

    shown = file.relative_path or file.path
    try:
        mode = Path(file.path).stat().st_mode
    except OSError as error:
        raise ConfigError(f"cannot read {shown} of the project: {error.strerror}; {_LEAVE_OUT}") from error
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{shown} of the project is no regular file; {_LEAVE_OUT}")
    if why := refused_link(file.path, root):
        raise ConfigError(f"{shown} of the project is a link to {why}; {_LEAVE_OUT}")
    if not os.access(file.path, os.R_OK):
        raise ConfigError(f"cannot read {shown} of the project: Permission denied; {_LEAVE_OUT}")
    if os.fsencode(file.path) != file.path.encode(errors="replace"):
        raise ConfigError(f"the name of {shown!r} of the project is not UTF-8; rename it")
    return file


def _licence(core: Any) -> str:
    """What the metadata state as an SPDX expression, or say in older words that can be nothing else; else ""."""
    if core.license_expression or not (core.license or core.classifiers):
        return str(core.license_expression)
    from hatch_docker.project.licences import licence_of

    return licence_of({"license": [core.license], "classifier": core.classifiers}).expression


def _authors(data: Mapping[str, list[str]]) -> tuple[str, ...]:
    return (*data.get("name", ()), *data.get("email", ()))


def _scripts(table: Mapping[str, str]) -> tuple[str, ...]:
    for name, reference in table.items():
        if not _SCRIPT.fullmatch(reference):
            raise ConfigError(f"pyproject.toml: project.scripts.{name} is {reference!r}, not as in \"module:function\"")
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
            raise ConfigError(f"pyproject.toml: dependency-groups.{name}: {_first(error)}") from error
    return groups


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


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
