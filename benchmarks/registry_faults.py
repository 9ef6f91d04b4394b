"""What a push and a pull survive on the way to a real registry, for hatch-docker and its peers: 32 single faults.

    python benchmarks/registry_faults.py --python peers/bin/python

Debian's docker-registry runs on loopback behind a proxy that breaks one connection of each journey (an image or a file
there and back) in one of sixteen ways, or gives one of sixteen bad answers, and passes on all else. A peer survives
where both commands end well and what came back is what was sent, to the byte. PYTHON is one with `oras` and
`python-dxf` of PyPI. Docker's daemon must be running and the programs be installed; a peer that is missing, or that
cannot make the journey without a fault, is told and left out. Prints Markdown. Trust the survivals; the seconds depend
on the machine.
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

PATIENCE = 120  # seconds for one command
Fault = tuple[str, int | str]
SAID: dict[int | str, str] = {
    "reset": "RST before the answer", "close": "FIN before the answer", "midway": "FIN in the request's body",
    "cut": "FIN in the answer's body", "lost": "done, the answer lost", "flip": "one bit is wrong",
    "short": "a byte is missing", "long": "a byte too many", 404: "404, the session is forgotten",
}  # fmt: skip
OURS = """
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
    """The commands ended well, and what came back is something else."""


@dataclass(frozen=True, slots=True)
class Journey:
    """One image on its way to `name` and back, in a directory of its own: `image` as a layout, `image.tar` as an
    archive for loading, `layer.bin` as a file.
    """

    image: Image
    name: str
    work: Path

    def run(self, *command: str) -> str:
        """The output of a command; raises CalledProcessError or TimeoutExpired."""
        environ = {**os.environ, "REGISTRY_AUTH_FILE": str(self.work / "auth.json"), "HOME": str(self.work)}
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=PATIENCE, cwd=self.work, env=environ
        )
        return done.stdout

    def expect_layout(self) -> None:
        """What came back is a layout of the same image, every byte of it hashed anew."""
        try:
            back = read_layout(self.work / "back", AMD64)
            validate(back)
        except Exception as error:
            raise DamagedError(str(error)) from error
        if back.digest != self.image.digest:
            raise DamagedError(back.digest)

    def expect_file(self, path: str) -> None:
        """What came back is the layer, byte by byte."""
        if (self.work / path).read_bytes() != (self.work / "layer.bin").read_bytes():
            raise DamagedError(path)


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool: its version, and how it makes the journey."""

    title: str
    version: Callable[[], str]
    travel: Callable[[Journey], None]


def told(*command: str) -> str:
    """The last word that a program says of its version."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.split()[-1]


def engine(*command: str) -> Callable[[Journey], None]:
    """Docker or Podman: loaded, pushed, removed, pulled, and the same image as before."""

    def travel(journey: Journey) -> None:
        called = [word.format(work=journey.work) for word in command]
        plain = ["--tls-verify=false"] if "podman" in command else []
        journey.run(*called, "load", "-i", str(journey.work / "image.tar"))
        started = time.monotonic()
        try:
            journey.run(*called, "push", *plain, journey.name)
            journey.run(*called, "rmi", journey.name)
            journey.run(*called, "pull", *plain, journey.name)
            found = journey.run(*called, "image", "inspect", "--format", "{{.Id}}", journey.name).strip()
        finally:
            (journey.work / "seconds").write_text(str(time.monotonic() - started))
            subprocess.run([*called, "rmi", "-f", journey.name], capture_output=True, check=False)
        if found.removeprefix("sha256:") != journey.image.manifest_json["config"]["digest"].removeprefix("sha256:"):
            raise DamagedError(found)

    return travel


def skopeo(journey: Journey) -> None:
    """Copied from a layout, and to another one."""
    journey.run("skopeo", "copy", "--dest-tls-verify=false", "oci:image:1", f"docker://{journey.name}")
    journey.run("skopeo", "copy", "--src-tls-verify=false", f"docker://{journey.name}", "oci:back:1")
    journey.expect_layout()


