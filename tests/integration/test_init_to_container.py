"""From an application to a running container: `hatch-docker init`, `hatch-docker build`, `docker run`."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import need_docker
from tests.integration.builds import output_of, run_command
from tests.integration.containers import serving_container, wait_for_response
from tests.projects import write_files

pytestmark = [pytest.mark.network, pytest.mark.engine]

FASTAPI = {
    "main.py": """\
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def root() -> str:
    return open("templates/hello.txt").read()
""",
    "requirements.txt": "fastapi\n",
    "templates/hello.txt": "hello from FastAPI",
}
OTHERS = {
    "flask": {
        "shop/__init__.py": """\
from flask import Flask


def create_app():
    app = Flask(__name__)
    app.get("/")(lambda: "hello from Flask")
    return app
""",
        "pyproject.toml": '[project]\nname = "shop"\nversion = "1"\ndependencies = [\n    "flask",  # the web\n]\n',
    },
    "django": {
        "manage.py": "",
        "site1/__init__.py": "",
        "site1/settings.py": 'SECRET_KEY = "x"\nALLOWED_HOSTS = ["*"]\nROOT_URLCONF = "site1.urls"\n',
        "site1/urls.py": """\
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("", lambda request: HttpResponse("hello from Django"))]
""",
        "site1/wsgi.py": """\
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site1.settings")
application = get_wsgi_application()
""",
        "requirements.txt": "django\n",
    },
    "setup.py": {
        "setup.py": """\
from setuptools import find_packages, setup

setup(name="shop", version="3.0", packages=find_packages(), install_requires=["starlette", "uvicorn"])
""",
        "pkg/__init__.py": "",
        "pkg/web.py": """\
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("hello from Starlette"))])
""",
    },
}


def response_of(project: Path, files: Mapping[str, str], cache: Path) -> str:
    """Run `init` and `build` for an application; return the response of a container of its image."""
    docker = need_docker()
    write_files(project, files)
    name = f"newcomer-{os.getpid()}-{project.name.replace('.', '-')}"
    variables = {"HATCH_DOCKER_IMAGE": name, "HATCH_DOCKER_LOAD": "auto"}
    output_of(project, cache, "init", "--yes")
    outcome = run_command(project, cache, "build", **variables)
    assert outcome.status == 0, outcome.output
    outcome.item()
    tag = outcome.receipt["tags"][0]
    # The build prints this command. The test uses another port, as 8000 may be in use.
    assert f"  docker run --rm -p 8000:8000 {name}:{tag}" in outcome.output.splitlines()
    with serving_container(docker, f"{name}:{tag}") as url:
        return wait_for_response(url)


def test_fastapi_application_without_pyproject_toml(tmp_path: Path, cache: Path) -> None:
    """The application is main.py, requirements.txt and a template that is opened by a relative path."""
    assert response_of(tmp_path / "fastapi", FASTAPI, cache) == '"hello from FastAPI"'


@pytest.mark.long
@pytest.mark.parametrize("kind", OTHERS)
def test_other_applications(kind: str, tmp_path: Path, cache: Path) -> None:
    """An application factory, Django settings, only setup.py. `init` adds the server that each needs."""
    assert response_of(tmp_path / kind, OTHERS[kind], cache).startswith("hello from ")
