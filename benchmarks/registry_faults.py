"""32 single faults of a registry: which of them do hatch-docker and other tools survive in a push and a pull?

    python benchmarks/registry_faults.py --python peers/bin/python

Debian's docker-registry runs on loopback behind a proxy. In each round trip (push and pull of an image or a file) the
proxy breaks one connection in one of sixteen ways, or sends one of sixteen faulty responses; it forwards everything
else. A tool survives if both commands succeed and the pulled bytes equal the pushed ones. PYTHON must have `oras` and
`python-dxf` from PyPI. Docker's daemon must run and the programs must be installed; a tool that is missing, or that
fails without a fault, is reported and left out. Prints Markdown. The seconds depend on the machine.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hatch_docker.oci.archive import write_archive  # noqa: E402 - the script is run by its path
from hatch_docker.oci.layout import read_layout, write_layout  # noqa: E402
from hatch_docker.oci.model import Image  # noqa: E402
from tests.fakes.images import AMD64, small_image, small_layer  # noqa: E402
from tests.fakes.registry_proxy import ANSWERS, SINGLE, STEPS, FaultProxy  # noqa: E402
from tests.integration.docker_registry import docker_registry  # noqa: E402
from tests.validate import validate  # noqa: E402

TIMEOUT = 120  # the maximum seconds of a command
Fault = tuple[str, int | str]
FAULT_TITLES: dict[int | str, str] = {
    "reset": "RST before the answer", "close": "FIN before the answer", "midway": "FIN in the request's body",
    "cut": "FIN in the answer's body", "lost": "done, the answer lost", "flip": "one bit is wrong",
    "short": "a byte is missing", "long": "a byte too many", 404: "404, the session is forgotten",
}  # fmt: skip
HATCH_DOCKER = """
import sys
from dataclasses import replace
from pathlib import Path
from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.model import host_platform
from hatch_docker.oci.push import Target, push_blobs, put_tags
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.pull import pull
from hatch_docker.oci.registry import Remote
from hatch_docker.oci.layout import write_layout
from hatch_docker.core.progress import Progress
from hatch_docker.core.cache.store import open_store
from hatch_docker.core.http.client import Client
name, work = parse_reference(sys.argv[1]), Path(sys.argv[2])
remote = Remote(Client({}, Progress(lambda line: print(line, file=sys.stderr))), {})
image = read_archive(work / "image.tar")
target = Target(remote, replace(name, tag=""), lambda _digest: "")
push_blobs(target, image, remote.client.progress.task(""))
put_tags(target, image, [name.tag])
write_layout(pull(remote, name, image.platform, open_store(work / "cache")), work / "back", ["1"])
"""
ORAS_PY = """
import sys
import oras.client
name, work = sys.argv[1:]
client = oras.client.OrasClient(hostname=name.partition("/")[0], insecure=True)
client.push(name, files=[f"{work}/layer.bin:application/octet-stream"], disable_path_validation=True)
client.pull(name, outdir=f"{work}/back")
"""
DXF = """
import sys
from dxf import DXF
name, work = sys.argv[1:]
host, _, rest = name.partition("/")
dxf = DXF(host, rest.partition(":")[0], insecure=True)
dxf.set_alias("1", dxf.push_blob(f"{work}/layer.bin"))
(digest,) = dxf.get_alias("1")
with open(f"{work}/back.bin", "wb") as out:
    for data in dxf.pull_blob(digest):
        out.write(data)
"""


class DamagedError(Exception):
    """The commands succeeded, but the pulled content differs from the pushed content."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A push of an image to `name` and a pull, in a directory with the image as a layout (`image`) and as an archive
    (`image.tar`), and with its layer (`layer.bin`).
    """

    image: Image
    name: str
    work: Path

    def run(self, *command: str) -> str:
        """Run a command; return its output. Raises CalledProcessError or TimeoutExpired."""
        environ = {**os.environ, "REGISTRY_AUTH_FILE": str(self.work / "auth.json"), "HOME": str(self.work)}
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=TIMEOUT, cwd=self.work, env=environ
        )
        return done.stdout

    def expect_layout(self) -> None:
        """Check that the pulled layout has the same image, with correct hashes; else raise DamagedError."""
        try:
            back = read_layout(self.work / "back", AMD64)
            validate(back)
        except Exception as error:
            raise DamagedError(str(error)) from error
        if back.digest != self.image.digest:
            raise DamagedError(back.digest)

    def expect_file(self, path: str) -> None:
        """Check that the pulled file equals the layer; else raise DamagedError."""
        if (self.work / path).read_bytes() != (self.work / "layer.bin").read_bytes():
            raise DamagedError(path)


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool: its title, its version, and its round trip."""

    title: str
    version: Callable[[], str]
    travel: Callable[[RoundTrip], None]


