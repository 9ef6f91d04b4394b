"""The tree of a project: every file that may be a source, none that tools leave."""

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
LEFT = {
    "dist/old.whl", "target/release/a.so", "crates/a/target/debug/x.o", "src/pkg/__pycache__/a.pyc", ".venv/bin/python",
    "venv/bin/python", "src/pkg.egg-info/PKG-INFO", "node_modules/a/index.js", "kept/CACHEDIR.TAG", "kept/x",
    "out/pkg-1.oci.tar", "out/pkg-1.image.json", "out/pkg-1.cdx.json", "out/pkg-1.linux-arm64.spdx.json",
    "out/pkg-1.provenance.json", "out/pkg-1.Dockerfile", "out/pkg-1.context/build/project/sdist/x",
    "pushed/pkg-1.image.json", "pushed/pkg-1.provenance.json",
}  # fmt: skip


def lay(root: Path, names: set[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Signature: 8a477f597d28d172789f06886806bc55" if path.name == "CACHEDIR.TAG" else name)
    return root


@pytest.mark.parametrize("versioned", [False, True], ids=["walked", "git"])
def test_sources_and_what_tools_leave(versioned: bool, tmp_path: Path) -> None:
    """A directory with an output's name is left out beside project files, not inside the sources."""
    lay(tmp_path, SOURCES | LEFT)
    if versioned:
        git(tmp_path, "init", "-q")
    assert set(read_tree(tmp_path, {}, versioned=False).files) == SOURCES


def test_files_that_git_knows_are_taken_under_any_name(tmp_path: Path) -> None:
    lay(tmp_path, {"pyproject.toml", "dist/kept.js"})
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    lay(tmp_path, {"dist/old.whl"})
    assert set(read_tree(tmp_path, {}, versioned=False).files) == {"pyproject.toml", "dist/kept.js"}


def test_submodules_are_read_file_by_file(tmp_path: Path) -> None:
    """An edit in a submodule is an edit of the project."""
    library = lay(tmp_path / "library", {"Cargo.toml", "build/x.c"})
    git(library, "init", "-q")
    git(library, "add", "-A")
    git(library, "commit", "-qm", "all")
    project = lay(tmp_path / "project", {"pyproject.toml"})
    git(project, "init", "-q")
    git(project, "submodule", "add", "-q", str(library), "library")
    before = read_tree(project, {}, versioned=False)
    assert {"library/Cargo.toml", "library/build/x.c"} < set(before.files)
    (project / "library/build/x.c").write_text("other")
    assert read_tree(project, {}, versioned=False).content != before.content


def test_nothing_outside_of_the_tree_is_taken(tmp_path: Path) -> None:
    """An index made by hand names a file beside the tree; a link stands where git knows a directory."""
    lay(tmp_path, {"victim", "elsewhere/x"})
    project = lay(tmp_path / "project", {"pyproject.toml", "xx_victim", "linked/x"})
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
def test_a_file_by_which_git_ignores_others_is_a_source(place: str, tmp_path: Path) -> None:
    """An unchanged build must notice it: no file of the project changes, and the commit's marks may stay."""
    lay(tmp_path, {"pyproject.toml", "new/a.py", "new/b.py"})
    git(tmp_path, "init", "-q")
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")}
    if place == "ignored":
        git(tmp_path, "config", "core.excludesFile", str(tmp_path / place))
    (tmp_path / ".git/excluded").write_text("b.py")
    sources = tree_sources(tmp_path, environ, versioned=False)
    assert sources is not None
    assert tmp_path / place in sources.others
    text = f"[core]\nexcludesFile = {tmp_path}/.git/excluded\n" if place.endswith("config") else "b.py\n"
    write_files(tmp_path, {place: text})
    assert "new/b.py" not in read_tree(tmp_path, environ, versioned=False).files


@pytest.mark.parametrize("name", ["refs/tags", "packed-refs", "reftable", "shallow"])
def test_what_names_the_version_is_a_source(name: str, tmp_path: Path) -> None:
    git(lay(tmp_path, {"pyproject.toml"}), "init", "-q")
    sources = tree_sources(tmp_path, {"PATH": os.environ["PATH"]}, versioned=True)
    assert sources is not None
    assert tmp_path / ".git" / name in sources.others
