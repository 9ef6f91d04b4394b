"""The image lock, hatch-docker.lock: pinned results of requests to registries, Debian mirrors and indexes.

    [[base]]           the image of a base's name: digests, its Python version and C library
    [[python]]         the archive of a standalone base
    [[debian]]         the packages that some package names of a suite resolved to
    [[requirements]]   the files that some requirements resolved to for one target

Each entry consists of a question (its key fields, see QUESTIONS) and the answer (all other fields). A build with an
image lock sends no such request. `hatch-docker lock` requests missing entries, and writes the used ones. The file
contains no mirror's address and no credentials. (The option `lock` is something else: the file with the versions of
Python dependencies, such as uv.lock.)
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatch_docker.core.cache.store import Store, key_of
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.text import abbreviate
from hatch_docker.core.validation import first_mismatch

NAME = "hatch-docker.lock"
VERSION = 1
LIMIT = 32 << 20  # bytes of the file; 60 KB is usual
SHOWN = 4  # names of a list in a message
RELOCK = "run `hatch-docker lock`"
FACT = "pins-file"


def _is_time(value: Any) -> bool:
    """Return whether a value is a time in the format 2026-11-24T03:14:15Z."""
    from datetime import datetime

    try:
        return isinstance(value, str) and datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").year > 1970  # noqa: DTZ007
    except ValueError:
        return False


# The key fields by kind of entry. All other fields are the answer.
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "base": ("name",),
    "python": ("name", "platform"),
    "debian": ("for", "suite", "architecture", "slim", "asked"),
    "requirements": ("platform", "python", "libc", "asked"),
}
_SHA256 = "[0-9a-f]{64}"
_WORD = r"[^\x00-\x20\x7f]+"
_LINE = r"[^\x00-\x1f\x7f]+"
_PLATFORM = "[a-z0-9]+/[a-z0-9]+(?:/[a-z0-9]+)?"
_PYTHON = r"3\.\d{1,3}\.\d{1,3}[a-z0-9.+]*"
_LIBC = r"(?:glibc|musl) \d{1,3}\.\d{1,3}(?:\.\d{1,3})?"
# The expected values of an entry's fields, for `validation.first_mismatch`.
_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "base": {
        "name": _LINE, "digest?": f"sha256:{_SHA256}",
        "platforms": [{
            "platform": _PLATFORM, "digest?": f"sha256:{_SHA256}", "python": _PYTHON, "libc": _LIBC, "suite?": "[a-z]+",
        }],
    },
    "python": {
        "name": _LINE, "platform": _PLATFORM, "sha256": _SHA256,
        "file": r"(?:[0-9]{8}/)?cpython-3[^\x00-\x20\x7f/]+\.tar\.gz",
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
            "name": "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", "version": _WORD, "file": r"[^\x00-\x20\x7f/\\]+",
            "url": r"(?:https?://|file:///|project:|git\+(?:https?|ssh|file)://)\S+",
            "sha256": _SHA256, "size?": int, "uploaded?": _is_time,
        }],
    },
}  # fmt: skip

Entry = Mapping[str, Any]


class NotPinnedError(Exception):
    """The image lock has no entry yet, and `hatch-docker lock` has to request it."""


@dataclass(frozen=True, slots=True)
class ImageLock:
    """The entries of an image lock. `name`: file name for messages. `digest`: SHA-256 of the file in hexadecimal.

    `entries`: kind and entry by the key of the question. `update`: True while a lock is being written; then `find`
    returns None for a missing entry, and the caller requests it and calls `note`. In a build `find` raises ConfigError.
    """

    name: str
    digest: str
    entries: Mapping[str, tuple[str, Entry]]
    update: bool = False
    used_entries: dict[str, tuple[str, Entry]] = field(default_factory=dict)

    def find(self, kind: str, question: Entry) -> Entry | None:
        """Return the entry for a question. Raises ConfigError, whose message names what the lock contains instead."""
        key = key_of(kind, dict(question))
        found = self.entries.get(key) or self.used_entries.get(key)
        if found is not None:
            self.used_entries[key] = found
            return found[1]
        if self.update:
            return None
        reason = missing_reason(kind, question, [entry for other, entry in self.entries.values() if other == kind])
        raise ConfigError(f"{self.name} is out of date: {reason}; {RELOCK}")

    def note(self, kind: str, entry: Entry) -> None:
        """Add a new entry."""
        self.used_entries[key_of(kind, question_of(kind, entry))] = (kind, entry)


def question_of(kind: str, entry: Entry) -> dict[str, Any]:
    """Return the key fields of an entry."""
    return {name: entry[name] for name in QUESTIONS[kind] if name in entry}


def make_image_lock(name: str, digest: str, entries: Sequence[tuple[str, Entry]], *, update: bool = False) -> ImageLock:
    """Return the image lock with some entries, each given with its kind."""
    known = {key_of(kind, question_of(kind, entry)): (kind, entry) for kind, entry in entries}
    return ImageLock(name, digest, known, update)


def read_image_lock(path: Path, name: str, store: Store) -> ImageLock:
    """Read an image lock; `name` is its name in messages. Raises ConfigError if it is missing or not valid.

    The entries are stored in the cache by the file's digest: parsing TOML would double the time of an unchanged build.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(LIMIT)
    except OSError as error:
        raise ConfigError(f"tool.hatch-docker.pins: cannot read {name}: {error.strerror}") from error
    digest = hashlib.sha256(data).hexdigest()
    known = store.recall_or_make(FACT, digest, lambda: parse_image_lock(data, name))
    return make_image_lock(name, digest, [(kind, entry) for kind, entry in known])


