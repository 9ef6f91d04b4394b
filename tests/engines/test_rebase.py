"""The same wheels on a newer base: what a build would give, without one; refused where Python or glibc do not fit."""

import dataclasses
import io
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.bases.model import Base
from hatch_docker.build.existing import ExistingImage, open_existing
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, ImageError, RegistryError
from hatch_docker.engines.common import finish
from hatch_docker.engines.model import LayerInfo, WheelInfo
from hatch_docker.engines.rebase import rebase
from hatch_docker.oci.archive import write_archive
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.model import Image, Index, Layer, Platform, canonical_json
from hatch_docker.oci.mutate import make_index
from hatch_docker.oci.validate import validate
from hatch_docker.plan.model import BasePlan, Plan
from tests.fakes.bases import file, opened, publish, python_base
from tests.fakes.context import context
from tests.fakes.debian_archive import FakeArchive
from tests.fakes.images import layer_of
from tests.fakes.plans import given_project
from tests.fakes.plans import plan as plan_of
from tests.fakes.registry import FakeRegistry

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
GZIP = Compression()


def a_plan(base: str, **table: Any) -> Plan:
    made = plan_of({"labels": {"team": "x"}, "env": {"MODE": "1"}, "ports": [80], **table})
    return replace(made, base=BasePlan("registry", base, base))


def built(plan: Plan, base: Base, ctx: Context, *layers: Layer) -> Image:
    """What a build on a base gives; without other layers, one of a wheel."""
    notes = [(layer, LayerInfo("dependencies", ("numpy 2.4.0",), cached=False)) for layer in layers]
    own = layer_of([file("opt/venv/x.py", "x")])
    made = [*notes, (own, LayerInfo("project", ("my_app 1.2.3",), cached=False))]
    return finish(plan, base, (), made, [WheelInfo("x", "y")], given_project(), GZIP, ctx).image


WHEEL = layer_of([file("opt/venv/numpy.py", "numpy")])


def test_it_is_what_a_build_on_the_new_base_gives(tmp_path: Path) -> None:
    """Layers byte for byte, the new base's variables, our settings: the digest of a build, though nothing is built."""
    with FakeRegistry() as registry:
        name = f"{registry.host}/python:3.13"
        plan, ctx = a_plan(name), context(tmp_path)
        publish(registry, python_base())
        old = built(plan, opened(name, ctx), ctx, WHEEL)
        publish(registry, python_base(path="/new/bin:/usr/bin", extra="fix", Labels={"of": "base"}, User="77"))
        (one,) = rebase(old)(plan, given_project(), ctx)
        assert one.image.digest == built(plan, opened(name, ctx), ctx, WHEEL).digest
        validate(one.image)
    assert one.image.digest != old.digest
    assert [layer.diff_id for layer in one.image.layers[-2:]] == [layer.diff_id for layer in old.layers[-2:]]
    assert [(note.kind, note.contents) for note in one.notes[-2:]] == [
        ("dependencies", ("numpy 2.4.0",)), ("project", ("my_app 1.2.3",)),
    ]  # fmt: skip
    assert all(layer.unpacked_size for layer in one.image.layers)


