"""Tests of hatch_docker.bases.open and image: pulling and reading bases, and the Python that compiles for them."""

import contextlib
import dataclasses
import hashlib
import re
import time
from pathlib import Path

import pytest

from hatch_docker.bases.debian.base_cache import SNAPSHOT, remember_base, snapshot_key
from hatch_docker.bases.image import base_of, base_tree, check_python
from hatch_docker.bases.model import Base, Interpreter, real_path
from hatch_docker.bases.open import check_builder, compiler_tree, open_base
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, HatchDockerError, RegistryError
from hatch_docker.oci.archive import write_archive
from hatch_docker.oci.layer import Compression
from hatch_docker.oci.layout import write_layout
from hatch_docker.oci.model import Platform, host_platform
from hatch_docker.plan.model import BasePlan
from tests.fakes.bases import BOTH, publish, python_image
from tests.fakes.context import context
from tests.fakes.images import small_index
from tests.fakes.registry import FakeRegistry

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
GZIP = Compression()


def registry_plan(location: str) -> BasePlan:
    return BasePlan("registry", location, location)


def pull(location: str, ctx: Context, platform: Platform = AMD64) -> Base:
    return open_base(registry_plan(location), platform, ctx, compression=GZIP)


def test_image_of_index_is_chosen_by_platform(tmp_path: Path) -> None:
    """The digest of the base is the index's."""
    with FakeRegistry() as registry:
        publish(registry, BOTH)
        for platform, image in zip((AMD64, ARM64), BOTH.images, strict=True):
            base = pull(f"{registry.host}/python:3.13", context(tmp_path), platform)
            assert base.image.digest == image.digest
            assert base.platform == platform
            assert base.digest == BOTH.digest
            assert base.interpreter == Interpreter("/usr/local/bin/python3.13", "3.13.5")
            assert base.kinds == ("base", "base")
            assert [layer.unpacked_size for layer in base.image.layers] == [
                layer.unpacked_size for layer in image.layers
            ]


