"""Git sources: parser of the git repositories' addresses in requirements, locks and tables of Python tools.

PEP 508 and pip: "git+https://host/repository@REF#subdirectory=PATH"; the image lock uses this form with a commit as
REF. uv.lock: "https://host/repository?rev=REF&subdirectory=PATH#COMMIT". Tables of uv, Poetry and PDM may also contain
the scp form of SSH, "user@host:path".
"""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote

from hatch_docker.core.errors import WheelError
from hatch_docker.core.http.urls import parse, redact_url

SCHEMES = ("https", "http", "ssh", "file")
_SCP = re.compile(r"(?P<host>(?:[\w.-]+@)?[A-Za-z0-9][\w.-]*):(?!/)(?P<path>[^:].*)")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class GitSource:
    """A commit, branch or tag of a git repository.

    `url`: without a login. `ref`: a branch, a tag or a commit, "" for the default branch. `subdirectory`: the project's
    directory in the repository, "" for the top. `login`: "user:password" from the address, "" for none.
    """

    url: str
    ref: str = ""
    subdirectory: str = ""
    login: str = ""

    @property
    def is_pinned(self) -> bool:
        """True if `ref` is a full commit hash."""
        return _COMMIT.fullmatch(self.ref) is not None

    @property
    def is_local(self) -> bool:
        """True if the repository is on this machine."""
        return self.url.startswith("file:")

    def __str__(self) -> str:
        ref = f"@{self.ref}" if self.ref else ""
        below = f"#subdirectory={quote(self.subdirectory)}" if self.subdirectory else ""
        return f"git+{self.url}{ref}{below}"


def git_address(url: str, ref: str = "", subdirectory: str = "") -> str:
    """Return an address in pip's form; a login in `url` is kept."""
    if found := _SCP.fullmatch(url):
        url = f"ssh://{found['host']}/{found['path']}"
    ref = f"@{ref}" if ref else ""
    below = f"#subdirectory={quote(subdirectory)}" if subdirectory else ""
    return f"git+{url.removeprefix('git+')}{ref}{below}"


def parse_git(address: str, where: str) -> GitSource:
    """Parse an address in one of the forms above; raises WheelError, which starts with `where`, for an unsafe one."""
    text = git_address(address.removeprefix("git+")).removeprefix("git+")
    wrong = WheelError(f"{where}: {redact_url(text)[:200]} is not the address of a git repository")
    try:
        parts = parse(text)
        parts.port  # noqa: B018 - raises ValueError for an invalid port
    except ValueError:
        raise wrong from None
    if parts.scheme not in SCHEMES:
        raise WheelError(
            f"{where}: a git repository is reached by {', '.join(SCHEMES)}, and {redact_url(text)[:200]} by another way"
        )
    fields = {name: values[-1] for name, values in parse_qs(f"{parts.query}&{parts.fragment}").items()}
    path, mark, ref = parts.path.rpartition("@")
    if not mark:
        path, ref = parts.path, next((fields[name] for name in ("rev", "tag", "branch") if name in fields), "")
    user, _, host = parts.netloc.rpartition("@")
    remote = re.fullmatch(r"[A-Za-z0-9\[][^\s\\]*", host) and not user.startswith("-")
    if not (remote or (parts.scheme == "file" and not host)) or not path.strip("/"):
        raise wrong
    subdirectory = fields.get("subdirectory", "").strip("/")
    ref = unquote(ref)
    if not re.fullmatch(r"(?![-/])[^\s~^:?*\[\\\x00-\x1f\x7f]*", ref) or ".." in ref or ".." in subdirectory.split("/"):
        raise WheelError(f"{where}: {redact_url(text)[:200]} has a ref or a subdirectory that git cannot have")
    name = user.partition(":")[0] if parts.scheme == "ssh" else ""
    bare = parts._replace(netloc=f"{name}@{host}" if name else host, path=path, query="", fragment="")
    return GitSource(bare.geturl(), ref, "" if subdirectory == "." else subdirectory, "" if name == user else user)
