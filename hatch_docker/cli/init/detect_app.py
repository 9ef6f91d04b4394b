"""Web applications and programs of a project, found by reading its files: nothing is imported or run."""

import ast
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
}
NAMES = ("main", "app", "asgi", "wsgi", "application", "server", "api", "web", "__init__")  # of modules, best first
SERVERS = {"asgi": ("uvicorn", "hypercorn", "granian", "daphne"), "wsgi": ("gunicorn", "waitress", "granian")}
PORT = 8000


@dataclass(frozen=True, slots=True)
class App:
    """An application object; with `factory` a function that returns one."""

    module: str                               # "shop.main"
    name: str                                 # "app"
    path: Path                                # relative to the project
    framework: str                            # "FastAPI"
    interface: str                            # "asgi" or "wsgi"
    factory: bool = False

    @property
    def target(self) -> str:
        """The argument of a server: "shop.main:app"."""
        return f"{self.module}:{self.name}"


def find_apps(root: Path, modules: Mapping[str, Path]) -> list[App]:
    """Return the applications in some modules, the most likely one first."""
    trees = {name: tree for name, path in modules.items() if (tree := _parse(root / path)) is not None}
    imports = {name: _imported_names(tree, name) for name, tree in trees.items()}
    factories = {
        f"{module}.{function.name}": made for module, tree in trees.items() for function in tree.body
        if isinstance(function, ast.FunctionDef) and (made := _made_in(function, imports[module]))
    }
    apps = []
    for module, tree in trees.items():
        own = {name.rpartition(".")[2]: name for name in factories if name.rpartition(".")[0] == module}
        for name, made in _assigned_apps(tree.body, {**imports[module], **own}, {**FRAMEWORKS, **factories}):
            apps.append(App(module, name, modules[module], *made))
    for factory, made in factories.items():
        module, _, name = factory.rpartition(".")
        apps.append(App(module, name, modules[module], *made, factory=True))
    # Of Django's two interfaces WSGI is the usual one.
    return sorted(apps, key=lambda app: (
        app.factory, app.framework == "Django" and app.interface == "asgi", _rank(app.module)
    ))  # fmt: skip


def find_programs(root: Path, modules: Mapping[str, Path]) -> list[str]:
    """Return the modules that `python -m` may run, the most likely one first.

    They are packages with a __main__, modules that compare their __name__, and scripts. A script calls functions or
    loops at its top level; it is the only module, or its name is one of NAMES.
    """
    trees = {name: _parse(root / path) for name, path in modules.items()}
    packages = [name.removesuffix(".__main__") for name in modules if name.endswith(".__main__")]
    bodies = {name: tree.body if tree else [] for name, tree in trees.items()}
    programs = [name for name, body in bodies.items() if any(map(_is_main, body)) and not name.endswith("__main__")]
    scripts = [name for name, body in bodies.items() if (name in NAMES or len(trees) == 1) and any(map(_runs, body))]
    order = [*sorted(programs, key=_rank), *sorted(scripts, key=_rank)]
    return list(dict.fromkeys([*sorted(packages, key=lambda name: name.count(".")), *order]))


def _rank(module: str) -> tuple[int, int, str]:
    last = module.rpartition(".")[2]
    return module.count("."), NAMES.index(last) if last in NAMES else len(NAMES), module


def _parse(path: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # the user's invalid escape sequences
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _imported_names(tree: ast.Module, module: str) -> dict[str, str]:
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


def _is_main(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def _runs(statement: ast.stmt) -> bool:
    """Return whether a statement is a loop or a call, as at the top level of a script."""
    is_call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    return is_call or isinstance(statement, (ast.For, ast.While))


def choose_server(app: App, required: Iterable[str]) -> tuple[str, bool]:
    """Return the server for an application, and whether the project requires it already, given normalised names."""
    present = set(required) | ({"hypercorn"} if app.framework == "Quart" else set())  # Quart requires it
    servers = SERVERS[app.interface]
    fitting = [server for server in servers if server in present and not (app.factory and server == "daphne")]
    return (fitting[0], True) if fitting else (servers[0], False)


def server_command(app: App, server: str) -> list[str]:
    """Return the command by which a server serves an application on all addresses of the container."""
    factory = ["--factory"] if app.factory else []
    address = ["--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104 - in a container
    match server:
        case "uvicorn":
            return ["uvicorn", *factory, app.target, *address]
        case "granian":
            return ["granian", "--interface", app.interface, *factory, *address, app.target]
        case "daphne":
            return ["daphne", "-b", "0.0.0.0", "-p", str(PORT), app.target]  # noqa: S104
        case "waitress":
            return ["waitress-serve", f"--listen=0.0.0.0:{PORT}", *(["--call"] if app.factory else []), app.target]
        case _:
            return [server, "--bind", f"0.0.0.0:{PORT}", f"{app.target}()" if app.factory else app.target]
