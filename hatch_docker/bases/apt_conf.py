"""How the host's apt reaches its mirrors: the proxies of apt.conf(5), the logins of apt_auth.conf(5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

_TOKEN = re.compile(r'(?://|#)[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|[{};]|[^\s{};"]+', re.DOTALL)


def settings(apt: Path) -> dict[str, str]:
    """Every setting of apt.conf.d and apt.conf by its full name in lower case; of several values the last."""
    directory = apt / "apt.conf.d"
    extra = sorted(directory.iterdir()) if directory.is_dir() else []
    found: dict[str, str] = {}
    for path in (*extra, apt / "apt.conf"):
        found |= _settings(read(path))
    return found


def _settings(text: str) -> Iterator[tuple[str, str]]:
    """The settings of one file: `Name "value";` and `Name { ... };`; what apt would refuse gives nothing."""
    groups: list[str] = []
    words: list[str] = []
    for mark in _TOKEN.findall(text):
        if mark.startswith(("//", "/*", "#")):
            continue
        if mark == "{":
            groups.append(words[0].lower() if words else "")
        elif mark in "};":
            if len(words) > 1:
                yield "::".join(filter(None, [*groups, words[0].lower()])), words[1]
            if mark == "}" and groups:
                groups.pop()
        else:
            words.append(mark.strip('"'))
            continue
        words = []


def read(path: Path) -> str:
    """The text of a file, empty where it is absent or for root alone."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def proxy(url: str, found: Mapping[str, str]) -> str | None:
    """The proxy that apt's settings have for a URL, "" for none at all; None where they say nothing of it.

    That of the very host goes first; what is said of http holds for https too, as in apt.
    """
    parts = urlsplit(url)
    for scheme in dict.fromkeys((parts.scheme, "http")):
        for name in (f"acquire::{scheme}::proxy::{parts.hostname}", f"acquire::{scheme}::proxy"):
            value = found.get(name, "")
            if value:
                return "" if value.upper() == "DIRECT" else value
    return None


def with_login(url: str, apt: Path) -> str:
    """The URL with the login that auth.conf has for it, if any; one in the URL itself stays.

    A `machine` may have a scheme and a path; without a scheme it is for https alone.
    """
    parts = urlsplit(url)
    if parts.username is not None or not parts.hostname:
        return url
    for machine, user, password in _entries(apt):
        scheme, _, rest = machine.rpartition("://")
        host, slash, path = rest.partition("/")
        if host not in (parts.hostname, parts.netloc) or (scheme or "https") != parts.scheme:
            continue
        if f"{parts.path}/".startswith(slash + path):
            login = f"{quote(user, safe='')}:{quote(password, safe='')}"
            return parts._replace(netloc=f"{login}@{parts.netloc}").geturl()
    return url


def passwords(apt: Path) -> dict[str, str]:
    """Every password in auth.conf by its machine."""
    return {machine: password for machine, _user, password in _entries(apt)}


def _entries(apt: Path) -> Iterator[tuple[str, str, str]]:
    directory = apt / "auth.conf.d"
    extra = sorted(directory.glob("*.conf")) if directory.is_dir() else []
    for path in (apt / "auth.conf", *extra):
        text = re.sub(r"^[ \t]*#[^\n]*", "", read(path), flags=re.MULTILINE)
        for entry in re.split(r"(?:^|\s)machine\s+", text)[1:]:
            words = entry.split()
            pairs = dict(zip(words[1::2], words[2::2], strict=False))
            if words and "login" in pairs:
                yield words[0], pairs["login"], pairs.get("password", "")
