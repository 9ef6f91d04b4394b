"""A FastAPI application on Pythons that no released Debian has: both engines build it, and a container runs it."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.bases.debian.base import make_debian_base
from hatch_docker.core.context import open_context
from hatch_docker.core.progress import silent
from hatch_docker.oci.layer import Compression, layer_entries
from hatch_docker.oci.model import Platform, host_platform
from hatch_docker.oci.tar import Entry
from hatch_docker.plan.model import BasePlan
from tests.conftest import need, run
from tests.fakes.debian_image import installed_python, slim_image
from tests.integration.builds import build
from tests.integration.compare_engines import BUILDKIT, PLAIN
from tests.integration.docker_registry import Server
from tests.integration.prepared_build import push_image
from tests.projects import write_files

pytestmark = [pytest.mark.network, pytest.mark.engine, pytest.mark.long]

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
LIBRARIES = ("ssl", "crypto", "sqlite3", "ffi", "expat", "z", "bz2", "lzma", "readline", "ncursesw", "panelw", "tinfo",
             "uuid", "zstd")  # fmt: skip
APP = """\
import json, ssl, sqlite3, sys, sysconfig
from fastapi import FastAPI
from fastapi.routing import APIRoute

app = FastAPI()

@app.get("/")
def root() -> dict[str, object]:
    return {"python": sys.version.split()[0], "free": sysconfig.get_config_var("Py_GIL_DISABLED"), "prefix": sys.prefix}

def main() -> None:
    assert any(isinstance(route, APIRoute) for route in app.routes)
    assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 100
    print(json.dumps(root()))
"""


def library_of(path: str) -> str:
    return path.rpartition("/")[2].partition(".so")[0].removeprefix("lib")


def python_of_forky(python: str, platform: Platform, cache: Path) -> tuple[str, list[Entry]]:
    """Return the version of Debian forky's Python, and the entries of an archive with it and its libraries."""
    ctx = open_context({**os.environ, "HATCH_DOCKER_CACHE_DIR": str(cache)}, silent())
    plan = BasePlan("debian", "debian:forky", "forky", python=python)
    base = make_debian_base(plan, platform, ctx, compression=Compression())
    where = f"{MACHINES[base.platform.architecture]}-linux-gnu/"
    found = []
    for entry, content in layer_entries(base.image.layers[0]):
        of_python = entry.path == f"usr/bin/python{python}" or entry.path.startswith(f"usr/lib/python{python}/")
        if of_python or (f"{where}lib" in entry.path and library_of(entry.path) in LIBRARIES):
            path = entry.path.replace(where, "").removeprefix("usr/")
            found.append(replace(entry, path=path, content=content.read() if content else None))
    return base.interpreter.version, found


def python_of_host(program: Path) -> tuple[str, list[Entry]]:
    """Return the version of a Python of this machine, and the entries of an archive with it and its libraries."""
    files = (entry for entry in installed_python(program) if entry.path.startswith("usr/local/"))
    found = [replace(entry, path=entry.path.removeprefix("usr/local/")) for entry in files]
    code = "import _ctypes, platform; print(platform.python_version(), _ctypes.__file__)"
    version, module = run(program, "-c", code).split()
    needed = re.findall(r"=> (/\S+)", run("ldd", *Path(module).parent.glob("*.so")))
    libraries = sorted({Path(path) for path in needed if library_of(path) in LIBRARIES})
    found += [Entry(f"lib/{path.name}", "file", 0o644, 0, content=path.read_bytes()) for path in libraries]
    return version, found


def write_archive(directory: Path, python: str, cache: Path, architecture: str = "") -> None:
    """Write an archive with the layout of python-build-standalone; a free-threaded Python is taken from PATH."""
    free = python.endswith("t")
    platform = Platform.parse(f"linux/{architecture}") if architecture else host_platform()
    program = Path(need(f"python{python}")) if free else None
    version, entries = python_of_host(program) if program else python_of_forky(python, platform, cache)
    kind = f"unknown-linux-gnu{'-freethreaded' if free else ''}-install_only_stripped.tar.gz"
    directory.mkdir(exist_ok=True)
    archive = directory / f"cpython-{version}+20261003-{MACHINES[platform.architecture]}-{kind}"
    with tarfile.open(archive, "w:gz") as tar:
        for entry in entries:
            info = tarfile.TarInfo(f"python/{entry.path}")
            data = entry.content if isinstance(entry.content, bytes) else b""
            info.mode, info.size, info.linkname = entry.mode, len(data), entry.target
            info.type = {"file": tarfile.REGTYPE, "symlink": tarfile.SYMTYPE}.get(entry.kind, tarfile.DIRTYPE)
            tar.addfile(info, io.BytesIO(data))


