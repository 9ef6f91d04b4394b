"""Daemons of Docker and Podman: finding them, loading only missing layers, and errors."""

import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
import trustme

from hatch_docker.core.errors import DaemonError
from hatch_docker.oci.archive import write_archive
from hatch_docker.oci.daemon import load, open_client
from hatch_docker.oci.engine_api import Daemon, ssh_command
from hatch_docker.oci.find_daemon import find_daemons
from hatch_docker.oci.make_image import Settings, build_image, make_index, scratch
from hatch_docker.oci.model import History, Image, Platform
from hatch_docker.oci.serve import serve_image
from tests.conftest import need, need_docker, run
from tests.fakes.buildkitd import bridge, buildkitd
from tests.fakes.http_server import running
from tests.fakes.images import AMD64, layer

NAME = "registry.example/hatch-docker-tests/daemon"
NAMES = (f"{NAME}:1", f"{NAME}:latest")
BASE = layer("base", os.urandom(8) + bytes(range(256)) * 4000, compression="none")


def image(code: bytes, platform: Platform = AMD64) -> Image:
    layers = [(BASE, History("the base")), (layer("code", code), History("COPY code"))]
    return build_image(scratch(platform), layers, Settings(("/code",)), 1_700_000_000, {})


def save_archive(item: Any, path: Path) -> Path:
    with path.open("wb") as out:
        write_archive(item, NAMES, out, host=AMD64)
    return path


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A short path: the path of a Unix socket has at most 107 bytes."""
    path = Path("/tmp") / f"hd-{os.getpid()}-{time.monotonic_ns()}"
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():  # rootless podman has written files of other user IDs, which only it can remove
        subprocess.run(["podman", "unshare", "rm", "-rf", path], capture_output=True, check=True)


class Fake(BaseHTTPRequestHandler):
    """A daemon's API, with images by name. `refuse`: errors of the next loads. `grant`: images after a load."""

    images: dict[str, dict[str, Any]]
    loads: list[int]
    refuse: list[str]
    grant: dict[str, dict[str, Any]]
    driver = "overlay2"
    no_pull: str | None = None

    def log_message(self, *args: object) -> None:
        pass

    def address_string(self) -> str:
        return "unix"

    def _say(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.endswith("/version"):
            self._say(200, {"ApiVersion": "1.45", "Os": "linux", "Arch": "amd64"})
        elif path.endswith("/info"):
            self._say(200, {"DriverStatus": [["driver-type", self.driver]]})
        elif path.endswith("/images/json"):
            self._say(200, [{"Id": found["Id"]} for found in self.images.values()])
        else:
            name = path.split("/images/")[1].removesuffix("/json").replace("%3A", ":").replace("%2F", "/")
            found = self.images.get(name) or {i["Id"]: i for i in self.images.values()}.get(name)
            self._say(200, found) if found else self._say(404, {"message": f"No such image: {name}"})

    def do_POST(self) -> None:
        if "/images/load" in self.path:
            size = int(self.headers["Content-Length"])
            self.rfile.read(size)
            self.loads.append(size)
            if self.refuse:
                self._say(200, {"error": self.refuse.pop()})
            else:
                self.images.update(self.grant)
                self._say(200, {"stream": "Loaded"})
        else:
            self._say(201, {"error": self.no_pull} if self.no_pull and "/images/" in self.path else {})


@pytest.fixture
def fake(home: Path) -> Iterator[type[Fake]]:
    class Server(ThreadingMixIn, UnixStreamServer):
        daemon_threads = False

    class Handler(Fake):
        images, loads, refuse, grant = {}, [], [], {}

    with running(Server(str(home / "sock"), Handler)):
        yield Handler


def inspection(item: Image) -> dict[str, Any]:
    config = item.manifest_json["config"]["digest"]
    return {"Id": config, "RootFS": {"Layers": [layer.diff_id for layer in item.layers]}}


def test_no_daemon_accepts_a_connection(home: Path) -> None:
    """The `docker` library is not imported."""
    (home / "dead").touch()
    environ = {"DOCKER_HOST": f"unix://{home}/dead", "XDG_RUNTIME_DIR": str(home), "PATH": str(home)}
    environ["CONTAINER_HOST"] = f"unix://{home}/missing"
    assert not [daemon for daemon in find_daemons(environ) if daemon.kind == "docker"]
    code = "import sys, hatch_docker.oci.find_daemon as d; d.find_daemons({}); print('docker' in sys.modules)"
    assert run(sys.executable, "-c", code).strip() == "False"


def test_find_daemons_by_variables_contexts_and_sockets(home: Path) -> None:
    """DOCKER_HOST, the current context, Podman's socket; the `podman` program if no socket accepts a connection."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home / "sock"))
        server.listen()
        url = f"unix://{home}/sock"
        assert Daemon("docker", url) in find_daemons({"DOCKER_HOST": url})
        docker = home / ".docker"
        meta = docker / "contexts/meta" / hashlib.sha256(b"mine").hexdigest() / "meta.json"
        meta.parent.mkdir(parents=True)
        meta.write_text(json.dumps({"Endpoints": {"docker": {"Host": url}}}))
        (docker / "config.json").write_text('{"currentContext": "mine"}')
        assert find_daemons({"HOME": str(home)})[0] == Daemon("docker", url)
        assert find_daemons({"DOCKER_CONFIG": str(docker)})[0] == Daemon("docker", url)
        assert Daemon("docker", url) not in find_daemons({"HOME": str(home), "DOCKER_CONTEXT": "default"})
        dead = {"DOCKER_HOST": "tcp://127.0.0.1:1", "CONTAINER_HOST": url, "PATH": str(home)}
        assert find_daemons(dead) == (Daemon("podman", url),)
    assert find_daemons({"DOCKER_HOST": "ssh://user@host"})[0].url == "ssh://user@host"
    assert not [found for found in find_daemons({"DOCKER_HOST": "nonsense"}) if found.kind == "docker"]


@pytest.mark.parametrize(("kind", "url", "command"), [
    ("docker", "ssh://host", "-- host docker"),
    ("docker", "ssh://Me%2Bus@Box-1:2222/", "-l Me+us -p 2222 -- Box-1 docker"),
    ("docker", "ssh://me@[::1]:22/run/a b.sock", "-l me -p 22 -- ::1 docker --host 'unix:///run/a b.sock'"),
    ("podman", "ssh://core@host/run/podman.sock", "-l core -- host podman --url unix:///run/podman.sock"),
])  # fmt: skip
def test_ssh_command_is_that_of_dockers_cli(kind: str, url: str, command: str) -> None:
    """User, port and host name are passed unchanged: the name may be an alias in ~/.ssh/config."""
    *lines, system, dial = ssh_command(Daemon(kind, url))
    at = lines.index("-o")
    assert lines[at:at + 3] == ["-o", "ConnectTimeout=30", "-T"]
    assert " ".join(["ssh", command, "system dial-stdio"]) == " ".join([*lines[:at], *lines[at + 3:], system, dial])


@pytest.mark.parametrize("url", [
    "ssh://", "ssh://-oProxyCommand=x", "ssh://me@-oProxyCommand=x", "ssh://-x@host", "ssh://me:secret@host",
    "ssh://host:port", "ssh://host?a=b", "ssh://[host", "ssh://host#secret",
])  # fmt: skip
def test_invalid_ssh_address_is_rejected(url: str) -> None:
    """A password, too: every user could read it in the command line. The error does not show it."""
    with pytest.raises(DaemonError, match="is not the address of a daemon; write ssh://user@host") as error:
        ssh_command(Daemon("docker", url))
    assert "secret" not in str(error.value)


def test_error_for_failed_or_missing_ssh_says_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("ssh")
    with pytest.raises(DaemonError, match=r"^cannot talk to Docker at ssh://127.0.0.1:1: .*Connection refused; chec"), \
            open_client(Daemon("docker", "ssh://user@127.0.0.1:1")) as client:
        client.info()
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(DaemonError, match=r"Docker at ssh://host: cannot run ssh: No such.*; install OpenSSH"), \
            open_client(Daemon("docker", "ssh://user@host")) as client:
        client.info()


def test_load_over_ssh(
    fake: type[Fake], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake `ssh` connects to a local socket. Only few other images are compared, because requests are slow."""
    code = (
        "import os, socket, threading\n"
        f"s = socket.socket(socket.AF_UNIX); s.connect({str(home / 'sock')!r})\n"
        "def up():\n while data := os.read(0, 65536): s.sendall(data)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := s.recv(65536): os.write(1, data)\n"
        "os._exit(0)\n"
    )
    ssh = home / "ssh"
    ssh.write_text(f"#!{sys.executable}\n{code}")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    new = image(b"two")
    fake.images = {f"other.example/{number}:1": {"Id": f"sha256:{number}"} for number in range(9)}
    fake.images["other.example/old:1"] = inspection(image(b"one"))
    fake.grant = dict.fromkeys(NAMES, inspection(new))
    path = home / "a.tar"
    done = load(Daemon("docker", "ssh://user@host"), new, NAMES, lambda: save_archive(new, path), host=AMD64, log=print)
    assert fake.loads == [done.sent] == [path.stat().st_size]


def test_existing_image_is_not_sent(fake: type[Fake], home: Path) -> None:
    item = image(b"one")
    fake.images = dict.fromkeys(NAMES, inspection(item))
    daemon = Daemon("docker", f"unix://{home}/sock")
    done = load(daemon, item, NAMES, home / "none", host=AMD64, log=print)
    assert (done.sent, done.image_id, done.references) == (0, inspection(item)["Id"], NAMES)
    assert fake.loads == []


def test_existing_image_gets_missing_tags(fake: type[Fake], home: Path) -> None:
    fake.images = {NAMES[0]: inspection(image(b"one"))}
    done = load(Daemon("docker", f"unix://{home}/sock"), image(b"one"), NAMES, home / "none", host=AMD64, log=print)
    assert (done.sent, fake.loads) == (0, [])


@pytest.mark.parametrize("name", [NAMES[0], "other.example/image:1"])
def test_only_new_layers_are_sent(name: str, fake: type[Fake], home: Path) -> None:
    """The daemon has the base from the last build, or from another image."""
    new = image(b"two")
    fake.images = {name: inspection(image(b"one"))}
    fake.grant = dict.fromkeys(NAMES, inspection(new))
    archive = save_archive(new, home / "a.tar")
    done = load(Daemon("docker", f"unix://{home}/sock"), new, NAMES, archive, host=AMD64, log=print)
    assert fake.loads == [done.sent]
    assert done.sent < 20_000 < archive.stat().st_size


def test_whole_image_is_sent_if_a_partial_load_fails(fake: type[Fake], home: Path) -> None:
    """Docker does not document partial loads. The log has the reason for the second load."""
    new = image(b"two")
    fake.images = {NAMES[0]: inspection(image(b"one"))}
    fake.grant = dict.fromkeys(NAMES, inspection(new))
    fake.refuse = ["no such layer file"]
    lines: list[str] = []
    archive = save_archive(new, home / "a.tar")
    daemon = Daemon("docker", f"unix://{home}/sock")
    done = load(daemon, new, NAMES, archive, host=AMD64, log=lines.append)
    assert done.sent == archive.stat().st_size
    assert len(fake.loads) == 2
    assert "no such layer file" in lines[0]


@pytest.mark.parametrize(("kind", "driver"), [("podman", "overlay2"), ("docker", "io.containerd.snapshotter.v1")])
@pytest.mark.parametrize("refused", [None, "connection refused"])
def test_containerd_and_podman_load_all_if_a_pull_fails(
    refused: str | None, kind: str, driver: str, fake: type[Fake], home: Path
) -> None:
    """They need every blob. The pull fails, or does not load the image."""
    new, lines = image(b"two"), list[str]()
    archive = save_archive(new, home / "a.tar")
    fake.images, fake.driver, fake.no_pull = {NAMES[0]: inspection(image(b"one"))}, driver, refused
    fake.grant = dict.fromkeys(NAMES, inspection(new))
    done = load(Daemon(kind, f"unix://{home}/sock"), new, NAMES, archive, host=AMD64, log=lines.append)
    assert done.sent == archive.stat().st_size
    said = f"pulling only the new layers failed (the daemon refused the image: {refused}): loading all of them"
    assert lines == ([said] if refused else [])


def test_served_image_needs_its_password() -> None:
    """By plain HTTP; a TLS handshake fails. Only blobs and manifest of the image are served."""
    item = image(b"one")
    with serve_image(item) as served:
        host, _, tag = served.reference.partition("/")[0], *served.reference.rpartition(":")[1:]
        top = f"http://{host}/v2/hatch-docker"

        def get(path: str, login: bytes = served.login, method: str = "GET") -> tuple[int, bytes]:
            request = Request(f"{top}{path}", headers={"Authorization": f"Basic {login.decode()}"}, method=method)
            try:
                with urlopen(request) as answer:
                    return answer.status, answer.read()
            except HTTPError as error:
                return error.code, b""

        assert get(f"/manifests/{tag}") == get(f"/manifests/{item.digest}") == (200, item.manifest)
        for part in item.layers:
            with part.open() as stream:
                assert get(f"/blobs/{part.descriptor.digest}") == (200, stream.read())
        assert get(f"/manifests/{tag}", method="HEAD") == (200, b"")
        assert get(f"/manifests/{tag}", b"wrong") == (401, b"")
        assert get("/blobs/sha256:00") == get("/../etc/passwd") == (404, b"")
        with pytest.raises(URLError, match=r"record layer|WRONG_VERSION"), urlopen(f"https://{host}/v2/"):
            pass
        assert served.sent > item.layers[0].descriptor.size
    with pytest.raises(URLError):
        get(f"/manifests/{tag}")


def test_error_of_a_daemon_is_one_line(fake: type[Fake], home: Path) -> None:
    new = image(b"two")
    archive = save_archive(new, home / "a.tar")
    fake.refuse = ["no space left on device"]
    daemon = Daemon("docker", f"unix://{home}/sock")
    with pytest.raises(DaemonError, match="no space left"):
        load(daemon, new, NAMES, archive, host=AMD64, log=print)
    with pytest.raises(DaemonError, match="does not have the image"):
        load(daemon, new, NAMES, archive, host=AMD64, log=print)
    for url in (f"unix://{home}/gone", "tcp://127.0.0.1:1", "nonsense://x"):
        with pytest.raises(DaemonError) as error:
            load(Daemon("docker", url), new, NAMES, archive, host=AMD64, log=print)
        assert "\n" not in str(error.value)


@pytest.fixture
def docker() -> Iterator[Daemon]:
    program = need_docker()
    found = [daemon for daemon in find_daemons(os.environ) if daemon.kind == "docker"]
    subprocess.run([program, "rmi", "-f", *NAMES], capture_output=True, check=False)
    yield found[0]
    subprocess.run([program, "rmi", "-f", *NAMES], capture_output=True, check=False)


@pytest.mark.engine
def test_docker_loads_only_new_layers(docker: Daemon, tmp_path: Path) -> None:
    """With a real daemon: the whole first image, the new layer of the second, and nothing for the same image."""
    one, two = image(b"one"), image(b"two")
    first = load(docker, one, NAMES, save_archive(one, tmp_path / "1"), host=AMD64, log=print)
    second = load(docker, two, NAMES, save_archive(two, tmp_path / "2"), host=AMD64, log=print)
    again = load(docker, two, NAMES, tmp_path / "2", host=AMD64, log=print)
    back = load(docker, one, NAMES, tmp_path / "missing", host=AMD64, log=print)
    assert first.sent > 1_000_000 > 20_000 > second.sent > 0
    assert (again.sent, again.image_id) == (0, second.image_id)
    assert (back.sent, back.image_id) == (0, first.image_id)
    for name in NAMES:
        assert run("docker", "image", "inspect", name, "--format", "{{.Id}}").strip() == first.image_id
    index = make_index([one, image(b"arm", Platform("linux", "arm64"))], {})
    loaded = load(docker, index, NAMES, save_archive(index, tmp_path / "3"), host=AMD64, log=print)
    assert loaded.image_id in (first.image_id, index.digest)
    run("docker", "rmi", "-f", second.image_id)


@pytest.mark.engine
@pytest.mark.parametrize("way", ["socket", "program"])
def test_podman_loads_the_image(way: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a real Podman, through its socket and through its program."""
    program = need("podman")
    storage = home / "storage.conf"
    places = f'graphroot = "{home}/graph"\nrootless_storage_path = "{home}/graph"\nrunroot = "{home}/run"\n'
    storage.write_text(f'[storage]\ndriver = "vfs"\n{places}')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    monkeypatch.setenv("HOME", str(home))
    one = image(b"one")
    archive = save_archive(one, home / "1.tar")
    if way == "program":
        daemon = Daemon("podman", "")
        assert load(daemon, one, NAMES, archive, host=AMD64, log=print).sent > 0
        assert load(daemon, one, NAMES, archive, host=AMD64, log=print).sent == 0
        check_partial_load(daemon, home)
        return
    with subprocess.Popen([program, "system", "service", "--time=60", f"unix://{home}/podman.sock"],
                          stderr=subprocess.DEVNULL) as service:  # fmt: skip
        try:
            daemon = Daemon("podman", f"unix://{home}/podman.sock")
            deadline = time.monotonic() + 20
            environ = {"CONTAINER_HOST": daemon.url, "DOCKER_HOST": "unix:///missing"}
            while daemon not in find_daemons(environ) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert load(daemon, one, NAMES, archive, host=AMD64, log=print).sent > 1_000_000
            assert load(daemon, one, NAMES, archive, host=AMD64, log=print).sent == 0
            check_partial_load(daemon, home)
        finally:
            service.terminate()


def check_partial_load(daemon: Daemon, home: Path) -> None:
    """Load an image into a daemon that has its base. Check the bytes sent, the image's names, and a saved archive."""
    two = image(b"two")
    done = load(daemon, two, NAMES, home / "missing.tar", host=AMD64, log=print)
    assert 0 < done.sent < 20_000
    assert done.image_id in (two.digest, inspection(two)["Id"])
    program = ["docker", f"--host={daemon.url}"] if daemon.kind == "docker" else ["podman"]
    assert sorted(json.loads(run(*program, "image", "inspect", "--format", "{{json .RepoTags}}", NAMES[0]))) == [*NAMES]
    run(*program, "save", "--output", home / "saved.tar", NAMES[0])
    assert (home / "saved.tar").stat().st_size > 1_000_000  # the base is not compressed


@pytest.mark.engine
def test_docker_with_containerd_loads_only_new_layers(home: Path) -> None:
    """With a real daemon that is started with containerd's image store."""
    need("dockerd")
    with bridge() as network, buildkitd(home, [], network) as (_, address):
        daemon, one = Daemon("docker", address), image(b"one")
        assert load(daemon, one, NAMES, home / "missing.tar", host=AMD64, log=print).sent > 1_000_000
        check_partial_load(daemon, home)
        index = make_index([image(b"three"), image(b"arm", Platform("linux", "arm64"))], {})
        archive = save_archive(index, home / "3")
        assert load(daemon, index, NAMES, archive, host=AMD64, log=print).sent == archive.stat().st_size


def test_idle_connection_does_not_block_the_end_of_serving() -> None:
    """Any user of the machine can open a connection while an image is served."""
    with serve_image(image(b"one")) as served:
        port = int(served.reference.partition("/")[0].rpartition(":")[2])
        idle = socket.create_connection(("127.0.0.1", port), timeout=30)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as active:  # accepted after the idle one
            active.sendall(b"GET /v2/ HTTP/1.1\r\n\r\n")
            assert active.recv(12) == b"HTTP/1.1 401"
    with idle:
        assert idle.recv(1) == b""


def test_load_into_a_hanging_daemon_times_out(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts connections and never responds."""
    monkeypatch.setattr("hatch_docker.oci.engine_api.RESPONSE_TIMEOUT", 0.1)
    path = home / "d.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(DaemonError, match=f"cannot talk to Docker at {path}: timed out"):
            load(Daemon("docker", f"unix://{path}"), image(b"one"), NAMES, home / "none", host=AMD64, log=print)


@pytest.mark.parametrize(("before", "most"), [(b"one", 0), (b"two", 20_000)])
def test_load_does_not_import_the_docker_library(before: bytes, most: int, fake: type[Fake], home: Path) -> None:
    """Importing it would take longer than an unchanged build."""
    item = image(b"one")
    fake.images = dict.fromkeys(NAMES, inspection(image(before)))
    fake.grant = dict.fromkeys(NAMES, inspection(item))
    code = (
        "import pathlib, sys\n"
        "from hatch_docker.oci.archive import read_archive\n"
        "from hatch_docker.oci.daemon import load\n"
        "from hatch_docker.oci.engine_api import Daemon\n"
        "from hatch_docker.oci.model import Platform\n"
        "archive, url, *names = sys.argv[1:]\n"
        "item = read_archive(pathlib.Path(archive))\n"
        "loaded = load(Daemon('docker', url), item, names, archive, host=Platform('linux', 'amd64'), log=print)\n"
        "print(loaded.sent, 'docker' in sys.modules, 'requests' in sys.modules)"
    )
    arguments = [str(save_archive(item, home / "a.tar")), f"unix://{home}/sock", *NAMES]
    sent, *imported = run(sys.executable, "-c", code, *arguments).split()
    assert imported == ["False", "False"]
    assert min(most, 1) <= int(sent) <= most
    assert sum(fake.loads) == int(sent)


def test_daemon_with_tls_needs_a_client_certificate(fake: type[Fake], home: Path) -> None:
    """From the directory in DOCKER_CERT_PATH or a context. The error for a wrong certificate is one line."""
    authority, item, archive = trustme.CA(), image(b"one"), home / "a.tar"
    fake.images = dict.fromkeys(NAMES, inspection(item))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    for name, issuer in (("right", authority), ("wrong", trustme.CA())):
        (home / name).mkdir()
        certificate = issuer.issue_cert("me@host")
        certificate.private_key_pem.write_to_path(home / name / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(home / name / "cert.pem")
        authority.cert_pem.write_to_path(home / name / "ca.pem")
    server = ThreadingHTTPServer(("127.0.0.1", 0), fake)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"tcp://127.0.0.1:{server.server_port}"
    with running(server):
        assert load(Daemon("docker", url, home / "right"), item, NAMES, archive, host=AMD64, log=print).sent == 0
        with pytest.raises(DaemonError, match=r"^cannot talk to Docker at tcp://127\.0\.0\.1:.*$"):
            load(Daemon("docker", url, home / "wrong"), item, NAMES, archive, host=AMD64, log=print)
