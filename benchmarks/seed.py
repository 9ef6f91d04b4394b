"""What an image of one compiled project costs, made in the ways that people make it: size, and time to build again.

    python benchmarks/seed.py                     measures everything, writes seed.json, page and charts
    python benchmarks/seed.py --render            page and charts again, of the figures that are there
    python benchmarks/seed.py --rows uv,embedded --runs 1 --results /tmp/some.json
                                                  some rows, quickly; page and charts stay as they are

The project is `example_project`: a C extension, Pillow, Starlette, Uvicorn. All rows stand on one base, a stand-in for
python:3.13-slim made of Debian's packages and served by a registry of this machine. The Dockerfiles are those of
`benchmarks/seed/`, built by `docker build`; ours are whole processes of `hatchling build -t docker`, which load the
image into the same daemon. It is a Docker daemon of the benchmark's own, in a temporary directory, so that emptying
its cache empties nobody's. Needs root, docker, mmdebstrap, docker-registry, iptables, and the network for packages.

    cold         no layer, no download and no build cache is left; the base is in the daemon
    unchanged    the same build once more
    .py edited   one line of one module is new
    C edited     one line of the C extension is new
    dependency   one dependency more, a small wheel; the lock is made anew before the clock starts

Each is the median of a few runs. "Pushed again" is what a registry lacks of the image after the .py was edited. The
table is printed, too. Rows that are measured alone keep the others' figures, and the table says that they are of
another run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.build_times import copy_example, remove  # noqa: E402 - the script is run by its path
from benchmarks.seed_place import HERE, Place, place_in, run  # noqa: E402
from benchmarks.seed_report import RESULTS, UNIT, Figures, read_figures, table, write_report  # noqa: E402
from hatch_docker.oci.archive import read_archive  # noqa: E402
from hatch_docker.oci.compression import Compression  # noqa: E402
from hatch_docker.oci.model import Image, Layer, host_platform  # noqa: E402

PYTHON_FILE = "src/mandelbrot_tiles/server.py"
C_FILE = "src/mandelbrot_tiles/_mandelbrot.c"
COMMAND = ("mandelbrot-tiles", "--self-check")  # needs the C extension and the dependencies
DEPENDENCY = "itsdangerous>=2"  # pure, and needs nothing else
# The bytes of the project's own files in an image, compiled ones included.
OWN = """
import importlib.metadata, pathlib
own = importlib.metadata.distribution("mandelbrot-tiles")
tops = {path.parts[0] for path in own.files if ".." not in path.parts}
files = (path for top in tops for path in pathlib.Path(own.locate_file(top)).rglob("*"))
print(sum(path.stat().st_size for path in files if path.is_file()))
"""
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """A way to build: what one build is, and what it leaves beside the daemon's store."""

    name: str
    build: Callable[[Place, Path, str], None]
    kept: Callable[[Place], list[Path]] = field(default=lambda _place: [])


def dockerfile(name: str, place: Place, project: Path, image: str) -> None:
    """`docker build` of one of the Dockerfiles here."""
    more = ["--build-context", f"uv={Path(shutil.which('uv') or 'uv').resolve().parent}"] if name == "uv" else []
    place.docker(
        "build", f"--build-arg=BASE={place.base}", f"--tag={image}",
        f"--file={HERE / name}.Dockerfile", *more, project,
    )  # fmt: skip


def ours(engine: str, base: str, place: Place, project: Path, image: str) -> None:
    """A process of hatchling, which leaves the image in the daemon as `docker build` does."""
    name, _, tag = image.partition(":")
    options = {"ENGINE": engine, "BASE": base or place.base, "IMAGE": name, "TAGS": tag, "LOAD": "always"}
    options["CHECK_COMMAND"] = "[]"  # `docker build` checks nothing either
    variables = {f"HATCH_DOCKER_{option}": value for option, value in options.items()}
    variables |= {"HATCH_DOCKER_CACHE_DIR": str(our_cache(place)[0]), "DOCKER_HOST": place.host}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    run(sys.executable, "-m", "hatchling", "build", "-t", "docker", cwd=project,
        variables={**variables, "PYTHONPATH": path})  # fmt: skip


def our_cache(place: Place) -> list[Path]:
    """What ours keep on this side."""
    return [place.directory / "cache"]


