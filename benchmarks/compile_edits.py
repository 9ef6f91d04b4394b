"""Build times after edits of a compiled project, with and without the compiler cache, and of a pure project.

    python benchmarks/compile_edits.py                       20 C files that take about 30 s, the embedded engine
    python benchmarks/compile_edits.py --engine buildkit --functions 10 --edits 1

Runs `hatch-docker build` in new processes; the cache has the base and the builder. Prints elapsed seconds, with CPU
seconds (without BuildKit's) in brackets: the first build, and medians after edits of a module and of a C file; for the
pure project after edits of a module. Exits with 1 if an edit of a module takes 2 CPU seconds more than in the pure
project. Needs a mirror of Debian and a package index.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

LIMIT = 2.0  # the maximum difference in CPU seconds between edits of a module in the compiled and the pure project
PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "edited"
version = "1.0"

[tool.setuptools]
packages = ["edited"]
ext-modules = [{modules}]

[tool.hatch-docker]
base = "debian:trixie"
entrypoint = ["python", "-c", "import edited"]

[tool.hatch-docker.build]
isolated = "always"
"""
FUNCTION = """
double f{0}_{1}(const double *a, double *b, int n) {{
    double sum = {1};
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {{
            b[i] += a[j] * {1}.5 + a[i * n + j];
            sum += b[i] / (a[j] + {1});
            if (sum > {1}) sum -= b[j];
        }}
    return sum;
}}
"""
MODULE = """
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_code", 0, -1, 0};
PyMODINIT_FUNC PyInit__code(void) { return PyModule_Create(&module); }
"""


def write_project(root: Path, files: int, functions: int) -> Path:
    """Write a project with `files` C files of `functions` functions each."""
    package = root / "edited"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    names = [f"edited/code{number}.c" for number in range(files)]
    for number, name in enumerate(names):
        code = "".join(FUNCTION.format(number, function) for function in range(functions))
        # Unique sources: the wheel of an earlier measurement would be in the cache.
        head = f"#include <Python.h>\nint made_{os.urandom(4).hex()};\n"
        (root / name).write_text(head + code + ("" if number else MODULE))
    modules = f'{{name = "edited._code", sources = {names}}}' if files else ""
    (root / "pyproject.toml").write_text(PYPROJECT.replace("{modules}", modules))
    return root


class Time(NamedTuple):
    """The elapsed seconds and the CPU seconds of a build."""

    wall: float
    processor: float

    def __str__(self) -> str:
        return f"{self.wall:6.2f} ({self.processor:5.2f}) s"


def cpu_seconds() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def build(project: Path, **variables: str) -> Time:
    """Run a build; return its duration."""
    time.sleep(0.1)  # a build is not remembered if a file was written a moment before
    started, before = time.perf_counter(), cpu_seconds()
    command = [sys.executable, "-m", "hatch_docker", "build"]
    environ = {**os.environ, **variables}
    done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    return Time(time.perf_counter() - started, cpu_seconds() - before)


def edits(project: Path, name: str, count: int, **variables: str) -> Time:
    """Edit a file and build, `count` times; return the medians."""
    times = []
    for number in range(count):
        with (project / "edited" / name).open("a") as stream:
            stream.write(f"{'int ' if name.endswith('.c') else ''}_{os.urandom(4).hex()}{number} = 1;\n")
        times.append(build(project, **variables))
    return Time(*map(statistics.median, zip(*times, strict=True)))


def main() -> None:
    """Parse the arguments and measure in a temporary directory."""
    parser = argparse.ArgumentParser(description="Measure edits of a compiled project.")
    parser.add_argument("--engine", choices=["embedded", "buildkit"], default="embedded")
    parser.add_argument("--files", type=int, default=20, help="C files (default: %(default)s)")
    parser.add_argument("--functions", type=int, default=60, help="functions of each (default: %(default)s)")
    parser.add_argument("--edits", type=int, default=3, help="edits of each kind (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="compile-edits-") as directory:
        os.environ.setdefault("HATCH_DOCKER_CACHE_DIR", f"{directory}/cache")
        os.environ |= {"HATCH_DOCKER_LOAD": "never", "HATCH_DOCKER_ENGINE": options.engine}
        pure = write_project(Path(directory, "pure"), 0, 0)
        build(pure)
        simple = edits(pure, "__init__.py", options.edits)
        print(f"pure project         module {simple}", flush=True)
        for cached in ("false", "true"):
            project = write_project(Path(directory, f"cache-{cached}"), options.files, options.functions)
            setting = {"HATCH_DOCKER_BUILD_COMPILER_CACHE": cached}
            first = build(project, **setting)
            count = options.edits if cached == "true" else 1
            module, code = (edits(project, name, count, **setting) for name in ("__init__.py", "code3.c"))
            print(f"compiler-cache {cached:5} module {module}   one C file {code}   first {first}", flush=True)
    sys.exit(0 if module.processor - simple.processor <= LIMIT else 1)


if __name__ == "__main__":
    main()
