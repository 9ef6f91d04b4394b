"""Pins in words: why a lock does not do for a build, and what a new one changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hatch_docker.core.lockfile import Entry
from hatch_docker.core.progress import some

SHOWN = 4  # names of a list in a message


def why_missing(kind: str, question: Entry, known: Sequence[Entry]) -> str:
    """Why none of the known entries answers a question, in the words of the options that ask it."""
    if kind == "base":
        names = some([entry["name"] for entry in known], SHOWN) or "no base"
        return f"it pins {names}, and the base is {question['name']}"
    place = ("for", "suite", "architecture") if kind == "debian" else ("platform",)
    near = [entry for entry in known if all(entry.get(name) == question.get(name) for name in place)]
    what = _subject(kind, question)
    if not near:
        return f"it has nothing of {what}"
    closest = min(near, key=lambda entry: len(set(entry["asked"]) ^ set(question["asked"])))
    more = sorted(set(question["asked"]) - set(closest["asked"]))
    less = sorted(set(closest["asked"]) - set(question["asked"]))
    reasons = [f"{some(more, SHOWN)} came in"] if more else []
    reasons += [f"{some(less, SHOWN)} went out"] if less else []
    if not reasons:
        reasons = [
            f"{name} was {_word(closest.get(name))} and is {_word(question.get(name))}"
            for name in question if closest.get(name) != question[name]
        ]  # fmt: skip
    return f"of {what}, {', '.join(reasons)}"


def _subject(kind: str, question: Entry) -> str:
    if kind == "requirements":
        return f"the requirements for {question['platform']}"
    what = {"base": "the base's packages", "builder": "the builder's packages"}
    subject = what.get(question["for"], "runtime.packages")
    return f"{subject} of debian:{question['suite']} for {question['architecture']}"


def _word(value: Any) -> str:
    return {True: "on", False: "off", None: "not said"}.get(value, str(value))


Entries = Sequence[tuple[str, Entry]]


def changes(old: Entries, new: Entries) -> list[str]:
    """What a new lock changes, one line each: `debian:trixie amd64: libssl3t64 3.5.1-1 -> 3.5.4-1`."""
    before, after = _pinned(old), _pinned(new)
    lines = []
    for title, name in sorted({*before, *after}):
        was, now = before.get((title, name), set()), after.get((title, name), set())
        if was == now:
            continue
        versions = [", ".join(sorted({version for version, _ in found})) for found in (was, now)]
        if not was:
            what = f"{name} {versions[1]} is new"
        elif not now:
            what = f"{name} {versions[0]} is no longer there"
        elif versions[0] != versions[1]:
            what = f"{name} {versions[0]} -> {versions[1]}"
        else:
            what = f"{name} {versions[0]} is another file now"
        lines.append(f"{title}: {what}")
    return lines


def _pinned(entries: Entries) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """What is pinned: place and name -> versions with their hashes."""
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for kind, entry in entries:
        for title, name, version, digest in _rows(kind, entry):
            found.setdefault((title, name), set()).add((version, digest))
    return found


def _rows(kind: str, entry: Entry) -> Iterator[tuple[str, str, str, str]]:
    if kind == "base":
        if "digest" in entry:
            yield "base", entry["name"], entry["digest"][:19], entry["digest"]
        for one in entry["platforms"]:
            title = f"{entry['name']} for {one['platform']}"
            yield title, "Python", one["python"], ""
            yield title, *_pair(one["libc"]), ""
        return
    title = f"debian:{entry['suite']} {entry['architecture']}" if kind == "debian" else f"for {entry['platform']}"
    for row in entry["packages" if kind == "debian" else "files"]:
        yield title, row["name"], row["version"], row["sha256"]


def _pair(libc: str) -> tuple[str, str]:
    kind, _, version = libc.partition(" ")
    return kind, version
