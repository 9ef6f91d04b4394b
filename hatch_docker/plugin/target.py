"""The hatch target `docker`. Its versions are verbs: `image` (default), `push`, `dockerfile` and `plan`."""

from __future__ import annotations

import functools
import gc
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.plugin.interface import BuilderInterface
from hatchling.plugin.manager import PluginManager
from hatchling.utils.fs import locate_file

from hatch_docker.build.api import about_image, guarded, made_already, make_image, open_plans
from hatch_docker.core.files import scratch

if TYPE_CHECKING:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    from hatch_docker.project.metadata import Source


def _one_stream() -> bool:
    """Whether who reads standard output reads standard error with it: on a terminal, or in a log of both."""
    try:
        return os.path.samestat(*(os.fstat(stream.fileno()) for stream in (sys.stdout, sys.stderr)))
    except (OSError, ValueError, AttributeError):  # closed, replaced, or never there
        return False


class DockerBuilder(BuilderInterface[BuilderConfig, PluginManager]):
    """Builds the image of a project; configured by [tool.hatch-docker]."""

    PLUGIN_NAME = "docker"
    alone = False                         # whether no hatchling tells what was made
    programs: tuple[str, ...] = ()        # scripts that are no entry points, where another backend was asked for them

    def get_version_api(self) -> dict[str, Callable[..., str]]:
        """The verbs, by the name that follows the colon in `hatch build -t docker:VERB`."""
        return {
            "image": self.build_image, "push": self.build_push, "dockerfile": self.build_dockerfile,
            "plan": self.build_plan,
        }  # fmt: skip

    def get_default_versions(self) -> list[str]:
        """What `hatch build -t docker` does."""
        return ["image"]

    def get_build_hooks(self, directory: str) -> dict[str, BuildHookInterface[Any]]:  # noqa: ARG002
        """None: hooks that compile belong to the wheel, which the builder stage makes."""
        return {}

    def build(self, **options: Any) -> Generator[str, None, None]:
        """As hatchling's, but an unknown verb, or metadata that are wrong, is one line instead of a traceback."""
        gc.freeze()  # what is loaded by now stays: looking through it again and again takes an eighth of a short build
        gc.set_threshold(20_000, 20, 20)
        if not (Path(self.root) / "pyproject.toml").is_file() and self.metadata.has_project_file():
            # hatchling reads the one above, and takes this directory for the project's all the same
            project = Path(locate_file(self.root, "pyproject.toml") or "").parent
            self.app.abort(f"there is no pyproject.toml in {self.root}: go to the project's directory, {project}")
        unknown = sorted(set(options.get("versions") or ()) - set(self.get_version_api()))
        if unknown:
            known = ", ".join(f"docker:{verb}" for verb in self.get_version_api())
            self.app.abort(f"unknown target docker:{unknown[0]}; known: {known}")
        if guarded(self.app, self._is_library):
            self.app.display_info(
                f"no image: {self.metadata.name} is a part of a workspace, without a script and [tool.hatch-docker]"
            )
            return
        artifacts = super().build(**options)
        while artifact := guarded(self.app, lambda: next(artifacts, None)):
            for one in artifact.split("\n"):  # one an image
                # hatchling tells people, on standard error; a pipeline reads the last lines of standard output.
                if self.alone or self.app.verbosity < 0 or not _one_stream():
                    guarded(self.app, functools.partial(self.app.display, self._shown(one)))
                yield one

    def _is_library(self) -> bool:
        """Whether `hatch build --all` came by a project that is there for others: nobody asks for its image."""
        if "hatch-docker" in self.metadata.config.get("tool", {}) or self.metadata.core.scripts:
            return False
        from hatch_docker.project.workspace import is_member

        return is_member(Path(self.root))

    def _shown(self, artifact: str) -> str:
        """What standard output gets to read of an artifact; who wants quiet wants an image's name by digest alone."""
        for receipt in made_already(self).values():
            if self.app.verbosity < 0 and receipt.pushed and Path(artifact).name == receipt.archive:
                return "\n".join(receipt.pushed)
        return os.path.relpath(artifact) if Path(artifact).is_relative_to(self.root) else artifact

    def clean(self, directory: str, versions: list[str]) -> None:  # noqa: ARG002
        """Remove what earlier builds of this project wrote (`hatch build -c`)."""
        name = re.escape(self.normalize_file_name_component(self.metadata.core.name))
        stem = rf"{name}-[^-]+?(\.[a-z0-9_-]+)?"
        endings = r"oci\.tar|(image|plan|provenance)\.json|(linux-[a-z0-9-]+\.)?(cdx|spdx)\.json|Dockerfile|context"
        ours = re.compile(rf"{stem}\.({endings})|\.{name}-[^-]+(\.linux-[a-z0-9-]+)?[^-]*\.tmp")
        for path in Path(directory).iterdir():
            if ours.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def build_image(self, directory: str, **_build_data: Any) -> str:
        """`docker:image`: write archive and receipt of each image, load them; returns the archives, a line each."""
        return "\n".join(map(str, guarded(self.app, lambda: self._images(Path(directory)))))

    def build_push(self, directory: str, **_build_data: Any) -> str:
        """`docker:push`: build and push, with a receipt and no archive; returns the image's names by digest."""
        return "\n".join(guarded(self.app, lambda: self._push(Path(directory))))

    def build_plan(self, directory: str, **_build_data: Any) -> str:
        """`docker:plan`: write everything that decides the image as JSON; builds nothing."""
        return "\n".join(map(str, guarded(self.app, lambda: self._plan_files(Path(directory)))))

    def build_dockerfile(self, directory: str, **_build_data: Any) -> str:
        """`docker:dockerfile`: write the Dockerfile and its context; builds nothing."""
        return "\n".join(map(str, guarded(self.app, lambda: self._dockerfiles(Path(directory)))))

    def source(self, directory: Path) -> Source:
        """What makes the project's sdist and wheel, in `directory`."""
        from hatch_docker.project.metadata import open_source

        return open_source(self, directory)

    def _images(self, directory: Path) -> list[Path]:
        made = dict(made_already(self))
        if made and all(receipt.archive for receipt in made.values()):
            # by the build hook, in `hatch build -t wheel -t docker`
            return [directory / receipt.archive for receipt in made.values()]
        plans, ctx = open_plans(self, os.environ)
        with scratch() as temporary:
            source = self.source(temporary)
            for plan in plans:
                if plan.part in made and made[plan.part].deliveries:
                    plan = replace(plan, push=True)  # docker:push,image: nothing to send, and the receipt says so
                made[plan.part] = make_image(self, plan, source, directory, ctx)
        return [directory / made[plan.part].archive for plan in plans]

    def _push(self, directory: Path) -> list[str]:
        made = dict(made_already(self))
        if not made or not all(receipt.deliveries for receipt in made.values()):
            plans, ctx = open_plans(self, os.environ, push=True)
            with scratch() as temporary:
                source = self.source(temporary)
                for plan in plans:
                    plan = replace(plan, archive=plan.part in made)  # what is there already stays in the receipt
                    made[plan.part] = make_image(self, plan, source, directory, ctx)
        # Else by `push = true`, in `hatch build -t docker:image,push`.
        return [name for receipt in made.values() for name in receipt.pushed]

    def _dockerfiles(self, directory: Path) -> list[Path]:
        from hatch_docker.build.members import with_members
        from hatch_docker.engines.buildkit.eject import write_dockerfile

        plans, ctx = open_plans(self, os.environ)
        with (
            scratch() as temporary,
            with_members(self.source(temporary), plans, self.metadata.config, ctx) as source,
        ):
            paths = []
            for plan in plans:
                with about_image(plan.part):
                    paths.append(write_dockerfile(plan, source, directory, ctx))
            return paths

    def _plan_files(self, directory: Path) -> list[Path]:
        from hatch_docker.core.files import replacing
        from hatch_docker.core.http.urls import shown
        from hatch_docker.plan.model import plan_json

        paths = []
        for plan in open_plans(self, os.environ)[0]:
            # Logins of mirrors are in the user's environment, and have no place in a file that is passed on.
            base = replace(plan.base, mirror=shown(plan.base.mirror), security_mirror=shown(plan.base.security_mirror))
            plan = replace(plan, base=base)
            paths.append(directory / f"{plan.stem}.plan.json")
            with replacing(paths[-1]) as stream:
                stream.write(json.dumps(plan_json(plan), indent=2, ensure_ascii=False).encode() + b"\n")
        return paths
