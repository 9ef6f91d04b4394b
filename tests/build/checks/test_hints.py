"""Hints: what makes an image large is pointed out with its size, once looked for, and never an error."""

from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.bases.bytecode import bytecode_path
from hatch_docker.build.checks.hints import find_hints
from hatch_docker.build.summary import closing_lines
from hatch_docker.core.context import Context
from hatch_docker.engines.model import BuiltImage, LayerInfo, WheelInfo
from hatch_docker.engines.wheel_layers import note_uncompiled, remember_files
from hatch_docker.oci.layer import Entry
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.target import Pin
from tests.fakes.bases import file
from tests.fakes.elf import make_elf
from tests.fakes.library_images import built, plan, record, sealed
from tests.fakes.receipts import RECEIPT
from tests.fakes.sbom_images import SITE

BIG = bytes(1_500_000)


def bundled(path: str, size: int = len(BIG)) -> Entry:
    return file(f"{SITE}/{path}", make_elf(rest=bytes(size)), 0o755)


def pin(name: str) -> Pin:
    return Pin(name, "1", f"{name}-1-py3-none-any.whl", "", "0" * 64, None, None)


def with_gpu_packages(ctx: Context, title: str, *pins: str, env: dict[str, str] | None = None) -> BuiltImage:
    """An image whose dependencies' layer is of one package."""
    one = built(ctx, [file(f"{SITE}/x.bin", BIG)], env=env, pins=tuple(map(pin, pins)))
    *below, _, own = one.notes
    return replace(one, notes=(*below, LayerInfo("dependencies", (title,), True), own))


def test_one_library_in_several_wheels_is_told_with_each_ones_size(ctx: Context) -> None:
    """By the name that auditwheel changed; the 64-bit build of OpenBLAS is OpenBLAS too."""
    wheels = [
        *record("numpy", "2.5", bundled("numpy.libs/libscipy_openblas64_-8fb3d286.so")),
        *record("scipy", "1.17", bundled("scipy.libs/libscipy_openblas-c128ec02.so", 3_000_000),
                bundled("scipy.libs/libonly-0352e75f.so.5.0.0"), bundled("scipy.libs/libsmall-0352e75f.so", 10)),
        *record("other", "1", bundled("other.libs/libsmall-040039e1-0352e75f.so.1", 10)),
    ]  # fmt: skip
    (line,) = find_hints(plan(), [built(ctx, wheels)], ctx)
    assert line.startswith("libscipy_openblas is there 2 times: numpy 2.5 (1.50 MB), scipy 1.17 (3.00 MB). ")
    assert find_hints(plan("off"), [built(ctx, wheels)], ctx) == ()


def test_an_unchanged_image_is_not_looked_at_again(ctx: Context) -> None:
    wheels = record("a", "1", bundled("a.libs/libx.so")) + record("b", "1", bundled("b.libs/libx.so"))
    one = built(ctx, wheels)
    lines = find_hints(plan(), [one, one], ctx)
    assert len(lines) == 1
    assert find_hints(plan(), [sealed(one)], ctx) == lines


@pytest.mark.parametrize(("title", "pins", "advice"), [
    ("nvidia-cublas-cu12 12.8.4.1", ("torch",), "torch's CPU wheel from PyTorch's index"),
    ("torch 2.9.0+cu128", ("torch",), "torch's CPU wheel from PyTorch's index"),
    ("triton 3.5.0", ("triton",), "CPU wheels of the packages that require them"),
])  # fmt: skip
def test_what_is_for_gpus_is_told_with_advice(title: str, pins: tuple[str, ...], advice: str, ctx: Context) -> None:
    (line,) = find_hints(plan(), [with_gpu_packages(ctx, title, *pins)], ctx)
    assert line.startswith("1.50 MB are for GPUs: 1 package is CUDA's")
    assert title in line
    assert advice in line


