"""Debian's mirrors are found where the user or the host's apt names them, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.bases.debian.apt_config import Mirrors, find_mirrors, parse_fields, read_entries
from hatch_docker.core.errors import BaseImageError
from hatch_docker.plan.model import BasePlan
from tests.fakes.debian_archive import PLAN
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


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sources.list.d/debian.sources": DEB822},
         ("http://mirror.example/debian", "http://security.example/debian-security")),
        ({"sources.list": ONE_LINE}, ("https://mirror.example/debian", "https://mirror.example/debian-security")),
        ({"sources.list": "deb http://m.example/debian stable main\n"},
         ("http://m.example/debian", "http://m.example/debian-security")),
        ({"sources.list": "deb file:/srv/debian trixie main\n"}, ("file:///srv/debian", "file:///srv/debian-security")),
    ],
)  # fmt: skip
def test_hosts_mirrors(tmp_path: Path, files: dict[str, str], expected: tuple[str, str]) -> None:
    """Both forms of sources.list(5) are read; security is what they name, else beside the main archive."""
    found = find_mirrors(PLAN, {}, apt=write_files(tmp_path, files))
    assert (found.main, found.security) == expected
    assert found.check_valid_until


def test_archives_of_others_are_not_debian(tmp_path: Path) -> None:
    """Third parties name their suites after Debian's; the archive with Debian's own keys wins in any order."""
    apt = write_files(tmp_path, {
        "sources.list.d/a.list": "deb https://engine.example/linux/debian trixie stable\n",
        "sources.list.d/b.list": "deb https://database.example/pub/repos trixie main\n",
        "sources.list.d/c.list": "deb file:/usr/share/local ./\ndeb cdrom:[x]/ trixie main\ndeb\n[]\n",
        "sources.list.d/d.sources": "Enabled: no\n" + DEB822.replace("mirror", "disabled").partition("\n\n")[0],
        "sources.list.d/e.sources": DEB822,
        "sources.list.d/f.sources.save": DEB822.replace("mirror.example", "old.example"),
    })  # fmt: skip
    assert find_mirrors(PLAN, {}, apt=apt).main == "http://mirror.example/debian"


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"sources.list": "deb http://archive.example/ubuntu noble main universe\n"},
        {
            "sources.list.d/x.sources": "Types: deb\nURIs: http://a.example/ubuntu\nSuites: noble\nComponents: main\n"
        },
    ],
)
def test_a_host_that_is_not_debian(tmp_path: Path, files: dict[str, str]) -> None:
    """Without a mirror of Debian the error names both ways to give one."""
    with pytest.raises(BaseImageError) as error:
        find_mirrors(PLAN, {}, apt=write_files(tmp_path, files))
    assert "`[tool.hatch-docker.debian] mirror`" in str(error.value)
    assert "HATCH_DOCKER_DEBIAN_MIRROR" in str(error.value)
    assert "\n" not in str(error.value)


def test_order_of_the_users_words(tmp_path: Path) -> None:
    """The option comes before the variable, both before the host's apt; a security mirror is taken with any."""
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
def test_a_mirror_that_is_no_url(tmp_path: Path, mirror: str) -> None:
    """What cannot be a mirror is refused, naming who said it."""
    with pytest.raises(BaseImageError, match=r"HATCH_DOCKER_DEBIAN_MIRROR is .* an http, https or file URL"):
        find_mirrors(PLAN, {"HATCH_DOCKER_DEBIAN_MIRROR": mirror}, apt=tmp_path)


def test_passwords_stay_out_of_sight() -> None:
    """A mirror's password is in no representation of it."""
    mirrors = Mirrors("https://me:secret@mirror.example/debian", "https://me:secret@mirror.example/x", "a test")
    assert "secret" not in repr(mirrors)
    with pytest.raises(BaseImageError) as error:
        find_mirrors(PLAN, {"HATCH_DOCKER_DEBIAN_MIRROR": "ftp://me:secret@mirror.example/debian?secret"})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "files",
    [
        {"apt.conf.d/99x": 'Acquire::Check-Valid-Until "false";\n'},
        {"sources.list": "deb [check-valid-until=no] http://m.example/debian trixie main\n"},
        {"sources.list.d/x.sources": DEB822.replace("Signed-By", "Check-Valid-Until: no\nSigned-By")},
    ],
)
def test_administrators_choice_of_valid_until(tmp_path: Path, files: dict[str, str]) -> None:
    """Where apt is told not to look at Valid-Until (a frozen mirror), we do not either, for its mirror alone."""
    apt = write_files(tmp_path, {"sources.list": "deb http://m.example/debian trixie main\n", **files})
    assert not find_mirrors(PLAN, {}, apt=apt).check_valid_until
    assert find_mirrors(PLAN, {"HATCH_DOCKER_DEBIAN_MIRROR": "http://m.example"}, apt=apt).check_valid_until


@given(st.text())
def test_fields_of_anything(text: str) -> None:
    """No text makes the deb822 reader fail."""
    assert all(name == name.lower() for name in parse_fields(text))


def test_sources_of_garbage(tmp_path: Path) -> None:
    """Bytes that are no text, directories and links to nowhere are passed over."""
    write_files(tmp_path, {"sources.list": "", "sources.list.d/a.list": ""})
    (tmp_path / "sources.list").write_bytes(b"\xff\xfe\0deb\n")
    (tmp_path / "sources.list.d/b.list").mkdir()
    (tmp_path / "sources.list.d/c.sources").symlink_to("nowhere")
    assert read_entries(tmp_path) == []
