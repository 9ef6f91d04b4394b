"""The layer of the option `volumes`: directories that belong to the image's user."""

from pathlib import Path
from typing import Any

import pytest

from hatch_docker.bases.image import base_of
from hatch_docker.bases.model import Base
from hatch_docker.core.errors import ConfigError
from hatch_docker.engines.image_files import make_volumes, owner
from hatch_docker.engines.model import LayerInfo
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.model import Layer
from hatch_docker.plan.model import BasePlan
from tests.fakes.bases import debian_layer, directory, file, link, python_layer
from tests.fakes.context import context
from tests.fakes.images import image_of, layer_of
from tests.fakes.plans import plan

EXTRA = layer_of([
    directory("var"), directory("var/lib", 0o1777), directory("run"), link("var/run", "../run"),
    file("srv/data", "here"), link("cache", "var/cache"),
])  # fmt: skip


def make(
    tmp_path: Path, volumes: list[str], lines: list[str] | None = None, **table: Any
) -> tuple[Layer, LayerInfo] | None:
    ctx = context(tmp_path / "store", lines)
    with_volumes = plan({"volumes": volumes, **table})
    return make_volumes(with_volumes, tmp_path, base(tmp_path), Compression(), ctx)


def base(tmp_path: Path) -> Base:
    image = image_of(debian_layer(), python_layer(), EXTRA)
    return base_of(BasePlan("registry", "test", "test"), image, context(tmp_path / "store"))


def entries_of(layer: tuple[Layer, LayerInfo] | None) -> dict[str, tuple[str, int, int, int]]:
    """Return the layer's entries: path to (kind, mode, UID, GID)."""
    assert layer is not None
    found = [entry for entry, _ in layer_entries(layer[0])]
    return {item.path: (item.kind, item.mode, item.uid, item.gid) for item in found}


def test_volume_belongs_to_the_user_and_its_parents_to_root(tmp_path: Path) -> None:
    """Symlinks of the base are resolved, and directories of the base are not in the layer."""
    volumes = ["/data", "/data/", "/var/lib/app/store", "/var/run/app", "/var/lib", "/tmp"]
    layer = make(tmp_path, volumes)
    own, roots = ("directory", 0o755, 65532, 0), ("directory", 0o755, 0, 0)
    assert entries_of(layer) == {"data": own, "var/lib/app": roots, "var/lib/app/store": own, "run/app": own}
    assert layer is not None
    assert layer[1] == LayerInfo("files", ("/data", "/var/lib/app/store", "/var/run/app"), False)


def test_nested_volumes_belong_to_the_user(tmp_path: Path) -> None:
    found = entries_of(make(tmp_path, ["/data/a/b", "/data"]))
    assert {path: row[2] for path, row in found.items()} == {"data": 65532, "data/a": 0, "data/a/b": 65532}


def test_existing_directories_need_no_layer(tmp_path: Path) -> None:
    lines: list[str] = []
    assert make(tmp_path, ["/var/lib", "/tmp", "/opt"], lines) is None
    assert not [line for line in lines if "warning" in line]


@pytest.mark.parametrize(("user", "numbers"), [
    ("65532", (65532, 0)), ("1000", (1000, 1001)), ("app", (1000, 1001)), ("1000:7", (1000, 7)), ("root", (0, 0)),
    ("0", (0, 0)), ("2147483647:2147483647", (2147483647, 2147483647)),
])  # fmt: skip
def test_owner_is_the_user_of_the_image(user: str, numbers: tuple[int, int], tmp_path: Path) -> None:
    """For a numeric user, the group comes from the base's passwd, as in container runtimes."""
    assert owner(user, base(tmp_path)) == numbers
    assert entries_of(make(tmp_path, ["/data"], user=user)) == {"data": ("directory", 0o755, *numbers)}


def test_layer_is_cached_by_directories_and_owner(tmp_path: Path) -> None:
    """The order of the volumes does not matter."""
    first, again, other = (
        make(tmp_path, volumes, user=user)
        for volumes, user in ((["/a", "/b"], "1"), (["/b", "/a"], "1"), (["/a", "/b"], "2"))
    )
    assert first is not None
    assert again is not None
    assert other is not None
    assert (first[1].cached, again[1].cached, other[1].cached) == (False, True, False)
    assert first[0].diff_id == again[0].diff_id != other[0].diff_id


def test_directory_copied_by_files_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a").write_text("a")
    files = [{"source": "conf", "target": "/etc/app"}, {"source": "conf/a", "target": "/seed/in/a"}]
    found = entries_of(make(tmp_path, ["/etc/app", "/seed", "/seed/in/b"], files=files))
    assert {path: row[2] for path, row in found.items()} == {"seed": 65532, "seed/in/b": 65532}


@pytest.mark.parametrize(("volume", "words"), [
    ("/srv/data", "/srv/data of base test is not a directory"),
    ("/srv/data/x", "/srv/data of base test is not a directory"),
    ("/etc/passwd/x", "/etc/passwd of base test is not a directory"),
    ("/seed/a", "/seed/a of `files` is not a directory"),
    ("/seed/b/x", "/seed/b of `files` is not a directory"), ("/" + "a" * 300, "too long for a file system"),
    ("/data/.wh.x", "a layer cannot contain"), ("/.", "names nothing"),
])  # fmt: skip
def test_volume_at_the_path_of_a_file_is_rejected(volume: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a").write_text("a")
    (tmp_path / "conf" / "b").symlink_to("a")
    with pytest.raises(ConfigError, match=r"tool\.hatch-docker\.volumes: .*") as caught:
        make(tmp_path, [volume], files=[{"source": "conf", "target": "/seed"}])
    assert words in str(caught.value)


@pytest.mark.parametrize(("volume", "words"), [
    ("/cache", "is a link to var/cache in base test, and stays a link; use the directory: /var/cache"),
    ("/opt/venv", "is where the code is"), ("/opt/venv/lib/x", "is where the code is"),
])  # fmt: skip
def test_symlink_and_venv_as_volume_give_a_warning(volume: str, words: str, tmp_path: Path) -> None:
    lines: list[str] = []
    assert make(tmp_path, [volume], lines) is None
    assert len([line for line in lines if f"{volume} {words}" in line]) == 1
