"""Revision: the commit that a project's sources are checked out at, and the files that differ from it."""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.core.errors import HatchDockerError
from hatch_docker.core.process import ProcessFailed
from hatch_docker.project.git_files import new_hash
from hatch_docker.project.repository import repository_of, run_git, run_gits

_LISTED = (
    "ls-files", "-z", "-v", "--cached", "--others", "--directory", "--no-empty-directory",
    "--exclude-per-directory=.gitignore", "--",
)  # fmt: skip
DIRTY = "-dirty"  # follows the commit of an image that holds uncommitted changes
_HEAD = re.compile(r"(?:^|, )HEAD -> refs/heads/(\S+?)(?:, |$)")  # in a shallow clone "grafted" stands before it
# Variables of the branch that a pipeline works on: it checks out a commit, so git does not know the branch.
_BRANCHES = (
    "GITHUB_HEAD_REF", "CI_COMMIT_BRANCH", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "BITBUCKET_BRANCH",
    "BUILDKITE_BRANCH", "CIRCLE_BRANCH", "BRANCH_NAME",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit that is checked out. `time` is the commit's, in seconds since the epoch.

    `dirty` are the paths of the project that differ from the commit, untracked files included.
    """

    commit: str
    branch: str
    time: int
    dirty: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """"-dirty" if the working tree has uncommitted changes, else ""."""
        return DIRTY if self.dirty else ""


def read_revision(
    root: Path, environ: Mapping[str, str], outputs: Sequence[str] = (),
    warn: Callable[[str], None] = lambda _line: None, included: Callable[[], Iterable[Path]] = tuple,
) -> Revision | None:
    """Return the commit that is checked out, or None outside version control and before the first commit.

    `outputs` are paths below `root` that builds write to, whose changes do not count. `warn` is called where git is
    missing or cannot read the repository: the image then does not name its sources. `included` returns the files that
    the wheel is made of: one that no `.gitignore` of the project leaves out counts, whatever else has git ignore it.
    """
    top = repository_of(root)
    if top is None:
        return None
    head = ["log", "-1", "--no-show-signature", "--format=%H%n%ct%n%D", "--decorate=full"]
    others = [f":(exclude,literal){path}" for path in outputs]
    paths = [".", *others]
    status = ["status", "--porcelain", "-z", "--untracked-files=normal", "--", *paths]
    try:
        found, changes, listed = run_gits(root, head, status, [*_LISTED, *paths], environ=environ)
        commit, time, names = found.split("\n")[:3]
        branch = _HEAD.search(names)
        # git tells paths from the top of the repository, and a new directory by its own name: the project's may be one.
        dirty = [path.removeprefix(f"{root.relative_to(top)}/") or "." for path in _dirty(changes)]
        dirty += _unseen(root, listed, dirty, included, environ)
        return Revision(commit, branch[1] if branch else _pipeline_branch(environ), int(time), tuple(dirty))
    except (HatchDockerError, ValueError) as error:
        if not _unborn(root, environ):
            message = re.search(r"^(?:fatal|error): .*", str(error), re.MULTILINE)
            why = message[0] if message else " ".join(str(error).split())
            trust = f"; git config --global --add safe.directory {root}" if "safe.directory" in str(error) else ""
            warn(f"the commit is unknown, and uncommitted changes are not noticed: {why}{trust}")
    return None


def is_changed(root: Path, path: str, environ: Mapping[str, str]) -> bool:
    """Return whether a file, by its path from the root, differs from the commit; an ignored file does not."""
    with contextlib.suppress(HatchDockerError):
        commands = (["status", "--porcelain", "-z", "--", path], [*_LISTED, path])
        status, listed = run_gits(root, *commands, environ=environ)
        return bool(status or _unseen(root, listed, [], tuple, environ))
    return False  # for instance in another repository


def _unseen(
    root: Path, listed: str, told: Sequence[str], included: Callable[[], Iterable[Path]],
    environ: Mapping[str, str],
) -> list[str]:
    """Return the paths that differ from the commit, beside those that `git status` has `told`, as git has `listed` all.

    These are files with a flag of the index (assume-unchanged, skip-worktree), unless such a file is left out of a
    sparse checkout, and the `included` ones that the user's own files for git to ignore hide.
    """
    rows = [(row[0], row[2:]) for row in listed.split("\0") if row and not row.startswith("H ")]
    flagged = [path for tag, path in rows if tag.islower() or (tag == "S" and os.path.lexists(root / path))]
    found = _different(root, flagged, environ) if flagged else []
    if unknown := [path for tag, path in rows if tag == "?" and not _covered(path, told)]:
        inside = (os.path.relpath(path, root) for path in included())
        found += sorted({path for path in inside if _covered(path, unknown)})
    return found


def _covered(path: str, others: Iterable[str]) -> bool:
    """Return whether a path is one of others, or in a directory of them, whose path ends with a slash."""
    return any(path == other or other == "." or (other.endswith("/") and path.startswith(other)) for other in others)


def _different(root: Path, paths: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Return the paths whose files are not to the byte those of the commit, with the same mode."""
    tree: dict[str, str] = {}
    for row in run_git(root, "ls-tree", "-r", "-z", "HEAD", environ=environ).split("\0"):
        facts, _, path = row.partition("\t")
        tree[path] = facts
    return [path for path in paths if tree.get(path) != _as_listed(root / path, tree.get(path, ""))]


def _as_listed(path: Path, facts: str) -> str:
    """Return mode, type and object of a file as `git ls-tree` lists them; of a missing file nothing."""
    try:
        if path.is_symlink():
            mode, data = "120000", os.fsencode(path.readlink())
        elif path.is_dir():
            return facts  # a submodule, which git compares
        else:
            mode, data = "100755" if path.stat().st_mode & 0o100 else "100644", path.read_bytes()
    except OSError:
        return ""
    digest = new_hash(facts.rpartition(" ")[2])(b"blob %d\0" % len(data) + data).hexdigest()
    return f"{mode} blob {digest}"


def _unborn(root: Path, environ: Mapping[str, str]) -> bool:
    """Return whether the repository can be read but has no commit yet."""
    try:
        run_git(root, "rev-parse", "--quiet", "--verify", "HEAD", environ=environ)
    except ProcessFailed as failed:
        return failed.status == 1
    except HatchDockerError:
        pass
    return False


def _dirty(status: str) -> list[str]:
    """Return the paths in what `git status --porcelain -z` prints; a renamed file is followed by its former name."""
    fields = iter(status.split("\0"))
    paths = []
    for field in fields:
        if field:
            paths.append(field[3:])
            if "R" in field[:2] or "C" in field[:2]:
                next(fields, None)
    return paths


def _pipeline_branch(environ: Mapping[str, str]) -> str:
    if environ.get("GITHUB_REF_TYPE") == "branch" and not environ.get("GITHUB_HEAD_REF"):
        return environ.get("GITHUB_REF_NAME", "")
    return next((environ[name] for name in _BRANCHES if environ.get(name)), "")
