"""The build hook `docker`: it builds an image from each finished wheel that the user keeps.

hatchling calls `finalize` for each wheel: for `hatch build`, `python -m build` and `uv build`, whose wheel the user
keeps, but also for pip and others, which build a wheel in a temporary directory to install it or to read its metadata.
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
# Options of every hook; hatchling reads them.
OPTIONS = frozenset({"dependencies", "enable-by-default", "require-runtime-dependencies", "require-runtime-features"})


class DockerBuildHook(BuildHookInterface[BuilderConfig]):
    """Build hook that makes an image of the wheel; configured by [tool.hatch-docker]."""

    PLUGIN_NAME = "docker"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Build the image in the wheel's directory, unless the wheel is temporary."""
        if self.target_name != "wheel":
            return
        wheel = Path(artifact_path).absolute()
        if reason := reason_to_skip(version, wheel.parent, os.environ):
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
        receipts, digest = receipts_of(builder.metadata), file_digest(wheel).removeprefix("sha256:")
        if receipts and all(item.wheel and item.wheel.sha256 == digest for item in receipts.values()):
            # `hatch build -t docker -t wheel`: the target has built the image of this wheel already
            return [wheel.parent / item.archive for item in receipts.values() if item.archive]
        hatchling = Hatchling(builder.root, builder.metadata, builder.plugin_manager, builder.app)
        # The image contains this wheel, and not one built from the sdist.
        project = replace(readable_project(hatchling), root=root, wheel=lambda: wheel, wheels=(wheel,))
        with without_cache(os.environ) as environ:
            plans, ctx = open_plans(project, environ)
            lock = plans[0].lock
            if (root / "PKG-INFO").is_file() and lock.kind == "resolve" and lock.requirements:
                ctx.progress.warn(
                    f"{root.name} is an unpacked sdist without a lock: its dependencies are resolved anew"
                )
            return make_images(project, plans, wheel.parent, ctx, receipts)


def reason_to_skip(version: str, directory: Path, environ: Mapping[str, str]) -> str:
    """Return the reason why no image is built for a wheel in `directory`, "" if an image is built."""
    if environ.get(GUARD):
        return "this is the builder stage"
    if version != "standard":
        return f"the wheel is {version}, for this machine only"
    if environ.get("PIP_BUILD_TRACKER"):
        return "pip builds to install, in a temporary directory; use `hatch build`, `python -m build` or `uv build`"
    if is_temporary(directory):
        return f"{directory} is a temporary directory; set one that stays"
    return ""


def is_temporary(directory: Path) -> bool:
    """Return whether a tool created a directory for its own use: in its cache, or by Python's `tempfile`.

    A directory inside of a project is never temporary, even if the project is in a temporary directory.
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    for place in (directory.resolve(), *directory.resolve().parents):
        if (place / "pyproject.toml").is_file():
            return False
        if is_cache(place):
            return True
        # mkdtemp: the name ends with eight random characters, and only the owner has access.
        if place.parent == temporary and re.search(r"[a-z0-9_]{8}$", place.name):
            return place.stat().st_mode & 0o077 == 0
    return False


def project_root(root: Path, directory: Path) -> Path:
    """Return the directory with the project's locks, files and commit, for a wheel that was built into `directory`.

    This is `root`, unless `root` is an unpacked sdist (`python -m build` and `uv build` build the wheel from an sdist)
    and the wheel is below a directory with the same pyproject.toml: an sdist may lack a lock, and has no commit.
    """
    if not (root / "PKG-INFO").is_file():
        return root
    own = (root / "pyproject.toml").read_bytes()
    for place in (directory.resolve(), *directory.resolve().parents):
        candidate = place / "pyproject.toml"
        if candidate.is_file():
            return place if candidate.read_bytes() == own else root
    return root
