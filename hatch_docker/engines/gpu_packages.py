"""Packages for GPUs: their names, and a warning before they are downloaded for an image that uses no GPU."""

import re
from collections.abc import Collection, Sequence

from hatch_docker.bases.model import Base
from hatch_docker.core.context import Context
from hatch_docker.core.text import abbreviate, megabytes, plural
from hatch_docker.plan.model import Plan
from hatch_docker.wheels.target import Pin

LARGE = 100_000_000  # bytes: the smallest download with a warning
SHOWN = 2            # packages that the warning names
PAGE = "docs/gpu.md"
_CUDA = re.compile(r"nvidia-.+|(pytorch-)?triton|cuda-(bindings|toolkit|pathfinder)|jax-cuda\d+-.+")


def is_for_gpus(name: str, version: str) -> bool:
    """Return whether a package is useless without a GPU: a library of CUDA, or a CUDA build (`+cu...`) of a package."""
    return bool(_CUDA.fullmatch(name) or re.search(r"\+cu\d+", version))


def gpu_advice(names: Collection[str]) -> str:
    """Return the advice about packages for GPUs. `names`: all packages of the image."""
    packages = "CPU wheels of the packages that require them"
    wheel = "torch's CPU wheel from PyTorch's index" if "torch" in names else packages
    return f"Without a GPU, take {wheel} ([tool.uv.sources], {PAGE}); with a GPU, set env.NVIDIA_VISIBLE_DEVICES"


def uses_gpu(env: Collection[str]) -> bool:
    """Return whether an image's environment variables request a GPU from NVIDIA's container runtime."""
    return any(name.startswith("NVIDIA_") for name in env)


def warn_of_gpu_packages(plan: Plan, base: Base, pins: Sequence[Pin], ctx: Context) -> None:
    """Print a warning with the size of the packages for GPUs to download, if the image uses no GPU."""
    if uses_gpu([*plan.config.env, *base.image.env]):
        return
    found = [
        pin for pin in pins
        if is_for_gpus(pin.name, pin.version) and pin.is_wheel and not ctx.store.has(f"sha256:{pin.sha256}")
    ]  # fmt: skip
    size = sum(pin.size or 0 for pin in found)
    if size >= LARGE:
        titles = [pin.title for pin in sorted(found, key=lambda pin: -(pin.size or 0))]
        ctx.progress.warn(
            f"{megabytes(size)} to download are for GPUs: {plural(len(found), 'package')} "
            f"({abbreviate(titles, SHOWN)}). {gpu_advice({pin.name for pin in pins})}"
        )
