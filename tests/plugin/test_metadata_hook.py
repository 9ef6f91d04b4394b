"""The metadata hook `docker`: dependencies from requirements files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hatch_docker.build.project import open_static
from hatch_docker.core.errors import ConfigError
from hatch_docker.project.requirements_file import requirement_lines
from tests.projects import write_files

PROJECT = """\
[build-system]
requires = ["hatchling", "hatch-docker"]
build-backend = "hatchling.build"
[project]
name = "shop"
version = "1"
dynamic = ["dependencies"]
[tool.hatch.metadata.hooks.docker]
"""
FILES = {"shop.py": "", "requirements.txt": "-i https://index.example\nsix>1  # a comment\n-r more.txt\n",
         "more.txt": "attrs==1 \\\n  --hash=sha256:00\n"}  # fmt: skip


def test_hatchling_reads_requirements_files(tmp_path: Path) -> None:
    table = 'requirements = ["requirements.txt"]\n'
    write_files(tmp_path, {"pyproject.toml": PROJECT + table, **FILES})
    output = subprocess.check_output([sys.executable, "-m", "hatchling", "metadata", "dependencies"], cwd=tmp_path)
    assert json.loads(output) == ["attrs==1", "six>1"]
    project, complete = open_static(tmp_path)
    assert complete  # the metadata is complete without running code of the project
    assert project.read(tmp_path, {}, (), print).dependencies == ("attrs==1", "six>1")


@pytest.mark.parametrize(("line", "requirement"), [
    ("git+https://x.example/a.git@v1#egg=a-b", "a-b @ git+https://x.example/a.git@v1"),
    ("-e git+https://x.example/a#egg=a[x]&subdirectory=b ; python_version > '3'",
     "a[x] @ git+https://x.example/a#subdirectory=b ; python_version > '3'"),
    ("https://x.example/a_b-1.0-py3-none-any.whl", "a_b @ https://x.example/a_b-1.0-py3-none-any.whl"),
    ("https://x.example/a.zip", "https://x.example/a.zip"),
    ("a @ https://x.example/a.zip#egg=b", "a @ https://x.example/a.zip#egg=b"),
])  # fmt: skip
def test_name_of_a_requirement_that_is_only_a_url(line: str, requirement: str, tmp_path: Path) -> None:
    write_files(tmp_path, {"requirements.txt": f"{line}\n"})
    assert [*requirement_lines(tmp_path / "requirements.txt", tmp_path)] == [requirement]


SECRET = "machine git.example login me password hunter2"


@pytest.mark.parametrize(("table", "line", "message"), [
    ("", "", 'hooks.docker: write requirements = ["requirements.txt"], a list of files'),
    ("requirements = 'a'", "", "a list of files"),
    ("requirements = ['a.txt']\nother = 1", "", "hooks.docker.other: unknown option"),
    ("requirements = ['no.txt']", "", "there is no no.txt in shop/"),
    ("requirements = ['../a.txt']", "", "there is no ../a.txt in shop/"),
    ("requirements = ['a.txt']", "-r ../netrc", "netrc is outside of the project; only requirements of"),
    ("requirements = ['a.txt']", "-e ./here", "a.txt: '-e ./here' cannot be a dependency of a project"),
    ("requirements = ['a.txt']", "git+https://me:secret@git.example/x", "'git+https://***@git.example/x' cannot be"),
])  # fmt: skip
def test_invalid_table_or_line_is_reported(table: str, line: str, message: str, tmp_path: Path) -> None:
    files = {"shop/pyproject.toml": PROJECT + table, "shop/a.txt": line, "shop/shop.py": ""}
    write_files(tmp_path, {**files, "a.txt": "", "netrc": SECRET})
    with pytest.raises(ConfigError) as raised:
        open_static(tmp_path / "shop")[0].read(tmp_path / "shop", {}, (), print)
    assert message in str(raised.value)
    assert "hunter2" not in str(raised.value)
