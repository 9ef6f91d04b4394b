"""`hatch-docker build --watch`: built again whenever something changes that a build reads, until Ctrl-C.

Each build is a process of its own, so that it sees the project as it is, and one that fails ends nothing.
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
from typing import TYPE_CHECKING, NoReturn

from hatch_docker.core.errors import HatchDockerError
from hatch_docker.core.process import Running, run_foreground, spawn_detached, start
from hatch_docker.core.text import abbreviate

if TYPE_CHECKING:
    from hatch_docker.build.receipt import Receipt
    from hatch_docker.plan.model import Plan

TICK = 1.0      # seconds after which files are looked at where nobody tells that they change
SETTLED = 0.2   # seconds in which nothing more may change, before it is built
PATIENCE = "1"  # seconds that a container has to end by itself

# At a project's root, whatever else is chosen there; a build may depend on one that is not there yet.
ALWAYS = (
    "pyproject.toml", "hatch.toml", "setup.py", "setup.cfg", "hatch_build.py", "hatch-docker.lock", "pylock.toml",
    "uv.lock", "poetry.lock", "pdm.lock", "requirements.lock", "requirements.txt",
)  # fmt: skip

Look = Mapping[Path, str]
"""The files that a build reads and their hashes, "" for one that is not there."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Watched:
    """A project to watch: how it is built, where to if not where its builds go anyway, and in which environment."""

    root: Path
    output: Path | None
    command: Sequence[str]
    environ: Mapping[str, str]


def watch(project: Watched, tell: Tell, *, run: bool = False) -> NoReturn:
    """Build a project, wait for a change, and so on; with `run` the image also runs, each time it is another one.

    Ends by SystemExit alone: Ctrl-C.
    """
    inputs = Inputs(project.root)
    container = Container(project, tell) if run else None
    written: frozenset[Path] = frozenset()
    seen = inputs.look()
    try:
        while True:
            made = _build(project, inputs, container)
            now = inputs.look()
            # What a build itself writes, as a version into a file, is no reason to go on for ever.
            # Nor is a file that is there and was read as long as nobody knew that the wheel needs no sdist.
            during = frozenset(one for one in changed(seen, now) & set(seen) if one in now or not one.exists())
            seen = now
            if during and during != written:
                written = during
                tell(f"changed meanwhile: {_named(during, project.root)}")
                continue
            count = sum(bool(digest) for digest in seen.values())
            tell(f"{'' if made else 'not built; '}watching {count} files; Ctrl-C ends")
            differ, seen = _next(inputs, seen, container)
            tell(f"changed: {_named(differ, project.root)}")
    finally:
        if container is not None:
            container.leave()


def _build(project: Watched, inputs: Inputs, container: Container | None) -> bool:
    """Whether a build made an image; raises SystemExit where it was ended."""
    status = run_foreground(project.command, env=project.environ)
    if status < 0 or status > 128:
        raise SystemExit(128 - status if status < 0 else status)
    if status:
        return False
    plans, directory = _opened(project)
    if plans:
        inputs.planned(plans)
        if container is not None:
            container.renew(plans[0], directory)
    return True


def _opened(project: Watched) -> tuple[Sequence[Plan], Path]:
    """The plans of a project that was just built, for which nothing has to be asked any more, and where files go."""
    from hatch_docker.build.plans import open_plans
    from hatch_docker.build.project import open_project
    from hatch_docker.core.files import temporary_directory
    from hatch_docker.project.hatch import hatchling_errors

    with contextlib.suppress(HatchDockerError), hatchling_errors(), temporary_directory() as temporary:
        opened = open_project(project.root, project.environ, temporary)
        plans, _ = open_plans(opened, project.environ)
        return plans, project.output or opened.output
    return (), project.root


def _next(inputs: Inputs, seen: Look, container: Container | None) -> tuple[frozenset[Path], Look]:
    """The next change, once nothing more changes: which files, and how all are now."""
    with _ears(*inputs.directories()) as heard:
        while True:
            if heard() and changed(seen, now := inputs.look()):
                before = None
                while now != before:
                    time.sleep(SETTLED)
                    now, before = inputs.look(), now
                if differ := changed(seen, now):
                    return differ, now
            if container is not None:
                container.look()


@contextlib.contextmanager
def _ears(roots: Collection[Path], below: Collection[Path]) -> Iterator[Callable[[], bool]]:
    """What waits a while and says whether something may have changed.

    The system tells; without watchfiles, or where the system cannot (it has no more watches to give), who asks looks.
    """
    heard, over, deaf = threading.Event(), threading.Event(), threading.Event()

    def wait() -> bool:
        if deaf.is_set():
            time.sleep(TICK)
            return True
        told = heard.wait(TICK)
        heard.clear()
        return told

    try:
        from watchfiles import watch as listen
    except ImportError:
        deaf.set()
        yield wait
        return

    def hear(places: Collection[Path], *, recursive: bool) -> None:
        try:
            told = listen(
                *places, watch_filter=None, recursive=recursive, stop_event=over, debounce=200, step=50,
                rust_timeout=500, yield_on_timeout=True, raise_interrupt=False, ignore_permission_denied=True,
            )
            for number, found in enumerate(told):
                if found or not number:  # what changed before anybody listened is seen at the first look
                    heard.set()
        except (OSError, RuntimeError):
            deaf.set()
            heard.set()

    for places, recursive in ((roots, False), (below, True)):
        if places:
            threading.Thread(target=hear, args=(places,), kwargs={"recursive": recursive}, daemon=True).start()
    try:
        yield wait
    finally:
        over.set()


def _named(paths: Collection[Path], root: Path) -> str:
    return abbreviate(sorted(os.path.relpath(path, root) for path in paths))


