"""The log of buildx: stages with their times, and the last lines of a failed step."""

import base64
import json

import pytest

from hatch_docker.core.progress import Progress
from hatch_docker.core.terminal import Screen
from hatch_docker.engines.buildkit.buildx_log import Log
from tests.fakes.docker_programs import DONE, STEP, log_event, log_of


@pytest.mark.parametrize("indent", [None, 2])
def test_finished_stage_is_reported_once_with_its_time(indent: int | None) -> None:
    """Newer versions of buildx print an object on one line, older ones on many lines."""
    log, lines = log_of({"vertexes": [STEP]}, {"vertexes": [DONE]}, {"vertexes": [DONE]}, indent=indent)
    assert lines == ["  install-numpy  1.6 s"]
    assert not log.failed


def test_running_stage_is_displayed_in_the_terminal() -> None:
    """At the end of the build, all stages are removed from the display."""
    lines: list[str] = []
    screen = Screen(lines.append)
    log = Log(Progress(lines.append, 0, screen))
    begun = {**STEP, "started": DONE["started"]}
    other = {**begun, "digest": "sha256:2", "name": "[build-project 1/1] RUN cc"}
    log.feed(json.dumps({"vertexes": [begun, other]}))
    assert [task.title for task in screen.tasks] == ["stage install-numpy", "stage build-project"]
    log.feed(json.dumps({"vertexes": [DONE]}))
    assert [task.title for task in screen.tasks] == ["stage build-project"]
    assert lines == ["   1.6 s    stage install-numpy"]
    log.close()
    assert not screen.tasks


def test_cached_stage_is_printed_with_verbosity_only() -> None:
    assert log_of({"vertexes": [{**DONE, "started": DONE["completed"], "cached": True}]})[1] == []


def test_stage_from_a_remote_cache_is_reported_as_fetched() -> None:
    """Fetching and unpacking its layers also starts and completes steps of the log."""
    fetched = {**STEP, "started": "2026-01-01T00:00:00.5Z", "completed": "2026-01-01T00:00:09Z"}
    whole = {**fetched, "completed": "2026-01-01T00:00:10Z", "cached": True}
    begun = {**STEP, "started": "2026-01-01T00:00:00.5Z", "cached": True}
    _, lines = log_of({"vertexes": [begun]}, {"vertexes": [fetched]}, {"vertexes": [whole]})
    assert lines == ["  install-numpy  cached, fetched in 9.5 s"]


def test_unreadable_cache_is_reported_and_not_a_failure() -> None:
    name = "importing cache manifest from registry.example/app:cache"
    missing = {"digest": "sha256:7", "name": name, "error": "failed: registry.example/app:cache: not found"}
    refused = {"digest": "sha256:8", "name": name, "error": "failed to do request: connection refused"}
    log, lines = log_of({"vertexes": [missing]}, {"vertexes": [refused]}, {"vertexes": [refused]})
    assert lines == [
        "  nothing in the cache registry.example/app:cache yet",
        "warning: the cache registry.example/app:cache is not used: failed to do request: connection refused",
    ]
    assert not log.failed


@pytest.mark.parametrize("indent", [None, 2])
def test_failed_step_shows_its_last_20_lines(indent: int | None) -> None:
    """The output of other steps, some of which were cancelled, is not shown."""
    lines = "".join(f"line {number}\n" for number in range(30))
    log, _ = log_of(
        {"logs": [{"vertex": "sha256:1", "stream": 2, "data": base64.b64encode(lines.encode()).decode()}]},
        {"logs": [{"vertex": "sha256:2", "stream": 1, "data": base64.b64encode(b"other").decode()}]},
        {"vertexes": [{"digest": "sha256:2", "name": "x", "error": "context canceled"}]},
        {"vertexes": [{**STEP, "error": 'process "python" did not complete successfully: exit code: 1'}]},
        indent=indent,
    )
    first, *last = log.explain().splitlines()
    assert first == "stage install-numpy failed (exit status 1):"
    assert last == [f"line {number}" for number in range(10, 30)]


SECRET = "s3cret-0123456789"


def test_secrets_in_the_output_of_a_step_are_hidden() -> None:
    """A secret may be split between two messages, in BuildKit's error, and in a last line without a line break."""
    lines: list[str] = []
    log = Log(Progress(lines.append, 1), [SECRET])
    error = {**STEP, "error": f'process "{SECRET}" did not complete successfully: exit code: 1'}
    for value in (
        {"vertexes": [{**STEP, "started": DONE["started"]}]}, log_event(f"a {SECRET[:7]}"),
        log_event(f"{SECRET[7:]} b\nc"), log_event(f"error: {SECRET}"), {"vertexes": [error]},
    ):  # fmt: skip
        log.feed(json.dumps(value))
    log.feed(f"ERROR: {SECRET}")
    assert log.explain().splitlines() == ["stage install-numpy failed (exit status 1):", "a *** b", "cerror: ***"]
    assert SECRET not in "\n".join([*lines, *log.other])
    assert "a *** b" in lines


def test_character_split_between_two_messages_is_decoded() -> None:
    log, _ = log_of({"vertexes": [{**STEP, "error": "exit code: 1"}]})
    for piece in ("ő".encode()[:1], "ő".encode()[1:] + b"\n"):
        log.feed(json.dumps({"logs": [{"vertex": "sha256:1", "data": base64.b64encode(piece).decode()}]}))
    assert log.explain().endswith("\nő")


@pytest.mark.parametrize(
    ("text", "error"),
    [("", "exit code: 137"), ("g++: fatal error: Killed signal terminated program cc1plus\n", "exit code: 1")],
)
def test_killed_step_gives_a_hint_about_memory(text: str, error: str) -> None:
    log, _ = log_of(log_event(text), {"vertexes": [{**STEP, "error": f"did not complete successfully: {error}"}]})
    assert "; something killed it; perhaps the memory ran out" in log.explain()


def test_cancelled_stage_is_not_reported() -> None:
    assert log_of({"vertexes": [{**DONE, "error": "context canceled"}]})[1] == []


def test_exec_format_error_gives_a_hint_about_platforms() -> None:
    log, _ = log_of({"vertexes": [{**STEP, "error": "runc run failed: exec format error"}]})
    assert "cannot run that platform's programs" in log.explain()


def test_plain_text_between_objects_is_kept() -> None:
    log, _ = log_of({"vertexes": [STEP]})
    log.feed("ERROR: Cannot connect to the Docker daemon")
    assert list(log.other) == ["ERROR: Cannot connect to the Docker daemon"]
