"""A recording of two builds as an animated SVG, docs/recording.svg: a project's first build, and one after an edit.

    python benchmarks/recording.py [--cache DIRECTORY]

The commands run in a pseudo-terminal; the picture shows its screens with colours. The animation is SPEED times as fast
as the session, and pauses of more than PAUSE seconds are shortened; the durations in the text are those of the session.
Without animation (`prefers-reduced-motion`, or a viewer that does not support it) the last screen is shown. Without
`--cache` all files are downloaded again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.newcomer import PEOPLE  # noqa: E402 - the script is run by its path
from tests.fakes.terminal import start  # noqa: E402

PICTURE = ROOT / "docs" / "recording.svg"
SESSION = (
    ("hatch-docker build", ["hatch-docker", "build"]),
    ("sed -i s/newcomer/world/ main.py", ["sed", "-i", "s/newcomer/world/", "main.py"]),
    ("hatch-docker build", ["hatch-docker", "build"]),
)
COLUMNS = 80
PAUSE = 0.35  # the maximum seconds without a change
SPEED = 5
SAMPLE = 0.12  # the minimum seconds between two screens
HOLD = 6.0  # the seconds of the last screen
KEY = 0.035  # the seconds of a typed letter

Run = tuple[str, str]  # a text and its classes
Row = tuple[Run, ...]
Screen = tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A row of the picture from one time to another, in seconds; `last` if it is on the last screen."""

    number: int
    row: Row
    begin: float
    end: float
    last: bool


def rows_of(screen: Any) -> Screen:
    """Return the rows of a pyte screen as texts with their colours, without empty rows at the end."""
    rows = []
    for number in range(screen.lines):
        runs: list[list[str]] = []
        for column in range(screen.columns):
            char = screen.buffer[number][column]
            style = f"{char.fg if char.fg != 'default' else ''}{' bold' if char.bold else ''}".strip()
            if runs and runs[-1][1] == style:
                runs[-1][0] += char.data
            else:
                runs.append([char.data, style])
        while runs and not runs[-1][0].rstrip():
            runs.pop()
        rows.append(tuple((text if number < len(runs) - 1 else text.rstrip(), style)
                          for number, (text, style) in enumerate(runs)))  # fmt: skip
    while rows and not rows[-1]:
        rows.pop()
    return tuple(rows)


def record(project: Path, variables: dict[str, str | None]) -> Iterator[tuple[float, Screen]]:
    """Yield the screens of the session, each with the seconds since the screen before."""
    above: Screen = ()
    for shown, command in SESSION:
        for letters in range(0, len(shown) + 1, 2):
            yield 2 * KEY, (*above, (("$ ", "green"), (shown[:letters], "bold")))
        above = (*above, (("$ ", "green"), (shown, "bold")))
        terminal = start(command, columns=COLUMNS, cwd=project, variables=variables)
        before, rows = time.monotonic(), ()
        while True:
            try:
                data = os.read(terminal.master, 65536)
            except OSError:  # the program has ended
                break
            terminal.stream.feed(data)
            now, rows = time.monotonic(), rows_of(terminal.screen)
            yield (now - before) / SPEED, (*above, *rows)
            before = now
        os.close(terminal.master)
        if terminal.process.wait():
            raise SystemExit("\n".join(terminal.lines()))
        above = (*above, *rows, ())


def timeline(screens: Iterator[tuple[float, Screen]]) -> tuple[list[Shown], float]:
    """Return the rows of the picture and the duration of the animation in seconds."""
    clock = 0.0
    samples: list[tuple[float, Screen]] = []
    for pause, screen in screens:
        clock += min(pause, PAUSE)
        if samples and clock - samples[-1][0] < SAMPLE:
            samples[-1] = (samples[-1][0], screen)
        elif not samples or samples[-1][1] != screen:
            samples.append((clock, screen))
    total = clock + HOLD
    shown = []
    for number in range(max(len(screen) for _, screen in samples)):
        begin, row = 0.0, ()
        for when, screen in [*samples, (total, ())]:
            now = screen[number] if number < len(screen) else ()
            if now != row or when == total:
                if row and when > begin:
                    shown.append(Shown(number, row, begin, when, when == total))
                begin, row = when, now
    return shown, total


STYLE = """\
    text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d9e0e8;
      white-space: pre; }
    .bold { font-weight: 700; } .green { fill: #56d364; } .cyan { fill: #56d4dd; } .red { fill: #ff7b72; }
    .brown, .yellow { fill: #e3b341; } .blue { fill: #79c0ff; } .magenta { fill: #d2a8ff; }
    .brightblack { fill: #9aa4af; }
    .h { visibility: hidden; }
    @media (prefers-reduced-motion: reduce) { g { animation: none !important; } }"""
WIDTH, HEIGHT, MARGIN, BAR = 8.43, 20, 16, 34  # pixels of a letter and of a row, and around them


def picture(shown: Sequence[Shown], total: float) -> str:
    """Return the animated SVG of rows; `total` is its duration in seconds."""
    wide, high = round(COLUMNS * WIDTH + 2 * MARGIN), BAR + HEIGHT * (max(row.number for row in shown) + 1) + MARGIN
    times: dict[tuple[float, float], str] = {}
    groups, frames = [], []
    for row in shown:
        name = times.setdefault((row.begin, row.end), f"k{len(times)}")
        text = "".join(f'<tspan class="{style}">{escaped(part)}</tspan>' if style else escaped(part)
                       for part, style in row.row)  # fmt: skip
        hidden = "" if row.last else ' class="h"'
        y = BAR + HEIGHT * row.number + 14
        groups.append(f'  <g{hidden} style="animation:{name} {total:.2f}s step-end infinite">'
                      f'<text x="{MARGIN}" y="{y}">{text}</text></g>')  # fmt: skip
    for (begin, end), name in times.items():
        steps = [(0.0, begin == 0), (100 * begin / total, True), *([(100 * end / total, False)] if end < total else [])]
        body = "".join(f"{at:.4g}%{{visibility:{'visible' if on else 'hidden'}}}" for at, on in dict(steps).items())
        frames.append(f"    @keyframes {name}{{{body}}}")
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}">',
        "  <title>A terminal: hatch-docker builds an image, a file is edited, and the image is built again</title>",
        f"  <style>\n{STYLE}", *frames, "  </style>",
        f'  <rect width="{wide}" height="{high}" rx="10" fill="#10151c"/>',
        *(f'  <circle cx="{20 + 20 * at}" cy="17" r="6" fill="#3d4654"/>' for at in range(3)),
        *groups, "</svg>",
    ]) + "\n"  # fmt: skip


def escaped(text: str) -> str:
    """Return a text with `&` and `<` escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def main() -> None:
    """Record a session and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="a cache directory that is kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recording-") as directory:
        project = Path(directory) / "shop"
        project.mkdir()
        for name, text in PEOPLE["fastapi"].files.items():
            (project / name).write_text(text)
        variables: dict[str, str | None] = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": None,
            "HATCH_DOCKER_CACHE_DIR": str(options.cache or Path(directory) / "cache"),
        }  # fmt: skip
        environ = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
        subprocess.run(["hatch-docker", "init", "--yes"], cwd=project, check=True, capture_output=True, env=environ)
        try:
            made = picture(*timeline(record(project, variables)))
        finally:
            images = ["shop:0.1.0", "shop:latest"]
            if shutil.which("docker"):
                subprocess.run(["docker", "rmi", *images], check=False, capture_output=True)
    PICTURE.write_text(made, "utf-8")
    print(f"{PICTURE.relative_to(ROOT)}: {len(made) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
