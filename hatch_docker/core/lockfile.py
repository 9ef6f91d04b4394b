"""Pins: what registries, mirrors and indexes once answered, written down in hatch-docker.lock.

    [[base]]           what a base's name stood for: digests, and the Python and C library in it
    [[debian]]         which packages of a suite some names came to
    [[requirements]]   which files some requirements came to for one target

Each entry is a question and its answer. A build that has pins asks nobody; `hatch-docker lock` asks for what is not
there, and writes what was used. Nothing in it names a mirror of Debian or holds a login.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.core.cache.store import key_of
from hatch_docker.core.errors import ConfigError

if TYPE_CHECKING:
    from hatch_docker.core.cache.store import Store

NAME = "hatch-docker.lock"
VERSION = 1
LIMIT = 32 << 20  # bytes of a file; ours have some 60 KB
RELOCK = "run `hatch-docker lock`"
FACT = "pins-file"


def _is_time(value: Any) -> bool:
    """Whether a value is a time as we write it: 2026-11-24T03:14:15Z."""
    from datetime import datetime

    try:
        return isinstance(value, str) and datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").year > 1970  # noqa: DTZ007
    except ValueError:
        return False


# What makes a question, by kind of entry; everything else of an entry is the answer.
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "base": ("name",),
    "debian": ("for", "suite", "architecture", "slim", "asked"),
    "requirements": ("platform", "python", "libc", "asked"),
}
_SHA256 = "[0-9a-f]{64}"
_WORD = r"[^\x00-\x20\x7f]+"
_LINE = r"[^\x00-\x1f\x7f]+"
_PLATFORM = "[a-z0-9]+/[a-z0-9]+(?:/[a-z0-9]+)?"
_PYTHON = r"3\.\d{1,3}\.\d{1,3}[a-z0-9.+]*"
_LIBC = r"(?:glibc|musl) \d{1,3}\.\d{1,3}(?:\.\d{1,3})?"
# What an entry's fields must be, as `shape.misfit` reads it.
_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "base": {
        "name": _LINE, "digest?": f"sha256:{_SHA256}",
        "platforms": [{
            "platform": _PLATFORM, "digest?": f"sha256:{_SHA256}", "python": _PYTHON, "libc": _LIBC, "suite?": "[a-z]+",
        }],
    },
    "debian": {
        "for": "base|runtime|system|builder", "suite": "[a-z]+", "architecture": "[a-z0-9]+", "slim?": bool,
        "asked": [_WORD], "as-of?": _is_time,
        "packages": [{
            "name": "[a-z0-9][a-z0-9+.-]+", "version": _WORD, "architecture": "[a-z0-9]+", "archive": "main|security",
            "path": r"(?!/)(?!(?:.*/)?\.\.(?:/|$))[^\x00-\x20\x7f]+", "size": int, "sha256": _SHA256,
        }],
    },
    "requirements": {
        "platform": _PLATFORM, "python": _PYTHON, "libc": _LIBC, "asked": [_LINE],
        "files": [{
            "name": "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", "version": _WORD, "file": r"[^\x00-\x20\x7f/\\]+", "url": r"(?:https?://|file:///|project:)\S+",
            "sha256": _SHA256, "size?": int, "uploaded?": _is_time,
        }],
    },
}  # fmt: skip

Entry = Mapping[str, Any]


class NotPinnedError(Exception):
    """Whoever writes a lock has to ask: it has no answer yet."""


@dataclass(frozen=True, slots=True)
class Pins:
    """The entries of a lock, by question. `name` is the file's, for messages, `digest` that of its contents.

    `ask` is True for whoever writes a lock: then `find` gives None for what is not there, and the answer is to be
    noted. A build's pins have no gaps: what is missing is a ConfigError.
    """

    name: str
    digest: str
    known: Mapping[str, tuple[str, Entry]]
    ask: bool = False
    used: dict[str, tuple[str, Entry]] = field(default_factory=dict)

    def find(self, kind: str, question: Entry) -> Entry | None:
        """The entry that answers a question. Raises ConfigError, which says what the lock has instead."""
        key = key_of(kind, dict(question))
        found = self.known.get(key) or self.used.get(key)
        if found is not None:
            self.used[key] = found
            return found[1]
        if self.ask:
            return None
        from hatch_docker.core.lockfile_text import why_missing

        reason = why_missing(kind, question, [entry for other, entry in self.known.values() if other == kind])
        raise ConfigError(f"{self.name} is out of date: {reason}; {RELOCK}")

    def note(self, kind: str, entry: Entry) -> None:
        """Keep an answer that was just got."""
        self.used[key_of(kind, question_of(kind, entry))] = (kind, entry)


def question_of(kind: str, entry: Entry) -> dict[str, Any]:
    """The part of an entry that asks."""
    return {name: entry[name] for name in QUESTIONS[kind] if name in entry}


def pins_of(name: str, digest: str, entries: Sequence[tuple[str, Entry]], *, ask: bool = False) -> Pins:
    """Pins of some entries with their kinds."""
    return Pins(name, digest, {key_of(kind, question_of(kind, one)): (kind, one) for kind, one in entries}, ask)


def read_pins(path: Path, name: str, store: Store) -> Pins:
    """The pins of a file, whose `name` is for messages; raises ConfigError where it is none.

    What was read is remembered by the file's contents: reading TOML takes as long as the rest of an unchanged build.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(LIMIT)
    except OSError as error:
        raise ConfigError(f"tool.hatch-docker.pins: cannot read {name}: {error.strerror}") from error
    digest = hashlib.sha256(data).hexdigest()
    known = store.recall(FACT, digest)
    if known is None:
        known = parse_pins(data, name)
        store.remember(FACT, digest, known)
    return pins_of(name, digest, [(kind, entry) for kind, entry in known])


