"""The commands of docs/ as a reader types them: one project from `init` to a container, with the lines of the pages.

Registries and the names of images and containers are replaced. Lines that need a cloud or another image are left out.
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
from tests.integration.builds import linked_cache
from tests.integration.docker_registry import docker_registry
from tests.integration.forked_python import write_program
from tests.pages import DOCS, blocks
from tests.validate import validate

pytestmark = [pytest.mark.network, pytest.mark.engine]

# Lines for other machines, for images that are not here, and for programs that the test environment already has.
SKIPPED = re.compile(r"busybox|kubectl|python:3\.13-slim|^pip install|imagetools|linux/arm64|^hatch |^docker load")
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
    """A reader who types the commands of a page in a project's directory."""

    root: Path
    registry: str
    cache: Path
    container: str = field(default_factory=lambda: f"docs-{os.getpid()}")

    @property
    def image(self) -> str:
        return f"{self.container}:1.0"

    def names(self, script: str) -> str:
        """Replace names by those of this test, start containers in the background, and disable terminal prompts."""
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
        """Run lines in a shell, which must succeed; return the output."""
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

    def run_section(self, page: str, heading: str, **variables: str) -> str:
        """Run the commands below a heading of a page, block by block; return their output."""
        output = []
        for block in blocks("console", "sh", page=f"docs/{page}", heading=heading):
            lines = [line for line in block.script().splitlines() if not SKIPPED.search(line)]
            if lines:
                output.append(self.run(self.names("\n".join(lines)), **variables))
        assert output, f"{page} has no commands below {heading!r}"
        return "".join(output)


