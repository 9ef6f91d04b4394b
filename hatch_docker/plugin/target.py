"""The hatch target `docker`. Its versions are actions: `image` (default), `push`, `dockerfile` and `plan`."""

from __future__ import annotations

import functools
import gc
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from hatchling.builders.config import BuilderConfig
from hatchling.builders.plugin.interface import BuilderInterface
from hatchling.plugin.manager import PluginManager
from hatchling.utils.fs import locate_file

from hatch_docker.build.failures import run_or_abort
from hatch_docker.build.unchanged import Command, recall, shown_path
from hatch_docker.core.cache.store import without_cache
from hatch_docker.core.files import temporary_directory

if TYPE_CHECKING:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    from hatch_docker.build.receipt import Receipt
    from hatch_docker.project.hatch import Hatchling
    from hatch_docker.project.model import Project

# The start of the build: hatchling imports this module before any target reads pyproject.toml or the readme.
_STARTED = time.time()
# The keys are hatchling's metadata objects; all targets of one `hatch build` share one.
_receipts: WeakKeyDictionary[Any, dict[str, Receipt]] = WeakKeyDictionary()
_recalled: WeakKeyDictionary[Any, Iterable[Mapping[str, Any]]] = WeakKeyDictionary()  # receipts as JSON values


def receipts_of(metadata: Any) -> dict[str, Receipt]:
    """Return the receipts of a project's images by the image's name; the caller adds the receipts of new images."""
    receipts = _receipts.setdefault(metadata, {})
    for value in _recalled.pop(metadata, ()):
        from hatch_docker.build.receipt import Receipt
        from hatch_docker.core.validation import read_record

        receipts[value["part"]] = read_record(Receipt, value)
    return receipts


def _remembered_command(
    root: str, *, directory: str | None = None, versions: list[str] | None = None, **others: object
) -> Command | None:
    """Return the command whose result is stored for unchanged builds: one action, `image` or `push`; else None.

    `others`: further options of hatchling, such as `clean`; with any of them the result is not stored.
    """
    if any(others.values()) or versions not in (None, [], ["image"], ["push"]):
        return None
    words = ("hatch", directory or "", *(versions or ()))
    return Command(Path(root), words, os.environ, versions == ["push"], _STARTED)


def _is_one_stream() -> bool:
    """Return whether standard output and standard error are the same file: a terminal, or a common log."""
    try:
        return os.path.samestat(*(os.fstat(stream.fileno()) for stream in (sys.stdout, sys.stderr)))
    except (OSError, ValueError, AttributeError):  # a stream is closed, replaced or None
        return False


