"""The mirrors of Debian's archive: set by the user, else read from the configuration of the host's apt.

Both forms of sources.list(5) are read, deb822 stanzas (`*.sources`) and one-line entries (`*.list`), and also the
proxies of apt.conf(5) and the logins of apt_auth.conf(5).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError
from hatch_docker.core.http.urls import redact_url
from hatch_docker.plan.model import BasePlan

if TYPE_CHECKING:
    from hatch_docker.core.http.client import Client

APT = Path("/etc/apt")
MIRROR_VARIABLE = "HATCH_DOCKER_DEBIAN_MIRROR"
SECURITY_VARIABLE = "HATCH_DOCKER_DEBIAN_SECURITY_MIRROR"
ALTERNATIVES = f"`[tool.hatch-docker.debian] mirror` or {MIRROR_VARIABLE}"

SCHEMES = ("http", "https", "file")
_NAMES = ("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid",
          "oldoldstable", "oldstable", "stable", "testing", "unstable")  # fmt: skip
_SUITE = re.compile(rf"({'|'.join(_NAMES)})(-updates|-security|/updates|-backports|-proposed-updates)?/?")
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>.*)")
_TOKEN = re.compile(r'(?://|#)[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|[{};]|[^\s{};"]+', re.DOTALL)


@dataclass(frozen=True, slots=True)
class AptEntry:
    """One `deb` entry of apt's configuration, for one URI and one suite."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""
    check_valid_until: bool = True


@dataclass(frozen=True, slots=True)
class Mirrors:
    """The root URLs of Debian's two archives, without a slash at the end.

    `origin` names the setting with the URLs, for messages. `check_valid_until` is False only if the user, or apt's
    configuration, disables the check. `apt` has apt's settings if the mirrors come from apt's configuration.
    """

    main: str = field(repr=False)
    security: str = field(repr=False)
    origin: str
    check_valid_until: bool = True
    apt: Mapping[str, str] = field(default_factory=dict, repr=False)

    def client(self, ctx: Context) -> Client:
        """Return the HTTP client for the mirrors, with apt's proxies if the mirrors come from apt's configuration."""
        return replace(ctx.client, proxy=functools.partial(proxy_of, settings=self.apt)) if self.apt else ctx.client

    def root(self, archive: str) -> str:
        """Return the root of "main" or "security"."""
        return self.security if archive == "security" else self.main


def find_mirrors(plan: BasePlan, environ: Mapping[str, str], *, apt: Path = APT) -> Mirrors:
    """Return the mirrors: from the plan, from HATCH_DOCKER_DEBIAN_MIRROR, else from the apt configuration in `apt`.

    Raises BaseImageError if no mirror of Debian is configured, or its URL is invalid.
    """
    security = plan.security_mirror or environ.get(SECURITY_VARIABLE, "")
    variable = environ.get(MIRROR_VARIABLE, "")
    if mirror := plan.mirror or variable:
        # The variable may have replaced the option.
        origin = MIRROR_VARIABLE if mirror == variable else "[tool.hatch-docker.debian] mirror"
        main = _root(mirror, origin)
        found = Mirrors(main, f"{main}-security", origin)
    else:
        found = _of_host(apt)
    found = replace(found, check_valid_until=found.check_valid_until and plan.check_valid_until)
    return replace(found, security=_root(security, "the security mirror")) if security else found


def _root(mirror: str, origin: str) -> str:
    """Return a mirror as a URL without a slash at the end. Raises BaseImageError, naming `origin`, if it is no URL."""
    if mirror.startswith("/"):
        mirror = Path(mirror).as_uri()
    if mirror.startswith("file:/") and not mirror.startswith("file://"):  # apt also accepts file:/path
        mirror = "file://" + mirror.removeprefix("file:")
    try:
        parts = urlsplit(mirror)
        good = parts.scheme in SCHEMES and (parts.scheme == "file" or bool(parts.hostname))
    except ValueError:
        good = False
    if not good:
        raise BaseImageError(
            f"{origin} is {redact_url(mirror)!r}: a mirror of Debian is an http, https or file URL, such as "
            "https://mirror.example/debian"
        )
    return mirror.rstrip("/")


def _of_host(apt: Path) -> Mirrors:
    """Return the mirrors in the apt configuration. Raises BaseImageError if no entry is for Debian."""
    entries = [
        entry for entry in read_entries(apt)
        if "main" in entry.components and _SUITE.fullmatch(entry.suite) and re.match("https?://|file:/", entry.uri)
    ]  # fmt: skip
    main = [entry for entry in entries if not _is_security(entry.suite)]
    if not main:
        raise BaseImageError(
            f"no mirror of Debian is known: apt's configuration in {apt} has none; set one in pyproject.toml,\n"
            '  [tool.hatch-docker.debian]\n  mirror = "https://HOST/debian"\n'
            f"or by {MIRROR_VARIABLE}=https://HOST/debian; `hatch-docker doctor` checks for other problems"
        )
    first = min(main, key=_rank)  # min returns the first of equal entries, so apt's order decides
    second = min((entry for entry in entries if _is_security(entry.suite)), key=_rank, default=None)
    root = _root(first.uri, str(apt))
    security = _root(second.uri, str(apt)) if second else f"{root}-security"
    settings = read_settings(apt)
    checked = all(entry.check_valid_until for entry in (first, second) if entry)
    checked = checked and not _says_no(settings.get("acquire::check-valid-until", ""))
    return Mirrors(with_login(root, apt), with_login(security, apt), f"apt's configuration in {apt}", checked, settings)


