"""Projects with the backend hatchling: their Project value, and their wheel and sdist, built in this process."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.core.cache.kept_file import existing_file
from hatch_docker.core.errors import BuildError, ConfigError
from hatch_docker.core.files import is_cache, is_output
from hatch_docker.core.process import ProcessFailed, run
from hatch_docker.core.tables import table_at
from hatch_docker.core.text import sanitize
from hatch_docker.project.metadata import IMAGE_LOCK, CoreMetadata, Metadata, read_metadata, script_names
from hatch_docker.project.model import Project, Sources
from hatch_docker.project.pyproject import HATCHLING, read_pyproject, read_toml
from hatch_docker.project.requirements_file import included_files, required_files
from hatch_docker.project.workspace import top_directory, writable_path

if TYPE_CHECKING:
    from hatchling.builders.plugin.interface import BuilderInterface, IncludedFile
    from hatchling.metadata.core import ProjectMetadata

# The name of our build hook, which builds an image of a finished wheel and does not change the wheel, and of our
# metadata hook, which reads requirements files.
OUR_HOOK = "docker"
HOOK_OUTPUTS = {"version": "path", "vcs": "version-file"}  # hooks that run on the host: the option with their output
_EXCLUDE = "correct it, or exclude it: [tool.hatch.build] exclude"

_tempdir_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Hatchling:
    """The hatchling objects of one project; all targets of one `hatch build` share them."""

    root: str
    metadata: ProjectMetadata[Any]
    plugins: Any
    app: Any  # hatchling's application, or hatch's

    def wheel_builder(self) -> BuilderInterface[Any, Any]:
        """Return the wheel builder, without our own hook, which would build an image for each wheel."""
        from hatchling.builders.wheel import WheelBuilder

        builder = WheelBuilder(self.root, plugin_manager=self.plugins, metadata=self.metadata, app=self.app)
        builder.config.hook_config.pop(OUR_HOOK, None)
        return builder

    def sdist_builder(self) -> BuilderInterface[Any, Any]:
        """Return the sdist builder, without hooks: hooks run in the builder stage, where the wheel is built."""
        from hatchling.builders.sdist import SdistBuilder

        builder = SdistBuilder(self.root, plugin_manager=self.plugins, metadata=self.metadata, app=self.app)
        builder.get_build_hooks = lambda _directory: {}  # type: ignore[method-assign,assignment]
        return builder

    def output(self) -> Path:
        """Return the output directory of the target `docker`; raises ConfigError, and hatchling's TypeError."""
        from hatchling.builders.config import BuilderConfig

        hatch = self.metadata.hatch
        target = hatch.build_targets.get("docker", {})
        if not isinstance(target, dict):
            raise ConfigError("pyproject.toml: tool.hatch.build.targets.docker must be a table")
        config = BuilderConfig(self.wheel_builder(), self.root, "docker", hatch.build_config, target)
        return output_directory(Path(self.root), config.directory)


def output_directory(root: Path, directory: str) -> Path:
    """Return the path of the output directory in the tables; raises ConfigError if it is outside of the project."""
    return writable_path(root, directory, "tool.hatch.build: directory", "")


def open_hatchling(root: Path) -> Hatchling:
    """Return new hatchling objects for the project in a directory."""
    from hatchling.metadata.core import ProjectMetadata
    from hatchling.plugin.manager import PluginManager

    plugins = PluginManager()
    return Hatchling(str(root), ProjectMetadata(str(root), plugins), plugins, safe_application())


def safe_application() -> Any:
    """Return hatchling's default application, which prints messages for the user."""
    from hatchling.bridge.app import Application

    return Application().get_safe_application()


def readable_project(hatchling: Hatchling) -> Project:
    """Return a Project with metadata only, without functions that build artifacts."""
    root, metadata = Path(hatchling.root), hatchling.metadata

    def included() -> list[Path]:
        if metadata.build.build_backend != HATCHLING:
            return []  # unknown for other backends; their sdist contains the files that git does not ignore
        with contextlib.suppress(ValueError):  # the wheel's build reports the error
            return list(selected_files(hatchling, sdist=False))
        return []

    def read(root: Path, environ: Mapping[str, str], outputs: Sequence[str], warn: Callable[[str], None]) -> Metadata:
        hooks = tuple(hatchling.wheel_builder().config.hook_config)
        system = metadata.build.requires, metadata.build.build_backend or HATCHLING
        core = _core_metadata(metadata)
        return read_metadata(core, metadata.config, system, hooks, root, environ, outputs, warn, included)

    return Project(
        root, name=lambda: str(metadata.name), programs=lambda: tuple(sorted(metadata.core.scripts)),
        tables=metadata.config, output=hatchling.output, read=read, app=hatchling.app,
    )  # fmt: skip


