"""What a push moves and takes: to Debian's docker-registry on this machine, as whole processes.

    python benchmarks/push_times.py --python .venv/bin/python --runs 5

PYTHON is one that has hatch-docker installed. The first build of every project, which is not counted, fills the caches
over the network; from then on these pushes are measured, each by `hatch build -t docker:push`:

    all of it          to an empty registry
    unchanged          the same push once more
    .py edited         one line of one module is new
    another repository of the same registry, which has everything

Bytes are what the registry was sent, documents included; the seconds of the push are those of the receipt, those of
the whole are of the process. Results are medians, as Markdown; trust the bytes and the ratios more than the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.build_times import SUBJECTS, remove  # noqa: E402 - the script is run by its path
from tests.integration.docker_registry import docker_registry  # noqa: E402


@dataclass(frozen=True, slots=True)
class Push:
    """One push: seconds of the whole process and of the push in it, bytes sent, and the image's size in bytes."""

    whole: float
    push: float
    sent: int
    size: int


@dataclass(frozen=True, slots=True)
class Bench:
    """A project, written out, with a store of its own."""

    python: str
    project: Path
    store: Path

    def push(self, repository: str) -> Push:
        """Build and push in a process of its own; ends the program if that fails."""
        environment = {
            **os.environ, "HATCH_DOCKER_CACHE_DIR": str(self.store), "HATCH_DOCKER_REGISTRIES": repository,
            "HATCH_DOCKER_TAGS": "latest", "HATCH_DOCKER_ALLOW_DIRTY": "1",
        }  # fmt: skip
        command = [self.python, "-m", "hatchling", "build", "-t", "docker:push"]
        started = time.perf_counter()
        done = subprocess.run(command, cwd=self.project, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        (path,) = (self.project / "dist").glob("*.image.json")
        receipt: dict[str, Any] = json.loads(path.read_bytes())
        (delivery,) = receipt["deliveries"]
        return Push(seconds, receipt["timings"]["push"], delivery["sent"], receipt["platforms"][0]["size"])


def measure(bench: Bench, module: str, runs: int, directory: Path) -> Iterator[tuple[str, list[Push]]]:
    """Each case with its pushes."""
    with docker_registry(directory / "warm") as warm:
        bench.push(f"{warm.host}/app")
    cases: dict[str, list[Push]] = {}
    for number in range(runs):
        with docker_registry(directory / str(number)) as registry:
            name = f"{registry.host}/app"
            cases.setdefault("all of it", []).append(bench.push(name))
            cases.setdefault("unchanged", []).append(bench.push(name))
            cases.setdefault("another repository", []).append(bench.push(f"{registry.host}/other"))
            with (bench.project / module).open("a", encoding="utf-8") as stream:
                stream.write(f"EDIT = {number}\n")
            cases.setdefault("`.py` edited", []).append(bench.push(name))
    yield from cases.items()


def row(title: str, case: str, pushes: Sequence[Push]) -> str:
    """One line of the table."""
    sent = statistics.median(one.sent for one in pushes)
    share = statistics.median(one.sent / one.size for one in pushes)
    push, whole = (statistics.median(values) for values in ([p.push for p in pushes], [p.whole for p in pushes]))
    told = f"{sent / 1e6:.2f} MB" if sent >= 1e6 else f"{sent / 1e3:.1f} kB"
    return f"| {title} | {case} | {told} | {share:.2%} | {push:.2f} s | {whole:.2f} s |"


def main() -> None:
    """Parse the arguments, measure in a temporary directory."""
    parser = argparse.ArgumentParser(description="Measure pushes as whole processes; prints Markdown.")
    parser.add_argument("--python", default=sys.executable, help="a Python that has hatch-docker (default: this one)")
    parser.add_argument("--runs", type=int, default=5, help="pushes per case (default: %(default)s)")
    parser.add_argument("projects", nargs="*", metavar="PROJECT", default=["hello", "fastapi-numpy"])
    options = parser.parse_args()
    if unknown := set(options.projects) - set(SUBJECTS):
        parser.error(f"no such project: {', '.join(sorted(unknown))}")
    python = options.python if os.sep not in options.python else str(Path(options.python).absolute())
    directory = Path(tempfile.mkdtemp(prefix="push-times-"))
    try:
        print(f"Medians of {options.runs} runs, {os.cpu_count()} processors.\n")
        print("| project | push | sent | of the image | push takes | whole command |\n|---|---|--:|--:|--:|--:|")
        for name in options.projects:
            subject, place = SUBJECTS[name], directory / name
            place.mkdir()
            bench = Bench(python, subject.write(place / "project"), place / "store")
            for case, pushes in measure(bench, subject.python_file, options.runs, place):
                print(row(subject.title, case, pushes), flush=True)
    finally:
        remove(directory)


if __name__ == "__main__":
    main()
