"""The documentation's commands as a reader types them: one project from `init` to a container, each line out of a page.

What is changed in a line is where it leads: the registry, and the names of images and containers, which are this
test's own. Left out are the lines that need a cloud, or an image that nobody has here.
"""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import pytest

from tests.projects import write_files

if not Path(__file__).parent.parent.parent.joinpath("docs").is_dir():
    pytest.skip("an sdist has no docs", allow_module_level=True)

from hatch_docker.core.cache.store import open_store
from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.auth import credential_for
from tests.conftest import need, need_docker
from tests.fakes.github_outputs import read_outputs
from tests.integration.docker_registry import docker_registry
from tests.integration.forked_python import write_program
from tests.pages import DOCS, blocks
from tests.validate import validate

pytestmark = [pytest.mark.network, pytest.mark.engine]

# Lines for other machines, images that are not here, and what the tests' environment has by now.
ELSEWHERE = re.compile(r"busybox|kubectl|python:3\.13-slim|^pip install|imagetools|linux/arm64|^hatch |^docker load")
FILES = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "app"
version = "1.0"
requires-python = ">=3.11"
dependencies = ["h11"]

[project.scripts]
app = "app:main"
""",
    "app/__init__.py": """\
import http.server

import h11


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()
        self.wfile.write(h11.__name__.encode())


def main():
    http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
