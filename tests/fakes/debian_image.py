"""Images like python:3.13-slim, made without a registry.

mmdebstrap makes a minimal Debian with apt. The Python in /usr/local is Debian's, or one of this machine.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hatch_docker.bases.debian.apt_config import find_mirrors
from hatch_docker.bases.debian.rootfs import wanted_at_run_time
from hatch_docker.bases.debian.steps import builder_step
from hatch_docker.bases.debian.suite import Suite, open_debs, pin, with_snapshot
from hatch_docker.core.context import open_context
from hatch_docker.core.progress import silent
from hatch_docker.oci.archive import read_archive, write_archive
from hatch_docker.oci.model import Image, Platform, host_platform
from hatch_docker.oci.tar import Entry, read_tar
from hatch_docker.plan.model import BasePlan
from tests.conftest import need, run
from tests.fakes.images import image_of, layer_of

SUITE, PYTHON = "trixie", "python3.13"
# The libraries that Python's modules load, as in the official images.
LIBRARIES = (
    "ca-certificates", "libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libncursesw6", "libreadline8t64",
    "libsqlite3-0", "libssl3t64", "libuuid1", "netbase", "tzdata", "zlib1g",
)  # fmt: skip
LEFT_OUT = {"__pycache__", "ensurepip", "idlelib", "site-packages", "test", "tkinter"}
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


def slim_image(cache: Path, work: Path, python: Path | None = None) -> Image:
    """Return the image for this machine's platform. It is made once, and kept in the cache.

    `python`: a program of this machine, whose installation is used instead of Debian's Python.
    """
    archive = cache / "tests" / f"slim-2{f'-{python.name}' if python else ''}.oci.tar"
    if not archive.exists():
        image = image_of(
            layer_of(list(_debian(work))), layer_of(list(installed_python(python) if python else _python(cache, work))),
            path=PATH, architecture=host_platform().architecture,
        )  # fmt: skip
        archive.parent.mkdir(parents=True, exist_ok=True)
        with archive.with_suffix(".new").open("wb") as stream:
            write_archive(image, ["registry.example/python:3.13-slim"], stream, host=host_platform())
        archive.with_suffix(".new").rename(archive)
    image = read_archive(archive, Platform("linux", host_platform().architecture))
    assert isinstance(image, Image)
    return image


def _debian(work: Path) -> Iterator[Entry]:
    """Yield the entries that mmdebstrap makes, without devices and (as in slim images) without documentation."""
    plan = BasePlan("debian", f"debian:{SUITE}", SUITE)
    mirrors = find_mirrors(plan, os.environ)
    suites = [(mirrors.main, SUITE), (mirrors.main, f"{SUITE}-updates"), (mirrors.security, f"{SUITE}-security")]
    sources = "".join(f"deb {root} {suite} main\n" for root, suite in suites)
    command = [need("mmdebstrap"), "--quiet", "--variant=minbase", f"--include={','.join(LIBRARIES)}"]
    if not mirrors.check_valid_until:
        command.append('--aptopt=Acquire::Check-Valid-Until "false"')
    subprocess.run([*command, SUITE, str(work / "slim.tar"), "-"], input=sources.encode(), check=True)
    with (work / "slim.tar").open("rb") as stream:
        for entry, content in read_tar(stream):
            if entry.kind in ("file", "directory", "symlink", "hardlink") and wanted_at_run_time(entry.path):
                yield replace(entry, content=content.read()) if content is not None else entry


def _python(cache: Path, work: Path) -> Iterator[Entry]:
    """Yield the entries of Debian's Python with its headers, in /usr/local, without static libraries."""
    ctx = open_context({**os.environ, "HATCH_DOCKER_CACHE_DIR": str(cache)}, silent())
    plan = BasePlan("debian", f"debian:{SUITE}", SUITE)
    suite = Suite(plan, SUITE, host_platform().architecture, ctx)
    (packages,) = with_snapshot(suite, lambda indexes: pin(suite, indexes, [builder_step(plan, SUITE, ())]))
    entries: dict[str, Entry] = {}
    for deb in open_debs(suite, [package for package in packages if PYTHON in package.name]):
        for entry, content in deb.members():
            parts = entry.path.split("/")
            if parts[0] != "usr" or parts[1:2] not in (["bin"], ["lib"], ["include"]) or entry.path.endswith(".a"):
                continue
            path = "/".join(["usr", "local", *parts[1:]])
            target = entry.target.replace("usr/", "usr/local/", 1) if entry.kind == "hardlink" else entry.target
            entries[path] = replace(entry, path=path, target=target, content=content.read() if content else None)
    for name in ("python", "python3"):
        entries[f"usr/local/bin/{name}"] = Entry(f"usr/local/bin/{name}", "symlink", 0o777, 0, target=PYTHON)
    yield from entries.values()


def installed_python(program: Path) -> Iterator[Entry]:
    """Yield the entries of the installation of a program such as `python3.12`, with headers, without site-packages.

    For a shared libpython there is a link in a default directory of the loader, because ldconfig is not run.
    """
    code = "import sys, sysconfig as s; print(sys.base_prefix, s.get_config_var('MULTIARCH'), s.get_path('stdlib'))"
    prefix, machine, library_path = run(program, "-c", code).split()
    name = Path(library_path).name
    for path in sorted(Path(prefix).rglob("*")):
        top, *parts = path.relative_to(prefix).parts
        library = path.name.startswith("libpython")
        mine = {"bin": parts == [name], "lib": library or parts[:1] == [name], "include": True}
        if not mine.get(top) or LEFT_OUT.intersection(parts) or path.suffix == ".a" or path.is_dir():
            continue
        entry = Entry("/".join(["usr/local", top, *parts]), "file", path.stat().st_mode & 0o755, 0)
        if path.is_symlink():
            yield replace(entry, kind="symlink", mode=0o777, target=str(path.readlink()))
        else:
            yield replace(entry, size=path.stat().st_size, content=path.read_bytes())
        if library:
            where = f"usr/lib/{machine}/{path.name}"
            yield Entry(where, "symlink", 0o777, 0, target=f"/usr/local/lib/{path.name}")
    for alias in ("python", "python3"):
        yield Entry(f"usr/local/bin/{alias}", "symlink", 0o777, 0, target=name)
