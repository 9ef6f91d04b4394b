"""Proposals for the applications in tutorials of frameworks."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.framework_projects import APPLICATIONS, Application
from hatch_docker.cli.init.proposal import Proposal, propose
from hatch_docker.core.errors import ConfigError
from tests.fakes.init_projects import FASTAPI, HATCHLING, MIRROR
from tests.projects import write_files

GUNICORN = "gunicorn --bind 0.0.0.0:8000 --worker-tmp-dir /dev/shm "
UVICORN = " --host 0.0.0.0 --port 8000"
EXPECTED = {
    "Flask, quickstart": (f"{GUNICORN}app:app", [8000], ""),
    "Flask, tutorial": (f"{GUNICORN}flaskr:create_app()", [8000], ""),
    "Django, tutorial with WhiteNoise": (f"{GUNICORN}mysite.wsgi:application", [8000], ""),
    "FastAPI, templates and static files": (f"uvicorn main:app{UVICORN}", [8000], "static templates"),
    "FastAPI, bigger applications": (f"uvicorn app.main:app{UVICORN}", [8000], ""),
    "Streamlit, several pages": (
        "streamlit run streamlit_app.py --server.headless true --server.address 0.0.0.0 --server.port 8501", [8501],
        "streamlit_app.py pages .streamlit/config.toml prices.csv",
    ),
    "Gradio, quickstart": ("python -m app", [7860], ""),
    "Dash, minimal app": (f"{GUNICORN}app:app", [8000], ""),
    "Celery, first steps": ("celery -A tasks worker --loglevel INFO", [], ""),
    "aiohttp, server": ("python -m server", [8080], ""),
    "Tornado, hello world": ("python -m hello", [8888], "templates"),
    "Litestar, minimal example": (f"uvicorn app:app{UVICORN}", [8000], ""),
    "gunicorn, named by a Procfile": (f"{GUNICORN}site_two:application", [8000], ""),
    "Click, a program of two that the README names": ("python -m greet", [], ""),
}  # fmt: skip


def table_of(proposal: Proposal) -> dict[str, Any]:
    """Return the proposed [tool.hatch-docker] table."""
    table: dict[str, Any] = proposal.config("pyproject.toml")["tool"]["hatch-docker"]
    return table


@pytest.mark.parametrize("application", APPLICATIONS, ids=lambda application: application.name)
def test_proposal_for_application_of_a_tutorial(application: Application, tmp_path: Path) -> None:
    """Command, port, and the files that the application reads from its working directory."""
    proposal = propose(write_files(tmp_path / "application", application.files), MIRROR)
    table = table_of(proposal)
    files = " ".join(file["source"] for file in table.get("files", []))
    assert (" ".join(table["entrypoint"]), table.get("ports", []), files) == EXPECTED[application.name]


def test_data_files_that_modules_name_are_in_the_wheel(tmp_path: Path) -> None:
    """Also directories of templates, but no secrets and no code."""
    code = 'from flask import Flask\napp = Flask(__name__)\nopen("data/a.csv"), open(".env"), "b.py", open("no.csv")\n'
    files = {"app.py": code, "b.py": "", "templates/x.html": "", "data/a.csv": "", "data/b.csv": "", ".env": ""}
    proposal = propose(write_files(tmp_path, {**files, "unused.bin": ""}), MIRROR)
    wheel = proposal.config("pyproject.toml")["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"only-include": ["app.py", "b.py", "data", "templates"]}
    assert [file["source"] for file in table_of(proposal)["files"]] == ["data"]


def test_django_project_gets_settings_steps_and_notes(tmp_path: Path) -> None:
    """django-admin works in the image. Notes are about static files and the database."""
    (django,) = (application for application in APPLICATIONS if application.name.startswith("Django"))
    proposal = propose(write_files(tmp_path, django.files), MIRROR)
    assert table_of(proposal)["env"] == {"DJANGO_SETTINGS_MODULE": "mysite.settings"}
    assert [note.partition(":")[0] for note in proposal.notes] == [
        "with DEBUG = False whitenoise serves STATIC_ROOT",
        "the SQLite file is beside the code, where the image's user cannot write",
    ]
    settings = django.files["mysite/settings.py"].replace('"django-insecure-tutorial"', 'os.environ["KEY"]')
    for root, output in (('BASE_DIR / "x"', "/opt/venv/lib"), ('"/srv/static"', "/srv/static")):
        write_files(tmp_path, {"mysite/settings.py": f"import os\n{settings}STATIC_ROOT = {root}\n"})
        (step,) = table_of(propose(tmp_path, MIRROR))["steps"]
        assert step["command"] == ["django-admin", "collectstatic", "--no-input"]
        assert (step["outputs"], step["env"]) == ([output], {"KEY": "only for this command"})
    settings = django.files["mysite/settings.py"].replace("whitenoise", "other")
    write_files(tmp_path, {"mysite/settings.py": settings})
    assert propose(tmp_path, MIRROR).notes[0].startswith("gunicorn serves no static files: add whitenoise to")


def test_vendored_code_is_ignored_and_documented_app_is_first(tmp_path: Path) -> None:
    files = {"web/vendor/site.py": FASTAPI, "web/site.py": FASTAPI, "web/admin.py": FASTAPI, "web/__init__.py": ""}
    assert table_of(propose(write_files(tmp_path, files), MIRROR))["entrypoint"][1] == "web.admin:app"
    readme = "The site (`web.admin` is another):\n\n```\nuvicorn web.site:app --reload\n```\n"
    write_files(tmp_path, {"README.md": readme})
    assert table_of(propose(tmp_path, MIRROR))["entrypoint"][1] == "web.site:app"


def test_script_in_readme_is_the_entrypoint(tmp_path: Path) -> None:
    project = '[project]\nname = "shop"\nversion = "1"\n[project.scripts]\nalpha = "shop:a"\nserve-it = "shop:b"\n'
    readme = "Shop\n====\n\nalpha is a letter.\n\n.. code::\n\n    serve-it --port 80\n    alpha\n"
    files = {"pyproject.toml": HATCHLING + project, "README.rst": readme, "shop/__init__.py": ""}
    proposal = propose(write_files(tmp_path, files), MIRROR)
    assert table_of(proposal)["entrypoint"] == ["serve-it"]
    assert not proposal.notes


def test_name_of_celery_application_for_option_a(tmp_path: Path) -> None:
    celery = "from celery import Celery\n\n{} = Celery()\n"
    package = {"proj/__init__.py": "", "proj/celery.py": celery.format("app")}
    assert table_of(propose(write_files(tmp_path / "a", package), MIRROR))["entrypoint"][2] == "proj"
    module = {"work.py": celery.format("worker")}
    assert table_of(propose(write_files(tmp_path / "b", module), MIRROR))["entrypoint"][2] == "work:worker"


def test_directory_of_notebooks_fails_with_advice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'jupyter nbconvert --to script "a b.ipynb"`\) and run init again'):
        propose(write_files(tmp_path, {"a b.ipynb": "{}"}), MIRROR)