class Container:
    """The container of a watched image: one at a time, its output on this terminal."""

    def __init__(self, project: Watched, tell: Tell) -> None:
        self._project = project
        self._tell = tell
        self._running: Running | None = None
        self._program, self._name, self._digest = "", "", ""

    def renew(self, plan: Plan, directory: Path) -> None:
        """Run the image of a plan that was built into a directory, instead of the one that runs, if it is another."""
        from hatch_docker.build.summary import run_command
        from hatch_docker.oci.daemon import find_daemons
        from hatch_docker.oci.model import host_platform

        receipt = _receipt(plan, directory)
        daemons = find_daemons(self._project.environ)
        if receipt is None or not daemons or not [name for name in receipt.references if "@" not in name]:
            self._tell("not run: neither Docker nor Podman has the image")
            return
        if receipt.digest == self._digest and self._running is not None and self._running.poll() is None:
            return
        self.stop()
        name = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{plan.stem}-watch")  # a version may have a "+"
        self._program, self._name, self._digest = daemons[0].kind, name, receipt.digest
        self._do("rm", "--force", self._name)
        command = run_command(plan, self._program, plan.references[0], host_platform(), "--name", self._name)
        self._tell(shlex.join(command))
        self._running = start(command, env=self._project.environ)

    def look(self) -> None:
        """Tell once of a container that ended by itself."""
        if self._running is not None and (status := self._running.poll()) is not None:
            self._tell(f"{self._name} ended with status {status}")
            self._running = None

    def stop(self) -> None:
        """End the container that runs."""
        if self._running is not None:
            self._do("stop", "-t", PATIENCE, self._name)
            self._running.wait()
            self._running = None

    def leave(self) -> None:
        """End it without waiting: nobody is there any more who would."""
        if self._running is not None:
            spawn_detached([self._program, "rm", "--force", self._name], env=self._project.environ)

    def _do(self, *arguments: str) -> None:
        from hatch_docker.core.errors import ProgramError
        from hatch_docker.core.process import run

        with contextlib.suppress(ProgramError):  # it was gone already
            run([self._program, *arguments], env=self._project.environ)


def _receipt(plan: Plan, directory: Path) -> Receipt | None:
    from hatch_docker.build.pipeline import output_paths
    from hatch_docker.build.receipt import read_receipt

    with contextlib.suppress(HatchDockerError):
        return read_receipt(output_paths(plan, directory)[1])
    return None


def build_command(*arguments: str) -> list[str]:
    """A build as a program of its own, which imports nothing that lies in the directory it is started in."""
    return [sys.executable, "-P", "-m", "hatch_docker", "build", *arguments]


class Inputs:
    """A project and its workspace's members, looked at again and again; what did not change is not read again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._plans: Sequence[Plan] = ()
        self._chosen: frozenset[Path] = frozenset()
        self._known: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def planned(self, plans: Sequence[Plan]) -> None:
        """Take what a project's plans say: its members, its lock, files, and whether its wheel is made of an sdist."""
        self._plans = plans

    def look(self) -> Look:
        """What a build would read now; of a project that cannot be read, what it read before."""
        try:
            self._chosen = frozenset(self._choose())
        except (HatchDockerError, ValueError, TypeError, OSError):
            self._chosen |= {self.root / name for name in ALWAYS}
        return {path: self._digest(path) for path in sorted(self._chosen)}

    def directories(self) -> tuple[set[Path], set[Path]]:
        """Where files may change or come to be: the projects' own directories, and those below them that have any."""
        roots = {self.root, *(path.parent for path in self._chosen if not path.is_relative_to(self.root))}
        below = {self.root / path.relative_to(self.root).parts[0] for path in self._chosen
                 if path.is_relative_to(self.root) and path.parent != self.root}  # fmt: skip
        return {path for path in roots if path.is_dir()}, {path for path in below if path.is_dir()}

    def _choose(self) -> Iterator[Path]:
        yield from (self.root / name for name in ALWAYS)
        isolated = {self.root: not self._plans}
        for plan in self._plans:
            isolated[self.root] |= plan.build.isolated
            isolated |= {(self.root / member.path).resolve(): member.build.isolated for member in plan.members}
            yield from (self.root / name for name in (plan.lock.path, plan.pins) if name)
            for one in plan.files:
                yield from _walk(self.root / one.source)
        for place, whole in isolated.items():
            yield place / ALWAYS[0]
            yield from _files_of(place, whole=whole)

    def _digest(self, path: Path) -> str:
        try:
            status = path.stat()
            fact = (status.st_mtime_ns, status.st_size, status.st_ino)
            if path not in self._known or self._known[path][0] != fact:
                self._known[path] = fact, hashlib.sha256(path.read_bytes()).hexdigest()
            return self._known[path][1]
        except OSError:
            return ""


def _files_of(place: Path, *, whole: bool) -> Iterator[Path]:
    """What the backend of one project reads; `whole` where it may be all that its sdist holds."""
    from hatch_docker.project.pyproject import HATCHLING, build_system, read_pyproject

    if build_system(read_pyproject(place))[1] == HATCHLING:
        from hatch_docker.project.hatch import open_hatchling, selected_files

        yield from selected_files(open_hatchling(place), sdist=whole)
        return
    from hatch_docker.project.tree import read_tree

    tree = read_tree(place, versioned=False)
    yield from (tree.top / name for name in tree.files)


def _walk(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
    for directory, _, names in os.walk(path):
        yield from (Path(directory, name) for name in names)


def changed(before: Look, after: Look) -> frozenset[Path]:
    """The files that are otherwise, or there no more, or there at last."""
    return frozenset(path for path in {*before, *after} if before.get(path, "") != after.get(path, ""))
