"""Reader of requirements files (pip's Requirements File Format) as a project's dependencies."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from hatch_docker.core.errors import ConfigError
from hatch_docker.core.http.urls import redact_requirement
from hatch_docker.project.workspace import check_inside

NAMES = ("requirements.txt", "requirements.in")


def parse_requirement(line: str) -> Requirement | None:
    """Return the requirement of a line, None if the line is not a requirement (PEP 508)."""
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def named_url(line: str) -> str:
    """Convert a URL alone to `NAME @ URL` (PEP 508), the name from `#egg=NAME` or the wheel; other lines stay as is."""
    found = re.fullmatch(r"(?:(?:-e|--editable)[ =]\s*)?((?:git\+|https?:|file:)[^\s#]+)(?:#(\S*))?(\s.*)?", line)
    if found is None:
        return line
    url, fragment, rest = found[1], (found[2] or "").split("&"), found[3] or ""
    wheel = re.search(r"/([A-Za-z0-9._]+)-[^/]+\.whl$", url)
    name = next((part[4:] for part in fragment if part.startswith("egg=")), wheel[1] if wheel else "")
    kept = "&".join(part for part in fragment if part and not part.startswith("egg="))
    return f"{name} @ {url}{'#' if kept else ''}{kept}{rest}" if name else line


def requirement_lines(path: Path, root: Path, parents: tuple[Path, ...] = ()) -> Iterator[str]:
    """Yield the lines of a requirements file and of the files that it includes, without comments and hashes.

    `root`: the project. Raises ConfigError for a file outside of the project's repository.
    """
    if path in parents or not path.is_file():
        return
    check_inside(path, root)
    text = path.read_text("utf-8-sig", errors="replace").replace("\\\n", " ")
    for raw in text.splitlines():
        line = re.sub(r"\s--hash[=\s]\S+", "", re.sub(r"(^|\s)#.*", "", raw)).strip()
        if included := re.fullmatch(r"(?:-r|--requirement)[=\s]*(\S.*)", line):
            yield from requirement_lines((path.parent / included[1]).resolve(), root, (*parents, path))
        elif line:
            yield named_url(line)


def included_files(path: Path, parents: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the path of a requirements file and of the files that it includes."""
    if path in parents or not path.is_file():
        return
    yield path
    text = path.read_text("utf-8-sig", errors="replace")
    for name in re.findall(r"(?m)^\s*(?:-r|--requirement)[=\s]*(\S+)", text):
        yield from included_files((path.parent / name).resolve(), (*parents, path))


def required_files(root: Path, hook: Any) -> list[Path]:
    """Return the files in the metadata hook's option `requirements`; raises ConfigError if the table is invalid."""
    names = hook.get("requirements") if isinstance(hook, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        text = 'tool.hatch.metadata.hooks.docker: write requirements = ["requirements.txt"], a list of files'
        raise ConfigError(text)
    if unknown := sorted(set(hook) - {"requirements"}):
        raise ConfigError(
            f"tool.hatch.metadata.hooks.docker.{unknown[0]}: unknown option; the hook has only `requirements`"
        )
    return [root / name for name in names]


def read_dependencies(root: Path, hook: Any) -> list[str]:
    """Return the requirements in the files of the metadata hook's table, for `dependencies` of [project].

    pip's options are skipped. Raises ConfigError for a file that is missing or outside of the project, and for a line
    that is neither a requirement nor an option.
    """
    found: dict[str, None] = {}
    for path in required_files(root, hook):
        name = path.relative_to(root) if path.is_relative_to(root) else path
        if not path.is_file() or not path.resolve().is_relative_to(root.resolve()):
            raise ConfigError(
                f"tool.hatch.metadata.hooks.docker.requirements: there is no {name} in {root.resolve().name}/"
            )
        for line in requirement_lines(path, root):
            if parse_requirement(line):
                found[line] = None
            elif not line.startswith("-") or re.match(r"(-e|--editable)\b", line):
                raise ConfigError(
                    f"{name}: {redact_requirement(line)!r} cannot be a dependency of a project; "
                    "write it as `name @ URL`, or name a release"
                )
    return list(found)
