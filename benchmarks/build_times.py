"""Build times and image sizes: `hatchling build -t docker` compared with `hatchling build -t wheel`.

    python benchmarks/build_times.py --python .venv/bin/python --runs 5

PYTHON must have hatch-docker and the build requirements of the projects. The first build of each project is not
measured; it downloads the packages. Four cases are measured, each build in a new process:

    cold         the store contains only downloaded packages; indexes and versions are requested again
    unchanged    the same build again
    .py edited   one new line in a module
    C edited     one new line in the C extension (projects that have one)

No image is loaded into a daemon. Prints medians as Markdown. The ratios are more reliable than the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.projects import write_project  # noqa: E402 - the script is run by its path

PACKAGES = (b"PK\x03\x04", b"!<arch>\n")  # the magic numbers of wheels and of Debian packages


def copy_example(directory: Path) -> Path:
    """Copy the example project without compiled modules and earlier output."""
    junk = shutil.ignore_patterns("*.so", "__pycache__", ".*", "dist", "build")
    return shutil.copytree(ROOT / "example_project", directory, ignore=junk)


@dataclass(frozen=True, slots=True)
class Subject:
    """A project to build, and the files that edits change."""

    title: str
    write: Callable[[Path], Path]
    python_file: str
    c_file: str = ""


SUBJECTS = {
    "hello": Subject("hello", lambda path: write_project("hello", path), "hello.py"),
    "fastapi-numpy": Subject(
        "FastAPI + Uvicorn + NumPy", lambda path: write_project("fastapi-numpy", path), "fastapi_numpy/app.py"
    ),
    "example": Subject(
        "example_project", copy_example, "src/mandelbrot_tiles/server.py", "src/mandelbrot_tiles/_mandelbrot.c"
    ),
}


@dataclass(frozen=True, slots=True)
class Bench:
    """A written project, with its own store."""

    python: str
    project: Path
    store: Path

    def build(self, target: str) -> float:
        """Run a build in a new process; return its duration in seconds. A failed build ends the program."""
        environment = {**os.environ, "HATCH_DOCKER_CACHE_DIR": str(self.store), "HATCH_DOCKER_LOAD": "never"}
        command = [self.python, "-m", "hatchling", "build", "-t", target]
        started = time.perf_counter()
        done = subprocess.run(command, cwd=self.project, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        return seconds

    def receipt(self) -> dict[str, Any]:
        """Return the receipt of the last build of the image."""
        (path,) = (self.project / "dist").glob("*.image.json")
        receipt: dict[str, Any] = json.loads(path.read_bytes())
        return receipt

    def keep_only_packages(self) -> None:
        """Remove everything from the store except downloaded packages."""
        old = self.store.with_name("old")
        self.store.rename(old)
        for blob in old.glob("*/blobs/*"):
            with blob.open("rb") as stream:
                if not stream.read(8).startswith(PACKAGES):
                    continue
            kept = self.store / blob.relative_to(old)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.hardlink_to(blob)
        remove(old)

    def edit(self, name: str, line: str) -> None:
        """Append a line to a source file."""
        with (self.project / name).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")


def remove(tree: Path) -> None:
    """Remove a directory tree, also if directories in it are read-only."""
    for directory, _, _ in os.walk(tree):
        Path(directory).chmod(0o700)
    shutil.rmtree(tree)


def measure(bench: Bench, subject: Subject, runs: int) -> Iterator[tuple[str, list[float]]]:
    """Yield each case with its times in seconds; end the program if a digest is not that which the case should have."""
    bench.build("wheel")
    yield "wheel only", [bench.build("wheel") for _ in range(runs)]
    bench.build("docker")
    digest = bench.receipt()["digest"]

    def cold(_number: int) -> None:
        bench.keep_only_packages()

    def nothing(_number: int) -> None:
        pass

    def edit_python(number: int) -> None:
        bench.edit(subject.python_file, f"EDIT = {number}")

    def edit_c(number: int) -> None:
        bench.edit(subject.c_file, f'const char edit_{number}[] = "edit {number}";')

    cases = [("cold", cold, False), ("unchanged", nothing, False), (".py edited", edit_python, True)]
    if subject.c_file:
        cases.append(("C edited", edit_c, True))
    for case, prepare, changes in cases:
        times = []
        for number in range(runs):
            prepare(number)
            times.append(bench.build("docker"))
            before, digest = digest, bench.receipt()["digest"]
            if (before != digest) is not changes:
                sys.exit(f"{subject.title}, {case}: the digest went from {before} to {digest}")
        yield case, times


def time_row(title: str, case: str, times: Sequence[float], wheel: float) -> str:
    """Return a line of the first table."""
    median = statistics.median(times)
    spread = f"{min(times):.2f} to {max(times):.2f}"
    return f"| {title} | {case} | {median:.2f} s | {spread} | {median / wheel:.1f} |"


def size_rows(title: str, receipt: dict[str, Any]) -> list[str]:
    """Return lines of the second table: one for each kind of layer, and one for the image."""
    (platform,) = receipt["platforms"]
    sizes: dict[str, list[int]] = {}
    for layer in platform["layers"]:
        total = sizes.setdefault(layer["kind"], [0, 0])
        total[0] += layer["unpacked_size"]
        total[1] += layer["size"]
    sizes["**image**"] = [platform["unpacked_size"], platform["size"]]
    return [
        f"| {title} | {kind} | {unpacked / 1e6:.2f} MB | {stored / 1e6:.2f} MB |"
        for kind, (unpacked, stored) in sizes.items()
    ]


def run(names: Sequence[str], python: str, runs: int, directory: Path) -> None:
    """Measure the projects and print both tables."""
    rows, sizes = [], []
    for name in names:
        subject = SUBJECTS[name]
        place = directory / name
        place.mkdir()
        bench = Bench(python, subject.write(place / "project"), place / "store")
        wheel = 0.0
        for case, times in measure(bench, subject, runs):
            wheel = wheel or statistics.median(times)
            rows.append(time_row(subject.title, case, times, wheel))
            print(rows[-1], file=sys.stderr)
        sizes += size_rows(subject.title, bench.receipt())
    print(f"Medians of {runs} runs, {os.cpu_count()} processors.\n")
    print("| project | case | median | from, to | times the wheel's |\n|---|---|--:|--:|--:|")
    print("\n".join(rows))
    print("\n| project | layers | unpacked | compressed |\n|---|---|--:|--:|")
    print("\n".join(sizes))


def main() -> None:
    """Parse the arguments and measure in a temporary directory."""
    parser = argparse.ArgumentParser(description="Measure builds as whole processes; prints Markdown.")
    parser.add_argument("--python", default=sys.executable, help="a Python that has hatch-docker (default: this one)")
    parser.add_argument("--runs", type=int, default=5, help="builds per case (default: %(default)s)")
    parser.add_argument("--directory", type=Path, help="the working directory (default: the system's)")
    parser.add_argument(
        "projects", nargs="*", metavar="PROJECT", help=f"of {', '.join(SUBJECTS)} (default: all of them)"
    )
    options = parser.parse_args()
    unknown = set(options.projects) - set(SUBJECTS)
    if unknown or options.runs < 1:
        parser.error(f"no such project: {', '.join(sorted(unknown))}" if unknown else "--runs must be at least 1")
    # Absolute but not resolved: a virtual environment's Python is found by its symlink.
    python = options.python if os.sep not in options.python else str(Path(options.python).absolute())
    directory = Path(tempfile.mkdtemp(dir=options.directory, prefix="build-times-"))
    try:
        run(options.projects or list(SUBJECTS), python, options.runs, directory)
    finally:
        remove(directory)


if __name__ == "__main__":
    main()
