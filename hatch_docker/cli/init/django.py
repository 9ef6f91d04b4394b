"""Advice on a Django site: its settings, its static files and its database, by reading its settings."""

import ast
from pathlib import Path

from hatch_docker.cli.init.detect_app import App, parse

SETTINGS = "DJANGO_SETTINGS_MODULE"


def django_advice(root: Path, app: App, server: str) -> tuple[dict[str, str], list[str]]:
    """Return the variables that a site's programs need, and what its owner still has to do."""
    module = _settings_module(parse(root / app.path))
    tree = parse((root / app.path).parent / f"{module.rpartition('.')[2]}.py") if module else None
    if tree is None:
        return {}, []
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    static = "django.contrib.staticfiles" in strings
    notes = []
    if static and not any("whitenoise" in text for text in strings):
        notes.append(
            f"{server} serves no static files: add whitenoise to the dependencies, and "
            "'whitenoise.middleware.WhiteNoiseMiddleware' to MIDDLEWARE after SecurityMiddleware"
        )
    elif static:
        notes.append(
            "with DEBUG = False whitenoise serves STATIC_ROOT: run `python manage.py collectstatic` before each build, "
            "and name its directory in [tool.hatch.build.targets.wheel] artifacts if git ignores it"
        )
    if "django.db.backends.sqlite3" in strings:
        notes.append(
            "SQLite's file is beside the code, which nobody can write to in the image: name a database elsewhere, as "
            "in DATABASES[...]['NAME'] = os.environ['DATABASE'] with a volume"
        )
    return {SETTINGS: module}, notes


def _settings_module(tree: ast.Module | None) -> str:
    """Return the settings that a module of a site sets for its process, "" if it sets none."""
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Call) and len(node.args) == 2:
            name, value = node.args
            if isinstance(name, ast.Constant) and name.value == SETTINGS and isinstance(value, ast.Constant):
                return str(value.value)
    return ""
