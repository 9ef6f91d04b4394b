"""Requirements files with hashes, as pip, pip-tools and uv write them (pip's Requirements File Format)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.core.errors import WheelError
from hatch_docker.core.progress import Progress
from hatch_docker.wheels.target import Target

# Options about where files are: only the user's own configuration decides that.
_PLACES = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--trusted-host")
_HARMLESS = ("--require-hashes", "--only-binary", "--no-binary", "--prefer-binary", "--pre", "--use-feature")
_HASH = re.compile(r"\s--hash[= ](\w+):(\w+)")


@dataclass(frozen=True, slots=True)
class HashedLine:
    """One pinned requirement; `url` is its address where the file names one, `sha256` what it may be."""

    name: str
    version: str
    url: str
    sha256: frozenset[str]


def read_requirements(
    path: Path, root: Path, target: Target, progress: Progress, members: Sequence[str] = ()
) -> tuple[HashedLine, ...]:
    """The requirements of a file, and of the files it includes, that hold for a target, by name.

    The project's directory is skipped, and so are the `members` of its workspace, paths from there. Raises WheelError,
    naming file and line, for a line without version or sha256, a directory, an unknown option and a package that is
    there twice.
    """
    found: dict[str, HashedLine] = {}
    own = frozenset(place.resolve() for place in (root, *(root / member for member in members)))
    for place, line in _lines(path, progress, ()):
        hashed = _parse(place, line, own, path.parent, target)
        if hashed is None:
            continue
        if found.setdefault(hashed.name, hashed) != hashed:
            raise WheelError(f"{place}: {hashed.name} is there twice for {target}; lock the project again")
    return tuple(found[name] for name in sorted(found))


def _lines(path: Path, progress: Progress, parents: tuple[Path, ...]) -> Iterator[tuple[str, str]]:
    """Logical lines with their place: continuations joined, comments cut, included files in place."""
    try:
        real = path.resolve()
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a link that leads in circles
        raise WheelError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if real in parents:
        raise WheelError(f"{path.name} includes itself")
    joined, start = "", 0
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        start = start or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            joined += raw[:-1] + " "
            continue
        line = re.sub(r"(^|\s+)#.*$", "", joined + raw).strip()
        place, joined, start = f"{path.name}:{start}", "", 0
        option, _, value = line.replace("=", " ", 1).partition(" ") if line.startswith("-") else ("", "", "")
        if option in ("-r", "--requirement"):
            yield from _lines(path.parent / value.strip(), progress, (*parents, real))
        elif option in _PLACES:
            progress.warn(f"{place}: {option} is not followed; files come from the index of your own configuration")
        elif line and option not in (*_HARMLESS, "-c", "--constraint"):
            yield place, line


def _parse(place: str, line: str, own: frozenset[Path], directory: Path, target: Target) -> HashedLine | None:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    local = re.match(r"(?:-e|--editable)[ =]\s*(\S+)|(\.\S*)", line)
    if local:
        where = (local[1] or local[2]).removeprefix("file:")
        # uv exports a member's file with paths that start at the workspace.
        above = (directory, *directory.resolve().parents)
        if "\0" not in where and any(Path(os.path.realpath(place / where)) in own for place in above):
            return None
        raise WheelError(f"{place}: {where} is a directory; publish it to an index, or lock its wheel")
    if line.startswith("-"):
        raise WheelError(f"{place}: the option {line.partition(' ')[0]} is not supported")
    try:
        requirement = Requirement(_HASH.sub("", f" {line}").strip())
    except InvalidRequirement as error:
        raise WheelError(f"{place}: {str(error).splitlines()[0]}") from error
    if not target.holds(requirement.marker):
        return None
    sha256 = frozenset(digest.lower() for kind, digest in _HASH.findall(f" {line}") if kind == "sha256")
    if not sha256:
        raise WheelError(
            f"{place}: {requirement.name} has no --hash=sha256:...; write the file with "
            "`uv pip compile --generate-hashes`"
        )
    pinned = [one.version for one in requirement.specifier if one.operator in ("==", "===") and "*" not in one.version]
    if not pinned and not requirement.url:
        raise WheelError(f"{place}: {requirement.name} is not pinned with ==; lock the project again")
    version = pinned[0] if pinned else ""
    return HashedLine(canonicalize_name(requirement.name), version, requirement.url or "", sha256)
