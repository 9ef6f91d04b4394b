"""Projects of which only the backend knows everything: all that their files tell is refused before it runs."""

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
def test_what_the_files_tell_is_refused_before_the_backend_runs(
    scripts: str, options: str, words: str, tmp_path: Path
) -> None:
    """The version is dynamic, and no other field. Here are no base and no sandbox, so nothing can have run."""
    text = PYPROJECT.replace("SCRIPTS", scripts).replace("OPTIONS", options)
    root = write_files(tmp_path / "p", {"pyproject.toml": text})
    environ = {
        "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache"), "HATCH_DOCKER_OFFLINE": "1", "PATH": os.environ["PATH"],
    }  # fmt: skip
    with pytest.raises(HatchDockerError, match=words):
        open_project(root, environ, tmp_path)
