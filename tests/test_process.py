"""What programs print is shown without secrets and without orders to the terminal."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest

from hatch_docker.process import redact
from hatch_docker.progress import Progress

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


def test_a_line_gives_a_terminal_no_orders() -> None:
    told: list[str] = []
    Progress(told.append, 1).warn("a \x1b[2J\x9b1m\r b\tü\udcff")
    assert told == ["warning: a \\x1b[2J\\x9b1m\\r b\tü\\udcff"]
