"""Where the sources stand in version control, and what of them no commit has."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from hatch_docker.revision import Revision, read_revision
from tests.conftest import need
from tests.projects import write_project


def git(directory: Path, *arguments: str) -> None:
    subprocess.run([need("git"), *arguments], cwd=directory, check=True, capture_output=True)


def revision(root: Path, environ: Mapping[str, str] = {}, outputs: tuple[str, ...] = ()) -> Revision:
    found = read_revision(root, environ, outputs)
    assert found is not None
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one commit and one tag."""
    need("git")
    return write_project("vcs-version", tmp_path)


def test_the_commit_its_branch_and_its_time_are_told(root: Path) -> None:
    found = revision(root)
    assert (len(found.commit), found.branch, found.dirty, found.mark) == (40, "main", (), "")


def test_what_no_commit_has_is_named(root: Path) -> None:
    (root / "neu übel.txt").touch()
    git(root, "mv", "vcs_version/__init__.py", "vcs_version/moved.py")
    (root / ".gitignore").write_text("changed")
    found = revision(root)
    assert set(found.dirty) == {"neu übel.txt", "vcs_version/moved.py", ".gitignore"}
    assert found.mark == "-dirty"


def test_what_builds_write_and_what_is_ignored_makes_nothing_dirty(root: Path) -> None:
    (root / "build.env").touch()
    (root / "dist").mkdir()
    (root / "dist/x").touch()
    (root / "x.pyc").touch()
    (root / ".git/info/exclude").write_text("*.pyc\n")
    assert revision(root, outputs=("dist", "build.env")).dirty == ()


def test_another_project_of_the_repository_may_be_dirty(root: Path) -> None:
    (root / "other").mkdir()
    (root / "other/x").touch()
    assert revision(root / "vcs_version").dirty == ()
    assert revision(root).dirty == ("other/",)


@pytest.mark.parametrize(
    ("environ", "branch"),
    [
        ({}, ""),
        ({"GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "next"}, "next"),
        ({"GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "7/merge", "GITHUB_HEAD_REF": "fix"}, "fix"),
        ({"GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1"}, ""),
        ({"CI_COMMIT_BRANCH": "next"}, "next"),
        ({"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "fix"}, "fix"),
    ],
)
def test_a_pipeline_says_which_branch_it_checked_a_commit_out_of(
    environ: Mapping[str, str], branch: str, root: Path
) -> None:
    git(root, "checkout", "--detach", "--force")
    assert revision(root, environ).branch == branch


def test_outside_of_version_control_there_is_none(tmp_path: Path) -> None:
    assert read_revision(tmp_path, {}) is None