def test_settings_of_the_base_follow_and_ours_stay(tmp_path: Path) -> None:
    """PATH, PYTHON_VERSION, a command nobody set: the new base's; a value that the user set over the base's: ours."""
    with FakeRegistry() as registry:
        name = f"{registry.host}/python:3.13"
        plan, ctx = a_plan(name, entrypoint=[], cmd=["serve"]), context(tmp_path)
        plan = replace(plan, config=replace(plan.config, cmd=(), env={"MODE": "1", "PYTHON_VERSION": "mine"}))
        publish(registry, python_base(Entrypoint=["old"], StopSignal="SIGINT", WorkingDir="/old"))
        old = built(plan, opened(name, ctx), ctx)
        publish(registry, python_base("3.13.6", Entrypoint=["new"], StopSignal="SIGQUIT", WorkingDir="/new"))
        (one,) = rebase(old)(plan, given_project(), ctx)
        assert one.image.digest == built(plan, opened(name, ctx), ctx).digest
    config = one.image.config_json["config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["new"], ["python3"])
    assert (config["StopSignal"], config["WorkingDir"]) == ("SIGQUIT", "/new")
    assert "PYTHON_VERSION=mine" in config["Env"]


@pytest.mark.parametrize(("changed", "says"), [
    ({"version": "3.14.0"}, r"Python 3\.13\.5 .*of .*python:3\.13, and base .*has Python 3\.14\.0"),
    ({"prefix": "opt/python"}, r"/usr/local/bin/python3\.13.*opt/python/bin/python3\.13"),
    ({"glibc": "2.36"}, r"glibc 2\.41 of .*, and base .* has glibc 2\.36"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_both_sides(changed: dict[str, str], says: str, tmp_path: Path) -> None:
    """Another minor version, another place of the interpreter, an older glibc."""
    with FakeRegistry() as registry:
        name = f"{registry.host}/python:3.13"
        plan, ctx = a_plan(name), context(tmp_path)
        publish(registry, python_base())
        old = built(plan, opened(name, ctx), ctx)
        path = "/opt/python/bin:/usr/bin" if "prefix" in changed else "/usr/local/bin:/usr/bin"
        publish(registry, python_base(path=path, **changed))
        with pytest.raises(BaseImageError, match=says) as caught:
            rebase(old)(plan, given_project(), ctx)
    assert str(caught.value).endswith("build again")


def test_a_newer_glibc_and_patch_release_fit(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        name = f"{registry.host}/python:3.13"
        plan, ctx = a_plan(name), context(tmp_path)
        publish(registry, python_base())
        old = built(plan, opened(name, ctx), ctx)
        publish(registry, python_base("3.13.9", glibc="2.43"))
        (one,) = rebase(old)(plan, given_project(), ctx)
    assert one.base.interpreter.version == "3.13.9"
    labels = one.image.config_json["config"]["Labels"]
    assert labels["org.opencontainers.image.base.digest"] == one.base.digest
    assert labels["team"] == "x"


def test_every_platform_of_an_index(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        name = f"{registry.host}/python:3.13"
        plan, ctx = a_plan(name), context(tmp_path)
        for extra in ("", "fix"):
            bases = [python_base(architecture=one, extra=extra) for one in ("amd64", "arm64")]
            publish(registry, make_index(bases, {}))
            if not extra:
                old = make_index([built(plan, opened(name, ctx, one), ctx) for one in (AMD64, ARM64)], {})
        both = rebase(old)(plan, given_project(), ctx)
    assert [one.image.platform for one in both] == [AMD64, ARM64]
    assert len({one.base.digest for one in both}) == 1


def test_what_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    with pytest.raises(ImageError, match="was not made by hatch-docker"):
        rebase(python_base())(a_plan("x"), given_project(), ctx)


def test_an_old_base_that_is_gone_or_another_is_told(tmp_path: Path) -> None:
    """Without its settings nobody can tell what the image had from it."""
    with FakeRegistry() as registry:
        name = f"{registry.host}/python:3.13"
        plan, ctx = a_plan(name), context(tmp_path / "one")
        publish(registry, python_base())
        old = built(plan, opened(name, ctx), ctx)
        other = opened(name, ctx)
        false = built(plan, dataclasses.replace(other, image=python_base(extra="other")), ctx)
        with pytest.raises(ImageError, match="its layers are not that base's"):
            rebase(false)(plan, given_project(), ctx)
    with FakeRegistry() as empty:
        text = old.config.decode().replace(registry.host, empty.host)
        gone = replace(old, config=text.encode())
        with pytest.raises(RegistryError, match=r"the old base cannot be read.*build again"):
            rebase(gone)(plan, given_project(), context(tmp_path / "two"))


def test_a_debian_base_follows_its_packages(tmp_path: Path) -> None:
    """A fix in Debian: the base's layers are made of it, the layer of the wheel is the same."""
    fake = FakeArchive(tmp_path / "mirror").python().write()
    ctx = context(tmp_path / "cache", HATCH_DOCKER_REFRESH="1")
    from hatch_docker.bases.debian import base as debian

    plan = replace(a_plan("x"), base=BasePlan("debian", "debian:trixie", "trixie", mirror=fake.url))

    def base() -> Base:
        return debian.make_debian_base(plan.base, AMD64, ctx, compression=GZIP, keyring=fake.keyring)

    old = built(plan, base(), ctx, WHEEL)
    fake.add("tzdata", "2026a", {"usr/share/zoneinfo/Etc/UTC": b"TZif2"})
    fake.write()
    new = base()
    assert new.digest != base_digest(old)
    assert old.layers[0].diff_id != new.image.layers[0].diff_id
    from hatch_docker.engines.rebase import old_base

    found = old_base(old, ctx)
    assert (found.name, found.layers) == ("debian:trixie", 1)
    assert found.config["config"] == base().image.config_json["config"]


def base_digest(image: Image) -> str:
    return str(image.config_json["config"]["Labels"]["org.opencontainers.image.base.digest"])


def test_an_image_is_found_in_an_archive_or_a_registry(tmp_path: Path) -> None:
    """Its names, its version and its commit make the plan; what is no image is told as what it might have been."""
    with FakeRegistry() as registry:
        name = f"{registry.host}/python:3.13"
        plan, ctx = a_plan(name), context(tmp_path)
        publish(registry, python_base())
        image = built(plan, opened(name, ctx), ctx)
        path = tmp_path / "x.oci.tar"
        with path.open("wb") as out:
            write_archive(image, ["app:1", "app:latest"], out, host=AMD64)
        found = open_existing(str(path), ctx)
        assert (found.item.digest, found.image, found.tags) == (image.digest, "app", ("1", "latest"))
        mine = found.plan(replace(plan, version="9", tags=("9",), platforms=("linux/arm64",)))
        assert (mine.version, mine.tags, mine.platforms) == ("1.2.3", ("1", "latest"), ("linux/amd64",))
        assert mine.revision == "0123456789abcdef"
        publish(registry, image, "mine")
        pulled = open_existing(f"{registry.host}/python:mine", ctx)
        assert (pulled.item.digest, pulled.repository) == (image.digest, f"{registry.host}/python")
        assert pulled.plan(plan).repositories == (f"{registry.host}/python",)
    for wrong in ("dist/none.oci.tar", "./none", "No Such"):
        with pytest.raises(Exception, match="archive"):
            open_existing(wrong, ctx)


@pytest.mark.parametrize("version", ["../../../evil", "/evil", "1/2", "", ".", "1\0", "1" * 300])
def test_a_label_names_no_file_elsewhere(version: str, tmp_path: Path) -> None:
    """Archive and receipt are named after the version, and a label may say anything."""
    image = python_base(Labels={"org.opencontainers.image.version": version})
    assert ExistingImage(image).plan(plan_of({})).version == "1.2.3"
    good = python_base(Labels={"org.opencontainers.image.version": "2!1.0rc1.post2+local.7"})
    assert ExistingImage(good).plan(plan_of({})).version == "2!1.0rc1.post2+local.7"


@pytest.mark.parametrize("created", [None, "yesterday", 7])
def test_an_image_of_no_time_is_told(created: object, tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        name = f"{registry.host}/python:3.13"
        plan, ctx = a_plan(name), context(tmp_path)
        publish(registry, python_base())
        image = built(plan, opened(name, ctx), ctx)
        config = canonical_json({**image.config_json, "created": created})
        with pytest.raises(ImageError, match="has an invalid creation time"):
            rebase(replace(image, config=config))(plan, given_project(), ctx)


def test_a_layer_that_is_not_what_it_says_is_refused(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        name = f"{registry.host}/python:3.13"
        plan, ctx = a_plan(name), context(tmp_path)
        publish(registry, python_base())
        old = built(plan, opened(name, ctx), ctx)
        broken = replace(old.layers[-1], open=partial(io.BytesIO, b"other bytes"))
        with pytest.raises(ImageError, match="damaged"):
            rebase(replace(old, layers=(*old.layers[:-1], broken)))(plan, given_project(), ctx)
    assert not isinstance(old, Index)
