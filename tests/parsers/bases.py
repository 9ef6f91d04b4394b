"""Parsers of files from Debian's archive and in base images."""

import json
from pathlib import Path

from hatch_docker.bases.bytecode import python_command
from hatch_docker.bases.debian.apt_config import find_mirrors
from hatch_docker.bases.debian.apt_packages import read_status
from hatch_docker.bases.debian.archive import read_package_index, read_release
from hatch_docker.bases.debian.ldconfig import find_libraries, write_cache
from hatch_docker.bases.debian.resolver import resolve, version_key
from hatch_docker.bases.inspection import read_facts
from hatch_docker.bases.model import Interpreter
from hatch_docker.oci.layer import Entry
from hatch_docker.plan.model import BasePlan
from hatch_docker.release.sbom.embedded import read_embedded
from hatch_docker.release.sbom.inventory import reader
from tests.fakes.bases import file
from tests.fakes.bases import program as elf
from tests.fakes.context import context
from tests.fakes.damaged_documents import damaged, tuple_of
from tests.fakes.debian_archive import make_library
from tests.fakes.elf import make_elf
from tests.fakes.images import image_of, layer_of
from tests.parsers.parser import of_bytes, of_json, of_text, parses, written


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
    resolve(read_package_index([("main", data)]), ["tool"], where="it")


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


@parses((tuple_of(damaged([elf("amd64", "3.13.5")]), damaged([TEXT])), (elf("amd64", "3.13.5"), TEXT)))
def base_files(datas: tuple[bytes, bytes], _directory: Path) -> None:
    image = image_of(layer_of([
        file("usr/bin/python3.13", datas[0]), file("etc/passwd", datas[1]), file("etc/os-release", datas[1]),
        file("lib/libc.so.6", b"\0GNU C Library version 2.41.\0"),
    ]))  # fmt: skip
    read_facts(image, "it", context(_directory / "cache"))


@parses(of_bytes(
    b"Package: tool\nStatus: install ok installed\nVersion: 1.0\nSource: src (1.1)\nMaintainer: A <a@x.example>\n"
    b"Depends: lib (>= 1) | other\nProvides: x\n\nName: gadget\nLicense-Expression: MIT\nRequires-Dist: a\n\n"
    b"P:tool\nV:1.0\nD:so:libc\np:x=1\nL:MIT\n\nFormat: https://x.example/\nLicense: GPL-2+\nID=debian\n",
))  # fmt: skip
def installed(data: bytes, _directory: Path) -> None:
    for path in ("etc/os-release", "var/lib/dpkg/status", "lib/apk/db/installed", "usr/share/doc/x/copyright",
                 "opt/x-1.dist-info/METADATA"):  # fmt: skip
        json.dumps(reader(path)(path, data))
    read_status(data.decode(errors="replace"))


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
    json.dumps(read_embedded(data))
