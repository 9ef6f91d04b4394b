"""Progress of a build: plain lines, and the live display on a terminal."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hatch_docker.core.http.retry import Policy, Retryable
from hatch_docker.core.progress import Progress, silent, undo_on_failure
from hatch_docker.core.terminal import open_progress
from hatch_docker.core.terminal_lines import is_lively
from hatch_docker.core.text import duration
from tests.fakes.terminal import start

BEGIN = """
import os, sys, threading, time
from hatch_docker.core.signals import handle_signals
from hatch_docker.core.terminal import open_progress
progress = open_progress(lambda line: print(line, file=sys.stderr), 0, os.environ)
def until_shown():
    "Wait for the display, which may take a while on a busy machine."
    while progress.screen is not None and progress.screen._live is None:
        time.sleep(0.01)
"""


def program(code: str) -> list[str]:
    """Return the command of a Python process with a Progress."""
    return [sys.executable, "-c", BEGIN + textwrap.dedent(code)]


def on_screen(text: str) -> Callable[[list[str]], bool]:
    """Return a condition for `Terminal.read`: one of the lines contains a text."""
    return lambda lines: any(text in line for line in lines)


DOWNLOAD = """
    with progress.task("downloading 3 packages", 6_000_000) as task:
        until_shown()
        for _ in range(12):
            time.sleep(0.1)
            task.advance(500_000)
        progress.info("a line of its own")
        time.sleep(0.3)
    print("the archive")
"""

BRIEF = """
    with progress.task("downloading 3 packages", 6_000_000):
        time.sleep(0.5)
    print("the archive")
