"""Tests with hostile mirrors of Debian: altered or outdated files are rejected, and cached packages stay usable.

Each function changes a mirror after a first build has used it and a fix was published there. The next build fails, or
it warns and uses the cached packages. No changed file is kept.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hatch_docker.bases.debian.archive import verify
from hatch_docker.core.errors import BaseImageError, HatchDockerError
from tests.fakes.context import context
from tests.fakes.debian_archive import FakeArchive, fetch, suite_of
from tests.fakes.http_server import running

SUITE = "dists/trixie"
REFRESH = {"HATCH_DOCKER_REFRESH": "1"}


def release(fake: FakeArchive) -> Path:
    return fake.root / "debian" / SUITE / "InRelease"


def edit(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def resigned(fake: FakeArchive, old: bytes, new: bytes) -> None:
    """Replace text in the release, and sign it again."""
    text = verify(release(fake).read_bytes(), fake.keyring.read_bytes(), "it") + b"\n"
    assert old in text
    release(fake).write_bytes(fake.sign(text.replace(old, new, 1)))


def spoil(directory: Path, pattern: str, change: Callable[[bytes], bytes]) -> None:
    paths = [path for path in directory.rglob(pattern) if path.is_file()]
    assert paths
    for path in paths:
        path.write_bytes(change(path.read_bytes()))


def tampered(fake: FakeArchive) -> None:
    edit(release(fake), b"Suite: stable", b"Suite: stabel")


def text_outside_of_the_signature(fake: FakeArchive) -> None:
    """Put other indexes around the signed text."""
    evil = f"SHA256:\n {'a' * 64} 12 main/binary-amd64/Packages.xz\n\n"
    release(fake).write_bytes(evil.encode() + release(fake).read_bytes() + evil.encode())


def two_signed_messages(fake: FakeArchive) -> None:
    """Put an older release, which is also signed, before the current one."""
    text = verify(release(fake).read_bytes(), fake.keyring.read_bytes(), "it")
    older = fake.sign(text.replace(b"Suite: stable", b"Suite: unstable"))
    release(fake).write_bytes(older + release(fake).read_bytes())


def expired(fake: FakeArchive) -> None:
    resigned(fake, b"Valid-Until: Sat, 01 Jan 2095", b"Valid-Until: Sat, 01 Jan 2022")


def signed_by_another_key(fake: FakeArchive) -> None:
    replace(fake, key=FakeArchive(fake.root).key).write()


def md5_only(fake: FakeArchive) -> None:
    """Replace the SHA256 sums by MD5 sums."""
    resigned(fake, b"SHA256:", b"MD5Sum:")


def older(fake: FakeArchive) -> None:
    resigned(fake, b"Date: Sun, 02 Nov 2025", b"Date: Fri, 31 Oct 2025")


def without_by_hash(fake: FakeArchive) -> None:
    spoil(fake.root / "debian" / SUITE, "by-hash/SHA256/*", lambda _data: b"")
    for path in (fake.root / "debian" / SUITE).rglob("by-hash/SHA256/*"):
        path.unlink()


def other_packages(fake: FakeArchive) -> None:
    spoil(fake.root / "debian" / SUITE, "by-hash/SHA256/*", lambda data: data[:-1] + bytes([data[-1] ^ 1]))


def other_deb(fake: FakeArchive) -> None:
    """Change one .deb in place, and make another one longer."""
    spoil(fake.root / "debian/pool", "tool_2*.deb", lambda data: data[:-1] + b"!")
    spoil(fake.root / "debian/pool", "lib_2*.deb", lambda data: data + b"!")


def half_synchronized(fake: FakeArchive) -> None:
    """Publish the new release with the old index, without by-hash."""
    fake.by_hash = False
    fake.write()
    (fake.root / "debian" / SUITE / "main/binary-amd64/Packages.xz").write_bytes(b"\xfd7zXZ\0 of before")


CHANGES: dict[str, tuple[Callable[[FakeArchive], None], str]] = {
    "altered release": (tampered, "is not signed by Debian's archive keys"),
    "text outside of the signature": (text_outside_of_the_signature, "is not signed by Debian's archive keys"),
    "two signed messages": (two_signed_messages, "there are several signed messages"),
    "expired release": (expired, "expired on Sat, 01 Jan 2022"),
    "unknown key": (signed_by_another_key, "is not signed by Debian's archive keys"),
    "no SHA256": (md5_only, "lists no files with their SHA256"),
    "older release": (older, "is older than the release seen before"),
    "missing index": (without_by_hash, "does not exist"),
    "altered index": (other_packages, "sha256"),
    "altered package": (other_deb, "_2.0_amd64.deb is"),
    "outdated index": (half_synchronized, "Packages.xz"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_hostile_mirror_is_rejected(name: str, fake: FakeArchive, tmp_path: Path) -> None:
    change, expected = CHANGES[name]
    fake.write()
    ctx = context(tmp_path / "cache")
    first = fetch(suite_of(fake, ctx), "tool")
    stored = {path.name for path in (ctx.store.root / "blobs").iterdir()}
    fake.add("lib", "2.0", {"usr/lib/lib.so": b"fixed"})
    fake.add("tool", "2.0", {"usr/bin/tool": b"two"}, Depends="lib (>= 2)")
    fake.date = "Sun, 02 Nov 2025 00:00:00 UTC"
    if name == "older release":
        fake.write()
        assert fetch(suite_of(fake, context(tmp_path / "cache", **REFRESH)), "tool")["lib"][0].version == "2.0"
        first = fetch(suite_of(fake, ctx), "tool")
        stored = {path.name for path in (ctx.store.root / "blobs").iterdir()}
    fake.write()
    change(fake)
    lines: list[str] = []
    refreshing = context(tmp_path / "cache", lines, **REFRESH)
    message = ""
    try:
        assert fetch(suite_of(fake, refreshing), "tool") == first
    except HatchDockerError as error:
        message = str(error)
        assert "\n" not in message
    assert expected in message + "".join(lines)
    assert message or "continuing with debian:trixie (amd64) as of" in "".join(lines)
    for path in (ctx.store.root / "blobs").iterdir():
        assert path.name in stored or hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    if name not in ("altered index", "altered package", "outdated index", "missing index"):
        assert fetch(suite_of(fake, ctx), "tool") == first, "the cached packages are still used"
    fresh = context(tmp_path / "fresh" / "cache")
    if name != "older release":  # a new cache has no newer release to compare it with
        with pytest.raises(HatchDockerError):
            fetch(suite_of(fake, fresh), "tool")


class _RedirectToSelf(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("location", self.path)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_redirect_loop_is_an_error(fake: FakeArchive, tmp_path: Path) -> None:
    fake.write()
    first = fetch(suite_of(fake, context(tmp_path / "cache")), "tool")
    with running(ThreadingHTTPServer(("127.0.0.1", 0), _RedirectToSelf)) as server:
        url = f"http://127.0.0.1:{server.server_port}/debian"
        lines: list[str] = []
        ctx = context(tmp_path / "cache", lines, **REFRESH)
        assert fetch(suite_of(fake, ctx, url), "tool") == first
        assert any("redirect" in line and "continuing with debian:trixie" in line for line in lines)
        with pytest.raises(HatchDockerError, match="redirect"):
            fetch(suite_of(fake, context(tmp_path / "fresh" / "cache"), url), "tool")


# An Ed25519 key, and text that it signed with SHA-1: gpg --digest-algo SHA1 --clearsign
KEY = """\
-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEZ3SFgBYJKwYBBAHaRw8BAQdABNGe27svhFSpwGv2JpzergKtJrdkP/AcJ4Et
Lqc+eRC0H0EgdGVzdCA8YXJjaGl2ZUBkZWJpYW4uZXhhbXBsZT6IkAQTFgoAOBYh
BKJXeARXrXCchRM0kUNeSYzgbiGwBQJndIWAAhsDBQsJCAcCBhUKCQgLAgQWAgMB
Ah4BAheAAAoJEENeSYzgbiGwEJgBAMJ5gNghnsnka+CmdSqxRHa/gW/tpBJraiM/
0pfw64agAPwJPfR3isP+qswJBLCnjZvXwqgZ7Cbc3xcXqb+N2BqgDQ==
=uAr6
-----END PGP PUBLIC KEY BLOCK-----
"""
SHA1 = """\
-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA1

