"""Tests of hatch_docker.bases.debian.archive and suite: only signed data is used; cached data needs no mirror."""

import hashlib
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.bases.debian import base_cache
from hatch_docker.bases.debian.archive import KEYRING, RELEASE_LIMIT, read_package_index, read_release, verify
from hatch_docker.core.errors import BaseImageError, HatchDockerError, RegistryError
from tests.conftest import need
from tests.fakes.context import context
from tests.fakes.debian_archive import FakeArchive, fetch, serving, suite_of


def test_verify_returns_signed_text(fake: FakeArchive) -> None:
    signed = fake.sign(b"Origin: Debian\n- dash\n")
    assert verify(signed, fake.keyring.read_bytes(), "x").strip() == b"Origin: Debian\n- dash"


@pytest.mark.parametrize("kind", ["altered", "another key", "unsigned", "empty", "cut", "garbage"])
def test_invalid_signatures_are_rejected(fake: FakeArchive, kind: str) -> None:
    """The error is one line with the file and a setting to change."""
    signed = fake.sign(b"Origin: Debian\nSuite: stable\n")
    bad = {
        "altered": signed.replace(b"stable", b"stabel"), "another key": signed, "unsigned": b"Origin: Debian\n",
        "empty": b"", "cut": signed[:-200], "garbage": bytes(range(256)) * 4,
    }[kind]  # fmt: skip
    keys = KEYRING.read_bytes() if kind == "another key" else fake.keyring.read_bytes()
    with pytest.raises(BaseImageError, match="the InRelease is not signed by Debian's archive keys") as error:
        verify(bad, keys, "the InRelease")
    assert "\n" not in str(error.value)
    assert "HATCH_DOCKER_DEBIAN_MIRROR" in str(error.value)


VERIFY_PROGRAM = """
import sys
from pathlib import Path
from hatch_docker.bases.debian.archive import verify
verify(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]).read_bytes(), "the InRelease")
"""


