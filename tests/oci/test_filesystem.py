"""Merging layers: whiteouts, links and limits (layer.md)."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from hatch_docker.core.errors import ImageError
from hatch_docker.oci.filesystem import CONTENT_LIMIT, extract, merge_layers
from hatch_docker.oci.layer import Compression, Entry, make_layer, write_layer
from hatch_docker.oci.model import Layer
from tests.fakes.images import raw_layer
from tests.fakes.layer_entries import directory, file, symlink


def layer(*entries: Entry) -> Layer:
    out = io.BytesIO()
    facts = write_layer(entries, out, Compression("gzip"))
    return make_layer(facts, Compression("gzip"), lambda: io.BytesIO(out.getvalue()))


BASE = layer(
    directory("usr"), directory("usr/bin"), file("usr/bin/sh", b"shell"), symlink("bin", "usr/bin"),
    directory("etc"), file("etc/passwd", b"root"), directory("var"), directory("var/cache"),
    file("var/cache/a", b"a"), file("var/cache/b", b"b"),
    Entry("etc/passwd-", "hardlink", 0o644, 0, target="etc/passwd"),
    Entry("sbin", "directory", 0o555, 0), Entry("sbin/su", "file", 0o4755, 99, content=b"su"),
)  # fmt: skip


def disk(root: Path) -> dict[str, str]:
    tree = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            tree[name] = "-> " + str(path.readlink())
        else:
            tree[name] = "/" if path.is_dir() else path.read_text()
    return tree


def test_whiteouts_remove_entries_of_lower_layers_only(tmp_path: Path) -> None:
    """Entries of the same layer stay, before and after the whiteout."""
    upper = layer(
        file("etc/.wh.passwd"), file("var/cache/.wh..wh..opq"), file("var/cache/0", b"new"),
        file("var/cache/z", b"new"), file(".wh.sbin"), file("usr/.wh.nothing"),
    )  # fmt: skip
    extract([BASE, upper], tmp_path)
    assert disk(tmp_path) == {
        "bin": "-> usr/bin", "etc": "/", "etc/passwd-": "root", "usr": "/", "usr/bin": "/",
        "usr/bin/sh": "shell", "var": "/", "var/cache": "/", "var/cache/0": "new", "var/cache/z": "new",
    }  # fmt: skip
    assert list(merge_layers([BASE, upper])) == sorted(disk(tmp_path), key=lambda path: path.split("/"))


def test_entries_below_a_symlink_are_written_to_its_target(tmp_path: Path) -> None:
    """`bin/ls` in an upper layer is usr/bin/ls if `bin` is a symlink of the base. The symlink stays."""
    hard = Entry("x", "hardlink", 0, 0, target="bin/sh")
    upper = layer(file("bin/ls", b"list"), directory("opt/venv"), hard)
    extract([BASE, upper], tmp_path)
    assert (tmp_path / "bin").is_symlink()
    assert (tmp_path / "usr/bin/ls").read_text() == "list"
    assert (tmp_path / "x").samefile(tmp_path / "usr/bin/sh")
    kept = ("usr/bin/ls", "etc/passwd")
    merged = merge_layers([BASE, upper], lambda path, file: file.read() if path in kept else None)
    assert (merged["usr/bin/ls"].content, merged["etc/passwd"].content) == (b"list", b"root")
    assert merged["usr/bin/sh"].content is None
    assert merged["opt"].kind == "directory"
    assert merged["x"].size == 5


def test_entry_replaces_entry_of_another_kind(tmp_path: Path) -> None:
    """A file replaces a whole directory, a directory replaces a symlink."""
    upper = layer(file("var", b"file now"), directory("bin"), symlink("usr/bin/sh", "/etc/passwd"))
    extract([BASE, upper], tmp_path)
    assert (tmp_path / "var").read_text() == "file now"
    assert (tmp_path / "bin").is_dir() and not (tmp_path / "bin").is_symlink()
    assert (tmp_path / "usr/bin/sh").readlink() == Path("/etc/passwd")


def test_extract_needs_no_privileges(tmp_path: Path) -> None:
    """Directories are writable for their owner, setuid bits are omitted, mtimes are set."""
    mask = os.umask(0o077)
    try:
        extract([BASE], tmp_path)
    finally:
        os.umask(mask)
    assert (tmp_path / "sbin").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "sbin/su").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "etc/passwd").stat().st_mode & 0o7777 == 0o644
    assert (tmp_path / "sbin/su").stat().st_mtime == 99
    assert merge_layers([BASE])["sbin/su"].mode == 0o4755


def test_devices_are_not_extracted(tmp_path: Path) -> None:
    """mknod would need root."""
    upper = raw_layer(("dev/null", tarfile.CHRTYPE, ""), ("run/pipe", tarfile.FIFOTYPE, ""))
    assert merge_layers([upper])["dev/null"].kind == "character"
    extract([upper], tmp_path)
    assert disk(tmp_path) == {"dev": "/", "run": "/"}


def test_deep_and_long_paths_are_rejected() -> None:
    """A path of thousands of directories would need much time and stack."""
    with pytest.raises(ImageError, match="deep"):
        merge_layers([raw_layer(("a/" * 300 + "f", tarfile.REGTYPE, ""))])
    with pytest.raises(ImageError, match="too long"):
        merge_layers([raw_layer(("a/" * 3000, tarfile.DIRTYPE, ""))])
    with pytest.raises(ImageError, match="too long"):
        merge_layers([raw_layer(("a", tarfile.SYMTYPE, "a/" * 3000))])
    with pytest.raises(ImageError, match="big and others of the layers are too large to keep in memory"):
        merge_layers([layer(file("big", bytes(CONTENT_LIMIT + 1)))], lambda path, file: file.read())
