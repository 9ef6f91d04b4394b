"""Over its budget a build ends, and says what is to blame: sizes as stored, growth against what was pushed last."""

from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.build.checks.budget import check_budget
from hatch_docker.config.load import load_config
from hatch_docker.core.errors import BuildError, ConfigError, RegistryError, TransientError
from hatch_docker.engines.common import finish
from hatch_docker.engines.model import BuiltImage, LayerInfo, WheelInfo
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.model import Layer
from hatch_docker.plan.model import BasePlan, BudgetPlan, Plan
from tests.fakes.bases import opened, publish, python_base
from tests.fakes.context import context
from tests.fakes.images import layer_of
from tests.fakes.plans import given_project
from tests.fakes.plans import plan as plan_of
from tests.fakes.registry import FakeRegistry


@pytest.mark.parametrize(("text", "size"), [
    ("50MB", 50_000_000), ("1.5GiB", 3 << 29), ("12kB", 12_000), ("7B", 7), ("0.5KiB", 512),
    ("18.93 MB", 18_930_000),  # as a build tells it
])  # fmt: skip
def test_sizes_are_read(text: str, size: int) -> None:
    assert load_config({"max-size": text}, {}, None).max_size == size
    growth = plan_of({"max-growth": text, "image": "registry.example/x"}).budget
    assert growth == BudgetPlan(None, size, None)


def test_a_share_is_read() -> None:
    for text in ("5%", "5 %"):
        assert plan_of({"max-growth": text, "image": "registry.example/x"}).budget == BudgetPlan(None, None, 0.05)


@pytest.mark.parametrize("text", ["50", "50mb", "-1MB", "5  MB", " 5MB", "a", ""])
def test_what_is_no_size(text: str) -> None:
    for option in ("max-size", "max-growth"):
        with pytest.raises(ConfigError, match="must be a s"):
            load_config({option: text}, {}, None)


def test_a_budget_is_a_plans() -> None:
    """None without options; a share needs a registry to compare with."""
    assert plan_of().budget is None
    assert plan_of({"max-growth": "5%", "max-size": "1MB", "image": "registry.example/x"}).budget == BudgetPlan(
        1_000_000, None, 0.05
    )
    with pytest.raises(ConfigError, match="names a registry"):
        plan_of({"max-growth": "5%"})


def blob(name: str, size: int) -> Layer:
    """A layer of about so many bytes, which do not compress."""
    import hashlib

    data = b"".join(hashlib.sha256(f"{name}{number}".encode()).digest() for number in range(size // 32))
    return layer_of([Entry(name, "file", 0o644, 0, size=len(data), content=data)])


def made(plan: Plan, ctx: object, *layers: tuple[Layer, str, tuple[str, ...]]) -> BuiltImage:
    base = opened(plan.base.name, ctx)  # type: ignore[arg-type]
    notes = [(layer, LayerInfo(kind, contents, cached=False)) for layer, kind, contents in layers]
    return finish(plan, base, (), notes, [WheelInfo("x", "y")], given_project(), Compression(), ctx)  # type: ignore[arg-type]


def project(size: int = 3200) -> tuple[Layer, str, tuple[str, ...]]:
    return blob("opt/x", size), "project", ("my_app 1.2.3",)


def wheel(name: str, version: str, size: int) -> tuple[Layer, str, tuple[str, ...]]:
    return blob(f"opt/{name}", size), "dependencies", (f"{name} {version}",)


def a_plan(registry: FakeRegistry, **table: object) -> Plan:
    plan = plan_of({"image": f"{registry.host}/app", "registries": [f"{registry.host}/python"], **table})
    return replace(plan, base=BasePlan("registry", f"{registry.host}/python:3.13", f"{registry.host}/python:3.13"))


def test_an_image_over_its_size_names_its_largest_layers(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        publish(registry, python_base())
        plan, ctx = a_plan(registry, **{"max-size": "50kB"}), context(tmp_path)
        check_budget(plan, [made(plan, ctx, project())], ctx)
        big = made(plan, ctx, wheel("numpy", "2.4.0", 64_000), wheel("idna", "3", 640), project())
        with pytest.raises(BuildError) as caught:
            check_budget(plan, [big], ctx)
    first, second, *_ = str(caught.value).splitlines()
    assert first.startswith("the image for linux/amd64 takes ")
    assert "tool.hatch-docker.max-size is 50.00 kB" in first
    assert second.endswith("numpy 2.4.0")


def test_growth_names_what_grew(tmp_path: Path) -> None:
    """Against the last of the tags that is there: a new wheel, a newer one, and how much each of them."""
    with FakeRegistry() as registry:
        publish(registry, python_base())
        plan, ctx = a_plan(registry, tags=["{version}", "latest"], **{"max-growth": "10kB"}), context(tmp_path)
        before = made(plan, ctx, wheel("numpy", "2.3.0", 32_000), wheel("gone", "1", 9600), project())
        check_budget(plan, [before], ctx)  # nothing is there yet
        publish(registry, before.image, "latest")
        check_budget(plan, [made(plan, ctx, wheel("numpy", "2.3.0", 32_000), project(9600))], ctx)
        after = made(plan, ctx, wheel("numpy", "2.4.0", 48_000), wheel("pandas", "3", 64_000), project())
        with pytest.raises(BuildError) as caught:
            check_budget(plan, [after], ctx)
        share = replace(plan, budget=BudgetPlan(share=30.0))
        check_budget(share, [after], ctx)
        with pytest.raises(BuildError, match=r"max-growth is 5%"):
            check_budget(replace(plan, budget=BudgetPlan(share=0.05)), [after], ctx)
    lines = str(caught.value).splitlines()
    assert f"since {registry.host}/python:latest, and tool.hatch-docker.max-growth is 10.00 kB" in lines[0]
    assert lines[1].endswith("pandas is new")
    assert lines[2].endswith("numpy: numpy 2.4.0")
    assert lines[2].lstrip().startswith("+16.0")
    assert len(lines) == 3
    fetched = {request.path.rpartition("/")[2] for request in registry.requests if "/blobs/" in request.path}
    assert not fetched & {layer.descriptor.digest for layer in before.image.layers[2:]}  # the base's are read for it


def test_a_registry_that_fails_is_told_and_stops_a_push_only(tmp_path: Path) -> None:
    """A developer on a train builds; what cannot be compared is not pushed. A refusal is an error for both."""
    lines: list[str] = []
    with FakeRegistry() as registry:
        publish(registry, python_base())
        plan, ctx = a_plan(registry, **{"max-growth": "5%"}), context(tmp_path, lines)
        image = made(plan, ctx, project())
        registry.fault("GET", "/manifests/latest", 503, times=99)
        registry.fault("HEAD", "/manifests/", 503, times=99)
        slow = replace(ctx, connect=lambda: replace(ctx.client, policy=replace(ctx.client.policy, tries=1)))
        check_budget(plan, [image], slow)
        assert any("how much the image grew is not known" in line for line in lines)
        with pytest.raises(TransientError):
            check_budget(replace(plan, push=True), [image], slow)
    with FakeRegistry() as registry:
        publish(registry, python_base())
        plan, ctx = a_plan(registry, **{"max-growth": "5%"}), context(tmp_path / "b")
        image = made(plan, ctx, project())
        registry.fault("GET", "/manifests/", 403, times=99)
        registry.fault("HEAD", "/manifests/", 403, times=99)
        with pytest.raises(RegistryError):
            check_budget(plan, [image], ctx)
