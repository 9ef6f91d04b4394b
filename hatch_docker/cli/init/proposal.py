"""What a project needs to become an image: the lines that are missing in its files, each with its reason.

Lines are added, none is changed or moved: whole tables at the end of a file, a dependency at the end of its list.
"""

from __future__ import annotations

import contextlib
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.cli.init.detect_app import PORT, App, choose_server, command, find_apps, find_programs
from hatch_docker.cli.init.modules import DATA, importable, tops, wheel_modules, wheel_table
from hatch_docker.cli.init.requirements import Listed, has_script, needed, read_listed
from hatch_docker.cli.init.toml_text import inserted, shown
from hatch_docker.core.errors import BaseImageError, ConfigError
from hatch_docker.core.http.urls import redact_requirement
from hatch_docker.project.pyproject import HATCHLING, build_system, check_project, check_tables, parse_toml
from hatch_docker.project.workspace import workspace_members

PYPROJECT, HATCH = "pyproject.toml", "hatch.toml"
OURS = "hatch-docker[uv]"
HATCHLING_NEEDED = "hatchling>=1.27"
LOCKS = {"uv.lock": "uv lock", "poetry.lock": "poetry lock", "pdm.lock": "pdm lock", "pylock.toml": "hatch lock"}
_ALONE = re.compile(r"(?<!\r)\n")  # an end of a line that is not Windows'
NO_PROGRAM = "no program was found: say what runs in the image with entrypoint"
SEVERAL = "no script is named like the project: say with entrypoint which one runs"
SERVED = "/srv"  # where an application finds what it reads by a path that begins nowhere


@dataclass(slots=True)
class Proposal:
    """The files as they would be, and what was thought on the way. `before` has "" for a file that is new."""

    root: Path
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    guesses: list[str] = field(default_factory=list)   # "base: debian:trixie (...)"
    notes: list[str] = field(default_factory=list)     # what is left to the user
    backend: str = HATCHLING

    @property
    def changed(self) -> list[str]:
        """The names of the files that would be written."""
        return [name for name, text in self.after.items() if text != self.before[name]]

    def config(self, name: str) -> dict[str, Any]:
        """What a file says by now; raises ConfigError for one that is no TOML."""
        return parse_toml(self.root / name, self.after[name])

    def add(self, name: str, table: str, values: Mapping[str, Any]) -> None:
        """Put a table at the end of a file, or into the inline table above it, where there is one."""
        text = self.after[name]
        lines = [f"[{table}]", *(f"{key} = {shown(value)}" for key, value in values.items())]
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        self.after[name] = f"{text}{gap}" + "\n".join(lines) + "\n"
        try:
            self.config(name)
        except ConfigError:
            self.after[name] = inserted(text, table.split("."), values)

    def extend(self, name: str, table: str, values: Mapping[str, Any]) -> bool:
        """Put keys into a table that has a header of its own; whether there is one."""
        text = self.after[name]
        wanted = self.config(name)
        place: Any = wanted
        for key in table.split("."):
            place = place[key]
        place.update(values)
        lines = "".join(f"{key} = {shown(value)}\n" for key, value in values.items())
        header = rf"^\[{re.escape(table)}\][ \t]*(?:#[^\n]*)?\r?\n"
        for found in (*re.finditer(rf"{header}(?:[^\[\r\n][^\n]*\n)*", text, re.MULTILINE),
                      *re.finditer(header, text, re.MULTILINE)):
            self.after[name] = text[: found.end()] + lines + text[found.end() :]
            with contextlib.suppress(ConfigError):
                if self.config(name) == wanted:
                    return True
        self.after[name] = text
        return False

    def append(self, name: str, path: Sequence[str], item: str) -> None:
        """Put an item at the end of a list, which is made where its table has none."""
        import tomlkit

        document = tomlkit.parse(self.after[name])
        place: Any = document
        for key in path[:-1]:
            place = place[key]
        if path[-1] in place:
            place[path[-1]].append(item)
        else:
            place[path[-1]] = [item]
        self.after[name] = tomlkit.dumps(document)