"""


@pytest.mark.parametrize("columns", [80, 120])
def test_download_shows_rate_and_time_left(columns: int) -> None:
    """Afterwards only the permanent lines and the cursor are shown."""
    terminal = start(program(DOWNLOAD), columns=columns)
    terminal.read(on_screen("left"))
    (row,) = [line for line in terminal.lines() if "downloading" in line]
    assert re.search(r"[0-5]\.\d/6\.0 MB +\d\.\d MB/s +\d+\.\d s left$", row), row
    assert ("━" in row) == (columns == 120)
    assert not terminal.has_cursor
    assert terminal.end() == 0
    assert terminal.lines()[0] == "a line of its own"
    assert re.fullmatch(r"\u2713 +\d+\.\d s  downloading 3 packages, 6\.00 MB", terminal.lines()[1])
    assert terminal.lines()[2:] == ["the archive"]
    assert terminal.has_cursor


MANY = """
    names = ["pushing to registry.example/team/with/a/long/name", "downloading 3 packages", "t\\u00e4sk \\u540d"]
    threads = []
    def work(name, total):
        with progress.task(name, total) as task:
            until_shown()
            for _ in range(10):
                time.sleep(0.1)
                task.advance((total or 0) // 10)
    for number in range(12):
        threads.append(threading.Thread(target=work, args=(names[number % 3], 0 if number % 3 else 8_000_000)))
        threads[-1].start()
    for thread in threads:
        thread.join()
"""
ASCII: dict[str, str | None] = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}


def test_only_colours_of_the_theme_are_used() -> None:
    """The theme defines them for light and dark backgrounds."""
    terminal = start(program(DOWNLOAD), columns=120, variables={"COLORTERM": "truecolor"})
    assert terminal.end() == 0
    orders = {order for orders in re.findall(rb"\x1b\[([\d;]*)m", terminal.raw) for order in orders.split(b";")}
    assert {b"2", b"36", b"32"} <= orders <= {b"", b"0", b"2", b"36", b"32"}


@pytest.mark.parametrize(("columns", "variables"), [(20, {}), (40, {}), (80, {}), (80, ASCII), (200, {}), (200, ASCII)])
def test_many_tasks_fit_any_terminal_width(columns: int, variables: dict[str, str | None]) -> None:
    """At most eight rows, tasks with a total first; only a percentage on a narrow terminal."""
    terminal = start(program(MANY), columns=columns, variables=variables)
    screen = terminal.read(on_screen("  and 4"))
    at = next(number for number, line in enumerate(screen) if line.startswith("  and 4"))
    rows = screen[at - 8 : at]
    assert sum("push" in row for row in rows) == 4
    assert max(map(len, rows)) <= min(columns, 140)
    if columns < 60:
        assert all(re.search(r"\d+ %$", row) for row in rows if "push" in row)
    assert terminal.end() == 0
    assert terminal.has_cursor
    assert not any("more" in line or "\\u2026" in line or "%" in line for line in terminal.lines())


def test_lines_and_output_appear_above_the_tasks() -> None:
    """From several threads, and from libraries that print."""
    code = """
    def work(number):
        with progress.task(f"task {number}", part=True):
            for count in range(40):
                progress.info(f"line {number}.{count} " + "x" * 40)
                print(f"said {number}.{count}", flush=True)
                time.sleep(0.003)
        print(f"printed {number}")

    with progress.task("everything"):
        until_shown()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        print("printed by a library", file=sys.stderr)
        for thread in threads:
            thread.join()
    """
    terminal = start(program(code))
    assert terminal.end() == 0
    shown = [line for screen in terminal.seen for line in screen]
    assert any("task 3" in line for line in shown)
    wanted = {f"line {number}.{count} " + "x" * 40 for number in range(4) for count in range(40)}
    assert wanted <= set(shown)
    assert "printed by a library" in shown
    assert not [line for line in shown if re.search("line|said|printed", line) and re.search("task|everything", line)]
    final = [line for line in terminal.lines() if "everything" in line]
    assert len(final) == 1
    assert " s  everything" in final[0]


def test_piped_standard_output_gets_no_display() -> None:
    """`hatch build -t docker | tail -1`: the pipe gets all output, and no escape sequences."""
    terminal = start(program(DOWNLOAD), piped=True)
    assert terminal.end() == 0
    assert any("left" in line for screen in terminal.seen for line in screen)
    assert terminal.process.stdout is not None
    with terminal.process.stdout as pipe:
        assert pipe.read() == b"the archive\n"


# The main thread suppresses the exception of the signal: the watching thread ends the process.
SUPPRESSED = """
        try:
            time.sleep(60)
        except BaseException:
            time.sleep(60)
"""


@pytest.mark.parametrize(("number", "work"), [
    (signal.SIGINT, "time.sleep(60)"), (signal.SIGTERM, "time.sleep(60)"), (signal.SIGINT, SUPPRESSED),
])  # fmt: skip
def test_signal_restores_the_terminal(number: signal.Signals, work: str) -> None:
    """The display is removed, the cursor is shown, and the exit status is the signal's."""
    terminal = start(program(f"with handle_signals(), progress.task('a long task'):\n        {work}"))
    terminal.read(on_screen("a long task"))
    assert not terminal.has_cursor
    if number == signal.SIGINT:
        os.write(terminal.master, b"\x03")
    else:
        terminal.process.send_signal(number)
    assert terminal.end() == 128 + number
    assert terminal.has_cursor
    assert work is SUPPRESSED or not on_screen("a long task")(terminal.lines())


def test_short_build_does_not_import_rich() -> None:
    terminal = start(program("""
    with progress.task("a short task", part=True):
        pass
    time.sleep(0.5)
    print(sorted(name for name in sys.modules if name.partition(".")[0] == "rich"))
    """))
    assert terminal.end() == 0
    assert terminal.lines() == ["[]"]
    assert b"\x1b" not in terminal.raw


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"CI": "true"}, {"TERM": None}])
def test_variables_turn_the_display_off(variables: dict[str, str | None]) -> None:
    terminal = start(program(BRIEF), variables=variables)
    assert terminal.end() == 0
    assert b"\x1b" not in terminal.raw
    first, *_its_time, last = terminal.lines()  # on a slow machine the task has a second line
    assert (first, last) == ("downloading 3 packages (6.00 MB)", "the archive")


