"""Published projects and packages: built from their sdists or wheels, and run in a container."""

from pathlib import Path

import pytest

from benchmarks import backends, compiled_packages, frameworks, published_projects
from benchmarks.backends import SUBJECTS, Subject, measure
from benchmarks.page_table import DOCS, PageTable
from tests.conftest import need_docker
from tests.integration.backend_projects import FORTRAN, RUST, make, output_check, write


@pytest.mark.long
@pytest.mark.network
@pytest.mark.engine
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_published_project_of_each_backend(subject: Subject, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built from the unchanged sdist, and run without network, capabilities and a writable root."""
    need_docker()
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(cache))
    assert measure(subject)["project"] > 0


@pytest.mark.long
@pytest.mark.network
@pytest.mark.engine
@pytest.mark.parametrize("name", compiled_packages.PACKAGES)
def test_compiled_package_imports(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is imported in its own image, and `pip check` reports no problem."""
    need_docker()
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(cache))
    found = compiled_packages.measure(compiled_packages.PACKAGES[name])
    assert found["works"], found["why"]


@pytest.mark.long
@pytest.mark.network
@pytest.mark.parametrize(("files", "name"), [(RUST, "rust-demo"), (FORTRAN, "fortran-demo")], ids=["rust", "fortran"])
def test_compilers_of_debian(files: dict[str, str], name: str, tmp_path: Path, cache: Path) -> None:
    """`build.packages` installs Rust for maturin and Fortran for meson-python."""
    outcome = make(write(tmp_path / "p", files), cache, HATCH_DOCKER_CHECK_COMMAND=output_check(name, "42"))
    assert outcome.status == 0, outcome.output


TABLES = [backends.TABLE, compiled_packages.TABLE, frameworks.TABLE, published_projects.TABLE]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_page_has_the_measured_results(table: PageTable) -> None:
    text = (DOCS / table.page).read_text("utf-8")
    assert f"<!-- /{table.name} -->" in text
    assert set(table.read()) <= set(table.rows)
    assert table.rendered(text) == text
