"""Two images of a project, with torch for CPU and for CUDA: sizes, shared layers, and bytes pushed after an edit.

    TORCH_CPU=... python benchmarks/gpu.py              measure both; write gpu.json and docs/gpu.md
    TORCH_CPU=... python benchmarks/gpu.py --rows cpu   measure one

TORCH_CPU is an index or a directory with torch's CPU wheels; the CUDA wheels come from the configured index.
TORCH_BASE is the base; both wheels must be for its Python. Each image is built, and its program runs in the sandbox,
without a GPU. Both are pushed to an empty registry on this machine, and pushed again after an edit of the project's
module. Needs docker-registry, 10 GB of disk, and the network for packages; HATCH_DOCKER_CACHE_DIR names the cache.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.page_table import PageTable  # noqa: E402 - the script is run by its path
from tests.integration.docker_registry import docker_registry  # noqa: E402

TITLES = {"cpu": "CPU", "cuda": "CUDA"}
PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "vision"
version = "1.0"
dependencies = ["fastapi", "numpy"]
scripts = {{vision = "vision:main"}}

[project.optional-dependencies]
cpu = ["torch==2.13.0"]
cuda = ["torch==2.13.0"]

[tool.uv]
conflicts = [[{{ extra = "cpu" }}, {{ extra = "cuda" }}]]

[tool.uv.sources]
torch = [{{ index = "pytorch-cpu", extra = "cpu" }}]

[[tool.uv.index]]
name = "pytorch-cpu"
url = "{cpu}"
explicit = true
{kind}
[tool.hatch-docker]
base = "{base}"
registries = ["{registry}/vision"]

[tool.hatch-docker.images.cpu]
extras = ["cpu"]

[tool.hatch-docker.images.cuda]
extras = ["cuda"]
env = {{ NVIDIA_VISIBLE_DEVICES = "all" }}
"""
MODULE = """\
import torch


def main() -> None:
    assert torch.ones(2, 3).sum().item() == 6
    print("torch", torch.__version__, "finds a GPU:", torch.cuda.is_available())
"""


def measure(name: str) -> dict[str, Any]:
    """Build, run and push an image, then edit the project, build and push again; return the figures."""
    with (
        tempfile.TemporaryDirectory(prefix="gpu-") as temporary, docker_registry(Path(temporary, "registry")) as server,
    ):  # fmt: skip
        project = Path(temporary, "project")
        project.mkdir()
        cpu = os.environ["TORCH_CPU"]
        text = PYPROJECT.format(
            cpu=cpu, kind="" if "://" in cpu else 'format = "flat"\n', registry=server.host,
            base=os.environ.get("TORCH_BASE", "debian:trixie"),
        )  # fmt: skip
        (project / "pyproject.toml").write_text(text, encoding="utf-8")
        (project / "vision.py").write_text(MODULE, encoding="utf-8")
        first = _push(project, name, HATCH_DOCKER_CHECK_COMMAND="vision")
        (project / "vision.py").write_text(f"{MODULE}    print('edited')\n", encoding="utf-8")
        second = _push(project, name)
    layers = first["platforms"][0]["layers"]
    torch = next(title for layer in layers for title in layer["contents"] if title.startswith("torch "))
    return {
        "torch": torch.removeprefix("torch "), "unpacked": sum(layer["unpacked_size"] for layer in layers),
        "packages": sum(len(layer["contents"]) for layer in layers) - 1,
        "layers": {layer["digest"]: layer["size"] for layer in layers},
        "edited": second["deliveries"][0]["sent"], "cpu": second["cpu"], "date": f"{dt.date.today()}",  # noqa: DTZ011
    }  # fmt: skip


def _push(project: Path, name: str, **variables: str) -> dict[str, Any]:
    """Build and push one of the images; return its receipt, with the CPU seconds under `cpu`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "hatch_docker", "build", "--push", str(project)]
    environ = {**os.environ, "HATCH_DOCKER_IMAGES": name, "HATCH_DOCKER_LOAD": "never", **variables}
    subprocess.run(command, env=environ, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (path,) = (project / "dist").glob("*.image.json")
    receipt: dict[str, Any] = json.loads(path.read_bytes())
    return {**receipt, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    rows = ["| image | packages | download | unpacked | layers | shared | an edit pushes | its build | measured |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---|"]  # fmt: skip
    shared = set.intersection(*(set(found["layers"]) for found in results.values()))
    for name, found in results.items():
        layers = found["layers"]
        common = sum(layers[digest] for digest in shared)
        cells = (
            f"{TITLES[name]}: torch {found['torch']}", str(found["packages"]), f"{sum(layers.values()) / 1e6:.0f} MB",
            f"{found['unpacked'] / 1e6:.0f} MB", str(len(layers)), f"{len(shared)} layers, {common / 1e6:.0f} MB",
            f"{found['edited'] / 1e3:.1f} kB", f"{found['cpu']:.1f} s", found["date"],
        )  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


TABLE = PageTable("gpu", Path(__file__).with_suffix(".json"), {name: name for name in TITLES}, measure, table, "gpu.md")

if __name__ == "__main__":
    TABLE.main(__doc__)
