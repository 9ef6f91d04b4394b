"""The build hook `docker`: after a wheel is built, it makes the image of that very wheel.

hatchling calls `finalize` for every build of a wheel: by hatch, build and uv, whose wheel the user keeps, but also by
pip and others, which build one in a temporary directory to install it or to read its metadata.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

from hatch_docker.build.api import make_images
from hatch_docker.build.failures import run_or_abort
from hatch_docker.build.plans import open_plans
from hatch_docker.core.cache.store import file_digest, without_cache
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.files import is_cache
from hatch_docker.plugin.target import receipts_of
from hatch_docker.project.hatch import Hatchling, readable_project

GUARD = "HATCH_DOCKER_BUILDER_STAGE"
# Options of every hook, which hatchling reads.
OPTIONS = frozenset({"dependencies", "enable-by-default", "require-runtime-dependencies", "require-runtime-features"})


class DockerBuildHook(BuildHookInterface[BuilderConfig]):
    """Makes the image of a wheel; configured by [tool.hatch-docker]."""

    PLUGIN_NAME = "docker"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Make the image beside the wheel, if the user keeps the wheel."""
        if self.target_name != "wheel":
            return
        wheel = Path(artifact_path).absolute()
        if reason := why_not(version, wheel.parent, os.environ):
            self.app.display_info(f"no image: {reason}")
            return
        root = project_root(Path(self.root), wheel.parent)
        for archive in run_or_abort(self.app, lambda: self._images(wheel, root)):
            self.app.display_info(str(archive.relative_to(root) if archive.is_relative_to(root) else archive))

    def _images(self, wheel: Path, root: Path) -> list[Path]:
        if unknown := sorted(set(self.config) - OPTIONS):
            raise ConfigError(
                f"tool.hatch.build.targets.wheel.hooks.docker.{unknown[0]}: unknown option of the hook; "
                "the options of the image are in [tool.hatch-docker]"
            )
        builder = self.build_config.builder
        made, digest = receipts_of(builder.metadata), file_digest(wheel).removeprefix("sha256:")
        if made and all(receipt.wheel and receipt.wheel.sha256 == digest for receipt in made.values()):
            # by the target, in `hatch build -t docker -t wheel`
            return [wheel.parent / receipt.archive for receipt in made.values() if receipt.archive]
        hatchling = Hatchling(builder.root, builder.metadata, builder.plugin_manager, builder.app)
        # That very wheel is used, and never another one made of the sdist.
        project = replace(readable_project(hatchling), root=root, wheel=lambda: wheel, wheels=(wheel,))
        with without_cache(os.environ) as environ:
            plans, ctx = open_plans(project, environ)
            lock = plans[0].lock
            if (root / "PKG-INFO").is_file() and lock.kind == "resolve" and lock.requirements:
                ctx.progress.warn(
                    f"{root.name} is an unpacked sdist without a lock: its dependencies are resolved anew"
                )
            return make_images(project, plans, wheel.parent, ctx, made)


def why_not(version: str, directory: Path, environ: Mapping[str, str]) -> str:
    """Return why no image is made of a wheel in `directory`, "" where one is."""
    if environ.get(GUARD):
        return "this is the builder stage"
    if version != "standard":
        return f"the wheel is {version}, for this machine only"
    if environ.get("PIP_BUILD_TRACKER"):
        return "pip builds to install, in a temporary directory; use `hatch build`, `python -m build` or `uv build`"
    if is_temporary(directory):
        return f"{directory} is a temporary directory; name one that stays"
    return ""


def is_temporary(directory: Path) -> bool:
    """Return whether a tool made a directory for itself: in its cache, or by Python's `tempfile`.

    A directory below a project belongs to that project, even if the project itself is in such a place.
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    for place in (directory.resolve(), *directory.resolve().parents):
        if (place / "pyproject.toml").is_file():
            return False
        if is_cache(place):
            return True
        # mkdtemp's: eight random characters end its name, and only its owner may enter.
        if place.parent == temporary and re.search(r"[a-z0-9_]{8}$", place.name):
            return place.stat().st_mode & 0o077 == 0
    return False


def project_root(root: Path, directory: Path) -> Path:
    """Return the directory of the project's locks, files and revision, for a wheel that was built into `directory`.

    This is `root`, unless that is an unpacked sdist (`python -m build` and `uv build` make one on the way to a wheel)
    and the wheel lies below a directory with the same pyproject.toml: an sdist may lack a lock, and has no commit.
    """
    if not (root / "PKG-INFO").is_file():
        return root
    mine = (root / "pyproject.toml").read_bytes()
    for place in (directory.resolve(), *directory.resolve().parents):
        candidate = place / "pyproject.toml"
        if candidate.is_file():
            return place if candidate.read_bytes() == mine else root
    return root