def test_single_image_has_its_own_digest(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        image = python_image()
        publish(registry, image)
        base = pull(f"{registry.host}/python:3.13", context(tmp_path))
        assert base.digest == base.image.digest == image.digest
        with pytest.raises(BaseImageError, match="linux/arm64"):
            pull(f"{registry.host}/python:3.13", context(tmp_path), ARM64)


def test_second_pull_by_digest_sends_no_request(tmp_path: Path) -> None:
    """A tag takes one request. No layer is downloaded again."""
    with FakeRegistry() as registry:
        publish(registry, BOTH)
        pinned = f"{registry.host}/python:3.13@{BOTH.digest}"
        first = pull(pinned, context(tmp_path))
        registry.requests.clear()
        again = pull(pinned, context(tmp_path))
        assert registry.requests == []
        pull(f"{registry.host}/python:3.13", context(tmp_path))
        assert [request.method for request in registry.requests] == ["HEAD"]
    assert dataclasses.replace(first, image=again.image) == again


def test_last_digest_of_tag_is_used_if_registry_fails(tmp_path: Path) -> None:
    """The warning names the tag and the digest."""
    lines: list[str] = []
    with FakeRegistry() as registry:
        publish(registry, BOTH)
        name = f"{registry.host}/python:3.13"
        first = pull(name, context(tmp_path))
        registry.fault("HEAD", "/manifests/", 401, times=99)
        registry.fault("GET", "/manifests/", 401, times=99)
        again = pull(name, context(tmp_path, lines))
    assert again.digest == first.digest
    assert any(name in line and BOTH.digest in line and line.startswith("warning") for line in lines)


def test_missing_image_error_suggests_debian_base(tmp_path: Path) -> None:
    with FakeRegistry() as registry, pytest.raises(RegistryError, match=r"python:3\.13.*debian:trixie") as caught:
        pull(f"{registry.host}/python:3.13", context(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("archive", [False, True])
def test_layout_and_archive_with_several_platforms(archive: bool, tmp_path: Path) -> None:
    path = tmp_path / "base"
    if archive:
        with path.open("wb") as out:
            write_archive(BOTH, [], out, host=AMD64)
    else:
        write_layout(BOTH, path)
    ctx = context(tmp_path / "cache")
    for platform, image in zip((AMD64, ARM64), BOTH.images, strict=True):
        base = open_base(BasePlan("oci", f"oci:{path}", str(path)), platform, ctx, compression=GZIP)
        assert base.digest == image.digest
        assert base.interpreter.version == "3.13.5"
    with pytest.raises(BaseImageError, match="linux/riscv64"):
        open_base(BasePlan("oci", f"oci:{path}", str(path)), Platform("linux", "riscv64"), ctx, compression=GZIP)


def test_layout_of_another_platform_is_rejected(tmp_path: Path) -> None:
    write_layout(python_image("arm64"), tmp_path / "base")
    plan = BasePlan("oci", "oci:base", str(tmp_path / "base"))
    with pytest.raises(BaseImageError, match=r"linux/arm64, not for linux/amd64"):
        open_base(plan, AMD64, context(tmp_path / "cache"), compression=GZIP)


@pytest.mark.parametrize("kind", ["missing", "file", "directory"])
def test_missing_or_invalid_layout_gives_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "base"
    if kind == "file":
        path.write_bytes(b"hello" * 1000)
    elif kind == "directory":
        path.mkdir()
    with pytest.raises(BaseImageError, match="base oci:base: ") as caught:
        open_base(BasePlan("oci", "oci:base", str(path)), AMD64, context(tmp_path / "cache"), compression=GZIP)
    assert "\n" not in str(caught.value)


def test_requires_python_is_compared_with_base(tmp_path: Path) -> None:
    base = base_of(registry_plan("python:3.13-slim"), python_image(), context(tmp_path))
    check_python(base, ">=3.11,<3.14")
    check_python(base, "")
    check_python(dataclasses.replace(base, interpreter=Interpreter("/usr/bin/python3.14", "3.14.0rc1")), ">=3.13")
    with pytest.raises(BaseImageError, match=r"needs Python <3\.13, but base python:3\.13-slim has 3\.13\.5"):
        check_python(base, "<3.13")


@pytest.mark.parametrize(("libc", "python", "message"), [
    (("glibc", "2.36"), "3.13.9", ""),
    (("glibc", "2.9"), "3.13.5", ""),
    (("glibc", "2.42"), "3.13.5", "has the C library glibc 2.42, and base run has glibc 2.41: code that is compiled"),
    (("musl", "1.2"), "3.13.5", "has the C library musl 1.2, and base run has glibc 2.41"),
    (("glibc", "2.41"), "3.12.1", "build.base dev has Python 3.12.1, and base run has 3.13.5: choose two images"),
])  # fmt: skip
def test_builder_must_be_compatible_with_base(libc: tuple[str, str], python: str, message: str, tmp_path: Path) -> None:
    base = base_of(registry_plan("run"), python_image(), context(tmp_path))
    base = dataclasses.replace(base, libc=("glibc", "2.41"))
    interpreter = Interpreter("/usr/bin/python3", python)
    builder = dataclasses.replace(base, name="dev", libc=libc, interpreter=interpreter)
    with pytest.raises(BaseImageError, match=re.escape(message)) if message else contextlib.nullcontext():
        check_builder(builder, base)


def test_missing_builder_error_names_the_option(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        publish(registry, python_image())
        base = registry_plan(f"{registry.host}/python:3.13")
        plan = dataclasses.replace(base, builder=BasePlan("oci", "oci:dev", str(tmp_path / "dev")))
        with pytest.raises(BaseImageError, match=r"hatch-docker\.build\.base: base oci:dev: .* does not exist"):
            open_base(plan, AMD64, context(tmp_path / "cache"), compression=GZIP)


def test_base_tree_has_files_of_all_layers(tmp_path: Path) -> None:
    """The tree is made once for the same layers, whatever the name of the base is."""
    ctx = context(tmp_path)
    base = base_of(registry_plan("a"), python_image(), ctx)
    tree = base_tree(base, ctx)
    assert (tree / "usr/local/bin/python3").readlink() == Path("python3.13")
    assert (tree / "lib/libc.so.6").is_file()
    assert ctx.store.is_intact(tree)
    assert base_tree(base_of(registry_plan("b"), python_image(), ctx), ctx) == tree


def test_compiler_is_host_image_of_same_index(tmp_path: Path) -> None:
    """The tag may have moved to another index since."""
    host = host_platform()
    if host not in (AMD64, ARM64):
        pytest.skip("the images are for amd64 and arm64")
    foreign = ARM64 if host == AMD64 else AMD64
    ctx = context(tmp_path)
    with FakeRegistry() as registry:
        publish(registry, BOTH)
        base = pull(f"{registry.host}/python:3.13", ctx, foreign)
        publish(registry, small_index(python_image("amd64", "3.12.9"), python_image("arm64", "3.12.9")))
        found = compiler_tree(base, ctx, compression=GZIP)
        own = pull(f"{registry.host}/python@{BOTH.digest}", ctx, host)
    assert found == (base_tree(own, ctx), own.interpreter)
    assert compiler_tree(own, ctx, compression=GZIP) == found


def test_missing_compiler_is_a_warning(tmp_path: Path) -> None:
    """Without an image for this machine there is no .pyc."""
    host = host_platform()
    foreign = "arm64" if host == AMD64 else "amd64"
    lines: list[str] = []
    ctx = context(tmp_path, lines)
    with FakeRegistry() as registry:
        publish(registry, python_image(foreign))
        base = pull(f"{registry.host}/python:3.13", ctx, Platform("linux", foreign))
        assert compiler_tree(base, ctx, compression=GZIP) is None
    assert [line for line in lines if line.startswith(f"warning: no .pyc for linux/{foreign}")]


def test_real_path_follows_links_of_base() -> None:
    """An entry lib/x in a layer would replace the link of the merged /usr with a directory."""
    links = {"lib": "usr/lib", "usr/lib/one": "../share/one", "abs": "/usr/lib", "a": "b", "b": "a", "up": "../../x"}
    assert real_path(links, "lib/x") == "usr/lib/x"
    assert real_path(links, "lib/one/x") == "usr/share/one/x"
    assert real_path(links, "abs/one") == "usr/share/one"
    assert real_path(links, "up/y") == "x/y"
    assert real_path(links, "srv/app") == "srv/app"
    with pytest.raises(BaseImageError, match="loop"):
        real_path(links, "a/x")


def test_layers_are_downloaded_once_and_verified(tmp_path: Path) -> None:
    """A blob with a wrong digest is fetched again once, then rejected, and never stored."""
    with FakeRegistry() as registry:
        publish(registry, BOTH)
        layer = BOTH.images[0].layers[0].descriptor.digest
        registry.fault("GET", f"/blobs/{layer}", "flip", times=99)
        ctx = context(tmp_path)
        with pytest.raises(HatchDockerError, match=layer):
            pull(f"{registry.host}/python:3.13", ctx)
        assert not ctx.store.has(layer)
        registry.faults.clear()
        registry.requests.clear()
        base = pull(f"{registry.host}/python:3.13", ctx)
        assert registry.count("GET", f"/blobs/{layer}") == 1
        with base.image.layers[0].open() as stream:
            assert "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest() == layer


def test_base_made_by_this_command_is_not_cached(tmp_path: Path) -> None:
    """With --no-cache the base was made before, to read the metadata."""
    plan, ctx = BasePlan("debian", "debian:trixie", "trixie"), dataclasses.replace(context(tmp_path), lazy=True)
    ctx.store.remember(SNAPSHOT, snapshot_key("trixie", "amd64"), {"time": time.time()})
    base = base_of(registry_plan("python:3.13"), python_image(), ctx)
    remember_base(dataclasses.replace(base, plan=plan), GZIP, ctx)
    for environ in ({}, {"HATCH_DOCKER_NO_CACHE": "1"}):
        opened = open_base(plan, AMD64, dataclasses.replace(ctx, environ=environ), compression=GZIP)
        assert opened.cached is not bool(environ)