def propose(root: Path, environ: Mapping[str, str]) -> Proposal:
    """The lines that a project lacks; none where it has them. Raises ConfigError where there is nothing to begin with.

    Every file is read, none is imported or run, and nothing is written.
    """
    proposal = Proposal(root)
    for name in (PYPROJECT, HATCH):
        path = root / name
        proposal.before[name] = proposal.after[name] = _text(path) if path.is_file() else ""
    config = proposal.config(PYPROJECT)
    check_tables(config)
    places, listed = tops(root), read_listed(root)
    if _is_bare(root, config):
        if not places:
            raise ConfigError(f"{root} holds no Python project and no Python file: go to the project's directory")
        _make_package(proposal, config, places, listed)
    proposal.backend = build_system(proposal.config(PYPROJECT))[1]
    modules = None
    if proposal.backend == HATCHLING:
        modules = wheel_modules(root) if "build-system" in config else None
        if modules is None:
            _add_wheel(proposal, places)
        _add_target(proposal)
    if "hatch-docker" not in proposal.config(PYPROJECT).get("tool", {}):
        _add_table(proposal, modules or importable(root, places), environ)
    else:
        _complete_table(proposal, modules or importable(root, places))
    for name, text in proposal.before.items():
        if "\r\n" in text and not _ALONE.search(text):
            proposal.after[name] = _ALONE.sub("\r\n", proposal.after[name])
    if not proposal.changed and not proposal.notes:
        proposal.notes.append("everything is there: nothing to add")
    return proposal


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def _is_bare(root: Path, config: Mapping[str, Any]) -> bool:
    """Whether nothing says how the project is built: some modules, or an application as `uv init` makes it."""
    if "build-system" in config or any((root / name).is_file() for name in ("setup.py", "setup.cfg")):
        return False
    if "poetry" in config.get("tool", {}) and "project" not in config:
        raise ConfigError(
            "pyproject.toml has [tool.poetry] and no [build-system]: an image is made of a wheel, so say how one is "
            'built: [build-system] requires = ["poetry-core"] and build-backend = "poetry.core.masonry.api"'
        )
    if "project" not in config and workspace_members(root, config):
        check_project(root, config)
    return True


def _make_package(
    proposal: Proposal, config: Mapping[str, Any], places: Sequence[str], listed: Listed | None
) -> None:
    """Say how the project is built, and what it is, where nothing does: an image is made of a wheel."""
    proposal.add(PYPROJECT, "build-system", {"requires": [HATCHLING_NEEDED], "build-backend": HATCHLING})
    proposal.guesses.append(f"build-system: hatchling (an image is made of a wheel of {', '.join(places)})")
    lines = list(listed.lines) if listed else []
    if "project" not in config:
        version = _python(proposal.root)
        letters = unicodedata.normalize("NFKD", proposal.root.resolve().name.casefold()).encode("ascii", "ignore")
        name = re.sub(r"[^a-z0-9]+", "-", letters.decode()).strip("-") or "app"
        if name in needed(proposal.root, {}):  # whoever tries FastAPI in a directory fastapi
            name += "-app"
        proposal.add(PYPROJECT, "project", {
            "name": name, "version": "0.1.0", "requires-python": f">={version}", "dependencies": lines,
        })  # fmt: skip
        proposal.guesses.append(f"project: {name} 0.1.0 (the directory's name)")
    elif "dependencies" not in config["project"] and "dependencies" not in config["project"].get("dynamic", []):
        for line in lines:
            proposal.append(PYPROJECT, ("project", "dependencies"), line)
    else:
        lines = []
    if listed and lines:
        proposal.guesses.append(f"dependencies: those of {listed.path}, which is not read from now on")
        left_out = map(redact_requirement, listed.left_out)
        proposal.notes += [f"{listed.path}: {line!r} has no place in [project]" for line in left_out]
    if any("@" in line for line in lines):
        proposal.add(PYPROJECT, "tool.hatch.metadata", {"allow-direct-references": True})
    if "uv" in config.get("tool", {}) or (proposal.root / "uv.lock").exists():
        proposal.notes.append("uv installs the project itself from now on, since it says how it is built")


