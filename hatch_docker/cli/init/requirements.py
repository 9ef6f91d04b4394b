"""Requirements and console scripts of a project: [project], Poetry's table, setup.cfg, setup.py, requirements.txt."""

import configparser
import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.core.tables import table_at
from hatch_docker.plan.defaults import default_script
from hatch_docker.project.requirements_file import NAMES, parse_requirement, requirement_lines

# Extras that install a server.
SERVER_EXTRAS = {("fastapi", "standard"): "uvicorn", ("fastapi", "all"): "uvicorn", ("litestar", "standard"): "uvicorn"}


def read_requirements_file(root: Path) -> tuple[str, list[str], list[str]]:
    """Read the requirements file at the root of a project, with the files that it includes.

    Return its name, its requirements, and the lines that cannot be in [project]; "" and empty lists without a file.
    """
    name = next((name for name in NAMES if (root / name).is_file()), "")
    lines = [*requirement_lines(root / name, root)] if name else []
    left_out = [line for line in lines if not parse_requirement(line)]
    return name, [*dict.fromkeys(filter(parse_requirement, lines))], left_out


def required_names(root: Path, config: Mapping[str, Any]) -> set[str]:
    """Return the normalised names of a project's dependencies, as far as they can be read without executing code."""
    names: set[str] = set()
    for requirement in filter(None, map(parse_requirement, _requirement_lines(root, config))):
        name = canonicalize_name(requirement.name)
        names.add(name)
        names |= {SERVER_EXTRAS[name, extra] for extra in requirement.extras if (name, extra) in SERVER_EXTRAS}
    return names


def _requirement_lines(root: Path, config: Mapping[str, Any]) -> Iterator[str]:
    dependencies = table_at(config, "project").get("dependencies")
    yield from (line for line in dependencies if isinstance(line, str)) if isinstance(dependencies, list) else ()
    for name, value in table_at(config, "tool", "poetry", "dependencies").items():
        extras = value.get("extras", []) if isinstance(value, dict) else []
        yield f"{name}[{','.join(map(str, extras))}]"
    setup_cfg = configparser.RawConfigParser()
    with contextlib.suppress(OSError, ValueError, configparser.Error):
        setup_cfg.read_string((root / "setup.cfg").read_text("utf-8"))
        yield from setup_cfg.get("options", "install_requires").splitlines()
    yield from read_requirements_file(root)[1]
    if (root / "setup.py").is_file():
        # All strings that look like a requirement: additional names do no harm.
        text = (root / "setup.py").read_text("utf-8", errors="replace")
        yield from re.findall(r"""["']([A-Za-z][\w.\-]*(?:\[[\w,\- ]*\])?)[^"'\n]*["']""", text)


def console_scripts(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the console scripts in pyproject.toml."""
    tables = (("project",), ("tool", "poetry"), ("tool", "flit"))
    return list(dict.fromkeys(script for path in tables for script in table_at(config, *path, "scripts")))


def has_script(root: Path, config: Mapping[str, Any]) -> bool | None:
    """Return whether a project has a console script that the image runs by default; None if that needs the backend."""
    if scripts := console_scripts(config):
        name = str(table_at(config, "project").get("name", root.name))
        return len(scripts) == 1 or default_script(name, scripts) is not None
    if "scripts" in table_at(config, "project").get("dynamic", []) or "project" not in config:
        for file in ("setup.py", "setup.cfg"):
            if (root / file).is_file() and "console_scripts" in (root / file).read_text("utf-8", errors="replace"):
                return None
    return False