def parse_image_lock(data: bytes, name: str) -> list[tuple[str, dict[str, Any]]]:
    """Parse the contents of an image lock into entries with their kinds. Raises ConfigError, which names the field."""
    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not valid TOML ({error}); {RELOCK} without it") from error
    if table.get("version") != VERSION:
        raise ConfigError(
            f"{name} has version {table.get('version')!r}, and this hatch-docker reads version {VERSION}; "
            "write it again with this one, or use the hatch-docker that wrote it"
        )
    if unknown := sorted(set(table) - {"version", *QUESTIONS}):
        raise ConfigError(f"{name}: the table {unknown[0]!r} is unknown; {RELOCK} without it")
    entries: list[tuple[str, dict[str, Any]]] = []
    for kind, fields in _FIELDS.items():
        rows = table.get(kind, [])
        if place := first_mismatch([fields], rows, kind):
            raise ConfigError(f"{name}: {place} is not as `hatch-docker lock` writes it; {RELOCK} without it")
        entries += [(kind, row) for row in rows]
    return entries


def image_lock_toml(entries: Sequence[tuple[str, Entry]]) -> bytes:
    """Return the contents of an image lock. The order of the entries does not change the bytes."""
    lines = [
        "# Written by `hatch-docker lock`, used by every build: commit it, and leave it as it is.",
        "# `hatch-docker lock --upgrade` takes the newest of everything and tells what changes.",
        f"version = {VERSION}",
    ]
    kinds = list(QUESTIONS)
    for kind, entry in sorted(entries, key=lambda item: (kinds.index(item[0]), json.dumps(question_of(*item)))):
        lines += ["", f"[[{kind}]]"]
        names = (name.rstrip("?") for name in _FIELDS[kind])
        lines += [f"{name} = {_toml(entry[name])}" for name in names if name in entry]
    return "\n".join([*lines, ""]).encode()


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + " }"
    items = [_toml(item) for item in value]
    line = f"[{', '.join(items)}]"
    if len(line) <= 100 and not any(isinstance(item, Mapping) for item in value):
        return line
    return "[\n" + "".join(f"    {item},\n" for item in items) + "]"


def missing_reason(kind: str, question: Entry, known: Sequence[Entry]) -> str:
    """Return why no known entry matches a question, as a clause for an error message."""
    if kind == "base":
        names = abbreviate([entry["name"] for entry in known], SHOWN) or "no base"
        return f"it pins {names}, and the base is {question['name']}"
    if kind == "python":
        return f"it has no archive for {question['name']} on {question['platform']}"
    place = ("for", "suite", "architecture") if kind == "debian" else ("platform",)
    near = [entry for entry in known if all(entry.get(name) == question.get(name) for name in place)]
    if kind == "debian":
        subjects = {"base": "the base's packages", "builder": "the builder's packages"}
        subject = subjects.get(question["for"], "runtime.packages")
        what = f"{subject} of debian:{question['suite']} for {question['architecture']}"
    else:
        what = f"the requirements for {question['platform']}"
    if not near:
        return f"it has nothing for {what}"
    closest = min(near, key=lambda entry: len(set(entry["asked"]) ^ set(question["asked"])))
    more = sorted(set(question["asked"]) - set(closest["asked"]))
    less = sorted(set(closest["asked"]) - set(question["asked"]))
    reasons = [f"{abbreviate(more, SHOWN)} added"] if more else []
    reasons += [f"{abbreviate(less, SHOWN)} removed"] if less else []
    words = {True: "on", False: "off", None: "not said"}
    changed = {name: (closest.get(name), question[name]) for name in question if closest.get(name) != question[name]}
    for name, (was, now) in changed.items() if not reasons else ():
        reasons.append(f"{name} was {words.get(was, was)} and is {words.get(now, now)}")
    return f"for {what}: {', '.join(reasons)}"


Entries = Sequence[tuple[str, Entry]]


def image_lock_changes(old: Entries, new: Entries) -> list[str]:
    """Return the changes of a new lock, one line each: `debian:trixie amd64: libssl3t64 3.5.1-1 -> 3.5.4-1`."""
    before, after = _pinned(old), _pinned(new)
    lines = []
    for title, name in sorted({*before, *after}):
        was, now = before.get((title, name), set()), after.get((title, name), set())
        if was == now:
            continue
        then, since = (", ".join(sorted({version for version, _ in found})) for found in (was, now))
        what = f"{then} -> {since}" if then != since else f"{then} is another file now"
        what = f"{since} is new" if not was else f"{then} is no longer there" if not now else what
        lines.append(f"{title}: {name} {what}")
    return lines


def _pinned(entries: Entries) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """Return the pinned versions with their hashes, by place and name."""
    rows: list[tuple[str, str, str, str]] = []
    for kind, entry in entries:
        if kind == "base":
            if "digest" in entry:
                rows.append(("base", entry["name"], entry["digest"][:19], entry["digest"]))
            for platform in entry["platforms"]:
                title = f"{entry['name']} for {platform['platform']}"
                library, _, version = platform["libc"].partition(" ")
                rows += [(title, "Python", platform["python"], ""), (title, library, version, "")]
        elif kind == "python":
            rows.append((f"{entry['name']} for {entry['platform']}", "archive", entry["file"], entry["sha256"]))
        else:
            debian = kind == "debian"
            title = f"debian:{entry['suite']} {entry['architecture']}" if debian else f"for {entry['platform']}"
            found = entry["packages" if debian else "files"]
            rows += [(title, row["name"], row["version"], row["sha256"]) for row in found]
    pinned: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for title, name, version, digest in rows:
        pinned.setdefault((title, name), set()).add((version, digest))
    return pinned
