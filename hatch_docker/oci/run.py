"""Running a command in a temporary container of an image. Container and image are removed from the daemon."""

import contextlib
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hatch_docker.core.files import temporary_directory
from hatch_docker.core.process import LAST_LINES, ProcessFailed, TimedOut, run
from hatch_docker.oci.archive import write_archive
from hatch_docker.oci.daemon import load, open_client
from hatch_docker.oci.engine_api import Daemon
from hatch_docker.oci.model import Image

# The image's user, no writable directory except /tmp, no capabilities, no network.
_PROGRAM_OPTIONS = (
    "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges",
)  # fmt: skip


def run_once(
    daemon: Daemon, image: Image, command: Sequence[str], log: Callable[[str], None], *, timeout: float
) -> tuple[int, str]:
    """Load an image, run a command in it instead of its entry point; return the exit status and the last lines.

    `log` gets each line of output. The image is loaded under a temporary name, which is removed at the end, and the
    image with it unless it has other names. Raises DaemonError, and TimedOut after `timeout` seconds.
    """
    name = f"localhost/hatch-docker-check:{image.digest[-12:]}"
    with temporary_directory() as directory:
        archive = directory / "image.tar"
        with archive.open("wb") as stream:
            write_archive(image, [name], stream, host=image.platform)
        loaded = load(daemon, image, [name], archive, host=image.platform, log=log)
    if not daemon.url:
        return _run_by_program(daemon.kind, name, command, log, timeout)
    with open_client(daemon) as client:
        try:
            with _container(client, loaded.image_id, command) as container:
                client.start(container)
                with _kill_after(timeout, client, container):
                    return _read_log(client, container, log)
        finally:
            client.remove_image(name)


@contextlib.contextmanager
def _container(client: Any, image_id: str, command: Sequence[str]) -> Iterator[str]:
    limits = client.create_host_config(
        network_mode="none", read_only=True, tmpfs={"/tmp": ""}, cap_drop=["ALL"],  # noqa: S108
        security_opt=["no-new-privileges"],
    )  # fmt: skip
    container = client.create_container(
        image_id, list(command[1:]), entrypoint=list(command[:1]), host_config=limits
    )["Id"]
    try:
        yield container
    finally:
        client.remove_container(container, force=True)


@contextlib.contextmanager
def _kill_after(seconds: float, client: Any, container: str) -> Iterator[None]:
    overdue = threading.Event()

    def kill() -> None:
        overdue.set()
        client.kill(container)

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if overdue.is_set():
            raise TimedOut(f"the container did not finish within {seconds:g} s")


def _read_log(client: Any, container: str, log: Callable[[str], None]) -> tuple[int, str]:
    last: deque[str] = deque(maxlen=LAST_LINES)
    pending = b""
    for piece in client.logs(container, stream=True, follow=True):
        *whole, pending = (pending + piece).split(b"\n")
        for line in whole:
            last.append(line.decode(errors="replace"))
            log(last[-1])
    if pending:
        last.append(pending.decode(errors="replace"))
        log(last[-1])
    return int(client.wait(container)["StatusCode"]), "\n".join(last)


def _run_by_program(
    program: str, name: str, command: Sequence[str], log: Callable[[str], None], timeout: float
) -> tuple[int, str]:
    container = f"hatch-docker-check-{secrets.token_hex(6)}"
    options = (*_PROGRAM_OPTIONS, f"--name={container}", f"--entrypoint={command[0]}")
    try:
        log(run([program, "run", *options, name, *command[1:]], log=log, timeout=timeout))
    except ProcessFailed as failure:
        return failure.status, failure.output
    finally:
        with contextlib.suppress(ProcessFailed):  # already removed (--rm), unless the program was killed
            run([program, "rm", "--force", container])
        run([program, "rmi", "--force", name], log=log)
    return 0, ""
