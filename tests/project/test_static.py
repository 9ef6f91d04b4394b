"""Metadata from [project] for other backends than hatchling; only the fields that an image needs are checked."""

from pathlib import Path

import pytest

from hatch_docker.build.project import open_static
from hatch_docker.core.errors import ConfigError
from hatch_docker.project.dependencies import collect_requirements
from hatch_docker.project.metadata import Metadata

HEAD = '[build-system]\nrequires = []\nbuild-backend = "setuptools.build_meta"\n[project]\nversion = "1.0"\n'


def read(root: Path, lines: str, name: str = "My_App") -> Metadata:
    (root / "pyproject.toml").write_text(f'{HEAD}name = "{name}"\n{lines}\n')
    return open_static(root)[0].metadata({})


def test_fields_that_only_the_backend_uses_are_not_checked(tmp_path: Path) -> None:
    """A readme of an unknown type, a missing licence file, an invalid SPDX expression, an invalid e-mail address."""
    found = read(tmp_path, '''
        readme = "README"
        license-files = ["nowhere"]
        license = "BSD-ish"
        description = "An\\nexample"
        requires-python = "<4, >=3.11"
        authors = [{name = "Ada", email = "ada at example"}, {name = "Bob"}, {name = "C D", email = "c@d.example"}]
        dependencies = ["B.A[Z]>=1", "six @ https://index.example/six-1-py3-none-any.whl"]
        urls = {Source = "https://app.example"}
    ''')
    assert (found.name, found.file_name, found.version, found.licence) == ("my-app", "my_app", "1.0", "")
    assert (found.description, found.requires_python) == ("An example", "<4,>=3.11")
    assert found.authors == ("Bob", "Ada <ada at example>", "C D <c@d.example>")
    assert found.dependencies == ("b-a[z]>=1", "six @ https://index.example/six-1-py3-none-any.whl")
    assert found.urls == {"Source": "https://app.example"}


def test_extra_may_require_other_extras_of_the_project(tmp_path: Path) -> None:
    """An unknown extra is ignored, as in pip."""
    found = read(tmp_path, '[project.optional-dependencies]\nall = ["my-app[A_b,nope]"]\na-b = ["redis"]')
    assert collect_requirements(found, ["all"], []).requirements == ("redis",)


@pytest.mark.parametrize(("lines", "words"), [
    ("description = 1", "project.description must be a string, not 1"),
    ("scripts = []", "project.scripts must be a table"),
    ("dependencies = [1]", "project.dependencies must be an array, each item a string"),
    ("optional-dependencies = {a = 1}", "project.optional-dependencies.a must be an array"),
    ("dynamic = true", "project.dynamic must be an array of strings, not True"),
    ('requires-python = "3"', "Invalid specifier"),
    ('scripts = {a = "b"}', r'project\.scripts\.a: must be "module:function", not'),
])  # fmt: skip
def test_field_of_a_wrong_type_is_reported(lines: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, lines)
    with pytest.raises(ConfigError, match="name is missing"):
        read(tmp_path, "", name="")
