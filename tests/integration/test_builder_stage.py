"""The real builder stage: Debian's compiler, build backends from the index, C, C++ and build hooks."""

import os
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.bases.debian.base import builder_root
from hatch_docker.bases.model import Base, Interpreter
from hatch_docker.core.cache.kept_file import existing_file
from hatch_docker.core.context import Context, open_context
from hatch_docker.core.errors import BuildError
from hatch_docker.core.progress import Progress
from hatch_docker.oci.make_image import scratch
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import BasePlan, BuildPlan
from hatch_docker.wheels.builder.build import find_wheel
from hatch_docker.wheels.target import Target
from tests.fakes.package_index import write_sdist
from tests.fakes.sandbox_roots import need_sandbox
from tests.integration.builds import linked_cache

pytestmark = pytest.mark.network

PLATFORM = Platform("linux", {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, ""))
C_SOURCE = """
#include <Python.h>
#include <lz4.h>
static PyObject *version(PyObject *self, PyObject *none) { return PyUnicode_FromString(LZ4_versionString()); }
static PyMethodDef methods[] = {{"version", version, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "demo", 0, -1, methods};
PyMODINIT_FUNC PyInit_demo(void) { return PyModule_Create(&module); }
"""
SETUPTOOLS = {
    "pyproject.toml": (
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "demo"\nversion = "1.0"\n'
    ),
    "setup.py": (
        "from setuptools import Extension, setup\n"
        'setup(ext_modules=[Extension("demo", ["demo.c"], libraries=["lz4"]), Extension("more", ["more.cpp"])])\n'
    ),
    "demo.c": C_SOURCE,
    "more.cpp": (
        "#include <Python.h>\n#include <string>\n"
        'static PyModuleDef module = {PyModuleDef_HEAD_INIT, "more", 0, -1, 0};\n'
        "PyMODINIT_FUNC PyInit_more(void) { return PyModule_Create(&module); }\n"
    ),
}
HATCHLING = {
    "pyproject.toml": (
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "demo"\nversion = "1.0"\n[tool.hatch.build.targets.wheel]\nbypass-selection = true\n'
        '[tool.hatch.build.hooks.custom]\ndependencies = ["cffi"]\n'
    ),
    "hatch_build.py": (
        "import cffi, subprocess, sysconfig\n"
        "from hatchling.builders.hooks.plugin.interface import BuildHookInterface\n"
        "class Hook(BuildHookInterface):\n"
        "    def initialize(self, version, build_data):\n"
        '        include = "-I" + sysconfig.get_path("include")\n'
        '        subprocess.check_call(["cc", "-shared", "-fPIC", include, "demo.c", "-o", "demo.so"])\n'
        '        build_data.update(force_include={"demo.so": "demo.so"}, infer_tag=True, pure_python=False)\n'
    ),
    "demo.c": C_SOURCE.replace("#include <lz4.h>", "").replace("LZ4_versionString()", '""'),
}


@pytest.fixture(scope="module")
def ctx(cache: Path) -> Context:
    """Return a context with the user's environment and the cache of the session."""
    need_sandbox()
    return context_of(cache)


def context_of(cache: Path) -> Context:
    return open_context({**os.environ, "HATCH_DOCKER_CACHE_DIR": str(cache)}, Progress(print, 1))


def build(
    files: dict[str, str], directory: Path, ctx: Context, *, suite: str = "trixie", python: str = "3.13.5",
    **options: object,
) -> Path:  # fmt: skip
    short = python.rpartition(".")[0]
    base = Base(
        BasePlan("debian", f"debian:{suite}", suite), f"debian:{suite}", "", scratch(PLATFORM),
        Interpreter(f"/usr/bin/python{short}", python), ("glibc", "2.36"), {}, frozenset(), suite=suite,
    )  # fmt: skip
    plan = BuildPlan(isolated=True, **{"network": False, **options})  # type: ignore[arg-type]
    target = Target(python, PLATFORM, base.libc)
    sdist = existing_file(write_sdist(directory, files))
    return find_wheel(sdist, plan, base, target, ctx, directory).open()


def test_c_and_cpp_extensions_with_a_system_library(ctx: Context, tmp_path: Path) -> None:
    """Without build.packages the error names the header's package. The result has no debug information and no path."""
    with pytest.raises(BuildError, match=r"(?s)lz4\.h is missing:.*\n  packages = \[\"liblz4-dev\"\]$"):
        build(SETUPTOOLS, tmp_path / "a", ctx)
    wheel = build(SETUPTOOLS, tmp_path / "a", ctx, packages=("liblz4-dev",))
    assert wheel.name == f"demo-1.0-cp313-cp313-linux_{os.uname().machine}.whl"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                assert b".debug_info" not in archive.read(name)
                assert b"/build/" not in archive.read(name)
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_requirements_of_a_build_hook_are_installed(ctx: Context, tmp_path: Path) -> None:
    """`get_requires_for_build_wheel` runs inside the sandbox; its requirements are fetched outside and installed."""
    wheel = build(HATCHLING, tmp_path / "a", ctx)
    assert "demo.so" in zipfile.ZipFile(wheel).namelist()
    assert build(HATCHLING, tmp_path / "b", ctx) == wheel


