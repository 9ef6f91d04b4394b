"""Time from an edit to an image in a registry: hatch-docker ("ours") and BuildKit with uv's Dockerfile ("theirs").

    python benchmarks/end_to_end.py                       measure and print all rows
    python benchmarks/end_to_end.py --rows warm --pairs 5 --write
                                                          measure rows by prefix; write docs/comparison.md

A pair is two processes, one after the other in alternating order: `docker buildx build --push` of
`benchmarks/seed/uv.Dockerfile`, and `hatch build -t docker:push`. Both build a copy of `example_project` (C extension,
Pillow, Starlette, Uvicorn) and push to one registry on this machine. The base is in that registry: an image made of
Debian packages in place of python:3.13-slim. A ratio is the median of the pairs' ratios, ours divided by theirs.

    warm-...     both have built before: nothing changed, one new line of Python or C, one new dependency
    debian-...   the same edits with hatch-docker on `debian:trixie`, compared with hatch-docker on the registry's base
    fresh-...    a machine without caches; the registry has the image and a cache: for BuildKit
                 `type=registry,mode=max`, which containerd's image store can write; for hatch-docker the shared cache
                 that it pushes on a runner (CI=true)
    cold         no caches; the registry has only the base
    ten-...      ten services with the same dependencies and different names and code, one after the other, on an empty
                 machine: time, and bytes in the registry
    latency      a push after an edit of Python to a registry 100 ms away, compared with `oras cp` of the same blobs
    answer-...   from an edit of Python until a container on this machine responds with the new text: build, load and
                 run, compared with `docker build` and run; `hatch-docker build --watch --run`, compared with
                 `docker compose watch`

Needs root, docker with buildx and compose, mmdebstrap, docker-registry, oras, iptables, and the network for packages.
The benchmark starts its own Docker daemon.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.build_times import remove  # noqa: E402 - the script is run by its path
from benchmarks.delayed import delayed  # noqa: E402
from benchmarks.page_table import PageTable, Results  # noqa: E402
from benchmarks.seed import C_FILE, PYTHON_FILE, make_project  # noqa: E402
from benchmarks.seed_place import HERE, Place, place_in, run, running  # noqa: E402

FREED = 61.0  # seconds until ext4 treats a freed inode like any other
SERVICES = 10
SERVE = ("mandelbrot-tiles", "--host", "0.0.0.0", "--port", "8000")
COMPOSE = """
services:
  answers:
    build: {{context: ., dockerfile: {file}, args: {{BASE: "{base}"}}, additional_contexts: {{uv: "{uv}"}}}}
    command: {command}
    ports: ["8000:8000"]
    network_mode: bridge
    stop_grace_period: 1s
    develop: {{watch: [{{action: rebuild, path: src}}]}}
