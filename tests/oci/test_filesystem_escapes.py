"""Hostile layers that try to write outside of the root, and whiteouts.

The more than sixty escapes are the test cases of containerd, go-containerregistry and apko, and others. A case is the
members of a lower and an upper layer: name, type, link. TOP is the directory that contains the root (as `root`) and a
file `canary`, which must not change.
"""

import tarfile
from pathlib import Path

import pytest

from hatch_docker.core.errors import ImageError
from hatch_docker.oci.filesystem import extract, merge_layers
from hatch_docker.oci.layout import write_layout
from tests.conftest import need, run
from tests.fakes.images import image_of, raw_layer
from tests.fakes.sandbox_roots import tree

REG, SYM, LNK, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
OUT = "../" * 12

Member = tuple[str, bytes, str]
ETC = (("etc", DIR, ""), ("etc/passwd", REG, ""))
LINKED: tuple[Member, ...] = (*ETC, ("localetc", SYM, "/etc"))

# Through symlinks and hard links, from containerd's tests: lower layer, upper layer.
LINKS: dict[str, tuple[tuple[Member, ...], tuple[Member, ...]]] = {
    "an absolute symlink": ((), (("etc", DIR, ""), ("localetc", SYM, "/etc"), ("localetc/x", REG, ""))),
    "a symlink up and out": ((), (("etc", DIR, ""), ("localetc", SYM, "/dummy/../etc"), ("localetc/x", REG, ""))),
    "absolute symlinks through one another": (
        (), (*ETC, ("d", DIR, ""), ("d/etc", SYM, "/etc"), ("localetc", SYM, "/d/etc"), ("localetc/x", REG, ""))),
    "relative symlinks through one another": (
        (), (*ETC, ("d", DIR, ""), ("d/etc", SYM, "/etc"), ("localetc", SYM, "./d/etc"), ("d/etc/x", REG, ""))),
    "a file that is emptied through a symlink": ((), (*LINKED, ("localetc/passwd", REG, ""))),
    "a hard link through a relative symlink": (
        (), (*ETC, ("b", DIR, ""), ("b/d1", SYM, "../../etc"), ("b/mine", LNK, "b/d1/passwd"))),
    "a hard link down and out": (
        (), (*ETC, ("b", DIR, ""), ("d", DIR, ""), ("b/d1", SYM, "../d/../../etc"), ("b/mine", LNK, "b/d1/passwd"))),
    "a hard link through an absolute symlink": ((), (*LINKED, ("mine", LNK, "localetc/passwd"))),
    "a hard link through a long relative symlink": (
        (), (*ETC, ("localetc", SYM, f"{OUT}etc"), ("mine", LNK, "localetc/passwd"))),
    "a hard link up and out": (
        (), (*ETC, ("localetc", SYM, "up/../../../etc"), ("mine", LNK, "localetc/passwd"))),
    "a hard link that climbs": ((), (*ETC, ("mine", LNK, f"{OUT}etc/passwd"))),
    "a hard link that is absolute": ((), (*ETC, ("mine", LNK, "/etc/passwd"))),
    "a symlink in the place of the parent": ((), (*ETC, ("..", SYM, "/etc/"), ("mine", LNK, "etc/passwd"))),
    "a symlink without a name": ((), (*ETC, ("", SYM, "/etc/"), ("mine", LNK, "etc/passwd"))),
    "a symlink named by its parent": (
        (), (*ETC, ("localetc/sub/..", SYM, "/etc/"), ("localetc/mine", LNK, "etc/passwd"))),
    "a directory with a slash": ((), (*ETC, ("localetc/", DIR, ""), ("localetc/mine", LNK, "etc/passwd"))),
    "a symlink over a directory": (
        (*ETC, ("localetc", DIR, "")), (("localetc", SYM, "/etc"), ("localetc/mine", LNK, "etc/passwd"))),
    "a relative symlink over a directory": (
        (*ETC, ("localetc", DIR, "")), (("localetc", SYM, "../../etc"), ("localetc/mine", LNK, "etc/passwd"))),
    "a directory over a symlink": (LINKED, (("localetc/", DIR, ""), ("localetc/mine", LNK, "etc/passwd"))),
    "a directory over a symlink, a file over a hard link": (
        (*LINKED, ("localetc/mine", LNK, "etc/passwd")), (("localetc/", DIR, ""), ("localetc/mine", REG, ""))),
    "a whiteout of the root's parent": (ETC, ((".wh...", REG, ""),)),
    "a whiteout of the parent": (ETC, (("etc/.wh...", REG, ""),)),
    "a whiteout of the root": (ETC, ((".wh..", REG, ""),)),
    "a whiteout of the directory it is in": (ETC, (("etc/.wh..", REG, ""),)),
    "a whiteout of a symlink": (LINKED, ((".wh.localetc", REG, ""),)),
    "a whiteout through a symlink": (LINKED, (("localetc/.wh.passwd", REG, ""),)),
    "a directory named like a whiteout": (LINKED, ((".wh.etc/x", REG, ""),)),
    "a whiteout below a symlink to nowhere": ((*ETC, ("localetc", SYM, "/gone")), (("localetc/.wh.etc", REG, ""),)),
    "a whiteout with a path that climbs": (ETC, (("gone/../.wh.etc", REG, ""),)),
    "a hard link to a symlink to what comes later": (
        (), (("etc", DIR, ""), ("l", SYM, "/etc/passwd"), ("dup", LNK, "l"), ("etc/passwd", REG, ""))),
    "a hard link to a relative symlink": ((), (*ETC, ("l", SYM, f"{OUT}etc/passwd"), ("mine", LNK, "l"))),
    "a hard link to an absolute symlink": ((), (*ETC, ("l", SYM, "/etc/passwd"), ("mine", LNK, "l"))),
    "a hard link to a symlink that leaves": ((), (("l", SYM, "TOP/canary"), ("mine", LNK, "l"))),
    "a hard link to what is outside": ((), (("TOP/l", SYM, "TOP/canary"), ("mine", LNK, "TOP/l"))),
}  # fmt: skip

