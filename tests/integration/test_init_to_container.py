"""From somebody's application to an image that answers: `init`, `build`, `docker run`; every line of it real."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import need_docker
from tests.integration.builds import command, done
from tests.integration.containers import answer, served
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


def answer_of(project: Path, files: Mapping[str, str], cache: Path) -> str:
    """Run `init` and `build` for an application; return the answer of a container of its image."""
    docker = need_docker()
    write_files(project, files)
    name = f"newcomer-{os.getpid()}-{project.name.replace('.', '-')}"
    variables = {"HATCH_DOCKER_IMAGE": name, "HATCH_DOCKER_LOAD": "auto"}
    done(project, cache, "init", "--yes")
    outcome = command(project, cache, "build", **variables)
    assert outcome.status == 0, outcome.output
    outcome.item()
    tag = outcome.receipt["tags"][0]
    # The very command that the build's last lines tell, but for the port, which may be taken on this machine.
    assert f"  docker run --rm -p 8000:8000 {name}:{tag}" in outcome.output.splitlines()
    with served(docker, f"{name}:{tag}") as url:
        return answer(url)


def test_a_fastapi_application_without_a_project(tmp_path: Path, cache: Path) -> None:
    """main.py, requirements.txt and a template that it reads by a relative path: two commands to an answer."""
    assert answer_of(tmp_path / "fastapi", FASTAPI, cache) == '"hello from FastAPI"'


@pytest.mark.long
@pytest.mark.parametrize("kind", OTHERS)
def test_other_applications(kind: str, tmp_path: Path, cache: Path) -> None:
    """A factory, Django's settings, setup.py alone; the server that each needs comes along."""
    assert answer_of(tmp_path / kind, OTHERS[kind], cache).startswith("hello from ")
