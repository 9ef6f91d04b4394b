"""The size budget of an image: `max-size` and `max-growth`, compared with the previous push."""

import hashlib
from dataclasses import replace

import pytest

from hatch_docker.build.checks.budget import check_budget
from hatch_docker.config.load import load_config
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, ConfigError, RegistryError, TransientError
from hatch_docker.engines.common import finish
from hatch_docker.engines.model import BuiltImage, Inputs, LayerInfo, WheelInfo
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.model import Layer
from hatch_docker.plan.model import BasePlan, BudgetPlan, Plan
from hatch_docker.wheels.target import target_of
from tests.fakes.bases import open_registry_base, publish, python_base
from tests.fakes.images import layer_of
from tests.fakes.plans import plan as plan_of
from tests.fakes.plans import project_with_wheel
from tests.fakes.registry import FakeRegistry


@pytest.mark.parametrize(("text", "size"), [
    ("50MB", 50_000_000), ("1.5GiB", 3 << 29), ("12kB", 12_000), ("7B", 7), ("0.5KiB", 512),
    ("18.93 MB", 18_930_000),  # the format of a build's output
])  # fmt: skip
def test_sizes_with_units_are_parsed(text: str, size: int) -> None:
    assert load_config({"max-size": text}, {}, None).max_size == size
    growth = plan_of({"max-growth": text, "image": "registry.example/x"}).budget
    assert growth == BudgetPlan(None, size, None)


@pytest.mark.parametrize("text", ["50", "50mb", "-1MB", "5  MB", " 5MB", "a", ""])
def test_invalid_size_is_rejected(text: str) -> None:
    for option in ("max-size", "max-growth"):
        with pytest.raises(ConfigError, match=r"must be a (size|percentage)"):
            load_config({option: text}, {}, None)


def test_plan_has_budget_of_options() -> None:
    """A share needs a registry with a previous image."""
    assert plan_of().budget is None
    for text in ("5%", "5 %"):
        table = {"max-growth": text, "max-size": "1MB", "image": "registry.example/x"}
        assert plan_of(table).budget == BudgetPlan(1_000_000, None, 0.05)
    with pytest.raises(ConfigError, match="compares with the last pushed image"):
        plan_of({"max-growth": "5%"})


def layer_of_size(name: str, size: int) -> Layer:
    """Return a layer of about `size` bytes, which do not compress."""
    data = b"".join(hashlib.sha256(f"{name}{number}".encode()).digest() for number in range(size // 32))
    return layer_of([Entry(name, "file", 0o644, 0, size=len(data), content=data)])


def image_with(plan: Plan, ctx: Context, *layers: tuple[Layer, str, tuple[str, ...]]) -> BuiltImage:
    base = open_registry_base(plan.base.name, ctx)
    notes = [(layer, LayerInfo(kind, contents, cached=False)) for layer, kind, contents in layers]
    return finish(Inputs(plan, project_with_wheel(), base, target_of(base), ctx), (), notes, [WheelInfo("x", "y")])


def project_layer(size: int = 3200) -> tuple[Layer, str, tuple[str, ...]]:
    return layer_of_size("opt/x", size), "project", ("my_app 1.2.3",)


def wheel(name: str, version: str, size: int) -> tuple[Layer, str, tuple[str, ...]]:
    return layer_of_size(f"opt/{name}", size), "dependencies", (f"{name} {version}",)


def plan_with_base(registry: FakeRegistry, **table: object) -> Plan:
    """Return a plan whose base is in the registry."""
    publish(registry, python_base())
    plan = plan_of({"image": f"{registry.host}/app", "registries": [f"{registry.host}/python"], **table})
    return replace(plan, base=BasePlan("registry", f"{registry.host}/python:3.13", f"{registry.host}/python:3.13"))


def test_error_of_max_size_lists_largest_layers_first(registry: FakeRegistry, ctx: Context) -> None:
    plan = plan_with_base(registry, **{"max-size": "50kB"})
    check_budget(plan, [image_with(plan, ctx, project_layer())], ctx)
    big = image_with(plan, ctx, wheel("numpy", "2.4.0", 64_000), wheel("idna", "3", 640), project_layer())
    with pytest.raises(BuildError) as caught:
        check_budget(plan, [big], ctx)
    first, second, *_ = str(caught.value).splitlines()
    assert first.startswith("the image for linux/amd64 takes ")
    assert "tool.hatch-docker.max-size is 50.00 kB" in first
    assert second.endswith("numpy 2.4.0")


def test_error_of_max_growth_lists_new_and_grown_wheels(registry: FakeRegistry, ctx: Context) -> None:
    """The previous image is the one with the last existing tag; its layers are not downloaded."""
    plan = plan_with_base(registry, tags=["{version}", "latest"], **{"max-growth": "10kB"})
    before = image_with(plan, ctx, wheel("numpy", "2.3.0", 32_000), wheel("gone", "1", 9600), project_layer())
    check_budget(plan, [before], ctx)  # there is no previous image
    publish(registry, before.image, "latest")
    check_budget(plan, [image_with(plan, ctx, wheel("numpy", "2.3.0", 32_000), project_layer(9600))], ctx)
    after = image_with(plan, ctx, wheel("numpy", "2.4.0", 48_000), wheel("pandas", "3", 64_000), project_layer())
    with pytest.raises(BuildError) as caught:
        check_budget(plan, [after], ctx)
    check_budget(replace(plan, budget=BudgetPlan(share=30.0)), [after], ctx)
    with pytest.raises(BuildError, match=r"max-growth is 5%"):
        check_budget(replace(plan, budget=BudgetPlan(share=0.05)), [after], ctx)
    lines = str(caught.value).splitlines()
    assert f"since {registry.host}/python:latest, and tool.hatch-docker.max-growth is 10.00 kB" in lines[0]
    assert lines[1].endswith("pandas is new")
    assert lines[2].endswith("numpy: numpy 2.4.0")
    assert lines[2].lstrip().startswith("+16.0")
    assert len(lines) == 3
    fetched = {request.path.rpartition("/")[2] for request in registry.requests if "/blobs/" in request.path}
    assert not fetched & {layer.descriptor.digest for layer in before.image.layers[2:]}  # no layer above the base


@pytest.mark.parametrize(("status", "expected"), [(503, TransientError), (403, RegistryError)])
def test_registry_failure_in_growth_check_stops_push(
    status: int, expected: type[Exception], registry: FakeRegistry, ctx: Context, lines: list[str]
) -> None:
    """If the registry is down, a build without push only warns, so that it works offline. A 403 is always an error."""
    plan = plan_with_base(registry, **{"max-growth": "5%"})
    image = image_with(plan, ctx, project_layer())
    for method in ("GET", "HEAD"):
        registry.fault(method, "/manifests/", status, times=99)
    slow = replace(ctx, connect=lambda: replace(ctx.client, policy=replace(ctx.client.policy, tries=1)))
    if status == 503:
        check_budget(plan, [image], slow)
        assert any("the growth of the image is unknown" in line for line in lines)
        plan = replace(plan, push=True)
    with pytest.raises(expected):
        check_budget(plan, [image], slow)
