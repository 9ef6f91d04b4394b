"""Tests of hatch_docker.bases.debian.apt_config: mirrors set by the user or by the host's apt, proxies and logins."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.bases.debian.apt_config import (
    Mirrors,
    find_mirrors,
    parse_fields,
    proxy_of,
    read_entries,
    read_passwords,
    read_settings,
    with_login,
)
from hatch_docker.config.load import load_config
from hatch_docker.core.errors import BaseImageError
from hatch_docker.core.http import client as transport
from hatch_docker.core.http.urls import basic
from hatch_docker.plan.model import BasePlan
from tests.fakes.context import context
from tests.fakes.debian_archive import PLAN
from tests.fakes.registry import FakeRegistry
from tests.projects import write_files

KEYRING = "/usr/share/keyrings/debian-archive-keyring.pgp"


DEB822 = f"""\
# how the host is set up
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: trixie trixie-updates
Components: main
 contrib
Signed-By: {KEYRING}

Types: deb
URIs: http://security.example/debian-security
Suites: trixie-security
Components: main
Signed-By: {KEYRING}
"""
ONE_LINE = """\
# deb http://commented.example/debian trixie main
deb [arch=amd64 signed-by=/etc/apt/keyrings/x.gpg] https://mirror.example/debian bookworm main contrib # all
deb-src https://source.example/debian bookworm main
deb https://mirror.example/debian-security bookworm-security main
"""


@pytest.mark.parametrize(("files", "expected"), [
    ({"sources.list.d/debian.sources": DEB822},
     ("http://mirror.example/debian", "http://security.example/debian-security")),
    ({"sources.list": ONE_LINE}, ("https://mirror.example/debian", "https://mirror.example/debian-security")),
    ({"sources.list": "deb http://m.example/debian stable main\n"},
     ("http://m.example/debian", "http://m.example/debian-security")),
    ({"sources.list": "deb file:/srv/debian trixie main\n"}, ("file:///srv/debian", "file:///srv/debian-security")),
])  # fmt: skip
def test_mirrors_from_both_sources_formats(tmp_path: Path, files: dict[str, str], expected: tuple[str, str]) -> None:
    """Without an entry for -security, its mirror is beside the main archive."""
    found = find_mirrors(PLAN, {}, apt=write_files(tmp_path, files))
    assert (found.main, found.security) == expected
    assert found.check_valid_until


def test_entry_signed_by_debian_archive_keys_is_chosen(tmp_path: Path) -> None:
    """Other archives have suites with the same names as Debian's, and may come first."""
    apt = write_files(tmp_path, {
        "sources.list.d/a.list": "deb https://engine.example/linux/debian trixie stable\n",
        "sources.list.d/b.list": "deb https://database.example/pub/repos trixie main\n",
        "sources.list.d/c.list": "deb file:/usr/share/local ./\ndeb cdrom:[x]/ trixie main\ndeb\n[]\n",
        "sources.list.d/d.sources": "Enabled: no\n" + DEB822.replace("mirror", "disabled").partition("\n\n")[0],
        "sources.list.d/e.sources": DEB822,
        "sources.list.d/f.sources.save": DEB822.replace("mirror.example", "old.example"),
    })  # fmt: skip
    assert find_mirrors(PLAN, {}, apt=apt).main == "http://mirror.example/debian"


