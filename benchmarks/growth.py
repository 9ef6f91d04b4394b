"""CPU time and memory of builds by the number of wheels, images and files, and by the size of a wheel.

    python benchmarks/growth.py                    measure all rows; write the table of docs/how-it-works.md
    python benchmarks/growth.py --rows files,wheels-10

Runs `hatch-docker build` in new processes, for a project on `debian:trixie`, and writes the archive: the first build
(the base is in the cache), an unchanged build, and a build after an edit of a module. The script makes the wheels, and
`uv.lock` finds them in a directory. A cell has the CPU seconds of all processes and the peak memory of the largest
process. Needs a mirror of Debian, and disk space for four times the largest wheel.
"""

from __future__ import annotations

import atexit
import base64
import functools
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.page_table import PageTable, Results  # noqa: E402 - the script is run by its path

CASES = ("cold", "unchanged", "edit")
PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "grown"
version = "1.0"
requires-python = ">=3.13"
dependencies = {dependencies}

[tool.hatch.build.targets.wheel]
packages = ["grown"]

[tool.uv]
no-index = true
find-links = ["wheels"]

[tool.hatch-docker]
base = "debian:trixie"
entrypoint = ["python", "-c", "import grown"]
"""
FILES_OF_A_WHEEL = 20
PIECE = 1 << 20


def write_wheel(directory: Path, name: str, size: int = 0) -> str:
    """Write a wheel of modules and, with `size`, a file of `size` random bytes; return its name."""
    seed = random.Random(os.urandom(8))  # unique wheels, so that none is in the cache
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w", zipfile.ZIP_STORED) as wheel:
        def add(path: str, text: str) -> None:
            data = text.encode()
            wheel.writestr(path, data)
            digests.append(f"{path},sha256={_urlsafe(hashlib.sha256(data))},{len(data)}")

        digests: list[str] = []
        for number in range(FILES_OF_A_WHEEL):
            add(f"{name}/m{number}.py" if number else f"{name}/__init__.py", f"x = {seed.random()}\n" * 50)
        if size:
            digest = hashlib.sha256()
            with wheel.open(f"{name}/model.bin", "w", force_zip64=True) as stream:
                for _ in range(size // PIECE):
                    piece = seed.randbytes(PIECE)
                    digest.update(piece)
                    stream.write(piece)
            digests.append(f"{name}/model.bin,sha256={_urlsafe(digest)},{size // PIECE * PIECE}")
        info = f"{name}-1.0.dist-info"
        add(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        add(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: growth\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "\n".join([*digests, f"{info}/RECORD,,", ""]))
    return name


def _urlsafe(digest: Any) -> str:
    return base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")


def write_project(root: Path, wheels: int = 1, images: int = 1, size: int = 0, files: int = 1) -> None:
    """Write a project with numbers of wheels, images and files; `size`: the bytes of each wheel's data file."""
    (root / "wheels").mkdir(parents=True)
    (root / "grown").mkdir()
    names = [write_wheel(root / "wheels", f"w{number}", size) for number in range(wheels)]
    text = PYPROJECT.format(dependencies=names)
    for number in range(images - 1):
        text += f'\n[tool.hatch-docker.images.i{number}]\nenv = {{NUMBER = "{number}"}}\n'
    (root / "pyproject.toml").write_text(text)
    for number in range(files):  # one in ten is a module
        name = "__init__.py" if not number else f"d{number // 1000}/f{number}.{'txt' if number % 10 else 'py'}"
        (root / "grown" / name).parent.mkdir(exist_ok=True)
        (root / "grown" / name).write_text(f"x = {random.random()}\n")
    subprocess.run(["uv", "lock", "--quiet"], cwd=root, check=True)


def build(root: Path) -> dict[str, float]:
    """Run a build; return elapsed seconds, CPU seconds, and the peak memory of the largest process in bytes."""
    time.sleep(0.1)  # a build is not remembered if a file was written a moment before
    command = [sys.executable, "-m", "hatch_docker", "build", "--quiet"]
    variables = {**os.environ, "HATCH_DOCKER_LOAD": "never", "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=root, env=variables, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            sys.exit(log.read().decode())
    wall = time.perf_counter() - started
    return {"wall": round(wall, 2), "cpu": round(usage.ru_utime + usage.ru_stime, 2), "rss": usage.ru_maxrss * 1024}


@functools.cache
def cache_with_base() -> Path:
    """Return a cache that contains the base; it is removed when the script ends."""
    place = Path(tempfile.mkdtemp(prefix="growth-base-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    os.environ["HATCH_DOCKER_CACHE_DIR"] = str(place / "cache")
    write_project(place / "project")
    build(place / "project")
    return place / "cache"


def measure(write: Callable[[Path], None]) -> dict[str, Any]:
    """Measure the three builds of a project, with a temporary copy of the cache."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="growth-") as directory:
        project, cache = Path(directory, "project"), Path(directory, "cache")
        write(project)
        shutil.copytree(cache_with_base(), cache, symlinks=True, copy_function=os.link)
        os.environ["HATCH_DOCKER_CACHE_DIR"] = str(cache)
        for case in CASES:
            if case == "edit":
                (project / "grown" / "__init__.py").write_text("x = 2\n")
            elif case == "unchanged":
                build(project)  # so that the build is remembered
            found[case] = build(project)
    return {**found, "run": f"{datetime.now(UTC):%Y-%m-%d}"}


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its title, and the function that writes its project."""

    title: str
    write: Callable[[Path], None]


def rows(name: str, title: str, parameter: str, unit: int, *counts: int) -> dict[str, Row]:
    """Return the rows for values of a parameter of `write_project`: each count times `unit`."""
    return {
        f"{name}-{count}": Row(title.format(f"{count:,}"), partial(write_project, **{parameter: count * unit}))
        for count in counts
    }  # fmt: skip


ROWS = {
    **rows("wheels", "{} wheels", "wheels", 1, 10, 50, 200),
    **rows("images", "images: {}", "images", 1, 1, 10, 50),
    **rows("size", "a wheel of {} GB", "size", 10**9, 1, 2, 4),
    **rows("files", "{} files of the project", "files", 1, 1000, 10000, 30000, 100000),
}


def table(results: Results) -> str:
    """Return the Markdown table and the dates of the measurements."""

    def text(found: dict[str, float]) -> str:
        return f"{found['cpu']:.1f} s, {found['rss'] / 1e6:.0f} MB"

    lines = ["| | first build | nothing changed | one module edited |", "|---|--:|--:|--:|"]
    for name, found in results.items():
        lines.append(f"| {ROWS[name].title} | {' | '.join(text(found[case]) for case in CASES)} |")
    days = sorted({found["run"] for found in results.values()})
    return "\n".join([*lines, "", f"Measured {' to '.join(dict.fromkeys([days[0], days[-1]]))}."]) if days else ""


FIGURES = Path(__file__).with_suffix(".json")
TABLE = PageTable("growth", FIGURES, ROWS, lambda row: measure(row.write), table, "how-it-works.md")

if __name__ == "__main__":
    TABLE.main(__doc__)
