"""Commands of an image that name missing modules, attributes or files are errors, found without executing code."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.bases.image import base_of
from hatch_docker.build.checks.named import check_references
from hatch_docker.build.checks.references import references_of
from hatch_docker.core.errors import ConfigError
from hatch_docker.engines.model import BuiltImage, LayerInfo
from hatch_docker.oci.make_image import Settings, build_image
from hatch_docker.oci.model import History
from hatch_docker.plan.model import BasePlan
from tests.fakes.bases import file, python_image
from tests.fakes.context import context
from tests.fakes.images import layer_of
from tests.fakes.library_images import unreadable
from tests.fakes.plans import plan as plan_of
from tests.fakes.sbom_images import SITE

APP = """\
import os as system
from flask import Flask
def create_app(): inner = 1
app, (first, *others) = Flask(__name__), (1, 2)
try:
    worker: object = app
except Exception as error:
    class Late: ...
"""
FILES = {
    f"{SITE}/shop/__init__.py": "", f"{SITE}/shop/web.py": APP, f"{SITE}/star.py": "from shop.web import *\n",
    f"{SITE}/lazy.py": "def __getattr__(name): ...\n", f"{SITE}/made.py": "globals()['x'] = 1\n",
    f"{SITE}/broken.py": "def\n", f"{SITE}/space/one.py": "", f"{SITE}/shop/__main__.py": "",
    f"{SITE}/code.cpython-313-x86_64-linux-gnu.so": "", "srv/page.py": "name = 1\n",
}  # fmt: skip
BASE = {"usr/local/lib/python3.13/http/server.py": ""}


def image(
    tmp_path: Path, command: str, files: Mapping[str, str] = FILES, env: Mapping[str, str] | None = None
) -> BuiltImage:
    """Return an image with `files` on a base, and a command that runs in /srv."""
    python = python_image()
    base = base_of(BasePlan("registry", "python:x", "python:x"), python, context(tmp_path / "cache"))
    layers = [
        (layer_of([file(path, text) for path, text in table.items()]), History("test")) for table in (BASE, files)
    ]
    settings = Settings(entrypoint=tuple(command.split()), env=dict(env or {}), workdir="/srv")
    complete = build_image(base.image, layers, settings, 0, {})
    notes = [LayerInfo("base", (), True)] * len(base.image.layers) + [LayerInfo("project", (), False)] * 2
    return BuiltImage(complete, base, tuple(notes))


def error_of(tmp_path: Path, command: str, **more: Mapping[str, str]) -> str:
    """Return the error for a command, or ""; without error, also check that the result is cached."""
    plan = plan_of({"entrypoint": command.split()})
    built, ctx = image(tmp_path, command, **more), context(tmp_path / "cache")
    try:
        check_references(plan, [built], ctx)
    except ConfigError as error:
        return str(error)
    check_references(plan, [unreadable(built)], ctx)
    return ""


@pytest.mark.parametrize("command", [
    "python -m shop", "python -u -m shop.web", "python -m http.server", "python -m space.one", "python page.py",
    "python -m code", "python -c pass", "python", "python /srv/page.py", "uvicorn shop.web:app --port 80",
    "uvicorn --factory shop.web:create_app", "gunicorn -k shop.nope:Class shop.web:worker", "gunicorn page:name",
    "uvicorn shop.web:others", "uvicorn shop.web:Late", "uvicorn shop.web:system.path", "uvicorn shop:web",
    "uvicorn star:anything", "uvicorn lazy:anything", "uvicorn made:x", "uvicorn broken:x", "uvicorn code:x",
    "gunicorn --chdir /x nope:app", "gunicorn -c file.py nope:app", "celery -A shop.web worker", "sh -c nope",
    "celery -A shop.web.app worker -c 4", "flask --app shop.web:create_app('x') run", "flask run",
    "streamlit run page.py", "streamlit run https://x.example/y.py", "streamlit run --help",
])  # fmt: skip
def test_existing_or_undecidable_reference_passes(command: str, tmp_path: Path) -> None:
    assert error_of(tmp_path, command) == ""


@pytest.mark.parametrize(("command", "message"), [
    ("python -m shp", "module 'shp'; did you mean shop?"),
    ("python -m space", ""),
    ("python -m shop.wed", "module 'shop.wed'; did you mean shop.web?"),
    ("python page2.py", "file /srv/page2.py, which 'page2.py' names; add it with `files`"),
    ("streamlit run web.py", f"file /srv/web.py, which 'web.py' names; it is at /{SITE}/shop/web.py"),
    ("uvicorn shop.web:ap", "'ap' in the module 'shop.web'; did you mean shop.web:app?"),
    ("python -m uvicorn.x shop.web:ap", "module 'uvicorn.x'"),
    ("gunicorn zzz.y:z()", "module 'zzz.y'"),
    ("uvicorn shop.web:inner", "'inner' in the module 'shop.web'"),
    ("celery -A nope worker", "module 'nope'"),
    ("celery --app=shop.web.worked worker", "'worked' in the module 'shop.web'; did you mean shop.web:worker?"),
    ("flask -A shop.wb:app run", "module 'shop.wb'; did you mean shop.web?"),
])  # fmt: skip
def test_missing_reference_fails_with_suggestion(command: str, message: str, tmp_path: Path) -> None:
    error = error_of(tmp_path, command)
    assert error.startswith(f"tool.hatch-docker.entrypoint: the image has no {message}") if message else not error


def test_python_m_of_package_without_main_fails(tmp_path: Path) -> None:
    error = error_of(tmp_path, "python -m pkg", files={f"{SITE}/pkg/__init__.py": ""})
    assert error.endswith("no module 'pkg.__main__': `python -m` cannot run the package pkg")


def test_modules_in_pythonpath_pth_or_volume_are_accepted(tmp_path: Path) -> None:
    """The command of the health check is checked as well."""
    assert error_of(tmp_path, "python -m far", files={"opt/far.py": ""}, env={"PYTHONPATH": "/opt"}) == ""
    assert "'far'" in error_of(tmp_path, "python -m far", files={"opt/far.py": ""})
    assert error_of(tmp_path, "python -m far", files={f"{SITE}/x.pth": "/opt\n"}) == ""
    volume = plan_of({"entrypoint": ["python", "-m", "far"], "volumes": ["/srv"]})
    check_references(volume, [image(tmp_path, "python -m far")], context(tmp_path / "cache"))
    built = image(tmp_path, "python -c pass")
    config = {**built.image.config_json, "config": {"Healthcheck": {"Test": ["CMD", "python", "-m", "far"]}}}
    built = replace(built, image=replace(built.image, config=json.dumps(config).encode()))
    with pytest.raises(ConfigError, match=r"healthcheck.command: the image has no module 'far'"):
        check_references(plan_of({"entrypoint": ["python"]}), [built], context(tmp_path / "cache"))


def test_flask_app_variable_is_a_reference() -> None:
    (reference,) = references_of(["flask", "run"], {"FLASK_APP": "shop.web:create_app"})
    assert (reference.module, reference.attribute) == ("shop.web", "create_app")