def _core_metadata(metadata: ProjectMetadata[Any]) -> CoreMetadata:
    """Return the core metadata that hatchling computes for a project; hatchling's errors pass through."""
    core = metadata.core
    licence = str(core.license_expression)
    if not licence and (core.license or core.classifiers):  # the older fields, if they name exactly one licence
        from hatch_docker.project.licences import licence_of

        licence = licence_of({"license": [core.license], "classifier": core.classifiers}).expression
    return CoreMetadata(
        core.name, metadata.version, core.description, core.requires_python, licence,
        (*core.authors_data.get("name", ()), *core.authors_data.get("email", ())), dict(core.urls),
        script_names(core.scripts), tuple(core.dependencies),
        {name: tuple(values) for name, values in core.optional_dependencies.items()},
    )


def hatchling_project(hatchling: Hatchling, directory: Path) -> Project:
    """Return a Project whose wheel and sdist hatchling builds in this process, in `directory`."""

    def wheel() -> Path:
        builder = hatchling.wheel_builder()
        _check_hook_outputs(builder.config.hook_config, Path(hatchling.root))
        path = _build(builder, directory)
        _check_not_empty(path, hatchling.metadata.core)
        return path

    def requires() -> tuple[str, ...]:
        config = hatchling.wheel_builder().config
        config.dynamic_dependencies = []  # hooks compute these, and hooks must not run on this machine
        return tuple(dict.fromkeys([*hatchling.metadata.build.requires, *config.dependencies]))

    return replace(
        readable_project(hatchling), wheel=functools.cache(wheel), requires=requires,
        sdist=functools.cache(lambda: existing_file(_build(hatchling.sdist_builder(), directory))),
        wheel_with=functools.partial(_wheel_with, Path(hatchling.root), directory),
        sources=functools.partial(_sources, hatchling),
    )  # fmt: skip


def _sources(hatchling: Hatchling, isolated: bool) -> Sources | None:
    """Return the files that hatchling may read for a project's artifacts; None if a hook or plugin may read others.

    `isolated`: the wheel is built in the builder stage, where its hooks can read the sdist's files only.
    """
    from hatchling.builders.constants import EXCLUDED_DIRECTORIES

    metadata, root = hatchling.metadata, Path(hatchling.root)
    wheel, sdist = hatchling.wheel_builder().config, hatchling.sdist_builder().config
    version = metadata.hatch.version.source_name if "version" in metadata.dynamic else "env"
    hooks = {*(() if isolated else wheel.hook_config), *(sdist.hook_config if isolated else ())} - {OUR_HOOK}
    metadata_hooks = metadata.hatch.metadata.hook_config
    if hooks or metadata_hooks.keys() - {OUR_HOOK} or version not in ("env", "regex"):
        return None

    globs = "license-files" in metadata.core.config  # these patterns also match in excluded directories

    def excludes(config: Any, path: str) -> bool:
        spec = config.exclude_spec
        again = config.artifact_spec is not None or any(pattern.include is False for pattern in spec.patterns)
        return not (again or globs) and bool(config.path_is_excluded(f"{path}/"))

    def is_skipped(path: str) -> bool:
        name = path.rpartition("/")[2]
        return name in EXCLUDED_DIRECTORIES or (excludes(wheel, path) and excludes(sdist, path))

    core = metadata.core
    named = [core.readme_path, *core.license_files, _licence_file(core)]
    named += [metadata.hatch.config.get("version", {}).get("path", "")]
    named += getattr(wheel, "sbom_files", [])
    maps = [wheel.shared_data, wheel.shared_scripts, wheel.extra_metadata]
    maps += [table for config in (wheel, sdist) for table in (config.get_force_include(), config.only_include)]
    if OUR_HOOK in metadata_hooks:
        files = required_files(root, metadata_hooks[OUR_HOOK])
        named += [str(path) for file in files for path in included_files(file)]
    others = {*(path for table in maps for path in table), *(str(root / name) for name in named if name)}
    return Sources(root, is_skipped, tuple(map(Path, sorted(others))))


