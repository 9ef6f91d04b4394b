"""Images whose wheels contain shared libraries."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hatch_docker.bases.image import base_of
from hatch_docker.core.context import Context
from hatch_docker.engines.model import BuiltImage, LayerInfo
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.make_image import Settings, build_image
from hatch_docker.oci.model import History
from hatch_docker.plan.model import BasePlan, Plan
from hatch_docker.wheels.target import Pin
from tests.fakes.bases import file, python_image
from tests.fakes.elf import make_elf
from tests.fakes.images import image_of, layer_of
from tests.fakes.plans import plan as plan_of
from tests.fakes.sbom_images import SITE
from tests.validate import validate

LIB = "usr/lib/x86_64-linux-gnu"


def so(path: str, *needed: str, soname: str = "", **more: Any) -> Entry:
    """Return the entry of a shared library in site-packages."""
    return file(f"{SITE}/{path}", make_elf(soname, needed, **more), 0o755)


def record(name: str, version: str, *entries: Entry) -> list[Entry]:
    """Return the entries of a wheel, together with its RECORD."""
    rows = "".join(f"{entry.path.removeprefix(SITE + '/')},,\n" for entry in entries)
    return [*entries, file(f"{SITE}/{name}-{version}.dist-info/RECORD", rows)]


def built_image(
    ctx: Context, dependencies: Iterable[Entry], own: Iterable[Entry] = (), *, system: Iterable[Entry] = (),
    env: dict[str, str] | None = None, pins: tuple[Pin, ...] = (), libc: str = "glibc", suite: str = "",
) -> BuiltImage:
    """Return an image on a base like python:slim. The base has no known suite by default."""
    python = python_image()
    base = base_of(BasePlan("registry", "python:x", "python:x"), image_of(*python.layers, layer_of(system)), ctx)
    base = replace(base, suite=suite, libc=(libc, base.libc[1]))
    layers = [(layer_of(entries), History("test")) for entries in (dependencies, own)]
    image = build_image(base.image, layers, Settings(env=env or {}), 0, {})
    validate(image)
    notes = [LayerInfo("base", (), True)] * 3 + [LayerInfo(kind, (), False) for kind in ("dependencies", "project")]
    return BuiltImage(image, base, tuple(notes), None, pins)


def plan(value: str = "auto", **changes: Any) -> Plan:
    return replace(plan_of({"native-libraries": value}), **changes)


def unreadable(image: BuiltImage) -> BuiltImage:
    """Return the same image with layers that raise an AssertionError if they are opened."""

    def fail() -> Any:
        raise AssertionError("a layer was opened again")

    layers = tuple(replace(layer, open=fail) for layer in image.image.layers)
    return replace(image, image=replace(image.image, layers=layers))
