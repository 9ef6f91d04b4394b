"""The proposal of `init`: lines to add to a project's files for an image, each with its reason.

No existing line is changed or moved: tables are added to the end of a file, keys of their table, items of their list.
"""

import contextlib
import functools
import operator
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import tomlkit
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from tomlkit.items import Item, Table

from hatch_docker.bases.debian.apt_config import find_mirrors
from hatch_docker.cli.init.detect_app import App, find_apps, find_programs, parse
from hatch_docker.cli.init.documentation import documented_commands, named_script
from hatch_docker.cli.init.frameworks import choose_server, django_advice, program_run, server_run
from hatch_docker.cli.init.modules import (
    DATA,
    data_names,
    find_modules,
    inline_metadata,
    module_name,
    top_level,
    wheel_table,
)
from hatch_docker.cli.init.requirements import console_scripts, has_script, read_requirements_file, required_names
from hatch_docker.config.load import load_config
from hatch_docker.core.errors import BaseImageError, ConfigError
from hatch_docker.core.http.urls import redact_requirement
from hatch_docker.core.tables import table_at
from hatch_docker.plan.model import DEBIAN_PYTHONS, UNRELEASED, BasePlan
from hatch_docker.project.hatch import wheel_files
from hatch_docker.project.pyproject import HATCHLING, below, build_system, check_project, check_tables, parse_toml
from hatch_docker.project.workspace import workspace_members

PYPROJECT, HATCH = "pyproject.toml", "hatch.toml"
REQUIREMENT = "hatch-docker[uv]"
BUILD_REQUIREMENTS = ("hatchling>=1.27", "hatch-docker")  # the second if requirements.txt has the dependencies
LOCKS = {"uv.lock": "uv lock", "poetry.lock": "poetry lock", "pdm.lock": "pdm lock", "pylock.toml": "hatch lock"}
NO_PROGRAM = "no program was found: set entrypoint to the command that the image runs"
SEVERAL = "no script has the project's name: set entrypoint to the script that the image runs"
LONG = 100  # characters; in a longer TOML list, each item has its own line
DATA_DIRECTORY = "/srv"  # working directory of an application that reads files by relative paths
# Frameworks that search templates and static files beside the module, and not in the working directory.
FILES_BESIDE_MODULE = frozenset({"Flask", "Quart", "Django", "Dash"})


@dataclass(slots=True)
class Proposal:
    """The contents of files before and after the proposal, and the reasons. A new file has "" before.

    `data`: files and directories at the root that modules read.
    """

    root: Path
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    guesses: list[str] = field(default_factory=list)   # "base: debian:trixie (...)"
    notes: list[str] = field(default_factory=list)     # what the user has to do
    backend: str = HATCHLING
    data: list[str] = field(default_factory=list)

    def read(self, name: str) -> None:
        """Read a file that the proposal may change. Raises ConfigError if it cannot be read."""
        path = self.root / name
        try:
            text = path.read_bytes().decode() if path.is_file() else ""
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read {path}: {error}") from error
        self.before[name] = self.after[name] = text

    @property
    def changed(self) -> list[str]:
        """The names of the files that the proposal changes."""
        return [name for name, text in self.after.items() if text != self.before[name]]

    def config(self, name: str) -> dict[str, Any]:
        """Return the TOML of a file with all changes so far. Raises ConfigError if it is invalid."""
        return parse_toml(self.root / name, self.after[name])

    def add(self, name: str, path: Sequence[str], values: Mapping[str, Any]) -> None:
        """Add a table at the end of a file, or in an existing inline table. `path`: the table's name, in parts."""
        text = self.after[name]
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        self.after[name] = f"{text}{gap}" + "\n".join([f"[{'.'.join(path)}]", *_toml_lines(values)]) + "\n"
        try:
            self.config(name)
        except ConfigError:
            document = place = tomlkit.parse(text)
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = dict(values)
            self.after[name] = tomlkit.dumps(document)

    def extend(self, name: str, path: Sequence[str], values: Mapping[str, Any]) -> bool:
        """Add keys to a table. If the table has no header line, change nothing and return False."""
        wanted, document = self.config(name), tomlkit.parse(self.after[name])
        _table(wanted, path).update(values)
        place = _table(document, path)
        if isinstance(place, Table) and not place.is_super_table():
            place.update({key: _toml_value(value) for key, value in values.items()})
            text = tomlkit.dumps(document)
            with contextlib.suppress(ConfigError):
                if parse_toml(self.root / name, text) == wanted:
                    self.after[name] = text
                    return True
        return False

    def append(self, name: str, path: Sequence[str], item: str) -> None:
        """Add an item at the end of a list; create the list if its table has none."""
        document = tomlkit.parse(self.after[name])
        place = _table(document, path[:-1])
        if path[-1] in place:
            place[path[-1]].append(item)
        else:
            place[path[-1]] = [item]
        self.after[name] = tomlkit.dumps(document)


