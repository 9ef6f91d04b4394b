"""J: whatever strangers write, every parser answers, or refuses in one line of ours, at once.

Each parser gets a thousand sound documents that were damaged (tests/fakes/damage.py); HATCH_DOCKER_EXAMPLES=20000 looks
longer. What documents may cost that are large and not damaged is in test_bounds.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import inspect
import io
import json
import os
import resource
import tarfile
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatch_docker import urls
from hatch_docker.answers import Response, explain
from hatch_docker.bases import Interpreter
from hatch_docker.bases.additions import _read_status
from hatch_docker.bases.apt import find_mirrors
from hatch_docker.bases.archive import read_release, read_universe
from hatch_docker.bases.deb import open_deb
from hatch_docker.bases.facts import read_facts
from hatch_docker.bases.ldcache import find_libraries, write_cache
from hatch_docker.bases.resolve import resolve, version_key
from hatch_docker.config import load_config
from hatch_docker.engines.rawjson import Log
from hatch_docker.errors import HatchDockerError
from hatch_docker.oci.archive import read_archive, write_archive
from hatch_docker.oci.auth import check_realm, credential_for, parse_challenges
from hatch_docker.oci.daemon import find_daemons
from hatch_docker.oci.documents import assemble, choose, media_type_of, parse_index
from hatch_docker.oci.layer import Compression, Entry, layer_entries, read_entries, write_layer
from hatch_docker.oci.layout import read_item
from hatch_docker.oci.model import OCI_LAYER, Image, Layer, Platform, digest_of
from hatch_docker.oci.mutate import Settings, build_image
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.referrers import _items, _next
from hatch_docker.oci.tree import extract, listing
from hatch_docker.pins import parse_pins
from hatch_docker.plan import BasePlan, LockPlan
from hatch_docker.progress import plain, silent
from hatch_docker.release.bundled import read_bundled
from hatch_docker.release.inventory import reader
from hatch_docker.retry import retry_after
from hatch_docker.wheels.compile import python_command
from hatch_docker.wheels.given import check_given
from hatch_docker.wheels.index import read_indexes
from hatch_docker.wheels.install import VenvTarget, wheel_entries
from hatch_docker.wheels.lock import _lines, _locked
from hatch_docker.wheels.resolve import static_metadata
from hatch_docker.wheels.sdist import read_sdist
from tests.fakes.bases import context, file, image_of, layer_of
from tests.fakes.bases import program as elf
from tests.fakes.damage import misfit, spoilt, spoilt_text
from tests.fakes.debian import make_deb, make_library
from tests.fakes.elf import make_elf
from tests.fakes.images import AMD64, small_image, small_index
from tests.fakes.index import make_sdist
from tests.test_config import EVERYTHING
from tests.test_lock import AMD64 as TARGET
from tests.test_lock import UV_LOCK
from tests.test_namedlocks import PDM, POETRY

EXAMPLES = int(os.environ.get("HATCH_DOCKER_EXAMPLES", "1000"))
TOGETHER = 20  # documents that are judged at a draw: to draw costs as much as to read
SECONDS = 1.0
MEMORY = 300 << 20  # bytes
VENV = VenvTarget(Interpreter("/usr/bin/python3.13", "3.13.5"))

Parse = Callable[[Any, Path], object]
Documents = tuple[st.SearchStrategy[Any], Any]
"""Damaged documents, and a sound one."""

PARSERS: dict[str, tuple[Parse, st.SearchStrategy[Any], Any]] = {}


def parses(documents: Documents) -> Callable[[Parse], Parse]:
    """Register a function that lets a parser read a document; it may use a directory."""

    def register(parse: Parse) -> Parse:
        PARSERS[parse.__name__] = (parse, *documents)
        return parse

    return register


def of_bytes(*documents: bytes) -> Documents:
    return spoilt(documents), documents[0]


def of_text(*documents: str) -> Documents:
    return spoilt_text(documents), documents[0]


def of_json(*values: Any) -> Documents:
    """Documents in which values or bytes are others."""
    texts = [json.dumps(value).encode() for value in values]
    return misfit(values).map(lambda value: json.dumps(value).encode()) | spoilt(texts), texts[0]


def of_toml(text: str) -> Documents:
    data = text.encode()
    tables = misfit([tomllib.loads(text)]).map(lambda value: toml(value).encode(errors="replace"))
    return tables | spoilt([data]), data


def toml(value: Any, top: bool = True) -> str:
    """A value as TOML writes it inline; what TOML cannot say is left out."""
    if isinstance(value, dict):
        rows = [f"{toml(name, False)} = {toml(one, False)}" for name, one in value.items() if one is not None]
        return "\n".join(rows) if top else "{" + ", ".join(rows) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(one, False) for one in value if one is not None) + "]"
    return json.dumps(value, default=str, ensure_ascii=isinstance(value, str) and value.isascii())


def written(directory: Path, name: str, data: bytes) -> Path:
    path = directory / name
    path.write_bytes(data)
    return path


# What registries answer, and what names them.


@parses(of_text(f"registry.example:5000/team/app:1.0@sha256:{'a' * 64}", "python", "[::1]:5/a__b/c-d.e:t"))
def reference(text: str, _directory: Path) -> None:
    found = parse_reference(text)
    assert parse_reference(str(found)) == found


@parses(of_text(
    'Bearer realm="https://r.example/token",service="r",scope="repository:a/b:pull,push",error="x"',
    'Basic realm="here", Bearer realm=x,service=\\"q\\"', 'Negotiate, NTLM abc==, Digest a="b\\"c",d=e',
))  # fmt: skip
def www_authenticate(text: str, _directory: Path) -> None:
    for challenge in parse_challenges(text):
        check_realm("https://r.example/v2/", challenge.parameters.get("realm", ""))


@parses(of_text('</v2/a/referrers/x?last=1&n=5>; rel="next"', '<https://x.example/>; rel=next, <a>; rel="prev"'))
def link(text: str, _directory: Path) -> None:
    urls.follow("https://r.example/v2/a/referrers/x", _next(text))


@parses(of_text("https://u:p@r.example:1/a?b#c", "//10.0.0.1/x", "http://[::1]:80/", "http://0x7f.1/", "/v2/"))
def location(text: str, _directory: Path) -> None:
    urls.shown(text)
    urls.origin(urls.follow("http://127.0.0.1:5/v2/", text))
    urls.with_credentials(text, {})


DATES = ("120", "Fri, 31 Dec 1999 23:59:59 GMT", "31 Dec 1999 23:59:59 -9999", "Fri, 31 Dec 9999 23:59:59 +0000")


@parses((st.tuples(spoilt_text(DATES), spoilt_text(DATES)), DATES[:2]))
def retry_after_header(texts: tuple[str, str], _directory: Path) -> None:
    retry_after({"retry-after": texts[0], "date": texts[1]})


@parses(of_bytes(b'{"errors": [{"code": "DENIED", "message": "no\\u001b[2J"}]}', b"plain text", b'{"errors": [[]]}'))
def refusal(data: bytes, _directory: Path) -> None:
    assert explain(Response(400, {"content-type": "text/plain"}, data, "")).isprintable()


@parses(of_json({
    "auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}, "r.example/a": {"username": "u", "password": "p"},
              "r.example": {"auth": "dTpw", "identitytoken": "t"}},
    "credHelpers": {"h.example": "no-such-helper"}, "credsStore": "nor-this", "currentContext": "remote",
}))  # fmt: skip
def docker_config(data: bytes, directory: Path) -> None:
    written(directory, "config.json", data)
    environ = {"DOCKER_CONFIG": str(directory), "PATH": "", "DOCKER_HOST": "unix:///nonexistent"}
    for registry in ("r.example", "docker.io"):
        found = credential_for(registry, environ, "a/b")
        if found:
            urls.basic(found.username, found.password)
    find_daemons(environ)


IMAGE, INDEX = small_image(), small_index()


@parses(of_json(IMAGE.manifest_json))
def manifest(data: bytes, _directory: Path) -> None:
    media_type_of(data, "application/vnd.oci.image.manifest.v1+json; charset=utf-8", "it")
    assemble(IMAGE.descriptor, data, IMAGE.config, lambda _layer: io.BytesIO, "it")


@parses(of_json(json.loads(INDEX.index)))
def index(data: bytes, _directory: Path) -> None:
    media_type_of(data, "application/vnd.oci.image.index.v1+json", "it")
    _items(data, "it")
    for platform in ("linux/arm64", "linux/amd64"):
        choose(parse_index(data, "it"), Platform.parse(platform), "it")


@parses(of_json({
    **IMAGE.config_json, "variant": "", "history": [{"created_by": "x"}, {"empty_layer": True}],
    "config": {"Env": ["PATH=/bin"], "Entrypoint": ["a"], "Cmd": [], "Labels": {"a": "b"}, "Volumes": {"/x": {}},
               "ExposedPorts": {"1/tcp": {}}, "User": "1:2", "WorkingDir": "/", "StopSignal": "9",
               "Healthcheck": {"Test": ["x"]}},
}))  # fmt: skip
def image_config(data: bytes, _directory: Path) -> None:
    found = assemble(IMAGE.descriptor, IMAGE.manifest, data, lambda _layer: IMAGE.layers[0].open, "it")
    assert build_image(found, [], Settings(env={"A": "b"}, labels={"c": "d"}, ports=("1/tcp",)), 0, {}).platform


@parses(of_json({"schemaVersion": 2, "manifests": [{**IMAGE.descriptor.to_json(), "annotations": {"a": "b"}}]}))
def layout_index(data: bytes, _directory: Path) -> None:
    blobs = {digest_of(one): one for one in (IMAGE.manifest, IMAGE.config)}
    read_item(data, b'{"imageLayoutVersion": "1.0.0"}', lambda name: io.BytesIO(blobs.get(name, b"")), AMD64, "it")


# Archives.


def tar_of(form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, kind, target in (
            ("usr/bin/python3.13", tarfile.REGTYPE, ""), ("bin", tarfile.SYMTYPE, "usr/bin"),
            ("é" * 80, tarfile.REGTYPE, ""), ("hard", tarfile.LNKTYPE, "usr/bin/python3.13"),
            ("d/.wh..wh..opq", tarfile.REGTYPE, ""), ("etc/passwd", tarfile.REGTYPE, ""),
            (".wh.x", tarfile.REGTYPE, ""), ("l" * 150, tarfile.SYMTYPE, "t" * 150),
        ):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mtime = kind, target, 1.5 if form == tarfile.PAX_FORMAT else 1
            entry.size = 30 if kind == tarfile.REGTYPE else 0
            tar.addfile(entry, io.BytesIO(bytes(30)))
    return out.getvalue()


TARS = [tar_of(form) for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)]


def summed(data: bytes) -> bytes:
    """With the sums of headers set right, damage gets further."""
    raw = bytearray(data)
    for start in range(0, len(raw) - 511, 512):
        if raw[start + 257 : start + 262] == b"ustar":
            raw[start + 148 : start + 156] = b" " * 8
            raw[start + 148 : start + 156] = b"%06o\0 " % sum(raw[start : start + 512])
    return bytes(raw)


@parses((spoilt(TARS).map(summed) | spoilt([TARS[1]]), TARS[0]))
def layer(data: bytes, directory: Path) -> None:
    descriptor = replace(IMAGE.layers[0].descriptor, digest=digest_of(data), media_type=OCI_LAYER)
    made = Layer(descriptor, digest_of(data), None, lambda: io.BytesIO(data))
    listing([made], lambda _path, stream: stream.read())
    extract([made], directory)


def packed(compression: str) -> bytes:
    out = io.BytesIO()
    write_layer([Entry("a", "file", 0o644, 0, content=TARS[0])], out, Compression(compression))
    return out.getvalue()


@parses(of_bytes(packed("gzip"), packed("zstd"), gzip.compress(b"") * 3 + gzip.compress(TARS[1])))
def compressed(data: bytes, _directory: Path) -> None:
    for _, content in read_entries(io.BytesIO(data), OCI_LAYER):
        if content:
            content.read()


@parses(of_bytes(*(
    make_deb("tool", files={"usr/bin/tool": b"x", "usr/x": ("symlink", "y")}, compression=name, postinst="a")
    for name in ("", "gz", "xz")
)))  # fmt: skip
def deb(data: bytes, directory: Path) -> None:
    for _, content in open_deb(written(directory, "x.deb", data), "tool").members():
        if content:
            content.read()


def oci_archive() -> bytes:
    out = io.BytesIO()
    write_archive(IMAGE, ["a:1"], out, host=AMD64)
    return out.getvalue()


@parses((spoilt([oci_archive()]).map(summed), oci_archive()))
def archive(data: bytes, directory: Path) -> None:
    found = read_archive(written(directory, "a.tar", data), AMD64)
    assert isinstance(found, Image)
    list(layer_entries(found.layers[0]))


SDISTS = [make_sdist("gadget", "1.0", requires=["a; extra == 'x'"])[1], make_sdist("gadget", "1.0", dynamic=True)[1]]


@parses((spoilt(SDISTS) | spoilt([gzip.decompress(SDISTS[0])]).map(summed).map(gzip.compress), SDISTS[0]))
def sdist(data: bytes, directory: Path) -> None:
    path = written(directory, "gadget-1.0.tar.gz", data)
    static_metadata(path, path.name)
    read_sdist(path)


# Wheels, and the documents in them.

INFO = "gadget-1.0.dist-info"
TEXTS: dict[str, bytes] = {
    "METADATA": b"Metadata-Version: 2.3\nName: gadget\nVersion: 1.0\nRequires-Dist: a>1\n\nText\n",
    "WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "entry_points.txt": b"[console_scripts]\nserve = gadget.web:app.main [fast]\n[gui_scripts]\nshow = gadget:show\n",
}


def record_of(files: Mapping[str, bytes]) -> bytes:
    rows = [(path, base64.urlsafe_b64encode(hashlib.sha256(data).digest()), len(data)) for path, data in files.items()]
    return "".join(f"{path},sha256={digest.decode().rstrip('=')},{size}\n" for path, digest, size in rows).encode()


def wheel_of(name: str = "", data: bytes = b"") -> bytes:
    """A wheel, one of whose documents is another; RECORD knows of it, unless it is RECORD."""
    files = {"gadget/__init__.py": b"x = 1\n", "gadget-1.0.data/scripts/tool": b"#!python\n"}
    files |= {f"{INFO}/{text}": TEXTS[text] for text in TEXTS} | ({f"{INFO}/{name}": data} if name in TEXTS else {})
    files[f"{INFO}/RECORD"] = data if name == "RECORD" else record_of(files)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for path, content in files.items():
            made.writestr(zipfile.ZipInfo(path), content)
    return out.getvalue()


@parses(of_bytes(wheel_of()))
def wheel(data: bytes, directory: Path) -> None:
    path = written(directory, "gadget-1.0-cp313-cp313-linux_x86_64.whl", data)
    check_given(path, TARGET)
    for entry in wheel_entries(path, VENV, warn=lambda _line: None):
        if callable(entry.content):
            with entry.content() as stream:
                while stream.read(1 << 16):
                    pass


with zipfile.ZipFile(io.BytesIO(wheel_of())) as _sound:
    for _name in (*TEXTS, "RECORD"):
        _damaged = spoilt([_sound.read(f"{INFO}/{_name}")]).map(functools.partial(wheel_of, _name))
        PARSERS[f"wheel_{_name}"] = (wheel, _damaged, wheel_of())


# Locks.

PYLOCK = f"""
lock-version = "1.0"
created-by = "test"
environments = ["python_version > '3'"]
requires-python = ">=3.11"
extras = ["web"]
dependency-groups = ["dev"]
default-groups = ["dev"]
[[packages]]
name = "app"
version = "1.0"
marker = "python_version > '3'"
requires-python = ">=3"
index = "https://i.example/simple"
sdist = {{name = "app-1.0.tar.gz", path = "app-1.0.tar.gz", hashes = {{sha256 = "{'b' * 64}"}}}}
wheels = [{{name = "app-1.0-py3-none-any.whl", url = "https://f.example/app-1.0-py3-none-any.whl", size = 5, \
hashes = {{sha256 = "{'a' * 64}"}}}}]
[[packages]]
name = "tool"
archive = {{url = "https://f.example/tool-1.tar.gz", hashes = {{sha256 = "{'b' * 64}"}}}}
[[packages]]
name = "project"
directory = {{path = ".", editable = true}}
[[packages]]
name = "other"
marker = "'other' in extras"
vcs = {{type = "git", url = "https://g.example/x", commit-id = "{'0' * 40}"}}
"""


def lock_of(kind: str, name: str, text: str) -> tuple[Parse, st.SearchStrategy[Any], Any]:
    def parse(data: bytes, directory: Path) -> None:
        extras, groups = (("web",), ("dev",)) if kind in ("pylock", "uv") else ((), ())
        lock = LockPlan(kind, name, ("app>=1", *(["tool"] if kind == "uv" else [])), extras, groups)
        written(directory, name, data)
        if kind in ("pylock", "uv"):
            _locked(lock, data, directory, TARGET)
        else:
            _lines(lock, directory / name, directory, TARGET, context(directory / "cache"))

    return parse, *of_toml(text)


PARSERS["pylock"] = lock_of("pylock", "pylock.toml", PYLOCK)
PARSERS["uv_lock"] = lock_of("uv", "uv.lock", UV_LOCK)
PARSERS["poetry_lock"] = lock_of("poetry", "poetry.lock", POETRY)
PARSERS["pdm_lock"] = lock_of("pdm", "pdm.lock", PDM)


@parses(of_bytes(f"""\
# by hand
app[web]==1.0 ; python_version > '3' \\
    --hash=sha256:{"a" * 64}