def version_in(*command: str) -> str:
    """Run a command; return the last word of its output, the version."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.split()[-1]


def engine(*command: str) -> Callable[[RoundTrip], None]:
    """Return the round trip of Docker or Podman: load, push, remove and pull the image, and compare its ID."""

    def travel(round_trip: RoundTrip) -> None:
        called = [word.format(work=round_trip.work) for word in command]
        plain = ["--tls-verify=false"] if "podman" in command else []
        round_trip.run(*called, "load", "-i", str(round_trip.work / "image.tar"))
        started = time.monotonic()
        try:
            round_trip.run(*called, "push", *plain, round_trip.name)
            round_trip.run(*called, "rmi", round_trip.name)
            round_trip.run(*called, "pull", *plain, round_trip.name)
            found = round_trip.run(*called, "image", "inspect", "--format", "{{.Id}}", round_trip.name).strip()
        finally:
            (round_trip.work / "seconds").write_text(str(time.monotonic() - started))
            subprocess.run([*called, "rmi", "-f", round_trip.name], capture_output=True, check=False)
        if found.removeprefix("sha256:") != round_trip.image.manifest_json["config"]["digest"].removeprefix("sha256:"):
            raise DamagedError(found)

    return travel


def skopeo(round_trip: RoundTrip) -> None:
    """Copy from a layout, and to another layout."""
    round_trip.run("skopeo", "copy", "--dest-tls-verify=false", "oci:image:1", f"docker://{round_trip.name}")
    round_trip.run("skopeo", "copy", "--src-tls-verify=false", f"docker://{round_trip.name}", "oci:back:1")
    round_trip.expect_layout()


def oras(round_trip: RoundTrip) -> None:
    """Copy from a layout, and to another layout."""
    round_trip.run("oras", "cp", "--from-oci-layout", "image:1", "--to-plain-http", round_trip.name)
    round_trip.run("oras", "cp", "--from-plain-http", round_trip.name, "--to-oci-layout", "back:1")
    round_trip.expect_layout()


def script(python: str, text: str, check: Callable[[RoundTrip], None]) -> Callable[[RoundTrip], None]:
    """Return the round trip of a Python library: a script pushes and pulls."""

    def travel(round_trip: RoundTrip) -> None:
        round_trip.run(python, "-c", text, round_trip.name, str(round_trip.work))
        check(round_trip)

    return travel


def peers(python: str) -> list[Peer]:
    """Return the tools to compare."""
    podman = ("podman", "--root", "{work}/podman", "--runroot", "{work}/run", "--storage-driver", "vfs")
    version = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    return [
        Peer("hatch-docker", lambda: version_in(sys.executable, "-c", version, "hatch-docker"),
             script(sys.executable, HATCH_DOCKER, RoundTrip.expect_layout)),
        Peer("docker", lambda: version_in("docker", "version", "--format", "{{.Server.Version}}"), engine("docker")),
        Peer("skopeo", lambda: version_in("skopeo", "--version"), skopeo),
        Peer("podman", lambda: version_in("podman", "--version"), engine(*podman)),
        Peer("oras", lambda: version_in("sh", "-c", "oras version | head -n 1"), oras),
        Peer("oras-py", lambda: version_in(python, "-c", version, "oras"),
             script(python, ORAS_PY, lambda round_trip: round_trip.expect_file("back/layer.bin"))),
        Peer("python-dxf", lambda: version_in(python, "-c", version, "python-dxf"),
             script(python, DXF, lambda round_trip: round_trip.expect_file("back.bin"))),
    ]  # fmt: skip


def attempt(peer: Peer, upstream: str, directory: Path, fault: Fault | None) -> tuple[str, float]:
    """Run a round trip; return its outcome and its seconds.

    Outcomes: "survives", "fails", "hangs", "keeps damage", "never asks" (the request with the fault is not sent).
    """
    work = directory / secrets.token_hex(8)
    work.mkdir()
    image = small_image(small_layer("data", secrets.token_bytes(300_000)))  # a unique layer
    with FaultProxy(upstream) as proxy:
        round_trip = RoundTrip(image, f"{proxy.host}/{peer.title}/{work.name}:1", work)
        write_layout(image, work / "image", ["1"])
        with (work / "image.tar").open("wb") as out:
            write_archive(image, [round_trip.name], out, host=AMD64)
        with image.layers[0].open() as stream:
            (work / "layer.bin").write_bytes(stream.read())
        (work / "auth.json").write_text("{}")
        if fault:
            proxy.fault(*STEPS[fault[0]], fault[1])
        started = time.monotonic()
        outcome = run_peer(peer, round_trip)
        seconds = time.monotonic() - started
        if (work / "seconds").exists():  # an engine, without the time to load the image
            seconds = float((work / "seconds").read_text())
        if fault and proxy.faults[0].times:
            outcome = "never asks"
    shutil.rmtree(work, ignore_errors=True)
    return outcome, seconds


def run_peer(peer: Peer, round_trip: RoundTrip) -> str:
    """Run a tool's round trip; return its outcome."""
    try:
        peer.travel(round_trip)
    except DamagedError:
        return "keeps damage"
    except subprocess.TimeoutExpired:
        return "hangs"
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
        print(f"  {peer.title}: {lines[-1][:200] if lines else error}", file=sys.stderr)
        return "fails"
    return "survives"


