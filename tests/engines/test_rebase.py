"""Rebase: the layers of a finished image on a newer base, and errors if Python or glibc do not fit."""

import io
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.bases.debian.base import make_debian_base
from hatch_docker.bases.model import Base
from hatch_docker.build.existing import ExistingImage, open_existing
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, ImageError, RegistryError
from hatch_docker.engines.common import finish
from hatch_docker.engines.model import BuiltImage, Inputs, LayerInfo, WheelInfo
from hatch_docker.engines.rebase import old_base, rebase
from hatch_docker.oci.archive import write_archive
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.make_image import make_index
from hatch_docker.oci.model import Image, Index, Layer, Platform, canonical_json
from hatch_docker.plan.model import BasePlan, Plan
from hatch_docker.wheels.target import target_of
from tests.fakes.bases import file, open_registry_base, publish, python_base
from tests.fakes.context import context
from tests.fakes.debian_archive import FakeArchive
from tests.fakes.images import layer_of, with_config
from tests.fakes.plans import plan as plan_of
from tests.fakes.plans import project_with_wheel
from tests.fakes.registry import FakeRegistry
from tests.validate import validate

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
GZIP = Compression()


def plan_on(base: str, **table: Any) -> Plan:
    plan = plan_of({"labels": {"team": "x"}, "env": {"MODE": "1"}, "ports": [80], **table})
    return replace(plan, base=BasePlan("registry", base, base))


def build(plan: Plan, base: Base, ctx: Context, *layers: Layer) -> Image:
    """Return the image of a build on a base, with `layers` and the project's layer."""
    notes = [(layer, LayerInfo("dependencies", ("numpy 2.4.0",), cached=False)) for layer in layers]
    own = layer_of([file("opt/venv/x.py", "x")])
    above = [*notes, (own, LayerInfo("project", ("my_app 1.2.3",), cached=False))]
    inputs = Inputs(plan, project_with_wheel(), base, target_of(base), ctx)
    return finish(inputs, (), above, [WheelInfo("x", "y")]).image


WHEEL = layer_of([file("opt/venv/numpy.py", "numpy")])


@dataclass
class TaggedBase:
    """A base in a registry, under a tag that moves to a newer base, and a plan with this base."""

    registry: FakeRegistry
    ctx: Context
    plan: Plan

    @property
    def base(self) -> Base:
        return open_registry_base(self.plan.base.name, self.ctx)

    def build(self, *layers: Layer) -> Image:
        return build(self.plan, self.base, self.ctx, *layers)

    def rebase(self, old: Image | Index, newer: Image | Index | None = None) -> list[BuiltImage]:
        """Publish the newer base, if one is passed, and return the rebased images."""
        if newer is not None:
            publish(self.registry, newer)
        return list(rebase(old)(self.plan, project_with_wheel(), self.ctx))


@pytest.fixture
def based(registry: FakeRegistry, ctx: Context) -> TaggedBase:
    publish(registry, python_base())
    return TaggedBase(registry, ctx, plan_on(f"{registry.host}/python:3.13"))


def test_rebase_gives_the_digest_of_a_build_on_the_new_base(based: TaggedBase) -> None:
    old = based.build(WHEEL)
    newer = python_base(path="/new/bin:/usr/bin", extra="fix", Labels={"of": "base"}, User="77")
    (new,) = based.rebase(old, newer)
    assert new.image.digest == based.build(WHEEL).digest != old.digest
    validate(new.image)
    assert [layer.diff_id for layer in new.image.layers[-2:]] == [layer.diff_id for layer in old.layers[-2:]]
    assert [(note.kind, note.contents) for note in new.notes[-2:]] == [
        ("dependencies", ("numpy 2.4.0",)), ("project", ("my_app 1.2.3",)),
    ]  # fmt: skip
    assert all(layer.unpacked_size for layer in new.image.layers)