@pytest.mark.parametrize(("title", "env"), [
    ("torch 2.9.0+cpu", {}), ("torch 2.9.0", {}), ("numpy 2.5.5", {}), ("tritonclient 1", {}),
    ("nvidia-cublas-cu12 12.8.4.1", {"NVIDIA_VISIBLE_DEVICES": "all"}),  # the image asks for a GPU
])  # fmt: skip
def test_what_is_not_for_gpus_is_not_told(title: str, env: dict[str, str], ctx: Context) -> None:
    assert find_hints(plan(), [with_gpu_packages(ctx, title, env=env)], ctx) == ()


@pytest.mark.parametrize(("files", "expected"), [
    (["lib/python3.13/site-packages/a-1.dist-info/METADATA", "bin/a"], True),
    (["lib/python3.13/site-packages/a-1.dist-info/METADATA", "lib/python3.13/site-packages/a.py"], False),
    ([], False),
])  # fmt: skip
def test_a_wheel_without_code_is_pointed_out(files: list[str], expected: bool, ctx: Context) -> None:
    """A backend leaves out code that it does not find, silently; without facts about a wheel there is no hint."""
    one = replace(built(ctx, []), wheel=WheelInfo("a-1-py3-none-any.whl", "0" * 64))
    venv = VenvTarget(one.base.interpreter)
    if files:
        remember_files(venv, f"sha256:{'0' * 64}", {f"{venv.root}/{name}": "0" for name in files}, ctx)
    found = find_hints(plan(), [one], ctx)
    assert [line.partition(":")[0] for line in found] == ["a-1-py3-none-any.whl holds no module"] * expected


@pytest.mark.parametrize(("entrypoint", "pins", "told"), [
    (("gunicorn", "a.wsgi"), ("django",), True), (("/opt/venv/bin/uvicorn", "a.asgi"), ("django",), True),
    (("gunicorn", "a.wsgi"), ("django", "whitenoise"), False), (("python", "-m", "a"), ("django",), False),
    (("gunicorn", "a:app"), ("flask",), False), ((), ("django",), False),
])  # fmt: skip
def test_static_files_of_django_that_nobody_serves(
    entrypoint: tuple[str, ...], pins: tuple[str, ...], told: bool, ctx: Context
) -> None:
    one = replace(built(ctx, [], pins=tuple(map(pin, pins))), wheel=WheelInfo("a-1-py3-none-any.whl", "0" * 64))
    venv = VenvTarget(one.base.interpreter)
    files = {f"{venv.site_packages}/{name}": "0" for name in ("a/wsgi.py", "a/static.py", "a/static/b/c.css")}
    remember_files(venv, f"sha256:{'0' * 64}", files, ctx)
    found = find_hints(plan(config=replace(plan().config, entrypoint=entrypoint)), [one], ctx)
    assert [line.partition(":")[0].partition(" does")[2] for line in found] == [
        " not serve Django's static files, such as a/static/b/c.css"
    ] * told


def test_code_that_the_bases_python_does_not_accept_is_pointed_out(ctx: Context) -> None:
    """Modules without a .pyc; tests never have one, and a dependency's templates are nobody's mistake."""
    one = replace(built(ctx, []), wheel=WheelInfo("a-1-py3-none-any.whl", "0" * 64))
    venv = VenvTarget(one.base.interpreter)
    entries = [file(f"{venv.site_packages}/{name}", b"") for name in ("a/b.py", "a/c.py", "a/tests/d.py")]
    made = {bytecode_path(f"{venv.site_packages}/a/c.py", one.base.interpreter)}
    note_uncompiled(venv, f"sha256:{'1' * 64}", entries, made, ctx)
    assert find_hints(plan(), [one], ctx) == ()
    note_uncompiled(venv, f"sha256:{'0' * 64}", entries, made, ctx)
    (line,) = find_hints(plan(), [one], ctx)
    assert line.endswith(" does not accept a/b.py: an import fails with a SyntaxError")


def test_hints_are_in_the_last_lines(ctx: Context) -> None:
    receipt = replace(RECEIPT, hints=("libx is there 2 times",))
    lines = list(closing_lines(None, receipt, plan(), Path("x"), "", ctx))
    assert lines[0] == "hint: libx is there 2 times"
