"""Statements of docs/deploy.md about platforms: ports, signals, certificates, AWS Lambda, OpenShift, bake."""

import http.server
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

if not Path(__file__).parent.parent.parent.joinpath("docs").is_dir():
    pytest.skip("an sdist has no docs", allow_module_level=True)

from tests.conftest import run
from tests.integration.builds import run_command
from tests.pages import blocks
from tests.projects import BUILD_SYSTEM, write_files

pytestmark = [pytest.mark.network, pytest.mark.engine]

NAME = "hatch-docker/where"
APP = """\
import json
import os
import pathlib
import ssl
import sys
import threading
import time

if "SLEEP" in os.environ:  # simulates slow imports
    print("importing", flush=True)
    time.sleep(600)


def main():
    print(json.dumps([sys.argv[1:], pathlib.Path("/proc/1/cmdline").read_bytes().split(b"\\0")[0].decode()]))


def trust():
    import http.server
    import urllib.request

    import requests

    server = http.server.HTTPServer(("localhost", 0), http.server.SimpleHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/tls.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://localhost:{server.server_address[1]}/opt/venv/pyvenv.cfg"
    assert urllib.request.urlopen(url).status == requests.get(url).status_code == 200
    print(len(ssl.create_default_context().get_ca_certs()))


def handler(event, context):
    return {"double": 2 * event["number"], "name": context.function_name}
"""


def new_project(directory: Path, table: str) -> Path:
    text = '[project]\nname = "app"\nversion = "1.0"\ndependencies = ["requests"]\nscripts.app = "app:main"\n'
    text = BUILD_SYSTEM + text
    return write_files(directory, {"pyproject.toml": text + table, "app.py": APP, "company.crt": ""})


@pytest.fixture(scope="module")
def certificate() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def image(
    docker: str, certificate: trustme.CA, tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> Iterator[str]:
    """Build an image with the page's options and a company's CA certificate, with both engines and with bake."""
    (block,) = blocks("toml", page="docs/deploy.md", heading="A port from the platform: Cloud Run")
    options = f'image = "{NAME}"\nca-certificates = ["company.crt"]\nhealthcheck.command = ["app"]\n'
    options += 'healthcheck.start-interval = "1s"\n'
    project = new_project(tmp_path_factory.mktemp("where"), block.text + options)
    certificate.cert_pem.write_to_path(str(project / "company.crt"))
    variables = {"SOURCE_DATE_EPOCH": "1700000000"}
    other = run_command(project, cache, "build", HATCH_DOCKER_ENGINE="buildkit", **variables)
    built = run_command(project, cache, "build", HATCH_DOCKER_LOAD="always", **variables)
    assert built.status == 0, built.output
    assert built.digest == other.digest, other.output
    settings = json.loads(run(docker, "image", "inspect", f"{NAME}:1.0"))[0]["Config"]
    assert settings["Healthcheck"]["StartInterval"] == 1_000_000_000
    assert run_command(project, cache, "dockerfile", HATCH_DOCKER_TAGS="baked", **variables).status == 0
    (block,) = blocks("console", page="docs/deploy.md", heading="docker buildx bake")
    run("sh", "-euc", block.script().partition("\n")[2], cwd=project)  # the first line has run already
    baked = json.loads(run(docker, "image", "inspect", f"{NAME}:baked"))[0]["Config"]
    assert {key: baked[key] for key in ("Entrypoint", "Cmd", "Env", "Healthcheck")} == {
        key: settings[key] for key in ("Entrypoint", "Cmd", "Env", "Healthcheck")
    }
    yield f"{NAME}:baked"
    run(docker, "rmi", "-f", f"{NAME}:1.0", f"{NAME}:latest", f"{NAME}:baked")


RESTRICTED = ("run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL")


@pytest.mark.parametrize(
    ("options", "words"),
    [((), ["--port", "8000"]), (("-e", "PORT=80"), ["--port", "80"]), (("--user", "1000710000:0"), ["--port", "8000"])],
)
def test_port_from_the_platform(options: tuple[str, ...], words: list[str], docker: str, image: str) -> None:
    assert json.loads(run(docker, *RESTRICTED, *options, image)) == [words, "/usr/bin/tini-static"]


def test_sigterm_during_imports_ends_the_container(docker: str, image: str) -> None:
    """Status 143 is SIGTERM; 137 would be SIGKILL after the time limit."""
    name = run(docker, "run", "--detach", "--network=none", "-e", "SLEEP=1", image).strip()
    try:
        while "importing" not in run(docker, "logs", name):
            pass
        run(docker, "stop", "--time", "120", name)
        assert run(docker, "wait", name).strip() == "143"
    finally:
        run(docker, "rm", "--force", name)


def test_ca_certificates_are_added_to_the_public_ones(
    docker: str, image: str, certificate: trustme.CA, tmp_path: Path
) -> None:
    """For Python's ssl, and for requests, which has its own list."""
    issued = certificate.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "tls.pem"))
    (tmp_path / "tls.pem").chmod(0o644)
    mount = f"{tmp_path}/tls.pem:/tls.pem:ro"
    output = run(docker, *RESTRICTED, "-v", mount, "--entrypoint", "python", image, "-c", "import app; app.trust()")
    assert int(output) > 100


class Runtime(http.server.BaseHTTPRequestHandler):
    """The Runtime API of AWS Lambda with a single event."""

    protocol_version = "HTTP/1.1"
    received: list[bytes] = []  # noqa: RUF012

    def do_GET(self) -> None:
        if self.received:
            self.close_connection = True
            return
        event = b'{"number": 4}'
        self.send_response(200)
        for name, value in (
            ("Lambda-Runtime-Aws-Request-Id", "1"), ("Lambda-Runtime-Deadline-Ms", "9999999999999"),
            ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:x:1:function:twice"),
            ("Lambda-Runtime-Trace-Id", "Root=1"), ("Content-Type", "application/json"),
            ("Content-Length", str(len(event))),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(event)

    def do_POST(self) -> None:
        self.received.append(self.path.encode() + b" " + self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_aws_lambda_function(docker: str, tmp_path: Path, cache: Path) -> None:
    """The page's table gives an image without an index, whose function handles an event of the Runtime API."""
    (block,) = blocks("toml", page="docs/deploy.md", heading="AWS Lambda")
    project = write_files(tmp_path, {"pyproject.toml": BUILD_SYSTEM + block.text, "app.py": APP})
    built = run_command(project, cache, "build", "-t", f"{NAME}:lambda", "--load")
    assert built.status == 0, built.output
    built.image()  # fails for an index
    server = http.server.HTTPServer(("127.0.0.1", 0), Runtime)  # the Lambda client needs all of its headers
    address = f"127.0.0.1:{server.server_address[1]}"
    options = "-e", f"AWS_LAMBDA_RUNTIME_API={address}", "-e", "AWS_LAMBDA_FUNCTION_NAME=twice"
    name = run(docker, "run", "--detach", "--network=host", "--read-only", *options, f"{NAME}:lambda").strip()
    try:
        server.timeout = 30
        for _ in range(3):
            if not Runtime.received:
                server.handle_request()
        assert Runtime.received, run(docker, "logs", name)
        assert Runtime.received[0] == b'/2018-06-01/runtime/invocation/1/response {"double": 8, "name": "twice"}'
    finally:
        server.server_close()
        run(docker, "rm", "--force", name)
        run(docker, "rmi", "-f", f"{NAME}:lambda")
