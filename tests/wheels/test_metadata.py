"""Core metadata of wheels and sdists, converted to a [project] table."""

import zipfile
from pathlib import Path

import pytest

from hatch_docker.core.errors import WheelError
from hatch_docker.wheels.metadata import programs, project_table, sdist_table
from tests.fakes.package_index import write_sdist

METADATA = """\
Metadata-Version: 2.4
Name: My.App
Version: 1.2
Summary: An example
Home-page: https://app.example
Project-URL: Source, https://app.example/source
Author: Ada Example
Author-Email: Bob Example <bob@example.org>
License: MIT
Requires-Python: >=3.11
Requires-Dist: idna>=3
Requires-Dist: redis; extra == "Queue_Redis" and python_version >= "3.8"
Requires-Dist: psycopg; extra == 'pg' or extra == 'all'
Provides-Extra: Queue_Redis
Provides-Extra: pg
Provides-Extra: all
"""
ENTRY_POINTS = "[console_scripts]\nApp = my_app:main\n[gui_scripts]\nwindow = my_app:window\n"


def wheel(directory: Path, *, entry_points: str = ENTRY_POINTS) -> Path:
    path = directory / "my_app-1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("my_app-1.2.dist-info/METADATA", METADATA)
        archive.writestr("my_app-1.2.dist-info/entry_points.txt", entry_points)
        for name in ("scripts/old-app", "scripts/deep/no", "data/share/no"):
            archive.writestr(f"my_app-1.2.data/{name}", "#!python")
    return path


def test_project_table_of_a_wheel(tmp_path: Path) -> None:
    """Names of extras are normalised (PEP 685); names of scripts keep their case."""
    assert project_table(wheel(tmp_path)) == {
        "name": "My.App", "version": "1.2", "description": "An example", "requires-python": ">=3.11",
        "dependencies": ["idna>=3"],
        "optional-dependencies": {
            "queue-redis": ['redis; python_version >= "3" and python_version >= "3.8"'],
            "pg": ['psycopg; python_version >= "3" or python_version < "3"'],
            "all": ['psycopg; python_version < "3" or python_version >= "3"'],
        },
        "authors": [{"name": "Ada Example"}, {"name": "Bob Example", "email": "bob@example.org"}],
        "urls": {"Source": "https://app.example/source", "Homepage": "https://app.example"},
        "scripts": {"App": "my_app:main"}, "license": {"text": "MIT"},
    }  # fmt: skip


def test_programs_of_a_wheel(tmp_path: Path) -> None:
    assert programs(wheel(tmp_path)) == ["old-app"]


def test_invalid_entry_points(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match=r"entry points of my_app-1\.2"):
        project_table(wheel(tmp_path, entry_points="console_scripts\n"))


@pytest.mark.parametrize(("before", "after", "fields", "static"), [
    ("", "", ["version", "dependencies", "readme", "license", "urls"], True),
    ("", "", ["version", "scripts"], False),           # entry points are only in the wheel
    ("", "", ["version", "entry-points"], False),
    ("1.2\n", "1.2\nDynamic: Requires-Dist\n", ["version"], True),
    ("1.2\n", "1.2\nDynamic: Requires-Dist\n", ["dependencies"], False),
    ("Version: 2.4", "Version: 2.1", ["version"], True),
    ("Version: 2.4", "Version: 2.1", ["version", "dependencies"], False),
    ("Version: 1.2\n", "", ["version"], False),
])  # fmt: skip
def test_sdist_table_needs_static_fields(
    before: str, after: str, fields: list[str], static: bool, tmp_path: Path
) -> None:
    """PEP 643. In older metadata only the version is static."""
    files = {"PKG-INFO": METADATA.replace(before, after), "src/x.egg-info/PKG-INFO": "Version: 9"}
    sdist = write_sdist(tmp_path, files)
    table = project_table(wheel(tmp_path))
    del table["scripts"]
    assert sdist_table(sdist, fields) == (table if static else None)
    (tmp_path / "other").mkdir()
    assert sdist_table(write_sdist(tmp_path / "other", {}), fields) is None
