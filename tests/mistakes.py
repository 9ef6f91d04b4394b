"""Mistakes of newcomers and their error messages. `python -m tests.mistakes docs/mistakes.md` writes the list.

Each mistake is made in a small project, and its command runs in this process. No command downloads a file.
"""

import contextlib
import io
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hatch_docker.cli.main import main
from tests.projects import write_files

PROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "shop"
version = "1.0"
requires-python = ">=3.11"
dependencies = []

[project.scripts]
shop = "shop:main"

[tool.hatch-docker]
base = "debian:trixie"
"""
FILES = {"pyproject.toml": PROJECT, "shop.py": "def main(): ...\n", "README.md": "# Shop\n"}


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake: its title, the command, and the error in `pyproject.toml`.

    `lines` are appended; `old` is replaced by `new`. `files`: additional files, None for a missing one.
    """

    title: str
    command: str = "build"
    lines: str = ""
    old: str = ""
    new: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str | None] = field(default_factory=dict)

    def shown(self) -> str:
        """Return the part that the page shows: the command or the wrong lines."""
        variables = "".join(f"{name}={value} " for name, value in self.variables.items())
        removed = f"{self.old.strip()}      # this is missing" if self.old else ""
        return self.lines or self.new or removed or f"$ {variables}hatch-docker {self.command}"


GROUPS: Mapping[str, tuple[Mistake, ...]] = {
    "On the command line": (
        Mistake("A command is mistyped", "biuld"),
        Mistake("An option is mistyped", "build --plattform linux/arm64"),
        Mistake("A Docker option that has another name here", "build --file Dockerfile"),
        Mistake("An option stands before the command", "-t shop:1.0 build"),
        Mistake("An argument too many", "build shop"),
        Mistake("An image name with capital letters", "build -t Shop:1.0"),
        Mistake("A tag with a space", "build -t 'shop:version one'"),
        Mistake("An unknown platform", "build --platform linux/arm"),
        Mistake("An unknown Debian suite", "build --base debian:woody"),
        Mistake("A push without a registry", "build --push"),
        Mistake("Nothing was built yet: push", "push"),
        Mistake("Nothing was built yet: inspect", "inspect"),
        Mistake("A file that is not an image", "load README.md"),
        Mistake("A file that does not exist", "inspect dist/shop.oci.tar"),
        Mistake("A variable with a wrong value", variables={"HATCH_DOCKER_PLATFORMS": "linux/mips"}),
        Mistake("A directory that is not a project", files={"pyproject.toml": None, "shop.py": None}),
    ),
    "In `[tool.hatch-docker]`": (
        Mistake("An option is mistyped in the table", lines='entrypiont = ["shop"]'),
        Mistake("A value of the wrong type", lines="tags = 3"),
        Mistake("A command as one string", lines='entrypoint = "shop --port 8000"'),
        Mistake("An option in the wrong table", lines='packages = ["libpq5"]'),
        Mistake("An engine that does not exist", lines='engine = "docker"'),
        Mistake("An image with https://", lines='image = "https://registry.example/shop"'),
        Mistake("A port that is not a number", lines='ports = ["http"]'),
        Mistake("A user with a space", lines='user = "bob smith"'),
        Mistake("A size without a unit", lines='max-size = "50"'),
        Mistake("A time in words", lines='[tool.hatch-docker.check]\ncommand = ["shop"]\ntimeout = "one minute"'),
        Mistake("An extra that the project does not have", lines='extras = ["postgres"]'),
        Mistake("A dependency group that does not exist", lines='dependency-groups = ["prod"]'),
        Mistake("A lock that does not exist", lines='lock = "pylock.prod.toml"'),
        Mistake("A file to copy that does not exist",
                lines='[[tool.hatch-docker.files]]\nsource = "config"\ntarget = "/etc/shop"'),
        Mistake("A copy to a relative path",
                lines='[[tool.hatch-docker.files]]\nsource = "shop.py"\ntarget = "etc/shop.py"'),
        Mistake("A secret's value instead of its name", lines='[tool.hatch-docker.build]\nsecrets = ["TOKEN=abc-123"]'),
        Mistake("Another Python than that of the base", lines='python = "3.12"'),
        Mistake("A mirror that is not an http URL", lines='[tool.hatch-docker.debian]\nmirror = "ftp://mirror.example"'),
    ),
    "In the rest of `pyproject.toml`": (
        Mistake("A quote is missing", old='version = "1.0"', new='version = "1.0'),
        Mistake("The name is missing", old='name = "shop"\n', new=""),
        Mistake("An invalid version", old='version = "1.0"', new='version = "one"'),
        Mistake("An invalid requirement", old="dependencies = []", new='dependencies = ["flask >> 3"]'),
        Mistake("An invalid requires-python", old='requires-python = ">=3.11"', new='requires-python = "=>3.11"'),
        Mistake("A newer Python than the base has", old='requires-python = ">=3.11"', new='requires-python = ">=3.14"'),
        Mistake("A script without a function", old='shop = "shop:main"', new='shop = "shop main"'),
        Mistake("No script, and no entrypoint", old='shop = "shop:main"\n', new=""),
        Mistake("A readme that does not exist", old='version = "1.0"', new='version = "1.0"\nreadme = "README.txt"'),
    ),
}  # fmt: skip


