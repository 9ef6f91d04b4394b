"""Unchanged builds: detect that no input has changed since the last build of the same command, and skip the build.

A successful build writes a record of its inputs and outputs to the cache (`build/inputs.py`). The next build compares
the record with the present state. If nothing has changed, it prints the same lines and returns the same archives,
without making a plan, opening a layer or importing a library. Otherwise, or if a comparison fails, it is a full build.

    part of the record   contents                                 comparison
    key                  project and output directory, versions   hash; another command has another record
                         of Python and hatch-docker, import
                         path, user, machine, working directory,
                         environment variables except IGNORED,
                         programs on PATH, and whether standard
                         error is a terminal
    `trees`              files from which artifacts are built:    type, mode, owner, size, times and inode of each file,
                         the project, paths in `files`, other     and no new files; for a link, also those of its target
                         places that pyproject.toml names, and
                         the configuration of apt
    `paths`              locks, configuration of uv, pip and      the same; a missing file must still be missing
                         netrc, tables in parent directories
    `imports`            directories of Python's import path      the same, and the directory's times, which change when
                         (sys.path)                               a package is installed
    `outputs`            archive, receipt and documents           the same, so that an edited file is written again
    `revision`           commit, branch, time, changed files      with git
    `asked`              indexes of Debian, resolutions without   with the cache: the same answer, less than a day old
                         a lock
    `tags`               digests of bases, without an image lock  with the registry
    `pushes`             digests of pushed tags, of the images    with the registries, all at the same time; if a digest
                         in an index, and of attached documents   differs or a request fails, a full build reports it
    `daemon`             the daemon, and the image ID of each     with the daemon; for Podman's program, which takes a
                         name                                     second, the file with its list of images is compared
                                                                  as an output

Times are compared exactly. No record is written if a file was written, created or removed while the build ran or, in
the resolution of the file system's clock, just before; if the clock was set back; or if another build wrote the same
files at the same time. A record contains no contents of files and no environment variables, only a hash of the
variables. It is valid for a day, like the answers of servers in it. A damaged record is ignored.

These builds write no record: builds that sign, compare with a registry (`max-growth`), write a shared cache to a
directory, use BuildKit, print a warning, or run code of the project or of a plugin on this machine.
HATCH_DOCKER_REFRESH, HATCH_DOCKER_NO_CACHE and -v cause a full build.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hatch_docker import __version__
from hatch_docker.core.at_once import at_once
from hatch_docker.core.cache.store import NO_CACHE, Store, cache_root, find_store, key_of
from hatch_docker.core.errors import HatchDockerError
from hatch_docker.core.files import remove_abandoned, write_json

if TYPE_CHECKING:
    from hatch_docker.oci.reference import Reference
    from hatch_docker.oci.registry import Remote

KIND = "unchanged"
RECIPE = 2               # part of the key: increase it if the format of records changes
LIFETIME = 24 * 3600     # seconds; a full build each day keeps the entries that it uses in the cache
LIMIT = 200_000          # files of a tree; a project's files go into a wheel, and no wheel has more
PIPELINE_FILES = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
# Variables that do not change the result; HATCH_QUIET and HATCH_VERBOSE (-q, -v) only change the printed lines.
IGNORED = frozenset({"_", "OLDPWD", "PWD", "SHLVL", "HATCH_QUIET", "HATCH_VERBOSE", *PIPELINE_FILES})
# Variables that cause a full build, unless they are "", "0" or "false".
FORCE_BUILD = (
    "HATCH_DOCKER_REFRESH", NO_CACHE, "HATCH_BUILD_CLEAN", "HATCH_BUILD_CLEAN_HOOKS_AFTER", "HATCH_BUILD_HOOKS_ONLY",
)  # fmt: skip

Facts = list[Any] | None
"""Metadata of a file as JSON (see `facts`), None if the file does not exist."""


class NotRememberable(Exception):
    """Error: no record of this build can be written. Its text is the reason."""


def clock_offset() -> float:
    """Return the difference between the system clock and the monotonic clock, in seconds. It shows a changed clock."""
    return time.time() - time.monotonic()


def names_in(directory: Path) -> frozenset[str]:
    """Return the names of the entries of a directory, none if it cannot be read."""
    try:
        return frozenset(os.listdir(directory))  # noqa: PTH208
    except OSError:
        return frozenset()


@dataclass(eq=False, repr=False)  # without these methods the class is created in a third of the time
class Command:
    """The command of a build. `root`: the project's directory. `words`: entry point, output directory and arguments.

    `pushes`: the build only pushes, and writes no archive. `started`: seconds since the epoch, before a file was read.
    `offset`: `clock_offset()` at that time. `imports`: sys.path. `names`: the entries of the project's directory.
    """

    root: Path
    words: tuple[str, ...]
    environ: Mapping[str, str]
    pushes: bool = False
    started: float = field(default_factory=time.time)
    offset: float = field(default_factory=clock_offset)
    imports: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = names_in(self.root)

    @property
    def key(self) -> str:
        """The cache key of the record: a hash of all inputs that are no files."""
        path = self.environ.get("PATH", "")
        programs = [bool(shutil.which(name, path=path)) for name in ("docker", "podman")]
        variables = sorted(item for item in self.environ.items() if item[0] not in IGNORED)
        return key_of(
            RECIPE, __version__, sys.version, os.uname().machine, os.getuid(), str(self.root), os.getcwd(),  # noqa: PTH109
            self.words, self.pushes, programs, sys.stderr is not None and sys.stderr.isatty(), variables, self.imports,
        )  # fmt: skip


class UnchangedBuild(NamedTuple):
    """The result of an unchanged build: paths of archives or pushed references, and receipts as JSON values."""

    artifacts: tuple[str, ...]
    receipts: tuple[Mapping[str, Any], ...]


def shown_path(artifact: str, root: Path) -> str:
    """Return the path of an artifact for standard output: relative to the working directory if it is in the project."""
    return os.path.relpath(artifact) if Path(artifact).is_relative_to(root) else artifact


def recall(command: Command, write: Callable[[str], None], verbosity: int) -> UnchangedBuild | None:
    """Return the result of an unchanged build; None if a full build is necessary. `write`: prints a line.

    Writes receipts in which all layers are reused, and the outputs for a CI pipeline, as a full build does.
    """
    if verbosity > 0 or any(command.environ.get(name, "").lower() not in ("", "0", "false") for name in FORCE_BUILD):
        return None
    started = time.time()
    try:
        store = find_store(cache_root(command.environ), KIND)
        record = store.recall(KIND, command.key)
        if record is None or not _is_unchanged(record, command, store):
            return None
        for place in (None, store.root / "tmp"):  # like a full build: temporary files of killed builds
            remove_abandoned(place)
        _write_receipts(record, command, store, started)
        receipts = tuple(image["receipt"] for image in record["images"])
        _write_outputs(record, receipts, command.root, command.environ)
        for line in record["lines"] if verbosity >= 0 else ():
            write(line)
    except (HatchDockerError, NotRememberable, OSError, ValueError, LookupError, TypeError):
        return None
    return UnchangedBuild(tuple(name for image in record["images"] for name in image["artifacts"]), receipts)


def _is_unchanged(record: Mapping[str, Any], command: Command, store: Store) -> bool:
    now = time.time()
    ages = [now - record["at"], *(now - asked for _, _, _, asked in record["asked"])]
    if not all(0 <= age < LIFETIME for age in ages):
        return False
    outputs = record["outputs"]
    if any(facts(path) != found for table in (outputs, record["paths"]) for path, found in table.items()):
        return False
    if any(name.startswith(".") and name.endswith(".tmp") for name in os.listdir(record["directory"])):  # noqa: PTH208
        return False  # a temporary file of a killed build
    if any(facts(path, entries=True) != found for path, found in record["imports"].items()):
        return False
    for top, (skipped, found) in record["trees"].items():
        if walk(top, set(skipped).__contains__, outputs) != found:
            return False
    if any((store.recall(kind, key) or {}).get(name) != asked for kind, key, name, asked in record["asked"]):
        return False
    return all(at_once(
        lambda: _has_revision(record, command), lambda: _has_images(record["daemon"], command.environ),
        *_registry_checks(record["tags"], record["pushes"], command.environ, store),
    ))  # fmt: skip


def _has_revision(record: Mapping[str, Any], command: Command) -> bool:
    """Return whether git reports the same commit, branch and changed files as in the record."""
    if not record["repository"]:
        return True
    from hatch_docker.project.git import read_revision

    warnings: list[str] = []
    revision = read_revision(command.root, command.environ, record["written"], warnings.append)
    return not warnings and revision_row(revision) == record["revision"]


def revision_row(revision: Any) -> Facts:
    """Return a revision as a JSON value."""
    return [revision.commit, revision.branch, revision.time, list(revision.dirty)] if revision else None


def facts(path: str, *, entries: bool = False) -> Facts:
    """Return the metadata of a file, and of a link's target: type, mode, owner, size, inode and times.

    For a directory return type, mode and owner only. `entries`: also its times, which change with its entries.
    """
    try:
        status = os.lstat(path)
    except OSError as error:
        return None if error.errno in (errno.ENOENT, errno.ENOTDIR) else [error.errno]
    if not stat.S_ISLNK(status.st_mode):
        return _row(status, entries=entries)
    try:
        target = _row(os.stat(path), entries=entries)  # noqa: PTH116
    except OSError:
        target = []
    return [*_row(status), os.readlink(path), *target]  # noqa: PTH115


def _row(status: os.stat_result, *, entries: bool = False) -> list[Any]:
    row = [status.st_mode, status.st_uid, status.st_gid]
    if stat.S_ISDIR(status.st_mode) and not entries:
        return row
    return [*row, status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def walk(top: str, is_skipped: Callable[[str], bool], outputs: Container[str]) -> dict[str, Facts]:
    """Return the facts of all files below a directory, by relative path.

    `is_skipped`: whether not to enter a directory, by relative path. `outputs`: absolute paths to leave out. Links to
    directories are followed. Raises NotRememberable for more than LIMIT files.
    """
    found: dict[str, Facts] = {}
    entered: set[tuple[int, int]] = set()
    waiting = [("", top)]
    while waiting:
        below, directory = waiting.pop()
        with os.scandir(directory) as entries:
            for entry in entries:
                name = below + entry.name
                if entry.path in outputs:
                    continue
                found[name] = facts(entry.path)
                if entry.is_dir() and not is_skipped(name):
                    status = entry.stat()
                    if (status.st_dev, status.st_ino) not in entered:
                        entered.add((status.st_dev, status.st_ino))
                        waiting.append((f"{name}/", entry.path))
        if len(found) > LIMIT:
            raise NotRememberable(f"{top} has more than {LIMIT} files")
    return found


def _has_images(expected: Mapping[str, Any] | None, environ: Mapping[str, str]) -> bool:
    """Return whether the daemon that a build would use has the same images under all their names."""
    if expected is None:
        return True
    from hatch_docker.oci.engine_api import EngineApi, open_socket
    from hatch_docker.oci.find_daemon import find_daemons

    first = find_daemons(environ)[:1]
    if [[daemon.kind, daemon.url] for daemon in first] != expected["first"]:
        return False
    for daemon in first if expected["names"] else ():
        if not daemon.url:
            return True  # Podman's program: the file with its list of images was compared as an output
        with open_socket(daemon) as path:
            api = EngineApi(daemon, path)
            return all(api.inspect_image(name).get("Id") == image_id for name, image_id in expected["names"].items())
    return True


def _registry_checks(
    tags: Mapping[str, str], pushes: Sequence[Any], environ: Mapping[str, str], store: Store
) -> list[Callable[[], bool]]:
    """Return functions that check, with a single request each, if a base's tag or a pushed manifest is the same."""
    if not tags and not pushes:
        return []
    from hatch_docker.core.http.client import Client
    from hatch_docker.core.http.retry import Policy
    from hatch_docker.core.progress import silent
    from hatch_docker.oci.reference import parse_reference
    from hatch_docker.oci.registry import Remote

    remote = Remote(Client(environ, silent(), Policy(tries=1)), environ)
    checks: list[Callable[[], bool]] = []
    for name, digest in tags.items():
        base = parse_reference(name)
        remote.url(base, "")  # finds out, once, whether a registry on this machine uses HTTP or HTTPS
        checks.append(partial(_has_digest, remote, base, digest, store))
    for name, manifests, listed in pushes:
        from hatch_docker.oci.push import Target, has_manifest

        target = Target(remote, parse_reference(name), lambda _digest: "")
        remote.url(target.name, "")
        checks += [partial(has_manifest, target, *pair) for pair in manifests.items()]
        for subject, documents in listed.items():
            from hatch_docker.oci.referrers import are_listed

            checks.append(partial(are_listed, target, subject, documents))
    return checks


