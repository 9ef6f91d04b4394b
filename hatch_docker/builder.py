"""The hatch target `docker`. Its versions are verbs: `image` (default), `push`, `dockerfile` and `plan`."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.plugin.interface import BuilderInterface
from hatchling.plugin.manager import PluginManager

from hatch_docker.doors import guarded, made_already, make_image, open_plan

if TYPE_CHECKING:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    from hatch_docker.project import Source


class DockerBuilder(BuilderInterface[BuilderConfig, PluginManager]):
    """Builds the image of a project; configured by [tool.hatch-docker]."""

    PLUGIN_NAME = "docker"

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
        unknown = sorted(set(options.get("versions") or ()) - set(self.get_version_api()))
        if unknown:
            known = ", ".join(f"docker:{verb}" for verb in self.get_version_api())
            self.app.abort(f"unknown target docker:{unknown[0]}; known: {known}")
        artifacts = super().build(**options)
        while artifact := guarded(self.app, lambda: next(artifacts, None)):
            # hatchling tells people, on standard error; a pipeline reads the last line of standard output.
            if self.app.verbosity < 0 or not sys.stdout.isatty():
                self.app.display(self._shown(artifact))
            yield artifact

    def _shown(self, artifact: str) -> str:
        """What standard output gets to read of an artifact; who wants quiet wants an image's name by digest alone."""
        receipt = made_already(self)
        if self.app.verbosity < 0 and receipt and receipt.pushed and Path(artifact).name == receipt.archive:
            return "\n".join(receipt.pushed)
        return os.path.relpath(artifact) if Path(artifact).is_relative_to(self.root) else artifact

    def clean(self, directory: str, versions: list[str]) -> None:  # noqa: ARG002
        """Remove what earlier builds of this project wrote (`hatch build -c`)."""
        name = re.escape(self.normalize_file_name_component(self.metadata.core.name))
        ours = re.compile(rf"{name}-[^-]+\.(oci\.tar|image\.json|plan\.json|Dockerfile|context)|\.{name}-[^-]+\.tmp")
        for path in Path(directory).iterdir():
            if ours.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def build_image(self, directory: str, **_build_data: Any) -> str:
        """`docker:image`: write the archive and the receipt, load the image; returns the archive's path."""
        return str(guarded(self.app, lambda: self._image(Path(directory))))

    def build_push(self, directory: str, **_build_data: Any) -> str:
        """`docker:push`: build and push, with a receipt and no archive; returns the image's names by digest."""
        return "\n".join(guarded(self.app, lambda: self._push(Path(directory))))

    def build_plan(self, directory: str, **_build_data: Any) -> str:
        """`docker:plan`: write everything that decides the image as JSON; builds nothing."""
        return str(guarded(self.app, lambda: self._plan_file(Path(directory))))

    def build_dockerfile(self, directory: str, **_build_data: Any) -> str:
        """`docker:dockerfile`: write the Dockerfile and its context; builds nothing."""
        return str(guarded(self.app, lambda: self._dockerfile(Path(directory))))

    def source(self, directory: Path) -> Source:
        """What makes the project's sdist and wheel, in `directory`."""
        from hatch_docker.project import open_source

        return open_source(self, directory)

    def _image(self, directory: Path) -> Path:
        receipt = made_already(self)
        if receipt and receipt.archive:
            return directory / receipt.archive  # by the build hook, in `hatch build -t wheel -t docker`
        plan, ctx = open_plan(self, os.environ)
        if receipt and receipt.deliveries:
            plan = replace(plan, push=True)  # docker:push,image: there is nothing to send, and the receipt says so
        with tempfile.TemporaryDirectory(prefix="hatch-docker-") as temporary:
            receipt = make_image(self, plan, self.source(Path(temporary)), directory, ctx)
        return directory / receipt.archive

    def _push(self, directory: Path) -> tuple[str, ...]:
        made = made_already(self)
        if made and made.deliveries:
            return made.pushed  # `push = true`, in `hatch build -t docker:image,push`
        plan, ctx = open_plan(self, os.environ, push=True)
        plan = replace(plan, archive=bool(made))  # what is there already stays in the receipt
        with tempfile.TemporaryDirectory(prefix="hatch-docker-") as temporary:
            return make_image(self, plan, self.source(Path(temporary)), directory, ctx).pushed

    def _dockerfile(self, directory: Path) -> Path:
        from hatch_docker.engines.eject import write_dockerfile
        plan, ctx = open_plan(self, os.environ)
        with tempfile.TemporaryDirectory(prefix="hatch-docker-") as temporary:
            return write_dockerfile(plan, self.source(Path(temporary)), directory, ctx)

    def _plan_file(self, directory: Path) -> Path:
        from hatch_docker.outputs import replacing
        from hatch_docker.plan import plan_json
        from hatch_docker.urls import shown

        plan, _ctx = open_plan(self, os.environ)
        # Logins of mirrors are in the user's environment, and have no place in a file that is passed on.
        base = replace(plan.base, mirror=shown(plan.base.mirror), security_mirror=shown(plan.base.security_mirror))
        plan = replace(plan, base=base)
        path = directory / f"{plan.name}-{plan.version}.plan.json"
        with replacing(path) as stream:
            stream.write(json.dumps(plan_json(plan), indent=2, ensure_ascii=False).encode() + b"\n")
        return path