"""
DEPENDENCIES = ("itsdangerous", "blinker", "toolz", "zipp", "six", "iniconfig", "pluggy", "tomli", "idna", "certifi")
DEBIAN = "debian:trixie"
Pair = tuple[float, float]


@dataclass(slots=True)
class Bench:
    """A copy of the project for each side, and the registry to which both push."""

    place: Place
    edits: int = 0
    warm: bool = False
    cached: bool = False                      # as on a CI runner: BuildKit also uses a cache in the registry
    projects: dict[str, Path] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """Return the host and port of the registry."""
        return self.place.base.partition("/")[0]

    def project(self, side: str) -> Path:
        """Return the copy of the project for a side."""
        if side not in self.projects:
            template = self.place.directory / "template"
            if not template.exists():
                make_project(template)
            self.projects[side] = shutil.copytree(template, self.place.directory / side)
        return self.projects[side]

    def theirs(self, name: str = "uv") -> None:
        """Build uv's Dockerfile with BuildKit and push the image."""
        cache = f"type=registry,ref={self.host}/cache"
        caches = [f"--cache-from={cache}", f"--cache-to={cache},mode=max"] if self.cached else []
        self.place.docker(
            "buildx", "build", "--push", f"--build-arg=BASE={self.place.base}", f"--tag={self.host}/{name}:1", *caches,
            f"--file={HERE / 'uv.Dockerfile'}", f"--build-context=uv={uv_directory()}", self.project("uv"),
        )  # fmt: skip

    def ours(self, name: str = "ours", base: str = "", host: str = "") -> dict[str, Any]:
        """Build and push with hatchling in a new process; return the receipt."""
        project = self.project("debian" if base else "ours")
        variables = self.variables(REGISTRIES=f"{host or self.host}/{name}", TAGS="1", BASE=base or self.place.base)
        run(sys.executable, "-m", "hatchling", "build", "-t", "docker:push", cwd=project, variables=variables)
        (receipt,) = (project / "dist").glob("*.image.json")
        found: dict[str, Any] = json.loads(receipt.read_bytes())
        return found

    def variables(self, **options: str) -> dict[str, str]:
        """Return the environment for hatch-docker, with options for its table."""
        options |= {"ALLOW_DIRTY": "1", "CHECK_COMMAND": "[]", "CACHE_DIR": str(self.place.directory / "cache")}
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {
            "PYTHONPATH": path, **({"CI": "true"} if self.cached else {}),
            **{f"HATCH_DOCKER_{option}": value for option, value in options.items()},
        }  # fmt: skip

    def loading(self) -> dict[str, str]:
        """Return the environment for hatch-docker that loads the image into the daemon."""
        return {**self.variables(BASE=self.place.base, TAGS="1", LOAD="always"), "DOCKER_HOST": self.place.host}

    def remove_caches(self) -> None:
        """Remove all images, the base, and the caches of both sides from this machine."""
        self.place.docker("system", "prune", "--all", "--force")
        self.place.docker("builder", "prune", "--all", "--force")
        if (self.place.directory / "cache").exists():
            remove(self.place.directory / "cache")
            # ext4 without a journal compares each new inode with the inodes that were freed within the last minute. A
            # new machine has none.
            os.sync()
            time.sleep(FREED)
        self.warm = False

    def edit(self, case: str) -> None:
        """Edit all copies in the way of a case; `unchanged` edits none."""
        self.edits += 1
        for project in self.projects.values():
            if case in ("python", "c"):
                name = PYTHON_FILE if case == "python" else C_FILE
                line = f"# edit {self.edits}" if case == "python" else f'const char e{self.edits}[] = "{self.edits}";'
                with (project / name).open("a", encoding="utf-8") as stream:
                    stream.write(line + "\n")
            elif case == "dependency":
                path = project / "pyproject.toml"
                text = path.read_text("utf-8")
                new = next(name for name in DEPENDENCIES if f'"{name}"' not in text)
                path.write_text(text.replace("dependencies = [\n", f'dependencies = [\n  "{new}",\n', 1), "utf-8")
                run("uv", "lock", "--quiet", cwd=project)
            elif case == "name":
                path = project / "pyproject.toml"
                named = re.sub("(?m)^name = .*", f'name = "service-{self.edits}"', path.read_text("utf-8"), count=1)
                path.write_text(named, "utf-8")
                run("uv", "lock", "--quiet", cwd=project)
                shutil.rmtree(project / "dist", ignore_errors=True)
        time.sleep(0.1)  # a build is not remembered if a file was written a moment before

    def prepare(self, *sides: Callable[[], object]) -> None:
        """Build twice with each side, so that caches are filled and the build is remembered."""
        if not self.warm:
            for side in sides * 2:
                side()
            self.warm = True


def uv_directory() -> Path:
    """Return the directory of the program uv."""
    return Path(shutil.which("uv") or "uv").resolve().parent


def seconds(work: Callable[[], object]) -> float:
    """Return the elapsed seconds of a function call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def time_pair(number: int, ours: Callable[[], object], theirs: Callable[[], object]) -> Pair:
    """Return the times of both sides; the side that runs first alternates."""
    if number % 2:
        mine = seconds(ours)
        return mine, seconds(theirs)
    other = seconds(theirs)
    return seconds(ours), other


def warm(case: str, bench: Bench, number: int) -> Pair:
    """Measure an edit after earlier builds of both sides."""
    bench.prepare(bench.theirs, bench.ours)
    bench.edit(case)
    return time_pair(number, bench.ours, bench.theirs)


def on_debian(case: str, bench: Bench, number: int) -> Pair:
    """Measure hatch-docker on `debian:trixie` and on the registry's base."""
    debian = partial(bench.ours, "debian", DEBIAN)
    bench.prepare(debian, bench.ours)
    bench.edit(case)
    return time_pair(number, debian, bench.ours)


def fresh(case: str, bench: Bench, number: int) -> Pair:
    """Measure an edit on a machine without caches; the registry has the images and caches of both sides."""
    bench.cached = True
    try:
        bench.project("uv"), bench.project("ours")
        if number == 0:
            bench.theirs(), bench.ours()
        bench.edit(case)
        bench.remove_caches()
        return time_pair(number, bench.ours, bench.theirs)
    finally:
        bench.cached = False


def cold(bench: Bench, number: int) -> Pair:
    """Measure builds without caches, pushed to a new repository."""
    bench.remove_caches()
    return time_pair(number, partial(bench.ours, f"cold-{bench.edits}-{number}"), partial(bench.theirs, f"uv-{number}"))


