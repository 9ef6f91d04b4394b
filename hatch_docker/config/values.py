"""Checks of single values in `[tool.hatch-docker]` that a pattern cannot express.

Each function takes a value and returns what Config holds for it, or raises ValueError that says what it must be.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from typing import Any

TAG_FIELDS = ("version", "major", "minor", "revision", "branch", "date")
SECOND = 1_000_000_000
MAX_ID = 2**31 - 1  # Docker refuses larger user and group ids

_PORT = r":(?:[1-5]?[0-9]{1,4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST = rf"(?:(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?:{_PORT})?/)?"
_NAMED_HOST = (  # what cannot be taken for a part of a repository's path
    rf"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?:{_PORT})?|[A-Za-z0-9-]+{_PORT}|localhost|\[[0-9a-fA-F:]+\](?:{_PORT})?"
)
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = f"{_PART}(?:/{_PART})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_ID = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_UNITS = {"h": 3600 * SECOND, "m": 60 * SECOND, "s": SECOND, "ms": SECOND // 1000}

# What a string must be, in words and as a pattern that both Python's re and JSON Schema read.
IMAGE = (
    'must be a repository in lower case, without a tag, such as registry.example/app; tags go into "tags"',
    f"^(?:(?:{_NAMED_HOST})/)?{_PATH}$",
)
DESTINATION = (
    "must be a registry such as registry.example or docker.io, or a repository of one: registry.example/team/app",
    rf"^(?:{_NAMED_HOST})(?:/{_PATH})?$",
)
BASE = (
    'must be a reference such as "python:3.13-slim", "debian:" and a suite, or "oci:" and a path',
    rf"^(?:debian:[a-z][a-z0-9-]*|oci:[^\x00-\x1f\x7f]+|{_HOST}{_PATH}(?::{_TAG})?(?:@sha256:[0-9a-f]{{64}})?)$",
)
PYTHON = ('must be a string such as "3.13"', r"^3\.[0-9]{1,3}$")
USER = ('must be a number such as "65532", "uid:gid", or a name that the base knows', f"^{_ID}(?::{_ID})?$")
_SIGNAL = (
    "ABRT|ALRM|BUS|CHLD|CONT|FPE|HUP|ILL|INT|IO|KILL|PIPE|POLL|PROF|PWR|QUIT|SEGV|STKFLT|STOP|SYS|TERM|TRAP|TSTP|TTIN|"
    r"TTOU|URG|USR1|USR2|VTALRM|WINCH|XCPU|XFSZ|RTMIN(?:\+(?:[1-9]|1[0-5]))?|RTMAX(?:-(?:[1-9]|1[0-4]))?"
)
SIGNAL = (
    'must be a signal of Linux such as "SIGINT", or its number', f"^(?:SIG(?:{_SIGNAL})|[1-9]|[1-5][0-9]|6[0-4])$"
)
VARIABLE = ("must be the name of an environment variable, without = and spaces", r"^[^=\x00-\x20\x7f]+$")
ARGUMENT = ("must be a name made of letters, digits and _, not starting with a digit", r"^[A-Za-z_][A-Za-z0-9_]*$")
KEY = ("must be a name such as org.example.team, without = and spaces", r"^[^=\x00-\x20\x7f]+$")
NAME = ("must be a name made of letters, digits, ., - and _", r"^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$")
PACKAGE = ("must be the name of a Debian package, such as libpq5", r"^[a-z0-9][a-z0-9+.-]+$")
MIRROR = (
    "must be the http, https or file URL of a mirror: the directory of dists/ and pool/",
    r"^(?:https?://[^\x00-\x20\x7f/]|file:///)[^\x00-\x20\x7f]*$",
)
LANGUAGE = ('must be a language by its code of two or three letters, such as "de"', r"^[a-z]{2,3}$")
BUILDER = ('must be the name of a builder, such as "default" or "podman"', r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
SIZE = ('must be a size such as "50MB" or "1.5GiB"', r"^[0-9]{1,9}(?:\.[0-9]{1,3})? ?(?:B|kB|MB|GB|KiB|MiB|GiB)$")
GROWTH = (
    'must be a share such as "5%" or a size such as "2MB"',
    r"^[0-9]{1,9}(?:\.[0-9]{1,3})? ?(?:%|B|kB|MB|GB|KiB|MiB|GiB)$",
)
MODE = ('must be a string of octal digits, such as "0644"', r"^0?[0-7]{3}$")
PORT_SCHEMA: dict[str, object] = {
    "type": ["integer", "string"],
    "pattern": "^[0-9]+(/(tcp|udp|sctp))?$",
    "minimum": 1,
    "maximum": 65535,
}
# The fields that each type of a cache needs; a local one to read from has `src` instead of `dest`.
NEEDS: dict[str, tuple[str, ...]] = {
    "registry": ("ref",), "local": ("dest",), "gha": (), "s3": ("region", "bucket"), "azblob": ("name", "account_url"),
}
_SECRET = re.compile(r"token|secret|password|access_key")


def no_control(value: str) -> str:
    """Check that a text is one line without control characters."""
    if any(character < " " or character == "\x7f" for character in value):
        raise ValueError("must be one line without control characters")
    return value


def no_nul(value: str) -> str:
    """Check that a text can be an argument or a variable's value."""
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
    return value


def tag(value: str) -> str:
    """Check a tag or a template of one (distribution-spec, "Pulling manifests")."""
    for field in re.findall(r"{([^{}]*)}", value):
        if field not in TAG_FIELDS:
            known = ", ".join(f"{{{name}}}" for name in TAG_FIELDS)
            raise ValueError(f"unknown field {{{field}}}; there are {known}")
    example = re.sub(r"{[^{}]*}", "0", value)
    if not re.fullmatch(_TAG, example):
        raise ValueError('must be a tag such as "{version}" or "stable-1"')
    return value


