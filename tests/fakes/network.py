"""The network as a test sees it: waits are counted and not waited, and every line for the user is kept."""

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
# The steps of a push and a pull, by method and a part of the path.
STEPS = [
    ("HEAD", "/blobs/"), ("POST", "/blobs/uploads/"), ("PUT", "/blobs/uploads/"), ("HEAD", "/manifests/"),
    ("PUT", "/manifests/"), ("GET", "/manifests/"), ("GET", "/blobs/"),
]  # fmt: skip


class Recording:
    """A remote whose sleeps are counted and not slept, and all that the user reads at the highest verbosity."""

    def __init__(self, environ: Mapping[str, str] | None = None, idle: float = 20.0) -> None:
        self.lines: list[str] = []
        self.sleeps: list[float] = []
        policy = Policy(sleep=self.sleeps.append)
        self.client = Client(environ or {}, Progress(self.lines.append, 2), policy, idle=idle)
        self.remote = Remote(self.client, environ or {})


def name(registry: FakeRegistry, text: str = "team/app:1") -> Reference:
    """A name in the registry."""
    return parse_reference(f"{registry.host}/{text}")


def login(directory: Path, *registries: FakeRegistry, password: str = PASSWORD) -> dict[str, str]:
    """An environment whose Docker configuration knows the password of some registries."""
    auth = {"auth": base64.b64encode(f"user:{password}".encode()).decode()}
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"auths": {registry.host: auth for registry in registries}}))
    return {"DOCKER_CONFIG": str(directory)}


def serve_tls(registry: FakeRegistry, authority: trustme.CA, name: str = "registry.example") -> None:
    """Let it speak TLS under a name, before it serves; by default one that is not this machine's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    registry.server.socket = context.wrap_socket(registry.server.socket, server_side=True)


def login_for_example(directory: Path, registry: FakeRegistry) -> dict[str, str]:
    """An environment that knows the password under that name."""
    environ = login(directory, registry)
    path = directory / "config.json"
    path.write_text(path.read_text().replace("127.0.0.1", "registry.example"))
    return environ