def write_app(directory: Path, table: str, dependencies: str = '"fastapi"') -> Path:
    return write_files(directory, {
        "pyproject.toml": (
            '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
            f'[project]\nname = "anypython"\nversion = "1.0"\ndependencies = [{dependencies}]\n'
            f'[project.scripts]\nanypython = "anypython:main"\n[tool.hatch-docker]\n{table}'
        ),
        "anypython/__init__.py": APP,
    })  # fmt: skip


def test_standalone_python_of_another_architecture(tmp_path: Path, cache: Path) -> None:
    """This machine's archive of the same Python compiles the .pyc files; QEMU runs the Python of the image."""
    other = {"amd64": "arm64", "arm64": "amd64"}[host_platform().architecture]
    for architecture in MACHINES:
        write_archive(tmp_path / "pythons", "3.14", cache, architecture)
    mirror = (tmp_path / "pythons").as_uri()
    table = f'base = "standalone:3.14"\nplatforms = ["linux/{other}"]\n'
    table += f'[tool.hatch-docker.standalone]\nmirror = "{mirror}"\nsuite = "forky"\n'
    image = build(write_app(tmp_path / "app", table), cache, variables=PLAIN).image()
    assert image.config_json["architecture"] == other
    root, compiled = tmp_path / "root", 0
    for entry, content in (pair for layer in image.layers for pair in layer_entries(layer)):
        path = root / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        compiled += entry.path.endswith(".cpython-314.pyc")
        if content is not None:
            path.write_bytes(content.read())
            path.chmod(entry.mode)
        elif entry.kind == "symlink":
            path.symlink_to(entry.target)
    assert compiled > 500
    code = "import fastapi, platform, sqlite3, ssl, sys; print(platform.machine(), sys.version_info[:2])"
    emulator = need(f"qemu-{MACHINES[other]}")
    output = run(emulator, "-L", root, root / "usr/local/bin/python3.14", "-B", "-c", code, variables={
        "PYTHONPATH": str(root / "opt/venv/lib/python3.14/site-packages"),
        "LD_LIBRARY_PATH": f"{root}/usr/local/lib",
    })  # fmt: skip
    assert output == f"{MACHINES[other]} (3, 14)\n"


@pytest.mark.parametrize(("base", "python"), [
    ("registry", "3.12"), ("debian:forky", "3.14"), ("debian:forky", "3.15"), ("standalone:3.14", "3.14"),
    ("standalone:3.15", "3.15"), ("standalone:3.13t", "3.13t"),
])  # fmt: skip
def test_fastapi_on_any_python(
    base: str, python: str, docker: str, server: Server, tmp_path: Path, cache: Path
) -> None:
    """Both engines make one digest; the container has that Python; the SBOM and syft list it.

    `python3.12` and `python3.13t` must be on PATH: neither is in Debian 13. A `python3.13t` is made of the source
    package of python3.13, by `./configure --disable-gil --enable-shared`.
    """
    if base == "registry":
        image = slim_image(cache, tmp_path, Path(need(f"python{python}")))
        base = f"{server.host}/python:{python}-slim"
        push_image(image, base)
    table = f'base = "{base}"\npython = "{python}"\nsbom = true\n'
    if base.startswith("standalone"):
        write_archive(tmp_path / "pythons", python, cache)
        suite = "trixie" if python.endswith("t") else "forky"
        table += f'[tool.hatch-docker.standalone]\nmirror = "{(tmp_path / "pythons").as_uri()}"\nsuite = "{suite}"\n'
    # The newest pydantic-core has no wheel for 3.13t.
    write_app(tmp_path / "app", table, '"fastapi", "pydantic<2.12"' if python.endswith("t") else '"fastapi"')
    first, other = (build(tmp_path / "app", cache, variables=engine) for engine in (PLAIN, BUILDKIT))
    assert first.digest == other.digest
    subprocess.run([docker, "load", "--quiet", "--input", first.archive], check=True, capture_output=True)
    command = [docker, "run", "--rm", "--read-only", "--network", "none", "anypython:1.0"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert found["python"].startswith(f"{python.removesuffix('t')}.")
    assert (bool(found["free"]), found["prefix"]) == (python.endswith("t"), "/opt/venv")
    (document,) = (json.loads(path.read_bytes()) for path in first.directory.glob("*.cdx.json"))
    version = found["python"]
    assert any("python" in item["name"] and item["version"].startswith(version) for item in document["components"])
    if python in ("3.12", "3.13t"):
        return  # syft finds neither a free-threaded Python nor pyenv's 3.12, whose prefix ends with the version
    program = str(Path(sys.executable).with_name("syft"))
    scan = [program, "scan", "--quiet", "--output", "json", f"oci-archive:{first.archive}"]
    done = subprocess.run(scan, check=True, capture_output=True, text=True, timeout=300)
    seen = {(item["name"], item["version"]) for item in json.loads(done.stdout)["artifacts"]}
    name = f"python{python}-minimal" if base.startswith("debian") else "python"
    assert any(other == name and scanned.startswith(version) for other, scanned in seen)
