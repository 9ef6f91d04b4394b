"""Commands that run in the finished image (`steps`): the Django site of docs/steps.md, and forbidden actions.

`test_engine_equality` and `test_written_dockerfile` compare the layers of both engines and of the Dockerfile.
"""

import json
import secrets
import subprocess
from pathlib import Path

import pytest

from hatch_docker.oci.model import host_platform
from tests.integration.builds import Outcome, build, check_failed, run_build
from tests.integration.compare_engines import BUILDKIT, PLAIN
from tests.integration.containers import serving_container, wait_for_response
from tests.pages import blocks
from tests.projects import write_files, write_project

pytestmark = [pytest.mark.network, pytest.mark.engine]

SITE = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "shop"
version = "1.0"
dependencies = ["django>=5.2,<6", "gunicorn", "whitenoise"]
""",
    "shop/__init__.py": "",
    "shop/settings.py": """\
import os
SECRET_KEY = os.environ.get("SECRET_KEY", "of the service")
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django.contrib.staticfiles", "shop"]
MIDDLEWARE = ["whitenoise.middleware.WhiteNoiseMiddleware"]
ROOT_URLCONF = "shop.urls"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STATIC_URL, STATIC_ROOT = "/static/", "/srv/static"
STORAGES = {"staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}}
""",
    "shop/urls.py": """\
from django.shortcuts import render
from django.urls import path
urlpatterns = [path("", lambda request: render(request, "home.html"))]
""",
    "shop/wsgi.py": "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
    "shop/templates/home.html": '{% load static %}{% static "shop.css" %}',
    "shop/static/shop.css": "body { color: red }\n" * 50,
}


def digests(outcome: Outcome) -> dict[str, list[str]]:
    """Return the digests of an image's layers by kind."""
    found: dict[str, list[str]] = {}
    for layer in outcome.layers:
        found.setdefault(layer["kind"], []).append(layer["digest"])
    return found


@pytest.mark.parametrize("engines", [
    [PLAIN], pytest.param([PLAIN, BUILDKIT], marks=pytest.mark.long),
], ids=["embedded", "both"])  # fmt: skip
def test_site_of_steps_page_is_served(engines: list[dict[str, str]], docker: str, tmp_path: Path, cache: Path) -> None:
    """Any user serves the static files from a read-only root; an edited template changes only its own layer."""
    project = write_files(tmp_path / "shop", SITE)
    name = f"hatch-docker-tests/shop-{secrets.token_hex(4)}"
    options = next(iter(blocks("toml", page="docs/steps.md"))).text
    with (project / "pyproject.toml").open("a") as stream:
        stream.write(options)
    template = project / "shop/templates/home.html"
    template.write_text(f"{template.read_text()} {name}")
    variables = {"HATCH_DOCKER_IMAGE": name}
    outcomes = [build(project, cache, variables={**engine, **variables}) for engine in engines]
    assert len({outcome.digest for outcome in outcomes}) == 1
    (step,) = digests(outcomes[0])["step"]
    (sbom,) = (json.loads(path.read_bytes()) for path in outcomes[0].directory.glob("*.cdx.json"))
    assert "/srv/static" in [component["name"] for component in sbom["components"]]
    (statement,) = (json.loads(path.read_bytes()) for path in outcomes[0].directory.glob("*.provenance.json"))
    (recorded,) = statement["predicate"]["buildDefinition"]["externalParameters"]["options"]["steps"]
    assert recorded["command"][:2] == ["django-admin", "collectstatic"]
    subprocess.run([docker, "load", "--quiet", "--input", outcomes[0].archive], check=True, capture_output=True)
    with serving_container(docker, f"{name}:1.0") as url:
        css, _, text = wait_for_response(url).partition(" ")
        assert text == name
        assert css.startswith("/static/shop.")
        assert wait_for_response(f"{url.removesuffix('/')}{css}").startswith("body { color: red }")
    template.write_text(f"{template.read_text()}!")
    edited = build(project, cache, variables={**engines[-1], **variables})
    before, after = digests(outcomes[-1]), digests(edited)
    assert [kind for kind in after if after[kind] != before[kind]] == ["project"]
    assert after["step"] == [step]
    (project / "shop/static/shop.css").write_text("body { color: blue }\n")
    assert digests(build(project, cache, variables={**engines[-1], **variables}))["step"] != [step]


def step(code: str, more: str = "") -> str:
    return f'[[tool.hatch-docker.steps]]\ncommand = ["python", "-c", {json.dumps(code)}]\noutputs = ["/srv/x"]\n{more}'


MISTAKES = {
    "read-only": (step("open('/opt/venv/made', 'w')"), ["ended with status 1", "Read-only file system",
                                                        "/opt/venv/made is not below outputs (/srv/x)"]),
    "status": (step("print('no luck today'); raise SystemExit(3)"), ["ended with status 3:", "no luck today"]),
    "time": (step("import time; time.sleep(60)", 'timeout = "300ms"'), ["did not finish within 0.3 s"]),
    "nothing": (step("open('/tmp/x', 'w')"), ["wrote nothing below /srv/x"]),
    "network": (step("import socket; socket.create_connection(('192.0.2.1', 80))"), ["ended with status 1"]),
    "secret": (step("import os; open('/srv/x/key', 'w').write(os.environ['KEY'])", 'secrets = ["KEY"]'),
               ["the value of KEY (steps.secrets) is in /srv/x/key"]),
    "removed": (step("import hello, os; os.unlink(hello.__file__)").replace(
        "/srv/x", "/opt/venv/lib"), ["removed /opt/venv/lib/python3.13/site-packages/hello"]),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_forbidden_action_of_a_step_fails(mistake: str, tmp_path: Path, cache: Path) -> None:
    options, words = MISTAKES[mistake]
    project = write_project("hello", tmp_path / "p", options=options)
    value = secrets.token_hex()
    failed = run_build(project, cache, variables={**PLAIN, "KEY": value})
    assert failed.status == 1, failed.output
    assert [word for word in words if word not in failed.output] == [], failed.output
    assert value not in failed.output


@pytest.mark.parametrize("engine", [
    PLAIN, pytest.param(BUILDKIT, marks=pytest.mark.long),
], ids=["embedded", "buildkit"])  # fmt: skip
def test_step_runs_for_another_architecture(engine: dict[str, str], tmp_path: Path, cache: Path) -> None:
    """It runs in an image of this machine's architecture and gives the same layer; machine code is rejected."""
    other = {"amd64": "arm64", "arm64": "amd64"}[host_platform().architecture]
    text = step("open('/srv/x/made', 'w').write('made')")
    project = write_project("hello", tmp_path / "text", options=f'platforms = ["linux/amd64", "linux/arm64"]\n{text}')
    platforms = build(project, cache, variables=engine).receipt["platforms"]
    layers = [layer["digest"] for platform in platforms for layer in platform["layers"] if layer["kind"] == "step"]
    assert len(layers) == 2
    assert len({*layers}) == 1
    code = step("import os, shutil; shutil.copy(os.path.realpath('/opt/venv/bin/python'), '/srv/x/program')")
    project = write_project("hello", tmp_path / "code", options=f'platforms = ["linux/{other}"]\n{code}')
    check_failed(run_build(project, cache, variables=engine), "wrote machine code, /srv/x/program")


def test_stage_rejects_files_outside_of_outputs(docker: str, tmp_path: Path, cache: Path) -> None:
    """In a stage of BuildKit the file system is writable for root. A command with a timeout has the same message."""
    slow_step = step("import time; time.sleep(60)", 'timeout = "300ms"')
    stray_step = step("open('/etc/made', 'w'); open('/srv/x/y', 'w')")
    cases = (slow_step, "did not finish within 0.3 s"), (stray_step, "wrote /etc/made, which is not below")
    for options, words in cases:
        project = write_project("hello", tmp_path / words[:3], options=f'user = "0"\n{options}')
        check_failed(run_build(project, cache, variables=BUILDKIT), words)
