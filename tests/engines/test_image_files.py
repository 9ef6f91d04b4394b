"""`files` go where they are told, over no directory or link of the base, and what no layer should hold is named."""

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
    """A project with a file `a`, and a directory `conf` in which there are a file and a link."""
    made = tmp_path / "p"
    (made / "conf").mkdir(parents=True)
    (made / "a").write_text("a")
    (made / "conf" / "a").write_text("other")
    (made / "conf" / "l").symlink_to("a")
    return made


def made(root: Path, *plans: tuple[str, str], lines: list[str] | None = None) -> dict[str, tuple[str, bytes]]:
    ctx = context(root.parent / "store", lines)
    plan = [FilePlan(*item) for item in plans]
    layer, _ = make_files(plan, root, base(root.parent), Compression(), ctx)
    return {entry.path: (entry.kind, stream.read() if stream else b"") for entry, stream in layer_entries(layer)}


def test_links_of_the_base_are_followed_also_below_a_directory(root: Path) -> None:
    (root / "conf" / "run").mkdir()
    (root / "conf" / "run" / "pid").write_text("1")
    found = made(root, ("conf", "/var"))
    assert set(found) == {"var/a", "var/l", "run/pid"}


def test_a_target_is_read_as_a_file_system_reads_it(root: Path) -> None:
    assert made(root, ("a", "/root//./x")) == {"root/x": ("file", b"a")}


def test_of_two_files_the_last_is_it(root: Path) -> None:
    assert made(root, ("conf", "/root"), ("a", "/root/a"))["root/a"] == ("file", b"a")


@pytest.mark.parametrize(("plans", "words"), [
    ([("a", "/srv/data/x")], "/srv/data cannot be a directory: /srv/data of base test is not a directory"),
    ([("conf", "/srv/data")], "/srv/data cannot be a directory: /srv/data of base test is not a directory"),
    ([("a", "/x"), ("a", "/x/y")], "/x cannot be a directory: /x of `files` is not a directory"),
    ([("a", "/x"), ("conf", "/x")], "/x would be a file and a directory"),
    ([("conf", "/x"), ("a", "/x")], "/x would be a file and a directory"),
    ([("a", "/root")], "/root is a directory; name the file: /root/a"),
    ([("a", "/opt/venv")], "/opt/venv is a directory; name the file: /opt/venv/a"),
    ([("over", "/var")], "/var/run would be a file and a directory"),
    ([("a", "/x/.wh.y")], "no layer can hold a name that starts with .wh."),
    ([("white", "/x")], "white holds .wh.a, a name that no layer can hold"),
    ([("a", "/" + "a" * 300)], "too long for a file system"),
    ([("conf/*", "/x")], "there is no conf/* in p/; patterns are not expanded here, give a directory"),
])  # fmt: skip
def test_what_cannot_be_is_named(plans: list[tuple[str, str]], words: str, root: Path) -> None:
    for name, child in (("over", "run"), ("white", ".wh.a")):
        (root / name).mkdir()
        (root / name / child).write_text("")
    with pytest.raises(ConfigError, match=r"^tool\.hatch-docker\.files: ") as caught:
        made(root, *plans)
    assert words in str(caught.value)


def test_the_whole_project_comes_without_what_builds_wrote(root: Path) -> None:
    """Each image would be in the next one."""
    for name in ("dist/p-1.oci.tar", "out/p-1.oci.tar", "out/p-1.image.json", "out/kept", "cache/CACHEDIR.TAG"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    found = {path for path, (kind, _) in made(root, (".", "/x")).items() if kind != "directory"}
    assert found == {"x/a", "x/conf/a", "x/conf/l", "x/out/kept"}


def test_a_file_that_compresses_like_a_bomb_is_named(root: Path) -> None:
    """No build would take its layer."""
    with (root / "empty.db").open("wb") as stream:
        stream.truncate(70 << 20)
    with pytest.raises(ConfigError, match=r"files: /srv/empty\.db compresses so much that it looks like"):
        made(root, ("empty.db", "/srv/empty.db"))


@pytest.mark.parametrize("target", ["/proc/x", "/dev/x/y", "/etc/hosts", "/etc/resolv.conf"])
def test_what_no_container_sees_is_told(target: str, root: Path) -> None:
    lines: list[str] = []
    assert target[1:] in made(root, ("a", target), ("a", "/etc/hosts.allow"), lines=lines)
    assert [line.partition("files: ")[2].partition(": ")[0] for line in lines if "containers do" in line] == [
        f"containers do not see {target}"
    ]
