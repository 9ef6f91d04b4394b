"""The checked-out commit of a project, and its uncommitted changes."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hatch_docker.project.git import Revision, is_changed, read_revision
from hatch_docker.project.hatch import open_hatchling, readable_project
from tests.conftest import need
from tests.projects import git, write_project


def revision(root: Path, environ: Mapping[str, str] = {}, outputs: tuple[str, ...] = ()) -> Revision:
    found = read_revision(root, environ, outputs)
    assert found is not None
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one commit and one tag."""
    need("git")
    return write_project("vcs-version", tmp_path)


@pytest.mark.parametrize("branch", ["main", "feature/ä,b#12"])
def test_branch_of_a_shallow_clone(branch: str, root: Path, tmp_path: Path) -> None:
    """Pipelines often clone with depth 1."""
    if branch != "main":
        git(root, "checkout", "-b", branch)
    git(root, "commit", "--allow-empty", "-m", "two")
    git(tmp_path, "clone", "--depth", "1", f"file://{root}", "shallow")
    assert revision(tmp_path / "shallow").branch == branch


def test_branch_of_a_linked_work_tree(root: Path, tmp_path: Path) -> None:
    found = revision(root)
    assert (len(found.commit), found.branch, found.dirty, found.dirty_suffix) == (40, "main", (), "")
    git(root, "worktree", "add", "-b", "fix", str(tmp_path / "tree"))
    assert revision(tmp_path / "tree").branch == "fix"


def test_uncommitted_changes_are_dirty(root: Path) -> None:
    (root / "neu übel.txt").touch()
    git(root, "mv", "vcs_version/__init__.py", "vcs_version/moved.py")
    (root / ".gitignore").write_text("changed")
    git(root, "config", "status.showUntrackedFiles", "no")  # must have no effect: the image contains untracked files
    found = revision(root)
    assert set(found.dirty) == {"neu übel.txt", "vcs_version/moved.py", ".gitignore"}
    assert found.dirty_suffix == "-dirty"


HIDDEN: dict[str, Callable[[Path], object]] = {
    "assume-unchanged": lambda root: git(root, "update-index", "--assume-unchanged", CODE),
    "skip-worktree": lambda root: git(root, "update-index", "--skip-worktree", CODE),
    "core.worktree": lambda root: git(root, "config", "core.worktree", str(root.parent)),
    "core.fsmonitor": lambda root: git(root, "config", "core.fsmonitor", "true"),
    "core.checkStat": lambda root: git(root, "config", "core.checkStat", "minimal"),
}
CODE = "vcs_version/__init__.py"


@pytest.mark.parametrize("hide", HIDDEN.values(), ids=HIDDEN)
def test_change_hidden_from_git_status_is_dirty(hide: Callable[[Path], object], root: Path) -> None:
    """A flagged file that equals the commit's is not dirty."""
    hide(root)
    assert revision(root).dirty == ()
    (root / CODE).write_text("changed = True\n")
    assert revision(root).dirty == (CODE,)
    assert is_changed(root, CODE, {})
    assert not is_changed(root, "pyproject.toml", {})


def test_changed_mode_and_missing_flagged_file_are_dirty(root: Path) -> None:
    """core.fileMode = false has no effect. A file that a sparse checkout leaves out is not dirty."""
    git(root, "config", "core.fileMode", "false")
    (root / CODE).chmod(0o755)
    assert revision(root).dirty == (CODE,)
    (root / CODE).unlink()
    git(root, "update-index", "--assume-unchanged", CODE)
    assert revision(root).dirty == (CODE,)
    git(root, "update-index", "--no-assume-unchanged", CODE)
    git(root, "update-index", "--skip-worktree", CODE)
    assert revision(root).dirty == ()


@pytest.mark.parametrize("where", ["the repository's", "the user's"])
def test_file_of_the_wheel_ignored_by_user_is_dirty(
    where: str, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file ignored by a committed `.gitignore` is not dirty, nor is an ignored file that is not in the wheel."""
    home = tmp_path_factory.mktemp("home")
    environ = {"HOME": str(home), "PATH": os.environ["PATH"]}
    ignore = root / ".git/info/exclude" if where == "the repository's" else home / ".config/git/ignore"
    ignore.parent.mkdir(parents=True, exist_ok=True)
    ignore.write_text("extra.py\nmore/\n.idea/\n")
    (root / ".gitignore").write_text("made.py\n")
    git(root, "add", ".gitignore")
    git(root, "commit", "-qm", "ignore")
    for name in (".idea/x", "vcs_version/extra.py", "vcs_version/more/a.py", "vcs_version/made.py"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    found = readable_project(open_hatchling(root)).metadata(environ).revision
    assert found is not None
    assert found.dirty == ("vcs_version/extra.py", "vcs_version/more/a.py")


def test_outputs_and_ignored_files_are_not_dirty(root: Path) -> None:
    (root / "build.env").touch()
    (root / "dist").mkdir()
    (root / "dist/x").touch()
    (root / "x.pyc").touch()
    (root / ".git/info/exclude").write_text("*.pyc\n")
    assert revision(root, outputs=("dist", "build.env")).dirty == ()


def test_dirty_paths_are_relative_to_the_project(root: Path) -> None:
    """Changes of other projects in the repository are not listed."""
    (root / "packages/app").mkdir(parents=True)
    (root / "packages/app/app.py").touch()
    assert revision(root / "vcs_version").dirty == ()
    assert revision(root).dirty == ("packages/",)
    assert revision(root / "packages/app").dirty == (".",)
    git(root, "add", "packages")
    assert revision(root / "packages/app").dirty == ("app.py",)
    assert revision(root).dirty == ("packages/app/app.py",)


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
def test_branch_from_ci_variables(environ: Mapping[str, str], branch: str, root: Path) -> None:
    git(root, "checkout", "--detach", "--force")
    assert revision(root, environ).branch == branch


@pytest.mark.parametrize("how", ["damaged", "no git"])
def test_unreadable_repository_gives_a_warning(how: str, root: Path) -> None:
    """Without the warning, the revision label would be missing, and a dirty tree could be pushed, unnoticed."""
    if how == "damaged":
        (root / ".git/HEAD").write_text("ref: nowhere\n")
    warnings: list[str] = []
    environ = {"PATH": "/nonexistent"} if how == "no git" else {}
    assert read_revision(root, environ, warn=warnings.append) is None
    assert len(warnings) == 1
    assert ("fatal: " if how == "damaged" else "cannot run git") in warnings[0]


def test_no_revision_without_repository_or_commit(tmp_path: Path) -> None:
    assert read_revision(tmp_path, {}, warn=pytest.fail) is None
    git(tmp_path, "init")
    assert read_revision(tmp_path, {}, warn=pytest.fail) is None
