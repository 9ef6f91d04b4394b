"""A FastAPI application on Pythons that no released suite of Debian has, by both engines, run in a container."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from hatch_docker.bases.debian.base import make_debian_base
from hatch_docker.core.context import open_context
from hatch_docker.core.progress import silent
from hatch_docker.oci.layer import Compression, layer_entries
from hatch_docker.oci.model import host_platform
from hatch_docker.plan.model import BasePlan
from tests.integration.builds import build
from tests.integration.compare_engines import BUILDKIT, PLAIN
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


def write_archive(directory: Path, python: str, cache: Path) -> None:
    """Write an archive of python-build-standalone's layout, made of forky's packages."""
    ctx = open_context({**os.environ, "HATCH_DOCKER_CACHE_DIR": str(cache)}, silent())
    plan = BasePlan("debian", "debian:forky", "forky", python=python)
    base = make_debian_base(plan, host_platform(), ctx, compression=Compression())
    machine = MACHINES[base.platform.architecture]
    name = f"cpython-{base.interpreter.version}+20261003-{machine}-unknown-linux-gnu-install_only_stripped.tar.gz"
    directory.mkdir()
    with tarfile.open(directory / name, "w:gz") as tar:
        for entry, content in layer_entries(base.image.layers[0]):
            library = entry.path.rpartition("/")[2].partition(".so")[0].removeprefix("lib")
            mine = entry.path == f"usr/bin/python{python}" or entry.path.startswith(f"usr/lib/python{python}/")
            if mine or (f"{machine}-linux-gnu/lib" in entry.path and library in LIBRARIES):
                info = tarfile.TarInfo(f"python/{entry.path.replace(f'{machine}-linux-gnu/', '').removeprefix('usr/')}")
                data = content.read() if content else b""
                info.mode, info.size, info.linkname = entry.mode, len(data), entry.target
                info.type = {"file": tarfile.REGTYPE, "symlink": tarfile.SYMTYPE}.get(entry.kind, tarfile.DIRTYPE)
                tar.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize(("base", "python"), [
    ("debian:forky", "3.14"), ("debian:forky", "3.15"), ("standalone:3.14", "3.14"), ("standalone:3.15", "3.15"),
])  # fmt: skip
def test_fastapi_on_any_python(base: str, python: str, docker: str, tmp_path: Path, cache: Path) -> None:
    """Both engines make one digest; the container has that Python; scanners find what our document names."""
    table = f'base = "{base}"\npython = "{python}"\nsbom = true\n'
    if base.startswith("standalone"):
        write_archive(tmp_path / "pythons", python, cache)
        table += f'[tool.hatch-docker.standalone]\nmirror = "{(tmp_path / "pythons").as_uri()}"\nsuite = "forky"\n'
    write_files(tmp_path / "app", {
        "pyproject.toml": (
            '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
            '[project]\nname = "anypython"\nversion = "1.0"\ndependencies = ["fastapi"]\n'
            f'[project.scripts]\nanypython = "anypython:main"\n[tool.hatch-docker]\n{table}'
        ),
        "anypython/__init__.py": APP,
    })  # fmt: skip
    first, other = (build(tmp_path / "app", cache, variables=engine) for engine in (PLAIN, BUILDKIT))
    assert first.digest == other.digest
    subprocess.run([docker, "load", "--quiet", "--input", first.archive], check=True, capture_output=True)
    command = [docker, "run", "--rm", "--read-only", "--network", "none", "anypython:1.0"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert found["python"].startswith(f"{python}.")
    assert (found["free"], found["prefix"]) == (0, "/opt/venv")
    program = str(Path(sys.executable).with_name("syft"))
    scan = [program, "scan", "--quiet", "--output", "json", f"oci-archive:{first.archive}"]
    done = subprocess.run(scan, check=True, capture_output=True, text=True, timeout=300)
    seen = {(item["name"], item["version"]) for item in json.loads(done.stdout)["artifacts"]}
    name = "python" if base.startswith("standalone") else f"python{python}-minimal"
    assert any(other == name and version.startswith(found["python"]) for other, version in seen)
