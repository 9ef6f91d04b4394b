"""What programs print is shown without secrets and without orders to the terminal."""

from __future__ import annotations

import base64
import json
import os
import urllib.parse

import pytest

from hatch_docker.core.errors import ProgramError
from hatch_docker.core.process import ProcessFailed, redact, talk
from hatch_docker.core.progress import Progress

SECRET = "first 'line'\nsecond \"line\" \\ 100%\n"


@pytest.mark.parametrize("said", [
    SECRET, repr({"KEY": SECRET}), json.dumps({"KEY": SECRET}), urllib.parse.quote(SECRET),
    base64.b64encode(SECRET.encode()).decode(), *SECRET.splitlines(),
])  # fmt: skip
def test_a_secret_is_hidden_however_it_is_written(said: str) -> None:
    """Whole, line by line as a log has it, in Python's and JSON's quotes, in a URL, in base64."""
    hidden = redact(f"a {said} b", [SECRET, ""])
    assert "***" in hidden
    assert not any(word in hidden for word in ("first", "second", "100", base64.b64encode(SECRET.encode()).decode()))


@pytest.mark.parametrize(("secret", "said"), [
    ("pass word", "pass+word"), ('"pässword', '\\"pässword'), ("pass\udcffword", "pass\ufffdword"),
])  # fmt: skip
def test_a_secret_is_hidden_in_a_form_in_json_and_where_it_is_no_text(secret: str, said: str) -> None:
    """As browsers send it, in JSON that keeps letters, and of bytes that are no UTF-8."""
    assert redact(f"a {said} b", [secret]) == "a *** b"


def test_a_line_gives_a_terminal_no_orders() -> None:
    told: list[str] = []
    Progress(told.append, 1).warn("a \x1b[2J\x9b1m\r b\tü\udcff")
    assert told == ["warning: a \\x1b[2J\\x9b1m\\r b\tü\\udcff"]


def test_a_program_is_talked_to_and_ends_with_the_talk() -> None:
    """It hears, answers, has no terminal, and is gone afterwards, whatever ends the talk."""
    with talk(["sh", "-c", "echo $$; read line; echo heard $line; cat < /dev/tty"]) as connection, \
            connection.makefile("rb") as answer:
        number = int(answer.readline())
        connection.sendall(b"this\n")
        assert answer.read() == b"heard this\n"
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    with pytest.raises(KeyError), talk(["sh", "-c", "echo $$; exec sleep 600"]) as connection:
        number = int(connection.recv(100))
        raise KeyError
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_a_talk_that_fails_says_why() -> None:
    """The last line of a program that failed; the error itself where it did not, or said nothing."""
    with pytest.raises(ProcessFailed, match=r"^no, never$"), talk(["sh", "-c", "echo no, never >&2; exit 3"]):
        raise ConnectionError("it gave no answer")
    for code in ("exit 3", "echo a banner >&2"):
        with pytest.raises(ConnectionError, match="it gave no answer"), talk(["sh", "-c", code]):
            raise ConnectionError("it gave no answer")
    with pytest.raises(ProgramError, match=r"^cannot run /nowhere/ssh: No such file"), talk(["/nowhere/ssh"]):
        pass
