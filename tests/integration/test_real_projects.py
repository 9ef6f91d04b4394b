"""A published project of each build backend, from its sdist to a container that does something of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.backends import PAGE, RESULTS, SUBJECTS, Subject, measure, rendered
from tests.conftest import need_docker
from tests.integration.test_backends import make, says, write

RUST = {
    "pyproject.toml": """
[build-system]
requires = ["maturin>=1,<2"]
build-backend = "maturin"
[project]
name = "rust-demo"
dynamic = ["version"]
[tool.maturin]
bindings = "bin"
[tool.hatch-docker]
build.packages = ["cargo"]
""",
    "Cargo.toml": '[package]\nname = "rust-demo"\nversion = "0.5.0"\nedition = "2021"\n',
    "src/main.rs": "mod target;\nfn main() { println!(\"{}\", target::answer()); }\n",
    "src/target/mod.rs": "pub fn answer() -> i32 { 42 }\n",
}
FORTRAN = {
    "pyproject.toml": """
[build-system]
requires = ["meson-python"]
build-backend = "mesonpy"
[project]
name = "fortran-demo"
version = "1.0"
scripts.fortran-demo = "fortran_demo:main"
[tool.hatch-docker]
build.packages = ["gfortran"]
runtime.packages = ["libgfortran5"]
""",
    "meson.build": """
project('fortran-demo', 'c', 'fortran')
py = import('python').find_installation(pure: false)
py.extension_module('_f', '_f.c', 'answer.f90', subdir: 'fortran_demo', install: true, link_language: 'fortran')
py.install_sources('fortran_demo/__init__.py', subdir: 'fortran_demo')
""",
    "fortran_demo/__init__.py": "def main():\n    from fortran_demo._f import answer\n    print(answer())\n",
    "_f.c": """
#include <Python.h>
void answer(int *value);
static PyObject *call(PyObject *s, PyObject *a) { int value; answer(&value); return PyLong_FromLong(value); }
static PyMethodDef methods[] = {{"answer", call, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_f", 0, -1, methods};
PyMODINIT_FUNC PyInit__f(void) { return PyModule_Create(&module); }
""",
    "answer.f90": """
subroutine answer(value) bind(c, name="answer")
  use iso_c_binding
  integer(c_int), intent(out) :: value
  character(len=8) :: text
  write(text, '(i0)') 42
  read(text, *) value
end subroutine
""",
}


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


def test_the_page_has_what_was_measured() -> None:
    text = PAGE.read_text("utf-8")
    assert "| meson-python |" in text
    assert rendered(text, json.loads(RESULTS.read_text("utf-8"))) == text
