"""Records of three newcomers' first image: FastAPI with requirements.txt, setuptools with a C extension, hatch.

    python benchmarks/newcomer.py [fastapi] [setuptools] [hatch] [--write]

Each command runs in a pseudo-terminal. A record has the final text of the terminal, the number of commands, their
seconds, and the lines that the user wrote. All caches (pip, uv, hatch, hatch-docker) are new and empty. The wheel of
hatch-docker is built from this checkout before. The project has a virtual environment; that of the third newcomer has
hatch. The commands that run the image need Docker. `--write` writes the first record and a table of all three to
docs/newcomer.md.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hatch_docker.core.terminal import SPINNER  # noqa: E402 - the script is run by its path
from tests.fakes.terminal import Terminal, start  # noqa: E402

PAGE = ROOT / "docs" / "newcomer.md"
COLUMNS = 88
TIMEOUT = 600.0  # the maximum seconds of a command
URL = "http://127.0.0.1:8000/"


@dataclass(frozen=True, slots=True)
class Person:
    """A newcomer: a description, the files of the project, the commands up to the image, and lines typed by hand."""

    description: str
    files: Mapping[str, str]
    commands: tuple[str, ...] = ('pip install -q "hatch-docker[uv]"', "hatch-docker init", "hatch-docker build")
    typed_lines: str = ""     # added to pyproject.toml before the first command
    tools: tuple[str, ...] = ()
    prints: str = ""          # the output of the container; "" if it serves HTTP


PEOPLE = {
    "fastapi": Person("FastAPI with requirements.txt", {
        "main.py": """\
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def hello() -> dict[str, str]:
    return {"hello": "newcomer"}
""",
        "requirements.txt": "fastapi\nuvicorn\n",
    }),
    "setuptools": Person("setuptools with a C extension", {
        "pyproject.toml": """\
[build-system]
requires = ["setuptools>=74.1"]
build-backend = "setuptools.build_meta"

[project]
name = "shop"
version = "1.0"
scripts.shop = "shop:main"

[tool.setuptools]
packages = ["shop"]
ext-modules = [{name = "shop._sum", sources = ["sum.c"]}]
""",
        "sum.c": """\
#include <Python.h>

static PyObject *add(PyObject *self, PyObject *arguments) {
    long a, b;
    return PyArg_ParseTuple(arguments, "ll", &a, &b) ? PyLong_FromLong(a + b) : NULL;
}