def _table(document: Any, path: Sequence[str]) -> Any:
    return functools.reduce(operator.getitem, path, document)


def _toml_value(value: Any) -> Item:
    """Return a TOML item for a value: with inline tables, and long lists with a line for each item."""
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        table.update({key: _toml_value(item) for key, item in value.items()})
        return table
    if isinstance(value, list):
        array = tomlkit.array()
        array.extend(map(_toml_value, value))
        array.multiline(sum(len(str(item)) + 4 for item in value) > LONG)
        return array
    item: Item = tomlkit.item(value)
    return item


def _toml_lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml_value(value).as_string()}" for key, value in values.items()]


def propose(root: Path, environ: Mapping[str, str]) -> Proposal:
    """Return the lines to add to a project. Raises ConfigError if the directory has no project and no Python file.

    Writes no file and executes no code of the project.
    """
    proposal = Proposal(root)
    for name in (PYPROJECT, HATCH):
        proposal.read(name)
    config = proposal.config(PYPROJECT)
    check_tables(config)
    places = top_level(root, config)
    if _lacks_build_system(root, config):
        if not places:
            _fail_without_code(root)
        _add_build_system(proposal, config, places)
    proposal.backend = build_system(proposal.config(PYPROJECT))[1]
    if places and not places[0].startswith("src/"):
        trees = (parse(root / path) for path in find_modules(root, places).values())
        proposal.data = data_names(root, filter(None, trees), places)
    modules = None
    if proposal.backend == HATCHLING:
        files = wheel_files(root) if "build-system" in config else None  # None: hatchling does not find the files
        modules = files and {module_name(name): path for name, path in files.items() if name.endswith(".py")}
        if modules is None:
            _add_wheel(proposal, places)
        _add_target(proposal)
    if "hatch-docker" not in proposal.config(PYPROJECT).get("tool", {}):
        _add_options(proposal, modules or find_modules(root, places), environ)
    else:
        _complete_options(proposal, modules or find_modules(root, places))
    for name, text in proposal.before.items():
        if "\r\n" in text and not re.search(r"(?<!\r)\n", text):  # keep Windows line endings
            proposal.after[name] = re.sub(r"(?<!\r)\n", "\r\n", proposal.after[name])
    if not proposal.changed and not proposal.notes:
        proposal.notes.append("everything is there: nothing to add")
    return proposal


def _fail_without_code(root: Path) -> NoReturn:
    """Raise ConfigError for a directory without a project and without a Python file."""
    if notebooks := sorted(path.name for path in root.glob("*.ipynb")):
        raise ConfigError(
            f"{root} has notebooks, but no Python file: convert one to a program (`jupyter nbconvert --to script "
            f'"{notebooks[0]}"`) and run init again'
        )
    if names := below(root):
        raise ConfigError(f"{root} contains no Python project; there are projects below it{names}: go to one of them")
    raise ConfigError(f"{root} contains no Python project and no Python file: go to the project's directory")


def _lacks_build_system(root: Path, config: Mapping[str, Any]) -> bool:
    """Return whether there is no build system. Raises ConfigError for Poetry without it, and for a workspace's root."""
    if "build-system" in config or any((root / name).is_file() for name in ("setup.py", "setup.cfg")):
        return False
    if "poetry" in config.get("tool", {}) and "project" not in config:
        raise ConfigError(
            "pyproject.toml has [tool.poetry] and no [build-system]: an image is made from a wheel, so add the backend "
            'that builds it: [build-system] requires = ["poetry-core"] and build-backend = "poetry.core.masonry.api"'
        )
    if "project" not in config and workspace_members(root, config):
        check_project(root, config)
    return True


