"""Core metadata of wheels and sdists, converted to a [project] table (PEP 621)."""

import configparser
import contextlib
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from email.utils import getaddresses
from pathlib import Path
from typing import Any

from packaging.metadata import parse_email
from packaging.utils import canonicalize_name

from hatch_docker.core.errors import ImageError, WheelError
from hatch_docker.wheels.builder.sdist import sdist_documents

LIMIT = 1 << 20  # bytes of METADATA
# Headers that correspond to the fields of [project], if `_table` reads the field. `scripts` is not in the metadata.
_HEADERS: Mapping[str, tuple[str, ...]] = {
    "version": (), "readme": (), "keywords": (), "maintainers": (), "gui-scripts": (), "license-files": (),
    "description": ("summary",), "requires-python": ("requires-python",), "authors": ("author", "author-email"),
    "license": ("license", "license-expression"), "classifiers": ("classifier",),
    "urls": ("home-page", "project-url"), "dependencies": ("requires-dist",),
    "optional-dependencies": ("requires-dist", "provides-extra"),
}
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


@contextlib.contextmanager
def _open(wheel: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise WheelError(f"cannot read the wheel {wheel.name}: {error}") from error


def metadata_of(wheel: Path) -> bytes:
    """Return the core metadata (METADATA) of a wheel. Raise WheelError, which names the wheel, if there are none."""
    with _open(wheel) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        if len(names) == 1 and archive.getinfo(names[0]).file_size <= LIMIT:
            return archive.read(names[0])
    raise WheelError(f"the wheel {wheel.name} has no METADATA file, or several")


def project_table(wheel: Path) -> dict[str, Any]:
    """Return a wheel's metadata and console scripts as a [project] table. Raise WheelError, which names the wheel."""
    return {**_table(metadata_of(wheel)), "scripts": _console_scripts(wheel)}


def sdist_table(sdist: Path, fields: Iterable[str]) -> dict[str, Any] | None:
    """Return the PKG-INFO of an sdist as a [project] table without scripts; None if a wheel may have other `fields`.

    The wheel has the same version, and the same headers except those that PKG-INFO lists as Dynamic (PEP 643).
    """
    metadata = b""
    with contextlib.suppress(OSError, ImageError):  # the build reports the error
        metadata = sdist_documents(sdist, sdist.name, ["PKG-INFO"]).get("PKG-INFO", b"")
    raw, _unknown = parse_email(metadata)
    dynamic = {name.lower() for name in raw.get("dynamic", [])}
    headers = [_HEADERS.get(field) for field in fields]
    stated = raw.get("metadata_version", "") >= "2.2" or not any(headers)
    decided = all(names is not None and not dynamic & set(names) for names in headers)
    return _table(metadata) if raw.get("version") and stated and decided else None


def _table(metadata: bytes) -> dict[str, Any]:
    """Convert core metadata to a [project] table without scripts."""
    raw, _unknown = parse_email(metadata)
    lines = raw.get("requires_dist", [])
    table: dict[str, Any] = {
        "name": raw.get("name", ""),
        "version": raw.get("version", ""),
        "description": raw.get("summary", ""),
        "requires-python": raw.get("requires_python", ""),
        "dependencies": [line for line in lines if not _EXTRA.search(line)],
        "optional-dependencies": {
            extra: [_for_extra(line, extra) for line in lines if extra in map(canonicalize_name, _EXTRA.findall(line))]
            for extra in map(canonicalize_name, raw.get("provides_extra", []))
        },
        "authors": list(_people(raw.get("author", ""), raw.get("author_email", ""))),
        "urls": dict(raw.get("project_urls", {})),
    }
    if home := raw.get("home_page"):
        table["urls"].setdefault("Homepage", home)
    if licence := raw.get("license_expression"):
        table["license"] = licence
    elif (licence := raw.get("license", "")) and "\n" not in licence:
        table["license"] = {"text": licence}
    return {name: value for name, value in table.items() if value}


def programs(wheel: Path) -> list[str]:
    """Return the names of the script files in a wheel (PEP 427, .data/scripts), as from `setup(scripts=...)`."""
    with _open(wheel) as archive:
        found = (re.fullmatch(r"[^/]+\.data/scripts/([^/]+)", name) for name in archive.namelist())
        return sorted({match[1] for match in found if match})


def _for_extra(line: str, extra: str) -> str:
    """Return a requirement with the `extra` conditions in its marker replaced: true for `extra`, otherwise false."""

    def constant(found: re.Match[str]) -> str:
        return 'python_version >= "3"' if canonicalize_name(found[1]) == extra else 'python_version < "3"'

    return _EXTRA.sub(constant, line)


def _people(names: str, addresses: str) -> Iterable[dict[str, str]]:
    for name in filter(None, (part.strip() for part in names.split(","))):
        yield {"name": name}
    for name, address in getaddresses([addresses]):
        person = {"name": name, "email": address}
        if "@" in address:
            yield {key: value for key, value in person.items() if value}


def _console_scripts(wheel: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(delimiters="=", interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    with _open(wheel) as archive:
        for name in archive.namelist():
            if re.fullmatch(r"[^/]+\.dist-info/entry_points\.txt", name):
                try:
                    parser.read_string(archive.read(name).decode())
                except (ValueError, configparser.Error) as error:
                    raise WheelError(f"cannot read the entry points of {wheel.name}: {error}") from error
    return dict(parser.items("console_scripts")) if parser.has_section("console_scripts") else {}
