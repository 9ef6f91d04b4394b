"""Images of published projects, one for each build backend: built from the sdist, and run.

    python benchmarks/backends.py                     measure all; write backends.json and docs/backends.md
    python benchmarks/backends.py --rows docutils     measure some rows; the others keep their figures
    python benchmarks/backends.py --render            write the table from the existing figures

Each sdist is downloaded from the package index of uv or pip, and its hash is verified. `hatch-docker build` makes the
image on debian:trixie. Docker runs it without network, capabilities and a writable root; the project has to print an
expected text. Needs docker, and the network for packages. The cache is the user's, or that of HATCH_DOCKER_CACHE_DIR.
The row of maturin installs a compiler of 400 MB and compiles for minutes.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.page_table import PageTable  # noqa: E402 - the script is run by its path
from hatch_docker.core.context import open_context  # noqa: E402
from hatch_docker.core.progress import Progress  # noqa: E402
from hatch_docker.oci.model import host_platform  # noqa: E402
from hatch_docker.wheels.fetch import fetch  # noqa: E402
from hatch_docker.wheels.index import read_indexes  # noqa: E402
from hatch_docker.wheels.locks.uv import compile_lock  # noqa: E402
from hatch_docker.wheels.target import Pin, Target  # noqa: E402

BASE = "debian:trixie"
IMAGES = "hatch-docker-backends"  # the repository of the images, which are removed afterwards
RESTRICTED = ("--rm", "--interactive", "--network", "none", "--read-only", "--cap-drop", "ALL")


@dataclass(frozen=True, slots=True)
class Subject:
    """A release of a project, the options of its image, and the test of the image."""

    backend: str
    name: str
    version: str
    run: tuple[str, ...]                  # arguments for the entrypoint
    prints: str                           # a text that the output must contain
    stdin: str = ""
    code: bool = False                    # a library: the entrypoint is python
    language: str = ""                    # the language of its compiled code
    build: tuple[str, ...] = ()           # build.packages
    runtime: tuple[str, ...] = ()         # runtime.packages


def library(backend: str, name: str, version: str, code: str, prints: str, **rest: Any) -> Subject:
    """Return the subject for a project without a script: Python runs code that imports it."""
    return Subject(backend, name, version, ("-c", code), prints, code=True, **rest)


SUBJECTS = (
    library("setuptools", "markupsafe", "3.0.4",
            "import markupsafe._speedups; from markupsafe import escape; print(escape('<a>'))", "&lt;a&gt;",
            language="C"),
    library("setuptools, `setup.py` only", "docopt", "0.6.2",
            "from docopt import docopt; print(docopt('usage: x --n=N', ['--n=3']))", "'--n': '3'"),
    Subject("flit", "docutils", "0.23", ("-",), "<em>rst</em>", stdin="*rst*\n"),
    library("poetry-core", "dunamai", "1.26.5",
            "from dunamai import Style, Version; print(Version('1.2', stage=('rc', 1)).serialize(style=Style.Pep440))",
            "1.2rc1"),
    Subject("pdm-backend", "findpython", "0.9.0", ("3.13",), "/bin/python3"),
    Subject("uv_build", "django-upgrade", "1.33.0", ("--target-version", "4.0", "--exit-zero-even-if-changed", "-"),
            "force_str", stdin="from django.utils.encoding import force_text\nforce_text(1)\n"),
    Subject("hatchling, with hatch-vcs and hatch-fancy-pypi-readme", "black", "26.10.1",
            ("-c", "x = {  'a':1 }"), 'x = {"a": 1}'),
    library("maturin", "orjson", "3.13.0", "import orjson; print(orjson.dumps({'a': [1, None]}))", '{"a":[1,null]}',
            language="Rust 1.96", build=("cargo-web", "rustc-web")),
    library("scikit-build-core", "levenshtein", "0.27.5",
            "from Levenshtein import distance; print('distance', distance('kitten', 'sitting'))", "distance 3",
            language="Cython, C++ (CMake)"),
    library("meson-python", "pycairo", "1.29.2",
            "import cairo, io; o = io.BytesIO(); cairo.ImageSurface(cairo.Format.RGB24, 9, 9).write_to_png(o);"
            " print(o.getvalue()[1:4])", "b'PNG'",
            language="C (meson)", build=("libcairo2-dev",), runtime=("libcairo2",)),
)  # fmt: skip


def unpack_release(name: str, version: str, directory: Path) -> tuple[Path, str]:
    """Download and unpack the sdist of a release (the newest if `version` is empty); return its directory and version.

    The sdist comes from the configured index and its hash is verified; none of its code is executed.
    """
    ctx = open_context(os.environ, Progress(lambda line: print(line, file=sys.stderr)))
    target = Target("3.13", host_platform(), ("glibc", "2.41"))
    table = compile_lock(
        [f"{name}=={version}" if version else name], target, directory, read_indexes(directory, os.environ), ctx,
        metadata={name: {"requires-dist": (), "provides-extra": ()}}, every_file=True,
    )
    (package,) = table["packages"]
    file = package["sdist"]
    filename = file.get("name") or file["url"].rpartition("/")[2]
    pin = Pin(name, package["version"], filename, file["url"], file["hashes"]["sha256"], file.get("size"), None)
    (path,) = fetch([pin], ctx, root=directory)
    with tarfile.open(path) as tar:
        tar.extractall(directory, filter="data")
    (project,) = (place for place in directory.iterdir() if place.is_dir())
    return project, package["version"]


def options(subject: Subject) -> dict[str, str]:
    """Return the options of the image as environment variables, so that the sdist stays unchanged."""
    values = {"BASE": BASE, "IMAGE": f"{IMAGES}/{subject.name}", "TAGS": "{version}", "LOAD": "always"}
    values |= {"SBOM": "[]", "PROVENANCE": "false"}
    lists = {"ENTRYPOINT": ["python"] if subject.code else [], "BUILD_PACKAGES": subject.build,
             "RUNTIME_PACKAGES": subject.runtime}  # fmt: skip
    values |= {name: json.dumps(value) for name, value in lists.items() if value}
    return {f"HATCH_DOCKER_{name}": value for name, value in values.items()}


def measure(subject: Subject) -> dict[str, Any]:
    """Build and run the image of a release; return its figures. Raises SystemExit with the output if it fails."""
    with tempfile.TemporaryDirectory(prefix="backends-") as temporary:
        project, _ = unpack_release(subject.name, subject.version, Path(temporary))
        build = [sys.executable, "-m", "hatch_docker", "build", str(project)]
        _run(build, {**os.environ, "PYTHONPATH": str(ROOT), **options(subject)})
        (path,) = (project / "dist").glob("*.image.json")
        receipt = json.loads(path.read_text("utf-8"))
    image = f"{IMAGES}/{subject.name}:{subject.version}"
    try:
        output = _run(["docker", "run", *RESTRICTED, image, *subject.run], os.environ, subject.stdin)
    finally:
        subprocess.run(["docker", "rmi", "--force", image], capture_output=True, check=False)
    if subject.prints not in output:
        raise SystemExit(f"{image} {' '.join(subject.run)} does not print {subject.prints!r}, but:\n{output}")
    (platform,) = receipt["platforms"]
    return {
        "size": platform["unpacked_size"], "compressed": platform["size"], "date": dt.date.today().isoformat(),  # noqa: DTZ011
        "project": sum(layer["unpacked_size"] for layer in platform["layers"] if layer["kind"] == "project"),
    }  # fmt: skip


def _run(command: Sequence[str], variables: Mapping[str, str], stdin: str = "") -> str:
    done = subprocess.run(
        command, env=dict(variables), input=stdin, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}")
    return done.stdout


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    heads = ("backend", "project", "compiled with", "`build.packages`", "`runtime.packages`", "image", "compressed",
             "your code", "measured")  # fmt: skip
    rows = [f"| {' | '.join(heads)} |", "|---|---|---|---|---|---:|---:|---:|---|"]
    for subject in SUBJECTS:
        found = results[subject.name]
        packages = (", ".join(f"`{name}`" for name in names) for names in (subject.build, subject.runtime))
        sizes = (f"{found['size'] / 1e6:.1f} MB", f"{found['compressed'] / 1e6:.1f} MB",
                 f"{found['project'] / 1e3:.0f} kB")  # fmt: skip
        cells = (subject.backend, f"{subject.name} {subject.version}", subject.language, *packages, *sizes)
        rows.append("| " + " | ".join([*cells, found["date"]]) + " |")
    return "\n".join(rows)


TABLE = PageTable("backends", Path(__file__).with_suffix(".json"), {row.name: row for row in SUBJECTS}, measure, table)

if __name__ == "__main__":
    TABLE.main(__doc__)