def _add_build_system(proposal: Proposal, config: Mapping[str, Any], places: Sequence[str]) -> None:
    """Add [build-system], and [project] if it is missing, because an image needs a wheel.

    If there is a requirements file, it stays the source of the dependencies: a metadata hook reads it.
    """
    path, lines, left_out = read_requirements_file(proposal.root)
    project = table_at(config, "project")
    reads = bool(path) and "dependencies" not in project and "dependencies" not in project.get("dynamic", [])
    requires = [*BUILD_REQUIREMENTS][: 2 if reads else 1]
    proposal.add(PYPROJECT, ["build-system"], {"requires": requires, "build-backend": HATCHLING})
    proposal.guesses.append(f"build-system: hatchling (an image is made from a wheel, here of {', '.join(places)})")
    if "project" not in config:
        letters = unicodedata.normalize("NFKD", proposal.root.resolve().name.casefold()).encode("ascii", "ignore")
        name = re.sub(r"[^a-z0-9]+", "-", letters.decode()).strip("-") or "app"
        name = f"{name}-app" if name in required_names(proposal.root, {}) else name  # must not require itself
        inline = {place: table for place in places if (table := inline_metadata(proposal.root / place))}
        pythons = dict.fromkeys(str(found) for table in inline.values() if (found := table.get("requires-python")))
        needs = list(dict.fromkeys(line for table in inline.values() for line in table.get("dependencies", ())))
        values: dict[str, Any] = {
            "name": name, "version": "0.1.0", "requires-python": ",".join(pythons) or _python(proposal.root)
        }
        values |= {"dynamic": ["dependencies"]} if reads else {"dependencies": needs}
        proposal.add(PYPROJECT, ["project"], values)
        proposal.guesses.append(f"project: {name} 0.1.0 (the directory's name)")
        if needs and not reads:
            proposal.guesses.append(f"dependencies: those in the script metadata of {', '.join(inline)}")
    elif reads:
        proposal.append(PYPROJECT, ["project", "dynamic"], "dependencies")
    if reads:
        proposal.add(PYPROJECT, ["tool", "hatch", "metadata", "hooks", "docker"], {"requirements": [path]})
        proposal.guesses.append(f"dependencies: those of {path}, which each build reads")
        redacted = map(redact_requirement, (line for line in left_out if not line.startswith("-")))
        proposal.notes += [f"{path}: {line!r} cannot be a dependency" for line in redacted]
    if reads and any("@" in line for line in lines):
        proposal.add(PYPROJECT, ["tool", "hatch", "metadata"], {"allow-direct-references": True})
    if "uv" in config.get("tool", {}) or (proposal.root / "uv.lock").exists():
        proposal.notes.append("uv installs the project itself from now on, since it has a [build-system]")


def _python(root: Path) -> str:
    """Return requires-python for a project: the version in .python-version, otherwise that of the running Python."""
    path = root / ".python-version"
    match = re.match(r"(3\.\d+)", path.read_text("utf-8", errors="replace").strip()) if path.is_file() else None
    return f">={match[1]}" if match else f">=3.{sys.version_info.minor}"


def _hatch_targets(proposal: Proposal) -> tuple[str, tuple[str, ...], Mapping[str, Any]]:
    """Return file, path and content of hatch's table of build targets. [build] in hatch.toml takes precedence."""
    config = proposal.config(HATCH)
    if "build" in config:
        return HATCH, ("build", "targets"), config["build"].get("targets", {})
    build = proposal.config(PYPROJECT).get("tool", {}).get("hatch", {}).get("build", {})
    return PYPROJECT, ("tool", "hatch", "build", "targets"), build.get("targets", {})


def _add_wheel(proposal: Proposal, places: list[str]) -> None:
    """Add options for the files of the wheel, if hatchling does not find them by the project's name."""
    file, path, targets = _hatch_targets(proposal)
    project = proposal.config(PYPROJECT).get("project", {}).get("name", "")
    table = wheel_table(proposal.root, project, places, proposal.data) if places else {}
    if table and "wheel" not in targets:
        proposal.add(file, (*path, "wheel"), table)
        data = f", and {', '.join(proposal.data)}, which they read" if proposal.data else ""
        proposal.guesses.append(
            f"wheel: {', '.join(places)}{data} (without this, hatchling finds only modules named {project})"
        )


