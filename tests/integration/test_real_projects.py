"""A published project of each build backend, from its sdist to a container that does something of it."""

from pathlib import Path

import pytest

from benchmarks import backends, compiled_packages, frameworks, published_projects
from benchmarks.backends import SUBJECTS, Subject, measure
from benchmarks.page_table import DOCS, PageTable
from tests.conftest import need_docker
from tests.integration.backend_projects import FORTRAN, RUST, make, says, write


@pytest.mark.long
@pytest.mark.network
@pytest.mark.engine
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_a_published_project(subject: Subject, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built from its sdist as it is, and run without network, capabilities and a writable root."""
    need_docker()
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(cache))
    assert measure(subject)["project"] > 0


@pytest.mark.long
@pytest.mark.network
@pytest.mark.engine
@pytest.mark.parametrize("name", compiled_packages.PACKAGES)
def test_a_compiled_package(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded in an image of its own, where `pip check` finds nothing."""
    need_docker()
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(cache))
    found = compiled_packages.measure(compiled_packages.PACKAGES[name])
    assert found["works"], found["why"]


@pytest.mark.long
@pytest.mark.network
@pytest.mark.parametrize(("files", "name"), [(RUST, "rust-demo"), (FORTRAN, "fortran-demo")], ids=["rust", "fortran"])
def test_compilers_of_debian(files: dict[str, str], name: str, tmp_path: Path, cache: Path) -> None:
    """Rust for maturin, Fortran for meson-python, by build.packages."""
    outcome = make(write(tmp_path / "p", files), cache, HATCH_DOCKER_CHECK_COMMAND=says(name, "42"))
    assert outcome.status == 0, outcome.output


TABLES = [backends.TABLE, compiled_packages.TABLE, frameworks.TABLE, published_projects.TABLE]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_page_has_what_was_measured(table: PageTable) -> None:
    text = (DOCS / table.page).read_text("utf-8")
    assert f"<!-- /{table.name} -->" in text
    assert set(table.read()) <= set(table.rows)
    assert table.rendered(text) == text