def test_bookworm_builder_uses_its_own_python(ctx: Context, tmp_path: Path) -> None:
    files = {**HATCHLING, "hatch_build.py": HATCHLING["hatch_build.py"].replace("import cffi, ", "import ")}
    wheel = build(files, tmp_path / "a", ctx, suite="bookworm", python="3.11.2")
    assert wheel.name == f"demo-1.0-cp311-cp311-linux_{os.uname().machine}.whl"


@pytest.mark.parametrize(("suite", "python", "packages"), [
    ("trixie", "3.13", ("liblz4-dev",)), ("bookworm", "3.11", ()),
])  # fmt: skip
def test_builder_tree_has_a_working_compiler(ctx: Context, suite: str, python: str, packages: tuple[str, ...]) -> None:
    """It also has Python's headers, make, pkgconf, a shell and the added packages."""
    root = builder_root(BasePlan("debian", f"debian:{suite}", suite), PLATFORM, packages, ctx, suite=suite)
    for path in ("usr/bin/cc", "usr/bin/c++", "usr/bin/awk", "usr/bin/make", "usr/bin/pkg-config", "bin/sh",
                 "usr/bin/ar",
                 f"usr/include/python{python}/Python.h", f"usr/bin/python{python}", "usr/include/stdio.h"):  # fmt: skip
        assert os.path.lexists(root / path), path
    assert bool(packages) == bool(list(root.glob("usr/include/lz4.h")))
    program = root / os.fspath((root / "usr/bin/cc").readlink()).lstrip("/")
    assert program.exists()
    # The tree's own dynamic loader starts the compiler, whatever the distribution of this machine.
    compiler = next(root.glob(f"usr/bin/*-linux-gnu-gcc-{'14' if suite == 'trixie' else '12'}"))
    loader = next(root.glob("usr/lib/*/ld-linux-*.so.*"))
    command = [str(loader), "--library-path", str(loader.parent), str(compiler), "-dumpmachine"]
    assert "linux-gnu" in subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_wheel_does_not_depend_on_directory_or_umask(ctx: Context, tmp_path: Path) -> None:
    """The wheel is built twice."""
    built = set()
    for name, umask in (("one", 0o022), ("two", 0o077)):
        before = os.umask(umask)
        try:
            wheel = build(SETUPTOOLS, tmp_path / name, ctx, packages=("liblz4-dev",))
        finally:
            os.umask(before)
        built.add(wheel.read_bytes())
        shutil.rmtree(wheel.parent)
    assert len(built) == 1


def test_compiler_cache_compiles_only_changed_files(ctx: Context, cache: Path, tmp_path: Path) -> None:
    """The wheel is the same as without the cache; only the project's own builds use the cache."""
    ctx = context_of(linked_cache(cache, tmp_path / "cache"))
    top = ctx.store.root / "compilers"
    before = set(top.glob("*"))
    files = {**SETUPTOOLS, "demo.c": HATCHLING["demo.c"], "more.py": ""}
    files["setup.py"] = files["setup.py"].replace('libraries=["lz4"]', "")
    results = []
    for changed, line in (("more.py", ""), ("more.py", "# an edit\n"), ("demo.c", "int edited;\n")):
        files[changed] += line
        wheel = build(files, tmp_path / "a", ctx, compiler_cache=True)
        expected = wheel.read_bytes()
        shutil.rmtree(wheel.parent)
        (place,) = set(top.glob("*")) - before
        results.append(len(list(place.iterdir())))
    assert results == [5, 5, 6]  # the bytecode, two results, and two calls that are found without preprocessing
    without = build(files, tmp_path / "a", ctx)
    assert without.read_bytes() == expected
    shutil.rmtree(without.parent)
    assert top.stat().st_mode & 0o777 == 0o700


HOSTILE = """
import os, pathlib
from setuptools import setup
place = pathlib.Path("/compiler-cache")
if not pathlib.Path("/build/seen").exists():
    pathlib.Path("/build/seen").touch()
    assert not list(place.iterdir()), "of another build"
    (place / "link").symlink_to("/etc")
    (place / "deep").mkdir()
    (place / "deep" / "file").touch()
    (place / "deep").chmod(0)
    os.mkfifo(place / "pipe")
setup()
"""
WITHOUT = "import os\nassert not os.path.exists('/compiler-cache')\nfrom setuptools import setup\nsetup()\n"


def test_hostile_files_in_a_compiler_cache_are_removed(ctx: Context, tmp_path: Path) -> None:
    """The next build of the project finds an empty cache; a build without a cache finds no directory."""
    files = {"pyproject.toml": SETUPTOOLS["pyproject.toml"], "setup.py": HOSTILE}
    top = ctx.store.root / "compilers"
    before = set(top.glob("*"))
    for name in ("a", "a", "b"):
        shutil.rmtree(build(files, tmp_path / name, ctx, compiler_cache=True).parent)
        assert set(top.glob("*")) == before
    files["setup.py"] = WITHOUT
    new = replace(ctx, environ={**ctx.environ, "HATCH_DOCKER_NO_CACHE": "1"})
    for context, with_cache in ((ctx, False), (new, True)):
        shutil.rmtree(build(files, tmp_path / "c", context, compiler_cache=with_cache).parent)
