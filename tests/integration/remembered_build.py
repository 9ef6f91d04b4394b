"""A build in this process that is remembered (`build/unchanged.py`), and single edits of its project."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hatch_docker.build.api import make_images
from hatch_docker.build.inputs import remember
from hatch_docker.build.notes import Notes
from hatch_docker.build.plans import open_plans
from hatch_docker.build.project import open_project
from hatch_docker.build.receipt import Step
from hatch_docker.build.unchanged import Command, recall
from hatch_docker.core.cache.store import RECENT
from hatch_docker.core.context import Context
from tests.fakes.registry import FakeRegistry
from tests.projects import write_files

Undo = Callable[[], object]
Edit = Callable[[Path], Undo]


@dataclass
class RememberedBuild:
    """A project whose build in this process is remembered.

    `remember` records the present state. It can call a function first, which simulates a change during the build.
    """

    root: Path
    environ: dict[str, str]
    remember: Callable[..., None]
    ctx: Context
    registry: FakeRegistry
    pushes: bool = False

    def is_recalled(self, variables: Mapping[str, str] = {}) -> bool:
        request = command_of(self.root, {**self.environ, **variables}, pushes=self.pushes)
        return recall(request, lambda _line: None, 0) is not None

    def is_noticed(self, edit: Edit) -> bool:
        """Return whether the remembered build is no longer used after an edit; before the edit it must be used."""
        time.sleep(2 * RECENT)
        self.remember()
        assert self.is_recalled()
        undo = edit(self.root)
        noticed = not self.is_recalled()
        undo()
        return noticed


def command_of(root: Path, environ: Mapping[str, str], *, pushes: bool = False) -> Command:
    return Command(root, ("test",), environ, pushes)


def build_and_remember(
    root: Path, environ: Mapping[str, str], place: Path, registry: FakeRegistry, *, pushes: bool = False
) -> RememberedBuild:
    """Build a project in this process; return the remembered build. `place`: a directory for temporary files."""
    time.sleep(2 * RECENT)
    notes = Notes(command_of(root, environ, pushes=pushes))
    project = open_project(root, environ, place)
    plans, ctx = open_plans(project, environ, push=pushes, notes=notes)
    make_images(project, plans, root / "dist", ctx, {}, notes)
    slow = (Step("downloading", 1.5),)  # a step of the first build, which must not be in the next build's receipt
    notes.results = [
        (archive, path, replace(receipt, steps=slow), names) for archive, path, receipt, names in notes.results
    ]

    def again(meanwhile: Callable[[], object] = lambda: None) -> None:
        notes.command = command_of(root, environ, pushes=pushes)
        meanwhile()
        remember(notes, project, plans, root / "dist", ctx)

    return RememberedBuild(root, dict(environ), again, ctx, registry, pushes)


def restorer(path: Path) -> Undo:
    """Return a function that restores the present state of a path: a file, a symlink, or absence."""
    link = path.readlink() if path.is_symlink() else None
    data, mode = (path.read_bytes(), path.stat().st_mode) if link is None and path.exists() else (None, 0)
    above = [parent for parent in path.parents if not parent.exists()]

    def undo() -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if link is not None:
            path.symlink_to(link)
        elif data is not None:
            path.write_bytes(data)
            path.chmod(mode)
        for parent in above[-1:]:
            shutil.rmtree(parent)

    return undo


def append(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"#")


def swap_a_byte(path: Path) -> None:
    """Change one byte; size and mtime stay the same."""
    status = path.stat()
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "longer": append, "a byte": swap_a_byte, "executable": lambda path: path.chmod(path.stat().st_mode ^ 0o100),
    "touched": lambda path: os.utime(path, (1e9, 1e9)),
    "another group's": lambda path: os.chown(path, -1, os.getgid() + (os.geteuid() == 0)),
    "removed": Path.unlink, "a directory": replace_by_directory, "renamed": lambda path: path.rename(f"{path}.old"),
    "a link": lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "another file": lambda path: (
        path.rename(path.with_name("moved")), shutil.copy2(path.with_name("moved"), path),
    ),
}  # fmt: skip


def edit_file(name: str, change: Callable[[Path], object]) -> Edit:
    def edit(root: Path) -> Undo:
        path = root / name
        others = [restorer(path.with_name(other)) for other in ("moved", f"{path.name}.old")]
        others += [restorer(path.resolve())] if path.is_symlink() else []
        undo = restorer(path)
        change(path)
        return lambda: [restore() for restore in (undo, *others)]

    return edit


def add_file(name: str) -> Edit:
    def edit(root: Path) -> Undo:
        undo = restorer(root / name)
        write_files(root, {name: "new"})
        return undo

    return edit
