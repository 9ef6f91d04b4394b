"""A fake Debian archive: .debs, Packages, an InRelease file signed with a new key, and a mirror on loopback."""

import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pysequoia

from hatch_docker.bases.debian.archive import ArchiveFile
from hatch_docker.bases.debian.resolver import Package
from hatch_docker.bases.debian.steps import Step
from hatch_docker.bases.debian.suite import Suite, fetch_debs, pin, with_snapshot
from hatch_docker.core.context import Context
from hatch_docker.plan.model import BasePlan
from tests.fakes.elf import make_elf
from tests.fakes.http_server import running

Content = bytes | tuple[str, str] | None
"""A file's bytes, ("symlink" or "hardlink" or "fifo", target), or None for a directory."""


def make_tar(files: Mapping[str, Content], *, prefix: str = "./") -> bytes:
    """Return a tar like those of dpkg-deb: files are owned by root, and names begin with "./"."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(prefix + path)
            entry.mtime = 1700000000
            entry.mode = 0o755 if content is None or "bin/" in path else 0o644
            if content is None:
                entry.type = tarfile.DIRTYPE
            elif isinstance(content, tuple):
                entry.type = {"symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE}[
                    content[0]
                ]
                entry.linkname = content[1]
            else:
                entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def make_ar(members: Sequence[tuple[str, bytes]]) -> bytes:
    """Return an ar archive."""
    parts = [b"!<arch>\n"]
    for name, data in members:
        parts.append(
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    return b"".join(parts)


compress_xz = partial(lzma.compress, preset=0)  # the default preset takes 94 MB of memory for each call


def make_deb(
    name: str,
    version: str = "1.0",
    files: Mapping[str, Content] | None = None,
    *,
    postinst: str = "",
    sums: Mapping[str, str] | None = None,
    compression: str = "xz",
    architecture: str = "amd64",
) -> bytes:
    """Return a .deb. `sums`: wrong values for its md5sums, by path."""
    files = files or {}
    found = {path: hashlib.md5(data).hexdigest() for path, data in files.items() if isinstance(data, bytes)}
    found |= dict(sums or {})
    control: dict[str, Content] = {
        "control": f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n".encode(),
        "md5sums": "".join(f"{value}  {path}\n" for path, value in found.items()).encode(),
    }
    if postinst:
        control["postinst"] = postinst.encode()
    pack = {"xz": compress_xz, "gz": partial(gzip.compress, mtime=0), "": bytes}[compression]
    suffix = f".{compression}" if compression else ""
    return make_ar([
        ("debian-binary", b"2.0\n"),
        (f"control.tar{suffix}", pack(make_tar(control))),
        (f"data.tar{suffix}", pack(make_tar(files))),
    ])  # fmt: skip


def make_library(soname: str, *, machine: int = 62) -> bytes:
    """Return a shared library with a soname."""
    return make_elf(soname, machine=machine)


@dataclass
class FakeArchive:
    """An archive in a directory: `root/debian` and `root/debian-security`. After changes, call `write`."""

    root: Path
    suite: str = "trixie"
    architecture: str = "amd64"
    packages: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)
    date: str = "Sat, 01 Nov 2025 00:00:00 UTC"
    valid_until: str = "Sat, 01 Jan 2095 00:00:00 UTC"
    codename: str = ""
    by_hash: bool = True
    contents: str = ""
    """The text of `Contents-<architecture>.gz`; the file is not written if it is empty."""
    key: Any = field(default_factory=lambda: pysequoia.Tsk.generate("A test's archive <archive@debian.example>"))

    @property
    def url(self) -> str:
        """The file URL of the archive's directory."""
        return (self.root / "debian").as_uri()

    @property
    def keyring(self) -> Path:
        """The file with the archive's public key."""
        path = self.root / "keyring.pgp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(self.key.extract_certificate()))
        return path

    def add(
        self,
        name: str,
        version: str = "1.0",
        files: Mapping[str, Content] | None = None,
        *,
        where: str = "",
        postinst: str = "",
        **fields: str,
    ) -> None:
        """Add a package. `where`: "" (the suite), "-updates" or "-security". `fields`: of the stanza (Depends=...)."""
        deb = make_deb(name, version, files, postinst=postinst, architecture=self.architecture)
        stem = version.partition(":")[2] or version
        path = f"pool/main/{name[0]}/{name}/{name}_{stem}_{self.architecture}.deb"
        place = self._of(where) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(deb)
        lines = {"Package": name, "Version": version, "Architecture": self.architecture, **fields}
        lines |= {"Filename": path, "Size": str(len(deb)), "SHA256": hashlib.sha256(deb).hexdigest()}
        stanza = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in lines.items())
        self.packages.setdefault(where, []).append((stanza, deb))

    def _of(self, where: str) -> Path:
        return self.root / ("debian-security" if where == "-security" else "debian")

    def write(self, suites: Sequence[str] = ("", "-updates", "-security")) -> Self:
        """Write the indexes and sign the releases."""
        for where in suites:
            directory = self._of(where) / "dists" / (self.suite + where)
            stanzas = "\n".join(stanza for stanza, _ in self.packages.get(where, ()))
            files = {f"main/binary-{self.architecture}/Packages.xz": compress_xz(stanzas.encode())}
            if self.contents and not where:
                name = f"main/Contents-{self.architecture}.gz"
                files[name] = gzip.compress(self.contents.encode(), mtime=0)
            rows = [self._write_index(directory / name, data) + f" {name}\n" for name, data in files.items()]
            text = (
                f"Origin: Debian\nSuite: stable{where}\nCodename: {self.codename or self.suite}{where}\n"
                f"Date: {self.date}\nValid-Until: {self.valid_until}\n"
                f"Acquire-By-Hash: {'yes' if self.by_hash else 'no'}\nArchitectures: {self.architecture}\n"
                f"Components: main\nSHA256:\n{''.join(rows)}"
            )
            (directory / "InRelease").write_bytes(self.sign(text.encode()))
        return self

    def _write_index(self, place: Path, data: bytes) -> str:
        """Write an index, and return its hash and size in the format of a release."""
        digest = hashlib.sha256(data).hexdigest()
        place.parent.mkdir(parents=True, exist_ok=True)
        if self.by_hash:
            (place.parent / "by-hash/SHA256").mkdir(parents=True, exist_ok=True)
            place = place.parent / "by-hash/SHA256" / digest
        place.write_bytes(data)
        return f" {digest} {len(data):8}"

    def sign(self, text: bytes) -> bytes:
        """Return a text with a cleartext signature by the archive's key."""
        return bytes(pysequoia.sign(self.key.signer(), text, mode=pysequoia.SignatureMode.CLEAR))

    def python(self) -> Self:
        """Add the packages that a base of trixie needs, with fake files."""
        triplet = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[self.architecture]
        machine = {"amd64": 62, "arm64": 183}[self.architecture]
        licence = {"copyright": b"free\n", "changelog.gz": b"much"}

        def files(name: str, rest: Mapping[str, Content]) -> dict[str, Content]:
            return {**{f"usr/share/doc/{name}/{file}": data for file, data in licence.items()}, **rest}

        links: dict[str, Content] = {name: ("symlink", f"usr/{name}") for name in ("bin", "lib", "sbin")}
        self.add("base-files", "13", files("base-files", {
            **links, "tmp": None, "var/lib/dpkg": None, "var/run": None, "usr/lib/os-release": b"ID=debian\n",
        }))  # fmt: skip
        self.add("libc6", "2.41-12", files("libc6", {
            f"usr/lib/{triplet}/libc.so.6": make_library("libc.so.6", machine=machine),
            f"usr/lib/{triplet}/gconv/BIG5.so": b"large",
            f"etc/ld.so.conf.d/{triplet}.conf": f"/usr/local/lib/{triplet}\n/lib/{triplet}\n".encode(),
        }))  # fmt: skip
        self.add("libc-bin", "2.41-12", files("libc-bin", {
            "etc/ld.so.conf": b"include /etc/ld.so.conf.d/*.conf\n", "usr/sbin/ldconfig": b"program",
            "usr/bin/ldd": b"script", "usr/lib/locale/C.utf8/LC_CTYPE": b"locale",
        }), Depends="libc6")  # fmt: skip
        self.add("libstdc++6", "14.2", files("libstdc++6", {
            f"usr/lib/{triplet}/libstdc++.so.6.0.33": make_library("libstdc++.so.6", machine=machine),
            f"usr/lib/{triplet}/libstdc++.so.6": ("symlink", "libstdc++.so.6.0.33"),
        }), Depends="libc6")  # fmt: skip
        self.add("ca-certificates", "2025", files("ca-certificates", {
            "usr/share/ca-certificates/mozilla/B.crt": b"-- B --\n",
            "usr/share/ca-certificates/mozilla/A.crt": b"-- A --",
            "usr/sbin/update-ca-certificates": b"#!/bin/sh\n",
        }), Depends="openssl (>= 1.1.1), debconf (>= 0.5) | debconf-2.0")  # fmt: skip
        self.add("libpython3.13-stdlib", "3.13.5-2+deb13u1", files("libpython3.13-stdlib", {
            "usr/lib/python3.13/LICENSE.txt": b"PSF\n", "usr/lib/python3.13/test/big.txt": b"test",
        }), Depends="libc6 (>= 2.38)")  # fmt: skip
        self.add("python3.13-minimal", "3.13.5-2+deb13u1", files("python3.13-minimal", {"usr/bin/python3.13": b"elf"}),
                 Depends="libpython3.13-stdlib (= 3.13.5-2+deb13u1)", Pre_Depends="libc6 (>= 2.38)")  # fmt: skip
        self.add("media-types", "13", files("media-types", {"etc/mime.types": b"text/plain txt\n"}))
        terminals = ("share/terminfo/x/xterm", "share/terminfo/E/Eterm", "lib/terminfo/d/dumb", "share/tabset/std")
        self.add("ncurses-base", "6", files("ncurses-base", {f"usr/{path}": b"" for path in terminals}))
        self.add("netbase", "6", files("netbase", {"etc/services": b"https 443/tcp\n"}))
        self.add("tzdata", "2025b", files("tzdata", {"usr/share/zoneinfo/Etc/UTC": b"TZif"}))
        return self


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()