@pytest.mark.parametrize("files", [
    {},
    {"sources.list": "deb http://archive.example/ubuntu noble main universe\n"},
    {"sources.list.d/x.sources": "Types: deb\nURIs: http://a.example/ubuntu\nSuites: noble\nComponents: main\n"},
])  # fmt: skip
def test_error_without_mirror_suggests_option_and_variable(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(BaseImageError) as error:
        find_mirrors(PLAN, {}, apt=write_files(tmp_path, files))
    _, *form, last = str(error.value).splitlines()
    table = tomllib.loads("\n".join(form))["tool"]["hatch-docker"]
    assert load_config(table, {}, None).debian.mirror == "https://HOST/debian"
    assert "HATCH_DOCKER_DEBIAN_MIRROR=https://HOST/debian" in last
    assert "`hatch-docker doctor`" in last


def test_precedence_of_option_variable_and_apt(tmp_path: Path) -> None:
    """The option has priority over the variable, the variable over apt. A security mirror combines with each of them.
    """
    apt = write_files(tmp_path, {"sources.list.d/debian.sources": DEB822})
    environ = {"HATCH_DOCKER_DEBIAN_MIRROR": "https://variable.example/debian/"}
    plan = BasePlan("debian", "debian:trixie", "trixie", mirror="https://option.example/debian")
    secured = BasePlan("debian", "debian:trixie", "trixie", security_mirror="https://fixes.example/s")
    assert find_mirrors(plan, environ, apt=apt).main == "https://option.example/debian"
    found = find_mirrors(PLAN, environ, apt=apt)
    assert (found.main, found.security) == (
        "https://variable.example/debian",
        "https://variable.example/debian-security",
    )
    found = find_mirrors(secured, {}, apt=apt)
    assert (found.main, found.security) == ("http://mirror.example/debian", "https://fixes.example/s")
    assert (
        find_mirrors(BasePlan("debian", "", "", mirror="/srv/my debian"), {}, apt=apt).main
        == "file:///srv/my%20debian"
    )


@pytest.mark.parametrize("mirror", ["mirror.example/debian", "ftp://mirror.example", "http://", "debian"])
def test_invalid_mirror_url_is_rejected(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(BaseImageError, match=r"HATCH_DOCKER_DEBIAN_MIRROR is .* an http, https or file URL"):
        find_mirrors(PLAN, {"HATCH_DOCKER_DEBIAN_MIRROR": mirror}, apt=tmp_path)


def test_mirror_passwords_are_not_in_repr_or_errors() -> None:
    mirrors = Mirrors("https://me:secret@mirror.example/debian", "https://me:secret@mirror.example/x", "a test")
    assert "secret" not in repr(mirrors)
    with pytest.raises(BaseImageError) as error:
        find_mirrors(PLAN, {"HATCH_DOCKER_DEBIAN_MIRROR": "ftp://me:secret@mirror.example/debian?secret"})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("files", [
    {"apt.conf.d/99x": 'Acquire::Check-Valid-Until "false";\n'},
    {"sources.list": "deb [check-valid-until=no] http://m.example/debian trixie main\n"},
    {"sources.list.d/x.sources": DEB822.replace("Signed-By", "Check-Valid-Until: no\nSigned-By")},
])  # fmt: skip
def test_valid_until_setting_of_apt_is_used(tmp_path: Path, files: dict[str, str]) -> None:
    """The setting counts only for mirrors from apt's configuration."""
    apt = write_files(tmp_path, {"sources.list": "deb http://m.example/debian trixie main\n", **files})
    assert not find_mirrors(PLAN, {}, apt=apt).check_valid_until
    assert find_mirrors(PLAN, {"HATCH_DOCKER_DEBIAN_MIRROR": "http://m.example"}, apt=apt).check_valid_until


@given(st.text())
def test_parse_fields_accepts_any_text(text: str) -> None:
    assert all(name == name.lower() for name in parse_fields(text))


def test_unreadable_sources_are_skipped(tmp_path: Path) -> None:
    """Binary files, directories and broken links are skipped."""
    write_files(tmp_path, {"sources.list": "", "sources.list.d/a.list": ""})
    (tmp_path / "sources.list").write_bytes(b"\xff\xfe\0deb\n")
    (tmp_path / "sources.list.d/b.list").mkdir()
    (tmp_path / "sources.list.d/c.sources").symlink_to("nowhere")
    assert read_entries(tmp_path) == []


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


def test_apt_conf_syntax(tmp_path: Path) -> None:
    """apt.conf(5): full names and groups, three kinds of comments, the last value of a name counts."""
    found = read_settings(write_files(tmp_path, {"apt.conf.d/01x": CONF, "apt.conf": 'acquire::http::timeout "20";'}))
    assert found["acquire::http::proxy"] == "http://user:s3cret@proxy.example:3128"
    assert found["acquire::http::timeout"] == "20"
    assert "acquire::languages" not in found


@pytest.mark.parametrize(("url", "expected"), [
    ("http://mirror.example/debian", "http://user:s3cret@proxy.example:3128"),
    ("https://mirror.example/debian", "http://other.example:8080/"),
    ("http://direct.example/debian", ""),
])  # fmt: skip
def test_proxy_of_host_replaces_proxy_of_scheme(tmp_path: Path, url: str, expected: str) -> None:
    """DIRECT means no proxy."""
    assert proxy_of(url, read_settings(write_files(tmp_path, {"apt.conf": CONF}))) == expected
    assert proxy_of(url, {}) is None
    # The proxy for http is used for https, too, unless https has its own.
    assert proxy_of("https://m.example/", {"acquire::http::proxy": "http://p.example"}) == "http://p.example"


@pytest.mark.parametrize(("url", "expected"), [
    ("https://mirror.example/debian", "https://me:s3cret@mirror.example/debian"),
    ("http://mirror.example/debian", "http://mirror.example/debian"),
    ("https://mirror.example.org/debian", "https://mirror.example.org/debian"),
    ("https://own:login@mirror.example/debian", "https://own:login@mirror.example/debian"),
    ("http://plain.example/debian", "http://you:p%40ss%2Fword@plain.example/debian"),
    ("http://plain.example/debian-security", "http://plain.example/debian-security"),
])  # fmt: skip
def test_login_is_limited_to_machine_path_and_scheme(tmp_path: Path, url: str, expected: str) -> None:
    """apt_auth.conf(5): without a scheme, an entry is for https only."""
    path = "/debian/" if "plain" in url else "/debian"
    apt = write_files(tmp_path, {"auth.conf.d/x.conf": AUTH.replace("plain.example/debian", f"plain.example{path}")})
    assert with_login(url, apt) == expected
    assert set(read_passwords(apt).values()) == {"s3cret", "p@ss/word"}


def test_requests_use_proxy_and_login_of_apt(tmp_path: Path) -> None:
    """Neither of them is in the repr."""
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


def test_users_mirror_does_not_use_apt_settings(tmp_path: Path) -> None:
    apt = write_files(tmp_path, {"apt.conf": CONF, "auth.conf": AUTH})
    found = find_mirrors(PLAN, {"HATCH_DOCKER_DEBIAN_MIRROR": "https://mirror.example/debian"}, apt=apt)
    assert (found.apt, found.main) == ({}, "https://mirror.example/debian")


@given(st.text(st.sampled_from('ab:"{};/*# \n\\'), max_size=60))
def test_read_settings_accepts_any_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    apt = write_files(tmp_path_factory.mktemp("apt"), {"apt.conf": text, "auth.conf": f"machine {text}"})
    assert all(name == name.lower() for name in read_settings(apt))
    with_login("https://a/b", apt)