""",
    ".gitignore": "page.html\ncosign.*\n",
}


@dataclass
class Reader:
    """Somebody in a project's directory with a page open."""

    root: Path
    registry: str
    cache: Path
    container: str = field(default_factory=lambda: f"docs-{os.getpid()}")

    @property
    def image(self) -> str:
        return f"{self.container}:1.0"

    def names(self, script: str) -> str:
        """Some lines with the names of this test, a container in the background, and nobody at a terminal."""
        for pattern, own in (
            (r"registry\.example", self.registry),
            (r"(?<![/\w])app:1\.0\b", self.image),
            (r"docker exec (-it )?app\b", f"docker exec {self.container}"),
            (r"docker cp app:", f"docker cp {self.container}:"),
            (r"-v data:", f"-v {self.container}:"),
            (r"docker run --rm -p 8000:8000", f"docker run --rm --detach --name {self.container} -p 127.0.0.1::8000"),
            (r"hatch-docker init$", "hatch-docker init --yes"),
        ):
            script = re.sub(pattern, own, script, flags=re.MULTILINE)
        return script

    def run(self, script: str, **variables: str) -> str:
        """Run some lines in a shell, which must succeed; return its output."""
        inherited = write_program(self.root.parent)
        path = f"{self.root.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {
            **os.environ, "PATH": path, "HATCH_DOCKER_CACHE_DIR": str(self.cache), "CI_CACHE": str(self.cache),
            "CI": "true", "HATCH_DOCKER_IMAGE": self.container, "HATCH_DOCKER_REGISTRIES": f"{self.registry}/team/app",
            "HATCH_DOCKER_LOAD": "never", **variables,
        }  # fmt: skip
        done = subprocess.run(
            ["sh", "-euc", script], cwd=self.root, env=environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False, pass_fds=[inherited],
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def types(self, page: str, heading: str, **variables: str) -> str:
        """Run the commands below a heading of a page, block by block; return their output."""
        said = []
        for block in blocks("console", "sh", page=f"docs/{page}", heading=heading):
            lines = [line for line in block.script().splitlines() if not ELSEWHERE.search(line)]
            if lines:
                said.append(self.run(self.names("\n".join(lines)), **variables))
        assert said, f"{page} has no commands below {heading!r}"
        return "".join(said)


@pytest.fixture
def reader(tmp_path: Path, cache: Path) -> Iterator[Reader]:
    docker = need_docker()
    project = tmp_path / "app"
    write_files(project, FILES)
    with docker_registry(tmp_path / "registry") as server:
        reader = Reader(project, server.host, cache)
        reader.run("git init -q -b main && git add -A")
        try:
            yield reader
        finally:
            subprocess.run([docker, "rm", "--force", reader.container], check=False, capture_output=True)
            tags = [f"{reader.container}:{tag}" for tag in ("1.0", "1.1", "latest")]
            subprocess.run([docker, "rmi", "--force", *tags], check=False, capture_output=True)
            subprocess.run([docker, "volume", "rm", reader.container], check=False, capture_output=True)


def commit(reader: Reader) -> None:
    who = "-c user.name=A -c user.email=a@example.org"
    reader.run(f"git add -A && git {who} commit -qm all")


def receipt(reader: Reader, version: str = "1.0") -> dict[str, Any]:
    value: dict[str, Any] = json.loads((reader.root / f"dist/app-{version}.image.json").read_bytes())
    return value


def answer(reader: Reader) -> bytes:
    """Return the answer of the container, once it has started."""
    return get(reader.run(f"docker port {reader.container} 8000").split()[0])


def get(address: str) -> bytes:
    """Return the answer at an address, once there is one."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"http://{address}/healthz", timeout=10) as response:
                return bytes(response.read())
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"nothing answers at {address}")


def test_a_project_goes_through_the_pages(reader: Reader) -> None:
    """From quickstart to container, lock, registry and Dockerfile: the pages' own lines, one after the other."""
    variables = {"HATCH_DOCKER_LOAD": "always", "HATCH_DOCKER_VOLUMES": "/data"}
    said = reader.types("quickstart.md", "A project of any other backend", **variables)
    assert "written: pyproject.toml" in said
    assert f"docker run --rm {reader.image}" in said
    validate(read_archive(reader.root / "dist/app-1.0.oci.tar"))

    reader.types("deploy.md", "Deploy")
    assert answer(reader) == b"h11"
    assert "/app/__init__.py" in reader.types("debugging.md", "Before it runs")
    said = reader.types("debugging.md", "While it runs")
    assert "\n200\n" in said
    assert "site-packages/h11/" in said
    reader.types("deploy.md", "OpenShift")
    reader.types("deploy.md", "What the image says itself")

    reader.types("pins.md", "Pins")
    commit(reader)
    reader.run("hatch-docker build")
    digest = receipt(reader)["digest"]
    assert f"yes, {digest}" in reader.types("pins.md", "The same digest again")

    reader.types("pins.md", "A newer base")
    assert receipt(reader)["digest"] == digest
    assert "hatch-docker.lock: " in reader.types("pins.md", "What is outdated")

    said = reader.types("pipelines.md", "A plain shell")
    assert f"{reader.registry}/team/app@{digest}" in said
    (delivery,) = receipt(reader)["deliveries"]
    assert delivery["sent"] > 1_000_000, delivery
    reader.types("pipelines.md", "A plain shell")
    (delivery,) = receipt(reader)["deliveries"]
    assert not delivery["sent"], delivery

    reader.run("hatch-docker build")
    assert "of it yours" in reader.types("inspect.md", "`inspect`")
    assert "requires  h11" in reader.types("inspect.md", "`why`")
    keys("inspect", reader.run("hatch-docker inspect --files --json"))
    keys("why", reader.run("hatch-docker why h11 --json"))
    bump(reader)
    reader.run("hatch-docker build")
    assert "app 1.0 -> 1.1" in reader.types("inspect.md", "`diff`")
    keys("diff", reader.run("hatch-docker diff --json dist/app-1.0.oci.tar dist/app-1.1.oci.tar"))


def keys(command: str, said: str) -> None:
    """The page names every key of a document."""
    page = (DOCS / "inspect.md").read_text("utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith(f"| `{command}` | `schema`"))
    assert set(json.loads(said)) <= set(re.findall(r"`(\w+)`", row))


def bump(reader: Reader) -> None:
    path = reader.root / "pyproject.toml"
    path.write_text(path.read_text().replace('version = "1.0"', 'version = "1.1"'))
    commit(reader)


def test_the_dockerfile_is_built_as_the_page_says(reader: Reader) -> None:
    reader.run("hatch-docker init --yes")
    reader.types("engines.md", "To a Dockerfile, and away")
    said = reader.run(f"docker run --rm --entrypoint python {reader.image} -c 'import app; print(app.__file__)'")
    assert said.startswith("/opt/venv/")


def job(heading: str, name: str) -> dict[str, Any]:
    """A job of pipelines.md, step by step: the last recipe below a heading."""
    from ruamel.yaml import YAML

    *_, block = blocks("yaml", page="docs/pipelines.md", heading=heading)
    document = YAML(typ="safe").load(block.text)
    found: dict[str, Any] = document.get("jobs", document)[name]
    return found


def test_the_job_of_gitlab(reader: Reader, tmp_path: Path) -> None:
    """Its own lines, in a checkout that has the cache in it: nothing of the cache is in the image, or in git's way."""
    reader.run("hatch-docker init --yes")
    commit(reader)
    open_store(reader.root / ".image-cache")
    reader.run(f"mkdir -p {reader.cache}/v1 && cp -alf {reader.cache}/v1/. .image-cache/v1")
    recipe = job("GitLab", "build-image")
    given = {
        "CI_PROJECT_DIR": str(reader.root), "CI_REGISTRY": reader.registry, "CI_REGISTRY_USER": "ci",
        "CI_REGISTRY_IMAGE": f"{reader.registry}/team/app", "CI_REGISTRY_PASSWORD": "of-the-job",
    }  # fmt: skip
    said = {name: Template(text).substitute(given) for name, text in recipe["variables"].items()}
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config"))}
    lines = [line for line in (*recipe["before_script"], *recipe["script"]) if not ELSEWHERE.search(line)]
    reader.run("\n".join(lines), HATCH_DOCKER_REGISTRIES="", **home, **given, **said)
    credential = credential_for(reader.registry, home)
    assert credential is not None
    assert (credential.username, credential.password) == ("ci", "of-the-job")
    report = recipe["artifacts"]["reports"]["dotenv"]
    assert f"IMAGE_REFERENCE={reader.registry}/team/app@sha256:" in (reader.root / report).read_text()
    assert receipt(reader)["dirty"] == []
    assert (reader.root / ".image-cache/v1/blobs").is_dir()


def test_the_job_of_github(reader: Reader, tmp_path: Path) -> None:
    """Its build's own line; what the next job reads is among the outputs."""
    reader.run("hatch-docker init --yes")
    commit(reader)
    recipe = job("GitHub", "image")
    (step,) = (step for step in recipe["steps"] if step.get("id") == "image")
    reader.run(step["run"], GITHUB_OUTPUT=str(tmp_path / "outputs"))
    (name,) = re.findall(r"steps\.image\.outputs\.(\w+)", str(recipe["outputs"]))
    assert read_outputs(tmp_path / "outputs")[name].startswith(f"{reader.registry}/team/app@sha256:")


def test_an_image_is_signed_as_the_page_says(reader: Reader) -> None:
    reader.run("hatch-docker init --yes")
    (block,) = blocks("toml", page="docs/signing.md", heading="Signatures")
    with (reader.root / "pyproject.toml").open("a") as stream:
        stream.write(block.text)
    commit(reader)
    said = reader.types("signing.md", "Signatures", COSIGN_PASSWORD="of-the-key")
    assert "The signatures were verified against the specified public key" in said


@pytest.mark.long
def test_the_pod_of_the_page_answers(reader: Reader, tmp_path: Path) -> None:
    """By `podman kube play`, which does what kubelet does: read-only, without capabilities, as the image's user."""
    need("catatonit")
    podman = f"{need('podman')} --runtime runc"
    reader.run("hatch-docker init --yes")
    commit(reader)
    reader.run("hatch-docker build --push")
    (block,) = blocks("yaml", page="docs/deploy.md", heading="Kubernetes")
    text = reader.names(block.text).replace("sha256:" + 64 * "0", receipt(reader)["digest"])
    pod = text.partition("\n---\n")[0].replace("name: app\nspec:", f"name: {reader.container}\nspec:", 1)
    (tmp_path / "pod.yaml").write_text(pod.replace("replicas: 2", "replicas: 1"))
    reader.run(f"{podman} kube play --tls-verify=false --network host {tmp_path}/pod.yaml")
    try:
        assert get("127.0.0.1:8000") == b"h11"
        shown = "{{.HostConfig.ReadonlyRootfs}} {{.Config.User}} {{.EffectiveCaps}}"
        said = reader.run(f"{podman} inspect {reader.container}-pod-app --format '{shown}'")
        assert "true 65532 []" in said
    finally:
        (image,) = (delivery["reference"] for delivery in receipt(reader)["deliveries"])
        reader.run(f"{podman} kube down {tmp_path}/pod.yaml && {podman} rmi --force {image}")


def test_a_program_that_handles_no_signal_ends_as_the_page_says(reader: Reader) -> None:
    """Process 1 is spared SIGTERM, not SIGINT: the container ends by itself, and is not killed (status 137)."""
    reader.run("hatch-docker init --yes")
    reader.run("hatch-docker build", HATCH_DOCKER_LOAD="always", HATCH_DOCKER_STOP_SIGNAL="SIGINT")
    reader.run(f"docker run --detach --name {reader.container} -p 127.0.0.1::8000 {reader.image}")
    assert answer(reader) == b"h11"
    reader.run(f"docker stop --time 120 {reader.container}")
    said = reader.run(f"docker wait {reader.container} && docker logs {reader.container}")
    assert not said.startswith("137")
    assert "KeyboardInterrupt" in said


@pytest.mark.long
def test_images_of_two_machines_are_joined(reader: Reader) -> None:
    """Each with its tag, as two machines would push them, and one index of both."""
    reader.run("hatch-docker init --yes")
    commit(reader)
    (block,) = blocks("console", page="docs/pipelines.md", heading="arm64")
    *builds, join = reader.names(block.script()).splitlines()
    for line, platform in zip(builds, ("linux/amd64", "linux/arm64"), strict=True):
        reader.run(line, HATCH_DOCKER_PLATFORMS=platform)
    reader.run(join)
    said = json.loads(reader.run(f"hatch-docker inspect --json {reader.registry}/team/app:1.0 --platform linux/arm64"))
    assert [platform["platform"] for platform in said["platforms"]] == ["linux/amd64", "linux/arm64"]


COMPILED = {
    "Cython": ("45", {
        "src/fastsum/__init__.py": "",
        "src/fastsum/_sum.pyx": """\
def total(long n):
    cdef long i, s = 0
    for i in range(n):
        s += i
    return s
""",
        "src/fastsum/cli.py": "from fastsum._sum import total\n\n\ndef main():\n    print(total(10))\n",
    }),
    "Fortran": ("45.0", {
        "meson.build": """\
project('waves', 'c', 'fortran')
py = import('python').find_installation(pure: false)
py.install_sources('waves.py')
py.extension_module('_waves', '_waves.c', 'total.f90', install: true)
""",
        "total.f90": """\
function total(n) bind(c)
  use iso_c_binding
  integer(c_int), value :: n
  integer :: i
  real(c_double) :: total
  character(len=32) :: line
  total = sum([(real(i, c_double), i = 0, n - 1)])
  write (line, *) total       ! needs the library of Fortran
end function
""",
        "_waves.c": """\
#include <Python.h>
double total(int n);
static PyObject *py_total(PyObject *s, PyObject *a) { return PyFloat_FromDouble(total((int)PyLong_AsLong(a))); }
static PyMethodDef methods[] = {{"total", py_total, METH_O, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_waves", 0, -1, methods};
PyMODINIT_FUNC PyInit__waves(void) { return PyModule_Create(&module); }
""",
        "waves.py": "import _waves\n\n\ndef main():\n    print(_waves.total(10))\n",
    }),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("language", COMPILED)
def test_a_compiled_project_of_the_page_runs(language: str, reader: Reader) -> None:
    """The page's pyproject.toml as it is, with code that needs what it asks for."""
    says, files = COMPILED[language]
    (block,) = blocks("toml", page="docs/compiled.md", heading=language)
    reader.run("rm -r app .git pyproject.toml")
    write_files(reader.root, {**files, "pyproject.toml": block.text})
    reader.run("git init -q -b main")
    commit(reader)
    reader.run("hatch-docker build", HATCH_DOCKER_LOAD="always")
    version = tomllib.loads(block.text)["project"]["version"]
    image = f"{reader.container}:{version}"
    said = reader.run(f"docker run --rm --network none {image} && docker rmi -f {image}")
    assert said.splitlines()[0] == says
