"""What an image of one compiled project costs, made in the ways that people make it: size, and time to build again.

    python benchmarks/seed.py                     measures everything, writes seed.json, README and docs/seed.svg
    python benchmarks/seed.py --rows uv,embedded  some rows only; the others keep their figures
    python benchmarks/seed.py --render            README and chart again, of the figures that are there

The project is `example_project`: a C extension, Pillow, Starlette, Uvicorn. All rows stand on one base, a stand-in for
python:3.13-slim made of Debian's packages and served by a registry of this machine. The Dockerfiles are those of
`benchmarks/seed/`, built by `docker build`; ours are whole processes of `hatchling build -t docker`, which load the
image into the same daemon. It is a Docker daemon of the benchmark's own, in a temporary directory, so that emptying
its cache empties nobody's. Needs root, docker, mmdebstrap, docker-registry, iptables, and the network for packages.

    cold         no layer, no download and no build cache is left; the base is in the daemon
    unchanged    the same build once more
    .py edited   one line of one module is new
    C edited     one line of the C extension is new

Each is the median of a few runs. "Pushed again" is what a registry lacks of the image after the .py was edited.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.build_times import copy_example, remove  # noqa: E402 - the script is run by its path
from benchmarks.seed_report import RESULTS, Figures, write_report  # noqa: E402
from hatch_docker.bases.apt import find_mirrors  # noqa: E402
from hatch_docker.oci.archive import read_archive  # noqa: E402
from hatch_docker.oci.compression import Compression  # noqa: E402
from hatch_docker.oci.model import Image, Layer, host_platform  # noqa: E402
from hatch_docker.plan import BasePlan  # noqa: E402

HERE = Path(__file__).parent / "seed"
PYTHON_FILE = "src/mandelbrot_tiles/server.py"
C_FILE = "src/mandelbrot_tiles/_mandelbrot.c"
COMMAND = ("mandelbrot-tiles", "--self-check")  # needs the C extension and the dependencies
PIECE = 1 << 20


def run(*command: str | Path, cwd: Path | None = None, variables: Mapping[str, str] | None = None) -> str:
    """Run a program; its failure is the end."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**os.environ, **(variables or {})}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is measured: a directory, a daemon, the base in a registry."""

    directory: Path
    host: str                                 # the daemon's
    base: str

    def docker(self, *arguments: str | Path) -> str:
        """Run docker against our daemon."""
        return run("docker", *arguments, variables={"DOCKER_HOST": self.host})

    def forget(self) -> None:
        """Leave the daemon with the base and nothing else."""
        kept = self.docker("image", "inspect", "--format", "{{.Id}}", self.base).strip()
        others = sorted(set(self.docker("images", "--quiet", "--no-trunc").split()) - {kept})
        if others:
            self.docker("rmi", "--force", *others)
        self.docker("builder", "prune", "--all", "--force")


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

    def figures(self) -> Figures:
        """Medians, and the sizes."""
        return Figures(**self.sizes, times={case: statistics.median(times) for case, times in self.times.items()})

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


