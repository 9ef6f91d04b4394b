"""Tags, labels and annotations: how an image is called and what it says of itself. Decided before the engine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from hatch_docker.errors import ConfigError
from hatch_docker.project import Project

PREFIX = "org.opencontainers.image."
# Which well-known project URLs (PEP 753 labels, normalised) fill which annotation.
_URLS = {
    "url": ("homepage", "home"),
    "source": ("source", "repository", "sourcecode", "github"),
    "documentation": ("documentation", "docs"),
}


def tag_from(template: str, project: Project) -> str:
    """Fill a tag template and make it fit the tag grammar (distribution-spec, Pulling manifests).

    Placeholders: {version} {major} {minor} {revision} {branch}. Characters that a tag cannot have, such as
    the `+` of a local version, become `-`. Raises ConfigError for an unknown or an empty placeholder.
    """
    from packaging.version import Version

    version = Version(project.version)
    revision = project.revision
    values = {
        "version": project.version,
        "major": str(version.major),
        "minor": str(version.minor),
        "revision": revision.commit[:12] if revision else "",
        "branch": revision.branch if revision else "",
    }

    def fill(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if value is None:
            raise ConfigError(f"tag {template!r}: unknown placeholder {{{match[1]}}}; known: {', '.join(values)}")
        if not value:
            raise ConfigError(f"tag {template!r}: {{{match[1]}}} is not known: no commit or no branch is checked out")
        return value

    tag = re.sub(r"[^A-Za-z0-9_.-]", "-", re.sub(r"\{(\w+)\}", fill, template))[:128]
    return tag if re.match(r"\w", tag) else f"_{tag[1:]}"


def normalised(name: str) -> str:
    """A project's or script's name in the form of PEP 503, also the default name of the image."""
    return re.sub(r"[-_.]+", "-", name).lower()


def annotations_of(project: Project) -> dict[str, str]:
    """The pre-defined annotation keys that the metadata fills (annotations.md)."""
    urls = {re.sub(r"[^a-z0-9]", "", label.lower()): url for label, url in project.urls.items()}
    values = {
        "title": project.name,
        "version": project.version,
        "description": project.description,
        "licenses": project.licence if "\n" not in project.licence else "",
        "authors": ", ".join(project.authors),
        "revision": project.revision.commit if project.revision else "",
    }
    for key, labels in _URLS.items():
        values[key] = next((urls[label] for label in labels if label in urls), "")
    return {PREFIX + key: value for key, value in sorted(values.items()) if value}


def timestamp(seconds: int) -> str:
    """Seconds since the epoch as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def merged(metadata: Mapping[str, str], user: Mapping[str, str]) -> dict[str, str]:
    """The metadata's values with the user's over them, by key; an empty value of the user removes a key."""
    values = {**metadata, **user}
    return {key: values[key] for key in sorted(values) if values[key] or key not in metadata}
