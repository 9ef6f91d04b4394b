"""Names of an image: repositories, tags, labels and annotations."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from packaging.version import Version

from hatch_docker.core.errors import ConfigError
from hatch_docker.oci.model import Image
from hatch_docker.project.git import Revision
from hatch_docker.project.metadata import Metadata

PREFIX = "org.opencontainers.image."
# Annotation to the normalised labels (PEP 753) of the project URLs for it.
_URLS = {
    "url": ("homepage", "home"),
    "source": ("source", "repository", "sourcecode", "github"),
    "documentation": ("documentation", "docs"),
}
# Placeholder to the reason why it has no value.
_UNKNOWN = {
    "revision": "no commit is checked out",
    "branch": (
        "no branch is checked out, and no pipeline variable contains one; to build a Git tag, set HATCH_DOCKER_TAGS"
    ),
    "date": "there is no commit, and SOURCE_DATE_EPOCH is not set",
}


def repositories_of(image: str, registries: Sequence[str]) -> tuple[str, ...]:
    """Return the repositories to push to, each with its registry; empty if no registry is set.

    An entry of `registries` without a path gets the path of `image`. Without entries, `image` is the repository, unless
    it is a single word: on Docker Hub, only Docker's official images have such names.
    """
    first, slash, rest = image.partition("/")
    named = bool(slash) and (bool(set(first) & set(".:[")) or first == "localhost")
    path = rest if named else image
    if registries:
        return tuple(dict.fromkeys(entry if "/" in entry else f"{entry}/{path}" for entry in registries))
    if named:
        return (image,)
    return (f"docker.io/{image}",) if slash else ()


@dataclass(frozen=True, slots=True)
class TagValues:
    """The fields of Metadata that tags need; read from a receipt if the project's directory may be missing."""

    version: str
    revision: Revision | None
    source_date: int | None


def tags_of(
    templates: Sequence[str], project: Metadata | TagValues, *, move: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the tags for some templates, and notes about them for the user.

    A pre-release does not get the tags that move with each release, unless `move` is set; if no other tag remains, its
    tag is the version. Raises the ConfigError of `fill_template`.
    """
    notes: list[str] = []
    chosen = list(templates)
    if not move and Version(project.version).is_prerelease:
        # A tag moves with each release if it is `latest`, or if {major} and {minor} are its only placeholders.
        fields = {template: set(re.findall(r"{(\w+)}", template)) for template in templates}
        moving = {"latest", *(name for name, found in fields.items() if found and found <= {"major", "minor"})}
        chosen = [template for template in templates if template not in moving] or ["{version}"]
        if left := [f'"{template}"' for template in templates if template not in chosen]:
            notes.append(
                f"{project.version} is a pre-release: not tagged {', '.join(left)} "
                "(prereleases-move-tags = true does that)"
            )
    tags: dict[str, None] = {}
    for template in chosen:
        tag, note = fill_template(template, project)
        tags[tag] = None
        notes += [note] if note else []
    return tuple(tags), tuple(notes)


def fill_template(template: str, project: Metadata | TagValues) -> tuple[str, str]:
    """Return the tag for a template, and a note if characters were replaced, else "".

    Placeholders: {version} {major} {minor} {revision} {branch} {date}. Characters that a tag cannot contain, such as
    the `+` of a local version, become `-` (distribution-spec, Pulling manifests). Raises ConfigError for an unknown
    placeholder and for one without a value.
    """
    version = Version(project.version)
    revision = project.revision
    date = project.source_date
    values = {
        "version": project.version,
        "major": str(version.major),
        "minor": str(version.minor),
        "revision": revision.commit[:12] + revision.dirty_suffix if revision else "",
        "branch": revision.branch if revision else "",
        "date": "" if date is None else datetime.fromtimestamp(date, UTC).strftime("%Y%m%d"),
    }

    def fill(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if value is None:
            raise ConfigError(f"tag {template!r}: unknown placeholder {{{match[1]}}}; known: {', '.join(values)}")
        if not value:
            raise ConfigError(f"tag {template!r}: {{{match[1]}}} is not known: {_UNKNOWN[match[1]]}")
        return value

    filled = re.sub(r"\{(\w+)\}", fill, template)
    tag = re.sub(r"[^A-Za-z0-9_.-]", "-", filled)[:128]
    tag = tag if re.match(r"\w", tag, re.ASCII) else f"_{tag[1:]}"
    note = f'tag "{filled}" is written "{tag}": at most 128 letters, digits, "_", "." and "-"'
    return tag, note if tag != filled else ""


def annotations_of(project: Metadata) -> dict[str, str]:
    """Return the pre-defined annotations (annotations.md) with a value in the project's metadata."""
    urls = {re.sub(r"[^a-z0-9]", "", label.lower()): url for label, url in project.urls.items()}
    values = {
        "title": project.name,
        "version": project.version,
        "description": project.description,
        "licenses": project.licence,
        "authors": ", ".join(project.authors),
        "revision": project.revision.commit + project.revision.dirty_suffix if project.revision else "",
    }
    for key, labels in _URLS.items():
        values[key] = next((urls[label] for label in labels if label in urls), "")
    return {PREFIX + key: value for key, value in sorted(values.items()) if value}


def index_annotations(images: Sequence[Image]) -> dict[str, str]:
    """Return the annotations that are equal in the manifests of all platforms, and the latest `created`."""
    tables: list[dict[str, str]] = [image.manifest_json.get("annotations") or {} for image in images]
    shared = {key: value for key, value in tables[0].items() if all(table.get(key) == value for table in tables)}
    times = [table[PREFIX + "created"] for table in tables if PREFIX + "created" in table]
    return shared | ({PREFIX + "created": max(times)} if times else {})


def merge_labels(metadata: Mapping[str, str], user: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata's values overridden by the user's, sorted; an empty value of the user removes the key."""
    values = {**metadata, **user}
    return {key: values[key] for key in sorted(values) if values[key] or key not in metadata}
