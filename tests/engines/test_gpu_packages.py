"""The warning about packages for GPUs, before they are downloaded."""

from pathlib import Path

import pytest

from hatch_docker.bases.image import base_of
from hatch_docker.engines.gpu_packages import warn_of_gpu_packages
from hatch_docker.plan.model import BasePlan
from hatch_docker.wheels.target import Pin
from tests.fakes.bases import python_image
from tests.fakes.context import context
from tests.fakes.plans import plan as plan_of

SIZES = {"nvidia-cublas-cu12": 594_000_000, "nvidia-cudnn-cu12": 706_000_000, "torch": 900_000_000, "numpy": 16_000_000}


def pin(name: str, size: int) -> Pin:
    return Pin(name, "1.0", f"{name}-1.0-py3-none-any.whl", "", "0" * 64, size, None)


WARNING = (
    "1300.00 MB to download are for GPUs: 2 packages (nvidia-cudnn-cu12 1.0, nvidia-cublas-cu12 1.0). Without a GPU, "
    "take torch's CPU wheel from PyTorch's index ([tool.uv.sources], docs/gpu.md); with a GPU, set "
    "env.NVIDIA_VISIBLE_DEVICES"
)


@pytest.mark.parametrize(("names", "env", "expected"), [
    (SIZES, {}, WARNING), (SIZES, {"NVIDIA_VISIBLE_DEVICES": "all"}, ""), (["torch", "numpy"], {}, ""),
])  # fmt: skip
def test_gpu_packages_give_a_warning_unless_a_gpu_is_used(
    names: list[str], env: dict[str, str], expected: str, tmp_path: Path
) -> None:
    ctx = context(tmp_path, [])
    base = base_of(BasePlan("registry", "python:x", "python:x"), python_image(), ctx)
    warn_of_gpu_packages(plan_of({"env": env}), base, [pin(name, SIZES[name]) for name in names], ctx)
    assert ctx.progress.warnings == ([expected] if expected else [])