@pytest.fixture(scope="module")
def ci_cache(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a private cache. With CI=true a build keeps facts in it which later pushes of others would contain."""
    return linked_cache(cache, tmp_path_factory.mktemp("ci") / "cache")


@pytest.fixture
def reader(tmp_path: Path, ci_cache: Path) -> Iterator[Reader]:
    docker = need_docker()
    project = tmp_path / "app"
    write_files(project, FILES)
    with docker_registry(tmp_path / "registry") as server:
        reader = Reader(project, server.host, ci_cache)
        reader.run("git init -q -b main && git add -A")
        try:
            yield reader
        finally:
            subprocess.run([docker, "rm", "--force", reader.container], check=False, capture_output=True)
            tags = [f"{reader.container}:{tag}" for tag in ("1.0", "1.1", "latest")]
            subprocess.run([docker, "rmi", "--force", *tags], check=False, capture_output=True)
            subprocess.run([docker, "volume", "rm", reader.container], check=False, capture_output=True)


def commit(reader: Reader) -> None:
    identity = "-c user.name=A -c user.email=a@example.org"
    reader.run(f"git add -A && git {identity} commit -qm all")


def receipt(reader: Reader, version: str = "1.0") -> dict[str, Any]:
    value: dict[str, Any] = json.loads((reader.root / f"dist/app-{version}.image.json").read_bytes())
    return value


def get_from_container(reader: Reader) -> bytes:
    """Return the response of the reader's container, once it has started."""
    return get(reader.run(f"docker port {reader.container} 8000").split()[0])


def get(address: str) -> bytes:
    """Return the response of a server; retry for 30 seconds."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"http://{address}/healthz", timeout=10) as response:
                return bytes(response.read())
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"nothing answers at {address}")


def test_commands_of_the_pages_in_order(reader: Reader) -> None:
    """One project: quickstart, container, lock, registry, `inspect`, `why` and `diff`."""
    variables = {"HATCH_DOCKER_LOAD": "always", "HATCH_DOCKER_VOLUMES": "/data"}
    output = reader.run_section("quickstart.md", "A project of any other backend", **variables)
    assert "written: pyproject.toml" in output
    assert f"docker run --rm {reader.image}" in output
    validate(read_archive(reader.root / "dist/app-1.0.oci.tar"))

    reader.run_section("deploy.md", "Deploy")
    assert get_from_container(reader) == b"h11"
    assert "/app/__init__.py" in reader.run_section("debugging.md", "Before it runs")
    output = reader.run_section("debugging.md", "While it runs")
    assert "\n200\n" in output
    assert "site-packages/h11/" in output
    reader.run_section("deploy.md", "OpenShift")
    reader.run_section("deploy.md", "Settings in the image")

    reader.run_section("pins.md", "Pins")
    commit(reader)
    reader.run("hatch-docker build")
    digest = receipt(reader)["digest"]
    assert f"yes, {digest}" in reader.run_section("pins.md", "The same digest again")

    reader.run_section("pins.md", "A newer base")
    assert receipt(reader)["digest"] == digest
    assert "hatch-docker.lock: " in reader.run_section("pins.md", "What is outdated")

    output = reader.run_section("pipelines.md", "A plain shell")
    assert f"{reader.registry}/team/app@{digest}" in output
    (delivery,) = receipt(reader)["deliveries"]
    assert delivery["sent"] > 1_000_000, delivery
    reader.run_section("pipelines.md", "A plain shell")
    (delivery,) = receipt(reader)["deliveries"]
    assert not delivery["sent"], delivery

    reader.run("hatch-docker build")
    assert "of it yours" in reader.run_section("inspect.md", "`inspect`")
    assert "requires  h11" in reader.run_section("inspect.md", "`why`")
    check_documented_keys("inspect", reader.run("hatch-docker inspect --files --json"))
    check_documented_keys("why", reader.run("hatch-docker why h11 --json"))
    raise_version(reader)
    reader.run("hatch-docker build")
    assert "app 1.0 -> 1.1" in reader.run_section("inspect.md", "`diff`")
    check_documented_keys("diff", reader.run("hatch-docker diff --json dist/app-1.0.oci.tar dist/app-1.1.oci.tar"))


def check_documented_keys(command: str, output: str) -> None:
    """Check that inspect.md lists every key of a command's JSON."""
    page = (DOCS / "inspect.md").read_text("utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith(f"| `{command}` | `schema`"))
    assert set(json.loads(output)) <= set(re.findall(r"`(\w+)`", row))


def raise_version(reader: Reader) -> None:
    path = reader.root / "pyproject.toml"
    path.write_text(path.read_text().replace('version = "1.0"', 'version = "1.1"'))
    commit(reader)


def test_dockerfile_of_engines_page_builds(reader: Reader) -> None:
    reader.run("hatch-docker init --yes")
    reader.run_section("engines.md", "Write a Dockerfile")
    output = reader.run(f"docker run --rm --entrypoint python {reader.image} -c 'import app; print(app.__file__)'")
    assert output.startswith("/opt/venv/")


def job(heading: str, name: str) -> dict[str, Any]:
    """Return a job of the last YAML block below a heading of pipelines.md."""
    from ruamel.yaml import YAML

    *_, block = blocks("yaml", page="docs/pipelines.md", heading=heading)
    document = YAML(typ="safe").load(block.text)
    found: dict[str, Any] = document.get("jobs", document)[name]
    return found


def test_gitlab_job_of_pipelines_page_runs(reader: Reader, tmp_path: Path) -> None:
    """The checkout contains the cache: no file of the cache is in the image, and the working tree is not dirty."""
    reader.run("hatch-docker init --yes")
    commit(reader)
    open_store(reader.root / ".image-cache")
    reader.run(f"mkdir -p {reader.cache}/v1 && cp -alf {reader.cache}/v1/. .image-cache/v1")
    recipe = job("GitLab", "build-image")
    predefined = {
        "CI_PROJECT_DIR": str(reader.root), "CI_REGISTRY": reader.registry, "CI_REGISTRY_USER": "ci",
        "CI_REGISTRY_IMAGE": f"{reader.registry}/team/app", "CI_REGISTRY_PASSWORD": "of-the-job",
    }  # fmt: skip
    variables = {name: Template(text).substitute(predefined) for name, text in recipe["variables"].items()}
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config"))}
    lines = [line for line in (*recipe["before_script"], *recipe["script"]) if not SKIPPED.search(line)]
    reader.run("\n".join(lines), HATCH_DOCKER_REGISTRIES="", **home, **predefined, **variables)
    credential = credential_for(reader.registry, home)
    assert credential is not None
    assert (credential.username, credential.password) == ("ci", "of-the-job")
    report = recipe["artifacts"]["reports"]["dotenv"]
    assert f"IMAGE_REFERENCE={reader.registry}/team/app@sha256:" in (reader.root / report).read_text()
    assert receipt(reader)["dirty"] == []
    assert (reader.root / ".image-cache/v1/blobs").is_dir()


def test_github_job_of_pipelines_page_runs(reader: Reader, tmp_path: Path) -> None:
    """The step of the build writes the output that the job passes on."""
    reader.run("hatch-docker init --yes")
    commit(reader)
    recipe = job("GitHub", "image")
    (step,) = (step for step in recipe["steps"] if step.get("id") == "image")
    reader.run(step["run"], GITHUB_OUTPUT=str(tmp_path / "outputs"))
    (name,) = re.findall(r"steps\.image\.outputs\.(\w+)", str(recipe["outputs"]))
    assert read_outputs(tmp_path / "outputs")[name].startswith(f"{reader.registry}/team/app@sha256:")


def test_commands_of_signing_page_verify_the_signature(reader: Reader) -> None:
    reader.run("hatch-docker init --yes")
    (block,) = blocks("toml", page="docs/signing.md", heading="Signatures")
    with (reader.root / "pyproject.toml").open("a") as stream:
        stream.write(block.text)
    commit(reader)
    output = reader.run_section("signing.md", "Signatures", COSIGN_PASSWORD="of-the-key")
    assert "The signatures were verified against the specified public key" in output


@pytest.mark.long
def test_pod_of_deploy_page_responds(reader: Reader, tmp_path: Path) -> None:
    """Run with `podman kube play`, which applies the pod's restrictions as kubelet does."""
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
        fields = "{{.HostConfig.ReadonlyRootfs}} {{.Config.User}} {{.EffectiveCaps}}"
        output = reader.run(f"{podman} inspect {reader.container}-pod-app --format '{fields}'")
        assert "true 65532 []" in output
    finally:
        (image,) = (delivery["reference"] for delivery in receipt(reader)["deliveries"])
        reader.run(f"{podman} kube down {tmp_path}/pod.yaml && {podman} rmi --force {image}")


def test_stop_signal_ends_a_program_without_handlers(reader: Reader) -> None:
    """The kernel ignores SIGTERM for process 1 without a handler; Python handles SIGINT. Status 137 would be a kill."""
    reader.run("hatch-docker init --yes")
    reader.run("hatch-docker build", HATCH_DOCKER_LOAD="always", HATCH_DOCKER_STOP_SIGNAL="SIGINT")
    reader.run(f"docker run --detach --name {reader.container} -p 127.0.0.1::8000 {reader.image}")
    assert get_from_container(reader) == b"h11"
    reader.run(f"docker stop --time 120 {reader.container}")
    output = reader.run(f"docker wait {reader.container} && docker logs {reader.container}")
    assert not output.startswith("137")
    assert "KeyboardInterrupt" in output


@pytest.mark.long
def test_images_of_two_machines_are_joined_in_an_index(reader: Reader) -> None:
    """Two images with their own tags are pushed, then one index of both."""
    reader.run("hatch-docker init --yes")
    commit(reader)
    (block,) = blocks("console", page="docs/pipelines.md", heading="arm64")
    *builds, join = reader.names(block.script()).splitlines()
    for line, platform in zip(builds, ("linux/amd64", "linux/arm64"), strict=True):
        reader.run(line, HATCH_DOCKER_PLATFORMS=platform)
    reader.run(join)
    output = reader.run(f"hatch-docker inspect --json {reader.registry}/team/app:1.0 --platform linux/arm64")
    assert [row["platform"] for row in json.loads(output)["platforms"]] == ["linux/amd64", "linux/arm64"]


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
def test_project_of_compiled_page_runs(language: str, reader: Reader) -> None:
    """The page's unchanged pyproject.toml, with code that needs the packages in it."""
    expected, files = COMPILED[language]
    (block,) = blocks("toml", page="docs/compiled.md", heading=language)
    reader.run("rm -r app .git pyproject.toml")
    write_files(reader.root, {**files, "pyproject.toml": block.text})
    reader.run("git init -q -b main")
    commit(reader)
    reader.run("hatch-docker build", HATCH_DOCKER_LOAD="always")
    version = tomllib.loads(block.text)["project"]["version"]
    image = f"{reader.container}:{version}"
    output = reader.run(f"docker run --rm --network none {image} && docker rmi -f {image}")
    assert output.splitlines()[0] == expected
