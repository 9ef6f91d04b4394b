"""What the web service and its command promise."""

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


def test_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    """One file: no script, style, font or picture of another origin."""
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = answer.text.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in page
    assert "https://" not in page


def test_page_is_sent_once(client: TestClient) -> None:
    """The browser's copy is asked about and kept."""
    tag = client.get("/").headers["etag"]
    assert client.get("/", headers={"if-none-match": tag}).status_code == 304


def test_tile_is_a_png(client: TestClient) -> None:
    """256 x 256 pixels in colour."""
    answer = client.get("/tiles/3/3/3.png")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(answer.content))
    assert (image.format, image.size, image.mode) == ("PNG", (256, 256), "RGB")


def test_tile_may_be_cached(client: TestClient) -> None:
    """A cache may keep it, and asks with its tag when in doubt; another tile has another tag."""
    answer = client.get("/tiles/3/3/3.png")
    tag = answer.headers["etag"]
    assert answer.headers["cache-control"] == "public, max-age=86400"
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
def test_no_such_tile(client: TestClient, path: str) -> None:
    """Whatever else is asked for is not found; nothing crashes."""
    assert client.get(f"/tiles/{path}.png").status_code == 404
    assert parse_tile(*path.split("/")) is None


def test_every_corner_of_the_world_exists() -> None:
    """The first and the last tile of each zoom."""
    for z in range(MAX_ZOOM + 1):
        last = 2**z - 1
        assert parse_tile(str(z), "0", "0") == Tile(z, 0, 0)
        assert parse_tile(str(z), str(last), str(last)) == Tile(z, last, last)


def test_cache_drops_what_was_used_least_recently() -> None:
    """It never grows beyond its capacity."""
    cache = TileCache(2)
    one, two, three = (Tile(2, x, 0) for x in range(3))
    cache.put(one, b"1")
    cache.put(two, b"2")
    assert cache.get(one) == b"1"
    cache.put(three, b"3")
    assert (cache.get(one), cache.get(two), cache.get(three)) == (b"1", None, b"3")


def test_health(client: TestClient) -> None:
    """Says that it is there, and is never cached."""
    answer = client.get("/healthz")
    assert (answer.status_code, answer.text, answer.headers["cache-control"]) == (200, "ok\n", "no-store")


def test_self_check_makes_a_tile(capsys: pytest.CaptureFixture[str]) -> None:
    """The command that checks an image."""
    assert cli.main(["--self-check"]) == 0
    assert "bytes of PNG" in capsys.readouterr().out


def test_command_serves_until_it_is_told_to_stop() -> None:
    """A process of its own: answers, and SIGTERM ends it soon."""
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
    """The answer, as soon as somebody listens."""
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read()
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"nobody answers at {url}")
