"""Requirements files with hashes, written by pip, pip-tools or uv (pip's Requirements File Format)."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from hatch_docker.core.errors import WheelError
from hatch_docker.core.progress import Progress, silent
from hatch_docker.project.git_source import parse_git
from hatch_docker.project.requirements_file import named_url
from hatch_docker.project.workspace import check_inside
from hatch_docker.wheels.target import Target, parse_requirement

# Options that name indexes are ignored: only the user's configuration is used.
_INDEXES = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--trusted-host")
_IGNORED = (
    "--require-hashes", "--only-binary", "--no-binary", "--prefer-binary", "--pre", "--use-feature", "-c",
    "--constraint",
)
_HASH = re.compile(r"\s--hash[= ](\w+:\w+)")


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """A package of a lock without file URLs: its version or direct URL, and the hashes of its files.

    `index`: the URL of its package index, "" if the lock has none. `git`: the address of a commit, which has no hashes.
    """

    name: str
    version: str
    url: str
    sha256: frozenset[str]
    index: str = ""
    git: str = ""


def sha256_of(hashes: Iterable[str]) -> frozenset[str]:
    """Return the SHA-256 digests (hexadecimal) among hashes such as "sha256:AB12..."."""
    return frozenset(text.removeprefix("sha256:").lower() for text in hashes if text.startswith("sha256:"))


def read_requirements(
    path: Path, root: Path, target: Target, progress: Progress, members: Sequence[str] = ()
) -> tuple[LockedPackage, ...]:
    """Return the packages that a target needs from a file and its included files, by name.

    The project at `root` and the `members` of its workspace (relative paths) are skipped. Raise WheelError, which names
    file and line, for a line without version or sha256, a directory, an unknown option and a duplicate package.
    """
    found: dict[str, LockedPackage] = {}
    own = frozenset(directory.resolve() for directory in (root, *(root / member for member in members)))
    for where, line in _lines(path, root, progress):
        package = _parse(where, line, own, path.parent, target)
        if package is not None and found.setdefault(package.name, package) != package:
            raise WheelError(f"{where}: {package.name} is there twice for {target}; lock the project again")
    return tuple(found[name] for name in sorted(found))


def read_pins(path: Path, root: Path, target: Target, progress: Progress) -> tuple[str, ...]:
    """Return the pins (`name==version`) for a target in a file without hashes and its included files.

    Lines without an exact version are skipped: they are requirements of the file, not of the project.
    """
    found = []
    for where, line in _lines(path, root, progress):
        if not re.match(r"[A-Za-z0-9][\w.-]*\s*(\[[^]]*\]\s*)?[(<>=!~]", line):
            continue
        requirement = parse_requirement(_HASH.sub("", f" {line}").strip(), f"{where}:")
        exact = any(clause.operator in ("==", "===") for clause in requirement.specifier)
        if exact and target.satisfies(requirement.marker):
            found.append(f"{requirement.name}{requirement.specifier}")
    return tuple(sorted(set(found)))


def requirements_files(path: Path, root: Path) -> list[Path]:
    """Return the paths of a requirements file and its included files. Raise WheelError as `read_requirements` does."""
    found: list[Path] = []
    list(_lines(path, root, silent(), found=found))
    return found


def _lines(
    path: Path, root: Path, progress: Progress, parents: tuple[Path, ...] = (), found: list[Path] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield each logical line with file name and line number: continuations joined, comments removed, files included.

    The path of each file is added to `found`. Files of the project at `root` may include only files of its repository.
    """
    if parents or path.is_relative_to(root):
        check_inside(path, root)
    if found is not None:
        found.append(path)
    try:
        real = path.resolve()
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a symlink loop
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
        where, joined, start = f"{path.name}:{start}", "", 0
        option, _, value = line.replace("=", " ", 1).partition(" ") if line.startswith("-") else ("", "", "")
        if option in ("-r", "--requirement"):
            yield from _lines(path.parent / value.strip(), root, progress, (*parents, real), found)
        elif option in _INDEXES:
            progress.warn(f"{where}: {option} is not followed; files come from the index of your own configuration")
        elif line and option not in _IGNORED:
            yield where, named_url(line)


def _parse(where: str, line: str, own: frozenset[Path], directory: Path, target: Target) -> LockedPackage | None:
    """Return the package of a line; None for the project itself and for packages that the target does not need."""
    if local := re.match(r"(?:-e|--editable)[ =]\s*(\S+)|(\.\S*)", line):
        path = (local[1] or local[2]).removeprefix("file:")
        # uv exports a member's file with paths relative to the workspace.
        parents = (directory, *directory.resolve().parents)
        if "\0" not in path and any(Path(os.path.realpath(parent / path)) in own for parent in parents):
            return None
        raise WheelError(f"{where}: {path} is a directory; publish it to an index, or lock its wheel")
    if line.startswith("-"):
        raise WheelError(f"{where}: the option {line.partition(' ')[0]} is not supported")
    requirement = parse_requirement(_HASH.sub("", f" {line}").strip(), f"{where}:")
    if not target.satisfies(requirement.marker):
        return None
    name, url = canonicalize_name(requirement.name), requirement.url or ""
    if url.startswith("git+"):
        if not parse_git(url, where).is_pinned:
            raise WheelError(f"{where}: {name} is at a branch or a tag, which may move: name a whole commit")
        return LockedPackage(name, "", "", frozenset(), git=url)
    sha256 = sha256_of(_HASH.findall(f" {line}"))
    if not sha256 and not url.startswith("file:"):
        raise WheelError(
            f"{where}: {requirement.name} has no --hash=sha256:...; write the file with "
            "`uv pip compile --generate-hashes`"
        )
    exact = [clause.version for clause in requirement.specifier if clause.operator in ("==", "===")]
    versions = [version for version in exact if "*" not in version]
    if not versions and not url:
        raise WheelError(f"{where}: {requirement.name} is not pinned with ==; lock the project again")
    return LockedPackage(name, versions[0] if versions else "", url, sha256)
