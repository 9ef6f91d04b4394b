"""Bases made from Debian packages of the mirror that this host's apt uses: they run and have the promised sizes."""

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from hatch_docker.bases.bytecode import python_command
from hatch_docker.bases.debian.base import make_debian_base
from hatch_docker.bases.debian.ldconfig import MAGIC
from hatch_docker.bases.image import base_tree
from hatch_docker.bases.model import Base
from hatch_docker.core.context import Context, open_context
from hatch_docker.core.progress import silent
from hatch_docker.oci.layer import Compression, layer_entries
from hatch_docker.oci.model import Platform, host_platform
from hatch_docker.plan.model import BasePlan
from tests.validate import validate

pytestmark = pytest.mark.network

HOST = host_platform()
OTHER = Platform("linux", "arm64" if HOST.architecture == "amd64" else "amd64")
MACHINES = {"amd64": 62, "arm64": 183}
MEGABYTE = 1_000_000

MODULES = (
    "ssl sqlite3 ctypes lzma bz2 zoneinfo hashlib asyncio multiprocessing readline curses curses.panel uuid decimal "
    "venv datetime io locale unittest.mock xml.etree.ElementTree concurrent.futures email.message dbm pydoc http.server"
)
REPORT = f"""
import importlib, json, os, pwd, sys, zoneinfo
modules = [importlib.import_module(name) for name in "{MODULES}".split()]
import curses, ssl
for name in ("xterm", "xterm-256color", "linux", "screen", "tmux-256color", "vt100", "dumb", "ansi"):
    curses.setupterm(name)
    assert (curses.tigetnum("cols"), curses.tigetnum("colors")) != (-1, -1)
print(json.dumps({{
    "version": sys.version.split()[0],
    "uncompiled": [m.__file__ for m in list(sys.modules.values())
                   if getattr(m, "__cached__", None) and not os.path.exists(m.__cached__)],
    "openssl": [ssl.get_default_verify_paths().openssl_cafile, ssl.get_default_verify_paths().openssl_capath],
}}))
import _pydecimal, _pyio  # without bytecode, as they are seldom used
"""


@pytest.fixture(scope="module")
def ctx(cache: Path) -> Context:
    """Return a context with the user's environment and the cache of the session."""
    return open_context({**os.environ, "HATCH_DOCKER_CACHE_DIR": str(cache)}, silent())


def base_of(
    ctx: Context, suite: str, target: Platform = HOST, *packages: str, slim: bool = True, python: str = ""
) -> Base:
    plan = BasePlan("debian", f"debian:{suite}", suite, slim=slim, packages=packages, python=python)
    base = make_debian_base(plan, target, ctx, compression=Compression())
    validate(base.image)
    return base


def run_python(base: Base, ctx: Context, code: str) -> str:
    """Run code with the base's Python and dynamic loader; return its standard output."""
    tree = base_tree(base, ctx)
    home = tree / base.interpreter.path.lstrip("/")
    (terminals,) = tree.glob("usr/*/terminfo")
    environ = {"PYTHONHOME": str(home).rpartition("/bin/")[0], "LC_ALL": "C.UTF-8", "TERMINFO": str(terminals)}
    command = [*python_command(tree, base.interpreter), "-S", "-s", "-c", code]
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(("suite", "python", "glibc"), [
    ("trixie", "3.13", "2.41"), ("bookworm", "3.11", "2.36"), ("forky", "3.15", "2.4"),
    *(pytest.param(*row, "2.4", marks=pytest.mark.long) for row in (("forky", "3.14"), ("sid", "3.15"))),
])  # fmt: skip
def test_python_of_the_base_runs(ctx: Context, suite: str, python: str, glibc: str) -> None:
    """Python starts, imports the usual modules, finds every .pyc, and OpenSSL's default paths have certificates."""
    base = base_of(ctx, suite, python=python)
    report = json.loads(run_python(base, ctx, REPORT))
    assert report["version"] == base.interpreter.version
    assert base.interpreter.short == python
    assert (base.libc[0], base.libc[1].startswith(glibc)) == ("glibc", True)  # forky's version changes
    assert report["uncompiled"] == []
    tree = base_tree(base, ctx)
    assert report["openssl"] == ["/usr/lib/ssl/cert.pem", "/usr/lib/ssl/certs"]
    assert (tree / "usr/lib/ssl/cert.pem").readlink() == Path("/etc/ssl/certs/ca-certificates.crt")
    assert (tree / "etc/ssl/certs/ca-certificates.crt").read_text().count("BEGIN CERTIFICATE") > 100
    assert (tree / "var/lib/dpkg/status.d/libc6").read_text().startswith("Package: libc6\n")
    assert not list(tree.glob("usr/bin/*sh"))
    assert {path.name for path in (tree / "usr/bin").iterdir()} == {f"python{python}"}


