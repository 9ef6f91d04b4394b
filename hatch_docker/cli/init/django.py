"""Advice on a Django site: its settings, its static files and its database, by reading its settings."""

import ast
from pathlib import Path
from typing import Any

from hatch_docker.cli.init.detect_app import App, parse
from hatch_docker.plan.model import VENV

SETTINGS = "DJANGO_SETTINGS_MODULE"


def django_advice(root: Path, app: App, server: str) -> tuple[dict[str, Any], list[str]]:
    """Return the options that a site's programs need, and what its owner still has to do."""
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
            "SQLite's file is beside the code, to which the image's user cannot write: name a database elsewhere, as "
            "in DATABASES[...]['NAME'] = os.environ['DATABASE'] with a volume"
        )
    return table, notes


def _static_root(tree: ast.Module) -> str:
    """Return a directory of the image that STATIC_ROOT is in, "" where the settings do not set it.

    A path made by code is nearly always below that of the settings, which are in the environment.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and [ast.unparse(name) for name in node.targets] == ["STATIC_ROOT"]:
            fixed = node.value.value if isinstance(node.value, ast.Constant) else ""
            return fixed if isinstance(fixed, str) and fixed.startswith("/") else f"/{VENV}/lib"
    return ""


def _variables(tree: ast.Module) -> list[str]:
    """Return the variables without which the settings cannot be imported: those of `os.environ["NAME"]`."""
    return [
        str(node.slice.value) for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
        and ast.unparse(node.value) in ("os.environ", "environ")
    ]  # fmt: skip


def _settings_module(tree: ast.Module | None) -> str:
    """Return the settings that a module of a site sets for its process, "" if it sets none."""
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Call) and len(node.args) == 2:
            name, value = node.args
            if isinstance(name, ast.Constant) and name.value == SETTINGS and isinstance(value, ast.Constant):
                return str(value.value)
    return ""
