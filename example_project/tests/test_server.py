"""Tests of the web service and of the command."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from mandelbrot_tiles import cli
from mandelbrot_tiles.server import TileCache, create_app
from mandelbrot_tiles.tiles import MAX_ZOOM, Tile, parse_tile
from PIL import Image
from starlette.testclient import TestClient


@pytest.fixture
def client() -> TestClient:
    return TestClient(create_app(capacity=4))


def test_page_loads_nothing_from_other_origins(client: TestClient) -> None:
    """No script, style, font or picture."""
    response = client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    page = response.text.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in page
    assert "https://" not in page


def test_page_with_a_known_tag_is_304(client: TestClient) -> None:
    tag = client.get("/").headers["etag"]
    assert client.get("/", headers={"if-none-match": tag}).status_code == 304


def test_tile_is_a_png(client: TestClient) -> None:
    response = client.get("/tiles/3/3/3.png")
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(response.content))
    assert (image.format, image.size, image.mode) == ("PNG", (256, 256), "RGB")


def test_tile_can_be_cached_and_revalidated(client: TestClient) -> None:
    """Conditional requests with the tag get 304; another tile has another tag."""
    response = client.get("/tiles/3/3/3.png")
    tag = response.headers["etag"]
    assert response.headers["cache-control"] == "public, max-age=86400"
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get("/tiles/3/3/3.png", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get("/tiles/3/3/4.png", headers={"if-none-match": tag}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *("3/8/0", "3/0/8", f"{MAX_ZOOM + 1}/0/0", "-1/0/0", "3/-1/0", "3/1.5/0", "a/b/c", "1/+1/0"),
        *("1/\N{ARABIC-INDIC DIGIT ONE}/0", f"1/{'9' * 5000}/0"),
    ],
)
def test_unknown_tile_is_404(client: TestClient, path: str) -> None:
    assert client.get(f"/tiles/{path}.png").status_code == 404
    assert parse_tile(*path.split("/")) is None


def test_first_and_last_tile_of_each_zoom_exist() -> None:
    for z in range(MAX_ZOOM + 1):
        last = 2**z - 1
        assert parse_tile(str(z), "0", "0") == Tile(z, 0, 0)
        assert parse_tile(str(z), str(last), str(last)) == Tile(z, last, last)


def test_cache_removes_the_least_recently_used_tile() -> None:
    cache = TileCache(2)
    one, two, three = (Tile(2, x, 0) for x in range(3))
    cache.put(one, b"1")
    cache.put(two, b"2")
    assert cache.get(one) == b"1"
    cache.put(three, b"3")
    assert (cache.get(one), cache.get(two), cache.get(three)) == (b"1", None, b"3")


def test_health_check_is_not_cached(client: TestClient) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.text, response.headers["cache-control"]) == (200, "ok\n", "no-store")


def test_self_check_renders_a_tile(capsys: pytest.CaptureFixture[str]) -> None:
    """The build of the image runs this command."""
    assert cli.main(["--self-check"]) == 0
    assert "bytes of PNG" in capsys.readouterr().out


def test_command_serves_until_sigterm() -> None:
    """In a new process, which SIGTERM ends within five seconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mandelbrot_tiles", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            assert wait_for(f"http://127.0.0.1:{port}/healthz") == b"ok\n"
            started = time.monotonic()
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(timeout=10) in (0, -signal.SIGTERM)
            assert time.monotonic() - started < 5
        finally:
            process.kill()


def wait_for(url: str) -> bytes:
    """Return the body of the response; retry until the server listens."""
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.read()
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"no response from {url}")
