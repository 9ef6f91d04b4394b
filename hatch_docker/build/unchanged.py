"""Builds of which nothing changed, recognised by the memory of the last build of the same command.

A build that ends well remembers what decided it and what it made (`build/inputs.py`). The next one looks at all of
that. If nothing differs it writes the same lines, returns the same archives and ends: no plan is made, no wheel or
layer is opened, no library is imported. If anything differs, or cannot be told, it is an ordinary build.

    part of the memory   what it holds                            compared with
    key                  project and output directory, the        a hash of the same; another command has another memory
                         whole environment but IGNORED, versions
                         of Python and hatch-docker, where Python
                         imports from, user, machine, working
                         directory, programs on PATH, and whether
                         the user looks at a terminal
    `trees`              the files that an artifact may be made   type, mode, owner, size, times and inode of each, and
                         of: the project's, those of `files` and  of new ones; a link counts with its target
                         of other places that pyproject.toml
                         names, and the configuration of apt
    `paths`              locks, configuration of uv, pip and      the same; a file that does not exist must still not
                         netrc, tables of directories above       exist
    `imports`            the directories that Python imports      the same, and when an entry of theirs last changed: by
                         from                                     the installation of a package
    `outputs`            archive, receipt and documents           the same, so that no edited file is taken for ours
    `revision`           commit, branch, time, changed files      git, which is asked again
    `asked`              indexes of Debian, resolutions without   the store: still that answer, and less than a day old
                         a lock
    `tags`               the digests of bases without an image    the registry, which is asked again
                         lock
    `pushes`             the digests of the tags that were        the registries, which are asked for all of them at
                         pushed, of an index's images, and of     once: another digest, another answer or none is an
                         the documents listed for them            ordinary build, which says what is wrong
    `daemon`             the daemon, and its ID of the image by   the daemon, which is asked again; of Podman's program,
                         each name                                which takes a second, the file of its images counts as
                                                                  an output

Times are compared exactly, not by age: a file that was written, made or removed while the build ran, or just before in
the resolution of the file system's clock, leaves no memory; nor does a clock that was set back, or another build that
wrote the same files at the same time. No content of a file and no variable is in the memory, only a hash of the
variables. It holds for a day at most, like the answers that it rests on, and a damaged one is forgotten.

Never remembered are builds that sign, compare with a registry (`max-growth`), write a shared cache to a directory, use
BuildKit, gave a warning, or run code of the project or of a plugin on this machine; HATCH_DOCKER_REFRESH,
HATCH_DOCKER_NO_CACHE and -v make an ordinary build.
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
RECIPE = 2               # raise it when a memory reads otherwise
LIFETIME = 24 * 3600     # seconds that a memory holds: a day, so that what an ordinary build uses stays in the cache
LIMIT = 200_000          # files of a tree; those of a project go into a wheel, which has no more
PIPELINE_FILES = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
# Variables that decide nothing that is made; -q and -v only what is shown.
IGNORED = frozenset({"_", "OLDPWD", "PWD", "SHLVL", "HATCH_QUIET", "HATCH_VERBOSE", *PIPELINE_FILES})
# Variables that make an ordinary build, unless they are "", "0" or "false".
ORDINARY = (
    "HATCH_DOCKER_REFRESH", NO_CACHE, "HATCH_BUILD_CLEAN", "HATCH_BUILD_CLEAN_HOOKS_AFTER", "HATCH_BUILD_HOOKS_ONLY",
)  # fmt: skip

Facts = list[Any] | None
"""Properties of a file as JSON, None if there is none."""


class Unsuitable(Exception):
    """There can be no memory of this build; the text says why."""


def clock_offset() -> float:
    """Return the seconds that a clock which is never set is behind the machine's."""
    return time.time() - time.monotonic()


def names_in(directory: Path) -> frozenset[str]:
    """Return the names in a directory, none if it cannot be read."""
    try:
        return frozenset(os.listdir(directory))  # noqa: PTH208
    except OSError:
        return frozenset()


