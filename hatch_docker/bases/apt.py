"""Where Debian's archive is: the user's mirror, else what the host's apt is configured with.

Reads both forms of sources.list(5): deb822 stanzas (`*.sources`) and one-line entries (`*.list`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hatch_docker.bases.apt_conf import proxy, read, settings, with_login
from hatch_docker.errors import BaseImageError
from hatch_docker.plan import BasePlan
from hatch_docker.urls import shown

if TYPE_CHECKING:
    from hatch_docker.context import Context
    from hatch_docker.transport import Client

APT = Path("/etc/apt")
MIRROR_VARIABLE = "HATCH_DOCKER_DEBIAN_MIRROR"
SECURITY_VARIABLE = "HATCH_DOCKER_DEBIAN_SECURITY_MIRROR"
WAYS_OUT = f"`[tool.hatch-docker.debian] mirror` or {MIRROR_VARIABLE}"

SCHEMES = ("http", "https", "file")
_NAMES = ("buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid",
          "oldoldstable", "oldstable", "stable", "testing", "unstable")  # fmt: skip
_SUITE = re.compile(rf"({'|'.join(_NAMES)})(-updates|-security|/updates|-backports|-proposed-updates)?/?")
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>.*)")


@dataclass(frozen=True, slots=True)
class Source:
    """One `deb` entry of apt's configuration: a URI and a suite there."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""
    check_valid_until: bool = True


@dataclass(frozen=True, slots=True)
class Mirrors:
    """The roots of Debian's two archives, as URLs without a slash at the end, and who named them.

    `check_valid_until` is False only where the host's administrator told apt not to look at that date. `apt`
    has the settings of apt where those named the mirrors.
    """

    main: str = field(repr=False)
    security: str = field(repr=False)
    origin: str
    check_valid_until: bool = True
    apt: Mapping[str, str] = field(default_factory=dict, repr=False)

    def client(self, ctx: Context) -> Client:
        """The HTTP client of a build, by the proxies of apt where apt named the mirrors."""
        return ctx.client.through(functools.partial(proxy, found=self.apt)) if self.apt else ctx.client

    def root(self, archive: str) -> str:
        """The root of "main" or "security"."""
        return self.security if archive == "security" else self.main


def find_mirrors(plan: BasePlan, environ: Mapping[str, str], *, apt: Path = APT) -> Mirrors:
    """The mirrors of a plan: its own, HATCH_DOCKER_DEBIAN_MIRROR, else those of the apt configuration `apt`.

    Raises BaseImageError where nothing names a mirror of Debian, or the one named is no URL we can read.
    """
    security = plan.security_mirror or environ.get(SECURITY_VARIABLE, "")
    for mirror, origin in (
        (plan.mirror, "[tool.hatch-docker.debian] mirror"),
        (environ.get(MIRROR_VARIABLE, ""), MIRROR_VARIABLE),
    ):
        if mirror:
            main = _root(mirror, origin)
            if mirror == environ.get(MIRROR_VARIABLE):  # which goes over the option
                origin = MIRROR_VARIABLE
            found = Mirrors(main, f"{main}-security", origin)
            break
    else:
        found = _of_host(apt)
    return replace(found, security=_root(security, "the security mirror")) if security else found


def _root(mirror: str, origin: str) -> str:
    if mirror.startswith("/"):
        mirror = Path(mirror).as_uri()
    if mirror.startswith("file:/") and not mirror.startswith("file://"):  # apt's own spelling
        mirror = "file://" + mirror.removeprefix("file:")
    try:
        parts = urlsplit(mirror)
        good = parts.scheme in SCHEMES and (parts.scheme == "file" or bool(parts.hostname))
    except ValueError:
        good = False
    if not good:
        raise BaseImageError(
            f"{origin} is {shown(mirror)!r}: a mirror of Debian is an http, https or file URL, such as "
            "https://mirror.example/debian"
        )
    return mirror.rstrip("/")


def _of_host(apt: Path) -> Mirrors:
    sources = [source for source in read_sources(apt) if _is_debian(source)]
    main = [source for source in sources if not _is_security(source.suite)]
    if not main:
        raise BaseImageError(
            f"no mirror of Debian is known: apt's configuration in {apt} names none; set {WAYS_OUT} "
            "to the URL of one"
        )
    first = min(main, key=_doubt)  # stable: apt's own order among equals
    root = _root(first.uri, str(apt))
    security = [source for source in sources if _is_security(source.suite)]
    second = min(security, key=_doubt) if security else None
    checked = first.check_valid_until and (second is None or second.check_valid_until)
    conf = settings(apt)
    roots = [root, _root(second.uri, str(apt)) if second else f"{root}-security"]
    return Mirrors(
        with_login(roots[0], apt),
        with_login(roots[1], apt),
        f"apt's configuration in {apt}",
        checked and not _says_no(conf.get("acquire::check-valid-until", "")),
        conf,
    )


def _is_security(suite: str) -> bool:
    return suite.rstrip("/").endswith(("-security", "/updates"))


def _is_debian(source: Source) -> bool:
    return (
        "main" in source.components
        and _SUITE.fullmatch(source.suite) is not None
        and re.match(r"(https?://|file:/)", source.uri) is not None
    )


def _doubt(source: Source) -> int:
    """How little speaks for an archive being Debian's own: others name their suites after Debian's too."""
    if "debian-archive-" in source.signed_by:
        return 0
    last = source.uri.rstrip("/").rpartition("/")[2]
    return 1 if last in ("debian", "debian-security") else 2


def read_sources(apt: Path = APT) -> list[Source]:
    """All enabled `deb` entries under `apt`, in apt's order; lines that apt would refuse are skipped."""
    found: list[Source] = []
    directory = apt / "sources.list.d"
    extra = sorted(directory.iterdir()) if directory.is_dir() else []
    for path in (apt / "sources.list", *extra):
        text = read(path) if path.suffix in (".list", ".sources") else ""
        found += _deb822(text) if path.suffix == ".sources" else _one_line(text)
    return found


def _one_line(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match is None:
            continue
        options = dict(re.findall(r"([a-z-]+)\+?=(\S+)", (match["options"] or "").lower()))
        yield Source(
            match["uri"], match["suite"], tuple(match["components"].split()), options.get("signed-by", ""),
            not _says_no(options.get("check-valid-until", "")),
        )  # fmt: skip


def _deb822(text: str) -> Iterator[Source]:
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields = parse_fields(stanza)
        if "deb" not in fields.get("types", "").split() or _says_no(fields.get("enabled", "")):
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(
                    uri, suite, tuple(fields.get("components", "").split()), fields.get("signed-by", ""),
                    not _says_no(fields.get("check-valid-until", "")),
                )  # fmt: skip


def parse_fields(stanza: str) -> dict[str, str]:
    """The fields of one deb822 stanza (deb822(5)), names in lower case; a comment line is skipped."""
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