static PyMethodDef methods[] = {{"add", add, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_sum", NULL, -1, methods};

PyMODINIT_FUNC PyInit__sum(void) { return PyModule_Create(&module); }
""",
        "shop/__init__.py": "from shop._sum import add\n\n\ndef main() -> None:\n    print(add(40, 2))\n",
    }, prints="42"),
    "hatch": Person("a hatch project", {
        "pyproject.toml": """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "shop"
version = "1.0"
dependencies = ["packaging"]
scripts.shop = "shop:main"
""",
        "src/shop/__init__.py": "def main() -> None:\n    print('hello from hatch')\n",
    }, ("hatch build -t docker",),
        '\n[tool.hatch.build.targets.docker]\ndependencies = ["hatch-docker[uv]"]\n\n'
        '[tool.hatch-docker]\nbase = "debian:trixie"\n', ("hatch",), "hello from hatch"),
}  # fmt: skip


@dataclass(slots=True)
class Record:
    """The lines of a session, a screen of its build, the seconds of each command, and the number of written lines."""

    lines: list[str] = field(default_factory=list)
    screen: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lines_written: int = 0


def project(directory: Path, person: Person) -> Path:
    """Write the application and its virtual environment."""
    for name, text in person.files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    subprocess.run([sys.executable, "-m", "venv", str(directory / ".venv")], check=True)
    if person.tools:
        subprocess.run([directory / ".venv/bin/pip", "install", "-q", *person.tools], check=True)
    return directory


def wheel(directory: Path) -> Path:
    """Build hatch-docker's wheel from this checkout into a directory."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(directory), str(ROOT)]
    subprocess.run(command, check=True)
    return directory


def environment(root: Path, links: Path, place: Path) -> dict[str, str | None]:
    """Return the variables of all commands: PATH with the project's environment, new caches, hatch-docker's wheel."""
    found = f"{links} {os.environ.get('PIP_FIND_LINKS', '')}".strip()
    return {
        "PATH": f"{root / '.venv/bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(root / ".venv"),
        "PIP_FIND_LINKS": found, "PIP_PRE": "1", "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_FIND_LINKS": found.replace(" ", ","), "UV_PRERELEASE": "allow", "UV_CACHE_DIR": str(place / "uv"),
        "HATCH_DATA_DIR": str(place / "hatch"), "HATCH_CACHE_DIR": str(place / "hatch-cache"),
        "HATCH_DOCKER_CACHE_DIR": str(place / "cache"), "PYTHONPATH": None,
    }


def type_in(command: Sequence[str], root: Path, variables: Mapping[str, str | None], answer: str = "") -> Terminal:
    """Run a command to its end; type `answer` at its prompt."""
    terminal = start(command, columns=COLUMNS, cwd=root, variables=variables)
    if answer:
        terminal.read(until=lambda lines: bool(lines) and lines[-1].endswith("[y/N]"), timeout=TIMEOUT)
        os.write(terminal.master, f"{answer}\n".encode())
    status = terminal.end(timeout=TIMEOUT)
    if status:
        raise SystemExit("\n".join([f"{' '.join(command)}: status {status}", *terminal.lines()]))
    return terminal


def record(directory: Path, links: Path, person: Person) -> Record:
    """Run a newcomer's commands up to the first response of the container; return the record."""
    root = project(directory / "shop", person)
    variables = environment(root, links, directory)
    found = Record()

    def step(text: str, command: Sequence[str], answer: str = "") -> Terminal:
        before = time.monotonic()
        terminal = type_in(command, root, variables, answer)
        found.seconds.append(time.monotonic() - before)
        found.lines.extend([f"{f'$ {text}':{COLUMNS - 12}}# {found.seconds[-1]:4.1f} s", *terminal.lines(), ""])
        return terminal

    if person.typed_lines:
        with (root / "pyproject.toml").open("a") as stream:
            stream.write(person.typed_lines)
        found.lines.extend(["$ cat >> pyproject.toml", *person.typed_lines.strip().splitlines(), ""])
    found.lines_written = len(person.typed_lines.strip().splitlines())
    for text in person.commands:
        built = step(text, ["sh", "-c", f"exec {text}"], answer="y" * text.endswith("init"))
        if text.endswith("init"):
            found.lines_written += sum(line.startswith("+") and not line.startswith("+++") for line in built.lines())
    found.screen = _busiest_screen(built)
    commands_for_image = len(found.seconds)
    run = next(line.strip() for line in built.lines() if "docker run" in line)
    image = run.split()[-1]
    try:
        if person.prints:
            if step(run, run.split()).lines() != [person.prints]:
                raise SystemExit(f"{person.prints!r} was expected")
        else:
            _request_page(run.replace("--rm", "--rm --detach"), step)
    finally:
        subprocess.run(["docker", "rmi", image, f"{image.rpartition(':')[0]}:latest"], check=False, capture_output=True)
    found.seconds = found.seconds[:commands_for_image]
    return found


def _request_page(run: str, step: Callable[[str, Sequence[str]], Terminal]) -> None:
    """Start a container and request a page from it."""
    container = step(run, run.split()).lines()[-1]
    try:
        step(f"curl {URL}", ["curl", "-s", "--retry", "60", "--retry-delay", "1", "--retry-connrefused",
                             "--retry-all-errors", URL])
    finally:
        subprocess.run(["docker", "kill", container], check=False, capture_output=True)


def _busiest_screen(built: Terminal) -> list[str]:
    """Return the screen of a build that shows the most running steps."""
    return max(built.seen, key=lambda screen: sum(line[:1] in SPINNER for line in screen))


def main() -> None:
    """Record the newcomers, and print or write the records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people", nargs="*", help=f"{', '.join(PEOPLE)}; all by default")
    parser.add_argument("--write", action="store_true", help=f"write it to {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    for program in ("docker", "curl"):
        if not shutil.which(program):
            raise SystemExit(f"{program} is missing")
    names = options.people or list(PEOPLE)
    table = ["| who | commands | seconds | lines written |", "|---|---|---|---|"]
    records: list[Record] = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="newcomer-") as directory:
            found = record(Path(directory), wheel(Path(directory) / "wheels"), PEOPLE[name])
            found.lines = [line.replace(directory, "...") for line in found.lines]
        records.append(found)
        cells = f"{len(found.seconds)} | {sum(found.seconds):.0f} | {found.lines_written}"
        table.append(f"| {PEOPLE[name].description} | {cells} |")
        print(*found.lines, sep="\n")
    when = f"{dt.datetime.now(dt.UTC):%Y-%m-%d at %H:%M} UTC"
    title = [f"Recorded on {when}, on {os.cpu_count()} cores, with empty caches; up to the image:", "", *table]
    print(*title, sep="\n")
    parts = {"session": [*title, "", "```text", *records[0].lines[:-1], "```"],
             "screen": ["```text", *records[0].screen, "```"]}
    page = PAGE.read_text("utf-8")
    for name, text in parts.items():
        head, _, rest = page.partition(f"<!-- {name} -->\n")
        tail = rest.partition(f"<!-- /{name} -->")[2]
        page = "\n".join([f"{head}<!-- {name} -->", *text, f"<!-- /{name} -->{tail}"])
    if options.write:
        if names != list(PEOPLE):
            raise SystemExit("--write needs all three people")
        PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