def ten_services(quantity: str, bench: Bench, number: int) -> Pair:
    """Measure ten services on an empty machine: seconds (`time`), or the additional bytes in the registry."""
    bench.remove_caches()
    bench.project("uv"), bench.project("ours")

    def services(side: Callable[[str], object], name: str) -> float:
        before, took = registry_size(bench.place), 0.0
        for service in range(SERVICES):
            bench.edit("python")
            bench.edit("name")
            took += seconds(lambda: side(f"{name}-{number}/service-{service}"))  # noqa: B023 - called at once
        return took if quantity == "time" else float(registry_size(bench.place) - before)

    mine = services(bench.ours, f"{quantity}-ours")
    return mine, services(bench.theirs, f"{quantity}-uv")


def registry_size(place: Place) -> int:
    """Return the number of bytes in the registry."""
    return sum(path.stat().st_size for path in (place.directory / "registry").rglob("data") if path.is_file())


def latency(bench: Bench, number: int) -> Pair:
    """Measure hatch-docker's push through a delay, and `oras cp` of the same image and its documents."""
    bench.prepare(bench.ours)
    target = f"{bench.host}/copy"
    copy = ["oras", "cp", "--recursive", "--from-plain-http", "--to-plain-http", "--no-tty"]
    if number == 0:
        run(*copy, f"{bench.host}/ours:1", f"{target}:1")
    bench.edit("python")
    with delayed(bench.host) as address:
        receipt = bench.ours(host=address)
        mine = float(receipt["timings"]["push"])
        name = f"{bench.host}/ours@{receipt['digest']}"
        return mine, seconds(lambda: run(*copy, name, f"{target.replace(bench.host, address)}:1"))


def answer_run(bench: Bench, number: int) -> Pair:
    """Measure build and start of a container after an edit."""
    image, docker = "answers-uv", bench.place.docker

    def run_container(*command: str) -> None:
        docker("rm", "--force", "answers")
        docker("run", "--detach", "--name=answers", "--publish=8000:8000", *command)
        wait_for(answer)

    def theirs() -> None:
        docker("build", f"--build-arg=BASE={bench.place.base}", f"--tag={image}", f"--file={HERE / 'uv.Dockerfile'}",
               f"--build-context=uv={uv_directory()}", bench.project("uv"))  # fmt: skip
        run_container(image, *SERVE)

    def ours() -> None:
        run(sys.executable, "-m", "hatchling", "build", "-t", "docker", cwd=bench.project("ours"),
            variables=bench.loading())  # fmt: skip
        run_container("mandelbrot-tiles:1")

    try:
        answer = edit_answer(bench, "ours", "uv")
        bench.prepare(ours, theirs)
        answer = edit_answer(bench, "ours", "uv")
        return time_pair(number, ours, theirs)
    finally:
        docker("rm", "--force", "answers")


def answer_watch(bench: Bench, number: int) -> Pair:
    """Measure an edit while a program of each side watches the files and runs the container."""
    compose = bench.project("uv") / "compose.yaml"
    compose.write_text(COMPOSE.format(
        file=HERE / "uv.Dockerfile", base=bench.place.base, uv=uv_directory(), command=json.dumps(SERVE),
    ), "utf-8")  # fmt: skip
    commands = {
        "ours": [sys.executable, "-m", "hatch_docker", "build", "--watch", "--run"],
        "uv": ["docker", "compose", "up", "--watch", "--build"],
    }
    took = {}
    for side in sorted(commands, reverse=bool(number % 2)):
        answer = edit_answer(bench, side)
        variables = bench.loading()
        log = bench.place.directory / f"{side}.log"
        with running(*commands[side], log=log, cwd=bench.project(side), variables=variables):
            wait_for(answer)
            time.sleep(3)  # until the program watches the files
            answer = edit_answer(bench, side)
            took[side] = seconds(partial(wait_for, answer))
        if side == "uv":
            run(*commands[side][:2], "down", cwd=bench.project(side), variables=variables)
    return took["ours"], took["uv"]


def edit_answer(bench: Bench, *sides: str) -> str:
    """Change the health check of these copies to another response; return the response."""
    bench.edits += 1
    answer = f"ok {bench.edits}"
    for side in sides:
        path = bench.project(side) / PYTHON_FILE
        path.write_text(re.sub(r'"ok[^"\\]*', f'"{answer}', path.read_text("utf-8")), "utf-8")
    return answer