def _add_target(proposal: Proposal) -> None:
    """Add the build target `docker` and its dependency on hatch-docker."""
    file, path, targets = _hatch_targets(proposal)
    target = targets.get("docker")
    if target is None:
        proposal.add(file, (*path, "docker"), {"dependencies": [REQUIREMENT]})
    elif not any(re.match(r"hatch[-_.]docker\b", str(line), re.IGNORECASE) for line in target.get("dependencies", [])):
        proposal.append(file, (*path, "docker", "dependencies"), REQUIREMENT)


def _add_options(proposal: Proposal, modules: Mapping[str, Path], environ: Mapping[str, str]) -> None:
    """Add [tool.hatch-docker] with the base and, if the project has no default script, the command."""
    config = proposal.config(PYPROJECT)
    table: dict[str, Any] = _base(proposal, config, environ)
    script = has_script(proposal.root, config)
    if script is None:
        proposal.notes.append("only its backend knows its scripts: set entrypoint if there are several")
    if script is False:
        table |= _program(proposal, config, modules)
    load_config(table, {}, None)  # validates the proposal
    proposal.add(PYPROJECT, ["tool", "hatch-docker"], table)
    if script is False and "entrypoint" not in table:
        scripts = _note_scripts(proposal, config)
        (line,) = _toml_lines({"entrypoint": ["SCRIPT"] if scripts else ["python", "-m", "MODULE"]})
        proposal.after[PYPROJECT] += f"# {line}\n"


def _note_scripts(proposal: Proposal, config: Mapping[str, Any]) -> list[str]:
    """Add a note that there is no program, or that there are several scripts; return the scripts."""
    scripts = console_scripts(config)
    proposal.notes.append(f"{SEVERAL} ({', '.join(scripts)})" if scripts else NO_PROGRAM)
    return scripts


def _complete_options(proposal: Proposal, modules: Mapping[str, Path]) -> None:
    """Add the command to a [tool.hatch-docker] without one, if the project has no default script."""
    config = proposal.config(PYPROJECT)
    table = config["tool"]["hatch-docker"]
    complete = not isinstance(table, dict) or table.keys() & {"entrypoint", "cmd", "images"}
    if complete or has_script(proposal.root, config) is not False:
        return
    values = {key: value for key, value in _program(proposal, config, modules).items() if key not in table}
    if not values:
        _note_scripts(proposal, config)
    elif not proposal.extend(PYPROJECT, ["tool", "hatch-docker"], values):
        lines = "; ".join(_toml_lines(values))
        proposal.notes.append(f"[tool.hatch-docker] has no command to run; add to it: {lines}")


def poetry_specifiers(constraint: str) -> str:
    """Return Poetry's Python constraint as version specifiers: "^3.11" is ">=3.11,<4", "~3.11" is "==3.11.*"."""
    caret = re.sub(r"\^\s*(\d+)([\d.]*)", lambda found: f">={found[1]}{found[2]},<{int(found[1]) + 1}", constraint)
    return re.sub(r"(?<![~\w])~\s*(\d+\.\d+)[\d.]*", r"==\1.*", caret)


