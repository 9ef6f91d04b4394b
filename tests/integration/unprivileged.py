"""Build, inspect and push images on a machine without a container engine and without a network.

python -m tests.integration.unprivileged PROJECT CACHE DIRECTORY
"""

import errno
import shutil
import socket
import sys
from pathlib import Path

from tests.integration.builds import build, output_of
from tests.integration.docker_registry import docker_registry
from tests.projects import write_project

ENGINES = ("docker", "podman", "buildah", "nerdctl", "buildctl", "dockerd")


def check_isolation() -> None:
    """Check that there is no container engine, no socket of a daemon and no network."""
    assert [name for name in ENGINES if shutil.which(name)] == []
    assert not Path("/var/run/docker.sock").exists()
    assert not Path("/run/podman/podman.sock").exists()
    try:
        socket.create_connection(("192.0.2.1", 443), 1).close()
    except OSError as error:
        assert error.errno == errno.ENETUNREACH
    else:
        raise AssertionError("there is a network")


def main(project: Path, cache: Path, directory: Path) -> None:
    """Build an image with compiled code, inspect and push it, and build another project on it with an empty cache."""
    check_isolation()
    variables = {"HATCH_DOCKER_LOAD": "auto"}
    outcome = build(project, cache, variables=variables)
    assert "project" in outcome.new_layers()
    assert outcome.receipt["references"] == []
    image = outcome.image()
    with docker_registry(directory / "registry") as registry:
        output_of(project, cache, "inspect")
        output_of(project, cache, "push", "--registry", registry.host)
        other = write_project("hello", directory / "other", base=f"{registry.host}/c-extension:1.0.0")
        on_top = build(other, directory / "cold", variables=variables)
        assert [layer.diff_id for layer in on_top.image().layers[: len(image.layers)]] == [
            layer.diff_id for layer in image.layers
        ]
    print(outcome.digest)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
