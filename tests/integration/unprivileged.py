"""An image from nothing but a cache and a registry of one's own: run where there is no daemon and no network.

python -m tests.integration.unprivileged PROJECT CACHE DIRECTORY
"""

import errno
import shutil
import socket
import sys
from pathlib import Path

from tests.integration.builds import build, done
from tests.integration.docker_registry import docker_registry
from tests.projects import write_project

ENGINES = ("docker", "podman", "buildah", "nerdctl", "buildctl", "dockerd")


def check_alone() -> None:
    """Nothing answers that could do the work for us."""
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
    """Compile, build, look at it, push it, and build another project on it with an empty cache."""
    check_alone()
    variables = {"HATCH_DOCKER_LOAD": "auto"}
    outcome = build(project, cache, variables=variables)
    assert "project" in outcome.made()
    assert outcome.receipt["references"] == []
    image = outcome.image()
    with docker_registry(directory / "registry") as registry:
        done(project, cache, "inspect")
        done(project, cache, "push", "--registry", registry.host)
        other = write_project("hello", directory / "other", base=f"{registry.host}/c-extension:1.0.0")
        on_top = build(other, directory / "cold", variables=variables)
        assert [layer.diff_id for layer in on_top.image().layers[: len(image.layers)]] == [
            layer.diff_id for layer in image.layers
        ]
    print(outcome.digest)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