def oras(journey: Journey) -> None:
    """Copied from a layout, and to another one."""
    journey.run("oras", "cp", "--from-oci-layout", "image:1", "--to-plain-http", journey.name)
    journey.run("oras", "cp", "--from-plain-http", journey.name, "--to-oci-layout", "back:1")
    journey.expect_layout()


def script(python: str, text: str, check: Callable[[Journey], None]) -> Callable[[Journey], None]:
    """A library: there and back by a few lines of Python."""

    def travel(journey: Journey) -> None:
        journey.run(python, "-c", text, journey.name, str(journey.work))
        check(journey)

    return travel


def peers(python: str) -> list[Peer]:
    """Everybody who is compared."""
    podman = ("podman", "--root", "{work}/podman", "--runroot", "{work}/run", "--storage-driver", "vfs")
    version = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    return [
        Peer("hatch-docker", lambda: told(sys.executable, "-c", version, "hatch-docker"),
             script(sys.executable, OURS, Journey.expect_layout)),
        Peer("docker", lambda: told("docker", "version", "--format", "{{.Server.Version}}"), engine("docker")),
        Peer("skopeo", lambda: told("skopeo", "--version"), skopeo),
        Peer("podman", lambda: told("podman", "--version"), engine(*podman)),
        Peer("oras", lambda: told("sh", "-c", "oras version | head -n 1"), oras),
        Peer("oras-py", lambda: told(python, "-c", version, "oras"),
             script(python, ORAS_PY, lambda journey: journey.expect_file("back/layer.bin"))),
        Peer("python-dxf", lambda: told(python, "-c", version, "python-dxf"),
             script(python, DXF, lambda journey: journey.expect_file("back.bin"))),
    ]  # fmt: skip


def attempt(peer: Peer, upstream: str, directory: Path, fault: Fault | None) -> tuple[str, float]:
    """How one journey ends ("survives", "fails", "hangs", "keeps damage", "never asks"), and its seconds."""
    work = directory / secrets.token_hex(8)
    work.mkdir()
    image = small_image(small_layer("data", secrets.token_bytes(300_000)))  # that nobody has seen
    with FaultProxy(upstream) as proxy:
        journey = Journey(image, f"{proxy.host}/{peer.title}/{work.name}:1", work)
        write_layout(image, work / "image", ["1"])
        with (work / "image.tar").open("wb") as out:
            write_archive(image, [journey.name], out, host=AMD64)
        with image.layers[0].open() as stream:
            (work / "layer.bin").write_bytes(stream.read())
        (work / "auth.json").write_text("{}")
        if fault:
            proxy.fault(*STEPS[fault[0]], fault[1])
        started = time.monotonic()
        outcome = depart(peer, journey)
        seconds = time.monotonic() - started
        if (work / "seconds").exists():  # an engine, which was given the image first
            seconds = float((work / "seconds").read_text())
        if fault and proxy.faults[0].times:
            outcome = "never asks"
    shutil.rmtree(work, ignore_errors=True)
    return outcome, seconds


def depart(peer: Peer, journey: Journey) -> str:
    """How the journey ends."""
    try:
        peer.travel(journey)
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
    """All peers through all faults; prints the tables."""
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
        print(f"| {step}: {SAID.get(fault, fault)} | {' | '.join(cells)} |")


def summary(title: str, version: str, results: Mapping[Fault, tuple[str, float]]) -> str:
    """One peer's line of the first table."""
    lived = {fault: seconds for fault, (outcome, seconds) in results.items() if outcome == "survives"}
    counts = [str(sum(fault in lived for fault in faults)) for faults in (SINGLE, ANSWERS)]
    damaged = sum(outcome == "keeps damage" for outcome, _seconds in results.values())
    slowest = f"{max(lived.values()):.1f} s" if lived else "-"
    return f"| {title} | {version} | {' | '.join(counts)} | {slowest} | {damaged} |"


def main() -> None:
    """Parse the arguments, compare in a temporary directory."""
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