def test_clock_after_2106_is_reported_as_error(fake: FakeArchive) -> None:
    """OpenPGP cannot represent later times, and the library panics."""
    signed = fake.root / "signed"
    signed.parent.mkdir(exist_ok=True)
    signed.write_bytes(fake.sign(b"Origin: Debian\n"))
    done = subprocess.run(
        [need("faketime"), "2106-02-09 00:00:00", sys.executable, "-c", VERIFY_PROGRAM, signed, fake.keyring],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "BaseImageError: the InRelease is not signed by Debian's archive keys" in done.stderr


def test_bundled_keyring_has_keys_of_bookworm_and_trixie() -> None:
    import pysequoia

    keys = pysequoia.Cert.split_bytes(KEYRING.read_bytes())
    names = " ".join(str(user) for key in keys for user in key.user_ids)
    assert "12/bookworm" in names
    assert "13/trixie" in names


RELEASE = f"""\
Codename: trixie
Suite: stable
Acquire-By-Hash: yes
SHA256:
 {"a" * 64} 12 main/binary-amd64/Packages.xz
"""
EXPIRES = "Valid-Until: Sat, 15 Nov 2025 00:00:00 UTC\n"
EXPIRY = 1763164800.0


@pytest.mark.parametrize(("text", "now", "message"), [
    (RELEASE.replace("trixie", "bookworm"), None, "describes suite 'bookworm', not 'trixie'"),
    (EXPIRES + RELEASE, EXPIRY + 1, "expired on Sat, 15 Nov 2025"),
    ("Valid-Until: soon\n" + RELEASE, 0.0, "has no date in its Valid-Until: 'soon'"),
    (RELEASE.partition("SHA256")[0], None, "lists no files with their SHA256"),
    ("", None, "describes suite None"),
])  # fmt: skip
def test_invalid_releases_are_rejected(text: str, now: float | None, message: str) -> None:
    """A signed release may still be for another suite, expired or empty."""
    with pytest.raises(BaseImageError, match=message):
        read_release(text.encode(), "http://m.example/InRelease", "trixie", "main", now=now)


def test_valid_until_and_by_hash_of_release() -> None:
    """Valid-Until is checked unless the check is disabled. By-hash paths are used if the release offers them."""
    where = "http://m.example/InRelease"
    for text, now in ((RELEASE, EXPIRY), (EXPIRES + RELEASE, EXPIRY - 1), (EXPIRES + RELEASE, None)):
        release = read_release(text.encode(), where, "trixie", "main", now=now)
        assert release.index("amd64").path == f"dists/trixie/main/binary-amd64/by-hash/SHA256/{'a' * 64}"
    plain = read_release(RELEASE.replace("yes", "no").encode(), where, "stable", "main", now=None)
    assert plain.index("amd64").path == "dists/stable/main/binary-amd64/Packages.xz"
    with pytest.raises(BaseImageError, match="has no packages for arm64"):
        plain.index("arm64")


def test_highest_version_is_chosen_from_all_suites(fake: FakeArchive, tmp_path: Path) -> None:
    """Version 1.0-10 is higher than 1.0-9."""
    fake.add("lib", "1.0-9", {"x": b"updates"}, where="-updates")
    fake.add("lib", "1.0-10", {"x": b"security"}, where="-security")
    ctx = context(tmp_path / "cache")
    found = fetch(suite_of(fake.write(), ctx), "tool")
    assert found["lib"][0].version == "1.0-10"
    assert found["lib"][0].archive == "security"
    assert "sha256:" + hashlib.sha256(found["lib"][1]).hexdigest() == found["lib"][0].digest
    assert list(found) == ["lib", "tool"]


@pytest.mark.parametrize("by_hash", [True, False])
def test_second_build_sends_no_request(fake: FakeArchive, tmp_path: Path, by_hash: bool) -> None:
    """The mirror uses plain HTTP, with and without by-hash."""
    fake.by_hash = by_hash
    fake.write()
    ctx = context(tmp_path / "cache")
    with serving(fake.root) as (url, requests):
        suite = suite_of(fake, ctx, f"{url}/debian")
        first = fetch(suite, "tool")
        assert any("by-hash" in path for path in requests) == by_hash
        assert sum(path.endswith("InRelease") for path in requests) == 3
        requests.clear()
        assert fetch(suite, "tool") == first
        assert requests == []
        fetch(suite, "lib")  # other packages from the same Packages files, which are stored
        assert requests == []


def test_cached_packages_are_used_offline(fake: FakeArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a day new indexes are requested. If the mirror does not answer, there is a warning."""
    fake.write()
    lines: list[str] = []
    ctx = context(tmp_path / "cache", lines)
    with serving(fake.root) as (url, requests):
        suite = suite_of(fake, ctx, f"{url}/debian")
        first = fetch(suite, "tool")
        requests.clear()
        now = time.time()
        monkeypatch.setattr("time.time", lambda: now + base_cache.LIFETIME + 1)
        assert fetch(suite, "tool") == first
        assert len(requests) == 3  # only the three releases, because they are unchanged
        monkeypatch.setattr("time.time", lambda: now + 3 * base_cache.LIFETIME)
    lines.clear()
    assert fetch(suite, "tool") == first
    assert any(line.startswith("warning: ") and "continuing with debian:trixie (amd64) as of" in line for line in lines)


def test_refresh_requests_new_indexes(fake: FakeArchive, tmp_path: Path) -> None:
    """Builds without HATCH_DOCKER_REFRESH do this a day later."""
    fake.write()
    ctx = context(tmp_path / "cache")
    assert fetch(suite_of(fake, ctx), "tool")["lib"][0].version == "1.0"
    fake.add("lib", "1.1", {"x": b"fixed"}, where="-security")
    fake.write()
    assert fetch(suite_of(fake, ctx), "tool")["lib"][0].version == "1.0"
    ctx = context(tmp_path / "cache", HATCH_DOCKER_REFRESH="1")
    assert fetch(suite_of(fake, ctx), "tool")["lib"][0].version == "1.1"


def test_superseded_package_is_replaced_unless_stored(fake: FakeArchive, tmp_path: Path) -> None:
    """A .deb that is in the store is used, although the mirror has only a newer version."""
    fake.write()
    ctx = context(tmp_path / "cache")
    fetch(suite_of(fake, ctx), "lib")
    for old in (fake.root / "debian/pool").rglob("*_1.0_*.deb"):
        old.unlink()
    fake.packages[""].clear()
    fake.add("tool", "1.1", {"usr/bin/tool": b"two"})
    fake.write()
    assert fetch(suite_of(fake, ctx), "lib")["lib"][0].version == "1.0"
    assert fetch(suite_of(fake, ctx), "tool")["tool"][0].version == "1.1"


def test_missing_updates_warns_and_missing_security_fails(fake: FakeArchive, tmp_path: Path) -> None:
    lines: list[str] = []
    ctx = context(tmp_path / "cache", lines)
    fake.write(["", "-security"])
    assert fetch(suite_of(fake, ctx), "lib")
    assert any("trixie-updates/InRelease does not exist" in line for line in lines)
    (fake.root / "debian-security/dists/trixie-security/InRelease").unlink()
    ctx = context(tmp_path / "other" / "cache")
    with pytest.raises(BaseImageError, match=r"security-mirror` or HATCH_DOCKER_DEBIAN_SECURITY_MIRROR"):
        fetch(suite_of(fake, ctx), "lib")


def test_sid_needs_no_updates_and_no_security(tmp_path: Path) -> None:
    fake = FakeArchive(tmp_path / "mirror", suite="sid")
    fake.add("lib", "1.0")
    lines: list[str] = []
    assert fetch(suite_of(fake.write([""]), context(tmp_path / "cache", lines)), "lib")
    assert not [line for line in lines if line.startswith("warning: ")]


def test_expired_release_is_rejected_unless_check_is_disabled(tmp_path: Path) -> None:
    fake = FakeArchive(tmp_path / "mirror", valid_until="Sat, 15 Nov 2025 00:00:00 UTC")
    fake.add("lib", "1.0")
    suite, ctx = suite_of(fake.write(), context(tmp_path / "cache")), context(tmp_path / "cache")
    with pytest.raises(BaseImageError, match=r"expired on Sat, 15 Nov 2025.*a snapshot needs `check-valid-until ="):
        fetch(suite, "lib")
    unchecked = replace(suite, plan=replace(suite.plan, check_valid_until=False), ctx=ctx)
    assert fetch(unchecked, "lib")


@pytest.mark.parametrize("what", ["gone", "down", "huge", "not xz"])
def test_unusable_mirror_gives_one_line(fake: FakeArchive, tmp_path: Path, what: str) -> None:
    """Altered files are in test_hostile_mirror."""
    fake.write()
    release = fake.root / "debian/dists/trixie/InRelease"
    if what == "gone":
        release.unlink()
    elif what == "huge":
        release.write_bytes(bytes(RELEASE_LIMIT + 1))
    elif what == "not xz":
        fake.packages[""] = []
        place = fake.root / "debian/dists/trixie"
        data = b"no xz"
        text = RELEASE.replace("a" * 64, hashlib.sha256(data).hexdigest()).replace(" 12 ", " 5 ").replace("yes", "no")
        (place / "InRelease").write_bytes(fake.sign(text.encode()))
        (place / "main/binary-amd64/Packages.xz").write_bytes(data)
    ctx = context(tmp_path / "cache")
    url = "http://127.0.0.1:9/debian" if what == "down" else ""
    with pytest.raises(HatchDockerError) as error:
        fetch(suite_of(fake, ctx, url), "tool")
    assert isinstance(error.value, (BaseImageError, RegistryError))
    assert "\n" not in str(error.value)


def test_mirror_passwords_are_not_printed_or_stored(fake: FakeArchive, tmp_path: Path) -> None:
    fake.write()
    lines: list[str] = []
    ctx = context(tmp_path / "cache", lines)
    with serving(fake.root) as (url, _):
        secret = url.replace("http://", "http://me:swordfish@")
        fetch(suite_of(fake, ctx, f"{secret}/debian"), "tool")
        with pytest.raises(HatchDockerError) as error:
            fetch(suite_of(fake, context(tmp_path / "2" / "cache"), f"{secret}/nowhere"), "tool")
    stored = [path.read_bytes() for path in (ctx.store.root / "facts").rglob("*") if path.is_file()]
    assert stored
    assert not any(b"swordfish" in data or b"127.0.0.1" in data for data in stored)
    assert "swordfish" not in str(error.value) + "".join(lines)


@pytest.mark.parametrize(
    "stanza",
    ["Package: x\nVersion: 1\n", "Package: x\nVersion: 1\nFilename: ../x\nSize: 1\nSHA256: " + "a" * 64,
     "Package: x\nVersion: 1\nFilename: x\nSize: one\nSHA256: " + "a" * 64,
     "Package: x\nVersion: 1\nFilename: x\nSize: 1\nSHA256: " + "g" * 64],
)  # fmt: skip
def test_malformed_stanza_fails_only_if_requested(stanza: str) -> None:
    found = read_package_index([("main", (stanza + "\n\nPackage: y\n").encode())])
    with pytest.raises(BaseImageError, match="entry of package 'x'"):
        found.get("x")
    assert found.get("z") is None
