"""Which files of a project its builder stage gets: all that may be its sources, nothing that tools leave."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hatch_docker.core.context import open_context
from hatch_docker.core.progress import Progress
from hatch_docker.oci.tar import read_tar
from hatch_docker.project.tree import read_tree
from hatch_docker.wheels.builder.make_sdist import packed_tree

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


def git(directory: Path, *arguments: str) -> None:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main",
           "-c", "protocol.file.allow=always"]  # fmt: skip
    subprocess.run(["git", *who, *arguments], cwd=directory, check=True, capture_output=True)


def lay(root: Path, names: set[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Signature: 8a477f597d28d172789f06886806bc55" if path.name == "CACHEDIR.TAG" else name)
    return root


@pytest.mark.parametrize("versioned", [False, True], ids=["walked", "git"])
def test_sources_and_what_tools_leave(versioned: bool, tmp_path: Path) -> None:
    """A directory that has an output's name is one where tools write it, not inside the sources."""
    lay(tmp_path, SOURCES | LEFT)
    if versioned:
        git(tmp_path, "init", "-q")
    assert set(read_tree(tmp_path, versioned=False).files) == SOURCES


def test_what_git_knows_is_taken_whatever_its_name(tmp_path: Path) -> None:
    lay(tmp_path, {"pyproject.toml", "dist/kept.js"})
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    lay(tmp_path, {"dist/old.whl"})
    assert set(read_tree(tmp_path, versioned=False).files) == {"pyproject.toml", "dist/kept.js"}


def test_submodules_are_read_file_by_file(tmp_path: Path) -> None:
    """An edit in one is an edit: the wheel is made anew."""
    library = lay(tmp_path / "library", {"Cargo.toml", "build/x.c"})
    git(library, "init", "-q")
    git(library, "add", "-A")
    git(library, "commit", "-qm", "all")
    project = lay(tmp_path / "project", {"pyproject.toml"})
    git(project, "init", "-q")
    git(project, "submodule", "add", "-q", str(library), "library")
    before = read_tree(project, versioned=False)
    assert {"library/Cargo.toml", "library/build/x.c"} < set(before.files)
    (project / "library/build/x.c").write_text("other")
    assert read_tree(project, versioned=False).content != before.content


def test_a_packed_tree_has_files_links_and_nothing_of_this_machine(tmp_path: Path) -> None:
    """Two names of one file are two files; the archive's bytes are the same wherever the project lies."""
    made = []
    for place in ("a", "b/c"):
        root = lay(tmp_path / place, {"pyproject.toml", "run"})
        (root / "run").chmod(0o755)
        (root / "other").hardlink_to(root / "run")
        (root / "link").symlink_to("run")
        ctx = open_context({"HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache" / place)}, Progress(lambda line: None))
        made.append(packed_tree(read_tree(root, versioned=False), "app-1.tar.gz", ctx))
    one, other = (path.read_bytes() for path in made)
    assert one == other
    assert made[0].name == "app-1.tar.gz"
    with made[0].open("rb") as stream:
        from hatch_docker.oci.compression import Decompressed

        found = {entry.path: (entry.kind, entry.mode & 0o100, entry.target, content and content.read())
                 for entry, content in read_tar(Decompressed(stream, 1 << 20))}  # fmt: skip
    assert found == {
        "source/pyproject.toml": ("file", 0, "", b"pyproject.toml"), "source/run": ("file", 0o100, "", b"run"),
        "source/other": ("file", 0o100, "", b"run"), "source/link": ("symlink", 0o100, "run", None),
    }
