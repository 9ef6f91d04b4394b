"""A newcomer's way, recorded: an application of FastAPI, hatch-docker from a wheel of this checkout, an answer.

    python benchmarks/newcomer.py [--write]

Every command runs in a terminal, and what stands there in the end is the record. All caches are new and
empty: pip's, uv's, ours. The project has a virtual environment, as it would; the wheel is built before. Docker is asked
for by the last two commands alone. `--write` puts the record into docs/newcomer.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hatch_docker.core.terminal import SPINNER  # noqa: E402 - the script is run by its path
from tests.fakes.terminal import Terminal, start  # noqa: E402

PAGE = ROOT / "docs" / "newcomer.md"
FILES = {
    "main.py": """\
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def hello() -> dict[str, str]:
    return {"hello": "newcomer"}
""",
    "requirements.txt": "fastapi\nuvicorn\n",
}
COLUMNS = 88
PATIENCE = 600.0  # seconds for a command


def project(directory: Path) -> Path:
    """The application, and its virtual environment."""
    directory.mkdir()
    for name, text in FILES.items():
        (directory / name).write_text(text)
    subprocess.run([sys.executable, "-m", "venv", str(directory / ".venv")], check=True)
    return directory


def wheel(directory: Path) -> Path:
    """A directory with hatch-docker's wheel, made of this checkout."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(directory), str(ROOT)]
    subprocess.run(command, check=True)
    return directory


def environment(root: Path, links: Path, place: Path) -> dict[str, str | None]:
    """Of every command: the project's programs first, caches of its own, our wheel to be found."""
    found = f"{links} {os.environ.get('PIP_FIND_LINKS', '')}".strip()
    return {
        "PATH": f"{root / '.venv/bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(root / ".venv"),
        "PIP_FIND_LINKS": found, "PIP_PRE": "1", "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_CACHE_DIR": str(place / "uv"), "HATCH_DOCKER_CACHE_DIR": str(place / "cache"), "PYTHONPATH": None,
    }


def say(command: Sequence[str], root: Path, variables: Mapping[str, str | None], answer: str = "") -> Terminal:
    """Run a command to its end; `answer` is typed where it asks."""
    terminal = start(command, columns=COLUMNS, cwd=root, variables=variables)
    if answer:
        terminal.read(until=lambda lines: bool(lines) and lines[-1].endswith("[y/N]"), timeout=PATIENCE)
        os.write(terminal.master, f"{answer}\n".encode())
    status = terminal.end(timeout=PATIENCE)
    if status:
        raise SystemExit("\n".join([f"{' '.join(command)}: status {status}", *terminal.lines()]))
    return terminal


def record(directory: Path) -> tuple[list[str], list[str], float]:
    """The lines of the session, the screens while the image was built, and how many seconds it took."""
    root, links = project(directory / "shop"), wheel(directory / "wheels")
    variables = environment(root, links, directory)
    lines: list[str] = []
    began = time.monotonic()

    def step(shown: str, command: Sequence[str], answer: str = "") -> Terminal:
        before = time.monotonic()
        terminal = say(command, root, variables, answer)
        lines.extend([f"{f'$ {shown}':{COLUMNS - 12}}# {time.monotonic() - before:4.1f} s", *terminal.lines(), ""])
        return terminal

    step('pip install -q "hatch-docker[uv]"', ["pip", "install", "-q", "hatch-docker[uv]"])
    step("hatch-docker init", ["hatch-docker", "init"], answer="y")
    built = step("hatch-docker build", ["hatch-docker", "build"])
    run = next(line.strip() for line in built.lines() if "docker run" in line).replace("--rm", "--rm --detach")
    image = run.split()[-1]
    try:
        container = step(run, run.split()).lines()[-1]
        try:
            url = "http://127.0.0.1:8000/"
            step(f"curl {url}", ["curl", "-s", "--retry", "60", "--retry-delay", "1", "--retry-connrefused",
                                 "--retry-all-errors", url])
            return lines, _middle(built), time.monotonic() - began
        finally:
            subprocess.run(["docker", "kill", container], check=False, capture_output=True)
    finally:
        subprocess.run(["docker", "rmi", image, f"{image.rpartition(':')[0]}:latest"], check=False, capture_output=True)


def _middle(built: Terminal) -> list[str]:
    """A screen from the midst of a build: the one that tells most of what runs."""
    return max(built.seen, key=lambda screen: sum(line[:1] in SPINNER for line in screen))


def main() -> None:
    """Record, and print or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write it to {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    for program in ("docker", "curl"):
        if not shutil.which(program):
            raise SystemExit(f"{program} is missing")
    with tempfile.TemporaryDirectory(prefix="newcomer-") as directory:
        lines, screen, seconds = record(Path(directory))
        lines = [line.replace(directory, "...") for line in lines]
    when = f"{dt.datetime.now(dt.UTC):%Y-%m-%d at %H:%M} UTC"
    title = f"Recorded on {when}, on {os.cpu_count()} cores, with empty caches: {seconds:.0f} seconds in all."
    parts = {"session": [title, "", "```text", *lines[:-1], "```"], "screen": ["```text", *screen, "```"]}
    page = PAGE.read_text("utf-8")
    for name, text in parts.items():
        print(*text, "", sep="\n")
        head, _, rest = page.partition(f"<!-- {name} -->\n")
        tail = rest.partition(f"<!-- /{name} -->")[2]
        page = "\n".join([f"{head}<!-- {name} -->", *text, f"<!-- /{name} -->{tail}"])
    if options.write:
        PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
