"""The first image of three newcomers, recorded: FastAPI with requirements.txt, setuptools with a C extension, hatch.

    python benchmarks/newcomer.py [fastapi] [setuptools] [hatch] [--write]

Every command runs in a terminal, and what stands there in the end is the record, with the number of commands, their
seconds, and the lines that were written. All caches are new and empty: pip's, uv's, hatch's, ours. hatch-docker is a
wheel of this checkout, made before. The project has a virtual environment, as it would; of the third it has hatch.
Docker is asked for by the commands that run the image. `--write` puts the first record, and a table of all three, into
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
PATIENCE = 600.0  # seconds for a command
URL = "http://127.0.0.1:8000/"


@dataclass(frozen=True, slots=True)
class Person:
    """A newcomer: who that is, the files of the project, the commands up to the image, and lines typed by hand."""

    who: str
    files: Mapping[str, str]
    commands: tuple[str, ...] = ('pip install -q "hatch-docker[uv]"', "hatch-docker init", "hatch-docker build")
    typed: str = ""           # added to pyproject.toml before the first command
    tools: tuple[str, ...] = ()
    says: str = ""            # what the container prints; "" if it serves


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
    }, says="42"),
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
    """The lines of a session, the screens of its build, seconds by command, and the lines that were written."""

    lines: list[str] = field(default_factory=list)
    screen: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    written: int = 0


def project(directory: Path, person: Person) -> Path:
    """The application, and its virtual environment."""
    for name, text in person.files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    subprocess.run([sys.executable, "-m", "venv", str(directory / ".venv")], check=True)
    if person.tools:
        subprocess.run([directory / ".venv/bin/pip", "install", "-q", *person.tools], check=True)
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
        "UV_FIND_LINKS": found.replace(" ", ","), "UV_PRERELEASE": "allow", "UV_CACHE_DIR": str(place / "uv"),
        "HATCH_DATA_DIR": str(place / "hatch"), "HATCH_CACHE_DIR": str(place / "hatch-cache"),
        "HATCH_DOCKER_CACHE_DIR": str(place / "cache"), "PYTHONPATH": None,
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


def record(directory: Path, links: Path, person: Person) -> Record:
    """Play a newcomer, up to an answer of the container."""
    root = project(directory / "shop", person)
    variables = environment(root, links, directory)
    found = Record()

    def step(shown: str, command: Sequence[str], answer: str = "") -> Terminal:
        before = time.monotonic()
        terminal = say(command, root, variables, answer)
        found.seconds.append(time.monotonic() - before)
        found.lines.extend([f"{f'$ {shown}':{COLUMNS - 12}}# {found.seconds[-1]:4.1f} s", *terminal.lines(), ""])
        return terminal

    if person.typed:
        with (root / "pyproject.toml").open("a") as stream:
            stream.write(person.typed)
        found.lines.extend(["$ cat >> pyproject.toml", *person.typed.strip().splitlines(), ""])
    found.written = len(person.typed.strip().splitlines())
    for shown in person.commands:
        built = step(shown, ["sh", "-c", f"exec {shown}"], answer="y" * shown.endswith("init"))
        if shown.endswith("init"):
            found.written += sum(line.startswith("+") and not line.startswith("+++") for line in built.lines())
    found.screen = _middle(built)
    made = len(found.seconds)
    run = next(line.strip() for line in built.lines() if "docker run" in line)
    image = run.split()[-1]
    try:
        if person.says:
            if step(run, run.split()).lines() != [person.says]:
                raise SystemExit(f"{person.says!r} was expected")
        else:
            _ask(run.replace("--rm", "--rm --detach"), step)
    finally:
        subprocess.run(["docker", "rmi", image, f"{image.rpartition(':')[0]}:latest"], check=False, capture_output=True)
    found.seconds = found.seconds[:made]
    return found


def _ask(run: str, step: Callable[[str, Sequence[str]], Terminal]) -> None:
    """Start a container, and have it answer a request."""
    container = step(run, run.split()).lines()[-1]
    try:
        step(f"curl {URL}", ["curl", "-s", "--retry", "60", "--retry-delay", "1", "--retry-connrefused",
                             "--retry-all-errors", URL])
    finally:
        subprocess.run(["docker", "kill", container], check=False, capture_output=True)


def _middle(built: Terminal) -> list[str]:
    """A screen from the midst of a build: the one that tells most of what runs."""
    return max(built.seen, key=lambda screen: sum(line[:1] in SPINNER for line in screen))


def main() -> None:
    """Record, and print or write it."""
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
        table.append(f"| {PEOPLE[name].who} | {len(found.seconds)} | {sum(found.seconds):.0f} | {found.written} |")
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
