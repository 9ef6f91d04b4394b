"""Repositories whose configuration would run programs, or contains logins."""

import os
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest

from hatch_docker.core.context import Context
from hatch_docker.core.errors import SecretError
from hatch_docker.project.git import read_revision
from hatch_docker.project.git_logins import add_git_logins, copy_repository, git_logins
from hatch_docker.project.repository import run_git
from hatch_docker.project.tree import read_tree
from tests.conftest import need, run
from tests.projects import git, write_project

TOKEN = "gho_" + "Zx8Kq2Lw9Rt4Vb6N"
BASIC = b64encode(f"x-access-token:{TOKEN}".encode()).decode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one commit."""
    need("git")
    return write_project("vcs-version", tmp_path / "p")


@pytest.mark.parametrize("place", [
    "the repository", "an included file", "a linked work tree", "a submodule", "a repository in the checkout",
])
def test_git_runs_no_program_from_the_configuration(place: str, root: Path, tmp_path: Path) -> None:
    ran, script = tmp_path / "ran", tmp_path / "program"
    script.write_text(f"#!/bin/sh\necho $0 >> {ran}\ncat\n")
    script.chmod(0o755)
    if place == "a submodule":
        other = write_project("hello", tmp_path / "other")
        for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
            git(other, *command)
        git(root, "-c", "protocol.file.allow=always", "submodule", "add", str(other), "sub")
        git(root, "commit", "-qm", "sub")
    if place == "a repository in the checkout":  # a gitlink without an entry in .gitmodules
        other = write_project("vcs-version", root / "sub")
        git(root, "add", "sub")
    (root / ".gitattributes").write_text("* filter=evil\n")
    git(root, "add", ".gitattributes")
    git(root, "commit", "-qm", "attributes")
    if place == "a linked work tree":
        git(root, "worktree", "add", "-q", str(tmp_path / "tree"))
        root = tmp_path / "tree"
    at = root / "sub" if (root / "sub").exists() else root
    (at / ".gitattributes").write_text("* filter=evil\n")
    settings = {
        "core.fsmonitor": script, "core.hooksPath": tmp_path, "core.pager": script, "gpg.program": script,
        "log.showSignature": "true", "filter.evil.clean": script, "filter.evil.process": script,
        "filter.evil.required": "true", "core.sshCommand": script, "diff.external": script,
    }  # fmt: skip
    options = ["--file", str(tmp_path / "included")] if place == "an included file" else []
    for key, value in settings.items():
        subprocess.run(["git", "config", *options, key, str(value)], cwd=at, check=True)
    if options:
        subprocess.run(["git", "config", "include.path", str(tmp_path / "included")], cwd=at, check=True)
    if at != root:  # only the inner repository's configuration sets the filter
        name = run("git", "rev-parse", "--absolute-git-dir", cwd=at).strip()
        run("git", "config", "--rename-section", "filter.evil", "filter.other", cwd=at)
        (tmp_path / "included").write_text(f'[filter "evil"]\n\tclean = {script}\n')
        run("git", "config", f"includeIf.gitdir:{name}.path", tmp_path / "included", cwd=at)
    for file in at.rglob("*.py"):
        file.write_text(file.read_text()[:-1] + " ")  # the same size: git must read the file to compare it
    ran.unlink(missing_ok=True)
    found = read_revision(root, os.environ)
    read_tree(root, os.environ, versioned=True)
    assert found is not None
    assert found.dirty
    assert not ran.exists(), ran.read_text()


def test_git_variables_and_core_worktree_are_ignored(root: Path, tmp_path: Path) -> None:
    """The commit is compared with the files that are built."""
    twin = write_project("vcs-version", tmp_path / "twin")
    git(root, "config", "core.worktree", str(twin))
    (root / "vcs_version/__init__.py").write_text("changed = True\n")
    environ = {"PATH": os.environ["PATH"], "GIT_DIR": str(twin / ".git"), "GIT_WORK_TREE": str(twin)}
    found = read_revision(root, environ)
    assert found is not None
    assert found.dirty == ("vcs_version/__init__.py",)


SETTINGS = {
    "http.https://github.com/.extraheader": f"AUTHORIZATION: basic {BASIC}",
    "remote.origin.url": f"https://x-access-token:{TOKEN}@github.com/team/app.git",
    "remote.other.url": f"https://{TOKEN}@github.com/team/app.git",
    f"url.https://oauth2:{TOKEN}@gitlab.example/.insteadOf": "https://gitlab.example/",
    "credential.helper": f"!f() {{ echo username=x; echo 'password={TOKEN}'; }}; f",
    "github.token": TOKEN,
    "http.proxy": f"http://me:{TOKEN}@proxy.example:3128",
    "submodule.x.url": f"https://me:{TOKEN}@github.com/team/x",
    "branch.main.description": TOKEN,
    "include.path": "/home/me/private",
    "filter.x.clean": "run-me",
}


@pytest.mark.parametrize("key", [key for key in SETTINGS if not key.startswith(("branch", "include", "filter"))])
def test_logins_of_the_configuration_are_secrets(key: str, root: Path, ctx: Context) -> None:
    """They are hidden in the output, and layers are searched for them."""
    git(root, "config", key, SETTINGS[key])
    assert TOKEN in {value for _, value in git_logins(root, ctx.environ)}
    assert all(TOKEN not in name for name, _ in git_logins(root, ctx.environ))
    add_git_logins(root, ctx)
    search = ctx.secrets.search()
    assert search is not None
    with pytest.raises(SecretError, match=r"the login in git's .* is in /a of the image"):
        search("a")(TOKEN.encode())
    assert TOKEN in ctx.secrets.values()


def test_short_user_names_in_urls_are_not_secrets(root: Path, ctx: Context) -> None:
    for key, url in {"a": "ssh://git@github.com/a", "b": "https://contoso@dev.azure.com/b"}.items():
        git(root, "config", f"remote.{key}.url", url)
    assert not [value for _, value in git_logins(root, ctx.environ) if value]


@pytest.mark.parametrize("linked", [False, True])
def test_copy_of_a_repository_has_no_logins(linked: bool, root: Path, tmp_path: Path, ctx: Context) -> None:
    """git prints the same commits, tags, branches and changes; remotes keep their URLs, without logins."""
    for key, value in SETTINGS.items():
        git(root, "config", key, value)
    (root / ".git/hooks/post-index-change").write_text(TOKEN)
    if linked:
        git(root, "worktree", "add", "-q", "-b", "fix", str(tmp_path / "tree"))
        root = tmp_path / "tree"
    (root / "vcs_version/__init__.py").write_text("changed = True\n")
    copy = tmp_path / "copy"
    copy_repository(root, str(tmp_path / "p/.git/objects"), copy, ctx.environ)
    for file in (path for path in copy.rglob("*") if path.is_file()):
        for word in (TOKEN.encode(), BASIC.encode(), b"private", b"run-me"):
            assert word not in file.read_bytes(), file
    for command in (["describe", "--tags", "--dirty"], ["log", "--format=%H %D"], ["status", "--porcelain", "-b"]):
        copied = run("git", f"--git-dir={copy}", f"--work-tree={root}", *command, cwd=root)
        assert copied == run_git(root, *command, environ=ctx.environ)
    urls = run("git", "config", "--file", copy / "config", "--list").splitlines()
    assert "remote.origin.url=https://github.com/team/app.git" in urls


def test_symlinks_in_a_repository_are_not_followed(root: Path, tmp_path: Path, ctx: Context) -> None:
    """The links of a repository that was unpacked from an archive could point to private files of the user."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private/key").write_text("private")
    (root / ".git/packed-refs").symlink_to(tmp_path / "private/key")
    shutil.rmtree(root / ".git/info")
    (root / ".git/info").symlink_to(tmp_path / "private")
    copy_repository(root, "/repository", tmp_path / "copy", ctx.environ)
    assert not (tmp_path / "copy/packed-refs").exists()
    (root / ".git/objects").rename(tmp_path / "objects")
    (root / ".git/objects").symlink_to(tmp_path / "objects")
    assert read_tree(root, ctx.environ, versioned=True).repository is None


