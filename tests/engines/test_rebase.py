"""The same wheels on a newer base: what a build would give, without one; refused where Python or glibc do not fit."""

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


def a_plan(base: str, **table: Any) -> Plan:
    made = plan_of({"labels": {"team": "x"}, "env": {"MODE": "1"}, "ports": [80], **table})
    return replace(made, base=BasePlan("registry", base, base))


def built(plan: Plan, base: Base, ctx: Context, *layers: Layer) -> Image:
    """Return the image of a build on a base; without other layers, one of a wheel."""
    notes = [(layer, LayerInfo("dependencies", ("numpy 2.4.0",), cached=False)) for layer in layers]
    own = layer_of([file("opt/venv/x.py", "x")])
    made = [*notes, (own, LayerInfo("project", ("my_app 1.2.3",), cached=False))]
    return finish(Inputs(plan, project_with_wheel(), base, target_of(base), ctx), (), made, [WheelInfo("x", "y")]).image


WHEEL = layer_of([file("opt/venv/numpy.py", "numpy")])


@dataclass
class Based:
    """A plan on a base that is in a registry under a tag, which moves."""

    registry: FakeRegistry
    ctx: Context
    plan: Plan

    @property
    def base(self) -> Base:
        return open_registry_base(self.plan.base.name, self.ctx)

    def built(self, *layers: Layer) -> Image:
        return built(self.plan, self.base, self.ctx, *layers)

    def rebased(self, old: Image | Index, newer: Image | Index | None = None) -> list[BuiltImage]:
        """Publish a newer base; return the image on it."""
        if newer is not None:
            publish(self.registry, newer)
        return list(rebase(old)(self.plan, project_with_wheel(), self.ctx))


@pytest.fixture
def based(registry: FakeRegistry, ctx: Context) -> Based:
    publish(registry, python_base())
    return Based(registry, ctx, a_plan(f"{registry.host}/python:3.13"))


def test_it_is_what_a_build_on_the_new_base_gives(based: Based) -> None:
    """Layers byte for byte, the new base's variables, our settings: the digest of a build, though nothing is built."""
    old = based.built(WHEEL)
    newer = python_base(path="/new/bin:/usr/bin", extra="fix", Labels={"of": "base"}, User="77")
    (made,) = based.rebased(old, newer)
    assert made.image.digest == based.built(WHEEL).digest != old.digest
    validate(made.image)
    assert [layer.diff_id for layer in made.image.layers[-2:]] == [layer.diff_id for layer in old.layers[-2:]]
    assert [(note.kind, note.contents) for note in made.notes[-2:]] == [
        ("dependencies", ("numpy 2.4.0",)), ("project", ("my_app 1.2.3",)),
    ]  # fmt: skip
    assert all(layer.unpacked_size for layer in made.image.layers)