@dataclass(eq=False, repr=False)  # made in a third of the time that other ones take
class Command:
    """A build as the user asked for it: the project, the other words that decide it, and the environment.

    `began` is a time before anything of the project was read, in seconds since the epoch, and `offset` what a clock
    that is never set was behind then. `imports` is where Python imports from, `names` what the project's directory has
    in it. With `pushes` the images go to their registries and nowhere else.
    """

    root: Path
    words: tuple[str, ...]
    environ: Mapping[str, str]
    pushes: bool = False
    began: float = field(default_factory=time.time)
    offset: float = field(default_factory=clock_offset)
    imports: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = names_in(self.root)

    @property
    def key(self) -> str:
        """A key of everything that is known before a file is read."""
        path = self.environ.get("PATH", "")
        programs = [bool(shutil.which(name, path=path)) for name in ("docker", "podman")]
        variables = sorted(item for item in self.environ.items() if item[0] not in IGNORED)
        return key_of(
            RECIPE, __version__, sys.version, os.uname().machine, os.getuid(), str(self.root), os.getcwd(),  # noqa: PTH109
            self.words, self.pushes, programs, sys.stderr is not None and sys.stderr.isatty(), variables, self.imports,
        )  # fmt: skip


class Recalled(NamedTuple):
    """An unchanged build: the paths of its archives or the names that it pushed, and its receipts as JSON values."""

    artifacts: tuple[str, ...]
    receipts: tuple[Mapping[str, Any], ...]


def shown_path(artifact: str, root: Path) -> str:
    """Return the path of an artifact for standard output: from the working directory, for one in the project."""
    return os.path.relpath(artifact) if Path(artifact).is_relative_to(root) else artifact


def recall(command: Command, write: Callable[[str], None], verbosity: int) -> Recalled | None:
    """Return the result of a build of which nothing changed, None where it must be made; `write` gets its lines.

    Receipts say that each layer was reused, and files of a pipeline are written, as an ordinary build does.
    """
    if verbosity > 0 or any(command.environ.get(name, "").lower() not in ("", "0", "false") for name in ORDINARY):
        return None
    began = time.time()
    try:
        store = find_store(cache_root(command.environ), KIND)
        known = store.recall(KIND, command.key)
        if known is None or not _is_unchanged(known, command, store):
            return None
        for place in (None, store.root / "tmp"):  # as each build does with what killed ones left
            remove_abandoned(place)
        _write_receipts(known, command, store, began)
        receipts = tuple(image["receipt"] for image in known["images"])
        _write_outputs(known, receipts, command.root, command.environ)
        for line in known["lines"] if verbosity >= 0 else ():
            write(line)
    except (HatchDockerError, Unsuitable, OSError, ValueError, LookupError, TypeError):
        return None
    return Recalled(tuple(name for image in known["images"] for name in image["artifacts"]), receipts)


def _is_unchanged(known: Mapping[str, Any], command: Command, store: Store) -> bool:
    now = time.time()
    ages = [now - known["at"], *(now - asked for _, _, _, asked in known["asked"])]
    if not all(0 <= age < LIFETIME for age in ages):
        return False
    outputs = known["outputs"]
    if any(facts(path) != found for table in (outputs, known["paths"]) for path, found in table.items()):
        return False
    if any(name.startswith(".") and name.endswith(".tmp") for name in os.listdir(known["directory"])):  # noqa: PTH208
        return False  # a killed build left it
    if any(facts(path, entries=True) != found for path, found in known["imports"].items()):
        return False
    for top, (skipped, found) in known["trees"].items():
        if walk(top, set(skipped).__contains__, outputs) != found:
            return False
    if any((store.recall(kind, key) or {}).get(name) != asked for kind, key, name, asked in known["asked"]):
        return False
    return all(at_once(
        lambda: _has_revision(known, command), lambda: _has_images(known["daemon"], command.environ),
        *_questions(known["tags"], known["pushes"], command.environ, store),
    ))  # fmt: skip


def _has_revision(known: Mapping[str, Any], command: Command) -> bool:
    """Return whether git still names the same commit, branch and changed files."""
    if not known["repository"]:
        return True
    from hatch_docker.project.git import read_revision

    warnings: list[str] = []
    revision = read_revision(command.root, command.environ, known["written"], warnings.append)
    return not warnings and revision_row(revision) == known["revision"]