@contextlib.contextmanager
def running(*command: str | Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A service, ended with the block."""
    with log.open("wb") as stream:
        process = subprocess.Popen([str(word) for word in command], stdout=stream, stderr=stream)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait(what: str, ready: Callable[[], bool]) -> None:
    """Until a service answers."""
    for _ in range(300):
        if ready():
            return
        time.sleep(0.1)
    sys.exit(f"{what} does not answer")


@contextlib.contextmanager
def bridge() -> Iterator[str]:
    """A network for the daemon's builds that leads outside, and leaves the rules of other daemons alone."""
    name, subnet = "seed0", "172.31.253.0/24"
    outwards = [
        ["nat", "POSTROUTING", "--source", subnet, "!", "--out-interface", name, "--jump", "MASQUERADE"],
        ["filter", "FORWARD", "--in-interface", name, "--jump", "ACCEPT"],
        ["filter", "FORWARD", "--out-interface", name, "--jump", "ACCEPT"],
    ]
    run("ip", "link", "add", name, "type", "bridge")
    try:
        run("ip", "address", "add", subnet.replace(".0/", ".1/"), "dev", name)
        run("ip", "link", "set", name, "up")
        for table, chain, *rule in outwards:
            run("iptables", "--table", table, "--insert", chain, *rule)
        yield name
    finally:
        for table, chain, *rule in outwards:
            subprocess.run(["iptables", "--table", table, "--delete", chain, *rule], capture_output=True, check=False)
        run("ip", "link", "delete", name)


@contextlib.contextmanager
def place_in(directory: Path, base: Path | None) -> Iterator[Place]:
    """A daemon and a registry of our own, with the base in both."""
    path = directory / "docker.sock"
    host = f"unix://{path}"
    (directory / "daemon.json").write_text("{}")
    command = ["dockerd", f"--config-file={directory / 'daemon.json'}", f"--host={host}", "--iptables=false"]
    command += [f"--{name}-root={directory / name}" for name in ("data", "exec")] + ["--ip6tables=false"]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    store = {"filesystem": {"rootdirectory": str(directory / "registry")}}
    config = {"version": 0.1, "log": {"level": "error"}, "storage": store, "http": {"addr": address}}
    (directory / "registry.json").write_text(json.dumps(config))
    registry = ["docker-registry", "serve", directory / "registry.json"]
    with (
        bridge() as network,
        running(*command, f"--bridge={network}", f"--pidfile={directory / 'pid'}", log=directory / "dockerd.log"),
        running(*registry, log=directory / "registry.log"),
    ):
        asked = ["docker", "--host", host, "version"]
        wait("dockerd", lambda: subprocess.run(asked, capture_output=True, check=False).returncode == 0)
        place = Place(directory, host, f"{address}/python:3.13-slim")
        make_base(place, base)
        yield place


def make_base(place: Place, ready: Path | None) -> None:
    """Debian with Python, pip and apt, as a registry's image: what python:3.13-slim is, out of Debian's packages."""
    context = place.directory / "base"
    context.mkdir()
    if ready:
        shutil.copyfile(ready, context / "base.tar")
    else:
        mirrors = find_mirrors(BasePlan("debian", "debian:trixie", "trixie"), os.environ)
        sources = [f"deb {mirrors.main} {suite} main" for suite in ("trixie", "trixie-updates")]
        sources.append(f"deb {mirrors.security} trixie-security main")
        packages = "python3,python3-pip,python3-venv,python-is-python3,ca-certificates"
        run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", "trixie", context / "base.tar",
            *sources)  # fmt: skip
    authorities = next(Path(path) for path in (
        os.environ.get("SSL_CERT_FILE", ""), "/etc/ssl/certs/ca-certificates.crt") if path and Path(path).is_file()
    )  # fmt: skip
    shutil.copyfile(authorities, context / "ca-certificates.crt")
    known = run(sys.executable, "-m", "pip", "config", "list")
    indexes = [line.partition(".")[2].replace("'", "") for line in known.splitlines() if "index-url" in line]
    lines = ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt", *indexes]
    (context / "pip.conf").write_text("\n".join(lines) + "\n")
    place.docker("build", "--network=none", f"--tag={place.base}", f"--file={HERE / 'base.Dockerfile'}", context)
    place.docker("push", place.base)
    shutil.rmtree(context)


def make_project(directory: Path) -> Path:
    """The example with a lock, which uv's row and ours read."""
    project = copy_example(directory)
    run("uv", "lock", "--quiet", cwd=project)
    (project / ".dockerignore").write_text("dist\n")
    (project / ".gitignore").write_text("dist\n.dockerignore\n")
    return project


def measure(rows: Sequence[Row], runs: int, base: Path | None, above: Path | None) -> None:
    """Measure some rows and keep their figures, after each round."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    directory = Path(tempfile.mkdtemp(dir=above, prefix="seed-"))
    try:
        with place_in(directory, base) as place:
            template = make_project(directory / "template")
            measured = [Measurement(row, place, shutil.copytree(template, directory / row.name)) for row in rows]
            # Round by round: what else the machine does in the meantime hits every row.
            for number in range(runs):
                for one in measured:
                    one.round(number)
                known |= {one.row.name: one.figures().to_json() for one in measured}
                ordered = {row.name: known[row.name] for row in ROWS if row.name in known}
                RESULTS.write_text(json.dumps(ordered, indent=2) + "\n")
    finally:
        # The daemon mounts its directory on itself, and does not always undo that.
        subprocess.run(["umount", directory / "data"], capture_output=True, check=False)
        remove(directory)


def main() -> None:
    """Parse the arguments, measure in a temporary directory, write the report."""
    names = [row.name for row in ROWS]
    parser = argparse.ArgumentParser(description="Measure the ways to an image; writes README and docs/seed.svg.")
    parser.add_argument("--runs", type=int, default=3, help="builds per case (default: %(default)s)")
    parser.add_argument("--rows", default=",".join(names), help="rows between commas (default: all of them)")
    parser.add_argument("--base", type=Path, help="a tar of the base's files, instead of mmdebstrap's")
    parser.add_argument("--directory", type=Path, help="where to work (default: the system's)")
    parser.add_argument("--render", action="store_true", help="measure nothing; write README and chart again")
    options = parser.parse_args()
    chosen = options.rows.split(",")
    if unknown := set(chosen) - set(names):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    if not options.render:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that the services end too
        measure([row for row in ROWS if row.name in chosen], options.runs, options.base, options.directory)
    write_report()


if __name__ == "__main__":
    main()
