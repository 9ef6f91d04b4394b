"""Finding the Debian package with a file that a failed build or program needs.

The most common files are in the table KNOWN. For other files, packages with a similar name are opened. The last search
is in the archive's Contents files, which are larger downloads.
"""

import re
import time

from hatch_docker.bases.debian.archive import fetch_package_index
from hatch_docker.bases.debian.base_cache import is_young
from hatch_docker.bases.debian.find_library import search_contents
from hatch_docker.bases.debian.resolver import PackageIndex, version_key
from hatch_docker.bases.debian.suite import Suite, current_indexes, open_debs
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.errors import HatchDockerError

RECIPE = 1
KIND = "debian-file"
LARGEST = 8 << 20  # bytes of the largest package that is opened
MOST = 3           # the most packages that are opened for one pattern
# Files for which a search by name would find another package or none.
KNOWN = {
    "BLAS": "libopenblas-dev", "LAPACK": "libopenblas-dev", "OpenBLAS.pc": "libopenblas-dev",
    "openblas.pc": "libopenblas-dev", "Boost": "libboost-dev", "CURL": "libcurl4-openssl-dev",
    "Eigen3": "libeigen3-dev", "HDF5": "libhdf5-dev", "JPEG": "libjpeg-dev", "OpenSSL": "libssl-dev",
    "PNG": "libpng-dev", "ZLIB": "zlib1g-dev", "LibXml2": "libxml2-dev", "Threads": "libc6-dev", "bash": "bash",
    "bison": "bison", "cargo": "cargo", "cmake": "cmake", "curl-config": "libcurl4-openssl-dev",
    "curl/curl.h": "libcurl4-openssl-dev", "ffi.h": "libffi-dev", "ffmpeg": "ffmpeg", "flex": "flex",
    "gdal-config": "libgdal-dev", "gfortran": "gfortran", "git": "git", "krb5-config": "libkrb5-dev",
    "lber.h": "libldap-dev", "libclang": "libclang-dev", "libxml/xmlversion.h": "libxml2-dev",
    "libxslt/xslt.h": "libxslt1-dev", "ldap.h": "libldap-dev", "mariadb_config": "libmariadb-dev",
    "mysql_config": "default-libmysqlclient-dev", "mysqlclient.pc": "default-libmysqlclient-dev",
    "libmysqlclient.pc": "default-libmysqlclient-dev", "ninja": "ninja-build", "node": "nodejs", "npm": "npm",
    "openssl.pc": "libssl-dev", "openssl/ssl.h": "libssl-dev", "pg_config": "libpq-dev",
    "protoc": "protobuf-compiler", "libpq-fe.h": "libpq-dev", "sasl/sasl.h": "libsasl2-dev", "sh": "dash",
    "sql.h": "unixodbc-dev", "swig": "swig", "unzip": "unzip", "xml2-config": "libxml2-dev",
    "xmlsec1.pc": "libxmlsec1-dev", "xslt-config": "libxslt1-dev", "zlib.h": "zlib1g-dev", "jpeglib.h": "libjpeg-dev",
    "jpeg": "libjpeg-dev", "zlib": "zlib1g-dev", "tesseract": "tesseract-ocr", "pdftoppm": "poppler-utils",
    "dot": "graphviz", "pandoc": "pandoc", "libcairo.so.2": "libcairo2", "libpq.so.5": "libpq5",
    "libzbar.so.0": "libzbar0", "libusb-1.0.so.0": "libusb-1.0-0", "libportaudio.so.2": "libportaudio2",
    "libenchant-2.so.2": "libenchant-2-2", "libpango-1.0.so.0": "libpango-1.0-0",
    "libpangoft2-1.0.so.0": "libpangoft2-1.0-0", "libfontconfig.so.1": "libfontconfig1",
    "libharfbuzz.so.0": "libharfbuzz0b", "libharfbuzz-subset.so.0": "libharfbuzz-subset0",
}  # fmt: skip


def find_package(name: str, suite: Suite | None) -> str:
    """Return the package with a file, "" if it is not known. The result is cached for a day.

    `name`: a header below usr/include ("curl/curl.h"), a pkg-config file ("cairo.pc"), a library to link ("libpq.so")
    or to load ("libpq.so.5"), a program, or a CMake package ("Eigen3"). Without a suite, or if its mirrors fail, only
    the table KNOWN is used.
    """
    if name in KNOWN or suite is None:
        return KNOWN.get(name, "")
    ctx = suite.ctx
    key = key_of(RECIPE, suite.codename, suite.architecture, name)
    fact = ctx.store.recall(KIND, key)
    if fact is None or not is_young(fact, time.time()):
        try:
            fact = {"time": time.time(), "package": _search(name, suite)}
        except HatchDockerError as error:
            ctx.progress.detail(f"cannot find out which package contains {name}: {error}")
            return ""
        ctx.store.remember(KIND, key, fact)
    return str(fact["package"])


