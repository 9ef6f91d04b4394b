"""Output of programs without secrets and escape sequences; programs connected to sockets."""

import base64
import contextlib
import json
import os
import socket
import urllib.parse
from pathlib import Path

import pytest

from hatch_docker.core.errors import ProgramError
from hatch_docker.core.process import ProcessFailed, connect_stdio, listen_stdio, redact
from hatch_docker.core.progress import Progress

SECRET = "first 'line'\nsecond \"line\" \\ 100%\n"


@pytest.mark.parametrize("said", [
    SECRET, repr({"KEY": SECRET}), json.dumps({"KEY": SECRET}), urllib.parse.quote(SECRET),
    base64.b64encode(SECRET.encode()).decode(), *SECRET.splitlines(), SECRET.strip().encode().hex().upper(),
])  # fmt: skip
def test_secret_is_redacted_in_all_encodings(said: str) -> None:
    """Whole, line by line (logs), in Python and JSON literals, URLs, base64 and hexadecimal."""
    hidden = redact(f"a {said} b", [SECRET, ""])
    assert "***" in hidden
    words = ("first", "second", "100", base64.b64encode(SECRET.encode()).decode(), "6C696E65")
    assert not any(word in hidden for word in words)


@pytest.mark.parametrize(("secret", "said"), [
    ("pass word", "pass+word"), ('"pässword', '\\"pässword'), ("pass\udcffword", "pass\ufffdword"),
])  # fmt: skip
def test_secret_is_redacted_in_forms_json_and_invalid_text(secret: str, said: str) -> None:
    """A form (`+` for a space), JSON without ASCII escapes, and bytes that are not UTF-8."""
    assert redact(f"a {said} b", [secret]) == "a *** b"


def test_control_characters_are_escaped() -> None:
    lines: list[str] = []
    Progress(lines.append, 1).warn("a \x1b[2J\x9b1m\r b\tü\udcff")
    assert lines == ["warning: a \\x1b[2J\\x9b1m\\r b\tü\\udcff"]


def test_connected_program_ends_with_the_block() -> None:
    """It reads, writes, has no terminal, and is killed at the end, also if the block fails."""
    ours, theirs = socket.socketpair()
    with connect_stdio(["sh", "-c", "echo $$; read line; echo heard $line; cat < /dev/tty"], theirs), \
            ours, ours.makefile("rb") as answer:
        number = int(answer.readline())
        ours.sendall(b"this\n")
        assert answer.read() == b"heard this\n"
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    ours, theirs = socket.socketpair()
    with pytest.raises(KeyError), ours, connect_stdio(["sh", "-c", "echo $$; exec sleep 600"], theirs):
        number = int(ours.recv(100))
        raise KeyError
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_error_of_connected_program_is_its_last_line() -> None:
    """If the program did not fail or printed nothing, the block's own error is raised."""
    def connect(*command: str) -> contextlib.AbstractContextManager[None]:
        ours, theirs = socket.socketpair()
        ours.close()
        return connect_stdio(command, theirs)

    with pytest.raises(ProcessFailed, match=r"^no, never$"), connect("sh", "-c", "echo no, never >&2; exit 3"):
        raise ConnectionError("it gave no answer")
    for code in ("exit 3", "echo a banner >&2"):
        with pytest.raises(ConnectionError, match="it gave no answer"), connect("sh", "-c", code):
            raise ConnectionError("it gave no answer")
    with pytest.raises(ProgramError, match=r"^cannot run /nowhere/ssh: No such file"), connect("/nowhere/ssh"):
        pass


def test_socket_runs_a_program_for_each_connection(tmp_path: Path) -> None:
    """The error of a program that failed replaces the error of the block."""
    path = str(tmp_path / "socket")
    with listen_stdio(["cat"], path):
        for text in (b"one", b"two"):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                connection.sendall(text)
                connection.shutdown(socket.SHUT_WR)
                assert connection.makefile("rb").read() == text
    path += "2"
    with pytest.raises(ProcessFailed, match=r"^no, never$"), \
            listen_stdio(["sh", "-c", "echo no, never >&2; exit 3"], path), \
            socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        assert connection.recv(1) == b""
        raise ConnectionError("it gave no answer")
