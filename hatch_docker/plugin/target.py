"""The hatch target `docker`. Its versions are verbs: `image` (default), `push`, `dockerfile` and `plan`."""

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

# hatchling imports this before the first of several targets reads what all of them share: pyproject.toml, the readme.
_STARTED = time.time()
# By hatchling's metadata object, which all targets of one `hatch build` share.
_receipts: WeakKeyDictionary[Any, dict[str, Receipt]] = WeakKeyDictionary()
_recalled: WeakKeyDictionary[Any, Iterable[Mapping[str, Any]]] = WeakKeyDictionary()  # receipts as JSON values


def receipts_of(metadata: Any) -> dict[str, Receipt]:
    """Return the receipts of a project's images, by the image's name; a target or hook that makes one adds it."""
    made = _receipts.setdefault(metadata, {})
    for value in _recalled.pop(metadata, ()):
        from hatch_docker.build.receipt import Receipt
        from hatch_docker.core.validation import read_record

        made[value["part"]] = read_record(Receipt, value)
    return made


def _remembered(
    root: str, *, directory: str | None = None, versions: list[str] | None = None, **others: object
) -> Command | None:
    """Return the command of a build that is remembered: of one verb, which makes an image; else None.

    One that removes what was there before is not.
    """
    if any(others.values()) or versions not in (None, [], ["image"], ["push"]):
        return None
    words = ("hatch", directory or "", *(versions or ()))
    return Command(Path(root), words, os.environ, versions == ["push"], _STARTED)


def _is_one_stream() -> bool:
    """Return whether standard output and standard error go to the same place: a terminal, or a log of both."""
    try:
        return os.path.samestat(*(os.fstat(stream.fileno()) for stream in (sys.stdout, sys.stderr)))
    except (OSError, ValueError, AttributeError):  # closed, replaced, or never there
        return False


class DockerBuilder(BuilderInterface[BuilderConfig, PluginManager]):
    """Builds the image of a project; configured by [tool.hatch-docker]."""

    PLUGIN_NAME = "docker"
    _command: Command | None = None  # that of a build that is remembered

    def get_version_api(self) -> dict[str, Callable[..., str]]:
        """Return the verbs, by the name that follows the colon in `hatch build -t docker:VERB`.

        Each returns its artifacts, a line each: archives, pushed names by digest, Dockerfiles or plans.
        """
        from hatch_docker.build import api

        made = receipts_of(self.metadata)
        image = functools.partial(api.build_images, made=made, command=self._command)
        return {
            "image": functools.partial(self._run, image),
            "push": functools.partial(self._run, functools.partial(api.push_images, made=made, command=self._command)),
            "dockerfile": functools.partial(self._run, api.write_dockerfiles),
            "plan": functools.partial(self._run, api.write_plans),
        }

    def get_default_versions(self) -> list[str]:
        """Return the verb of `hatch build -t docker`."""
        return ["image"]

    def get_build_hooks(self, directory: str) -> dict[str, BuildHookInterface[Any]]:  # noqa: ARG002
        """Return none: hooks that compile belong to the wheel, which the builder stage makes."""
        return {}

    def build(self, **options: Any) -> Generator[str, None, None]:
        """Build as hatchling does, unless nothing changed since the build before.

        An unknown verb and wrong metadata are reported in one line without a traceback.
        """
        gc.freeze()  # what is loaded now stays: to search it again and again takes an eighth of a short build
        gc.set_threshold(20_000, 20, 20)
        self._command = _remembered(self.root, **options)
        recalled = recall(self._command, self._write, self.app.verbosity) if self._command else None
        if recalled is not None:
            _recalled[self.metadata] = recalled.receipts
        for artifact in recalled.artifacts if recalled is not None else self._artifacts(**options):
            for line in artifact.split("\n"):  # a line an image
                # hatchling writes it on standard error, for people; a pipeline reads the last lines of standard output.
                if self.app.verbosity < 0 or not _is_one_stream():
                    run_or_abort(self.app, functools.partial(self.app.display, self._displayed(line)))
                yield line

    def _artifacts(self, **options: Any) -> Iterator[str]:
        """Yield what hatchling's own way of building makes."""
        from hatch_docker.build import api
        from hatch_docker.project.hatch import output_directory, readable_project

        if not (Path(self.root) / "pyproject.toml").is_file() and self.metadata.has_project_file():
            # hatchling reads the one above, and takes this directory for the project's all the same
            project = Path(locate_file(self.root, "pyproject.toml") or "").parent
            self.app.abort(f"there is no pyproject.toml in {self.root}: go to the project's directory, {project}")
        if unknown := sorted(set(options.get("versions") or ()) - set(self.get_version_api())):
            known = ", ".join(f"docker:{verb}" for verb in self.get_version_api())
            self.app.abort(f"unknown target docker:{unknown[0]}; known: {known}")
        if line := run_or_abort(self.app, lambda: api.why_no_image(readable_project(self._hatchling()))):
            self.app.display_info(line)
            return
        if not options.get("directory"):
            run_or_abort(self.app, lambda: output_directory(Path(self.root), self.config.directory))
        if not options.get("versions") and run_or_abort(self.app, lambda: self.config.versions) != ["image"]:
            self._command = None  # several verbs, each of which builds
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

        return api.displayed(artifact, Path(self.root), receipts_of(self.metadata).values(), quiet=True)

    def clean(self, directory: str, versions: list[str]) -> None:  # noqa: ARG002
        """Remove what earlier builds of this project wrote (`hatch build -c`)."""
        name = re.escape(self.normalize_file_name_component(self.metadata.core.name))
        stem = rf"{name}-[^-]+?(\.[a-z0-9_-]+)?"
        endings = r"oci\.tar|(image|plan|provenance)\.json|(linux-[a-z0-9-]+\.)?(cdx|spdx)\.json|Dockerfile|context"
        ours = re.compile(rf"{stem}\.({endings})|\.{name}-[^-]+(\.linux-[a-z0-9-]+)?[^-]*\.tmp")
        for path in Path(directory).iterdir():
            if ours.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _run(
        self, verb: Callable[[Project, Path, Mapping[str, str]], Iterable[object]], directory: str, **_build_data: Any
    ) -> str:
        from hatch_docker.project.hatch import hatchling_project

        def run() -> str:
            with temporary_directory() as temporary, without_cache(os.environ) as environ:
                project = hatchling_project(self._hatchling(), temporary)
                return "\n".join(map(str, verb(project, Path(directory), environ)))

        return run_or_abort(self.app, run)

    def _hatchling(self) -> Hatchling:
        from hatch_docker.project.hatch import Hatchling

        return Hatchling(self.root, self.metadata, self.plugin_manager, self.app)
