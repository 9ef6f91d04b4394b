"""What a wheel says of itself, as the [project] table (PEP 621) that would have given it."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from email.utils import getaddresses
from pathlib import Path
from typing import Any

from hatch_docker.core.errors import WheelError
from hatch_docker.wheels.builder.build import metadata_of

_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


def project_table(wheel: Path) -> dict[str, Any]:
    """The [project] table of a wheel's core metadata and entry points; raises WheelError, naming the wheel."""
    from packaging.metadata import parse_email
    from packaging.utils import canonicalize_name

    raw, _unknown = parse_email(metadata_of(wheel))
    lines = raw.get("requires_dist", [])
    table: dict[str, Any] = {
        "name": raw.get("name", ""),
        "version": raw.get("version", ""),
        "description": raw.get("summary", ""),
        "requires-python": raw.get("requires_python", ""),
        "dependencies": [line for line in lines if not _EXTRA.search(line)],
        "optional-dependencies": {
            extra: [_with(line, extra) for line in lines if extra in map(canonicalize_name, _EXTRA.findall(line))]
            for extra in map(canonicalize_name, raw.get("provides_extra", []))
        },
        "authors": list(_people(raw.get("author", ""), raw.get("author_email", ""))),
        "urls": dict(raw.get("project_urls", {})),
        "scripts": _scripts(wheel),
    }
    if home := raw.get("home_page"):
        table["urls"].setdefault("Homepage", home)
    if licence := raw.get("license_expression"):
        table["license"] = licence
    elif (licence := raw.get("license", "")) and "\n" not in licence:
        table["license"] = {"text": licence}
    return {name: value for name, value in table.items() if value}


def programs(wheel: Path) -> list[str]:
    """The scripts that a wheel brings as files, as of `setup(scripts=...)` or a program in Rust (PEP 427, .data)."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = (re.fullmatch(r"[^/]+\.data/scripts/([^/]+)", name) for name in archive.namelist())
            return sorted({match[1] for match in found if match})
    except (OSError, zipfile.BadZipFile) as error:
        raise WheelError(f"cannot read the wheel {wheel.name}: {error}") from error


def _with(line: str, extra: str) -> str:
    """A requirement of an extra as it reads where that extra is chosen: markers know no extras there."""
    from packaging.utils import canonicalize_name

    def answer(found: re.Match[str]) -> str:
        return 'python_version >= "3"' if canonicalize_name(found[1]) == extra else 'python_version < "3"'

    return _EXTRA.sub(answer, line)


def _people(names: str, addresses: str) -> Iterable[dict[str, str]]:
    for name in filter(None, (part.strip() for part in names.split(","))):
        yield {"name": name}
    for name, address in getaddresses([addresses]):
        person = {"name": name, "email": address}
        if "@" in address:
            yield {key: value for key, value in person.items() if value}


def _scripts(wheel: Path) -> dict[str, str]:
    import configparser

    parser = configparser.ConfigParser(delimiters="=", interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if re.fullmatch(r"[^/]+\.dist-info/entry_points\.txt", name):
                    parser.read_string(archive.read(name).decode())
    except (OSError, ValueError, zipfile.BadZipFile, configparser.Error) as error:
        raise WheelError(f"cannot read the entry points of {wheel.name}: {error}") from error
    return dict(parser.items("console_scripts")) if parser.has_section("console_scripts") else {}