def _python(root: Path) -> str:
    """The Python that a project is written for: as it says to pyenv and uv, else the one that runs."""
    path = root / ".python-version"
    found = re.match(r"(3\.\d+)", path.read_text("utf-8", errors="replace").strip()) if path.is_file() else None
    return found[1] if found else f"3.{sys.version_info.minor}"


def _hatch(proposal: Proposal) -> tuple[str, tuple[str, ...], Mapping[str, Any]]:
    """Where hatch's table of builds is, and what is in it: hatch.toml's goes over pyproject.toml's, as a whole."""
    own = proposal.config(HATCH)
    if "build" in own:
        return HATCH, ("build", "targets"), own["build"].get("targets", {})
    build = proposal.config(PYPROJECT).get("tool", {}).get("hatch", {}).get("build", {})
    return PYPROJECT, ("tool", "hatch", "build", "targets"), build.get("targets", {})


def _add_wheel(proposal: Proposal, places: list[str]) -> None:
    """Say which files the wheel holds, where hatchling does not find them by their name."""
    name, path, targets = _hatch(proposal)
    config = proposal.config(PYPROJECT)
    project = config.get("project", {}).get("name", "")
    if "wheel" in targets or not places:
        return
    if table := wheel_table(proposal.root, project, places):
        proposal.add(name, ".".join((*path, "wheel")), table)
        proposal.guesses.append(f"wheel: {', '.join(places)} (nothing is named {project}, as hatchling expects)")


def _add_target(proposal: Proposal) -> None:
    name, path, targets = _hatch(proposal)
    target = targets.get("docker")
    if target is None:
        proposal.add(name, ".".join((*path, "docker")), {"dependencies": [OURS]})
    elif not any(re.match(r"hatch[-_.]docker\b", str(line), re.IGNORECASE) for line in target.get("dependencies", [])):
        proposal.append(name, (*path, "docker", "dependencies"), OURS)


def _add_table(proposal: Proposal, modules: Mapping[str, Path], environ: Mapping[str, str]) -> None:
    """[tool.hatch-docker]: the base, and what runs, where no script says so."""
    from hatch_docker.config.options import load_config

    config = proposal.config(PYPROJECT)
    table: dict[str, Any] = _base(proposal, config, environ)
    script = _has_script(proposal, config)
    if script is None:
        proposal.notes.append("its scripts are known to its backend alone: set entrypoint if there are several")
    if script is False:
        table |= _program(proposal, config, modules)
    load_config(table, {}, None)  # what we write is valid
    proposal.add(PYPROJECT, "tool.hatch-docker", table)
    if script is False and "entrypoint" not in table:
        scripts = _scripts(config)
        proposal.after[PYPROJECT] += f"# entrypoint = {shown(scripts[:1] or ['python', '-m', 'MODULE'])}\n"
        proposal.notes.append(_no_program(scripts))


def _scripts(config: Mapping[str, Any]) -> list[str]:
    scripts = config.get("project", {}).get("scripts", {})
    return list(scripts) if isinstance(scripts, dict) else []


def _no_program(scripts: Sequence[str]) -> str:
    return f"{SEVERAL} ({', '.join(scripts)})" if scripts else NO_PROGRAM


def _has_script(proposal: Proposal, config: Mapping[str, Any]) -> bool | None:
    name = canonicalize_name(str(config.get("project", {}).get("name", proposal.root.name)))
    return has_script(proposal.root, config, name)


def _complete_table(proposal: Proposal, modules: Mapping[str, Path]) -> None:
    """What runs, for a table that does not say it, where no script does either."""
    config = proposal.config(PYPROJECT)
    table = config["tool"]["hatch-docker"]
    told = not isinstance(table, dict) or table.keys() & {"entrypoint", "cmd", "images"}
    if told or _has_script(proposal, config) is not False:
        return
    found = {key: value for key, value in _program(proposal, config, modules).items() if key not in table}
    if not found:
        proposal.notes.append(_no_program(_scripts(config)))
    elif not proposal.extend(PYPROJECT, "tool.hatch-docker", found):
        lines = "; ".join(f"{key} = {shown(value)}" for key, value in found.items())
        proposal.notes.append(f"[tool.hatch-docker] does not say what runs; add to it: {lines}")