dep @ https://f.example/dep-1.0-py3-none-any.whl --hash=sha256:{"b" * 64}
-r requirements.txt
--index-url https://u:p@i.example/simple
-e .
""".encode()))  # fmt: skip
def requirements(data: bytes, directory: Path) -> None:
    path = written(directory, "requirements.lock", data)
    written(directory, "requirements.txt", b"")
    _lines(LockPlan("requirements", path.name), path, directory, TARGET, context(directory / "cache"))


@parses(of_toml(f"""\
version = 1
[[base]]
name = "debian:trixie"
platforms = [{{platform = "linux/amd64", python = "3.13.5", libc = "glibc 2.41", suite = "trixie"}}]
[[debian]]
for = "base"
suite = "trixie"
architecture = "amd64"
slim = true
asked = ["tool"]
as-of = "2025-09-06T10:22:11Z"
packages = [{{name = "tool", version = "1.0", architecture = "amd64", archive = "main", path = "pool/t.deb", \
size = 1, sha256 = "{"a" * 64}"}}]
[[requirements]]
platform = "linux/amd64"
python = "3.13.5"
libc = "glibc 2.41"
asked = ["app>=1"]
files = [{{name = "app", version = "1.0", file = "app-1.0-py3-none-any.whl", url = "https://f.example/app.whl", \
sha256 = "{"a" * 64}"}}]
"""))
def pins(data: bytes, _directory: Path) -> None:
    parse_pins(data, "hatch-docker.lock")


@parses(of_toml("""\
no-index = false
prerelease = "allow"
index-url = "https://i.example"
extra-index-url = ["https://j.example"]
find-links = ["./x"]
dependency-metadata = [{name = "x"}]
index = [{name = "a", url = "https://u:p@i.example/simple", default = true}]
[pip]
index-url = "https://k.example"
"""))
def uv_toml(data: bytes, directory: Path) -> None:
    written(directory, "uv.toml", data)
    found = read_indexes(directory, {"HOME": str(directory)})
    found.identity(), found.uv_environment({}), found.authorization("https://i.example/x"), found.secrets


@parses(of_bytes(b"[global]\nindex-url = https://u:p@i.example/\nextra-index-url =\n  https://j.example\n[install]\n"))
def pip_conf(data: bytes, directory: Path) -> None:
    path = written(directory, "pip.conf", data)
    found = read_indexes(directory, {"HOME": str(directory), "PIP_CONFIG_FILE": str(path)})
    found.identity(), found.uv_environment({}), found.secrets


# Debian's archive, and what is in a base.


@parses(of_bytes(f"""\
Origin: Debian
Suite: stable
Codename: trixie
Date: Sat, 06 Sep 2025 10:22:11 UTC
Valid-Until: Sat, 13 Sep 2085 10:22:11 UTC
Acquire-By-Hash: yes
SHA256:
 {"a" * 64}  1234 main/binary-amd64/Packages.xz
