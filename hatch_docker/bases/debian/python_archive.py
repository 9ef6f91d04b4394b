"""Archives of CPython as python-build-standalone publishes them: found on a mirror, fetched by their hash.

A mirror has a directory for each release, in it `SHA256SUMS` and archives named as in `_NAME`, of the layout
"install_only_stripped": a tree `python/` with bin, include, lib and share. uv installs Pythons from the same mirrors.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from packaging.version import Version

from hatch_docker.bases.model import Interpreter
from hatch_docker.core.cache.store import file_digest, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError
from hatch_docker.core.http import client as transport
from hatch_docker.core.http.urls import redact_url
from hatch_docker.core.text import abbreviate
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import ARCHIVES, BasePlan, StandalonePlan

RECIPE = 1             # raise it when the same mirror gives another archive
SUMS = "SHA256SUMS"
SUMS_LIMIT = 4 << 20   # bytes; a release has 150 KB
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_NAME = re.compile(
    r"cpython-(?P<version>3\.\d+\.\d+(?:(?:a|b|rc)\d+)?)\+(?P<release>\d{8})-(?P<machine>x86_64|aarch64)"
    r"-unknown-linux-gnu(?P<free>-freethreaded)?-install_only_stripped\.tar\.gz"
)


@dataclass(frozen=True, slots=True)
class PythonArchive:
    """An archive of CPython: its path below the mirror, its digest, and the libraries in it with their versions."""

    path: str                                 # "20261003/cpython-3.14.8+20261003-x86_64-unknown-linux-gnu-...tar.gz"
    digest: str
    bundled: tuple[tuple[str, str], ...] = ()

    @property
    def filename(self) -> str:
        """The name of the file."""
        return self.path.rpartition("/")[2]

    @property
    def interpreter(self) -> Interpreter:
        """The interpreter that it brings to /usr/local."""
        found = _NAME.fullmatch(self.filename)
        assert found is not None  # no other one is made
        plain = Interpreter("", found["version"], "t" if found["free"] else "")
        return Interpreter(f"/usr/local/bin/python{plain.name}", plain.version, plain.abi)


def find_archive(plan: BasePlan, platform: Platform, ctx: Context) -> PythonArchive:
    """Return the archive of a base for a platform: that of the image lock, else the newest that the mirror has.

    Raises BaseImageError if there is none, ConfigError for a lock that is out of date, and RegistryError.
    """
    assert plan.standalone is not None
    question = {"name": plan.name, "platform": str(platform)}
    pins = ctx.image_lock
    if pins is not None and (entry := pins.find("python", question)) is not None:
        return PythonArchive(entry["file"], f"sha256:{entry['sha256']}")
    mirror = _mirror(plan, ctx)
    own, release = plan.standalone, plan.standalone.release
    if mirror.startswith("file:") and not release:
        found = _newest(own, platform, _local(mirror))
    elif release:
        key = key_of("python archive", RECIPE, mirror, release, own.python, str(platform))
        found = ctx.store.remembered("python-archive", key, lambda: _released(own, platform, mirror, ctx))
    else:
        raise BaseImageError(
            f"base {plan.name}: a mirror has many releases; set [tool.hatch-docker.standalone] release to one of them, "
            'such as "20261003"'
        )
    path, digest = found
    if pins is not None:
        pins.note("python", {**question, "file": path, "sha256": digest.removeprefix("sha256:")})
    return PythonArchive(path, digest)


def fetch_archive(archive: PythonArchive, plan: BasePlan, ctx: Context) -> Path:
    """Return the archive's file, downloaded and verified if the store lacks it. Raises RegistryError."""
    if not ctx.store.has(archive.digest):
        with ctx.progress.task(f"downloading {archive.filename}"):
            url = f"{_mirror(plan, ctx)}/{quote(archive.path)}"
            transport.fetch(ctx.store, ctx.client, url, digest=archive.digest)
    return ctx.store.blob_path(archive.digest)


def mirror_origin(plan: BasePlan) -> str:
    """Return what names the mirror of a base: the option, or else the variable."""
    own = plan.standalone is not None and plan.standalone.mirror
    return "tool.hatch-docker.standalone.mirror" if own else ARCHIVES


def _mirror(plan: BasePlan, ctx: Context) -> str:
    """Return the URL of the mirror without a slash at its end; raises BaseImageError if nothing names one."""
    assert plan.standalone is not None
    mirror = plan.standalone.mirror or ctx.environ.get(ARCHIVES, "")
    if mirror.startswith("/"):
        mirror = Path(mirror).as_uri()
    if not re.match(r"https?://[^/]|file:///", mirror):
        raise BaseImageError(
            f"base {plan.name} comes from a mirror of python-build-standalone, and "
            f"{f'{redact_url(mirror)!r} is no URL of one' if mirror else 'none is known'}; name one by "
            f"[tool.hatch-docker.standalone] mirror or {ARCHIVES}: an http, https or file URL"
        )
    return mirror.rstrip("/")


def _local(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def _released(plan: StandalonePlan, platform: Platform, mirror: str, ctx: Context) -> tuple[str, str]:
    """Return path and digest of the newest archive of a release, by its SHA256SUMS."""
    url = f"{mirror}/{plan.release}/{SUMS}"
    text = transport.read_document(ctx.client, url, limit=SUMS_LIMIT)
    if text is None:
        raise BaseImageError(
            f"{redact_url(url)} does not exist; check `release` and `mirror` of [tool.hatch-docker.standalone], and "
            f"{ARCHIVES}"
        )
    rows = {f"{plan.release}/{name}": digest for name, digest in _sums(text.decode(errors="replace"))}
    path = _best(plan, platform, list(rows), redact_url(url))
    return path, rows[path]


def _sums(text: str) -> Iterator[tuple[str, str]]:
    """Yield the names and digests in a file of sha256sum(1)."""
    for line in text.splitlines():
        if found := re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)", line.strip()):
            yield found[2], f"sha256:{found[1]}"


def _newest(plan: StandalonePlan, platform: Platform, directory: Path) -> tuple[str, str]:
    """Return path and digest of the newest archive in a directory or the directories of releases in it."""
    files = {str(path.relative_to(directory)): path for place in ("*", "*/*") for path in directory.glob(place)}
    path = _best(plan, platform, list(files), str(directory))
    sums = files[path].with_name(SUMS)
    rows = dict(_sums(sums.read_text(encoding="utf-8", errors="replace"))) if sums.is_file() else {}
    return path, rows.get(files[path].name) or file_digest(files[path])


def _best(plan: StandalonePlan, platform: Platform, paths: list[str], where: str) -> str:
    """Return the path of the newest archive that a plan wants; raises BaseImageError, which lists what there is."""
    known: dict[str, set[str]] = {}
    found: list[tuple[Version, str, str]] = []
    for path in paths:
        if match := _NAME.fullmatch(path.rpartition("/")[2]):
            python = match["version"].rpartition(".")[0] + ("t" if match["free"] else "")
            known.setdefault(match["machine"], set()).add(python)
            if (python, match["machine"]) == (plan.python, MACHINES[platform.architecture]):
                found.append((Version(match["version"]), match["release"], path))
    if not found:
        others = sorted(known.get(MACHINES[platform.architecture], ()), key=lambda text: (len(text), text))
        raise BaseImageError(
            f"{where} has no install_only_stripped archive of CPython {plan.python} for {platform}; it has "
            f"{abbreviate(others) or 'none for that platform'}"
        )
    return max(found)[2]