def test_plain_output_has_times_and_no_escapes() -> None:
    """Without a terminal: a line at the start of each task, and one at the end of a long task."""
    done = subprocess.run(program(DOWNLOAD), capture_output=True, check=True, text=True)
    assert "\x1b" not in done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert lines[:2] == ["downloading 3 packages (6.00 MB)", "a line of its own"]
    assert re.fullmatch(r"downloading 3 packages: 6\.00 MB in \d+\.\d s", lines[2])
    assert done.stdout == "the archive\n"


def test_lines_by_verbosity() -> None:
    """`-q` shows no tasks, `-v` adds details."""
    for verbosity, expected in ((-2, []), (-1, ["warning: w"]), (0, ["task", "i", "warning: w"]),
                                (1, ["task", "i", "d", "warning: w"])):
        lines: list[str] = []
        progress = open_progress(lines.append, verbosity, {})
        with progress.task("task"), progress.task("a part", part=True):
            progress.info("i")
            progress.detail("d")
            progress.warn("w")
        assert lines == expected


def test_quiet_terminal_has_no_display() -> None:
    terminal = start(program(BRIEF.replace("progress.", "quiet.").replace(
        "    with", "    quiet = open_progress(print, -1, os.environ)\n    with", 1)))
    assert terminal.end() == 0
    assert terminal.lines() == ["the archive"]


def test_progress_of_a_failed_attempt_is_subtracted() -> None:
    lines: list[str] = []
    tries = []
    progress = Progress(lines.append)
    with progress.task("moving", 10) as task:

        def attempt() -> None:
            tries.append(1)
            with undo_on_failure(task.advance) as advance:
                advance(7)
                if len(tries) == 1:
                    raise Retryable("it broke")
                advance(3)

        Policy(sleep=lambda _seconds: None).run("GET x", attempt, progress)
        assert task.done == 10
    assert lines[0] == "moving (10 bytes)"
    assert lines[1].startswith("GET x: it broke; again in ")


def test_task_advance_is_thread_safe() -> None:
    with silent().task("moving", 80_000) as task:

        def work(_: int) -> None:
            for _ in range(10_000):
                task.advance(1)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert task.done == 80_000


def test_failed_task_writes_no_final_line() -> None:
    lines: list[str] = []
    with pytest.raises(ValueError, match="no"), Progress(lines.append).task("moving"):
        time.sleep(1.1)
        raise ValueError("no")
    assert lines == ["moving"]


def test_duration_format() -> None:
    assert [duration(seconds) for seconds in (0.04, 9.96, 99.9, 100, 187.9)] == [
        "0.0 s", "10.0 s", "99.9 s", "1 min 40 s", "3 min 07 s",
    ]  # fmt: skip


def test_closed_stream_is_no_terminal(tmp_path: Path) -> None:
    """Daemons and GUIs may close standard error."""
    with (tmp_path / "file").open("w") as stream:
        pass
    assert not is_lively(stream, {"TERM": "xterm"})
    assert not is_lively(None, {"TERM": "xterm"})  # type: ignore[arg-type]


def test_task_may_end_in_another_thread() -> None:
    """It is not the parent of tasks that start later in its first thread."""
    progress = silent()
    block = contextlib.ExitStack()
    block.enter_context(progress.task("downloading"))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(block.close).result()
    with progress.task("next") as task:
        assert task.parent == ""


def test_long_tasks_are_recorded_for_the_receipt(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the titles of their parents. Failed tasks and tasks under a second are not recorded."""
    clock = iter([0.0, 0.9, 1.0, 3.5, 4.0, 9.0, 10.0, 10.5, 12.5, 12.6, 12.7, 13.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock, 13.0))  # pytest's plugins may call it, too
    progress = silent()
    for title in ("short", "long", "failed"):
        with contextlib.suppress(ValueError), progress.task(title, part=True):
            if title == "failed":
                raise ValueError
    with progress.task("layer") as layer, ThreadPoolExecutor(1, initializer=layer.become_parent) as pool:

        def part() -> None:
            with progress.task("part", part=True):
                pass

        pool.submit(part).result()
        elsewhere = progress.task("elsewhere")
        elsewhere.begin()
        pool.submit(elsewhere.end).result()
    assert progress.long_tasks == [("long", 2.5, ""), ("part", 2.0, "layer"), ("layer", 3.0, "")]
