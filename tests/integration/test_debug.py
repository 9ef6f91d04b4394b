"""The debug variant in a container: a debugger attaches, stops at a breakpoint, reads a variable and disconnects."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need_docker, run
from tests.integration.builds import build, write_program

pytestmark = [pytest.mark.network, pytest.mark.engine]

NAME = "hatch-docker-tested/debugged"
MODULE = """
import time
def main():
    number = 41
    while True:
        number += 1
        time.sleep(0.1)
"""
LINE = 7  # time.sleep


@pytest.fixture
def container(tmp_path: Path, cache: Path) -> Iterator[tuple[str, int]]:
    """Run a container of the debug variant with a read-only root; yield its ID and the debugger's port on the host."""
    docker = need_docker()
    options = f'image = "{NAME}"\ndebug = true\ndebug-shell = true\n'
    project = write_program(tmp_path / "p", "debugged", MODULE, options)
    outcome = build(project, cache, variables={"HATCH_DOCKER_LOAD": "always"})
    assert outcome.archive.name == "debugged-1.0.debug.oci.tar"
    assert f"docker run --rm -p 127.0.0.1:5678:5678 {NAME}:1.0-debug" in outcome.output
    command = [docker, "run", "--detach", "--read-only", "-p", "127.0.0.1::5678", f"{NAME}:1.0-debug"]
    name = run(*command).strip()
    try:
        yield name, int(run(docker, "port", name, "5678").rpartition(":")[2])
    finally:
        run(docker, "rm", "--force", name)
        run(docker, "rmi", f"{NAME}:1.0-debug", f"{NAME}:latest-debug")


class Client:
    """A client of the Debug Adapter Protocol: JSON messages after a header with their length."""

    def __init__(self, port: int) -> None:
        deadline = time.monotonic() + 60
        while True:  # Docker's proxy accepts the connection before the debugger listens
            self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
            self.stream = self.socket.makefile("rb")
            self.number = 0
            try:
                self.request("initialize", adapterID="debugpy", linesStartAt1=True, pathFormat="path")
                return
            except (OSError, EOFError):
                self.close()
                assert time.monotonic() < deadline
                time.sleep(0.2)

    def close(self) -> None:
        self.stream.close()
        self.socket.close()

    def send(self, command: str, **arguments: Any) -> None:
        self.number += 1
        body = json.dumps({"seq": self.number, "type": "request", "command": command, "arguments": arguments}).encode()
        self.socket.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    def read_until(self, kind: str, name: str) -> dict[str, Any]:
        """Read messages up to the next one of a kind ("event", "response") and name; return its body."""
        while True:
            header = self.stream.readline()
            if not header:
                raise EOFError
            self.stream.readline()
            message: dict[str, Any] = json.loads(self.stream.read(int(header.split(b":")[1])))
            if message["type"] == kind and message.get("event" if kind == "event" else "command") == name:
                assert message.get("success", True), message
                return message.get("body") or {}

    def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        self.send(command, **arguments)
        return self.read_until("response", command)


def test_debug_variant_has_debugger_and_shell(container: tuple[str, int]) -> None:
    name, port = container
    with contextlib.closing(Client(port)) as client:
        check_breakpoint(client)
    shell = "id -u; ls /opt/venv/bin/debugged; echo $((6 * 7))"
    lines = run(need_docker(), "exec", name, "sh", "-c", shell)
    assert lines.split() == ["65532", "/opt/venv/bin/debugged", "42"]


def check_breakpoint(client: Client) -> None:
    """Stop the program at a breakpoint and read a variable of its frame."""
    client.send("attach", justMyCode=False)
    client.read_until("event", "initialized")
    path = "/opt/venv/lib/python3.13/site-packages/debugged.py"
    (point,) = client.request("setBreakpoints", source={"path": path}, breakpoints=[{"line": LINE}])["breakpoints"]
    assert point["verified"]
    client.request("configurationDone")
    thread = client.read_until("event", "stopped")["threadId"]
    frame = client.request("stackTrace", threadId=thread)["stackFrames"][0]
    assert (frame["name"], frame["line"]) == ("main", LINE)
    assert int(client.request("evaluate", expression="number", frameId=frame["id"])["result"]) > 41
    client.request("disconnect")
