"""A Docker daemon and a registry for benchmarks/seed.py and others, with the base in both."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.bases.debian.apt_config import find_mirrors
from hatch_docker.plan.model import BasePlan

HERE = Path(__file__).parent / "seed"


def run(*command: str | Path, cwd: Path | None = None, variables: Mapping[str, str] | None = None) -> str:
    """Run a program and return its output; if it fails, end this program with its output."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**os.environ, **(variables or {})}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Place:
    """The environment of a measurement: a directory, a daemon, and the name of the base in a registry."""

    directory: Path
    host: str                                 # the daemon's address
    base: str

    def docker(self, *arguments: str | Path) -> str:
        """Run docker with this daemon."""
        return run("docker", *arguments, variables={"DOCKER_HOST": self.host})

    def keep_only_base(self) -> None:
        """Remove all images except the base, and the build cache, from the daemon."""
        kept = self.docker("image", "inspect", "--format", "{{.Id}}", self.base).strip()
        others = sorted(set(self.docker("images", "--quiet", "--no-trunc").split()) - {kept})
        if others:
            self.docker("rmi", "--force", *others)
        self.docker("builder", "prune", "--all", "--force")


@contextlib.contextmanager
def running(
    *command: str | Path, log: Path, cwd: Path | None = None, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service until the block ends."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=stream, stderr=stream, cwd=cwd,
            env={**os.environ, **(variables or {})},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait(service: str, ready: Callable[[], bool]) -> None:
    """Wait until a service is ready."""
    for _ in range(300):
        if ready():
            return
        time.sleep(0.1)
    sys.exit(f"{service} does not answer")


def spread_inodes(*directories: Path) -> None:
    """Spread new subdirectories of these directories over the disk (`chattr +T`), if the file system supports it.

    ext4 without a journal checks all inodes near a new one that were freed within the last minute. A build that starts
    directly after the removal of another build's files would take up to twice as long as on a new machine.
    """
    for directory in filter(Path.is_dir, directories):
        subprocess.run(["chattr", "+T", directory], capture_output=True, check=False)


@contextlib.contextmanager
def bridge() -> Iterator[str]:
    """Make a bridge network with access to the internet for the daemon's builds; rules of other daemons stay."""
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
def place_in(directory: Path, base: Path | None, *, containerd: bool = False) -> Iterator[Place]:
    """Start a daemon and a registry with the base in both; `containerd`: use containerd's image store."""
    path = directory / "docker.sock"
    host = f"unix://{path}"
    (directory / "daemon.json").write_text(json.dumps({"features": {"containerd-snapshotter": containerd}}))
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
        version = ["docker", "--host", host, "version"]
        wait("dockerd", lambda: subprocess.run(version, capture_output=True, check=False).returncode == 0)
        data = directory / "data"
        spread_inodes(directory, data / "overlay2", *data.glob("containerd/*/*/snapshots"))
        place = Place(directory, host, f"{address}/python:3.13-slim")
        make_base(place, base)
        yield place


def make_base(place: Place, ready: Path | None) -> None:
    """Build and push the base: Debian with Python, pip and apt, in place of python:3.13-slim.

    `ready`: a tar file of the base's files; without it mmdebstrap makes one.
    """
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