def compare(chosen: Sequence[Peer], upstream: str, directory: Path) -> None:
    """Run all tools with all faults and print the tables."""
    found: dict[str, dict[Fault, tuple[str, float]]] = {}
    versions = {}
    for peer in chosen:
        try:
            versions[peer.title] = peer.version()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{peer.title} is left out: {error}", file=sys.stderr)
            continue
        outcome, seconds = attempt(peer, upstream, directory, None)
        print(f"{peer.title} {versions[peer.title]}: {outcome} without a fault in {seconds:.1f} s", file=sys.stderr)
        if outcome == "survives":
            found[peer.title] = {fault: attempt(peer, upstream, directory, fault) for fault in (*SINGLE, *ANSWERS)}
    head = f"broken connections, of {len(SINGLE)} | bad answers, of {len(ANSWERS)}"
    print(f"| tool | version | {head} | slowest of these | keeps damage |\n|---|---|--:|--:|--:|--:|")
    for title, results in found.items():
        print(summary(title, versions[title], results))
    print(f"\n| fault | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    for step, fault in (*SINGLE, *ANSWERS):
        cells = [results[step, fault][0] for results in found.values()]
        print(f"| {step}: {FAULT_TITLES.get(fault, fault)} | {' | '.join(cells)} |")


def summary(title: str, version: str, results: Mapping[Fault, tuple[str, float]]) -> str:
    """Return a tool's line of the first table."""
    survived = {fault: seconds for fault, (outcome, seconds) in results.items() if outcome == "survives"}
    counts = [str(sum(fault in survived for fault in faults)) for faults in (SINGLE, ANSWERS)]
    damaged = sum(outcome == "keeps damage" for outcome, _seconds in results.values())
    slowest = f"{max(survived.values()):.1f} s" if survived else "-"
    return f"| {title} | {version} | {' | '.join(counts)} | {slowest} | {damaged} |"


def main() -> None:
    """Parse the arguments and compare in a temporary directory."""
    parser = argparse.ArgumentParser(description="Show 32 faults of a registry to its clients; prints Markdown.")
    parser.add_argument("--python", default=sys.executable, help="a Python with oras and python-dxf")
    parser.add_argument("peers", nargs="*", metavar="PEER", help="those to compare (default: all of them)")
    options = parser.parse_args()
    python = options.python if os.sep not in options.python else str(Path(options.python).absolute())
    known = peers(python)
    unknown = set(options.peers) - {peer.title for peer in known}
    if unknown:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="registry-faults-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        with docker_registry(directory / "registry") as server:
            chosen = [peer for peer in known if not options.peers or peer.title in options.peers]
            compare(chosen, server.host, directory)


if __name__ == "__main__":
    main()
