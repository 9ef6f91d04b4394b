"""The build hook `docker`: after a wheel is built, the image is made from that very wheel.

hatchling calls `finalize` for whoever wants a wheel: hatch, build and uv, whose wheel the user keeps, but also
pip and others that build one in a temporary directory, to install it or to read its metadata.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

from hatch_docker.build.api import guarded, made_already, make_image, open_plans

GUARD = "HATCH_DOCKER_BUILDER_STAGE"
# What hatchling reads of every hook's table.
OPTIONS = frozenset({
    "dependencies", "enable-by-default", "require-runtime-dependencies", "require-runtime-features",
})  # fmt: skip


class DockerBuildHook(BuildHookInterface[BuilderConfig]):
    """Makes the image of a wheel; configured by [tool.hatch-docker]."""

    PLUGIN_NAME = "docker"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Make the image beside the wheel, where the wheel is one that the user keeps."""
        if self.target_name != "wheel":
            return
        wheel = Path(artifact_path).absolute()
        if reason := why_not(version, wheel.parent, os.environ):
            self.app.display_info(f"no image: {reason}")
            return
        root = project_root(Path(self.root), wheel.parent)
        for archive in guarded(self.app, lambda: self._images(wheel, root)):
            self.app.display_info(str(archive.relative_to(root) if archive.is_relative_to(root) else archive))

    def _images(self, wheel: Path, root: Path) -> list[Path]:
        from hatch_docker.core.cache.store import file_digest
        from hatch_docker.core.errors import ConfigError
        from hatch_docker.project.metadata import given_source

        if unknown := sorted(set(self.config) - OPTIONS):
            raise ConfigError(
                f"tool.hatch.build.targets.wheel.hooks.docker.{unknown[0]}: no option of the hook; "
                "what decides the image is in [tool.hatch-docker]"
            )
        builder = self.build_config.builder
        done, digest = list(made_already(builder).values()), file_digest(wheel).removeprefix("sha256:")
        if done and all(receipt.wheel and receipt.wheel.sha256 == digest for receipt in done):
            # by the target, in `hatch build -t docker -t wheel`
            return [wheel.parent / receipt.archive for receipt in done]
        plans, ctx = open_plans(builder, os.environ, root=root, given=True)
        plan = plans[0]
        if (root / "PKG-INFO").is_file() and plan.lock.kind == "resolve" and plan.lock.requirements:
            ctx.progress.warn(f"{root.name} is an unpacked sdist without a lock: its dependencies are resolved anew")
        source = given_source(root, wheel)
        made = [make_image(builder, plan, source, wheel.parent, ctx) for plan in plans]
        return [wheel.parent / receipt.archive for receipt in made]


def why_not(version: str, directory: Path, environ: Mapping[str, str]) -> str:
    """Why no image shall be made of a wheel in `directory`; "" where one shall."""
    if environ.get(GUARD):
        return "this is the builder stage"
    if version != "standard":
        return f"the wheel is {version}, for this machine only"
    if environ.get("PIP_BUILD_TRACKER"):
        return "pip builds to install, in a temporary directory; use `hatch build`, `python -m build` or `uv build`"
    if passing(directory):
        return f"{directory} is a temporary directory; name one that stays"
    return ""


def passing(directory: Path) -> bool:
    """Whether a directory is one that a tool made for itself: in its cache, or by Python's `tempfile`.

    A directory below a project's is that project's, also where the project itself is in such a place.
    """
    from hatch_docker.core.files import is_cache

    temporary = Path(tempfile.gettempdir()).resolve()
    for place in (directory.resolve(), *directory.resolve().parents):
        if (place / "pyproject.toml").is_file():
            return False
        if is_cache(place) or (place.parent == temporary and _is_made_by_tempfile(place)):
            return True
    return False


def _is_made_by_tempfile(place: Path) -> bool:
    """Whether mkdtemp made it: eight characters of its own, and nobody else may look in."""
    return re.search(r"[a-z0-9_]{8}$", place.name) is not None and place.stat().st_mode & 0o077 == 0


def project_root(root: Path, directory: Path) -> Path:
    """Where the project's locks, files and revision are, when a wheel was built into `directory`.

    `root`, unless that is an unpacked sdist (`python -m build` and `uv build` make one on the way to a wheel) and
    the wheel lands below a directory with the very same pyproject.toml: an sdist may lack a lock, and has no commit.
    """
    if not (root / "PKG-INFO").is_file():
        return root
    mine = (root / "pyproject.toml").read_bytes()
    for place in (directory.resolve(), *directory.resolve().parents):
        candidate = place / "pyproject.toml"
        if candidate.is_file():
            return place if candidate.read_bytes() == mine else root
    return root
