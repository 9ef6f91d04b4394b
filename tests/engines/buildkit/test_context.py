"""The base for the stages if the builder's platform differs from the image's, and bases with ONBUILD."""

from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.bases.image import base_of
from hatch_docker.bases.model import Base
from hatch_docker.bases.open import open_base
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, BuildError
from hatch_docker.engines.buildkit.context import CopyStep, Job, stage_base, stages_of
from hatch_docker.engines.buildkit.dockerfile import Group
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.layout import write_layout
from hatch_docker.oci.model import Platform, canonical_json
from hatch_docker.plan.model import BasePlan, BuildPlan
from hatch_docker.wheels.builder.sdist import Sdist
from tests.fakes.bases import python_image
from tests.fakes.context import context
from tests.fakes.images import small_index

GZIP = Compression()
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
WHEELS = CopyStep(Group("packages", "dependencies", ("numpy 2.4.0",)))
COMPILED = CopyStep(
    Group("project", "project", ("app 1.0",)),
    job=Job(Sdist(lambda: Path("app-1.0.tar.gz"), "app-1.0.tar.gz", "", (), "", ()), BuildPlan(True), (), ()),
)


def arm64(directory: Path, version: str = "3.13.5") -> tuple[Base, Context]:
    """Return the arm64 variant of a base with Python `version`; its amd64 variant has Python 3.13.5."""
    write_layout(small_index(python_image(), python_image("arm64", version)), directory / "base")
    ctx = context(directory / "cache")
    plan = BasePlan("oci", "oci:base", str(directory / "base"))
    return open_base(plan, ARM64, ctx, compression=GZIP), ctx


@pytest.mark.parametrize(
    ("steps", "platforms", "expected"),
    [
        ([WHEELS], ["linux/amd64", "linux/386"], AMD64),
        ([WHEELS], ["linux/amd64", "linux/arm64"], AMD64),               # no emulation, even if it is available
        ([WHEELS], ["linux/arm64", "linux/arm/v7"], ARM64),
        ([WHEELS, COMPILED], ["linux/arm64"], ARM64),
        ([WHEELS, COMPILED], ["linux/amd64", "linux/arm64"], ARM64),     # emulated, because of the compiled project
    ],
)
def test_emulation_is_used_for_compiled_code_only(
    steps: list[CopyStep], platforms: list[str], expected: Platform, tmp_path: Path
) -> None:
    base, ctx = arm64(tmp_path)
    assert stage_base(base, steps, platforms, ctx, GZIP).platform == expected


def test_compiling_without_emulation_is_rejected(tmp_path: Path) -> None:
    base, ctx = arm64(tmp_path)
    message = r"app 1\.0 has to be compiled for linux/arm64, and the builder runs linux/amd64 only; "
    with pytest.raises(BuildError, match=message):
        stage_base(base, [WHEELS, COMPILED], ["linux/amd64"], ctx, GZIP)


def test_variants_of_a_base_with_different_pythons_are_rejected(tmp_path: Path) -> None:
    """Otherwise the environment would refer to the Python of the other variant."""
    base, ctx = arm64(tmp_path, "3.13.7")
    with pytest.raises(BuildError, match=r"has Python 3\.13\.7 for linux/arm64 and 3\.13\.5 for linux/amd64"):
        stage_base(base, [WHEELS], ["linux/amd64"], ctx, GZIP)


def test_base_with_onbuild_is_rejected(tmp_path: Path) -> None:
    """The builder would execute the ONBUILD instructions in each stage."""
    base = base_of(BasePlan("registry", "python:x", "python:x"), python_image(), context(tmp_path, []))
    assert stages_of(base, [], None, None).python == "/usr/local/bin/python3.13"
    config = {**base.image.config_json, "config": {"OnBuild": ["COPY requirements.txt /", "RUN pip install"]}}
    base = replace(base, image=replace(base.image, config=canonical_json(config)))
    with pytest.raises(BaseImageError, match=r"base python:x has ONBUILD instructions \(COPY requirements\.txt /\)"):
        stages_of(base, [], None, None)