Origin: Debian
Suite: stable
Codename: trixie
-----BEGIN PGP SIGNATURE-----

iHUEARYCAB0WIQSiV3gEV61wnIUTNJFDXkmM4G4hsAUCZ3XXAAAKCRBDXkmM4G4h
sBcvAPsHxhbA9ptdDgrDOqwvdSY5MgQaOuuQkwGj6/nDdxg/pwD9FLE/9DqDCqFj
H+9Q92f2RyTezKAuz6B6XCLwZt2DbAI=
=YkEY
-----END PGP SIGNATURE-----
"""
SHA512 = """\
-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA512

Origin: Debian
Suite: stable
Codename: trixie
-----BEGIN PGP SIGNATURE-----

iHUEARYKAB0WIQSiV3gEV61wnIUTNJFDXkmM4G4hsAUCZ3XXAAAKCRBDXkmM4G4h
sNw8AQCR8vJoNZ2BFJYSqgCTsJl9VQaIA/W+E5Sa3kz8KiwOKwEA5oWHpM1M4EFa
as+0mRc3qxSxUOOV15tC9BeTv5NvBws=
=KOS8
-----END PGP SIGNATURE-----
"""


def test_sha1_signature_is_rejected() -> None:
    """Collisions of SHA-1 allow the same signature for another text."""
    assert verify(SHA512.encode(), KEY.encode(), "it").startswith(b"Origin: Debian")
    with pytest.raises(BaseImageError, match="it is not signed by Debian's archive keys"):
        verify(SHA1.encode(), KEY.encode(), "it")
