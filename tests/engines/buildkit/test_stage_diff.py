"""The layer of a stage with packages: the base with this layer equals the stage."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.bases.model import Base, Interpreter
from hatch_docker.core.errors import BuildError
from hatch_docker.engines.buildkit.system_packages import Debs, layer_facts, read_changes, with_system
from hatch_docker.oci.filesystem import merge_layers
from hatch_docker.oci.layer import Entry
from hatch_docker.plan.model import BasePlan
from tests.fakes.bases import file
from tests.fakes.context import context
from tests.fakes.images import image_of, layer_of

PROGRAM = Path(__file__).parent.parent.parent.parent / "hatch_docker/engines/buildkit/stage_diff.py"
PASSWD = "root:x:0:0:root:/root:/bin/sh\n"


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Return the type, mode, link target and contents of each path below `root`."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        name, mode = str(path.relative_to(root)), path.lstat().st_mode & 0o7777
        if path.is_symlink():
            found[name] = ("symlink", 0, str(path.readlink()), b"")
        elif path.is_dir():
            found[name] = ("directory", mode, "", b"")
        elif path.is_file():
            found[name] = ("file", mode, "", path.read_bytes())
    return found


def entries(root: Path) -> list[Entry]:
    """Return the files below `root` as a layer's entries."""
    return [
        Entry(name, kind, mode, 0, str(target), size=len(content), content=content)  # type: ignore[arg-type]
        for name, (kind, mode, target, content) in tree(root).items()
    ]


def make(before: Path, after: Path) -> None:
    """Write the files of a base, and of the same base after an installation of packages."""
    (before / "etc").mkdir(parents=True)
    (before / "usr/share/old").mkdir(parents=True)
    (before / "usr/bin").mkdir()
    (before / "etc/passwd").write_text(PASSWD)
    (before / "etc/hosts").write_text("the runtime's\n")
    (before / "usr/share/old/file").write_text("gone")
    (before / "usr/bin/program").write_bytes(bytes(3 << 20))
    (before / "usr/bin/link").symlink_to("program")
    (before / "usr/bin/kept").symlink_to("program")
    (before / "was-directory").mkdir()
    (before / "was-directory/below").write_text("x")
    (before / "was-file").write_text("x")
    shutil.copytree(before, after, symlinks=True)
    shutil.rmtree(after / "usr/share/old")
    (after / "etc/passwd").write_text(PASSWD + "postgres:x:101:103::/nonexistent:/bin/false\n")
    (after / "etc/hosts").write_text("another container's\n")
    (after / "usr/bin/program").write_bytes(bytes((3 << 20) - 1) + b"x")
    (after / "usr/bin/link").unlink()
    (after / "usr/bin/link").symlink_to("new")
    (after / "usr/bin/new").write_text("new")
    (after / "usr/bin/new").chmod(0o4755)
    os.link(after / "usr/bin/new", after / "usr/bin/same")
    (after / "usr/share").chmod(0o700)
    shutil.rmtree(after / "was-directory")
    (after / "was-directory").write_text("y")
    (after / "was-file").unlink()
    (after / "was-file/below").mkdir(parents=True)
    (after / "tmp").mkdir()
    (after / "tmp/left").write_text("behind")
    os.mkfifo(after / "usr/pipe")


def changes(before: Path, after: Path, out: Path) -> None:
    command = [sys.executable, "-I", "-S", PROGRAM, before, after, out]
    done = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o077)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def base(tmp_path: Path) -> Base:
    make(tmp_path / "before", tmp_path / "after")
    plan = BasePlan("registry", "python:slim", "python:slim", packages=("postgresql",))
    return Base(
        plan, plan.name, "", image_of(layer_of(entries(tmp_path / "before"))),
        Interpreter("/usr/local/bin/python3.13", "3.13.5"), ("glibc", "2.41"), {"root": (0, 0)},
        frozenset({"etc", "usr"}), kinds=("base",), contents=((),),
    )  # fmt: skip


def test_base_with_the_layer_equals_the_stage(base: Base, tmp_path: Path) -> None:
    """This includes modes, links, removed paths and changed types, without files that the runtime mounts."""
    changes(tmp_path / "before", tmp_path / "after", tmp_path / "out")
    found = read_changes(tmp_path / "out", base, context(tmp_path / "store"))
    assert {entry.mtime for entry in found} == {315532800}
    added = [entry for entry in found if "/.wh." not in entry.path]
    assert {(entry.uid, entry.gid) for entry in added} == {(os.geteuid(), os.getegid())}
    in_memory = [replace(it, content=it.content.read_bytes()) if isinstance(it.content, Path) else it for it in found]
    merged = merge_layers([*base.image.layers, layer_of(in_memory)], lambda _path, stream: stream.read())
    files = {
        path: (entry.kind, entry.mode if entry.kind != "symlink" else 0, entry.target, entry.content or b"")
        for path, entry in merged.items()
    }
    expected = tree(tmp_path / "after")
    del expected["tmp/left"]
    expected["etc/hosts"] = tree(tmp_path / "before")["etc/hosts"]
    assert files == expected
    assert not {"etc", "usr", "usr/bin", "usr/bin/kept"} & {entry.path for entry in found}


def test_unchanged_tree_gives_an_empty_layer(base: Base, tmp_path: Path) -> None:
    changes(tmp_path / "before", tmp_path / "before", tmp_path / "out")
    assert read_changes(tmp_path / "out", base, context(tmp_path / "store")) == []


def test_base_with_system_layer_has_its_users_and_directories(base: Base, tmp_path: Path) -> None:
    changes(tmp_path / "before", tmp_path / "after", tmp_path / "out")
    fact = layer_facts(read_changes(tmp_path / "out", base, context(tmp_path / "store")))
    new = with_system(base, layer_of([file("x", "y")]), fact, Debs(("postgresql",), None), 1)
    assert new.users == {"root": (0, 0), "postgres": (101, 103)}
    assert {"etc", "was-file", "was-file/below"} <= new.directories
    assert new.symlinks["usr/bin/link"] == "new"
    assert (new.kinds, new.contents) == (("base", "system"), ((), ("postgresql",)))
    assert len(new.image.layers) == 2
    assert new.name == base.name


def test_symlink_instead_of_the_tar_is_not_followed(base: Base, tmp_path: Path) -> None:
    changes(tmp_path / "before", tmp_path / "after", tmp_path / "out")
    (tmp_path / "out/layer.tar").rename(tmp_path / "mine")
    (tmp_path / "out/layer.tar").symlink_to(tmp_path / "mine")
    with pytest.raises(BuildError, match="the builder exported nothing for postgresql"):
        read_changes(tmp_path / "out", base, context(tmp_path / "store"))


def test_lost_file_capabilities_give_a_warning(base: Base, tmp_path: Path) -> None:
    changes(tmp_path / "before", tmp_path / "after", tmp_path / "out")
    (tmp_path / "out/capabilities").write_text("usr/bin/ping\n")
    lines: list[str] = []
    read_changes(tmp_path / "out", base, context(tmp_path / "store", lines))
    assert lines == ["warning: usr/bin/ping on base python:slim: file capabilities are not kept in the image"]
