"""Pins of a pylock.toml (PEP 751) for a target. All other lock files are converted to such a table."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from packaging.utils import canonicalize_name

from hatch_docker.core.cache.store import file_digest
from hatch_docker.core.errors import WheelError
from hatch_docker.core.http import urls
from hatch_docker.core.text import abbreviate
from hatch_docker.project.git_source import git_address, parse_git
from hatch_docker.wheels.target import Pin, Target, incompatibility, sdist_name, version_of

if TYPE_CHECKING:
    from packaging.pylock import Package, PackageArchive, PackageSdist, PackageVcs, PackageWheel

PinDirect = Callable[[str, str, str], Pin]
"""A function that pins a direct reference that must be built: name, version or "", address -> pin."""

_FILENAME = r"[^\x00-\x20\x7f/\\]+"  # safe as a file name in the cache's directories


@dataclass(frozen=True, slots=True)
class LockFile:
    """The file that a table was read from: its name for messages, and the directory of its relative paths.

    The project at `root` and the `members` of its workspace (paths relative to `root`) are built and not pinned.
    """

    name: str
    directory: Path
    root: Path
    members: tuple[str, ...] = ()

    def is_own(self, path: str) -> bool:
        """Return whether a directory is the project's or a member's."""
        own = {os.path.realpath(self.root / member) for member in ("", *self.members)}
        return "\0" not in path and os.path.realpath(self.directory / path) in own


def repository_table(name: str, version: str, address: str, where: str, revision: str = "") -> dict[str, Any]:
    """Return the table of a package that is a git commit (PEP 751). Raise WheelError whose message begins with `where`.

    `revision`: the branch or tag of the commit when it was locked, "" if unknown.
    """
    found = parse_git(address, where)
    vcs = {"type": "git", "url": found.url, "commit-id": found.ref or "HEAD"}
    subdirectory = {"subdirectory": found.subdirectory} if found.subdirectory else {}
    requested = {"requested-revision": revision} if revision else {}
    return {"name": name, **({"version": version} if version else {}), "vcs": {**vcs, **requested, **subdirectory}}


def pins_of(
    table: Mapping[str, Any], file: LockFile, target: Target,
    *, extras: Collection[str] = (), groups: Collection[str] = (), direct: PinDirect | None = None,
) -> tuple[Pin, ...]:
    """Return the files that the table of a pylock.toml selects for a target, by package name.

    `direct` pins commits of git repositories. Raise WheelError, which names the lock and the package, for an invalid
    lock, a target that it does not support, a remote file without sha256, and a directory that is not the project's.
    """
    from packaging.markers import UndefinedEnvironmentName
    from packaging.pylock import PackageDirectory, PackageVcs, Pylock, PylockSelectError, PylockValidationError

    try:
        lock = Pylock.from_dict(table)
    except PylockValidationError as error:
        raise WheelError(f"{file.name} is not a valid lock: {error}; lock the project again") from error
    extras = _declared(extras, lock.extras, "extra", file)
    groups = {*(lock.default_groups or ()), *_declared(groups, lock.dependency_groups, "dependency group", file)}
    pins: list[Pin] = []
    try:
        for package, choice in lock.select(
            environment=target.marker_environment(), tags=target.tags(), extras=extras, dependency_groups=groups
        ):
            if isinstance(choice, PackageDirectory):
                if not file.is_own(choice.path):
                    raise WheelError(
                        f"{file.name}: {package.name} is the directory {choice.path}, which the project does not name: "
                        "add it to [tool.uv.sources] with its path, or to the dependencies as `name @ file://...`"
                    )
                continue
            try:
                if isinstance(choice, PackageVcs):
                    pins.append(_repository(package, choice, file, target, direct))
                else:
                    pins.append(_pin(package, choice, file, target, direct))
            except ValueError as error:  # a malformed URL
                raise WheelError(f"{file.name}: {package.name}: {error}; lock the project again") from error
    except ValueError as error:  # raised by packaging for a version with thousands of digits
        raise WheelError(f"{file.name} is not a valid lock: {error}; lock the project again") from error
    except UndefinedEnvironmentName as error:
        raise WheelError(
            f"{file.name} is not a valid lock: `environments` has the variable {error}; lock the project again"
        ) from error
    except PylockSelectError as error:
        raise _selection_error(str(error), lock.packages, file, target) from error
    return tuple(sorted(pins, key=lambda pin: pin.name))


def _repository(package: Package, choice: PackageVcs, file: LockFile, target: Target, direct: PinDirect | None) -> Pin:
    """Return the pin of a git commit. Raise WheelError for other version control systems and if it cannot be built."""
    where = f"{file.name}: {package.name}"
    if choice.type != "git" or direct is None:
        raise WheelError(f"{where} comes from a {choice.type} repository, and only git's are known: lock a release")
    url = choice.url or (file.directory / (choice.path or "")).absolute().as_uri()
    name, version = str(package.name), str(package.version or "")
    pin = direct(name, version, git_address(url, choice.commit_id, choice.subdirectory or ""))
    _check_builds(pin, target)
    return pin


def _check_builds(pin: Pin, target: Target) -> None:
    if not target.builds_here:
        raise WheelError(
            f"{pin.title} has no wheel for {target}, and its sdist cannot be compiled for "
            f"{target.platform} on this machine; {target.alternatives}"
        )


def _declared(names: Collection[str], declared: Sequence[str] | None, kind: str, file: LockFile) -> set[str]:
    """Return the names that may be selected. A lock that declares none was exported with selected extras and groups.

    Raise WheelError for a name that is not declared.
    """
    if not declared:
        return set()
    found = {canonicalize_name(name) for name in names}
    if unknown := sorted(found.difference(map(canonicalize_name, declared))):
        raise WheelError(
            f"{file.name} has no {kind} {unknown[0]}, only {', '.join(sorted(declared))}; lock the project again"
        )
    return {str(name) for name in found}


def _pin(
    package: Package, choice: PackageWheel | PackageSdist | PackageArchive, file: LockFile, target: Target,
    direct: PinDirect | None,
) -> Pin:
    """Return the pin of a file. Raise WheelError if it has no hash, does not fit, or cannot be built for the target.

    The hash of a local file is computed if the lock has none.
    """
    from packaging.pylock import PackageArchive

    if isinstance(choice, PackageArchive):
        filename = re.split(r"[/\\]", urls.parse(choice.url or "").path or choice.path or "")[-1]
    else:
        filename = choice.filename
    where = f"{file.name}: {package.name} {package.version or ''}".rstrip()
    if not re.fullmatch(_FILENAME, filename):
        raise WheelError(f"{where}: {filename[:100]!r} is not the name of a file; lock the project again")
    sha256 = choice.hashes.get("sha256", "").lower()
    url = _url(choice.url, choice.path, file.directory)
    if subdirectory := getattr(choice, "subdirectory", None):
        url += f"#subdirectory={quote(subdirectory)}"
    if not sha256 and url.startswith("file:"):
        path = Path(unquote(urls.parse(url).path))
        if not path.is_file():
            raise WheelError(f"{where}: there is no file {path}; lock the project again")
        sha256 = file_digest(path).removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise WheelError(f"{where} has no sha256 hash for {filename}; lock the project again with hashes")
    version, named = str(package.version or ""), version_of(filename)
    if not filename.endswith(".whl") and named is None:  # a forge's archive of a tag
        if direct is not None and not version:
            pin = direct(str(package.name), "", url)
            if pin.sha256 != sha256:
                raise WheelError(f"{where}: {urls.redact_url(url)} has another hash; lock the project again")
            _check_builds(pin, target)
            return pin
        if version:
            filename = sdist_name(str(package.name), version, filename)
    if not version and named is None:
        raise WheelError(f"{where} has no version, and neither has the file name {filename}")
    pin = Pin(
        str(package.name), version or str(named), filename, url, sha256, choice.size,
        None if choice.upload_time is None else int(choice.upload_time.timestamp()),
    )
    if pin.is_wheel:
        if reason := incompatibility(filename, target):
            raise WheelError(f"{filename} is {reason}, but the image is {target}; {target.alternatives}")
    else:
        _check_builds(pin, target)
    return pin


def _url(url: str | None, path: str | None, directory: Path) -> str:
    """Return the URL of a file without login and fragment; a path is converted to a file URL."""
    if url and urls.parse(url).scheme in ("http", "https", "file"):
        parts = urls.parse(url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    if url and "://" in url:
        raise WheelError(f"{urls.redact_url(url)} is not an http, https or file URL")
    return (directory / (path or url or "")).absolute().as_uri()


def _selection_error(text: str, packages: Any, file: LockFile, target: Target) -> WheelError:
    """Return the error for a target without files in the lock; `text`: the message of `Pylock.select`."""
    found = re.search(r"No wheel found .* at packages\[(\d+)\]", text, re.DOTALL)
    if not found:
        return WheelError(f"{file.name} does not serve {target}: {text}; lock for that, too, or set lock = \"none\"")
    package = packages[int(found[1])]
    reasons = abbreviate(sorted({incompatibility(wheel.filename, target) for wheel in package.wheels or ()}))
    return WheelError(
        f"{file.name}: {package.name} {package.version} has no wheel for {target}, only ones {reasons}, and "
        f"no sdist; {target.alternatives}"
    )
