"""`hatch-docker build --watch`: build again whenever an input file changes, until Ctrl-C.

Each build runs in a new process, so that it reads the whole project again and a failure does not end this process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hatch_docker.build.inputs import lock_files
from hatch_docker.build.pipeline import output_paths
from hatch_docker.build.plans import open_plans
from hatch_docker.build.project import open_project
from hatch_docker.build.receipt import read_receipt
from hatch_docker.build.summary import run_command
from hatch_docker.core.errors import HatchDockerError, ProgramError
from hatch_docker.core.files import temporary_directory
from hatch_docker.core.process import Running, run_foreground, spawn_detached, start
from hatch_docker.core.process import run as run_program
from hatch_docker.core.text import abbreviate
from hatch_docker.engines.steps import matches
from hatch_docker.oci.find_daemon import find_daemons
from hatch_docker.oci.model import host_platform
from hatch_docker.plan.model import Plan
from hatch_docker.project.hatch import open_hatchling, selected_files
from hatch_docker.project.hatch_errors import hatchling_errors
from hatch_docker.project.pyproject import HATCHLING, build_system, read_pyproject
from hatch_docker.project.tree import read_tree

POLL_INTERVAL = 1.0  # seconds between two comparisons of the files, without notifications
QUIET_TIME = 0.2     # seconds without a change before a build starts
STOP_TIMEOUT = "1"   # seconds between SIGTERM and SIGKILL for a container

# Files in the project's root that are watched even if they do not exist: creating one changes the build.
ALWAYS_WATCHED = (
    "pyproject.toml", "hatch.toml", "setup.py", "setup.cfg", "hatch_build.py", "hatch-docker.lock", "pylock.toml",
    "uv.lock", "poetry.lock", "pdm.lock", "requirements.lock", "requirements.txt",
)  # fmt: skip

FileHashes = Mapping[Path, str]
"""The files that a build reads and their hashes, "" for a file that does not exist."""

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class WatchedProject:
    """A project to watch. `output`: the directory of `--output`, or None. `command`: the build command."""

    root: Path
    output: Path | None
    command: Sequence[str]
    environ: Mapping[str, str]


def watch(project: WatchedProject, log: Log, *, run: bool = False) -> NoReturn:
    """Build a project, and again after each change. `run`: also run each new image.

    Never returns; raises SystemExit when the user presses Ctrl-C.
    """
    files = WatchedFiles(project.root, project.environ)
    container = Container(project, log) if run else None
    written: frozenset[Path] = frozenset()

    def report(change: str, paths: Collection[Path]) -> None:
        log(f"{change}: {abbreviate(sorted(os.path.relpath(path, project.root) for path in paths))}")

    seen = files.hashes()
    try:
        while True:
            succeeded = _build(project, files, container)
            now = files.hashes()
            # The build itself may write a watched file, such as one with the version: do not build forever.
            # A file that exists and is no longer in the list did not change: the plan needs no sdist.
            differ = changed_files(seen, now) & set(seen)
            during = frozenset(path for path in differ if path in now or not path.exists())
            seen = now
            if during and during != written:
                written = during
                report("changed during the build", during)
                continue
            count = sum(bool(digest) for digest in seen.values())
            log(f"{'' if succeeded else 'not built; '}watching {count} files; Ctrl-C ends")
            differ, seen = _wait_for_change(files, seen, container)
            report("changed", differ)
    finally:
        if container is not None:
            container.remove()


def _build(project: WatchedProject, files: WatchedFiles, container: Container | None) -> bool:
    """Build once; return whether the build succeeded. Raises SystemExit if a signal ended the build."""
    status = run_foreground(project.command, env=project.environ)
    if status < 0 or status > 128:
        raise SystemExit(128 - status if status < 0 else status)
    if status:
        return False
    plans: Sequence[Plan] = ()
    with contextlib.suppress(HatchDockerError), hatchling_errors(), temporary_directory() as temporary:
        opened_project = open_project(project.root, project.environ, temporary)
        plans, _ = open_plans(opened_project, project.environ)
        files.plans = plans
    if plans and container is not None:
        container.update(plans[0], project.output or opened_project.output())
    return True


def _wait_for_change(
    files: WatchedFiles, seen: FileHashes, container: Container | None
) -> tuple[frozenset[Path], FileHashes]:
    """Wait until files change and stay the same for QUIET_TIME; return the changed files, and all hashes."""
    with _change_detector(*files.directories()) as may_have_changed:
        while True:
            if may_have_changed() and changed_files(seen, now := files.hashes()):
                before = None
                while now != before:
                    time.sleep(QUIET_TIME)
                    now, before = files.hashes(), now
                if differ := changed_files(seen, now):
                    return differ, now
            if container is not None:
                container.report_end()


@contextlib.contextmanager
def _change_detector(roots: Collection[Path], below: Collection[Path]) -> Iterator[Callable[[], bool]]:
    """Yield a function that waits up to POLL_INTERVAL, and returns whether a file may have changed.

    It uses the kernel's notifications, by the package watchfiles. Without the package, or if the kernel has no more
    watches, it always returns True, and the caller compares the files. `roots` are watched without subdirectories.
    """
    notified, ended, polling = threading.Event(), threading.Event(), threading.Event()

    def wait() -> bool:
        if polling.is_set():
            time.sleep(POLL_INTERVAL)
            return True
        changed = notified.wait(POLL_INTERVAL)
        notified.clear()
        return changed

    try:
        from watchfiles import watch as notifications
    except ImportError:
        polling.set()
        yield wait
        return

    def listen(places: Collection[Path], *, recursive: bool) -> None:
        try:
            batches = notifications(
                *places, watch_filter=None, recursive=recursive, stop_event=ended, debounce=200, step=50,
                rust_timeout=500, yield_on_timeout=True, raise_interrupt=False, ignore_permission_denied=True,
            )
            for number, changes in enumerate(batches):
                if changes or not number:  # files may have changed before the first batch
                    notified.set()
        except (OSError, RuntimeError):
            polling.set()
            notified.set()

    for places, recursive in ((roots, False), (below, True)):
        if places:
            threading.Thread(target=listen, args=(places,), kwargs={"recursive": recursive}, daemon=True).start()
    try:
        yield wait
    finally:
        ended.set()


class Container:
    """The container of the watched image, one at a time. Its output goes to this terminal."""

    def __init__(self, project: WatchedProject, log: Log) -> None:
        self._project = project
        self._log = log
        self._running: Running | None = None
        self._program, self._name, self._digest = "", "", ""

    def update(self, plan: Plan, directory: Path) -> None:
        """Run the image of a plan, unless it is already running. `directory`: the directory of its receipt."""
        receipt = None
        with contextlib.suppress(HatchDockerError):
            receipt = read_receipt(output_paths(plan, directory)[1])
        daemons = find_daemons(self._project.environ)
        if receipt is None or not daemons or not [name for name in receipt.references if "@" not in name]:
            self._log("not run: neither Docker nor Podman has the image")
            return
        if receipt.digest == self._digest and self._running is not None and self._running.poll() is None:
            return
        self.stop()
        name = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{plan.stem}-watch")  # a version may have a "+"
        self._program, self._name, self._digest = daemons[0].kind, name, receipt.digest
        self._do("rm", "--force", self._name)
        command = run_command(plan, self._program, plan.references[0], host_platform(), "--name", self._name)
        self._log(shlex.join(command))
        self._running = start(command, env=self._project.environ)

    def report_end(self) -> None:
        """Log, once, that the container has ended by itself."""
        if self._running is not None and (status := self._running.poll()) is not None:
            self._log(f"{self._name} ended with status {status}")
            self._running = None

    def stop(self) -> None:
        """Stop the container, if it is running."""
        if self._running is not None:
            self._do("stop", "-t", STOP_TIMEOUT, self._name)
            self._running.wait()
            self._running = None

    def remove(self) -> None:
        """Start the removal of the container without waiting for it, because this process is about to end."""
        if self._running is not None:
            spawn_detached([self._program, "rm", "--force", self._name], env=self._project.environ)

    def _do(self, *arguments: str) -> None:
        with contextlib.suppress(ProgramError):  # the container does not exist
            run_program([self._program, *arguments], env=self._project.environ)


def build_command(*arguments: str) -> list[str]:
    """Return the command of a build; `-P` keeps the working directory out of its import path."""
    return [sys.executable, "-P", "-m", "hatch_docker", "build", *arguments]


class WatchedFiles:
    """The files that builds of a project and its workspace members read. An unchanged file is hashed only once."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.root = root
        self._environ = environ
        self.plans: Sequence[Plan] = ()   # those of the last build
        self._chosen: frozenset[Path] = frozenset()
        self._known: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def hashes(self) -> FileHashes:
        """Return the hashes of the files that a build would read; if the project is invalid, of the previous ones."""
        try:
            self._chosen = frozenset(self._choose())
        except (HatchDockerError, ValueError, TypeError, OSError):
            self._chosen |= {self.root / name for name in ALWAYS_WATCHED}
        return {path: self._digest(path) for path in sorted(self._chosen)}

    def directories(self) -> tuple[set[Path], set[Path]]:
        """Return the directories to watch: those without subdirectories (the roots), and those with subdirectories."""
        roots = {self.root, *(path.parent for path in self._chosen if not path.is_relative_to(self.root))}
        below = {self.root / path.relative_to(self.root).parts[0] for path in self._chosen
                 if path.is_relative_to(self.root) and path.parent != self.root}  # fmt: skip
        return {path for path in roots if path.is_dir()}, {path for path in below if path.is_dir()}

    def _choose(self) -> Iterator[Path]:
        yield from (self.root / name for name in ALWAYS_WATCHED)
        isolated = {self.root: not self.plans}
        for plan in self.plans:
            isolated[self.root] |= plan.build.isolated
            isolated |= {(self.root / member.path).resolve(): member.build.isolated for member in plan.members}
            yield from lock_files(self.root, plan)
            inputs = [path for step in plan.steps for pattern in step.inputs for path in matches(pattern, self.root)]
            for source in (*(self.root / path for _, path in plan.copied_files), *inputs):
                yield from () if source.is_dir() else (source,)
                yield from (Path(directory, name) for directory, _, names in os.walk(source) for name in names)
        for project, whole in isolated.items():
            yield project / ALWAYS_WATCHED[0]
            if build_system(read_pyproject(project))[1] == HATCHLING:
                # An isolated build makes an sdist: watch the files of the sdist.
                yield from selected_files(open_hatchling(project), sdist=whole)
            else:
                tree = read_tree(project, self._environ, versioned=False)
                yield from (tree.top / name for name in tree.files)

    def _digest(self, path: Path) -> str:
        try:
            status = path.stat()
            fact = (status.st_mtime_ns, status.st_size, status.st_ino)
            if path not in self._known or self._known[path][0] != fact:
                self._known[path] = fact, hashlib.sha256(path.read_bytes()).hexdigest()
            return self._known[path][1]
        except OSError:
            return ""


def changed_files(before: FileHashes, after: FileHashes) -> frozenset[Path]:
    """Return the files whose contents differ, and those that exist only before or after."""
    return frozenset(path for path in {*before, *after} if before.get(path, "") != after.get(path, ""))
