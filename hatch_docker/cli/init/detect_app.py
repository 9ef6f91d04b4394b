"""Web applications and programs of a project, found by reading its files: nothing is imported or run."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.cli.init.documentation import NEVER, first_mention
from hatch_docker.core.python_names import defined_names, parse_source

# Callables that make an application -> the framework's name, and the interface that a server needs.
FRAMEWORKS: Mapping[str, tuple[str, str]] = {
    "fastapi.FastAPI": ("FastAPI", "asgi"),
    "fastapi.applications.FastAPI": ("FastAPI", "asgi"),
    "starlette.applications.Starlette": ("Starlette", "asgi"),
    "litestar.Litestar": ("Litestar", "asgi"),
    "quart.Quart": ("Quart", "asgi"),
    "falcon.asgi.App": ("Falcon", "asgi"),
    "django.core.asgi.get_asgi_application": ("Django", "asgi"),
    "django.core.wsgi.get_wsgi_application": ("Django", "wsgi"),
    "flask.Flask": ("Flask", "wsgi"),
    "falcon.App": ("Falcon", "wsgi"),
    "bottle.Bottle": ("Bottle", "wsgi"),
    "dash.Dash": ("Dash", "wsgi"),
    "sanic.Sanic": ("Sanic", "sanic"),
    "celery.Celery": ("Celery", "celery"),
}
# Names of modules, best first.
NAMES = (
    "main", "app", "streamlit_app", "Home", "asgi", "wsgi", "application", "server", "api", "web", "celery", "tasks",
    "__init__",
)  # fmt: skip
# Servers in commands of a documentation, and the interface of what they serve.
_SERVED = re.compile(
    r"\b(?:(?P<wsgi>gunicorn|waitress-serve|uwsgi)|uvicorn|hypercorn|daphne|granian)\b(?P<options>[^\n]*?)\s"
    r"(?P<module>[\w.]+):(?P<name>\w+)(?P<called>\(\))?"
)
# Directories of other people's code, which is no application of the project.
VENDORED = frozenset({"_vendor", "_vendored", "extern", "external", "third_party", "thirdparty", "vendor", "vendored"})


@dataclass(frozen=True, slots=True)
class App:
    """An application object; with `factory` a function that returns one.

    `interface` is that of a server, "asgi" or "wsgi", or names the program that runs it: "celery", "sanic", and
    "streamlit", for which the module itself is the application and `name` is "".
    """

    module: str                               # "shop.main"
    name: str                                 # "app"
    path: Path                                # relative to the project
    framework: str                            # "FastAPI"
    interface: str
    factory: bool = False

    @property
    def target(self) -> str:
        """The argument of a server: "shop.main:app"."""
        return f"{self.module}:{self.name}" if self.name else str(self.path)


def find_apps(root: Path, modules: Mapping[str, Path], commands: str = "") -> list[App]:
    """Return the applications in some modules, the most likely one first.

    That is one that `commands`, those of the project's documentation, name; then one by the name of its module.
    """
    trees = {name: tree for name, path in modules.items() if (tree := parse(root / path)) is not None}
    trees = {name: tree for name, tree in trees.items() if not VENDORED & set(modules[name].parts)}
    imports = {name: imported_names(tree, name) for name, tree in trees.items()}
    factories = {
        f"{module}.{function.name}": made for module, tree in trees.items() for function in tree.body
        if isinstance(function, ast.FunctionDef) and (made := _made_in(function, imports[module]))
    }
    apps = []
    for module, tree in trees.items():
        own = {name.rpartition(".")[2]: name for name in factories if name.rpartition(".")[0] == module}
        for name, made in _assigned_apps(tree.body, {**imports[module], **own}, {**FRAMEWORKS, **factories}):
            apps.append(App(module, name, modules[module], *made))
        if "pages" not in module.split(".")[:-1] and _is_streamlit(tree.body, imports[module]):
            apps.append(App(module, "", modules[module], "Streamlit", "streamlit"))
    for factory, made in factories.items():
        module, _, name = factory.rpartition(".")
        apps.append(App(module, name, modules[module], *made, factory=True))
    known = {app.target for app in apps}
    apps += (app for app in _documented_apps(commands, trees, modules) if app.target not in known)
    # Of Django's two interfaces WSGI is the usual one. A worker comes second: a project may have one beside its site.
    return sorted(apps, key=lambda app: (
        first_mention(commands, app.module, app.path, app.target), app.interface == "celery", app.factory,
        app.framework == "Django" and app.interface == "asgi", _rank(app.module),
    ))  # fmt: skip


def _documented_apps(commands: str, trees: Mapping[str, ast.Module], modules: Mapping[str, Path]) -> Iterator[App]:
    """Yield the applications that commands serve, whatever they are made by."""
    for match in _SERVED.finditer(commands):
        module, name = match["module"], match["name"]
        if module in trees and name in (defined_names(trees[module]) or ()):
            interface = "wsgi" if match["wsgi"] else "asgi"
            factory = bool(match["called"]) or "--factory" in match["options"]
            yield App(module, name, modules[module], interface.upper(), interface, factory)


def find_programs(root: Path, modules: Mapping[str, Path], commands: str = "") -> list[str]:
    """Return the modules that `python -m` may run, the most likely one first.

    They are packages with a __main__, modules that compare their __name__, and scripts. A script calls functions or
    loops at its top level; it is the only module, or its name is one of NAMES. A module that `commands`, those of the
    project's documentation, run is first.
    """
    modules = {
        name: path for name, path in modules.items()
        if not VENDORED & set(path.parts) and not re.search(r"(^|\.)(build_\w+|\w+_build)$", name)  # as cffi has them
    }  # fmt: skip
    trees = {name: parse(root / path) for name, path in modules.items()}
    packages = [name.removesuffix(".__main__") for name in modules if name.endswith(".__main__")]
    bodies = {name: tree.body if tree else [] for name, tree in trees.items()}
    programs = [name for name, body in bodies.items() if any(map(_is_main, body)) and not name.endswith("__main__")]
    scripts = [name for name, body in bodies.items() if any(map(_runs, body)) and (
        name in NAMES or len(trees) == 1 or first_mention(commands, name, modules[name]) < NEVER
    )]  # fmt: skip
    order = [*sorted(programs, key=_rank), *sorted(scripts, key=_rank)]
    found = dict.fromkeys([*sorted(packages, key=lambda name: name.count(".")), *order])
    return sorted(found, key=lambda name: first_mention(commands, name, modules.get(name, Path(name))))


def _rank(module: str) -> tuple[int, int, str]:
    last = module.rpartition(".")[2]
    return module.count("."), NAMES.index(last) if last in NAMES else len(NAMES), module


def parse(path: Path) -> ast.Module | None:
    """Return the syntax tree of a module, None if it cannot be read."""
    try:
        return parse_source(path.read_bytes())
    except OSError:
        return None


def imported_names(tree: ast.Module, module: str) -> dict[str, str]:
    """Return the full names of what a module imports, by the names that it uses."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                found[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            package = ".".join([*parents, *([node.module] if node.module else [])])
            found.update({alias.asname or alias.name: f"{package}.{alias.name}" for alias in node.names})
    return found


