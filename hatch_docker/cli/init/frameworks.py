"""Commands that run an application in a container, with their ports and variables; advice on Django projects."""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatch_docker.cli.init.detect_app import App, imported_names, parse
from hatch_docker.plan.model import VENV

PORT = 8000
SERVERS = {
    "asgi": ("uvicorn", "hypercorn", "granian", "daphne"), "wsgi": ("gunicorn", "waitress", "granian"),
    "celery": ("celery",), "sanic": ("sanic",), "streamlit": ("streamlit",),
}  # fmt: skip
# Frameworks whose programs are servers: the default port, and variables that make them listen on all addresses.
SERVER_FRAMEWORKS: Mapping[str, tuple[int, Mapping[str, str]]] = {
    "gradio": (7860, {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_ANALYTICS_ENABLED": "False"}),  # noqa: S104
    "nicegui": (8080, {}),
    "aiohttp": (8080, {}),
    "tornado": (8888, {}),
}
STREAMLIT = {"STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false", "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none"}
SETTINGS = "DJANGO_SETTINGS_MODULE"


@dataclass(frozen=True, slots=True)
class Run:
    """A command, the ports that it listens on, and its environment variables."""

    command: list[str]
    ports: list[int]
    env: Mapping[str, str] = field(default_factory=dict)

    def table(self) -> dict[str, Any]:
        """Return the options of [tool.hatch-docker] that run the command."""
        values = {"entrypoint": self.command, "ports": self.ports, "env": dict(self.env)}
        return {name: value for name, value in values.items() if value}


def choose_server(app: App, required: Iterable[str]) -> tuple[str, bool]:
    """Return the server for an application, and whether it is in `required` (normalised names of dependencies)."""
    present = set(required) | ({"hypercorn"} if app.framework == "Quart" else set())  # Quart requires it
    servers = SERVERS[app.interface]
    fitting = [server for server in servers if server in present and not (app.factory and server == "daphne")]
    return (fitting[0], True) if fitting else (servers[0], False)


def server_run(app: App, server: str) -> Run:
    """Return the command with which a server serves an application on all addresses, or that starts a Celery worker."""
    if server == "celery":
        return Run(["celery", "-A", _celery_name(app), "worker", "--loglevel", "INFO"], [])
    if server == "streamlit":
        address = ["--server.address", "0.0.0.0", "--server.port", "8501"]  # noqa: S104 - in a container
        return Run(["streamlit", "run", app.path.name, "--server.headless", "true", *address], [8501], STREAMLIT)
    return Run(_server_command(app, server), [PORT])


def _celery_name(app: App) -> str:
    """Return the value for celery's -A: "proj" for the module proj.celery, "tasks" for tasks:app."""
    module = app.module.removesuffix(".celery")
    return module if app.name in ("app", "celery") else f"{app.module}:{app.name}"


def _server_command(app: App, server: str) -> list[str]:
    factory = ["--factory"] if app.factory else []
    address = ["--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104 - in a container
    match server:
        case "uvicorn":
            return ["uvicorn", *factory, app.target, *address]
        case "sanic":
            return ["sanic", app.target, *factory, *address, "--single-process"]
        case "granian":
            return ["granian", "--interface", app.interface, *factory, *address, app.target]
        case "daphne":
            return ["daphne", "-b", "0.0.0.0", "-p", str(PORT), app.target]  # noqa: S104
        case "waitress":
            return ["waitress-serve", f"--listen=0.0.0.0:{PORT}", *(["--call"] if app.factory else []), app.target]
        case "gunicorn":  # its workers write heartbeat files, and /tmp may be read-only
            target = f"{app.target}()" if app.factory else app.target
            return ["gunicorn", "--bind", f"0.0.0.0:{PORT}", "--worker-tmp-dir", "/dev/shm", target]  # noqa: S108
        case _:
            return [server, "--bind", f"0.0.0.0:{PORT}", f"{app.target}()" if app.factory else app.target]


def program_run(root: Path, module: str, path: Path | None) -> tuple[Run, str]:
    """Return the command that runs a module, and the framework in SERVER_FRAMEWORKS that it imports, or ""."""
    command = ["python", "-m", module]
    tree = parse(root / path) if path else None
    if tree is None:
        return Run(command, []), ""
    imported = {name.partition(".")[0] for name in imported_names(tree, module).values()}
    framework = next((name for name in SERVER_FRAMEWORKS if name in imported), "")
    if not framework:
        return Run(command, []), ""
    port, env = SERVER_FRAMEWORKS[framework]
    return Run(command, [_port(tree) or port], env), framework


def _port(tree: ast.Module) -> int:
    """Return the port in a call of a module: port=N, server_port=N or listen(N); 0 if there is none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            named = [word.value for word in node.keywords if word.arg in ("port", "server_port")]
            listens = isinstance(node.func, ast.Attribute) and node.func.attr == "listen"
            for value in [*named, *(node.args[:1] if listens else [])]:
                if isinstance(value, ast.Constant) and isinstance(value.value, int) and 0 < value.value < 1 << 16:
                    return value.value
    return 0


def django_advice(root: Path, app: App, server: str) -> tuple[dict[str, Any], list[str]]:
    """Return the options that a Django project needs, and notes on what its author has to change."""
    module = _settings_module(parse(root / app.path))
    tree = parse((root / app.path).parent / f"{module.rpartition('.')[2]}.py") if module else None
    if tree is None:
        return {}, []
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    static = "django.contrib.staticfiles" in strings
    table: dict[str, Any] = {"env": {SETTINGS: module}}
    notes = []
    if static and not any("whitenoise" in text for text in strings):
        notes.append(
            f"{server} serves no static files: add whitenoise to the dependencies, and "
            "'whitenoise.middleware.WhiteNoiseMiddleware' to MIDDLEWARE after SecurityMiddleware"
        )
    elif static and (place := _static_root(tree)):
        needed = dict.fromkeys(_variables(tree), "only for this command")
        step = {"command": ["django-admin", "collectstatic", "--no-input"], "outputs": [place]}
        table["steps"] = [{**step, "env": needed} if needed else step]
    elif static:
        notes.append(
            "with DEBUG = False whitenoise serves STATIC_ROOT: set it in the settings, and run this again, so that a "
            "step fills it in the image"
        )
    if "django.db.backends.sqlite3" in strings:
        notes.append(
            "the SQLite file is beside the code, where the image's user cannot write: set another path, as in "
            "DATABASES[...]['NAME'] = os.environ['DATABASE'] with a volume"
        )
    return table, notes


def _static_root(tree: ast.Module) -> str:
    """Return a directory of the image that contains STATIC_ROOT, "" if the settings do not set it.

    If code computes the path, assume that it is relative to the settings module, in the virtual environment.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and [ast.unparse(name) for name in node.targets] == ["STATIC_ROOT"]:
            fixed = node.value.value if isinstance(node.value, ast.Constant) else ""
            return fixed if isinstance(fixed, str) and fixed.startswith("/") else f"/{VENV}/lib"
    return ""


def _variables(tree: ast.Module) -> list[str]:
    """Return the environment variables that the import of the settings requires: `os.environ["NAME"]`."""
    return [
        str(node.slice.value) for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
        and ast.unparse(node.value) in ("os.environ", "environ")
    ]  # fmt: skip


def _settings_module(tree: ast.Module | None) -> str:
    """Return the settings module that a module such as wsgi.py sets (`setdefault(SETTINGS, ...)`), or ""."""
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Call) and len(node.args) == 2:
            name, value = node.args
            if isinstance(name, ast.Constant) and name.value == SETTINGS and isinstance(value, ast.Constant):
                return str(value.value)
    return ""