OWN = {
    "a linked work tree": ["worktree", "add", "-q", "../p2"],
    "a submodule": ["-c", "protocol.file.allow=always", "submodule", "add", "-q", "../p", "p2"],
}


@pytest.mark.parametrize("kind", [*OWN, "a link", "a file", "a common directory", "a work tree of another"])
def test_repository_of_another_checkout_is_not_used(kind: str, root: Path, tmp_path: Path, ctx: Context) -> None:
    """`.git` of a project that was unpacked from an archive could point to a private repository of the user."""
    if kind in OWN:
        git(root, *OWN[kind])
        place = next(path for path in (tmp_path / "p2", root / "p2") if path.exists())
        assert read_tree(place, ctx.environ, versioned=True).repository == (
            root / ".git" if kind == "a linked work tree" else root / ".git/modules/p2"
        )
        return
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "setup.py").touch()
    if kind == "a link":
        (stranger / ".git").symlink_to(root / ".git")
    elif kind == "a common directory":
        git(stranger, "init", "-q")
        (stranger / ".git/commondir").write_text(f"{root}/.git")
        (stranger / ".git/gitdir").write_text(f"{stranger}/.git")
    else:
        git(root, "worktree", "add", "-q", str(tmp_path / "tree"))
        (stranger / ".git").write_text(f"gitdir: {root}/.git" + ("/worktrees/tree" if "work tree" in kind else ""))
    assert run_git(stranger, "rev-parse", "--git-dir", environ=ctx.environ)
    assert read_tree(stranger, ctx.environ, versioned=True).repository is None
