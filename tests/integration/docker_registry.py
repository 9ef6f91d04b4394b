"""Real registries on this machine: Debian's docker-registry on a free port, with its data in a directory."""

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_docker.oci.reference import Reference, parse_reference
from tests.conftest import need


@dataclass(frozen=True)
class Server:
    """A running registry: its host and port, and the directory of its data."""

    host: str
    data: Path

    def name(self, text: str) -> Reference:
        return parse_reference(f"{self.host}/{text}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def docker_registry(directory: Path, logins: str = "") -> Iterator[Server]:
    """Run docker-registry with its data in a directory until the block ends; `logins`: the content of an .htpasswd."""
    program = need("docker-registry")
    directory.mkdir(parents=True, exist_ok=True)
    host = f"127.0.0.1:{free_port()}"
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": host},
    }
    if logins:
        (directory / "htpasswd").write_text(logins)
        config["auth"] = {"htpasswd": {"realm": "here", "path": str(directory / "htpasswd")}}
    (directory / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(directory / "config.yml")], stdout=log, stderr=log)
    try:
        _wait_for(host)
        yield Server(host, directory / "data")
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(host: str) -> None:
    address, port = host.split(":")
    for _ in range(100):
        try:
            socket.create_connection((address, int(port)), 1).close()
        except ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"docker-registry does not listen on {host}")
