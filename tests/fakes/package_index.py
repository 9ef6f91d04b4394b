"""A fake package index on loopback: PEP 503 pages, PEP 691 and 700 documents, generated files, faults, a login."""

import base64
import gzip
import hashlib
import html
import io
import json
import ssl
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from hatch_docker.wheels.target import Pin
from tests.fakes.http_server import running

UPLOADED = "2024-05-06T07:08:09.123456Z"
UPLOADED_SECONDS = 1714979289

# A setup.py that creates a file if it is executed.
EVIL = "import pathlib; pathlib.Path({mark!r}).touch(); import setuptools; setuptools.setup(name='gamma')"


def make_wheel(
    name: str, version: str, *, requires: Sequence[str] = (), tag: str = "py3-none-any",
    files: Mapping[str, bytes] | None = None, extras: Sequence[str] = (),
) -> tuple[str, bytes]:
    """Return the file name and the bytes of a wheel with a correct RECORD."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.3\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Provides-Extra: {extra}\n" for extra in extras)
    metadata += "".join(f"Requires-Dist: {line}\n" for line in requires)
    contents = {
        **({f"{module}/__init__.py": f"__version__ = {version!r}\n".encode()} if files is None else files),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for path, data in contents.items()
    )
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in contents.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), data)
    return f"{module}-{version}-{tag}.whl", buffer.getvalue()


def make_sdist(
    name: str, version: str, *, requires: Sequence[str] = (), dynamic: bool = False, setup: str = "",
) -> tuple[str, bytes]:
    """Return the file name and the bytes of an sdist with static metadata (2.2), or with dynamic Requires-Dist."""
    module = name.replace("-", "_")
    metadata = f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n"
    metadata += "Dynamic: Requires-Dist\n" if dynamic else "".join(f"Requires-Dist: {line}\n" for line in requires)
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for path, text in {"PKG-INFO": metadata, "setup.py": setup or "import setuptools; setuptools.setup()"}.items():
            entry = tarfile.TarInfo(f"{module}-{version}/{path}")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return f"{module}-{version}.tar.gz", buffer.getvalue()


def as_zip(sdist: tuple[str, bytes]) -> tuple[str, bytes]:
    """Return the file name and the bytes of an sdist as a .zip, the format of old releases."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(sdist[1])) as tar, zipfile.ZipFile(buffer, "w") as archive:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            archive.writestr(member.name, content.read())
    return f"{sdist[0].removesuffix('.tar.gz')}.zip", buffer.getvalue()


def write_sdist(
    path: Path, files: Mapping[str, str], *, mtime: int = 0, links: Mapping[str, str] | None = None
) -> Path:
    """Write an sdist demo-1.0.tar.gz into the directory `path`, and return its path."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"demo-1.0/{name}")
            member.size, member.mtime = len(text.encode()), mtime
            tar.addfile(member, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(f"demo-1.0/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    path.mkdir(exist_ok=True)
    sdist = path / "demo-1.0.tar.gz"
    sdist.write_bytes(gzip.compress(plain.getvalue(), mtime=mtime))
    return sdist


# An in-tree backend. The dependencies of the package are only known after it has run.
BACKEND = """
import base64, hashlib, zipfile

FILES = {
    "only_source.py": "VALUE = 42\\n",
    "only_source-1.0.dist-info/METADATA":
        "Metadata-Version: 2.1\\nName: only-source\\nVersion: 1.0\\nRequires-Dist: needed-by-it\\n",
    "only_source-1.0.dist-info/WHEEL":
        "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
}