@pytest.mark.parametrize("suite", ["trixie", "bookworm"])
def test_ld_so_cache_equals_that_of_ldconfig(ctx: Context, suite: str, tmp_path: Path) -> None:
    """Compared with the entries, in order, that the suite's ldconfig writes."""
    cached_tree = base_tree(base_of(ctx, suite, HOST, "libpq5"), ctx)
    tree = shutil.copytree(cached_tree, tmp_path / "root", symlinks=True)  # ldconfig writes into it

    def cache_entries(cache: Path) -> list[str]:
        ldconfig = [str(tree / "usr/sbin/ldconfig"), "-p", "-C", str(cache)]
        lines = subprocess.run(ldconfig, check=True, capture_output=True, text=True).stdout.splitlines()
        return [line for line in lines[1:] if not line.startswith("Cache generated by")]

    found = cache_entries(tree / "etc/ld.so.cache")
    expected = tmp_path / "ld.so.cache"
    subprocess.run([str(tree / "usr/sbin/ldconfig"), "-X", "-r", str(tree), "-C", "/etc/ld.so.cache.test"], check=True)
    (tree / "etc/ld.so.cache.test").rename(expected)
    assert found == cache_entries(expected)
    assert len(found) > 40
    assert any("libpq.so.5 " in line for line in found)


def test_sizes_of_slim_and_full_base(ctx: Context) -> None:
    """The slim base is smaller than the README's unpacked and compressed sizes; the full base is larger."""
    for target in (HOST, OTHER):
        layer = base_of(ctx, "trixie", target).image.layers[0]
        assert layer.unpacked_size is not None
        assert layer.unpacked_size < 51.9 * MEGABYTE
        assert layer.descriptor.size < 20 * MEGABYTE
    full = base_of(ctx, "trixie", slim=False).image.layers[0]
    assert (full.unpacked_size or 0) > 60 * MEGABYTE


@pytest.mark.parametrize("suite", ["trixie", "bookworm"])
def test_base_of_another_architecture(ctx: Context, suite: str) -> None:
    """Every ELF file is for the target platform; the standard library is byte-compiled without emulation."""
    base = base_of(ctx, suite, OTHER)
    assert base.image.platform == OTHER
    machines, compiled, cache = set(), 0, b""
    for entry, content in layer_entries(base.image.layers[0]):
        start = content.read(64) if content else b""
        if start.startswith(b"\x7fELF"):
            machines.add(struct.unpack_from("<H", start, 18)[0])
        compiled += entry.path.endswith(f".{base.interpreter.cache_tag}.pyc")
        cache = start if entry.path == "etc/ld.so.cache" else cache
    assert machines == {MACHINES[OTHER.architecture]}
    assert compiled > 400
    assert cache.startswith(MAGIC)


def test_cached_base_needs_no_mirror(ctx: Context) -> None:
    base = base_of(ctx, "trixie")
    offline = open_context(
        {
            "HATCH_DOCKER_CACHE_DIR": str(ctx.store.root.parent),
            "HATCH_DOCKER_DEBIAN_MIRROR": "http://127.0.0.1:9/debian",
        },
        silent(),
    )
    assert base_of(offline, "trixie").image.manifest == base.image.manifest