def _base(proposal: Proposal, config: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """A base of Debian's packages where a mirror is known and its Python will do; else the default, a registry's."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    from hatch_docker.bases.debian.apt_config import find_mirrors
    from hatch_docker.plan.model import DEBIAN_PYTHONS, BasePlan

    try:
        mirrors = find_mirrors(BasePlan("debian", "debian:trixie", "trixie", "", "", True, ()), environ)
    except BaseImageError:
        proposal.guesses.append("base: python:X.Y-slim of a registry, the default (no mirror of Debian is known here)")
        return {}
    poetry = config.get("tool", {}).get("poetry", {}).get("dependencies", {}).get("python", "")
    wanted = str(config.get("project", {}).get("requires-python", ""))
    try:
        admits = SpecifierSet(wanted)
    except InvalidSpecifier:
        admits = SpecifierSet()
    for suite, python in sorted(DEBIAN_PYTHONS.items(), key=lambda item: int(item[1][2:]), reverse=True):
        if admits.contains(f"{python}.99") or admits.contains(f"{python}.0"):
            reason = f"Python {python}, for requires-python {wanted}" if wanted else f"Python {python}"
            if poetry and not wanted:
                proposal.notes.append(f"python = {poetry!r} must admit {python}, the Python of debian:{suite}")
            proposal.guesses.append(f"base: debian:{suite} ({reason}; the mirror is of {mirrors.origin})")
            return {"base": f"debian:{suite}"}
    proposal.guesses.append(f"base: python:X.Y-slim, the default (no Debian has a Python for {wanted})")
    return {}


def _program(proposal: Proposal, config: Mapping[str, Any], modules: Mapping[str, Path]) -> dict[str, Any]:
    """What runs: a server with the application that was found, else a module that is made to be run."""
    apps = find_apps(proposal.root, modules)
    if apps:
        return _served(proposal, config, apps)
    programs = find_programs(proposal.root, modules)
    if not programs:
        return {}
    others = f"; others: {', '.join(programs[1:4])}" if len(programs) > 1 else ""
    proposal.guesses.append(f"entrypoint: python -m {programs[0]} (it is made to be run{others})")
    return {"entrypoint": ["python", "-m", programs[0]]}


def _served(proposal: Proposal, config: Mapping[str, Any], apps: Sequence[App]) -> dict[str, Any]:
    needs = needed(proposal.root, config)
    # Of Django's two the one that the project has a server for.
    same = [app for app in apps if app.framework == apps[0].framework == "Django" and choose_server(app, needs)[1]]
    app = (same or apps)[0]
    server, has = choose_server(app, needs)
    others = f"; others: {', '.join(one.target for one in apps if one != app)}" if len(apps) > 1 else ""
    what = "makes" if app.factory else "is"
    proposal.guesses.append(
        f"entrypoint: {server} {app.target} ({app.name} {what} the {app.framework} application in {app.path}{others})"
    )
    proposal.guesses.append(f"ports: {PORT} (where {server} is told to listen)")
    if not has:
        _add_server(proposal, server, app)
    table: dict[str, Any] = {"entrypoint": command(app, server), "ports": [PORT]}
    data = [name for name in DATA if (proposal.root / name).is_dir() and app.path.parts[0] != "src"]
    if data:
        table["workdir"] = SERVED
        table["files"] = [{"source": name, "target": f"{SERVED}/{name}"} for name in data]
        proposal.guesses.append(f"files: {', '.join(data)} in the working directory (no wheel has them)")
    return table


def _add_server(proposal: Proposal, server: str, app: App) -> None:
    project = proposal.config(PYPROJECT).get("project", {})
    if "project" not in proposal.config(PYPROJECT) or "dependencies" in project.get("dynamic", []):
        proposal.notes.append(f"{server} must be one of the project's dependencies, to serve {app.target}: add it")
        return
    proposal.append(PYPROJECT, ("project", "dependencies"), server)
    proposal.guesses.append(f"dependencies: {server} (none of them is a server for {app.framework})")
    for lock, renewed in LOCKS.items():
        if (proposal.root / lock).is_file():
            proposal.notes.append(f"{lock} does not know {server} yet: `{renewed}`")