def message(mistake: Mistake, directory: Path) -> str:
    """Make a mistake in an empty directory, run its command, and return the error's lines."""
    text = PROJECT.replace(mistake.old, mistake.new) if mistake.old else PROJECT
    files = {**FILES, "pyproject.toml": f"{text}{mistake.lines}\n", **mistake.files}
    write_files(directory, {name: content for name, content in files.items() if content is not None})
    environ = {
        "PATH": f"{directory / 'bin'}:/usr/bin:/bin", "HOME": str(directory),
        "HATCH_DOCKER_CACHE_DIR": str(directory / "cache"),
        "HATCH_DOCKER_OFFLINE": "1", "HATCH_DOCKER_LOAD": "never", "COLUMNS": "110", "NO_COLOR": "1",
        "LC_ALL": "C.UTF-8", **mistake.variables,
    }  # fmt: skip
    program = write_files(directory, {"bin/hatch-docker": ""}) / "bin/hatch-docker"  # errors look for it in PATH
    program.chmod(0o755)
    output = io.StringIO()
    with _at(directory, environ), contextlib.redirect_stderr(output), contextlib.redirect_stdout(io.StringIO()):
        try:
            status: object = main(shlex.split(mistake.command))
        except SystemExit as end:
            status = end.code
    output_lines = output.getvalue().replace(str(directory), "...").strip()
    if not status or "Traceback" in output_lines:
        raise AssertionError(f"{mistake.title}: status {status}\n{output_lines}")
    return output_lines


@contextlib.contextmanager
def _at(directory: Path, environ: Mapping[str, str]) -> Iterator[None]:
    before, variables = Path.cwd(), dict(os.environ)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environ)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(variables)


def mistakes_list() -> str:
    """Return all mistakes with their messages as Markdown."""
    parts = []
    for group, mistakes in GROUPS.items():
        parts.append(f"## {group}")
        for mistake in mistakes:
            with tempfile.TemporaryDirectory() as directory:
                output_lines = message(mistake, Path(directory).resolve())
            parts.append(f"### {mistake.title}\n\n```text\n{mistake.shown()}\n```\n\n```text\n{output_lines}\n```")
    return "\n\n".join(parts)


def with_list(text: str) -> str:
    """Return the page with the current list between `<!-- mistakes -->` and `<!-- /mistakes -->`."""
    before, _, rest = text.partition("<!-- mistakes -->\n")
    return f"{before}<!-- mistakes -->\n{mistakes_list()}\n<!-- /mistakes -->{rest.partition('<!-- /mistakes -->')[2]}"


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        page.write_text(with_list(page.read_text("utf-8")), "utf-8")
