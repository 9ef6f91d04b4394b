"""Revision: where a project's sources stand in version control, and what of them no commit has."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.errors import HatchDockerError

# Who says which branch a pipeline works on: it checks out a commit, and then git does not know.
_BRANCHES = (
    "GITHUB_HEAD_REF", "CI_COMMIT_BRANCH", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "BITBUCKET_BRANCH",
    "BUILDKITE_BRANCH", "CIRCLE_BRANCH", "BRANCH_NAME",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit that is checked out. `time` is the commit's, in seconds since the epoch.

    `dirty` are paths of the project that are not as the commit has them, or that it does not have.
    """

    commit: str
    branch: str
    time: int
    dirty: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """What follows the commit where it is not the whole truth."""
        return "-dirty" if self.dirty else ""


def read_revision(root: Path, environ: Mapping[str, str], outputs: Sequence[str] = ()) -> Revision | None:
    """The commit that is checked out, or None outside version control or without git.

    `outputs` are paths below `root` that builds write to, which make no tree dirty.
    """
    if not any((parent / ".git").exists() for parent in (root, *root.parents)):
        return None
    from hatch_docker.process import run

    git = ["git", "--no-optional-locks", "-C", str(root)]
    head = ["log", "-1", "--no-show-signature", "--format=%H%n%ct%n%D", "--decorate=full"]
    status = ["status", "--porcelain", "-z", "--", ".", *(f":(exclude,literal){path}" for path in outputs)]
    with contextlib.suppress(HatchDockerError, ValueError):
        commit, time, names = run([*git, *head]).split("\n")[:3]
        branch = re.match(r"HEAD -> refs/heads/([^,]+)", names)
        return Revision(
            commit, branch[1] if branch else _pipeline_branch(environ), int(time), _dirty(run([*git, *status]))
        )
    return None


def _dirty(status: str) -> tuple[str, ...]:
    """The paths in what `git status --porcelain -z` prints; a renamed file is followed by its former name."""
    fields = iter(status.split("\0"))
    paths = []
    for field in fields:
        if field:
            paths.append(field[3:])
            if "R" in field[:2] or "C" in field[:2]:
                next(fields, None)
    return tuple(paths)


def _pipeline_branch(environ: Mapping[str, str]) -> str:
    if environ.get("GITHUB_REF_TYPE") == "branch" and not environ.get("GITHUB_HEAD_REF"):
        return environ.get("GITHUB_REF_NAME", "")
    return next((environ[name] for name in _BRANCHES if environ.get(name)), "")