def packages_of_rust(version: str, suite: Suite) -> tuple[str, ...]:
    """Return the packages with Rust `version` ("1.90") or newer: `cargo`, or `cargo-web` if `cargo` is older.

    If the mirrors fail, or the suite has no `cargo-web`, return `cargo`.
    """
    try:
        with suite.ctx.progress.task(f"looking for Rust {version} in {suite.name}", part=True) as task:
            index = fetch_package_index(current_indexes(suite), suite.mirrors(), suite.ctx, task)
            cargo = index.get("cargo")
            newer = cargo and version_key(cargo.version) < version_key(version) and index.get("cargo-web")
    except HatchDockerError:
        newer = None
    return ("cargo-web", "rustc-web") if newer else ("cargo",)


def _search(name: str, suite: Suite) -> str:
    pattern = _pattern(name)
    if package := _by_name(name, pattern, suite):
        return package
    for architecture in ("", "all"):
        found = [(path, package) for path, packages in search_contents(pattern, suite, name, architecture)
                 for package in packages]  # fmt: skip
        if found:
            return min(found, key=_rank)[1].rpartition("/")[2]
    return ""


def _by_name(name: str, pattern: bytes, suite: Suite) -> str:
    """Return a package that has the file and a similar name, "" if there is none."""
    with suite.ctx.progress.task(f"looking for {name} in {suite.name}", part=True) as task:
        index = fetch_package_index(current_indexes(suite), suite.mirrors(), suite.ctx, task)
    has_file = re.compile(pattern)
    for candidate in _candidates(name, index):
        package = index.get(candidate)
        if package is None or package.size > LARGEST:
            continue
        for deb in open_debs(suite, [package]):
            if any(has_file.fullmatch(entry.path.encode(errors="replace")) for entry, _ in deb.members()):
                return candidate
    return ""


def _candidates(name: str, index: PackageIndex) -> list[str]:
    """Return the names of packages that may have a file, the most likely first."""
    directory, _, file = name.rpartition("/")
    stem = re.split(r"\.(?:h|hh|hpp|hxx|pc|so|a)\b", file.lower())[0]
    if "." not in name:
        found = index.matching(rf"(lib)?{re.escape(stem)}([\d.]*-dev|-bin|-utils|-tools|)")
    else:
        stems = [stem, stem.removeprefix("lib"), directory.partition("/")[0].lower(), re.split(r"[-_+\d]", stem)[0]]
        parts = (re.escape(part) for part in dict.fromkeys(stems) if len(part) > 1)
        patterns = (rf"(lib)?{part}[-\d.+]*(?:[a-z]\d?)?-dev" for part in parts)
        found = [package for pattern in patterns for package in index.matching(pattern)[:MOST]]
    return list(dict.fromkeys(found))[: 2 * MOST]


def _pattern(name: str) -> bytes:
    """Return a pattern for the possible paths of a file with this name."""
    plain = re.escape(name.encode(errors="replace"))
    if re.search(r"\.h(h|pp|xx)?$", name):
        return rb"usr/include/(?:\S*/)?" + plain
    if name.endswith(".pc"):
        return rb"usr/(?:lib|share)/(?:\S*/)?pkgconfig/" + plain
    if re.search(r"\.so(\.|$)|\.a$", name):
        return rb"(?:usr/)?lib/(?:[a-z0-9_]+-linux-gnu[a-z]*/)?" + plain
    cmake = rb"|usr/(?:lib|share)/\S*/(?i:" + plain + rb"(?:C|-c)onfig)\.cmake" if re.match(r"[A-Z]", name) else b""
    return rb"(?:usr/)?s?bin/" + plain + cmake


def _rank(item: tuple[str, str]) -> tuple[bool, int, bool, int, str]:
    """Return a sort key for (path, package): the file's own package sorts before packages that bundle a copy."""
    path, package = item
    section, _, name = package.rpartition("/")
    place = re.sub(r"/[a-z0-9_]+-linux-gnu[a-z]*/", "/", path)
    old = "oldlibs" in section or "cross" in name
    return old, place.count("/"), not name.endswith("-dev"), len(name), name