def user(value: str) -> str:
    """Check that the numbers of a user are ones that Docker accepts."""
    for part in value.split(":"):
        if part.isdecimal() and int(part[:11]) > MAX_ID:
            raise ValueError(f"must be at most {MAX_ID}: no user or group has a greater number")
    return value


def absolute(value: str) -> str:
    """Check an absolute path in the image."""
    if not value.startswith("/"):
        raise ValueError("must be an absolute path in the image, such as /data")
    if ".." in value.split("/"):
        raise ValueError('must not contain ".."')
    return no_control(value)


def below_root(value: str) -> str:
    """Check an absolute path other than the root."""
    if not absolute(value).strip("/"):
        raise ValueError("must be below /")
    return value


def target(value: str) -> str:
    """Check the path of a file or directory in the image."""
    if below_root(value).endswith("/"):
        raise ValueError("must name the file or directory itself, without / at its end")
    return value


def source(value: str) -> str:
    """Check a path inside the project."""
    if not value or value.startswith("/") or ".." in value.split("/"):
        raise ValueError('must be a path inside the project, relative to pyproject.toml, without ".."')
    return no_control(value)


def pattern(value: str) -> str:
    """Check a pattern of paths below site-packages."""
    if value.startswith(("/", "./")) or ".." in value.split("/"):
        raise ValueError('must be a path below site-packages, such as "pandas/tests", without / at its start and ".."')
    return no_control(value)


def port(value: Any) -> str:
    """Return a port in the form of the image's configuration (config.md, ExposedPorts): `8000/tcp`."""
    text = str(value) if type(value) is int else value if isinstance(value, str) else ""
    match = re.fullmatch(r"([0-9]{1,5})(?:/(tcp|udp|sctp))?", text)
    if match is None or not 1 <= int(match[1]) <= 65535:
        raise ValueError('must be a port from 1 to 65535, such as 8000 or "53/udp"')
    return f"{int(match[1])}/{match[2] or 'tcp'}"


def duration(value: str) -> int:
    """Return a duration in nanoseconds."""
    if not re.fullmatch(r"(?:[0-9]{1,9}(?:h|ms|m|s))+", value, re.ASCII):
        raise ValueError('must be a duration such as "30s", "1m30s" or "500ms"')
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)(h|ms|m|s)", value))


def size(value: str) -> int:
    """Return a size in bytes."""
    number = value.rstrip("".join(_BYTES))
    return round(float(number) * _BYTES[value.removeprefix(number)])


def growth(value: str) -> tuple[float | None, int | None]:
    """Return a share (0.05 for "5%") and None, or None and a size in bytes."""
    return (float(value[:-1]) / 100, None) if value.endswith("%") else (None, size(value))


def octal(value: str) -> int:
    """Return permission bits."""
    return int(value, 8)


def arguments(value: Any) -> Any:
    """Check that a command is a list; the message for a string shows the list to write."""
    if isinstance(value, str):
        import json
        import shlex

        try:
            words = shlex.split(value)
        except ValueError:
            words = [value]
        raise ValueError(f"must be a list of arguments: {json.dumps(words, ensure_ascii=False)}")
    return value


def string(value: Any) -> Any:
    """Check a value of a table of strings; the message for another type shows what to write."""
    if isinstance(value, Mapping):
        raise ValueError("must be a string; a name that contains dots needs quotes")
    if isinstance(value, bool | int | float):
        raise ValueError(f'must be a string: "{str(value).lower()}"')
    return value


def distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    """Check that a list has no item twice."""
    for item in value:
        if value.count(item) > 1:
            raise ValueError(f'names "{item}" twice')
    return value


def parse_cache(value: str, *, target: bool) -> dict[str, str]:
    """Return the fields of `type=registry,ref=...`; a lone reference means a registry. A target caches all stages.

    Raises ValueError, without the value, for a field that BuildKit would ignore silently, and for secrets, which the
    plan, a log and the list of processes would show.
    """
    if "=" not in no_control(value):
        fields = {"type": "registry", "ref": value}
    else:
        try:
            (items,) = csv.reader([value], strict=True)
        except (csv.Error, ValueError):
            raise ValueError('must be fields between commas, as in "type=registry,ref=registry.example/app"') from None
        fields = {}
        for item in items:
            name, equals, text = item.strip().partition("=")
            if not equals:
                raise ValueError(f"the field {name!r} has no value: NAME=VALUE, between commas")
            fields[name.lower()] = text
    _check(fields, target=target)
    return {**fields, "mode": fields.get("mode", "max")} if target else fields


def _check(fields: dict[str, str], *, target: bool) -> None:
    kind = fields.get("type", "")
    if kind == "inline":
        raise ValueError(
            "inline keeps a cache in an image that BuildKit pushes, and this image is put together here; "
            "use type=registry,ref=REPOSITORY:cache"
        )
    if kind not in NEEDS:
        raise ValueError(f"must be of a type that there is: type={', type='.join(NEEDS)}")
    for name in NEEDS[kind] if target or kind != "local" else ("src",):
        if not fields.get(name):
            raise ValueError(f"type={kind} needs {name}=...")
    if fields.get("mode", "max") not in ("min", "max"):
        raise ValueError("mode must be min or max")
    for name, text in fields.items():
        if _SECRET.search(name) or re.search(r"//[^/]*@", text):
            raise ValueError(f"{name} holds a login; leave it out: BuildKit takes it from the environment")