def test_settings_of_the_base_follow_and_ours_stay(based: Based) -> None:
    """PATH, PYTHON_VERSION, a command nobody set: the new base's; a value that the user set over the base's: ours."""
    plan = a_plan(based.plan.base.name, entrypoint=[], cmd=["serve"])
    based.plan = replace(plan, config=replace(plan.config, cmd=(), env={"MODE": "1", "PYTHON_VERSION": "mine"}))
    publish(based.registry, python_base(Entrypoint=["old"], StopSignal="SIGINT", WorkingDir="/old"))
    newer = python_base("3.13.6", Entrypoint=["new"], StopSignal="SIGQUIT", WorkingDir="/new")
    (made,) = based.rebased(based.built(), newer)
    assert made.image.digest == based.built().digest
    config = made.image.config_json["config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["new"], ["python3"])
    assert (config["StopSignal"], config["WorkingDir"]) == ("SIGQUIT", "/new")
    assert "PYTHON_VERSION=mine" in config["Env"]


@pytest.mark.parametrize(("changed", "says"), [
    ({"version": "3.14.0"}, r"Python 3\.13\.5 .*of .*python:3\.13, and base .*has Python 3\.14\.0"),
    ({"prefix": "opt/python"}, r"/usr/local/bin/python3\.13.*opt/python/bin/python3\.13"),
    ({"glibc": "2.36"}, r"glibc 2\.41 of .*, and base .* has glibc 2\.36"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_both_sides(changed: dict[str, str], says: str, based: Based) -> None:
    """Another minor version, another place of the interpreter, an older glibc."""
    old = based.built()
    path = "/opt/python/bin:/usr/bin" if "prefix" in changed else "/usr/local/bin:/usr/bin"
    with pytest.raises(BaseImageError, match=says) as caught:
        based.rebased(old, python_base(path=path, **changed))
    assert str(caught.value).endswith("build again")


def test_a_newer_glibc_and_patch_release_fit(based: Based) -> None:
    (made,) = based.rebased(based.built(), python_base("3.13.9", glibc="2.43"))
    assert made.base.interpreter.version == "3.13.9"
    labels = made.image.config_json["config"]["Labels"]
    assert labels["org.opencontainers.image.base.digest"] == made.base.digest
    assert labels["team"] == "x"


def test_every_platform_of_an_index(based: Based) -> None:
    first, newer = (
        make_index([python_base(architecture=name, extra=extra) for name in ("amd64", "arm64")], {})
        for extra in ("", "fix")
    )
    publish(based.registry, first)
    bases = (open_registry_base(based.plan.base.name, based.ctx, platform) for platform in (AMD64, ARM64))
    old = make_index([built(based.plan, base, based.ctx) for base in bases], {})
    both = based.rebased(old, newer)
    assert [made.image.platform for made in both] == [AMD64, ARM64]
    assert len({made.base.digest for made in both}) == 1


def test_what_is_none_of_ours_is_refused(based: Based) -> None:
    with pytest.raises(ImageError, match="was not made by hatch-docker"):
        based.rebased(python_base())


def test_an_old_base_that_is_gone_or_another_is_told(based: Based, tmp_path: Path) -> None:
    """Without its settings nobody can tell what the image had from it."""
    old = based.built()
    false = built(based.plan, replace(based.base, image=python_base(extra="other")), based.ctx)
    with pytest.raises(ImageError, match="its layers are not those of that base"):
        based.rebased(false)
    with FakeRegistry() as empty:
        text = old.config.decode().replace(based.registry.host, empty.host)
        gone = replace(old, config=text.encode())
        with pytest.raises(RegistryError, match=r"the old base cannot be read.*build again"):
            rebase(gone)(based.plan, project_with_wheel(), context(tmp_path / "two"))


def test_a_debian_base_follows_its_packages(tmp_path: Path) -> None:
    """A fix in Debian: the base's layers are made of it, the layer of the wheel is the same."""
    fake = FakeArchive(tmp_path / "mirror").python().write()
    ctx = context(tmp_path / "cache", HATCH_DOCKER_REFRESH="1")
    plan = replace(a_plan("x"), base=BasePlan("debian", "debian:trixie", "trixie", mirror=fake.url))

    def base() -> Base:
        return make_debian_base(plan.base, AMD64, ctx, compression=GZIP, keyring=fake.keyring)

    old = built(plan, base(), ctx, WHEEL)
    fake.add("tzdata", "2026a", {"usr/share/zoneinfo/Etc/UTC": b"TZif2"})
    fake.write()
    new = base()
    assert new.digest != old.config_json["config"]["Labels"]["org.opencontainers.image.base.digest"]
    assert old.layers[0].diff_id != new.image.layers[0].diff_id
    found = old_base(old, ctx)
    assert (found.name, found.layers) == ("debian:trixie", 1)
    assert found.config["config"] == base().image.config_json["config"]


def test_an_image_is_found_in_an_archive_or_a_registry(based: Based, tmp_path: Path) -> None:
    """Its names, its version and its commit make the plan; what is no image is told as what it might have been."""
    plan, ctx, image, repository = based.plan, based.ctx, based.built(), f"{based.registry.host}/python"
    path = tmp_path / "x.oci.tar"
    with path.open("wb") as out:
        write_archive(image, ["app:1", "app:latest"], out, host=AMD64)
    found = open_existing(str(path), ctx)
    assert (found.item.digest, found.image, found.tags) == (image.digest, "app", ("1", "latest"))
    mine = found.plan(replace(plan, version="9", tags=("9",), platforms=("linux/arm64",)))
    assert (mine.version, mine.tags, mine.platforms) == ("1.2.3", ("1", "latest"), ("linux/amd64",))
    assert mine.revision == "0123456789abcdef"
    publish(based.registry, image, "mine")
    pulled = open_existing(f"{repository}:mine", ctx)
    assert (pulled.item.digest, pulled.repository) == (image.digest, repository)
    assert pulled.plan(plan).repositories == (repository,)
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
def test_an_image_of_no_time_is_told(created: object, based: Based) -> None:
    image = based.built()
    config = canonical_json({**image.config_json, "created": created})
    with pytest.raises(ImageError, match="has an invalid creation time"):
        based.rebased(replace(image, config=config))


def test_a_layer_that_is_not_what_it_says_is_refused(based: Based) -> None:
    old = based.built()
    broken = replace(old.layers[-1], open=partial(io.BytesIO, b"other bytes"))
    with pytest.raises(ImageError, match="damaged"):
        based.rebased(replace(old, layers=(*old.layers[:-1], broken)))


@pytest.mark.parametrize(("newer", "told"), [("2020-01-01T00:00:00Z", True), ("2040-01-01T00:00:00Z", False)])
def test_an_older_base_is_told(newer: str, told: bool, based: Based, lines: list[str]) -> None:
    """Its holes may have been mended in the one that the image has."""
    old, base = python_base(), python_base().config_json
    publish(based.registry, with_config(old, {**base, "created": "2030-01-01T00:00:00Z"}))
    based.rebased(based.built(WHEEL), with_config(old, {**base, "created": newer}))
    assert any("is older than the one that the image has, made 2030-01-01T00:00:00Z" in line for line in lines) is told
