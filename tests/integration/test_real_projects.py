"""A published project of each build backend, from its sdist to a container that does something of it."""

from pathlib import Path

import pytest

from benchmarks import backends, frameworks, published_projects
from benchmarks.backends import SUBJECTS, Subject, measure
from benchmarks.page_table import PAGE, PageTable
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
@pytest.mark.parametrize(("files", "name"), [(RUST, "rust-demo"), (FORTRAN, "fortran-demo")], ids=["rust", "fortran"])
def test_compilers_of_debian(files: dict[str, str], name: str, tmp_path: Path, cache: Path) -> None:
    """Rust for maturin, Fortran for meson-python, by build.packages."""
    outcome = make(write(tmp_path / "p", files), cache, HATCH_DOCKER_CHECK_COMMAND=says(name, "42"))
    assert outcome.status == 0, outcome.output


@pytest.mark.parametrize("table", [backends.TABLE, frameworks.TABLE, published_projects.TABLE], ids=lambda it: it.name)
def test_the_page_has_what_was_measured(table: PageTable) -> None:
    text = PAGE.read_text("utf-8")
    assert "| meson-python |" in text
    assert "right at the first try" in text
    assert f"<!-- /{table.name} -->" in text
    assert set(table.read()) <= set(table.rows)
    assert table.rendered(text) == text
