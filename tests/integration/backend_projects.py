"""Projects with other build backends than hatchling (file name -> content), and functions that build them."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.integration.builds import Outcome, run_in
from tests.projects import commit, write_files

EXTENSION = """
#include <Python.h>
static PyObject *answer(PyObject *s, PyObject *a) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_c", 0, -1, methods};
PyMODINIT_FUNC PyInit__c(void) { return PyModule_Create(&module); }
"""
SCM = {
    "pyproject.toml": """
[build-system]
requires = ["setuptools>=77", "setuptools-scm>=8"]
build-backend = "setuptools.build_meta"
[project]
name = "scm-demo"
dynamic = ["version"]
[project.scripts]
scm-demo = "scm_demo:main"
[tool.setuptools_scm]
[tool.setuptools]
ext-modules = [{name = "scm_demo._c", sources = ["src/scm_demo/_c.c"]}]
""",
    "src/scm_demo/__init__.py": """
from importlib.metadata import version
from scm_demo._c import answer

def main():
    print(answer(), version("scm-demo"))
""",
    "src/scm_demo/_c.c": EXTENSION,
}
LEGACY = {
    "setup.py": """
from setuptools import setup
setup(
    name="legacy-demo", version="0.3", packages=["legacy_demo"], install_requires=["idna"],
    entry_points={"console_scripts": ["legacy-demo=legacy_demo:main"]}, python_requires=">=3.9",
)
""",
    "legacy_demo/__init__.py": "def main():\n    import idna\n    print('legacy', idna.encode('a'))\n",
}
POETRY = {
    "pyproject.toml": """
[build-system]
requires = ["poetry-core>=2"]
build-backend = "poetry.core.masonry.api"
[tool.poetry]
name = "poetry-demo"
version = "4.5"
description = "Everything outside of [project]"
authors = ["Ada Example <ada@example.org>"]
license = "MIT"
packages = [{include = "poetry_demo"}]
[tool.poetry.dependencies]
python = "^3.11"
idna = {version = "*", optional = true}
[tool.poetry.extras]
net = ["idna"]
[tool.poetry.scripts]
poetry-demo = "poetry_demo:main"
[tool.hatch-docker]
extras = ["net"]
""",
    "poetry_demo/__init__.py": "def main():\n    import idna\n    print('poetry', idna.encode('a'))\n",
}
FLIT = {
    "pyproject.toml": """
[build-system]
requires = ["flit_core>=3.4"]
build-backend = "flit_core.buildapi"
[project]
name = "flit_demo"
dynamic = ["version", "description"]
[project.scripts]
flit-demo = "flit_demo:main"
""",
    "flit_demo.py": '"""A demonstration."""\n__version__ = "2.1"\n\ndef main():\n    print("flit")\n',
}
SCRIPTS = {
    "setup.py": """
from setuptools import setup
setup(name="old-demo", version="0.1", scripts=["bin/old-demo"])
""",
    "bin/old-demo": "#!/usr/bin/env python\nprint('old')\n",
}
PDM = {
    "pyproject.toml": """
[build-system]
requires = ["pdm-backend"]
build-backend = "pdm.backend"
[project]
name = "pdm-demo"
dynamic = ["version"]
[project.scripts]
pdm-demo = "pdm_demo:main"
[tool.pdm.version]
source = "file"
path = "src/pdm_demo/__init__.py"
""",
    "src/pdm_demo/__init__.py": '__version__ = "0.4"\n\ndef main():\n    print("pdm")\n',
}
UV_BUILD = {
    "pyproject.toml": """
[build-system]
requires = ["uv_build"]
build-backend = "uv_build"
[project]
name = "uv-demo"
version = "5"
[project.scripts]
uv-demo = "uv_demo.build.main:main"
""",
    "src/uv_demo/__init__.py": "",
    "src/uv_demo/build/__init__.py": "",  # a package, though the name is that of a directory with build output
    "src/uv_demo/build/main.py": "def main():\n    print('uv')\n",
}
MESON = {
    "pyproject.toml": """
[build-system]
requires = ["meson-python"]
build-backend = "mesonpy"
[project]
name = "meson-demo"
dynamic = ["version"]
[project.scripts]
meson-demo = "meson_demo:main"
""",
    "meson.build": """
project('meson-demo', 'c', version: '6.1')
py = import('python').find_installation(pure: false)
py.extension_module('_c', 'src/target/_c.c', subdir: 'meson_demo', install: true)
py.install_sources('src/meson_demo/__init__.py', subdir: 'meson_demo')
""",
    "src/meson_demo/__init__.py": "def main():\n    from meson_demo._c import answer\n    print(answer())\n",
    "src/target/_c.c": EXTENSION,
}
PLUGIN = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling", "hatch-fancy-pypi-readme"]
build-backend = "hatchling.build"
[project]
name = "plugin-demo"
dynamic = ["readme", "version"]
[project.scripts]
plugin-demo = "plugin_demo:main"
[tool.hatch.version]
path = "plugin_demo.py"
[tool.hatch.metadata.hooks.fancy-pypi-readme]
content-type = "text/markdown"
fragments = [{ text = "A demonstration" }]
""",
    "plugin_demo.py": '__version__ = "7"\n\ndef main():\n    print("plugin")\n',
}
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


def write(directory: Path, files: dict[str, str], *, tag: str = "") -> Path:
    """Write a project's files; with `tag`, commit them in a new git repository and tag the commit."""
    write_files(directory, files)
    if tag:
        commit(directory, tag)
    return directory


def output_check(command: str, words: str) -> str:
    """Return the option `check.command`: it succeeds if a program of the image prints `words`."""
    code = f"import subprocess as s; o = s.check_output([{command!r}], text=True); assert o.strip() == {words!r}, o"
    return json.dumps(["python", "-c", code])


def make(project: Path, cache: Path, *command: str, prefix: Sequence[str] = (), **variables: str) -> Outcome:
    """Run `hatch-docker build PROJECT`, or another command; `prefix`: a program that starts it, with its arguments."""
    program = [*prefix, sys.executable, "-m", "hatch_docker", *(command or ("build",)), str(project)]
    return run_in(project, cache, *program, variables={"HATCH_DOCKER_BASE": "debian:trixie", **variables})
