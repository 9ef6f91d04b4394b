"""Containers that serve HTTP on port 8000."""

import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def serving_container(docker: str, image: str) -> Iterator[str]:
    """Run a container with a read-only root file system and a tmpfs on /tmp; yield the URL of its port 8000."""
    options = ["--detach", "--rm", "--read-only", "--tmpfs=/tmp", "--publish=127.0.0.1::8000"]
    container = subprocess.check_output([docker, "run", *options, image], text=True).strip()
    try:
        port = subprocess.check_output([docker, "port", container, "8000"], text=True).split(":")[-1].strip()
        yield f"http://127.0.0.1:{port}/"
    finally:
        subprocess.run([docker, "kill", container], check=False, capture_output=True)
        names = [image, f"{image.rpartition(':')[0]}:latest"]
        subprocess.run([docker, "rmi", "--force", *names], check=False, capture_output=True)


def wait_for_response(url: str) -> str:
    """Return the body of the response; retry for a minute, as a container takes a moment to start."""
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return str(response.read().decode())
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