ROWS = (
    *(Row(name, partial(dockerfile, name)) for name in ("naive", "uninstall", "one-run", "two-stage", "uv")),
    Row("buildkit", partial(ours, "buildkit", ""), our_cache),
    Row("embedded", partial(ours, "embedded", ""), our_cache),
    Row("embedded-debian", partial(ours, "embedded", "debian:trixie"), our_cache),
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row being measured: its copy of the project, and what was found."""

    row: Row
    place: Place
    project: Path
    times: dict[str, list[float]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def image(self) -> str:
        """The name that the daemon has it under."""
        return f"seed/{self.row.name}:1"

    def build(self, case: str, *, changes: bool) -> None:
        """One build; ends the program where an edit does not show in the image, or something else does."""
        before = "" if case == "cold" else self._id()
        started = time.perf_counter()
        self.row.build(self.place, self.project, self.image)
        self.times.setdefault(case, []).append(time.perf_counter() - started)
        if before and (self._id() != before) is not changes:
            sys.exit(f"{self.row.name}, {case}: the image did {'not ' if changes else ''}change")
        print(f"{self.row.name:16}{case:12}{self.times[case][-1]:8.2f} s", file=sys.stderr, flush=True)

    def round(self, number: int) -> None:
        """Each case once; sizes in the first round only, as they take a while."""
        self.place.forget()
        for path in self.row.kept(self.place):
            if path.exists():
                remove(path)
        self.build("cold", changes=True)
        self.build("unchanged", changes=False)
        old = {} if self.sizes else saved(self.place, self.image)
        self._edit(PYTHON_FILE, f"# edit {number}")
        self.build("python", changes=True)
        if not self.sizes:
            new = saved(self.place, self.image)
            self.sizes["unpacked"] = sum(size for size, _ in new.values())
            self.sizes["compressed"] = sum(size for _, size in new.values())
            self.sizes["pushed"] = sum(size for layer, (_, size) in new.items() if layer not in old)
        self._edit(C_FILE, f'const char edit_{number}[] = "edit {number}";')
        self.build("c", changes=True)
        self.place.docker("run", "--rm", "--network=none", "--entrypoint=", self.image, *COMMAND)
        if "code" not in self.sizes:
            own = self.place.docker("run", "--rm", "--network=none", "--entrypoint=python", self.image, "-c", OWN)
            self.sizes["code"] = int(own)
        with self._depending():
            self.build("dependency", changes=True)

    def figures(self, told: str) -> Figures:
        """Medians, and the sizes; `told` says what run they are of."""
        times = {case: statistics.median(times) for case, times in self.times.items()}
        return Figures(**self.sizes, times=times, run=told)

    @contextlib.contextmanager
    def _depending(self) -> Iterator[None]:
        """The project with one dependency more, and its lock; as it was afterwards, for the next round."""
        paths = [self.project / name for name in ("pyproject.toml", "uv.lock")]
        before = [path.read_bytes() for path in paths]
        text = before[0].decode()
        more = text.replace("dependencies = [\n", f'dependencies = [\n  "{DEPENDENCY}",\n', 1)
        if more == text:
            sys.exit("example_project's dependencies are not written one a line any more")
        paths[0].write_text(more, encoding="utf-8")
        run("uv", "lock", "--quiet", cwd=self.project)
        yield
        for path, data in zip(paths, before, strict=True):
            path.write_bytes(data)

    def _id(self) -> str:
        return self.place.docker("image", "inspect", "--format", "{{.Id}}", self.image).strip()

    def _edit(self, name: str, line: str) -> None:
        with (self.project / name).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")


def saved(place: Place, image: str) -> dict[str, tuple[int, int]]:
    """The layers of an image by what they unpack to: that size, and the size when gzip stores it."""
    path = place.directory / "saved.tar"
    place.docker("save", "--output", path, image)
    item = read_archive(path, host_platform())
    assert isinstance(item, Image)
    found = {layer.diff_id: (layer.descriptor.size, gzipped(layer)) for layer in item.layers}
    path.unlink()
    return found


def gzipped(layer: Layer) -> int:
    """The size of a layer in a registry."""
    compressor, size = Compression("gzip").compressor(), 0
    with layer.open() as stream:
        while piece := stream.read(PIECE):
            size += len(compressor.compress(piece))
    return size + len(compressor.flush())


def make_project(directory: Path) -> Path:
    """The example with a lock, which uv's row and ours read."""
    project = copy_example(directory)
    run("uv", "lock", "--quiet", cwd=project)
    (project / ".dockerignore").write_text("dist\n")
    (project / ".gitignore").write_text("dist\n.dockerignore\n")
    return project


def told_of(runs: int, place: Place) -> str:
    """When, how often and where it is measured."""
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    docker = place.docker("version", "--format", "{{.Server.Version}}").strip().partition("+")[0]
    rounds = f"medians of {runs} rounds" if runs > 1 else "one round"
    return f"{datetime.now(UTC):%Y-%m-%d}, {rounds}: {os.cpu_count()} processors, {system}, Docker {docker}"


def measure(rows: Sequence[Row], runs: int, results: Path, base: Path | None, above: Path | None) -> None:
    """Measure some rows and keep their figures, after each round."""
    known = json.loads(results.read_text()) if results.exists() else {}
    directory = Path(tempfile.mkdtemp(dir=above, prefix="seed-"))
    try:
        with place_in(directory, base) as place:
            template = make_project(directory / "template")
            measured = [Measurement(row, place, shutil.copytree(template, directory / row.name)) for row in rows]
            # Round by round: what else the machine does in the meantime hits every row.
            for number in range(runs):
                for one in measured:
                    one.round(number)
                told = told_of(number + 1, place)
                known |= {one.row.name: one.figures(told).to_json() for one in measured}
                ordered = {row.name: known[row.name] for row in ROWS if row.name in known}
                results.write_text(json.dumps(ordered, indent=2) + "\n")
    finally:
        # The daemon mounts its directory on itself, and does not always undo that.
        subprocess.run(["umount", directory / "data"], capture_output=True, check=False)
        remove(directory)


def main() -> None:
    """Parse the arguments, measure in a temporary directory, write the report."""
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description="Measure the ways to an image, for docs/comparison.md.")
    parser.add_argument("--runs", type=int, default=3, help="builds per case (default: %(default)s)")
    parser.add_argument("--rows", default=",".join(names), help="rows between commas (default: all of them)")
    parser.add_argument("--base", type=Path, help="a tar of the base's files, instead of mmdebstrap's")
    parser.add_argument("--directory", type=Path, help="where to work (default: the system's)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of figures (default: seed.json)")
    parser.add_argument("--render", action="store_true", help="measure nothing; write page and charts again")
    options = parser.parse_args()
    chosen = options.rows.split(",")
    if unknown := set(chosen) - set(names):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    if not options.render:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that the services end too
        measure([row for row in ROWS if row.name in chosen], options.runs, options.results, options.base,
                options.directory)  # fmt: skip
    if options.results == RESULTS:
        write_report()
    figures = read_figures(options.results)
    if UNIT in figures:
        print(table(figures))


if __name__ == "__main__":
    main()