def _has_digest(remote: Remote, reference: Reference, digest: str, store: Store) -> bool:
    from hatch_docker.oci.pull import resolve

    return resolve(remote, reference, store)[0].digest == digest


def _write_receipts(record: Any, command: Command, store: Store, started: float) -> None:
    """Write the receipts of an unchanged build, in which all layers are reused, unless the last build wrote them."""
    if record["again"]:
        return
    for image in record["images"]:
        image["receipt"]["timings"] = {"build": round(time.time() - started, 3)}
        path = image["path"]
        write_json(Path(path), image["receipt"])
        record["outputs"][path] = facts(path)
    record["again"] = True
    store.remember(KIND, command.key, record)


def _write_outputs(
    record: Mapping[str, Any], receipts: Sequence[object], root: Path, environ: Mapping[str, str]
) -> None:
    """Write the outputs for a GitHub workflow; GitLab's dotenv report is an output file, which was compared."""
    if not any(environ.get(name) for name in PIPELINE_FILES):
        return
    from hatch_docker.build.ci_outputs import is_one_of_several, write_ci_outputs
    from hatch_docker.build.receipt import Receipt
    from hatch_docker.core.validation import read_record

    for receipt in receipts:
        several = is_one_of_several(root, environ)
        write_ci_outputs(read_record(Receipt, receipt), Path(record["directory"]), None, environ, several=several)
