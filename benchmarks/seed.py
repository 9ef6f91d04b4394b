"""Image sizes and build times of a compiled project: common Dockerfiles compared with hatch-docker.

    python benchmarks/seed.py                     measure all; write seed.json, page and charts
    python benchmarks/seed.py --render            write page and charts from the existing figures
    python benchmarks/seed.py --rows uv,embedded --runs 1 --results /tmp/some.json
                                                  measure some rows once; page and charts stay unchanged

The project is `example_project`: a C extension, Pillow, Starlette, Uvicorn. All rows use one base, an image made of
Debian packages in place of python:3.13-slim, in a registry on this machine. `docker build` builds the Dockerfiles of
`benchmarks/seed/`. The rows of hatch-docker run `hatchling build -t docker` in new processes, which load the image into
the same daemon. The benchmark starts its own Docker daemon in a temporary directory and empties its caches. Needs root,
docker, mmdebstrap, docker-registry, iptables, and the network for packages.

    cold         no layers, downloads or build caches; the base is in the daemon
    unchanged    the same build again
    .py edited   one new line in a module
    C edited     one new line in the C extension
    dependency   one new dependency, a small wheel; the lock is updated before the measurement

The figures are medians. "Pushed again" is the size of the layers that a registry does not have after the edit of the
.py file. The table is also printed. If some rows are measured, the others keep their figures, and the table names both
runs.
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
DEPENDENCY = "itsdangerous>=2"  # pure Python, without dependencies
# Prints the bytes of the project's own files in an image, with compiled modules and bytecode.
OWN_SIZE = """
import importlib.metadata, pathlib
own = importlib.metadata.distribution("mandelbrot-tiles")
tops = {path.parts[0] for path in own.files if ".." not in path.parts}
files = (path for top in tops for path in pathlib.Path(own.locate_file(top)).rglob("*"))
print(sum(path.stat().st_size for path in files if path.is_file()))
"""
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """A way to build an image: its name, the function that builds, and the caches outside of the daemon."""

    name: str
    build: Callable[[Place, Path, str], None]
    caches: Callable[[Place], list[Path]] = field(default=lambda _place: [])


def build_dockerfile(name: str, place: Place, project: Path, image: str) -> None:
    """Run `docker build` with one of the Dockerfiles of benchmarks/seed/."""
    more = ["--build-context", f"uv={Path(shutil.which('uv') or 'uv').resolve().parent}"] if name == "uv" else []
    place.docker(
        "build", f"--build-arg=BASE={place.base}", f"--tag={image}",
        f"--file={HERE / name}.Dockerfile", *more, project,
    )  # fmt: skip


def build_with_hatch_docker(engine: str, base: str, place: Place, project: Path, image: str) -> None:
    """Run hatchling in a new process, which loads the image into the daemon, as `docker build` does."""
    name, _, tag = image.partition(":")
    options = {"ENGINE": engine, "BASE": base or place.base, "IMAGE": name, "TAGS": tag, "LOAD": "always"}
    options["CHECK_COMMAND"] = "[]"  # `docker build` runs no check either
    variables = {f"HATCH_DOCKER_{option}": value for option, value in options.items()}
    variables |= {"HATCH_DOCKER_CACHE_DIR": str(our_cache(place)[0]), "DOCKER_HOST": place.host}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    run(sys.executable, "-m", "hatchling", "build", "-t", "docker", cwd=project,
        variables={**variables, "PYTHONPATH": path})  # fmt: skip


def our_cache(place: Place) -> list[Path]:
    """Return the cache directory of hatch-docker."""
    return [place.directory / "cache"]


ROWS = (
    *(Row(name, partial(build_dockerfile, name)) for name in ("naive", "uninstall", "one-run", "two-stage", "uv")),
    Row("buildkit", partial(build_with_hatch_docker, "buildkit", ""), our_cache),
    Row("embedded", partial(build_with_hatch_docker, "embedded", ""), our_cache),
    Row("embedded-debian", partial(build_with_hatch_docker, "embedded", "debian:trixie"), our_cache),
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """The measurement of a row: its copy of the project, and the figures."""

    row: Row
    place: Place
    project: Path
    times: dict[str, list[float]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def image(self) -> str:
        """Return the name of the image in the daemon."""
        return f"seed/{self.row.name}:1"

    def build(self, case: str, *, changes: bool) -> None:
        """Run and time a build; end the program if the image changes without an edit, or does not change after one."""
        before = "" if case == "cold" else self._id()
        started = time.perf_counter()
        self.row.build(self.place, self.project, self.image)
        self.times.setdefault(case, []).append(time.perf_counter() - started)
        if before and (self._id() != before) is not changes:
            sys.exit(f"{self.row.name}, {case}: the image did {'not ' if changes else ''}change")
        print(f"{self.row.name:16}{case:12}{self.times[case][-1]:8.2f} s", file=sys.stderr, flush=True)

    def round(self, number: int) -> None:
        """Measure each case once; measure the sizes only in the first round, as they take long."""
        self.place.keep_only_base()
        for path in self.row.caches(self.place):
            if path.exists():
                remove(path)
        self.build("cold", changes=True)
        self.build("unchanged", changes=False)
        old = {} if self.sizes else read_layers(self.place, self.image)
        self._edit(PYTHON_FILE, f"# edit {number}")
        self.build("python", changes=True)
        if not self.sizes:
            new = read_layers(self.place, self.image)
            self.sizes["unpacked"] = sum(size for size, _ in new.values())
            self.sizes["compressed"] = sum(size for _, size in new.values())
            self.sizes["pushed"] = sum(size for layer, (_, size) in new.items() if layer not in old)
        self._edit(C_FILE, f'const char edit_{number}[] = "edit {number}";')
        self.build("c", changes=True)
        self.place.docker("run", "--rm", "--network=none", "--entrypoint=", self.image, *COMMAND)
        if "code" not in self.sizes:
            own = self.place.docker("run", "--rm", "--network=none", "--entrypoint=python", self.image, "-c", OWN_SIZE)
            self.sizes["code"] = int(own)
        with self._new_dependency():
            self.build("dependency", changes=True)

    def figures(self, run: str) -> Figures:
        """Return the medians and the sizes; `run` describes the run."""
        times = {case: statistics.median(times) for case, times in self.times.items()}
        return Figures(**self.sizes, times=times, run=run)

    @contextlib.contextmanager
    def _new_dependency(self) -> Iterator[None]:
        """Add a dependency and update the lock; restore both after the block."""
        paths = [self.project / name for name in ("pyproject.toml", "uv.lock")]
        before = [path.read_bytes() for path in paths]
        text = before[0].decode()
        more = text.replace("dependencies = [\n", f'dependencies = [\n  "{DEPENDENCY}",\n', 1)
        if more == text:
            sys.exit("example_project's dependencies are not on separate lines")
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


def read_layers(place: Place, image: str) -> dict[str, tuple[int, int]]:
    """Return the unpacked size and the gzip-compressed size of each layer of an image, by diff-id."""
    path = place.directory / "saved.tar"
    place.docker("save", "--output", path, image)
    item = read_archive(path, host_platform())
    assert isinstance(item, Image)
    found = {layer.diff_id: (layer.descriptor.size, gzip_size(layer)) for layer in item.layers}
    path.unlink()
    return found


def gzip_size(layer: Layer) -> int:
    """Return the gzip-compressed size of a layer, its size in a registry."""
    compressor, size = Compression("gzip").compressor(), 0
    with layer.open() as stream:
        while piece := stream.read(PIECE):
            size += len(compressor.compress(piece))
    return size + len(compressor.flush())


def make_project(directory: Path) -> Path:
    """Copy the example project and lock it; uv and hatch-docker read the lock."""
    project = copy_example(directory)
    run("uv", "lock", "--quiet", cwd=project)
    (project / ".dockerignore").write_text("dist\n")
    (project / ".gitignore").write_text("dist\n.dockerignore\n")
    return project


def describe_run(runs: int, place: Place) -> str:
    """Return the date, the number of rounds and the machine as a text."""
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    docker = place.docker("version", "--format", "{{.Server.Version}}").strip().partition("+")[0]
    rounds = f"medians of {runs} rounds" if runs > 1 else "one round"
    return f"{datetime.now(UTC):%Y-%m-%d}, {rounds}: {os.cpu_count()} processors, {system}, Docker {docker}"


def measure(rows: Sequence[Row], runs: int, results: Path, base: Path | None, above: Path | None) -> None:
    """Measure rows and save their figures after each round."""
    known = json.loads(results.read_text()) if results.exists() else {}
    directory = Path(tempfile.mkdtemp(dir=above, prefix="seed-"))
    try:
        with place_in(directory, base) as place:
            template = make_project(directory / "template")
            measurements = [Measurement(row, place, shutil.copytree(template, directory / row.name)) for row in rows]
            # Each round measures all rows, so that other load of the machine affects all of them.
            for number in range(runs):
                for measurement in measurements:
                    measurement.round(number)
                text = describe_run(number + 1, place)
                known |= {item.row.name: item.figures(text).to_json() for item in measurements}
                ordered = {row.name: known[row.name] for row in ROWS if row.name in known}
                results.write_text(json.dumps(ordered, indent=2) + "\n")
    finally:
        # The daemon bind-mounts its directory onto itself and does not always unmount it.
        subprocess.run(["umount", directory / "data"], capture_output=True, check=False)
        remove(directory)


def main() -> None:
    """Parse the arguments, measure in a temporary directory and write the report."""
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description="Measure the ways to an image, for docs/comparison.md.")
    parser.add_argument("--runs", type=int, default=3, help="builds per case (default: %(default)s)")
    parser.add_argument("--rows", default=",".join(names), help="rows, separated by commas (default: all of them)")
    parser.add_argument("--base", type=Path, help="a tar of the base's files, instead of mmdebstrap's")
    parser.add_argument("--directory", type=Path, help="the working directory (default: the system's)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of figures (default: seed.json)")
    parser.add_argument("--render", action="store_true", help="write page and charts without a measurement")
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