def _is_security(suite: str) -> bool:
    return suite.rstrip("/").endswith(("-security", "/updates"))


def _rank(entry: AptEntry) -> int:
    """Return a rank for an entry: 0 if it is surely for Debian's archive, 1 if probably, 2 if not known.

    The suites of other archives may have the same names as Debian's.
    """
    if "debian-archive-" in entry.signed_by:
        return 0
    last = entry.uri.rstrip("/").rpartition("/")[2]
    return 1 if last in ("debian", "debian-security") else 2


def read_entries(apt: Path = APT) -> list[AptEntry]:
    """Return all enabled `deb` entries under `apt`, in apt's order. Malformed lines are skipped."""
    found: list[AptEntry] = []
    for path in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))):
        text = _read_text(path) if path.suffix in (".list", ".sources") else ""
        found += _deb822(text) if path.suffix == ".sources" else _one_line(text)
    return found


def _one_line(text: str) -> Iterator[AptEntry]:
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match is None:
            continue
        options = dict(re.findall(r"([a-z-]+)\+?=(\S+)", (match["options"] or "").lower()))
        yield _entry(match["uri"], match["suite"], match["components"], options)


def _deb822(text: str) -> Iterator[AptEntry]:
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields = parse_fields(stanza)
        if "deb" not in fields.get("types", "").split() or _says_no(fields.get("enabled", "")):
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield _entry(uri, suite, fields.get("components", ""), fields)


def _entry(uri: str, suite: str, components: str, options: Mapping[str, str]) -> AptEntry:
    checked = not _says_no(options.get("check-valid-until", ""))
    return AptEntry(uri, suite, tuple(components.split()), options.get("signed-by", ""), checked)


def parse_fields(stanza: str) -> dict[str, str]:
    """Return the fields of one stanza (deb822(5)) without comments; names are in lower case."""
    fields: dict[str, list[str]] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line[0] in " \t":
            if name:
                fields[name].append(line.strip())
        else:
            name, colon, value = line.partition(":")
            name = name.strip().lower() if colon else ""
            if name:
                fields[name] = [value.strip()]
    return {name: "\n".join(lines) for name, lines in fields.items()}


def _says_no(value: str) -> bool:
    return value.strip().lower() in ("no", "false", "0", "off", "without", "disable")


def read_settings(apt: Path) -> dict[str, str]:
    """Return the settings in apt.conf.d and apt.conf by full name in lower case; the last value of a name counts."""
    found: dict[str, str] = {}
    for path in (*sorted((apt / "apt.conf.d").glob("*")), apt / "apt.conf"):
        found |= _parse_settings(_read_text(path))
    return found


def _parse_settings(text: str) -> Iterator[tuple[str, str]]:
    """Yield the settings in the text of a file, `Name "value";` and `Name { ... };`. Malformed ones are skipped."""
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


def _read_text(path: Path) -> str:
    """Return the text of a file, "" if it does not exist or is not readable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def proxy_of(url: str, settings: Mapping[str, str]) -> str | None:
    """Return the proxy in apt's settings for a URL, "" for a direct connection, None without a setting.

    A setting for the URL's host has priority. Without a setting for https, the setting for http is used, as in apt.
    """
    parts = urlsplit(url)
    for scheme in dict.fromkeys((parts.scheme, "http")):
        for name in (f"acquire::{scheme}::proxy::{parts.hostname}", f"acquire::{scheme}::proxy"):
            if value := settings.get(name, ""):
                return "" if value.upper() == "DIRECT" else value
    return None


def with_login(url: str, apt: Path) -> str:
    """Return the URL with the login for it in auth.conf, if there is one. A login that is in the URL stays.

    A `machine` in auth.conf may have a scheme and a path. Without a scheme it is for https only.
    """
    parts = urlsplit(url)
    if parts.username is not None or not parts.hostname:
        return url
    for machine, user, password in _logins(apt):
        scheme, _, rest = machine.rpartition("://")
        host, slash, path = rest.partition("/")
        if host not in (parts.hostname, parts.netloc) or (scheme or "https") != parts.scheme:
            continue
        if f"{parts.path}/".startswith(slash + path):
            login = f"{quote(user, safe='')}:{quote(password, safe='')}"
            return parts._replace(netloc=f"{login}@{parts.netloc}").geturl()
    return url


def read_passwords(apt: Path) -> dict[str, str]:
    """Return the passwords in auth.conf: machine -> password."""
    return {machine: password for machine, _user, password in _logins(apt)}


def _logins(apt: Path) -> Iterator[tuple[str, str, str]]:
    """Yield machine, user name and password of each entry of auth.conf."""
    for path in (apt / "auth.conf", *sorted((apt / "auth.conf.d").glob("*.conf"))):
        text = re.sub(r"^[ \t]*#[^\n]*", "", _read_text(path), flags=re.MULTILINE)
        for entry in re.split(r"(?:^|\s)machine\s+", text)[1:]:
            words = entry.split()
            pairs = dict(zip(words[1::2], words[2::2], strict=False))
            if words and "login" in pairs:
                yield words[0], pairs["login"], pairs.get("password", "")