def revision_row(revision: Any) -> Facts:
    """Return a revision as a JSON value."""
    return [revision.commit, revision.branch, revision.time, list(revision.dirty)] if revision else None


def facts(path: str, *, entries: bool = False) -> Facts:
    """Return what changes when a file does: type, mode, owner, size, times, inode; of a link its target's, too.

    Of a directory type, mode and owner, with `entries` also what changes with its entries.
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
    """Return the facts of all files below a directory, by their paths from there.

    `outputs` are left out, by their whole paths. Directories that are skipped, by their paths, are not entered; links
    to others are followed. Raises Unsuitable for too many files.
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
            raise Unsuitable(f"{top} has more than {LIMIT} files")
    return found


def _has_images(known: Mapping[str, Any] | None, environ: Mapping[str, str]) -> bool:
    """Return whether the daemon that a build would load into has its images under all of their names."""
    if known is None:
        return True
    from hatch_docker.oci.engine_api import EngineApi, open_socket
    from hatch_docker.oci.find_daemon import find_daemons

    first = find_daemons(environ)[:1]
    if [[daemon.kind, daemon.url] for daemon in first] != known["first"]:
        return False
    for daemon in first if known["names"] else ():
        if not daemon.url:
            return True  # Podman's program: the file with its images is an output, which was compared
        with open_socket(daemon) as path:
            api = EngineApi(daemon, path)
            return all(api.inspect_image(name).get("Id") == image_id for name, image_id in known["names"].items())
    return True


def _questions(
    tags: Mapping[str, str], pushes: Sequence[Any], environ: Mapping[str, str], store: Store
) -> list[Callable[[], bool]]:
    """Return functions that ask a registry something each: if a base's tag, or what was pushed, is still the same.

    A registry that does not answer is asked once.
    """
    if not tags and not pushes:
        return []
    from hatch_docker.core.http.client import Client
    from hatch_docker.core.http.retry import Policy
    from hatch_docker.core.progress import silent
    from hatch_docker.oci.reference import parse_reference
    from hatch_docker.oci.registry import Remote

    remote = Remote(Client(environ, silent(), Policy(tries=1)), environ)
    questions: list[Callable[[], bool]] = []
    for name, digest in tags.items():
        base = parse_reference(name)
        remote.url(base, "")  # asks a registry on this machine which scheme it speaks, once
        questions.append(partial(_is_base, remote, base, digest, store))
    for name, manifests, listed in pushes:
        from hatch_docker.oci.push import Target, has_manifest

        target = Target(remote, parse_reference(name), lambda _digest: "")
        remote.url(target.name, "")
        questions += [partial(has_manifest, target, *pair) for pair in manifests.items()]
        for subject, documents in listed.items():
            from hatch_docker.oci.referrers import lists

            questions.append(partial(lists, target, subject, documents))
    return questions


def _is_base(remote: Remote, reference: Reference, digest: str, store: Store) -> bool:
    from hatch_docker.oci.pull import resolve

    return resolve(remote, reference, store)[0].digest == digest


def _write_receipts(known: Any, command: Command, store: Store, began: float) -> None:
    """Write the receipts of an unchanged build, unless the last build did: each layer is one that was there."""
    if known["again"]:
        return
    for image in known["images"]:
        image["receipt"]["timings"] = {"build": round(time.time() - began, 3)}
        path = image["path"]
        write_json(Path(path), image["receipt"])
        known["outputs"][path] = facts(path)
    known["again"] = True
    store.remember(KIND, command.key, known)


def _write_outputs(
    known: Mapping[str, Any], receipts: Sequence[object], root: Path, environ: Mapping[str, str]
) -> None:
    """Tell a pipeline; its dotenv report is an output, which was compared."""
    if not any(environ.get(name) for name in PIPELINE_FILES):
        return
    from hatch_docker.build.ci_outputs import is_one_of_several, write_ci_outputs
    from hatch_docker.build.receipt import Receipt
    from hatch_docker.core.validation import read_record

    for receipt in receipts:
        made, several = read_record(Receipt, receipt), is_one_of_several(root, environ)
        write_ci_outputs(made, Path(known["directory"]), None, environ, several=several)
