"""Hints about large images and likely mistakes. They are cached, and never an error."""

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
from tests.fakes.library_images import built_image, plan, record, unreadable
from tests.fakes.receipts import RECEIPT
from tests.fakes.sbom_images import SITE

BIG = bytes(1_500_000)


def bundled(path: str, size: int = len(BIG)) -> Entry:
    return file(f"{SITE}/{path}", make_elf(rest=bytes(size)), 0o755)


def pin(name: str) -> Pin:
    return Pin(name, "1", f"{name}-1-py3-none-any.whl", "", "0" * 64, None, None)


def with_gpu_packages(ctx: Context, title: str, *pins: str, env: dict[str, str] | None = None) -> BuiltImage:
    """Return an image with one package, `title`, in the layer of dependencies."""
    image = built_image(ctx, [file(f"{SITE}/x.bin", BIG)], env=env, pins=tuple(map(pin, pins)))
    *below, _, own = image.notes
    return replace(image, notes=(*below, LayerInfo("dependencies", (title,), True), own))


def test_library_in_two_wheels_is_hinted_with_sizes(ctx: Context) -> None:
    """auditwheel's hashes in file names are ignored, and so is the suffix 64_ of OpenBLAS."""
    wheels = [
        *record("numpy", "2.5", bundled("numpy.libs/libscipy_openblas64_-8fb3d286.so")),
        *record("scipy", "1.17", bundled("scipy.libs/libscipy_openblas-c128ec02.so", 3_000_000),
                bundled("scipy.libs/libonly-0352e75f.so.5.0.0"), bundled("scipy.libs/libsmall-0352e75f.so", 10)),
        *record("other", "1", bundled("other.libs/libsmall-040039e1-0352e75f.so.1", 10)),
    ]  # fmt: skip
    (line,) = find_hints(plan(), [built_image(ctx, wheels)], ctx)
    assert line.startswith("libscipy_openblas is in the image 2 times: numpy 2.5 (1.50 MB), scipy 1.17 (3.00 MB). ")
    assert find_hints(plan("off"), [built_image(ctx, wheels)], ctx) == ()


def test_layers_of_an_unchanged_image_are_not_read_again(ctx: Context) -> None:
    wheels = record("a", "1", bundled("a.libs/libx.so")) + record("b", "1", bundled("b.libs/libx.so"))
    image = built_image(ctx, wheels)
    lines = find_hints(plan(), [image, image], ctx)
    assert len(lines) == 1
    assert find_hints(plan(), [unreadable(image)], ctx) == lines


@pytest.mark.parametrize(("title", "pins", "advice"), [
    ("nvidia-cublas-cu12 12.8.4.1", ("torch",), "torch's CPU wheel from PyTorch's index"),
    ("torch 2.9.0+cu128", ("torch",), "torch's CPU wheel from PyTorch's index"),
    ("triton 3.5.0", ("triton",), "CPU wheels of the packages that require them"),
])  # fmt: skip
def test_gpu_packages_are_hinted_with_advice(title: str, pins: tuple[str, ...], advice: str, ctx: Context) -> None:
    (line,) = find_hints(plan(), [with_gpu_packages(ctx, title, *pins)], ctx)
    assert line.startswith("1.50 MB are for GPUs: 1 package is CUDA's")
    assert title in line
    assert advice in line


@pytest.mark.parametrize(("title", "env"), [
    ("torch 2.9.0+cpu", {}), ("torch 2.9.0", {}), ("numpy 2.5.5", {}), ("tritonclient 1", {}),
    ("nvidia-cublas-cu12 12.8.4.1", {"NVIDIA_VISIBLE_DEVICES": "all"}),  # an image for GPUs
])  # fmt: skip
def test_cpu_packages_and_gpu_images_get_no_hint(title: str, env: dict[str, str], ctx: Context) -> None:
    assert find_hints(plan(), [with_gpu_packages(ctx, title, env=env)], ctx) == ()


@pytest.mark.parametrize(("files", "expected"), [
    (["lib/python3.13/site-packages/a-1.dist-info/METADATA", "bin/a"], True),
    (["lib/python3.13/site-packages/a-1.dist-info/METADATA", "lib/python3.13/site-packages/a.py"], False),
    ([], False),
])  # fmt: skip
def test_wheel_without_module_is_hinted(files: list[str], expected: bool, ctx: Context) -> None:
    """Build backends silently leave out code that they do not find. Without a cached file list there is no hint."""
    image = replace(built_image(ctx, []), wheel=WheelInfo("a-1-py3-none-any.whl", "0" * 64))
    venv = VenvTarget(image.base.interpreter)
    if files:
        remember_files(venv, f"sha256:{'0' * 64}", {f"{venv.root}/{name}": "0" for name in files}, ctx)
    found = find_hints(plan(), [image], ctx)
    assert [line.partition(":")[0] for line in found] == ["a-1-py3-none-any.whl contains no module"] * expected


@pytest.mark.parametrize(("entrypoint", "pins", "expected"), [
    (("gunicorn", "a.wsgi"), ("django",), True), (("/opt/venv/bin/uvicorn", "a.asgi"), ("django",), True),
    (("gunicorn", "a.wsgi"), ("django", "whitenoise"), False), (("python", "-m", "a"), ("django",), False),
    (("gunicorn", "a:app"), ("flask",), False), ((), ("django",), False),
])  # fmt: skip
def test_static_files_without_a_server_are_hinted(
    entrypoint: tuple[str, ...], pins: tuple[str, ...], expected: bool, ctx: Context
) -> None:
    image = replace(built_image(ctx, [], pins=tuple(map(pin, pins))), wheel=WheelInfo("a-1-py3-none-any.whl", "0" * 64))
    venv = VenvTarget(image.base.interpreter)
    files = {f"{venv.site_packages}/{name}": "0" for name in ("a/wsgi.py", "a/static.py", "a/static/b/c.css")}
    remember_files(venv, f"sha256:{'0' * 64}", files, ctx)
    found = find_hints(plan(config=replace(plan().config, entrypoint=entrypoint)), [image], ctx)
    assert [line.partition(":")[0].partition(" does")[2] for line in found] == [
        " not serve Django's static files, such as a/static/b/c.css"
    ] * expected


def test_module_with_syntax_of_another_python_is_hinted(ctx: Context) -> None:
    """Such a module has no .pyc. Tests have none either, and modules of dependencies may be templates: no hint."""
    image = replace(built_image(ctx, []), wheel=WheelInfo("a-1-py3-none-any.whl", "0" * 64))
    venv = VenvTarget(image.base.interpreter)
    entries = [file(f"{venv.site_packages}/{name}", b"") for name in ("a/b.py", "a/c.py", "a/tests/d.py")]
    compiled = {bytecode_path(f"{venv.site_packages}/a/c.py", image.base.interpreter)}
    note_uncompiled(venv, f"sha256:{'1' * 64}", entries, compiled, ctx)
    assert find_hints(plan(), [image], ctx) == ()
    note_uncompiled(venv, f"sha256:{'0' * 64}", entries, compiled, ctx)
    (line,) = find_hints(plan(), [image], ctx)
    assert line.endswith(" does not accept a/b.py: an import fails with a SyntaxError")


def test_closing_lines_start_with_hints(ctx: Context) -> None:
    receipt = replace(RECEIPT, hints=("libx is there 2 times",))
    lines = list(closing_lines(None, receipt, plan(), Path("x"), "", ctx))
    assert lines[0] == "hint: libx is there 2 times"
