"""Conversions and checks of values in `[tool.hatch-docker]` that a pattern cannot express.

Each function returns what Config holds for a value, or raises ValueError with a sentence that says what it must be.
"""

import csv
import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

SECOND = 1_000_000_000
MAX_ID = 2**31 - 1  # Docker refuses larger user and group ids

_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_UNITS = {"h": 3600 * SECOND, "m": 60 * SECOND, "s": SECOND, "ms": SECOND // 1000}
# The fields that each type of a cache needs.
_NEEDS: dict[str, tuple[str, ...]] = {
    "registry": ("ref",), "local": (), "gha": (), "s3": ("region", "bucket"), "azblob": ("name", "account_url"),
}
_SECRET = re.compile(r"token|secret|password|access_key")


def user(value: str) -> str:
    """Check that the numbers of a user are ones that Docker accepts."""
    if any(part.isdecimal() and (len(part) > 10 or int(part) > MAX_ID) for part in value.split(":")):
        raise ValueError(f"must be at most {MAX_ID}, the greatest number of a user or group")
    return value


def port(value: Any) -> str:
    """Return a port in the form of the image's configuration (config.md, ExposedPorts): `8000/tcp`."""
    text = str(value) if type(value) is int else value if isinstance(value, str) else ""
    match = re.fullmatch(r"([1-9][0-9]{0,4})(?:/(tcp|udp|sctp))?", text)
    if match is None or int(match[1]) > 65535:
        raise ValueError('must be a port from 1 to 65535, such as 8000 or "53/udp"')
    return f"{match[1]}/{match[2] or 'tcp'}"


def duration(value: str) -> int:
    """Return a duration in nanoseconds."""
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)(h|ms|m|s)", value))


def size(value: str) -> int:
    """Return a size in bytes."""
    number = value.rstrip("".join(_BYTES))
    return round(float(number) * _BYTES[value.removeprefix(number)])


def growth(value: str) -> tuple[float | None, int | None]:
    """Return a share (0.05 for "5%") and None, or None and a size in bytes."""
    return (float(value[:-1]) / 100, None) if value.endswith("%") else (None, size(value))


def arguments(value: Any) -> Any:
    """Check that a command is a list; the message for a string shows the list to write."""
    if isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError:
            words = [value]
        listed = json.dumps(words, ensure_ascii=False).encode(errors="backslashreplace").decode()
        raise ValueError(f"must be a list of arguments: {listed}")
    return value


def string(value: Any) -> Any:
    """Check that a value is a string; the message for another type shows what to write."""
    if isinstance(value, Mapping):
        raise ValueError("must be a string; a name that contains dots needs quotes")
    if isinstance(value, bool | int | float):
        raise ValueError(f'must be a string: "{str(value).lower()}"')
    return value


def distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    """Check that a list has no item twice."""
    if twice := [item for item in value if value.count(item) > 1]:
        raise ValueError(f'names "{twice[0]}" twice')
    return value


def formats(value: Any) -> Any:
    """Return the formats of the SBOM for true, the default's, and for false, none."""
    return (("cyclonedx",) if value else ()) if isinstance(value, bool) else value


def cache(value: str, *, place: str) -> dict[str, str]:
    """Return the fields of `type=registry,ref=...`; a lone reference means a registry.

    `place` is the field for the directory of a local cache: `src`, or `dest` of one to write, which holds all stages
    unless it says `mode=min`. Raises ValueError, without the value, for a field that BuildKit would ignore silently,
    and for secrets, which the plan, a log and the list of processes would show.
    """
    fields = _cache_fields(value) if "=" in value else {"type": "registry", "ref": value}
    kind = fields.get("type", "")
    if kind == "inline":
        raise ValueError(
            "inline keeps a cache in an image that BuildKit pushes, and this image is put together here; "
            "use type=registry,ref=REPOSITORY:cache"
        )
    if kind not in _NEEDS:
        raise ValueError(f"must be of a type that there is: type={', type='.join(_NEEDS)}")
    for name in (place,) if kind == "local" else _NEEDS[kind]:
        if not fields.get(name):
            raise ValueError(f"type={kind} needs {name}=...")
    if fields.get("mode", "max") not in ("min", "max"):
        raise ValueError("mode must be min or max")
    for name, text in fields.items():
        if _SECRET.search(name) or re.search(r"//[^/]*@", text):
            raise ValueError(f"{name} holds a login; leave it out: BuildKit takes it from the environment")
    return {**fields, "mode": fields.get("mode", "max")} if place == "dest" else fields


def _cache_fields(value: str) -> dict[str, str]:
    try:
        (items,) = csv.reader([value], strict=True)
    except (csv.Error, ValueError):
        raise ValueError('must be fields between commas, as in "type=registry,ref=registry.example/app"') from None
    pairs = [item.strip().partition("=") for item in items]
    for bare in (name for name, equals, _ in pairs if not equals):
        raise ValueError(f"the field {bare!r} has no value: NAME=VALUE, between commas")
    return {name.lower(): text for name, _, text in pairs}
