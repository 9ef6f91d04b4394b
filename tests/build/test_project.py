"""Projects with dynamic metadata: mistakes in static files are errors before the backend runs."""

import os
from pathlib import Path

import pytest

from hatch_docker.build.project import open_project
from hatch_docker.core.errors import HatchDockerError
from tests.projects import write_files

PYPROJECT = '''
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "app"
dynamic = ["version"]
SCRIPTS
[dependency-groups]
[tool.hatch-docker]
base = "debian:trixie"
OPTIONS
'''
NO_ENTRYPOINT = r"tool\.hatch-docker\.entrypoint: app has no script; "


@pytest.mark.parametrize(("scripts", "options", "words"), [
    ("", "", NO_ENTRYPOINT),
    ('scripts = {a = "m:a", b = "m:b"}', "", r"entrypoint: app has several scripts: a, b; "),
    ("", 'cmd = ["python"]\nextras = ["db"]', "extras: app has no 'db'"),
    ("", 'cmd = ["python"]\ndependency-groups = ["dev"]', "dependency-groups: app has no 'dev'"),
    ("", 'cmd = ["python"]\nfiles = [{source = "gone", target = "/x"}]', "files: gone does not exist"),
    ("", 'cmd = ["python"]\npush = true', "registries: a push needs a registry"),
    ("", 'cmd = ["python"]\n[tool.hatch-docker.images.b]\ncmd = []', f"image 'b': {NO_ENTRYPOINT}"),
])  # fmt: skip
def test_mistake_in_static_options_fails_before_the_backend(
    scripts: str, options: str, words: str, tmp_path: Path
) -> None:
    """Only the version is dynamic. The test has no base and no sandbox, so the backend cannot have run."""
    text = PYPROJECT.replace("SCRIPTS", scripts).replace("OPTIONS", options)
    root = write_files(tmp_path / "p", {"pyproject.toml": text})
    environ = {
        "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache"), "HATCH_DOCKER_OFFLINE": "1", "PATH": os.environ["PATH"],
    }  # fmt: skip
    with pytest.raises(HatchDockerError, match=words):
        open_project(root, environ, tmp_path)
