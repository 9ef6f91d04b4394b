"""Unchanged builds: hatch-docker compared with `docker build` of uv's recommended Dockerfile.

    python benchmarks/unchanged.py                both projects, 15 pairs: with Docker, without a daemon, with Podman
    python benchmarks/unchanged.py --pairs 3 --cases docker hello

A pair is two processes, one after the other in alternating order. hatch-docker runs as `hatchling build -t docker` in a
virtual environment that has only hatch-docker, like the one that hatch makes; in the case "docker" the image is in the
same daemon. Prints medians, and the median of the pairs' ratios. Needs the requirements of `benchmarks/seed.py` (root,
docker, mmdebstrap, docker-registry, iptables, the network for packages), and podman for its case. The benchmark starts
its own Docker daemon.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.build_times import SUBJECTS, remove  # noqa: E402 - the script is run by its path
from benchmarks.seed_place import HERE, Place, place_in, run  # noqa: E402

CASES = ("docker", "none", "podman")
LIMITS = {"example": 1.0, "hello": 0.8}  # the maximum ratio to the time of `docker build`


def docker_build(place: Place, project: Path, name: str) -> None:
    """Run `docker build` with uv's Dockerfile, also for a project without compiled code: its stages are cached too."""
    context = f"uv={Path(shutil.which('uv') or 'uv').resolve().parent}"
    place.docker("build", f"--build-arg=BASE={place.base}", f"--tag=uv/{name}:1", f"--file={HERE / 'uv.Dockerfile'}",
                 "--build-context", context, project)  # fmt: skip


def our_variables(place: Place, case: str) -> dict[str, str]:
    """Return the environment of hatch-docker's builds: with the daemon of the case."""
    directory = place.directory / case
    directory.mkdir(exist_ok=True)
    path = os.environ["PATH"].split(os.pathsep)
    if case != "podman":  # a PATH without podman
        path = [entry for entry in path if not Path(entry, "podman").exists()]
        for program in ("git", "uv", "python3"):
            if (found := shutil.which(program)) and not (directory / program).exists():
                (directory / program).symlink_to(found)
        path.insert(0, str(directory))
    storage = directory / "storage.conf"
    storage.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{directory}/graph"\nrunroot = "{directory}/run"\n'
    )
    return {
        "HATCH_DOCKER_CACHE_DIR": str(place.directory / "cache"), "PATH": os.pathsep.join(path),
        "DOCKER_HOST": place.host if case == "docker" else f"unix://{directory}/none",
        "XDG_RUNTIME_DIR": str(directory), "CONTAINERS_STORAGE_CONF": str(storage),
        "HATCH_DOCKER_CHECK_COMMAND": "[]",
    }


def our_python(place: Place) -> Path:
    """Make a virtual environment with hatch-docker; return its Python."""
    directory = place.directory / "venv"
    run("uv", "venv", "--quiet", "--python", sys.executable, directory)
    python = directory / "bin/python"
    run("uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", python, f"{ROOT}[uv,zstd]")
    return python


def our_build(python: Path, project: Path, variables: Mapping[str, str]) -> None:
    """Run hatchling in a new process."""
    run(python, "-m", "hatchling", "build", "-t", "docker", cwd=project, variables=variables)


def seconds(work: Callable[[], None]) -> float:
    """Return the elapsed seconds of a function call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(name: str, case: str, place: Place, python: Path, pairs: int) -> bool:
    """Measure a project in a case and print a row; return whether the ratio is within its limit."""
    project = SUBJECTS[name].write(place.directory / f"{name}-{case}")
    run("uv", "lock", "--quiet", cwd=project)
    variables = our_variables(place, case)
    theirs = functools.partial(docker_build, place, project, f"{name}-{case}")
    ours = functools.partial(our_build, python, project, variables)
    for _ in range(3):  # fills the caches, and the build is remembered
        time.sleep(0.2)
        theirs(), ours()
    rows = []
    for number in range(pairs):
        first, second = (ours, theirs) if number % 2 else (theirs, ours)
        times = seconds(first), seconds(second)
        rows.append(times if number % 2 else times[::-1])
    ratio = statistics.median(mine / other for mine, other in rows)
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    print(f"{name:10}{case:8}ours {medians[0]:.3f} s   docker build {medians[1]:.3f} s   ratio {ratio:.2f}", flush=True)
    return ratio <= LIMITS[name]


def main() -> None:
    """Parse the arguments and measure in a temporary directory; exit with 1 if a ratio exceeds its limit."""
    parser = argparse.ArgumentParser(description="Compare unchanged builds with `docker build`.")
    parser.add_argument("--pairs", type=int, default=15, help="pairs of builds (default: %(default)s)")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=CASES, help="daemons (default: all)")
    parser.add_argument("--base", type=Path, help="a tar file of the base's files (default: make one)")
    parser.add_argument("projects", nargs="*", choices=[*LIMITS, []], help=f"of {', '.join(LIMITS)} (default: all)")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="unchanged-"))
    try:
        with place_in(directory, options.base) as place:
            python = our_python(place)
            found = [
                measure(name, case, place, python, options.pairs)
                for name in options.projects or LIMITS for case in options.cases
            ]  # fmt: skip
    finally:
        subprocess.run(["umount", directory / "data"], capture_output=True, check=False)  # dockerd leaves this mount
        remove(directory)
    sys.exit(0 if all(found) else 1)


if __name__ == "__main__":
    main()
