"""Project pages of a package index (PEP 503 and 691): files, required Python versions, yanked files (PEP 592)."""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from hatch_docker.core.context import Context
from hatch_docker.core.errors import RegistryError
from hatch_docker.core.http.urls import redact_url
from hatch_docker.core.process import run
from hatch_docker.core.validation import ANY, first_mismatch
from hatch_docker.wheels.index import Indexes
from hatch_docker.wheels.locks.uv import find_uv
from hatch_docker.wheels.target import version_of

LIMIT = 100 << 20  # bytes of a page; the largest known pages have about 30 MB
JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_PAGE: Mapping[str, Any] = {
    "files": [{"filename": str, "yanked?": (bool, str), "requires-python?": (str, lambda value: value is None),
               "*": ANY}], "*": ANY,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A wheel or an sdist. `requires_python`: "" for any. `yanked`: the reason (may be ""), None if not yanked."""

    filename: str
    version: Version
    requires_python: str
    yanked: str | None

    def fits(self, python: str) -> bool:
        """Return whether the file is for this version of Python. As in uv, an invalid condition allows all."""
        try:
            return SpecifierSet(self.requires_python).contains(python, prereleases=True)
        except ValueError:  # InvalidSpecifier, or a number with 5000 digits
            return True


def index_urls(indexes: Indexes, ctx: Context) -> tuple[str, ...]:
    """Return the URLs of the indexes that uv uses. The URL of uv's default index is read from the output of uv."""
    found = [index.url for index in indexes.indexes]
    if indexes.uses_uv_default:
        command = [find_uv(ctx.environ), "pip", "compile", "--quiet", "--no-header", "--emit-index-url"]
        command += ["--python", sys.executable, "-"]
        output = run(command, env=indexes.uv_environment(ctx.environ), secrets=indexes.secrets, stdin=b"")
        found += re.findall(r"^--index-url (\S+)", output, re.MULTILINE)
    return tuple(dict.fromkeys(url.rstrip("/") for url in found if url.startswith(("http://", "https://"))))


def read_page(url: str, name: str, indexes: Indexes, ctx: Context) -> tuple[IndexFile, ...]:
    """Return the files of a project (normalized `name`) on the index at `url`; () if the index does not have it.

    Raise RegistryError or TransientError, also for a page that is neither valid JSON nor HTML.
    """
    address = f"{url}/{name}/"
    headers = {"accept": _ACCEPT, **indexes.authorization(url)}
    page = indexes.client(ctx).request("GET", address, headers=headers, expect=(200, 404), limit=LIMIT)
    return () if page.status == 404 else parse_page(page.body, page.headers.get("content-type", ""), address)


def parse_page(data: bytes, media_type: str, address: str) -> tuple[IndexFile, ...]:
    """Return the files of a page: JSON by its media type, otherwise HTML. Raise RegistryError for other content."""
    rows: list[tuple[str, str | None, str | bool]] = []
    if media_type.partition(";")[0].strip() == JSON:
        try:
            page = json.loads(data)
        except (ValueError, RecursionError):
            page = None
        if not (wrong := first_mismatch(_PAGE, page, "the page")):
            rows = [(row["filename"], row.get("requires-python"), row.get("yanked", False)) for row in page["files"]]
    else:
        parser, wrong = _Links(rows), None
        try:
            parser.feed(data.decode(errors="replace"))
        except AssertionError:  # raised by older Pythons for "<![["
            wrong = "the HTML"
    if wrong:
        raise RegistryError(f"{redact_url(address)} is not a page of a package index: {wrong} is wrong")
    return tuple(_files(rows))


class _Links(HTMLParser):
    """The links of a page of PEP 503."""

    def __init__(self, rows: list[tuple[str, str | None, str | bool]]) -> None:
        super().__init__()
        self.rows = rows

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a" and (link := values.get("href")):
            yanked = (values["data-yanked"] or "") if "data-yanked" in values else False
            name = unquote(urlsplit(link).path.rpartition("/")[2])
            self.rows.append((name, values.get("data-requires-python"), yanked))


def _files(rows: Iterable[tuple[str, str | None, str | bool]]) -> Iterable[IndexFile]:
    for filename, requires, yanked in rows:
        if version := version_of(filename):  # eggs and installers are skipped, as in uv
            reason = yanked if isinstance(yanked, str) else "" if yanked else None
            yield IndexFile(filename, version, requires or "", reason)