# Names outside of the root, from go-containerregistry's tests.
NAMES: dict[str, tuple[tuple[Member, ...], tuple[Member, ...]]] = {
    name: ((), ((path, REG, ""),)) for name, path in {
        "climbs": "../canary", "climbs later": "a/../../canary", "climbs from the root": "/../canary",
        "is absolute": "TOP/canary", "climbs far": f"{OUT}TOP/canary", "climbs after a dot": "./../canary",
        "climbs with slashes": "a//..//..//canary", "is the parent": "..",
    }.items()
}  # fmt: skip

# Writes through symlinks, from apko's tests, and others.
THROUGH: dict[str, tuple[tuple[Member, ...], tuple[Member, ...]]] = {
    name: ((), members) for name, members in {
        "an absolute symlink out": (("link", SYM, "TOP"), ("link/canary", REG, "")),
        "a relative symlink out": (("link", SYM, OUT + "TOP"), ("link/canary", REG, "")),
        "a symlink to the parent": (("link", SYM, ".."), ("link/canary", REG, "")),
        "a symlink up from below": (("d", DIR, ""), ("d/link", SYM, "../.."), ("d/link/canary", REG, "")),
        "a symlink to a symlink": (("a", SYM, "b"), ("b", SYM, "TOP"), ("a/canary", REG, "")),
        "a file over a symlink": (("link", SYM, "TOP/canary"), ("link", REG, "")),
        "a file over a hard link to a symlink": (
            ("link", SYM, "TOP/canary"), ("other", LNK, "link"), ("other", REG, "")),
        "a file over a hard link that climbs": (("hard", LNK, "../canary"), ("hard", REG, "")),
        "a file over a hard link that is absolute": (("hard", LNK, "TOP/canary"), ("hard", REG, "")),
        "a file over a hard link through a symlink": (
            ("link", SYM, "TOP"), ("hard", LNK, "link/canary"), ("hard", REG, "")),
        "a whiteout through a symlink out": (("link", SYM, "TOP"), ("link/.wh.canary", REG, "")),
        "an opaque directory through a symlink out": (("link", SYM, "TOP"), ("link/.wh..wh..opq", REG, "")),
        "a directory through a symlink out": (("link", SYM, "TOP"), ("link/canary", DIR, "")),
        "a symlink through a symlink out": (("link", SYM, "TOP"), ("link/sub", SYM, "canary")),
        "a symlink to itself": (("loop", SYM, "loop"), ("loop/canary", REG, "")),
        "symlinks to each other": (("a", SYM, "b"), ("b", SYM, "a"), ("a/x", REG, "")),
        "a symlink to nothing": (("link", SYM, ""), ("link/canary", REG, "")),
        "below a file": (("f", REG, ""), ("f/canary", REG, "")),
        "below a symlink to a file": (("link", SYM, "f"), ("f", REG, ""), ("link/canary", REG, "")),
        "a symlink with a slash": (("link/", SYM, "TOP"), ("link/canary", REG, "")),
        "a symlink with dots": (("./link", SYM, "TOP"), ("./link//canary", REG, "")),
        "a symlink over a directory, written through": (("d", DIR, ""), ("d", SYM, "TOP"), ("d/canary", REG, "")),
        "a directory over a symlink out": (("d", SYM, "TOP"), ("d/", DIR, ""), ("d/canary", REG, "")),
        "a symlink into /proc": (("proc", SYM, "/proc/self/cwd"), ("proc/canary", REG, "")),
        "a symlink to the root itself": (("link", SYM, "/"), ("link/../canary", REG, "")),
        "a symlink in the place of the root": ((".", SYM, "TOP"), ("canary", REG, "")),
    }.items()
}  # fmt: skip