def wait_for(answer: str) -> None:
    """Wait until the container's server gives this response."""
    for _ in range(6000):
        with suppress(OSError, HTTPException), urllib.request.urlopen("http://127.0.0.1:8000/healthz") as found:
            if found.read().strip() == answer.encode():
                return
        time.sleep(0.01)
    sys.exit(f"the server does not answer {answer!r}")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: its title, the limit of its ratio, the number of pairs, and the function for a pair."""

    title: str
    limit: float
    pairs: int
    pair: Callable[[Bench, int], Pair]


CASES = {"unchanged": "nothing changed", "python": "`.py` edited", "c": "C edited", "dependency": "dependency added"}
LIMITS = {"unchanged": 1.0, "python": 0.35, "c": 0.4, "dependency": 0.5}
ROWS = {
    **{f"warm-{case}": Row(title, LIMITS[case], 5, partial(warm, case)) for case, title in CASES.items()},
    **{
        f"debian-{case}": Row(f"ours on `{DEBIAN}` over ours: {title}", 0.8, 3, partial(on_debian, case))
        for case, title in CASES.items()
    },
    **{
        f"fresh-{case}": Row(f"fresh runner: {CASES[case]}", 0.25, 2, partial(fresh, case))
        for case in ("python", "unchanged")
    },
    "cold": Row("cold, nothing anywhere", 0.6, 2, cold),
    "ten-time": Row("ten services, time", 0.2, 1, partial(ten_services, "time")),
    "ten-bytes": Row("ten services, bytes of the registry", 0.12, 1, partial(ten_services, "bytes")),
    "answer-run": Row("from a `.py` edit to a container that answers, over `docker build`", 1.0, 3, answer_run),
    "answer-watch": Row("the same, watching the files, over `docker compose watch`", 1.0, 3, answer_watch),
    "latency": Row("push after an edit at 100 ms, over `oras cp`", 1.0, 3, latency),
}


def figures(row: Row, bench: Bench, pairs: int) -> dict[str, Any]:
    """Measure the pairs of a row; return the medians."""
    found = [row.pair(bench, number) for number in range(pairs or row.pairs)]
    ratio = statistics.median(mine / other for mine, other in found)
    medians = [statistics.median(column) for column in zip(*found, strict=True)]
    return {
        "ratio": round(ratio, 3), "ours": round(medians[0], 3), "other": round(medians[1], 3), "pairs": len(found),
        "run": f"{datetime.now(UTC):%Y-%m-%d}",
    }  # fmt: skip


def table(results: Results) -> str:
    """Return the Markdown table and the dates of the measurements."""

    def text(value: float) -> str:
        return f"{value / 1e6:.1f} MB" if value > 10_000 else f"{value:.2f} s"

    lines = ["| | ours / theirs | ours | theirs | pairs |", "|---|--:|--:|--:|--:|"]
    for name, found in results.items():
        cells = f"**{found['ratio']:.2f}** | {text(found['ours'])} | {text(found['other'])} | {found['pairs']}"
        lines.append(f"| {ROWS[name].title} | {cells} |")
    days = sorted({found["run"] for found in results.values()})
    return "\n".join([*lines, "", f"Measured {' to '.join(dict.fromkeys([days[0], days[-1]]))}."]) if days else ""


def short_table(results: Results) -> str:
    """Return the table for the README, without the rows of `debian:trixie`."""
    return table({name: found for name, found in results.items() if not name.startswith("debian")})


TABLE, SHORT = (
    PageTable("end-to-end", Path(__file__).with_suffix(".json"), ROWS, lambda _row: {}, made, page)
    for made, page in ((table, "comparison.md"), (short_table, "../README.md"))
)


def main() -> None:
    """Parse the arguments and measure in a temporary directory; exit with 1 if a ratio exceeds its limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", default="", help="prefixes of row names, separated by commas (default: all)")
    parser.add_argument("--pairs", type=int, default=0, help="pairs of each row (default: its own number)")
    parser.add_argument("--base", type=Path, help="a tar file of the base's files (default: make one)")
    parser.add_argument("--write", action="store_true", help="save the figures and write docs/comparison.md")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that the services end too
    chosen = [name for name in ROWS if name.startswith(tuple(options.rows.split(",")))]
    known, slow = TABLE.read(), []
    directory = Path(tempfile.mkdtemp(prefix="end-to-end-"))
    try:
        with place_in(directory, options.base, containerd=True) as place:
            for group in dict.fromkeys(name.partition("-")[0] for name in chosen):
                bench = Bench(place)
                bench.remove_caches()
                for name in (name for name in chosen if name.partition("-")[0] == group):
                    known[name] = figures(ROWS[name], bench, options.pairs)
                    slow += [name] if known[name]["ratio"] > ROWS[name].limit else []
                    print(name, f"(at most {ROWS[name].limit})", json.dumps(known[name]), flush=True)
                    if options.write:
                        TABLE.keep(known)
                for project in bench.projects.values():
                    remove(project)
    finally:
        subprocess.run(["umount", directory / "data"], capture_output=True, check=False)  # dockerd leaves this mount
        remove(directory)
    if options.write:
        TABLE.write(), SHORT.write()
    sys.exit(f"beyond their limits: {', '.join(slow)}" if slow else 0)


if __name__ == "__main__":
    main()
