"""The files that an sdist may contain: sources, and no directories that tools create."""

import hashlib
import os
from pathlib import Path

import pytest

from hatch_docker.project.tree import read_tree, tree_sources
from tests.projects import git, write_files

SOURCES = {
    "pyproject.toml", "src/pkg/build/__init__.py", "src/pkg/dist/a.py", "src/target/generated.rs",
    "crates/a/Cargo.toml", "crates/a/src/target/x.rs", "crates/b/Cargo.toml", "crates/b/build/build.rs",
    "build/__init__.py", "src/pkg/still.image.json", "src/pkg/lone.cdx.json", "src/pkg/still.Dockerfile",
    "src/pkg/a.context/x",
}  # fmt: skip
TOOL_FILES = {
    "dist/old.whl", "target/release/a.so", "crates/a/target/debug/x.o", "src/pkg/__pycache__/a.pyc", ".venv/bin/python",
    "venv/bin/python", "src/pkg.egg-info/PKG-INFO", "node_modules/a/index.js", "kept/CACHEDIR.TAG", "kept/x",
    "out/pkg-1.oci.tar", "out/pkg-1.image.json", "out/pkg-1.cdx.json", "out/pkg-1.linux-arm64.spdx.json",
    "out/pkg-1.provenance.json", "out/pkg-1.Dockerfile", "out/pkg-1.context/build/project/sdist/x",
    "pushed/pkg-1.image.json", "pushed/pkg-1.provenance.json",
}  # fmt: skip


def write_tree(root: Path, names: set[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Signature: 8a477f597d28d172789f06886806bc55" if path.name == "CACHEDIR.TAG" else name)
    return root


@pytest.mark.parametrize("versioned", [False, True], ids=["walked", "git"])
def test_files_of_tools_are_skipped(versioned: bool, tmp_path: Path) -> None:
    """A directory such as build/ or dist/ is skipped beside project files, not inside the sources."""
    write_tree(tmp_path, SOURCES | TOOL_FILES)
    if versioned:
        git(tmp_path, "init", "-q")
    assert set(read_tree(tmp_path, {}, versioned=False).files) == SOURCES


def test_tracked_files_are_included_under_any_name(tmp_path: Path) -> None:
    write_tree(tmp_path, {"pyproject.toml", "dist/kept.js"})
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    write_tree(tmp_path, {"dist/old.whl"})
    assert set(read_tree(tmp_path, {}, versioned=False).files) == {"pyproject.toml", "dist/kept.js"}


def test_changed_file_of_a_submodule_changes_the_key(tmp_path: Path) -> None:
    """An edit in a submodule is an edit of the project."""
    library = write_tree(tmp_path / "library", {"Cargo.toml", "build/x.c"})
    git(library, "init", "-q")
    git(library, "add", "-A")
    git(library, "commit", "-qm", "all")
    project = write_tree(tmp_path / "project", {"pyproject.toml"})
    git(project, "init", "-q")
    git(project, "submodule", "add", "-q", str(library), "library")
    before = read_tree(project, {}, versioned=False)
    assert {"library/Cargo.toml", "library/build/x.c"} < set(before.files)
    (project / "library/build/x.c").write_text("other")
    assert read_tree(project, {}, versioned=False).content != before.content


def test_files_outside_the_tree_are_not_included(tmp_path: Path) -> None:
    """The index contains ../victim, and a tracked directory was replaced by a symlink."""
    write_tree(tmp_path, {"victim", "elsewhere/x"})
    project = write_tree(tmp_path / "project", {"pyproject.toml", "xx_victim", "linked/x"})
    git(project, "init", "-q")
    git(project, "add", "-A")
    index = project / ".git/index"
    data = index.read_bytes()[:-20].replace(b"xx_victim", b"../victim")
    index.write_bytes(data + hashlib.sha1(data, usedforsecurity=False).digest())
    (project / "xx_victim").unlink()
    (project / "linked").rename(tmp_path / "moved")
    (project / "linked").symlink_to("../elsewhere")
    assert read_tree(project, {}, versioned=False).files == ("linked", "pyproject.toml")


@pytest.mark.parametrize("place", [".git/info/exclude", "home/.config/git/ignore", "ignored", "home/.gitconfig"])
def test_ignore_files_of_git_are_sources(place: str, tmp_path: Path) -> None:
    """If one changes, the sdist's files change, although no file of the project changes."""
    write_tree(tmp_path, {"pyproject.toml", "new/a.py", "new/b.py"})
    git(tmp_path, "init", "-q")
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")}
    if place == "ignored":
        git(tmp_path, "config", "core.excludesFile", str(tmp_path / place))
    (tmp_path / ".git/excluded").write_text("b.py")
    sources = tree_sources(tmp_path, environ, versioned=False)
    assert sources is not None
    assert tmp_path / place in sources.extra_paths
    text = f"[core]\nexcludesFile = {tmp_path}/.git/excluded\n" if place.endswith("config") else "b.py\n"
    write_files(tmp_path, {place: text})
    assert "new/b.py" not in read_tree(tmp_path, environ, versioned=False).files


@pytest.mark.parametrize("name", ["refs/tags", "packed-refs", "reftable", "shallow"])
def test_git_references_are_sources(name: str, tmp_path: Path) -> None:
    git(write_tree(tmp_path, {"pyproject.toml"}), "init", "-q")
    sources = tree_sources(tmp_path, {"PATH": os.environ["PATH"]}, versioned=True)
    assert sources is not None
    assert tmp_path / ".git" / name in sources.extra_paths
