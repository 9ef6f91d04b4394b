"""The layer of the option `files`: targets, symlinks and directories of the base, and errors."""

from pathlib import Path

import pytest

from hatch_docker.bases.image import base_of
from hatch_docker.bases.model import Base
from hatch_docker.core.errors import ConfigError
from hatch_docker.engines.image_files import make_files
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.layer import layer_entries
from hatch_docker.plan.model import BasePlan, FilePlan
from tests.fakes.bases import debian_layer, directory, file, link, python_layer
from tests.fakes.context import context
from tests.fakes.images import image_of, layer_of

EXTRA = layer_of([
    directory("var"), directory("run"), directory("root", 0o700), link("var/run", "../run"), file("srv/data", "here"),
])  # fmt: skip


def base(tmp_path: Path) -> Base:
    image = image_of(debian_layer(), python_layer(), EXTRA)
    return base_of(BasePlan("registry", "test", "test"), image, context(tmp_path / "store"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a file `a` and a directory `conf`, which contains a file and a symlink."""
    project = tmp_path / "p"
    (project / "conf").mkdir(parents=True)
    (project / "a").write_text("a")
    (project / "conf" / "a").write_text("other")
    (project / "conf" / "l").symlink_to("a")
    return project


def layer_files(root: Path, *plans: tuple[str, str], lines: list[str] | None = None) -> dict[str, tuple[str, bytes]]:
    ctx = context(root.parent / "store", lines)
    plan = [FilePlan(*item) for item in plans]
    layer, _ = make_files(plan, root, base(root.parent), Compression(), ctx)
    return {entry.path: (entry.kind, stream.read() if stream else b"") for entry, stream in layer_entries(layer)}


def test_symlinks_of_the_base_are_followed(root: Path) -> None:
    (root / "conf" / "run").mkdir()
    (root / "conf" / "run" / "pid").write_text("1")
    found = layer_files(root, ("conf", "/var"))
    assert set(found) == {"var/a", "var/l", "run/pid"}


def test_target_is_normalised(root: Path) -> None:
    assert layer_files(root, ("a", "/root//./x")) == {"root/x": ("file", b"a")}


def test_last_of_two_files_with_the_same_target_is_used(root: Path) -> None:
    assert layer_files(root, ("conf", "/root"), ("a", "/root/a"))["root/a"] == ("file", b"a")


@pytest.mark.parametrize(("plans", "words"), [
    ([("a", "/srv/data/x")], "/srv/data cannot be a directory: /srv/data of base test is not a directory"),
    ([("conf", "/srv/data")], "/srv/data cannot be a directory: /srv/data of base test is not a directory"),
    ([("a", "/x"), ("a", "/x/y")], "/x cannot be a directory: /x of `files` is not a directory"),
    ([("a", "/x"), ("conf", "/x")], "/x would be a file and a directory"),
    ([("conf", "/x"), ("a", "/x")], "/x would be a file and a directory"),
    ([("a", "/root")], "/root is a directory; name the file: /root/a"),
    ([("a", "/opt/venv")], "/opt/venv is a directory; name the file: /opt/venv/a"),
    ([("over", "/var")], "/var/run would be a file and a directory"),
    ([("a", "/x/.wh.y")], "a layer cannot contain a name that starts with .wh."),
    ([("white", "/x")], "white contains .wh.a, a name that a layer cannot contain"),
    ([("a", "/" + "a" * 300)], "too long for a file system"),
    ([("conf/*", "/x")], "there is no conf/* in p/; patterns are not expanded here, give a directory"),
])  # fmt: skip
def test_impossible_source_or_target_is_reported(plans: list[tuple[str, str]], words: str, root: Path) -> None:
    for name, child in (("over", "run"), ("white", ".wh.a")):
        (root / name).mkdir()
        (root / name / child).write_text("")
    with pytest.raises(ConfigError, match=r"^tool\.hatch-docker\.files: ") as caught:
        layer_files(root, *plans)
    assert words in str(caught.value)


def test_outputs_of_builds_are_not_copied(root: Path) -> None:
    """Otherwise each image would contain the previous one."""
    for name in ("dist/p-1.oci.tar", "out/p-1.oci.tar", "out/p-1.image.json", "out/kept", "cache/CACHEDIR.TAG"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    found = {path for path, (kind, _) in layer_files(root, (".", "/x")).items() if kind != "directory"}
    assert found == {"x/a", "x/conf/a", "x/conf/l", "x/out/kept"}


def test_file_like_a_decompression_bomb_is_rejected(root: Path) -> None:
    """Readers of layers reject such a ratio, so later builds could not read the layer."""
    with (root / "empty.db").open("wb") as stream:
        stream.truncate(70 << 20)
    with pytest.raises(ConfigError, match=r"files: /srv/empty\.db compresses so much that it looks like"):
        layer_files(root, ("empty.db", "/srv/empty.db"))


@pytest.mark.parametrize("target", ["/proc/x", "/dev/x/y", "/etc/hosts", "/etc/resolv.conf"])
def test_target_hidden_by_the_runtime_gives_a_warning(target: str, root: Path) -> None:
    lines: list[str] = []
    assert target[1:] in layer_files(root, ("a", target), ("a", "/etc/hosts.allow"), lines=lines)
    assert [line.partition("files: ")[2].partition(": ")[0] for line in lines if "containers do" in line] == [
        f"containers do not see {target}"
    ]