class DockerBuilder(BuilderInterface[BuilderConfig, PluginManager]):
    """Target that builds the image of a project; configured by [tool.hatch-docker]."""

    PLUGIN_NAME = "docker"
    _command: Command | None = None  # None: the build's result is not stored

    def get_version_api(self) -> dict[str, Callable[..., str]]:
        """Return the functions of the actions, by the name after the colon in `hatch build -t docker:ACTION`.

        Each function returns its artifacts, one per line: archives, pushed references, Dockerfiles or plans.
        """
        from hatch_docker.build import api

        receipts = receipts_of(self.metadata)
        image = functools.partial(api.build_images, receipts=receipts, command=self._command)
        push = functools.partial(api.push_images, receipts=receipts, command=self._command)
        return {
            "image": functools.partial(self._run, image),
            "push": functools.partial(self._run, push),
            "dockerfile": functools.partial(self._run, api.write_dockerfiles),
            "plan": functools.partial(self._run, api.write_plans),
        }

    def get_default_versions(self) -> list[str]:
        """Return the action of `hatch build -t docker`."""
        return ["image"]

    def get_build_hooks(self, directory: str) -> dict[str, BuildHookInterface[Any]]:  # noqa: ARG002
        """Return no hooks: build hooks belong to the wheel, which is built in the builder stage."""
        return {}

    def build(self, **options: Any) -> Generator[str, None, None]:
        """Yield the lines of the artifacts; an unchanged build repeats the previous result.

        An unknown action and invalid metadata are reported in one line without a traceback.
        """
        gc.freeze()  # garbage collection of the loaded modules takes an eighth of the time of a short build
        gc.set_threshold(20_000, 20, 20)
        self._command = _remembered_command(self.root, **options)
        recalled = recall(self._command, self._write, self.app.verbosity) if self._command else None
        if recalled is not None:
            _recalled[self.metadata] = recalled.receipts
        for artifact in recalled.artifacts if recalled is not None else self._artifacts(**options):
            for line in artifact.split("\n"):  # one line for each image
                # hatchling prints artifacts on standard error; pipelines read the last lines of standard output.
                if self.app.verbosity < 0 or not _is_one_stream():
                    run_or_abort(self.app, functools.partial(self.app.display, self._displayed(line)))
                yield line

    def _artifacts(self, **options: Any) -> Iterator[str]:
        """Yield the artifacts of hatchling's `build`, after checks of the project and the options."""
        from hatch_docker.build import api
        from hatch_docker.project.hatch import output_directory, readable_project

        if not (Path(self.root) / "pyproject.toml").is_file() and self.metadata.has_project_file():
            # hatchling reads the pyproject.toml of a directory above, but uses this directory as the project's root
            project = Path(locate_file(self.root, "pyproject.toml") or "").parent
            self.app.abort(f"there is no pyproject.toml in {self.root}: go to the project's directory, {project}")
        if unknown := sorted(set(options.get("versions") or ()) - set(self.get_version_api())):
            known = ", ".join(f"docker:{action}" for action in self.get_version_api())
            self.app.abort(f"unknown target docker:{unknown[0]}; known: {known}")
        if line := run_or_abort(self.app, lambda: api.reason_for_no_image(readable_project(self._hatchling()))):
            self.app.display_info(line)
            return
        if not options.get("directory"):
            run_or_abort(self.app, lambda: output_directory(Path(self.root), self.config.directory))
        if not options.get("versions") and run_or_abort(self.app, lambda: self.config.versions) != ["image"]:
            self._command = None  # the configured versions contain other actions than `image`
        artifacts = super().build(**options)
        while artifact := run_or_abort(self.app, lambda: next(artifacts, None)):
            yield artifact

    def _write(self, line: str) -> None:
        from hatch_docker.core.terminal_lines import for_terminal

        self.app.display_warning(for_terminal(line, sys.stderr, os.environ))

    def _displayed(self, artifact: str) -> str:
        if self.app.verbosity >= 0 or not (self.metadata in _receipts or self.metadata in _recalled):
            return shown_path(artifact, Path(self.root))
        from hatch_docker.build import api

        return api.artifact_text(artifact, Path(self.root), receipts_of(self.metadata).values(), quiet=True)

    def clean(self, directory: str, versions: list[str]) -> None:  # noqa: ARG002
        """Remove the files of earlier builds of this project (`hatch build -c`)."""
        name = re.escape(self.normalize_file_name_component(self.metadata.core.name))
        stem = rf"{name}-[^-]+?(\.[a-z0-9_-]+)?"
        endings = r"oci\.tar|(image|plan|provenance)\.json|(linux-[a-z0-9-]+\.)?(cdx|spdx)\.json|Dockerfile|context"
        ours = re.compile(rf"{stem}\.({endings})|\.{name}-[^-]+(\.linux-[a-z0-9-]+)?[^-]*\.tmp")
        for path in Path(directory).iterdir():
            if ours.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _run(
        self, action: Callable[[Project, Path, Mapping[str, str]], Iterable[object]], directory: str, **_data: Any
    ) -> str:
        from hatch_docker.project.hatch import hatchling_project

        def run() -> str:
            with temporary_directory() as temporary, without_cache(os.environ) as environ:
                project = hatchling_project(self._hatchling(), temporary)
                return "\n".join(map(str, action(project, Path(directory), environ)))

        return run_or_abort(self.app, run)

    def _hatchling(self) -> Hatchling:
        from hatch_docker.project.hatch import Hatchling

        return Hatchling(self.root, self.metadata, self.plugin_manager, self.app)
