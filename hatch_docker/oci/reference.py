"""References to images: `registry/repository:tag@digest`.

Implements https://github.com/distribution/reference (grammar, and normalisation as in Docker), and the grammar of
`name` and `reference` in the distribution-spec 1.1 (Pulling manifests).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hatch_docker.core.errors import ImageError
from hatch_docker.oci.model import DIGEST

DOCKER_HUB = "docker.io"
MAX_PORT = 65535
LONGEST = 512  # most characters: 255 of the name, 128 of a tag, 71 of a digest, and some reserve
_ALIASES = frozenset({"index.docker.io", "registry-1.docker.io"})

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::([0-9]{{1,5}}))?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Reference:
    """The full name of an image. `tag` or `digest` may be "", but not both. If both are set, the digest is used."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """The short form that Docker displays, without the default registry."""
        text = str(self)
        return text.removeprefix(f"{DOCKER_HUB}/library/").removeprefix(f"{DOCKER_HUB}/")

    def pinned(self, digest: str) -> Reference:
        """Return the reference to a digest in the same repository, without a tag."""
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{'@' if self.digest else ''}{self.digest}"


def parse_reference(text: str) -> Reference:
    """Parse a name with the defaults of `docker pull`: `docker.io`, `library/` and the tag `latest`.

    Raises ImageError that names the wrong part of the text.
    """
    if len(text) > LONGEST:
        raise _wrong(text, f"it has more than {LONGEST} characters")
    name, at, digest = text.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise _wrong(text, f"{digest!r} is not a digest (sha256: and 64 hexadecimal digits)")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon:
        check_tag(tag, text)
    registry, repository = DOCKER_HUB, head + slash + last
    first, slash, rest = repository.partition("/")
    if slash and (set(first) & set(".:[") or first == "localhost" or first != first.lower()):
        registry, repository = DOCKER_HUB if first in _ALIASES else first, rest
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    host = _REGISTRY.fullmatch(registry)
    if not host or int(host[1] or 0) > MAX_PORT:
        raise _wrong(text, f"{registry!r} is not a registry's host name and port")
    if repository != repository.lower():
        raise _wrong(text, f"a repository is written in lower case: {repository.lower()!r}")
    if not _REPOSITORY.fullmatch(repository) or len(registry) + len(repository) > 254:
        raise _wrong(text, f"{repository!r} is not a repository's name")
    return Reference(registry, repository, tag or ("" if digest else "latest"), digest)


def check_tag(tag: str, where: str) -> None:
    """Raise ImageError if `tag` is not valid. `where`: the whole reference, for the message."""
    if not _TAG.fullmatch(tag):
        raise _wrong(where, f"{tag!r} is not a tag (at most 128 letters, digits, '_', '.', '-')")


def _wrong(text: str, reason: str) -> ImageError:
    # The text may be a URL with a password.
    shown = re.sub(r"[^/@\s]+@(?=[^@]*/)", "***@", text[:LONGEST])
    return ImageError(f"{shown!r} is not an image reference: {reason}")
