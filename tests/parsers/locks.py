"""Parsers of lock files, and of the settings of pip, uv, Poetry and PDM."""

from pathlib import Path
from typing import Any

from hatch_docker.core.image_lock import parse_image_lock
from hatch_docker.core.progress import silent
from hatch_docker.plan.model import LockPlan
from hatch_docker.project.pyproject import read_pyproject
from hatch_docker.project.sources import read_sources
from hatch_docker.wheels.index import read_indexes
from hatch_docker.wheels.locks.pin import _from_table, _table
from hatch_docker.wheels.locks.poetry_pdm import locked_packages
from hatch_docker.wheels.locks.requirements_txt import read_requirements
from tests.fakes.damaged_documents import Draw
from tests.fakes.lock_files import AMD64 as TARGET
from tests.fakes.lock_files import PDM, POETRY, UV_LOCK
from tests.parsers.parser import PARSERS, Parse, of_bytes, of_toml, parses, written

PYLOCK = f"""
lock-version = "1.0"
created-by = "test"
environments = ["python_version > '3'"]
requires-python = ">=3.11"
extras = ["web"]
dependency-groups = ["dev"]
default-groups = ["dev"]
[[packages]]
name = "app"
version = "1.0"
marker = "python_version > '3'"
requires-python = ">=3"
index = "https://i.example/simple"
sdist = {{name = "app-1.0.tar.gz", path = "app-1.0.tar.gz", hashes = {{sha256 = "{'b' * 64}"}}}}
wheels = [{{name = "app-1.0-py3-none-any.whl", url = "https://f.example/app-1.0-py3-none-any.whl", size = 5, \
hashes = {{sha256 = "{'a' * 64}"}}}}]
[[packages]]
name = "tool"
archive = {{url = "https://f.example/tool-1.tar.gz", hashes = {{sha256 = "{'b' * 64}"}}}}
[[packages]]
name = "project"
directory = {{path = ".", editable = true}}
[[packages]]
name = "other"
marker = "'other' in extras"
vcs = {{type = "git", url = "https://g.example/x", commit-id = "{'0' * 40}"}}
"""


def lock_of(kind: str, name: str, text: str) -> tuple[Parse, Draw, Any]:
    def parse(data: bytes, directory: Path) -> None:
        extras, groups = (("web",), ("dev",)) if kind in ("pylock", "uv") else ((), ())
        lock = LockPlan(kind, name, ("app>=1", *(["tool"] if kind == "uv" else [])), extras, groups)
        written(directory, name, data)
        if kind in ("pylock", "uv"):
            _from_table(lock, data, directory, TARGET, None)
        else:
            locked_packages(kind, _table(lock, data), name, lock.requirements, extras, TARGET)

    return parse, *of_toml(text)


PARSERS["pylock"] = lock_of("pylock", "pylock.toml", PYLOCK)
PARSERS["uv_lock"] = lock_of("uv", "uv.lock", UV_LOCK)
PARSERS["poetry_lock"] = lock_of("poetry", "poetry.lock", POETRY)
PARSERS["pdm_lock"] = lock_of("pdm", "pdm.lock", PDM)


@parses(of_bytes(f"""\
# by hand
app[web]==1.0 ; python_version > '3' \\
    --hash=sha256:{"a" * 64}
dep @ https://f.example/dep-1.0-py3-none-any.whl --hash=sha256:{"b" * 64}
-r requirements.txt
--index-url https://u:p@i.example/simple
-e .
""".encode()))  # fmt: skip
def requirements(data: bytes, directory: Path) -> None:
    path = written(directory, "requirements.lock", data)
    written(directory, "requirements.txt", b"")
    read_requirements(path, directory, TARGET, silent(), ())


@parses(of_toml(f"""\
version = 1
[[base]]
name = "debian:trixie"
platforms = [{{platform = "linux/amd64", python = "3.13.5", libc = "glibc 2.41", suite = "trixie"}}]
[[debian]]
for = "base"
suite = "trixie"
architecture = "amd64"
slim = true
asked = ["tool"]
as-of = "2025-09-06T10:22:11Z"
packages = [{{name = "tool", version = "1.0", architecture = "amd64", archive = "main", path = "pool/t.deb", \
size = 1, sha256 = "{"a" * 64}"}}]
[[requirements]]
platform = "linux/amd64"
python = "3.13.5"
libc = "glibc 2.41"
asked = ["app>=1"]
files = [{{name = "app", version = "1.0", file = "app-1.0-py3-none-any.whl", url = "https://f.example/app.whl", \
sha256 = "{"a" * 64}"}}]
"""))
def pins(data: bytes, _directory: Path) -> None:
    parse_image_lock(data, "hatch-docker.lock")


@parses(of_toml("""\
no-index = false
prerelease = "allow"
index-url = "https://i.example"
extra-index-url = ["https://j.example"]
find-links = ["./x"]
dependency-metadata = [{name = "x"}]
index = [{name = "a", url = "https://u:p@i.example/simple", default = true}]
[pip]
index-url = "https://k.example"
"""))
def uv_toml(data: bytes, directory: Path) -> None:
    written(directory, "uv.toml", data)
    found = read_indexes(directory, {"HOME": str(directory)})
    found.identity(), found.uv_environment({}), found.authorization("https://i.example/x"), found.secrets


@parses(of_bytes(b"[global]\nindex-url = https://u:p@i.example/\nextra-index-url =\n  https://j.example\n[install]\n"))
def pip_conf(data: bytes, directory: Path) -> None:
    path = written(directory, "pip.conf", data)
    found = read_indexes(directory, {"HOME": str(directory), "PIP_CONFIG_FILE": str(path)})
    found.identity(), found.uv_environment({}), found.secrets


@parses(of_toml("""\
[tool.uv.sources]
app = [{index = "a", marker = "os_name == 'posix'"}, {git = "https://g.example/x", extra = "web", group = "dev"}]
lib = {workspace = true}
[tool.poetry.dependencies]
app = [{version = "^1", source = "a", python = "<3.9"}, {path = "x"}]
[tool.poetry.group.dev.dependencies]
tool = {url = "https://f.example/tool.whl"}
[[tool.poetry.source]]
name = "a"
url = "https://i.example/simple"
priority = "supplemental"
"""))
def sources(data: bytes, directory: Path) -> None:
    written(directory, "pyproject.toml", data)
    read_sources(directory, read_pyproject(directory), ())
    read_indexes(directory, {"HOME": str(directory)}).identity()


@parses(of_toml("""\
[[tool.pdm.source]]
name = "pypi"
url = "https://${USER}:p@i.example/simple"
include_packages = ["app*"]
exclude_packages = ["*"]
[[tool.pdm.source]]
name = "b"
url = "https://j.example/simple"
username = "u"
password = "p"
type = "find_links"
[tool.pdm.resolution]
respect-source-order = true
"""))
def pdm_sources(data: bytes, directory: Path) -> None:
    written(directory, "pyproject.toml", data)
    found = read_indexes(directory, {"HOME": str(directory)})
    found.identity(), found.uv_environment({}), found.secrets