def test_settings_of_the_base_are_updated_and_own_ones_kept(based: TaggedBase) -> None:
    """PATH, PYTHON_VERSION and an unset command come from the new base; a value of the user is kept."""
    plan = plan_on(based.plan.base.name, entrypoint=[], cmd=["serve"])
    based.plan = replace(plan, config=replace(plan.config, cmd=(), env={"MODE": "1", "PYTHON_VERSION": "mine"}))
    publish(based.registry, python_base(Entrypoint=["old"], StopSignal="SIGINT", WorkingDir="/old"))
    newer = python_base("3.13.6", Entrypoint=["new"], StopSignal="SIGQUIT", WorkingDir="/new")
    (new,) = based.rebase(based.build(), newer)
    assert new.image.digest == based.build().digest
    config = new.image.config_json["config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["new"], ["python3"])
    assert (config["StopSignal"], config["WorkingDir"]) == ("SIGQUIT", "/new")
    assert "PYTHON_VERSION=mine" in config["Env"]


@pytest.mark.parametrize(("changed", "message"), [
    ({"version": "3.14.0"}, r"Python 3\.13\.5 .*of .*python:3\.13, and base .*has Python 3\.14\.0"),
    ({"prefix": "opt/python"}, r"/usr/local/bin/python3\.13.*opt/python/bin/python3\.13"),
    ({"glibc": "2.36"}, r"glibc 2\.41 of .*, and base .* has glibc 2\.36"),
])  # fmt: skip
def test_base_with_unfit_python_or_glibc_is_rejected(changed: dict[str, str], message: str, based: TaggedBase) -> None:
    old = based.build()
    path = "/opt/python/bin:/usr/bin" if "prefix" in changed else "/usr/local/bin:/usr/bin"
    with pytest.raises(BaseImageError, match=message) as caught:
        based.rebase(old, python_base(path=path, **changed))
    assert str(caught.value).endswith("build again")


def test_newer_glibc_and_patch_release_are_accepted(based: TaggedBase) -> None:
    (new,) = based.rebase(based.build(), python_base("3.13.9", glibc="2.43"))
    assert new.base.interpreter.version == "3.13.9"
    labels = new.image.config_json["config"]["Labels"]
    assert labels["org.opencontainers.image.base.digest"] == new.base.digest
    assert labels["team"] == "x"


def test_all_platforms_of_an_index_are_rebased(based: TaggedBase) -> None:
    first, newer = (
        make_index([python_base(architecture=name, extra=extra) for name in ("amd64", "arm64")], {})
        for extra in ("", "fix")
    )
    publish(based.registry, first)
    bases = (open_registry_base(based.plan.base.name, based.ctx, platform) for platform in (AMD64, ARM64))
    old = make_index([build(based.plan, base, based.ctx) for base in bases], {})
    both = based.rebase(old, newer)
    assert [new.image.platform for new in both] == [AMD64, ARM64]
    assert len({new.base.digest for new in both}) == 1


def test_image_of_another_tool_is_rejected(based: TaggedBase) -> None:
    with pytest.raises(ImageError, match="was not made by hatch-docker"):
        based.rebase(python_base())


def test_missing_or_wrong_old_base_is_reported(based: TaggedBase, tmp_path: Path) -> None:
    """Its settings are needed to find the settings that the image has from it."""
    old = based.build()
    wrong = build(based.plan, replace(based.base, image=python_base(extra="other")), based.ctx)
    with pytest.raises(ImageError, match="its layers are not those of that base"):
        based.rebase(wrong)
    with FakeRegistry() as empty:
        text = old.config.decode().replace(based.registry.host, empty.host)
        gone = replace(old, config=text.encode())
        with pytest.raises(RegistryError, match=r"the old base cannot be read.*build again"):
            rebase(gone)(based.plan, project_with_wheel(), context(tmp_path / "two"))


def test_debian_base_with_an_updated_package(tmp_path: Path) -> None:
    fake = FakeArchive(tmp_path / "mirror").python().write()
    ctx = context(tmp_path / "cache", HATCH_DOCKER_REFRESH="1")
    plan = replace(plan_on("x"), base=BasePlan("debian", "debian:trixie", "trixie", mirror=fake.url))

    def base() -> Base:
        return make_debian_base(plan.base, AMD64, ctx, compression=GZIP, keyring=fake.keyring)

    old = build(plan, base(), ctx, WHEEL)
    fake.add("tzdata", "2026a", {"usr/share/zoneinfo/Etc/UTC": b"TZif2"})
    fake.write()
    new = base()
    assert new.digest != old.config_json["config"]["Labels"]["org.opencontainers.image.base.digest"]
    assert old.layers[0].diff_id != new.image.layers[0].diff_id
    found = old_base(old, ctx)
    assert (found.name, found.layers) == ("debian:trixie", 1)
    assert found.config["config"] == base().image.config_json["config"]


def test_image_is_opened_from_an_archive_or_a_registry(based: TaggedBase, tmp_path: Path) -> None:
    """Its names, version and commit replace those of the plan."""
    plan, ctx, image, repository = based.plan, based.ctx, based.build(), f"{based.registry.host}/python"
    path = tmp_path / "x.oci.tar"
    with path.open("wb") as out:
        write_archive(image, ["app:1", "app:latest"], out, host=AMD64)
    found = open_existing(str(path), ctx)
    assert (found.item.digest, found.image, found.tags) == (image.digest, "app", ("1", "latest"))
    new = found.plan(replace(plan, version="9", tags=("9",), platforms=("linux/arm64",)))
    assert (new.version, new.tags, new.platforms) == ("1.2.3", ("1", "latest"), ("linux/amd64",))
    assert new.revision == "0123456789abcdef"
    publish(based.registry, image, "mine")
    pulled = open_existing(f"{repository}:mine", ctx)
    assert (pulled.item.digest, pulled.repository) == (image.digest, repository)
    assert pulled.plan(plan).repositories == (repository,)
    for wrong in ("dist/none.oci.tar", "./none", "No Such"):
        with pytest.raises(Exception, match="archive"):
            open_existing(wrong, ctx)


@pytest.mark.parametrize("version", ["../../../evil", "/evil", "1/2", "", ".", "1\0", "1" * 300])
def test_invalid_version_label_is_ignored(version: str, tmp_path: Path) -> None:
    """File names contain the version, so a label such as ../../evil must not be used."""
    image = python_base(Labels={"org.opencontainers.image.version": version})
    assert ExistingImage(image).plan(plan_of({})).version == "1.2.3"
    good = python_base(Labels={"org.opencontainers.image.version": "2!1.0rc1.post2+local.7"})
    assert ExistingImage(good).plan(plan_of({})).version == "2!1.0rc1.post2+local.7"


@pytest.mark.parametrize("created", [None, "yesterday", 7])
def test_invalid_creation_time_is_reported(created: object, based: TaggedBase) -> None:
    image = based.build()
    config = canonical_json({**image.config_json, "created": created})
    with pytest.raises(ImageError, match="has an invalid creation time"):
        based.rebase(replace(image, config=config))


def test_layer_with_a_wrong_digest_is_rejected(based: TaggedBase) -> None:
    old = based.build()
    broken = replace(old.layers[-1], open=partial(io.BytesIO, b"other bytes"))
    with pytest.raises(ImageError, match="damaged"):
        based.rebase(replace(old, layers=(*old.layers[:-1], broken)))


@pytest.mark.parametrize(("newer", "warns"), [("2020-01-01T00:00:00Z", True), ("2040-01-01T00:00:00Z", False)])
def test_older_base_gives_a_warning(newer: str, warns: bool, based: TaggedBase, lines: list[str]) -> None:
    """It may lack security fixes of the image's base."""
    old, base = python_base(), python_base().config_json
    publish(based.registry, with_config(old, {**base, "created": "2030-01-01T00:00:00Z"}))
    based.rebase(based.build(WHEEL), with_config(old, {**base, "created": newer}))
    message = "is older than the one that the image has, made 2030-01-01T00:00:00Z"
    assert any(message in line for line in lines) is warns