def runs_code(root: Path, tables: Mapping[str, Any]) -> bool:
    """Return whether hatchling runs code of the project or of plugins to read its metadata or to build its sdist.

    `tables`: the parsed pyproject.toml. hatchling is not imported; a table of a wrong type counts as empty.
    """
    hatch = table_at(tables, "tool", "hatch")
    if (root / "hatch.toml").is_file():
        hatch = {**hatch, **read_toml(root / "hatch.toml")}
    return bool(
        table_at(hatch, "version").get("source", "regex") not in ("regex", "env")
        or table_at(hatch, "metadata", "hooks").keys() - {OUR_HOOK}
        or table_at(hatch, "build", "targets", "sdist", "hooks").keys() - {OUR_HOOK, "version"}
        or table_at(tables, "build-system").get("backend-path")
    )


def _licence_file(core: Any) -> str:
    """Return the path in `license = {file = ...}`, "" for none; the metadata contain this file's text."""
    return str(table_at(core.config, "license").get("file", ""))


def selected_files(hatchling: Hatchling, *, sdist: bool) -> Iterator[Path]:
    """Yield the files that hatchling reads for a project's wheel and, with `sdist`, for its sdist too."""
    for builder in [hatchling.wheel_builder(), *([hatchling.sdist_builder()] if sdist else [])]:
        yield from (path for file in builder.recurse_included_files() if not is_output(path := Path(file.path)))
    core = hatchling.metadata.core
    version = hatchling.metadata.hatch.config.get("version", {})
    named = [core.readme_path, *core.license_files, _licence_file(core), version.get("path", "")]
    yield from (Path(hatchling.root, name) for name in named if name)


def wheel_files(root: Path) -> dict[str, Path] | None:
    """Return the files of the wheel: path in it to path in the project; None if there are none, or if code must run."""
    from hatchling.builders.wheel import WheelBuilder

    if runs_code(root, read_pyproject(root)):
        return None
    try:
        files = WheelBuilder(str(root)).recurse_included_files()
        return {file.distribution_path: Path(file.relative_path) for file in files}
    except ValueError:  # "Unable to determine which files to ship"
        return None


