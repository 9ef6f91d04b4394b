"""Web applications and programs of a project, found in the syntax trees of its files. No code is executed."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.cli.init.documentation import NEVER, first_mention
from hatch_docker.core.python_names import defined_names, parse_source

# Callables that return an application -> name of the framework, and the interface for a server.
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
# Usual names of an application's module, the most likely first.
NAMES = (
    "main", "app", "streamlit_app", "Home", "asgi", "wsgi", "application", "server", "api", "web", "celery", "tasks",
    "__init__",
)  # fmt: skip
# Commands that serve an application; the group `wsgi` matches servers of WSGI, the others are for ASGI.
_SERVED = re.compile(
    r"\b(?:(?P<wsgi>gunicorn|waitress-serve|uwsgi)|uvicorn|hypercorn|daphne|granian)\b(?P<options>[^\n]*?)\s"
    r"(?P<module>[\w.]+):(?P<name>\w+)(?P<called>\(\))?"
)
# Directories with copies of third-party code.
VENDORED = frozenset({"_vendor", "_vendored", "extern", "external", "third_party", "thirdparty", "vendor", "vendored"})


@dataclass(frozen=True, slots=True)
class App:
    """An application object. `factory`: the object is a function that returns the application.

    `interface`: "asgi" or "wsgi", or the name of the program that runs it: "celery", "sanic" or "streamlit". For
    streamlit the module is the application, and `name` is "".
    """

    module: str                               # "shop.main"
    name: str                                 # "app"
    path: Path                                # relative to the project
    framework: str                            # "FastAPI"
    interface: str
    factory: bool = False

    @property
    def target(self) -> str:
        """The command line argument for a server: "shop.main:app"."""
        return f"{self.module}:{self.name}" if self.name else str(self.path)


def find_apps(root: Path, modules: Mapping[str, Path], commands: str = "") -> list[App]:
    """Return the applications in `modules`, the most likely first: by the first mention in `commands`, then by NAMES.

    `commands`: the commands in the project's documentation.
    """
    trees = {name: tree for name, path in modules.items() if (tree := parse(root / path)) is not None}
    trees = {name: tree for name, tree in trees.items() if not VENDORED & set(modules[name].parts)}
    imports = {name: imported_names(tree, name) for name, tree in trees.items()}
    factories = {
        f"{module}.{function.name}": kind for module, tree in trees.items() for function in tree.body
        if isinstance(function, ast.FunctionDef) and (kind := _factory_kind(function, imports[module]))
    }
    apps = []
    for module, tree in trees.items():
        own = {name.rpartition(".")[2]: name for name in factories if name.rpartition(".")[0] == module}
        for name, kind in _assigned_apps(tree.body, {**imports[module], **own}, {**FRAMEWORKS, **factories}):
            apps.append(App(module, name, modules[module], *kind))
        if "pages" not in module.split(".")[:-1] and _is_streamlit(tree.body, imports[module]):
            apps.append(App(module, "", modules[module], "Streamlit", "streamlit"))
    for factory, kind in factories.items():
        module, _, name = factory.rpartition(".")
        apps.append(App(module, name, modules[module], *kind, factory=True))
    known = {app.target for app in apps}
    apps += (app for app in _documented_apps(commands, trees, modules) if app.target not in known)
    # Celery workers come after web applications. For Django, WSGI comes before ASGI because it is more usual.
    return sorted(apps, key=lambda app: (
        first_mention(commands, app.module, app.path, app.target), app.interface == "celery", app.factory,
        app.framework == "Django" and app.interface == "asgi", _rank(app.module),
    ))  # fmt: skip


def _documented_apps(commands: str, trees: Mapping[str, ast.Module], modules: Mapping[str, Path]) -> Iterator[App]:
    """Yield the applications that documented commands serve, of any framework."""
    for match in _SERVED.finditer(commands):
        module, name = match["module"], match["name"]
        if module in trees and name in (defined_names(trees[module]) or ()):
            interface = "wsgi" if match["wsgi"] else "asgi"
            factory = bool(match["called"]) or "--factory" in match["options"]
            yield App(module, name, modules[module], interface.upper(), interface, factory)


def find_programs(root: Path, modules: Mapping[str, Path], commands: str = "") -> list[str]:
    """Return the modules to run with `python -m`, the most likely first: by the first mention in `commands`.

    They are packages with a __main__ module, modules that test __name__, and scripts. A script has calls or loops at
    its top level, and is the only module, has a name in NAMES, or is in `commands` (of the project's documentation).
    """
    modules = {
        name: path for name, path in modules.items()
        if not VENDORED & set(path.parts) and not re.search(r"(^|\.)(build_\w+|\w+_build)$", name)  # cffi's modules
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
    """Return the full names of a module's imports, by local name."""
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
    """Return the full name of the function that an expression calls, "" if it is no call of a name."""
    parts, function = [], node.func if isinstance(node, ast.Call) else None
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    return ".".join([imports.get(function.id, function.id), *reversed(parts)]) if isinstance(function, ast.Name) else ""


def _assigned_apps(
    body: Sequence[ast.stmt], imports: Mapping[str, str], factories: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield a module's names of applications, with framework and interface; also inside `if`, `try` and `with`."""
    for statement in body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            kind = factories.get(_called_name(statement.value, imports))
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets if kind else ():
                if isinstance(target, ast.Name) and kind:
                    yield target.id, kind
        elif isinstance(statement, (ast.If, ast.Try, ast.With)) and not _is_main(statement):
            yield from _assigned_apps(statement.body, imports, factories)


def _factory_kind(function: ast.FunctionDef, imports: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the framework and interface of the application that a function returns, None if it is no factory."""
    arguments = function.args
    required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    returns = any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(function))
    if required > 0 or None in arguments.kw_defaults or not returns:
        return None
    if not function.name.endswith(("app", "application", "api")):
        return None
    calls = (FRAMEWORKS.get(_called_name(node, imports)) for node in ast.walk(function) if isinstance(node, ast.Call))
    return next((kind for kind in calls if kind), None)


def _is_streamlit(body: Sequence[ast.stmt], imports: Mapping[str, str]) -> bool:
    """Return whether a module calls streamlit at its top level. `streamlit run` runs such a script."""
    calls = (node for statement in body if not isinstance(statement, (ast.FunctionDef, ast.ClassDef))
             for node in ast.walk(statement) if isinstance(node, ast.Call))  # fmt: skip
    return any(_called_name(call, imports).startswith("streamlit.") for call in calls)


def _is_main(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def _runs(statement: ast.stmt) -> bool:
    """Return whether a statement is a loop or a call; a script has them at its top level."""
    is_call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    return is_call or isinstance(statement, (ast.For, ast.While))