ESCAPES = {**LINKS, **{f"a name that {name}": case for name, case in NAMES.items()}, **THROUGH}


@pytest.mark.parametrize("split", ["together", "apart"])
@pytest.mark.parametrize("name", ESCAPES)
def test_extract_changes_nothing_outside_of_the_root(name: str, split: str, tmp_path: Path) -> None:
    """Members are written inside the root or rejected; in two layers, or each member in its own layer."""
    outside = tmp_path / "outside"
    root = outside / "root"
    root.mkdir(parents=True)
    canary = outside / "canary"
    canary.write_text("alive")
    canary.chmod(0o400)
    groups = [
        [(path.replace("TOP", str(outside)), kind, link.replace("TOP", str(outside))) for path, kind, link in members]
        for members in ESCAPES[name]
    ]
    groups = groups if split == "together" else [[member] for members in groups for member in members]
    layers = [raw_layer(*members) for members in groups if members]
    try:
        extract(layers, root)
    except ImageError as error:
        assert not list(root.iterdir()), "rejected, and no file is left"
        assert "\n" not in str(error)
    assert canary.read_text() == "alive"
    assert canary.stat().st_mode & 0o777 == 0o400
    assert canary.stat().st_nlink == 1
    assert sorted(path.name for path in outside.iterdir()) == ["canary", "root"]
    found = [path for path in root.rglob("*") if not path.is_symlink()]
    assert all(path.resolve().is_relative_to(root) for path in found)
    assert all(path.read_bytes() == b"evil" for path in found if path.is_file()), "nothing from outside was read"


def test_number_of_escapes() -> None:
    assert len(ESCAPES) == len(LINKS) + len(NAMES) + len(THROUGH) > 58


# Whiteouts, compared with umoci.

LOWER = raw_layer(
    ("a", DIR, ""), ("a/x", REG, ""), ("a/y", REG, ""), ("a/b", DIR, ""), ("a/b/z", REG, ""), ("link", SYM, "a"),
    ("f", REG, ""), ("hard", LNK, "f"), ("empty", DIR, ""),
)  # fmt: skip
WHITEOUTS: dict[str, tuple[Member, ...]] = {
    "a file": (("a/.wh.x", REG, ""),),
    "a directory": ((".wh.a", REG, ""),),
    "a directory, and something new in it": ((".wh.a", REG, ""), ("a", DIR, ""), ("a/new", REG, "")),
    "what is not there": (("a/.wh.none", REG, ""),),
    "below what is not there": (("none/.wh.x", REG, ""),),
    "a symlink to a directory": ((".wh.link", REG, ""),),
    "a directory that becomes a file": ((".wh.a", REG, ""), ("a", REG, "")),
    "one of two names of a file": ((".wh.f", REG, ""),),
    "an opaque directory": (("a", DIR, ""), ("a/.wh..wh..opq", REG, ""), ("a/new", REG, "")),
    "an opaque directory, told last": (("a", DIR, ""), ("a/new", REG, ""), ("a/.wh..wh..opq", REG, "")),
    "an opaque directory below": (("a", DIR, ""), ("a/b", DIR, ""), ("a/b/.wh..wh..opq", REG, "")),
    "an empty directory": ((".wh.empty", REG, ""),),
    "what this layer brings": (("a", DIR, ""), ("a/x", REG, ""), ("a/.wh.y", REG, "")),
}  # fmt: skip


@pytest.mark.engine
@pytest.mark.parametrize("name", WHITEOUTS)
def test_whiteouts_like_umoci(name: str, tmp_path: Path) -> None:
    image = image_of(LOWER, raw_layer(*WHITEOUTS[name]))
    write_layout(image, tmp_path / "layout", ["example.test/a:1"])
    reference = f"{tmp_path / 'layout'}:example.test/a:1"
    run(need("umoci"), "unpack", "--rootless", "--image", reference, tmp_path / "bundle")
    (tmp_path / "ours").mkdir()
    extract(image.layers, tmp_path / "ours")
    assert tree(tmp_path / "ours") == tree(tmp_path / "bundle/rootfs")
    assert set(tree(tmp_path / "ours")) == set(merge_layers(image.layers))