""".encode()))  # fmt: skip
def in_release(data: bytes, _directory: Path) -> None:
    read_release(data, "it", "trixie", "main", now=1.0).index("amd64")


@parses(of_bytes(f"""\
Package: tool
Priority: optional
Version: 1:1.0~rc1-2+b1
Architecture: amd64
Depends: lib (>= 1.0-1) | other, virtual (= 2:3)
Conflicts: enemy (<< 1)
Filename: pool/t/tool.deb
Size: 10
SHA256: {"a" * 64}

Package: lib
Version: 1.0-1
Provides: virtual (= 2:3), other
Filename: pool/l/lib.deb
Size: 10
SHA256: {"b" * 64}
""".encode()))  # fmt: skip
def packages(data: bytes, _directory: Path) -> None:
    resolve(read_universe([("main", data)]), ["tool"], where="it")


@parses(of_text("1:1.0~rc1-2+b1", "0", "1.0-1-1"))
def debian_version(text: str, _directory: Path) -> None:
    version_key(text)


@parses(of_bytes(b"""\
Types: deb
URIs: http://m.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

""", b"deb [arch=amd64 signed-by=x] http://m.example/debian trixie main\n"))  # fmt: skip
def sources_list(data: bytes, directory: Path) -> None:
    (directory / "sources.list.d").mkdir()
    for name in ("sources.list", "sources.list.d/x.sources"):
        written(directory, name, data)
    find_mirrors(BasePlan("debian", "debian:trixie", "trixie"), {}, apt=directory)


@parses(of_bytes(
    make_elf("libx.so.1", ("liby.so.2",), rpath="/x", runpath="$ORIGIN", interpreter="/lib/ld.so"),
    make_elf("libx.so.1", ("liby.so.2",), bits=32, order=">"),
))  # fmt: skip
def elf_library(data: bytes, directory: Path) -> None:
    path = "usr/lib/libx.so.1"
    entries = {path: Entry(path, "file", 0o644, 0, content=written(directory, "x", data))}
    write_cache(find_libraries(entries, ["usr/lib"]))


@parses(of_bytes(Path("/bin/true").read_bytes()[:4096], make_library("libx.so.1")))
def elf_program(data: bytes, directory: Path) -> None:
    (directory / "bin").mkdir()
    written(directory, "bin/python3", data)
    python_command(directory, Interpreter("/bin/python3", "3.13.5"))


TEXT = b"root:x:0:0:root:/root:/bin/sh\nID=debian\nVERSION_CODENAME=trixie\n"


@parses((st.tuples(spoilt([elf("amd64", "3.13.5")]), spoilt([TEXT])), (elf("amd64", "3.13.5"), TEXT)))
def base_files(datas: tuple[bytes, bytes], directory: Path) -> None:
    image = image_of(layer_of([
        file("usr/bin/python3.13", datas[0]), file("etc/passwd", datas[1]), file("etc/os-release", datas[1]),
        file("lib/libc.so.6", b"\0GNU C Library version 2.41.\0"),
    ]))  # fmt: skip
    read_facts(image, "it", context(directory / "cache"))


@parses(of_bytes(
    b"Package: tool\nStatus: install ok installed\nVersion: 1.0\nSource: src (1.1)\nMaintainer: A <a@x.example>\n"
    b"Depends: lib (>= 1) | other\nProvides: x\n\nName: gadget\nLicense-Expression: MIT\nRequires-Dist: a\n\n"
    b"P:tool\nV:1.0\nD:so:libc\np:x=1\nL:MIT\n\nFormat: https://x.example/\nLicense: GPL-2+\nID=debian\n",
))  # fmt: skip
def installed(data: bytes, _directory: Path) -> None:
    for path in ("etc/os-release", "var/lib/dpkg/status", "lib/apk/db/installed", "usr/share/doc/x/copyright",
                 "opt/x-1.dist-info/METADATA"):  # fmt: skip
        json.dumps(reader(path)(path, data))
    list(_read_status(data.decode(errors="replace")))


@parses(of_json(
    {"bomFormat": "CycloneDX", "specVersion": "1.6", "metadata": {"component": {"bom-ref": "r", "name": "w"}},
     "components": [{"type": "library", "name": "a", "version": "1", "bom-ref": "a", "purl": "pkg:cargo/a@1",
                     "hashes": [{"alg": "SHA-256", "content": "a" * 64}], "licenses": [{"license": {"id": "MIT"}}],
                     "supplier": {"name": "x"}, "components": [{"type": "file", "name": "b"}]}],
     "dependencies": [{"ref": "r", "dependsOn": ["a"]}]},
    {"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "documentDescribes": ["SPDXRef-a"],
     "packages": [{"SPDXID": "SPDXRef-a", "name": "a", "versionInfo": "1", "licenseConcluded": "MIT",
                   "checksums": [{"algorithm": "SHA256", "checksumValue": "a" * 64}], "supplier": "Person: x",
                   "externalRefs": [{"referenceType": "purl", "referenceLocator": "pkg:pypi/a@1"}]}],
     "relationships": [{"spdxElementId": "SPDXRef-a", "relationshipType": "DEPENDS_ON",
                        "relatedSpdxElement": "SPDXRef-b"}]},
))  # fmt: skip
def bundled_sbom(data: bytes, _directory: Path) -> None:
    json.dumps(read_bundled(data))


# What the user writes, and what BuildKit says.


OPTIONS = tomllib.loads(EVERYTHING)["tool"]["hatch-docker"]


@parses((misfit([OPTIONS]), OPTIONS))
def config(value: Any, _directory: Path) -> None:
    load_config(value, {}, None)


NAMES = st.sampled_from([
    f"HATCH_DOCKER_{name}" for name in ("TAGS", "ENTRYPOINT", "ENV", "FILES", "CHECK_TIMEOUT", "PORTS", "IMAGE")
])
VALUES = ('["a", "b"]', "a,b", "A=1,B=2", '{"a": {"b": 1}}', "serve --port '80'", "1m")


@parses((st.tuples(NAMES, spoilt_text(VALUES)), ("HATCH_DOCKER_TAGS", "a,b")))
def variables(item: tuple[str, str], _directory: Path) -> None:
    load_config({}, dict([item]), None)


STEP = {"digest": "sha256:1", "name": "[wheel 1/2] RUN x", "started": "2024-01-01T00:00:00Z"}
LOG = [
    {"vertexes": [STEP], "logs": [{"vertex": "sha256:1", "data": "ZXJyb3I6IHg="}]},
    {"vertexes": [{**STEP, "completed": "2024-01-01T00:00:01Z", "cached": True}]},
    {"vertexes": [{**STEP, "completed": "2024-01-01T00:00:01Z", "error": "exit code: 1"}]},
]  # fmt: skip


@parses((
    misfit([LOG]).map(lambda value: b"\n".join(json.dumps(one).encode() for one in value or ()))
    | spoilt([b"".join(json.dumps(one, indent=1).encode() + b"\n" for one in LOG) + b"text\n"]),
    b"\n".join(json.dumps(one).encode() for one in LOG),
))  # fmt: skip
def buildkit_log(data: bytes, _directory: Path) -> None:
    log = Log(silent())
    for line in data.decode(errors="replace").split("\n"):
        log.feed(line)
    log.explain()


class Together(list[Any]):
    """Some documents, whose representation would be longer than Hypothesis likes."""

    def __repr__(self) -> str:
        return f"<{len(self)} documents; that which fails is printed>"


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_a_sound_document_is_read(name: str, tmp_path: Path) -> None:
    """Else its parser would refuse all that is damaged at the first thing that is missing."""
    parse, _, sound = PARSERS[name]
    parse(sound, tmp_path)


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_a_parser_fails_in_one_way_only(name: str, tmp_path: Path) -> None:
    """An answer, or a HatchDockerError that a terminal can show, within a second of CPU and 300 MB of memory."""
    parse, damaged, _ = PARSERS[name]
    longest, peak = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fresh = "directory" in inspect.signature(parse).parameters  # else it is called _directory, and not looked at

    @settings(max_examples=EXAMPLES // TOGETHER, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(damaged, min_size=TOGETHER, max_size=TOGETHER).map(Together))
    def judge(documents: Together) -> None:
        nonlocal longest
        for document in documents:
            with tempfile.TemporaryDirectory(dir=tmp_path) if fresh else nullcontext(tmp_path) as place:
                start = time.process_time()
                try:
                    parse(document, Path(place))
                except HatchDockerError as error:
                    assert all(len(line) < 2100 for line in plain(str(error)).splitlines())
                except Exception:
                    print(f"the document: {document!r}")
                    raise
                longest = max(longest, time.process_time() - start)

    judge()
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
    print(f"{name}: {EXAMPLES} documents, the slowest in {longest:.3f} s, {taken / 1e6:.0f} MB")
    assert longest < SECONDS
    assert taken < MEMORY