def _wheel_with(root: Path, directory: Path, installed: Path, environ: Mapping[str, str]) -> Path:
    """Build the wheel with the hatchling in `installed` (it writes its version into the wheel); raises BuildError."""
    path = [str(installed), str(Path(__file__).parent.parent.parent), environ.get("PYTHONPATH", "")]
    env = {**environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    directory = directory / "pinned"
    directory.mkdir(exist_ok=True)
    try:
        program = [sys.executable, "-P", "-m", "hatch_docker.project.build_wheel", str(root), str(directory)]
        output = run(program, env=env, cwd=root)
    except ProcessFailed as error:
        raise BuildError(
            f"the project's wheel cannot be made by the build requirements that are locked:\n{error.output}"
        ) from error
    return directory / output.splitlines()[-1]


def _build(builder: BuilderInterface[Any, Any], directory: Path) -> Path:
    """Build an artifact in `directory` and return its path; raises ConfigError for files that it must not contain."""
    from hatch_docker.core.secrets import forbidden_target

    files, explicit, root = builder.recurse_included_files, builder.recurse_explicit_files, Path(builder.root)
    core, secrets = builder.metadata.core, list[str]()
    top = top_directory(root)
    for name in (core.readme_path, *core.license_files, _licence_file(core)):
        if name and (why := forbidden_target(str(root / name), root, top)):
            raise ConfigError(f"{name} of the project leads to {why}; correct [project] in pyproject.toml")

    def included() -> Iterator[IncludedFile]:
        return (_checked_file(file, root, top) for file in files() if not _is_excluded(builder, file, secrets))

    builder.recurse_included_files = included  # type: ignore[method-assign]
    if builder.PLUGIN_NAME == "wheel":  # for shared-data, shared-scripts and similar options
        builder.recurse_explicit_files = (  # type: ignore[method-assign]
            lambda inclusion_map: (_checked_file(file, root, top) for file in explicit(inclusion_map))
        )
    with _temporary_files_in(directory):
        (artifact,) = builder.build(
            directory=str(directory), versions=["standard"], hooks_only=False, clean=False, clean_hooks_after=False
        )
    if secrets:
        names = ", ".join([*secrets[:5], *(["..."] if secrets[5:] else [])])
        why = "files with such names often contain secrets; force-include of the sdist adds one"
        builder.app.display_info(sanitize(f"excluded from the sdist: {names} ({why})"))
    return Path(artifact)


def _is_excluded(builder: BuilderInterface[Any, Any], file: IncludedFile, secrets: list[str]) -> bool:
    """Return whether to leave a file out of an artifact; append its path to `secrets` if it may contain secrets."""
    from hatch_docker.core.secrets import secret_part

    # The image lock is left out: otherwise a new lock would change the sdist, and everything would be compiled again.
    if file.relative_path == IMAGE_LOCK:
        return True
    forced = builder.config.get_force_include()
    if builder.PLUGIN_NAME != "sdist" or any(Path(file.path).is_relative_to(source) for source in forced):
        return False
    # The sdist may be sent to a builder on another machine, which must not get the user's secrets.
    if secret_part(file.relative_path):
        secrets.append(file.relative_path)
        return True
    # Caches and images are large, and change with each build.
    directories = [place for place in Path(file.path).parents if place.is_relative_to(builder.root)]
    return is_output(Path(file.path)) or any(is_cache(place) for place in directories if place != Path(builder.root))


def _check_hook_outputs(hooks: Mapping[str, Any], root: Path) -> None:
    """Raise ConfigError if a build hook would write its file outside of the project or into `.git`."""
    top = root.resolve()
    for hook, option in HOOK_OUTPUTS.items():
        name = table_at(hooks, hook).get(option)
        path = (root / name).resolve() if isinstance(name, str) else top
        if not path.is_relative_to(top) or ".git" in path.relative_to(top).parts:
            raise ConfigError(
                f"pyproject.toml: {option} of the build hook {hook} is {name}, which is not a file of the project; "
                "name one"
            )


@contextlib.contextmanager
def _temporary_files_in(directory: Path) -> Iterator[None]:
    """Set `tempfile.tempdir` to a directory: hatchling leaves an incomplete wheel there if it is stopped or fails."""
    with _tempdir_lock:
        before, tempfile.tempdir = tempfile.tempdir, str(directory)
        try:
            yield
        finally:
            tempfile.tempdir = before


def _check_not_empty(wheel: Path, core: Any) -> None:
    """Raise ConfigError if a wheel with scripts contains no code: hatchling does not report a missing package."""
    import zipfile

    if not core.scripts or core.dependencies or core.optional_dependencies:
        return
    with zipfile.ZipFile(wheel) as archive:
        if all(".dist-info/" in name for name in archive.namelist()):
            raise ConfigError(
                f"the project's wheel {wheel.name} contains no file of the project, so project.scripts has nothing to "
                "call; correct `packages` or `include` in [tool.hatch.build.targets.wheel]"
            )


def _checked_file(file: IncludedFile, root: Path, top: Path) -> IncludedFile:
    """Return a file that an artifact may contain; raises ConfigError, also for a pipe, which would block hatchling."""
    from hatch_docker.core.secrets import forbidden_target

    name = file.relative_path or file.path
    try:
        mode = Path(file.path).stat().st_mode
    except OSError as error:
        raise ConfigError(f"cannot read {name} of the project: {error.strerror}; {_EXCLUDE}") from error
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{name} of the project is not a regular file; {_EXCLUDE}")
    if why := forbidden_target(file.path, root, top):
        raise ConfigError(f"{name} of the project leads to {why}; {_EXCLUDE}")
    if not os.access(file.path, os.R_OK):
        raise ConfigError(f"cannot read {name} of the project: Permission denied; {_EXCLUDE}")
    if os.fsencode(file.path) != file.path.encode(errors="replace"):
        raise ConfigError(f"the name of {name!r} of the project is not UTF-8; rename it")
    return file