def _base(proposal: Proposal, config: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Return a Debian base if a mirror is known and a suite has a suitable Python; otherwise {}, the default base."""
    try:
        mirrors = find_mirrors(BasePlan("debian", "debian:trixie", "trixie", "", "", True, ()), environ)
    except BaseImageError:
        proposal.guesses.append("base: python:X.Y-slim of a registry, the default (no mirror of Debian is known here)")
        return {}
    poetry = str(table_at(config, "tool", "poetry", "dependencies").get("python", ""))
    requires = str(config.get("project", {}).get("requires-python", "")) or poetry_specifiers(poetry)
    specifiers = SpecifierSet()
    with contextlib.suppress(InvalidSpecifier):
        specifiers = SpecifierSet(requires)
    released = {suite: found[0] for suite, found in DEBIAN_PYTHONS.items() if suite not in UNRELEASED}
    for suite, python in reversed(released.items()):
        if specifiers.contains(f"{python}.99") or specifiers.contains(f"{python}.0"):
            reason = f"Python {python}, for requires-python {requires}" if requires else f"Python {python}"
            proposal.guesses.append(f"base: debian:{suite} ({reason}; the mirror is from {mirrors.origin})")
            return {"base": f"debian:{suite}"}
    proposal.guesses.append(f"base: python:X.Y-slim, the default (no Debian has a Python for {requires})")
    return {}


def _program(proposal: Proposal, config: Mapping[str, Any], modules: Mapping[str, Path]) -> dict[str, Any]:
    """Return the options that run a documented script, otherwise an application, otherwise a module; {} if none."""
    commands = documented_commands(proposal.root)
    if script := named_script(commands, console_scripts(config)):
        proposal.guesses.append(f"entrypoint: {script} (the script that the documentation names)")
        return {"entrypoint": [script]}
    if apps := find_apps(proposal.root, modules, commands):
        return _server(proposal, config, apps)
    programs = find_programs(proposal.root, modules, commands)
    if not programs or console_scripts(config):
        return {}
    others = f"; others: {', '.join(programs[1:4])}" if len(programs) > 1 else ""
    proposal.guesses.append(f"entrypoint: python -m {programs[0]} (this module can be run{others})")
    run, framework = program_run(proposal.root, programs[0], modules.get(programs[0]))
    if framework:
        proposal.guesses.append(f"ports: {run.ports[0]} (where {framework} listens)")
    return run.table() | _files(proposal, proposal.data)


def _server(proposal: Proposal, config: Mapping[str, Any], apps: Sequence[App]) -> dict[str, Any]:
    """Return the options that serve the most likely application, and add the server to the dependencies if needed."""
    required = required_names(proposal.root, config)
    # Django projects have an application for each interface: use the one for which the project requires a server.
    django = [app for app in apps if app.framework == apps[0].framework == "Django"]
    app = next((app for app in django if choose_server(app, required)[1]), apps[0])
    server, present = choose_server(app, required)
    others = f"; others: {', '.join(other.target for other in apps if other != app)}" if len(apps) > 1 else ""
    verb = "makes" if app.factory else "is"
    name = app.name or app.path.name
    proposal.guesses.append(
        f"entrypoint: {server} {app.target} ({name} {verb} the {app.framework} application in {app.path}{others})"
    )
    run = server_run(app, server)
    if run.ports:
        proposal.guesses.append(f"ports: {run.ports[0]} (where {server} listens)")
    if not present:
        _require(proposal, server, app)
    table = run.table()
    if app.framework == "Django":
        advice, notes = django_advice(proposal.root, app, server)
        table |= advice
        proposal.notes += notes
        if "steps" in advice:
            where = advice["steps"][0]["outputs"][0]
            proposal.guesses.append(f"steps: django-admin collectstatic in the finished image, into {where}")
    apart = [name for name in proposal.data if not (app.framework in FILES_BESIDE_MODULE and name in DATA)]
    script = [app.path.as_posix()] if app.interface == "streamlit" else []
    pages = [name for name in ("pages", ".streamlit/config.toml") if script and (app.path.parent / name)]
    beside = [(app.path.parent / name).as_posix() for name in pages]
    return table | _files(proposal, [*script, *(name for name in beside if (proposal.root / name).exists()), *apart])


def _require(proposal: Proposal, server: str, app: App) -> None:
    """Add a server to the dependencies, in requirements.txt or [project]; if they are elsewhere, add a note."""
    pyproject = proposal.config(PYPROJECT)
    hook = table_at(pyproject, "tool", "hatch", "metadata", "hooks", "docker")
    if "requirements" in hook and "--hash=" not in (proposal.root / hook["requirements"][0]).read_text("utf-8"):
        place = hook["requirements"][0]
        proposal.read(place)
        text = proposal.after[place]
        proposal.after[place] = f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{server}\n"
    elif "project" not in pyproject or "dependencies" in pyproject["project"].get("dynamic", []):
        proposal.notes.append(f"{server} must be one of the project's dependencies, to serve {app.target}: add it")
        return
    else:
        place = "dependencies"
        proposal.append(PYPROJECT, ["project", "dependencies"], server)
    proposal.guesses.append(f"{place}: {server} (none of them is a server for {app.framework})")
    for lock in (lock for lock in LOCKS if (proposal.root / lock).is_file()):
        proposal.notes.append(f"{lock} does not have {server} yet: run `{LOCKS[lock]}`")


def _files(proposal: Proposal, names: Sequence[str]) -> dict[str, Any]:
    """Return the options that copy files of the project to the working directory, for relative paths."""
    if not names:
        return {}
    proposal.guesses.append(f"files: {', '.join(names)} in the working directory, where relative paths find them")
    return {
        "workdir": DATA_DIRECTORY,
        "files": [{"source": name, "target": f"{DATA_DIRECTORY}/{name}"} for name in names],
    }