def _called_name(node: ast.expr | None, imports: Mapping[str, str]) -> str:
    """Return the full name of what an expression calls, "" if it does not call a name."""
    parts, function = [], node.func if isinstance(node, ast.Call) else None
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    return ".".join([imports.get(function.id, function.id), *reversed(parts)]) if isinstance(function, ast.Name) else ""


def _assigned_apps(
    body: Sequence[ast.stmt], imports: Mapping[str, str], makers: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Return the names that a module gives to applications, also in an `if` or `try` of its top level."""
    for statement in body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            made = makers.get(_called_name(statement.value, imports))
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets if made else ():
                if isinstance(target, ast.Name) and made:
                    yield target.id, made
        elif isinstance(statement, (ast.If, ast.Try, ast.With)) and not _is_main(statement):
            yield from _assigned_apps(statement.body, imports, makers)


def _made_in(function: ast.FunctionDef, imports: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the framework and interface of the application that a function makes, None if it is not a factory."""
    arguments = function.args
    required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    returns = any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(function))
    if required > 0 or None in arguments.kw_defaults or not returns:
        return None
    if not function.name.endswith(("app", "application", "api")):
        return None
    calls = (FRAMEWORKS.get(_called_name(node, imports)) for node in ast.walk(function) if isinstance(node, ast.Call))
    return next((made for made in calls if made), None)


def _is_streamlit(body: Sequence[ast.stmt], imports: Mapping[str, str]) -> bool:
    """Return whether a module calls streamlit at its top level: it is a script, which streamlit runs."""
    calls = (node for statement in body if not isinstance(statement, (ast.FunctionDef, ast.ClassDef))
             for node in ast.walk(statement) if isinstance(node, ast.Call))  # fmt: skip
    return any(_called_name(call, imports).startswith("streamlit.") for call in calls)


def _is_main(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def _runs(statement: ast.stmt) -> bool:
    """Return whether a statement is a loop or a call, as at the top level of a script."""
    is_call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    return is_call or isinstance(statement, (ast.For, ast.While))
