"""Types of the options of `[tool.hatch-docker]`: Annotated types with their checks, for the models in options.py.

A check returns the value for Config, or raises ValueError with a message such as "must be ...". The patterns are valid
for Python's re and for JSON Schema.
"""

import csv
import json
import re
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, Strict, WithJsonSchema

T = TypeVar("T")
WORDS = "HATCH_DOCKER_*: words, quoted as in a shell"  # a $comment in the schema; environ.py parses variables by it
LINES = "HATCH_DOCKER_*: a line for each"
SECOND = 1_000_000_000
MAX_ID = 2**31 - 1  # Docker rejects larger user and group ids

_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
# The required fields of each cache type in BuildKit's `--cache-from` and `--cache-to`.
_REQUIRED_FIELDS: dict[str, tuple[str, ...]] = {
    "registry": ("ref",), "local": (), "gha": (), "s3": ("region", "bucket"), "azblob": ("name", "account_url"),
}
_UNITS = {"h": 3600 * SECOND, "m": 60 * SECOND, "s": SECOND, "ms": SECOND // 1000}


class Text:
    """Annotation of a type whose TOML value is a string that matches a pattern; `convert` returns Config's value."""

    def __init__(self, message: str, pattern: str, convert: Callable[[str], Any] = str) -> None:
        self.message, self.pattern, self.convert = message, pattern, convert

    def __call__(self, value: Any) -> Any:
        """Return the converted value; raises ValueError with `message` if it does not match the pattern."""
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise ValueError(self.message)
        if re.search("[\ud800-\udfff]", value):  # surrogates, from a variable or from JSON
            raise ValueError("must be valid Unicode")
        return self.convert(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Return pydantic's schema, in which this check runs before the check of the converted value's type."""
        return BeforeValidator(self).__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(self, _core: Any, _handler: Any) -> dict[str, Any]:
        """Return the JSON Schema of the string, before conversion."""
        return {"type": "string", "pattern": self.pattern}


def read_fields(value: str, *, place: str) -> dict[str, str]:
    """Return the fields of `type=registry,ref=...`; a reference alone means a registry, `none` means no cache.

    `place`: the field for a local cache's directory: `src`, or `dest` for a cache to write, whose `mode` is `max` by
    default. Raises ValueError, without the value in the message, for a wrong field, and for a login, because the plan,
    logs and the process list would show it.
    """
    if value == "none":
        return {"type": "none"}
    fields = _fields_of(value) if "=" in value else {"type": "registry", "ref": value}
    kind = fields.get("type", "")
    if kind == "inline":
        raise ValueError(
            "inline stores the cache in an image that BuildKit pushes, but hatch-docker assembles this image itself; "
            "use type=registry,ref=REPOSITORY:cache"
        )
    if kind not in _REQUIRED_FIELDS:
        raise ValueError(f"must have one of these types: type={', type='.join(_REQUIRED_FIELDS)}")
    for name in (place,) if kind == "local" else _REQUIRED_FIELDS[kind]:
        if not fields.get(name):
            raise ValueError(f"type={kind} needs {name}=...")
    if fields.get("mode", "max") not in ("min", "max"):
        raise ValueError("mode must be min or max")
    for name, text in fields.items():
        if re.search("token|secret|password|access_key", name) or re.search(r"//[^/]*@", text):
            raise ValueError(f"{name} contains a login; remove it: BuildKit reads logins from the environment")
    return {**fields, "mode": fields.get("mode", "max")} if place == "dest" else fields


def _fields_of(value: str) -> dict[str, str]:
    try:
        (items,) = csv.reader([value], strict=True)
    except (csv.Error, ValueError):
        raise ValueError('must be fields between commas, as in "type=registry,ref=registry.example/app"') from None
    pairs = [item.strip().partition("=") for item in items]
    for bare in (name for name, equals, _ in pairs if not equals):
        raise ValueError(f"the field {bare!r} has no value: NAME=VALUE, between commas")
    return {name.lower(): text for name, _, text in pairs}


def user(value: str) -> str:
    """Check that the numbers in `uid` or `uid:gid` are not larger than MAX_ID."""
    if any(part.isdecimal() and (len(part) > 10 or int(part) > MAX_ID) for part in value.split(":")):
        raise ValueError(f"must be at most {MAX_ID}, the highest number of a user or group")
    return value


def port(value: Any) -> str:
    """Return a port in the form of the image's configuration (config.md, ExposedPorts): `8000/tcp`."""
    if type(value) not in (int, str) or not re.fullmatch(f"{_PORT}(?:/(tcp|udp|sctp))?", text := str(value)):
        raise ValueError('must be a port from 1 to 65535, such as 8000 or "53/udp"')
    return text if "/" in text else f"{text}/tcp"


def duration(value: str) -> int:
    """Return a duration in nanoseconds."""
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)(h|ms|m|s)", value))


def size(value: str) -> int:
    """Return a size in bytes."""
    number = value.rstrip("".join(_BYTES))
    return round(float(number) * _BYTES[value.removeprefix(number)])


def growth(value: str) -> tuple[float | None, int | None]:
    """Return (share, None) for a percentage, such as 0.05 for "5%", or (None, size in bytes)."""
    return (float(value[:-1]) / 100, None) if value.endswith("%") else (None, size(value))


def arguments(value: Any) -> Any:
    """Check that a command is a list; the message for a string contains the list to write."""
    if isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError:
            words = [value]
        listed = json.dumps(words, ensure_ascii=False).encode(errors="backslashreplace").decode()
        raise ValueError(f"must be a list of arguments: {listed}")
    return value


def string(value: Any) -> Any:
    """Check that a value is a string; the message for another type contains the string to write."""
    if isinstance(value, Mapping):
        raise ValueError("must be a string; a name that contains dots needs quotes")
    if isinstance(value, bool | int | float):
        raise ValueError(f'must be a string: "{str(value).lower()}"')
    return value


def distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    """Check that a list contains no duplicates."""
    if twice := [item for item in value if value.count(item) > 1]:
        raise ValueError(f'contains "{twice[0]}" twice')
    return value


def formats(value: Any) -> Any:
    """Return the SBOM formats for a boolean (true: the default, false: none); another value is returned unchanged."""
    return (("cyclonedx",) if value else ()) if isinstance(value, bool) else value


ListOf = Annotated[tuple[T, ...], Strict(False)]  # a TOML list; Config's value is a tuple
Distinct = Annotated[ListOf[T], AfterValidator(distinct), Field(json_schema_extra={"uniqueItems": True})]
Lines = Annotated[ListOf[T], Field(json_schema_extra={"$comment": LINES})]

_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST = rf"(?:(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::{_PORT})?/)?"
_NAMED_HOST = (  # a host that cannot be mistaken for the first part of a repository's path
    rf"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::{_PORT})?|[A-Za-z0-9-]+:{_PORT}|localhost|\[[0-9a-fA-F:]+\](?::{_PORT})?"
)
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = f"{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_FIELD = r"\{(?:version|major|minor|revision|branch|date)\}"
_ID = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_CONTROL = r"\x00-\x1f\x7f"
_LINE = f"[^{_CONTROL}]+"
_FILE_NAME = rf"[^./{_CONTROL}][^/{_CONTROL}]*|\.[^./{_CONTROL}][^/{_CONTROL}]*|\.\.[^/{_CONTROL}]+"  # not . or ..
_SEGMENT = rf"(?:{_FILE_NAME}|\.)"
_WORD = r"^[^=\x00-\x20\x7f]+$"
_UNIT = "B|kB|MB|GB|KiB|MiB|GiB"
_STRING = BeforeValidator(string)
_AMOUNT = r"[0-9]{1,9}(?:\.[0-9]{1,3})? ?"
_SIGNAL = (
    "ABRT|ALRM|BUS|CHLD|CONT|FPE|HUP|ILL|INT|IO|KILL|PIPE|POLL|PROF|PWR|QUIT|SEGV|STKFLT|STOP|SYS|TERM|TRAP|TSTP|TTIN|"
    r"TTOU|URG|USR1|USR2|VTALRM|WINCH|XCPU|XFSZ|RTMIN(?:\+(?:[1-9]|1[0-5]))?|RTMAX(?:-(?:[1-9]|1[0-4]))?"
)

Image = Annotated[str, Text('must be a repository in lower case, without a tag, such as registry.example/app; tags go '
    'into "tags"', f"^(?:(?:{_NAMED_HOST})/)?{_REPOSITORY}$")]
Destination = Annotated[str, Text("must be a registry such as registry.example or docker.io, or a repository of one: "
    "registry.example/team/app", f"^(?:{_NAMED_HOST})(?:/{_REPOSITORY})?$")]
Tag = Annotated[str, Text('must be a tag such as "stable-1"; {version}, {major}, {minor}, {revision}, {branch} and '
    "{date} are filled in", f"^(?:[A-Za-z0-9_]|{_FIELD})(?:[A-Za-z0-9_.-]|{_FIELD}){{0,127}}$")]
Base = Annotated[str, Text('must be a reference such as "python:3.13-slim", "debian:" and a suite, or "oci:" and a '
    "path", rf"^(?:debian:[a-z][a-z0-9-]*|oci:{_LINE}|{_HOST}{_REPOSITORY}(?::{_TAG})?(?:@sha256:[0-9a-f]{{64}})?)$")]
Python = Annotated[str, Text('must be a string such as "3.13"', r"^3\.[0-9]{1,3}t?$")]
User = Annotated[str, Text('must be a number such as "65532", "uid:gid", or the name of a user in the base',
    f"^{_ID}(?::{_ID})?$", user), _STRING]
Signal = Annotated[str, Text('must be a signal of Linux such as "SIGINT", or its number',
    f"^(?:SIG(?:{_SIGNAL})|[1-9]|[1-5][0-9]|6[0-4])$")]
Port = Annotated[str, PlainValidator(port), WithJsonSchema({
    "type": ["integer", "string"], "pattern": f"^{_PORT}(?:/(tcp|udp|sctp))?$", "minimum": 1, "maximum": 65535,
})]
Variable = Annotated[str, Text("must be the name of an environment variable, without = and spaces", _WORD)]
Key = Annotated[str, Text("must be a name such as org.example.team, without = and spaces", _WORD)]
Identifier = Annotated[str, Text("must be a name made of letters, digits and _, not starting with a digit",
    "^[A-Za-z_][A-Za-z0-9_]*$")]
Name = Annotated[str, Text("must be a name made of letters, digits, ., - and _",
    "^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$")]
Package = Annotated[str, Text("must be the name of a Debian package, such as libpq5", "^[a-z0-9][a-z0-9+.-]+$")]
Mirror = Annotated[str, Text("must be the http, https or file URL of a mirror: the directory of dists/ and pool/",
    r"^(?:https?://[^\x00-\x20\x7f/]|file:///)[^\x00-\x20\x7f]*$")]
Archives = Annotated[str, Text("must be the http, https or file URL of a mirror of python-build-standalone: the "
    "directory of its releases", r"^(?:https?://[^\x00-\x20\x7f/]|file:///)[^\x00-\x20\x7f]*$")]
Release = Annotated[str, Text('must be the date of a release, such as "20261003"', "^[0-9]{8}$")]
Suite = Annotated[str, Text('must be a suite of Debian, such as "trixie"', "^[a-z]{1,32}$")]
Language = Annotated[str, Text('must be a language by its code of two or three letters, such as "de"', "^[a-z]{2,3}$")]
Builder = Annotated[str, Text('must be the name of a builder, such as "default" or "podman"',
    "^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
Size = Annotated[int, Text('must be a size such as "50MB" or "1.5GiB"', f"^{_AMOUNT}(?:{_UNIT})$", size)]
Growth = Annotated[tuple[float | None, int | None], Text('must be a percentage such as "5%" or a size such as "2MB"',
    f"^{_AMOUNT}(?:%|{_UNIT})$", growth)]
Mode = Annotated[int, Text('must be a string of octal digits, such as "0644"', "^0?[0-7]{3}$", partial(int, base=8))]
Duration = Annotated[int, Text('must be a duration such as "30s", "1m30s" or "500ms"',
    "^(?:[0-9]{1,9}(?:h|ms|m|s))+$", duration)]
Line = Annotated[str, Text("must be one line of text without control characters", f"^{_LINE}$")]
AbsolutePath = Annotated[str, Text('must be an absolute path in the image, such as /data, without ".."',
    f"^/+(?:{_SEGMENT}(?:/+{_SEGMENT})*/*)?$")]
Directory = Annotated[str, Text('must be an absolute path below /, such as /data, without ".."',
    f"^(?:/+{_SEGMENT})+/*$")]
Target = Annotated[str, Text("must be the absolute path of the file or directory itself, such as /srv/static, without "
    '".." or a / at its end', f"^(?:/+{_SEGMENT})+$")]
Source = Annotated[str, Text('must be a path inside the project, relative to pyproject.toml, without ".."',
    f"^{_SEGMENT}(?:/+{_SEGMENT})*/*$")]
Pattern = Annotated[str, Text('must be a path below site-packages, such as "pandas/tests", without ".." or a / at its '
    "start", f"^(?:{_FILE_NAME})(?:/+{_SEGMENT})*/*$")]
CacheSource = Annotated[Mapping[str, str], Text("must be one line of text without control characters",
    f"^{_LINE}$", partial(read_fields, place="src"))]
CacheTarget = Annotated[Mapping[str, str], Text("must be one line of text without control characters",
    f"^{_LINE}$", partial(read_fields, place="dest"))]
Argument = Annotated[str, Text("must be a string without NUL characters", r"^[^\x00]*$"), _STRING]
Command = Annotated[ListOf[Argument], BeforeValidator(arguments), Field(json_schema_extra={"$comment": WORDS})]
Formats = Annotated[Distinct[Literal["cyclonedx", "spdx"]], BeforeValidator(formats)]
