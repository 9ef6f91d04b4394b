"""The web application of a project, found by reading its files: nothing is imported, and no environment looked into."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# What makes an application -> what people call it, and the interface that a server needs.
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
PORT = 8000


@dataclass(frozen=True, slots=True)
class App:
    """An application object, or with `factory` a function that makes one."""

    module: str                               # "shop.main"
    name: str                                 # "app"
    path: Path                                # relative to the project
    framework: str                            # "FastAPI"
    interface: str                            # "asgi" or "wsgi"
    factory: bool = False

    @property
    def target(self) -> str:
        """As servers are told it."""
        return f"{self.module}:{self.name}"


def find_apps(root: Path, modules: Mapping[str, Path]) -> list[App]:
    """The applications in some modules, the one that is most probably meant first."""
    trees = {name: tree for name, path in modules.items() if (tree := _parsed(root / path)) is not None}
    known = {name: _imports(tree, name) for name, tree in trees.items()}
    factories = {
        f"{module}.{function.name}": found
        for module, tree in trees.items()
        for function in tree.body
        if isinstance(function, ast.FunctionDef) and not _needs_arguments(function)
        if (found := _made_in(function, known[module]))
    }
    apps = []
    for module, tree in trees.items():
        makers = {**FRAMEWORKS, **factories}
        for name, made in _assigned(tree.body, {**known[module], **_own(module, factories)}, makers):
            apps.append(App(module, name, modules[module], *made))
    for factory, made in factories.items():
        module, _, name = factory.rpartition(".")
        apps.append(App(module, name, modules[module], *made, factory=True))
    return sorted(apps, key=_doubt)


def find_programs(root: Path, modules: Mapping[str, Path]) -> list[str]:
    """Modules to be run by `python -m`: packages with a __main__, what asks for its own name, and at last a script.

    A script calls or loops where others define; it is the only module, or called like a program.
    """
    trees = {name: _parsed(root / path) for name, path in modules.items()}
    packages = [name.removesuffix(".__main__") for name in modules if name.endswith(".__main__")]
    asking = [name for name, tree in trees.items() if _asks_for_main(tree) and not name.endswith("__main__")]
    scripts = [name for name, tree in trees.items() if (name in NAMES or len(trees) == 1) and _acts(tree)]
    order = [*sorted(asking, key=_rank), *sorted(scripts, key=_rank)]
    return list(dict.fromkeys([*sorted(packages, key=lambda name: name.count(".")), *order]))


def _doubt(app: App) -> tuple[bool, bool, tuple[int, int, str]]:
    """How little speaks for an application: a Django project has two, and the older interface is the usual one."""
    return app.factory, app.framework == "Django" and app.interface == "asgi", _rank(app.module)


def _rank(module: str) -> tuple[int, int, str]:
    last = module.rpartition(".")[2]
    return module.count("."), NAMES.index(last) if last in NAMES else len(NAMES), module


def _parsed(path: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings(action="ignore"):  # of others' escape sequences
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _imports(tree: ast.Module, module: str) -> dict[str, str]:
    """What the names that a module imports stand for, in full."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            package = ".".join([*above, *([node.module] if node.module else [])])
            found.update({alias.asname or alias.name: f"{package}.{alias.name}" for alias in node.names})
    return found


def _own(module: str, factories: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    own = (factory for factory in factories if factory.rpartition(".")[0] == module)
    return {factory.rpartition(".")[2]: factory for factory in own}


def _called(node: ast.expr | None, known: Mapping[str, str]) -> str:
    """The full name of what an expression calls, "" where it is no call of a name."""
    if not isinstance(node, ast.Call):
        return ""
    parts, function = [], node.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    if not isinstance(function, ast.Name):
        return ""
    return ".".join([known.get(function.id, function.id), *reversed(parts)])


def _assigned(
    body: Sequence[ast.stmt], known: Mapping[str, str], makers: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """The names that a module gives to applications, also in an `if` or `try` of its top level."""
    for statement in body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            made = makers.get(_called(statement.value, known))
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets if made else ():
                if isinstance(target, ast.Name) and made:
                    yield target.id, made
        elif isinstance(statement, (ast.If, ast.Try, ast.With)) and not _is_main(statement):
            yield from _assigned(statement.body, known, makers)


def _made_in(function: ast.FunctionDef, known: Mapping[str, str]) -> tuple[str, str] | None:
    """What a function that is named like a factory makes and returns."""
    if not function.name.endswith(("app", "application", "api")) or not _returns(function):
        return None
    calls = (FRAMEWORKS.get(_called(node, known)) for node in ast.walk(function) if isinstance(node, ast.Call))
    return next((made for made in calls if made), None)


def _returns(function: ast.FunctionDef) -> bool:
    return any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(function))


def _needs_arguments(function: ast.FunctionDef) -> bool:
    arguments = function.args
    wanted = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return wanted > 0 or any(default is None for default in arguments.kw_defaults)


def _asks_for_main(tree: ast.Module | None) -> bool:
    return tree is not None and any(_is_main(statement) for statement in tree.body)


def _acts(tree: ast.Module | None) -> bool:
    body = tree.body if tree else []
    return any(
        isinstance(one, (ast.For, ast.While)) or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Call))
        for one in body
    )


def _is_main(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def choose_server(app: App, needs: Iterable[str]) -> tuple[str, bool]:
    """The server of an application, and whether the project needs it already; `needs` are normalised names."""
    servers = ("uvicorn", "hypercorn", "granian", "daphne") if app.interface == "asgi" else ("gunicorn", "waitress",
                                                                                             "granian")
    has = set(needs) | ({"hypercorn"} if app.framework == "Quart" else set())  # which Quart itself needs
    fitting = [server for server in servers if server in has and not (app.factory and server == "daphne")]
    return (fitting[0], True) if fitting else (servers[0], False)


def command(app: App, server: str) -> list[str]:
    """How a server is told to serve an application to everybody who can reach the container."""
    target, address = app.target, f"0.0.0.0:{PORT}"
    called = f"{target}()" if app.factory else target
    everywhere = ["--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104 - in a container
    if server == "uvicorn":
        return ["uvicorn", *(["--factory"] if app.factory else []), target, *everywhere]
    if server == "granian":
        made = ["--factory"] if app.factory else []
        return ["granian", "--interface", app.interface, *made, *everywhere, target]
    if server == "daphne":
        return ["daphne", "-b", "0.0.0.0", "-p", str(PORT), target]  # noqa: S104
    if server == "waitress":
        return ["waitress-serve", f"--listen={address}", *(["--call"] if app.factory else []), target]
    return [server, "--bind", address, called]
