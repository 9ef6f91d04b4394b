"""Revision: the checked-out commit of a project's sources, and the files that differ from it."""

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
DIRTY = "-dirty"  # appended to the commit if the image contains uncommitted changes
_HEAD = re.compile(r"(?:^|, )HEAD -> refs/heads/(\S+?)(?:, |$)")  # in a shallow clone "grafted" stands before it
# CI variables with the branch's name. A pipeline checks out a commit (detached HEAD), so git has no branch.
_BRANCHES = (
    "GITHUB_HEAD_REF", "CI_COMMIT_BRANCH", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "BITBUCKET_BRANCH",
    "BUILDKITE_BRANCH", "CIRCLE_BRANCH", "BRANCH_NAME",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Revision:
    """A checked-out commit. `time`: the committer date, in seconds since the epoch.

    `dirty`: the project's paths that differ from the commit, untracked files included.
    """

    commit: str
    branch: str
    time: int
    dirty: tuple[str, ...] = ()

    @property
    def dirty_suffix(self) -> str:
        """"-dirty" if the work tree has uncommitted changes, else ""."""
        return DIRTY if self.dirty else ""


def read_revision(
    root: Path, environ: Mapping[str, str], outputs: Sequence[str] = (),
    warn: Callable[[str], None] = lambda _line: None, included: Callable[[], Iterable[Path]] = tuple,
) -> Revision | None:
    """Return the checked-out commit, None outside version control and before the first commit.

    `outputs`: paths below `root` that builds write to; changes there are ignored. `warn` is called if git is missing or
    cannot read the repository: the image then has no revision label. `included` returns the wheel's files: such a file
    counts as changed if git ignores it by the user's excludes file or .git/info/exclude, and not by a `.gitignore`.
    """
    top = repository_of(root)
    if top is None:
        return None
    head = ["log", "-1", "--no-show-signature", "--format=%H%n%ct%n%D", "--decorate=full"]
    paths = [".", *(f":(exclude,literal){path}" for path in outputs)]
    status = ["status", "--porcelain", "-z", "--untracked-files=normal", "--", *paths]
    try:
        found, changes, listed = run_gits(root, head, status, [*_LISTED, *paths], environ=environ)
        commit, time, names = found.split("\n")[:3]
        branch = _HEAD.search(names)
        # git prints paths relative to the repository's top, and for an untracked directory only the directory, which
        # may be the project's own ("").
        dirty = [path.removeprefix(f"{root.relative_to(top)}/") or "." for path in _status_paths(changes)]
        dirty += _unreported_changes(root, listed, dirty, included, environ)
        return Revision(commit, branch[1] if branch else _pipeline_branch(environ), int(time), tuple(dirty))
    except (HatchDockerError, ValueError) as error:
        if not _has_no_commit(root, environ):
            message = re.search(r"^(?:fatal|error): .*", str(error), re.MULTILINE)
            why = message[0] if message else " ".join(str(error).split())
            trust = f"; git config --global --add safe.directory {root}" if "safe.directory" in str(error) else ""
            warn(f"the commit is unknown, and uncommitted changes are not noticed: {why}{trust}")
    return None


def is_changed(root: Path, path: str, environ: Mapping[str, str]) -> bool:
    """Return whether a file (`path` relative to `root`) differs from the commit; False for an ignored file."""
    with contextlib.suppress(HatchDockerError):
        commands = (["status", "--porcelain", "-z", "--", path], [*_LISTED, path])
        status, listed = run_gits(root, *commands, environ=environ)
        return bool(status or _unreported_changes(root, listed, [], tuple, environ))
    return False  # for instance, a path in another repository


def _unreported_changes(
    root: Path, listed: str, reported: Sequence[str], included: Callable[[], Iterable[Path]],
    environ: Mapping[str, str],
) -> list[str]:
    """Return the changed paths that `git status` does not report.

    These are changed files with an index flag (assume-unchanged, or skip-worktree if the file exists), and the wheel's
    files that only the user's excludes file or .git/info/exclude ignores. `listed`: the output of `git ls-files`
    (_LISTED). `reported`: the paths from `git status`. `included` returns the wheel's files.
    """
    rows = [(row[0], row[2:]) for row in listed.split("\0") if row and not row.startswith("H ")]
    flagged = [path for tag, path in rows if tag.islower() or (tag == "S" and os.path.lexists(root / path))]
    found = _differing_from_commit(root, flagged, environ) if flagged else []
    if untracked := [path for tag, path in rows if tag == "?" and not _is_in(path, reported)]:
        inside = (os.path.relpath(path, root) for path in included())
        found += sorted({path for path in inside if _is_in(path, untracked)})
    return found


def _is_in(path: str, others: Iterable[str]) -> bool:
    """Return whether `others` contains a path or a directory above it; a directory ends with a slash or is "."."""
    return any(path == other or other == "." or (other.endswith("/") and path.startswith(other)) for other in others)


def _differing_from_commit(root: Path, paths: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Return the paths whose content or mode differs from the commit's."""
    tree: dict[str, str] = {}
    for row in run_git(root, "ls-tree", "-r", "-z", "HEAD", environ=environ).split("\0"):
        facts, _, path = row.partition("\t")
        tree[path] = facts
    return [path for path in paths if tree.get(path) != _tree_entry(root / path, tree.get(path, ""))]


def _tree_entry(path: Path, facts: str) -> str:
    """Return a file's mode, type and object name as in `git ls-tree`, "" without it; `facts`: the commit's entry."""
    try:
        if path.is_symlink():
            mode, data = "120000", os.fsencode(path.readlink())
        elif path.is_dir():
            return facts  # a submodule: `git status` compares it
        else:
            mode, data = "100755" if path.stat().st_mode & 0o100 else "100644", path.read_bytes()
    except OSError:
        return ""
    digest = new_hash(facts.rpartition(" ")[2])(b"blob %d\0" % len(data) + data).hexdigest()
    return f"{mode} blob {digest}"


def _has_no_commit(root: Path, environ: Mapping[str, str]) -> bool:
    """Return whether git can read the repository and the repository has no commit yet."""
    try:
        run_git(root, "rev-parse", "--quiet", "--verify", "HEAD", environ=environ)
    except ProcessFailed as failed:
        return failed.status == 1
    except HatchDockerError:
        pass
    return False


def _status_paths(status: str) -> list[str]:
    """Return the paths in the output of `git status --porcelain -z`, without the former names of renamed files."""
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
