"""Detection of web applications and programs in a project's modules, and their servers."""

import tomllib
from pathlib import Path

import pytest

from hatch_docker.cli.init.detect_app import App, find_apps, find_programs
from hatch_docker.cli.init.frameworks import choose_server, server_run
from hatch_docker.cli.init.modules import find_modules, top_level
from tests.projects import write_files

APPS = """\
import fastapi as web
import unknown
from flask import Flask as F
from .make import create_app, other

try:
    one = web.FastAPI(title="x")
except Exception:
    pass
two: F = F(__name__)
three = create_app()
four = unknown.FastAPI()
five = other()

if __name__ == "__main__":
    six = F(__name__)
"""
MAKE = """\
from starlette.applications import Starlette

def create_app(debug: bool = False) -> Starlette:
    return Starlette(debug=debug)

def make_app(config):
    return Starlette()

def helper():
    return Starlette()

def other():
    return 1
"""


@pytest.mark.parametrize(("file", "text"), [
    ("pyproject.toml", "[tool.setuptools.packages.find]\nwhere = ['lib', 'test/lib']\n"),
    ("pyproject.toml", "[tool.setuptools.package-dir]\n'' = 'lib'\n"),
    ("pyproject.toml", "[[tool.poetry.packages]]\ninclude = 'shop'\nfrom = 'lib'\n"),
    ("pyproject.toml", "[tool.pdm.build]\npackage-dir = 'lib'\n"),
    ("setup.cfg", "[options]\npackage_dir =\n    = lib\n"), ("setup.cfg", "[options.packages.find]\nwhere = lib\n"),
    ("setup.py", "setup(package_dir={'': 'lib'})\n"),
])  # fmt: skip
def test_packages_in_source_directory_of_the_backend_are_found(file: str, text: str, tmp_path: Path) -> None:
    main = "if __name__ == '__main__':\n    print(1)\n"
    files = {"lib/shop/__init__.py": "", "lib/shop/__main__.py": "", "lib/shop/c_build.py": main, "tool.py": main}
    root = write_files(tmp_path, {**files, file: text})
    modules = find_modules(root, top_level(root, tomllib.loads(text) if file.endswith(".toml") else {}))
    assert find_programs(root, modules) == ["shop"], "cffi's build module is no program"


def test_applications_and_factories_are_found_without_running_code(tmp_path: Path) -> None:
    """Frameworks are found under any imported name, factories if no module calls them."""
    root = write_files(tmp_path, {
        "shop/__init__.py": "1/0", "shop/main.py": APPS, "shop/make.py": MAKE, "bad.py": "def", "nul.py": "\0",
        "deep.py": "(" * 5000,
    })  # fmt: skip
    modules = find_modules(root, top_level(root, {}))
    assert sorted(modules) == ["bad", "deep", "nul", "shop", "shop.main", "shop.make"]
    found = [(app.target, app.framework, app.factory) for app in find_apps(root, modules)]
    assert found == [
        ("shop.main:one", "FastAPI", False), ("shop.main:two", "Flask", False), ("shop.main:three", "Starlette", False),
        ("shop.make:create_app", "Starlette", True),
    ]  # fmt: skip
    assert find_programs(root, modules) == ["shop.main"]


def test_server_commands_for_application_factories() -> None:
    app = App("m", "make", Path("m.py"), "FastAPI", "asgi", factory=True)
    assert server_run(app, "uvicorn").command[:3] == ["uvicorn", "--factory", "m:make"]
    assert server_run(app, "hypercorn").command[-1] == "m:make()"
    assert server_run(app, "granian").command[3:4] == ["--factory"]
    assert choose_server(app, {"daphne"}) == ("uvicorn", False)
    flask = App("m", "make", Path("m.py"), "Flask", "wsgi", factory=True)
    assert server_run(flask, "waitress").command[-2:] == ["--call", "m:make"]
    assert server_run(flask, "gunicorn").command[-1] == "m:make()"
