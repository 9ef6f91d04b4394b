"""Clients for tests of the network: waits are recorded and skipped, and all output is recorded."""

import base64
import json
import ssl
from collections.abc import Mapping
from pathlib import Path

import trustme

from hatch_docker.core.http.client import Client
from hatch_docker.core.http.retry import Policy
from hatch_docker.core.progress import Progress
from hatch_docker.oci.reference import Reference, parse_reference
from hatch_docker.oci.registry import Remote
from tests.fakes.registry import FakeRegistry

PASSWORD = "pass-s3cret-word"
# The requests of a push and a pull: method and a part of the path.
STEPS = [
    ("HEAD", "/blobs/"), ("POST", "/blobs/uploads/"), ("PUT", "/blobs/uploads/"), ("HEAD", "/manifests/"),
    ("PUT", "/manifests/"), ("GET", "/manifests/"), ("GET", "/blobs/"),
]  # fmt: skip


class Recording:
    """A Remote with recorded waits (which are skipped) and recorded output at the highest verbosity."""

    def __init__(self, environ: Mapping[str, str] | None = None, idle: float = 20.0) -> None:
        self.lines: list[str] = []
        self.sleeps: list[float] = []
        policy = Policy(sleep=self.sleeps.append)
        self.client = Client(environ or {}, Progress(self.lines.append, 2), policy, idle=idle)
        self.remote = Remote(self.client, environ or {})


def name(registry: FakeRegistry, text: str = "team/app:1") -> Reference:
    """Return a reference to the registry."""
    return parse_reference(f"{registry.host}/{text}")


def login(directory: Path, *registries: FakeRegistry, password: str = PASSWORD) -> dict[str, str]:
    """Write a Docker configuration with the password of some registries, and return its environment."""
    auth = {"auth": base64.b64encode(f"user:{password}".encode()).decode()}
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"auths": {registry.host: auth for registry in registries}}))
    return {"DOCKER_CONFIG": str(directory)}


def serve_tls(registry: FakeRegistry, authority: trustme.CA, name: str = "registry.example") -> None:
    """Have a registry use TLS with a certificate for `name`. Call it before the registry starts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    registry.server.socket = context.wrap_socket(registry.server.socket, server_side=True)


def login_for_example(directory: Path, registry: FakeRegistry) -> dict[str, str]:
    """Return an environment with the password of the registry under the name registry.example."""
    environ = login(directory, registry)
    path = directory / "config.json"
    path.write_text(path.read_text().replace("127.0.0.1", "registry.example"))
    return environ