def build_wheel(directory, config_settings=None, metadata_directory=None):
    record = ""
    with zipfile.ZipFile(directory + "/only_source-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(zipfile.ZipInfo(name), text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(text)}\\n"
        record += "only_source-1.0.dist-info/RECORD,,\\n"
        wheel.writestr(zipfile.ZipInfo("only_source-1.0.dist-info/RECORD"), record)
    return "only_source-1.0-py3-none-any.whl"
"""


def only_source(name: str = "only_source", change: str = "") -> tuple[str, bytes]:
    """Return an sdist with BACKEND, followed by the code `change`. Its metadata (2.1) does not count as static."""
    buffer = io.BytesIO()
    backend = (BACKEND + change).replace("only_source", name).replace("only-source", name.replace("_", "-"))
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": backend,
    }
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}-1.0/{path}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return f"{name}-1.0.tar.gz", buffer.getvalue()


@dataclass
class FakeIndex:
    """A package index.

    `files`: package -> file name -> bytes. `faults`: lists of a part of the path, the action, and a number of times.
    An action is a status, "cut", "flip", "short" (with a matching Content-Length), "close" (no response), or the URL of
    a redirect. `place`: the start of links to files. `notes`: file name -> more fields ("yanked", "requires-python").
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    faults: list[list[object]] = field(default_factory=list)
    login: tuple[str, str] | None = None
    html: bool = False
    place: str = ""
    notes: dict[str, dict[str, str]] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """The URL of the index, without the login."""
        return f"http://127.0.0.1:{self.port}/simple"

    @property
    def url_with_login(self) -> str:
        """The URL of the index with user name and password."""
        assert self.login
        return self.url.replace("//", f"//{self.login[0]}:{self.login[1]}@")

    def add(self, name: str, *made: tuple[str, bytes]) -> Self:
        """Add some files of a package."""
        self.files.setdefault(name, {}).update(made)
        return self

    def paths(self, part: str) -> list[str]:
        """Return the requested paths that contain `part`."""
        return [path for path, _login in self.requests if part in path]

    def sha256(self, filename: str) -> str:
        """Return the digest of a file."""
        return next(hashlib.sha256(files[filename]).hexdigest() for files in self.files.values() if filename in files)

    @contextmanager
    def serving(self, tls: ssl.SSLContext | None = None) -> Iterator[Self]:
        """Serve on a free port until the block ends, with HTTPS if `tls` is given."""
        index = self

        class Handler(_Handler):
            fake = index

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_port
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        with running(server):
            yield self


class _Handler(BaseHTTPRequestHandler):
    fake: FakeIndex
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        fake = self.fake
        fake.requests.append((self.path, self.headers.get("authorization")))
        fault = self._fault()
        if fault == "close":
            self.close_connection = True
            return
        if isinstance(fault, str) and ":" in fault:
            self._answer(302, b"", {"location": fault})
            return
        if isinstance(fault, int):
            self._answer(fault, b"fault", {"retry-after": "0"})
            return
        if fake.login and not self._allowed():
            self._answer(401, b"who are you?", {"www-authenticate": 'Basic realm="index"'})
            return
        parts = self.path.strip("/").split("/")
        if parts[0] == "simple" and len(parts) == 2 and parts[1] in fake.files:
            self._project(parts[1])
        elif parts[0] == "files" and len(parts) == 3 and parts[2] in fake.files.get(parts[1], {}):
            self._file(fake.files[parts[1]][parts[2]], fault)
        else:
            self._answer(404, b"no such thing", {})

    def _allowed(self) -> bool:
        assert self.fake.login
        expected = base64.b64encode(":".join(self.fake.login).encode()).decode()
        return self.headers.get("authorization") == f"Basic {expected}"

    def _fault(self) -> object:
        for fault in self.fake.faults:
            part, what, times = fault
            if str(part) in self.path and isinstance(times, int) and times > 0:
                fault[2] = times - 1
                return what
        return None

    def _project(self, name: str) -> None:
        files = self.fake.files[name]
        if self.fake.html:
            links = "".join(
                f'<a href="{self.fake.place}/files/{name}/{file}#sha256={self.fake.sha256(file)}"{self._notes(file)}>'
                f"{file}</a>\n"
                for file in files
            )
            self._answer(200, f"<!DOCTYPE html><body>{links}</body>".encode(), {"content-type": "text/html"})
            return
        document = {
            "meta": {"api-version": "1.1"}, "name": name,
            "files": [
                {
                    "filename": file, "url": f"{self.fake.place}/files/{name}/{file}",
                    "size": len(data), "upload-time": UPLOADED, "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
                    **self.fake.notes.get(file, {}),
                }
                for file, data in files.items()
            ],
        }
        body = json.dumps(document).encode()
        self._answer(200, body, {"content-type": "application/vnd.pypi.simple.v1+json"})

    def _notes(self, file: str) -> str:
        return "".join(f' data-{key}="{html.escape(text)}"' for key, text in self.fake.notes.get(file, {}).items())

    def _file(self, data: bytes, fault: object) -> None:
        if fault == "flip":
            data = bytes([data[0] ^ 1]) + data[1:]
        if fault == "short":
            data = data[:-100]
        self._answer(200, data, {"content-type": "application/octet-stream"}, cut=fault == "cut")

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str], *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut


def pins_of(index: FakeIndex) -> list[Pin]:
    return [
        Pin(name, "1.0", file, f"http://127.0.0.1:{index.port}/files/{name}/{file}",
            hashlib.sha256(data).hexdigest(), len(data), None)
        for name, files in index.files.items() for file, data in files.items()
    ]
