"""What the host's apt is told of proxies and logins holds for us, where its mirrors do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.bases.debian.apt_config import find_mirrors, proxy_of, read_passwords, read_settings, with_login
from hatch_docker.core.http import client as transport
from hatch_docker.core.http.urls import basic
from tests.fakes.context import context
from tests.fakes.debian_archive import PLAN
from tests.fakes.registry import FakeRegistry
from tests.projects import write_files

CONF = """\
// how the host reaches out
Acquire::http::Proxy "http://user:s3cret@proxy.example:3128"; # for all
Acquire {
  /* but
     these */
  HTTP { Proxy { "ignored"; }; Proxy::direct.example "DIRECT"; Timeout "10"; };
  https { Proxy "http://other.example:8080/"; };
  Languages { "none"; };
};
"""
AUTH = """\
# logins
machine mirror.example login me password s3cret
machine http://plain.example/debian
  login you password p@ss/word
"""


def test_settings(tmp_path: Path) -> None:
    """apt.conf(5): one-line names and groups, comments of three sorts, the last value of a name counts."""
    found = read_settings(write_files(tmp_path, {"apt.conf.d/01x": CONF, "apt.conf": 'acquire::http::timeout "20";'}))
    assert found["acquire::http::proxy"] == "http://user:s3cret@proxy.example:3128"
    assert found["acquire::http::timeout"] == "20"
    assert "acquire::languages" not in found


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://mirror.example/debian", "http://user:s3cret@proxy.example:3128"),
        ("https://mirror.example/debian", "http://other.example:8080/"),
        ("http://direct.example/debian", ""),
    ],
)
def test_proxies(tmp_path: Path, url: str, expected: str) -> None:
    """A host's own proxy goes over that of its scheme; DIRECT is none."""
    assert proxy_of(url, read_settings(write_files(tmp_path, {"apt.conf": CONF}))) == expected
    assert proxy_of(url, {}) is None


def test_https_by_the_proxy_of_http() -> None:
    """What is said of http holds for https, where that has nothing of its own."""
    assert proxy_of("https://m.example/", {"acquire::http::proxy": "http://p.example"}) == "http://p.example"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://mirror.example/debian", "https://me:s3cret@mirror.example/debian"),
        ("http://mirror.example/debian", "http://mirror.example/debian"),
        ("https://mirror.example.org/debian", "https://mirror.example.org/debian"),
        ("https://own:login@mirror.example/debian", "https://own:login@mirror.example/debian"),
        ("http://plain.example/debian", "http://you:p%40ss%2Fword@plain.example/debian"),
        ("http://plain.example/debian-security", "http://plain.example/debian-security"),
    ],
)
def test_logins(tmp_path: Path, url: str, expected: str) -> None:
    """apt_auth.conf(5): a login goes to its own machine, below its path, and over https unless it says otherwise."""
    path = "/debian/" if "plain" in url else "/debian"
    apt = write_files(tmp_path, {"auth.conf.d/x.conf": AUTH.replace("plain.example/debian", f"plain.example{path}")})
    assert with_login(url, apt) == expected
    assert set(read_passwords(apt).values()) == {"s3cret", "p@ss/word"}


def test_a_mirror_behind_apts_proxy(tmp_path: Path) -> None:
    """The host's mirror is asked through apt's proxy, with apt's login, neither of which is shown."""
    with FakeRegistry() as server:
        apt = write_files(tmp_path / "apt", {
            "sources.list": "deb http://mirror.example/v2 trixie main\n",
            "apt.conf.d/proxy": f'Acquire::http::Proxy "http://user:s3cret@{server.host}/";\n',
            "auth.conf": "machine http://mirror.example login me password hidden\n",
        })  # fmt: skip
        mirrors = find_mirrors(PLAN, {}, apt=apt)
        ctx = context(tmp_path / "store")
        transport.read_document(mirrors.client(ctx), f"{mirrors.main}/", limit=10)
        (request,) = server.requests
    assert request.path == "http://mirror.example/v2/"
    assert request.headers["proxy-authorization"] == basic("user", "s3cret")
    assert request.headers["authorization"] == basic("me", "hidden")
    assert not any(secret in repr(mirrors) for secret in ("s3cret", "hidden"))


def test_another_mirror_is_not_apts(tmp_path: Path) -> None:
    """Whoever names a mirror of their own has the proxies of their environment, not the host's."""
    apt = write_files(tmp_path, {"apt.conf": CONF, "auth.conf": AUTH})
    found = find_mirrors(PLAN, {"HATCH_DOCKER_DEBIAN_MIRROR": "https://mirror.example/debian"}, apt=apt)
    assert (found.apt, found.main) == ({}, "https://mirror.example/debian")


@given(st.text(st.sampled_from('ab:"{};/*# \n\\'), max_size=60))
def test_settings_of_anything(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """No text makes the reader fail."""
    apt = write_files(tmp_path_factory.mktemp("apt"), {"apt.conf": text, "auth.conf": f"machine {text}"})
    assert all(name == name.lower() for name in read_settings(apt))
    with_login("https://a/b", apt)