def parse_pins(data: bytes, name: str) -> list[tuple[str, dict[str, Any]]]:
    """The entries of a file's contents, with their kinds. Raises ConfigError, naming the field that is wrong."""
    import tomllib

    from hatch_docker.core.validation import misfit

    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not valid TOML ({error}); {RELOCK} without it") from error
    if table.get("version") != VERSION:
        raise ConfigError(
            f"{name} is of version {table.get('version')!r}, and this hatch-docker reads {VERSION}; "
            "write it anew by this one, or take the hatch-docker that wrote it"
        )
    unknown = sorted(set(table) - {"version", *QUESTIONS})
    if unknown:
        raise ConfigError(f"{name}: nothing is known of {unknown[0]!r}; {RELOCK} without it")
    entries: list[tuple[str, dict[str, Any]]] = []
    for kind, fields in _FIELDS.items():
        rows = table.get(kind, [])
        if place := misfit([fields], rows, kind):
            raise ConfigError(f"{name}: {place} is not as `hatch-docker lock` writes it; {RELOCK} without it")
        entries += [(kind, row) for row in rows]
    return entries


def pins_toml(entries: Sequence[tuple[str, Entry]]) -> bytes:
    """The file of some entries; the same entries in any order give the same bytes."""
    lines = [
        "# Written by `hatch-docker lock`, used by every build: commit it, and leave it as it is.",
        "# `hatch-docker lock --upgrade` takes the newest of everything and tells what changes.",
        f"version = {VERSION}",
    ]
    for kind, entry in sorted(entries, key=_order):
        lines += ["", f"[[{kind}]]"]
        lines += [f"{name} = {_toml(entry[name])}" for name in map(_bare, _FIELDS[kind]) if name in entry]
    return "\n".join([*lines, ""]).encode()


def _order(one: tuple[str, Entry]) -> tuple[int, str]:
    return list(QUESTIONS).index(one[0]), json.dumps(question_of(*one))


def _bare(name: str) -> str:
    return name.rstrip("?")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items()) + " }"
    items = [_toml(one) for one in value]
    line = f"[{', '.join(items)}]"
    if len(line) <= 100 and not any(isinstance(one, Mapping) for one in value):
        return line
    return "[\n" + "".join(f"    {item},\n" for item in items) + "]"