@contextmanager
def serving(directory: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a directory on loopback. Yield its URL, and a list that gets the path of each request."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(directory)))
    server.daemon_threads = True
    server.requests = requests = []  # type: ignore[attr-defined]
    with running(server):
        yield f"http://127.0.0.1:{server.server_port}", requests


def library_archive(root: Path) -> FakeArchive:
    """Write and return an archive with shared libraries that are found by package name or in the Contents file."""
    directory = "usr/lib/x86_64-linux-gnu"
    fake = FakeArchive(root, contents=(
        f"{directory}/libz.so.1    libs/zlib1g\nusr/cross/lib/libz.so.1 devel/cross\n"
        f"{directory}/libboth.so.1    oldlibs/libboth,libs/libboth-other\n"
    ))  # fmt: skip
    library = f"{directory}/libpq.so.5"
    other = {f"{directory}/libother.so.3": b"elf"}
    fake.add("libpq5", files={f"{library}.17": b"elf", library: ("symlink", "libpq.so.5.17"), **other})
    fake.add("libempty1", files={"usr/share/doc/x": b"text"})
    return fake.write()


def suite_of(fake: FakeArchive, ctx: Context, url: str = "") -> Suite:
    plan = BasePlan("debian", "debian:trixie", "trixie", mirror=url or fake.url)
    return Suite(plan, fake.suite, fake.architecture, ctx, fake.keyring)


def fetch(suite: Suite, *names: str) -> dict[str, tuple[Package, bytes]]:
    """Resolve names as for a base, and return the packages by name with the bytes of their .debs."""

    def use(indexes: tuple[ArchiveFile, ...]) -> dict[str, tuple[Package, bytes]]:
        (found,) = pin(suite, indexes, [Step(names)])
        paths = fetch_debs(suite, found)
        return {package.name: (package, paths[package.name].read_bytes()) for package in found}

    return with_snapshot(suite, use)


PLAN = BasePlan("debian", "debian:trixie", "trixie")


