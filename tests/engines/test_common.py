"""Checks of both engines: programs of commands, wheels for the target, and the number of layers."""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.bases.image import base_of
from hatch_docker.core.errors import ConfigError, WheelError
from hatch_docker.engines.common import OWN_LAYER_SIZE, check_commands, check_contents, check_pins, group_pins
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import BasePlan
from hatch_docker.wheels.target import Pin, Target
from tests.fakes.bases import debian_layer, link, python_image, python_layer
from tests.fakes.context import context
from tests.fakes.images import image_of, layer_of
from tests.fakes.package_index import make_wheel
from tests.fakes.plans import plan as plan_of

TRIXIE = Target("3.13.5", Platform("linux", "amd64"), ("glibc", "2.41"))


@pytest.mark.parametrize("word", ["", ".", "..", "lib", "x/y", "absent"])
def test_missing_program_of_the_health_check_is_reported(word: str, tmp_path: Path) -> None:
    ctx = context(tmp_path, [])
    base = base_of(BasePlan("registry", "python:x", "python:x"), python_image(), ctx)
    plan = plan_of({"entrypoint": ["serve"], "healthcheck": {"command": [word, "x"]}})
    with pytest.raises(ConfigError, match=rf"healthcheck\.command: '{word}' is not a program in the image"):
        check_commands(plan, base, frozenset({"serve"}), ctx)


@pytest.mark.parametrize(("word", "expected"), [
    ("${PORT-8000}", True), ("${PORT", True), ("${PORT:-8000", True), ("--port=${1}", True),
    ("${PORT:-8000}", False), ("${A:-${B}}", False), ("$${1}", False), ("$PORT", False),
])  # fmt: skip
def test_unsupported_variable_syntax_gives_a_warning(word: str, expected: bool, tmp_path: Path) -> None:
    ctx = context(tmp_path, [])
    base = base_of(BasePlan("registry", "python:x", "python:x"), python_image(), ctx)
    check_commands(plan_of({"entrypoint": ["python"], "cmd": [word]}), base, frozenset(), ctx)
    found = [f"hatch-docker.cmd: {word!r} is not replaced" in line for line in ctx.progress.warnings]
    assert found == ([True] if expected else [])


@pytest.mark.parametrize("target", ["/usr/local/bin/run", "/usr/local/bin", "/bin/run"])
def test_program_may_be_in_files_or_a_symlink_of_the_base(target: str, tmp_path: Path) -> None:
    """The symlink is not resolved on this machine."""
    ctx = context(tmp_path, [])
    image = image_of(debian_layer(), python_layer(), layer_of([link("usr/bin/awk", "/etc/alternatives/awk")]))
    base = base_of(BasePlan("registry", "python:x", "python:x"), image, ctx)
    plan = plan_of(
        {"files": [{"source": "a", "target": target}], "entrypoint": ["run"], "healthcheck": {"command": ["awk"]}}
    )
    check_commands(plan, base, frozenset(), ctx)


def test_dependency_that_needs_a_newer_glibc_is_rejected(tmp_path: Path) -> None:
    """The tag linux_x86_64 does not name a glibc version, so the compiled code is checked."""
    wheel, data = make_wheel(
        "heavy", "1.0", tag="cp313-cp313-linux_x86_64", files={"heavy/_c.so": b"\x7fELF\0GLIBC_2.38\0"}
    )
    path = tmp_path / wheel
    path.write_bytes(data)
    pinned = Pin("heavy", "1.0", wheel, path.as_uri(), hashlib.sha256(data).hexdigest(), None, None)
    ctx = context(tmp_path / "cache", [])
    for _ in range(2):  # an error is not cached
        with pytest.raises(WheelError, match=r"heavy/_c\.so in heavy-1.*whl needs glibc 2\.38, .* glibc 2\.36; choose"):
            check_pins([pinned], replace(TRIXIE, libc=("glibc", "2.36")), tmp_path, ctx)
    check_pins([pinned], TRIXIE, tmp_path, ctx)


def test_number_of_layers_is_limited(tmp_path: Path) -> None:
    """The largest wheels and sdists keep their own layer; a new dependency changes at most two layers."""
    ctx, free = context(tmp_path / "cache", []), 95

    def groups(count: int, *more: float) -> list[list[Pin]]:
        sizes = [*range(10, 20), *range(OWN_LAYER_SIZE, OWN_LAYER_SIZE + count), *more]
        wheels = [Pin(f"p{size}", "1", "p-1-py3-none-any.whl", "", f"{size}", int(size), None) for size in sizes]
        built = [Pin(name, "1", f"{name}-1.tar.gz", "", name, 1, None) for name in "xyz"]
        alone, small = group_pins(sorted([*wheels, *built], key=lambda pinned: pinned.name), tmp_path, ctx, free)
        return [*([pinned] for pinned in alone), small]

    assert [len(groups(count)) for count in (0, 1, 92, 93, 130)] == [4, 5, 96, 96, 96]
    for count in (50, 91, 92, 93, 130):
        for size in (15.5, OWN_LAYER_SIZE + 0.5, OWN_LAYER_SIZE + 49.5, OWN_LAYER_SIZE + 200):
            before, after = groups(count), groups(count, size)
            assert len([group for group in after if group not in before]) <= 2


def test_own_wheel_with_too_many_files_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (wheel := tmp_path / "demo-1-py3-none-any.whl").write_bytes(make_wheel("demo", "1", files={"demo/data": b""})[1])
    check_contents(wheel, TRIXIE)
    monkeypatch.setattr("hatch_docker.engines.common.MEMBERS", 3)
    with pytest.raises(WheelError, match=r"the project's wheel contains 4 files, more than the limit of 3"):
        check_contents(wheel, TRIXIE)


@pytest.mark.parametrize("name", [
    "_c.cpython-313-x86_64-linux-gnu.so", "_c.abi3.so", "_c.so", "_c.cpython-311-x86_64-linux-gnu.so",
    "_c.cpython-313-aarch64-linux-gnu.so", "_c.cpython-313t-x86_64-linux-gnu.so", "_c.cpython-313-x86_64-linux-musl.so",
])  # fmt: skip
def test_extension_module_for_another_python_is_rejected(name: str, tmp_path: Path) -> None:
    """An editable install leaves such a file beside the sources, from where it gets into the wheel."""
    wheel = tmp_path / "demo-1-cp313-cp313-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"demo/{name}", b"")
    if name in ("_c.cpython-313-x86_64-linux-gnu.so", "_c.abi3.so", "_c.so"):
        check_contents(wheel, TRIXIE)
        return
    with pytest.raises(WheelError, match=rf"contains demo/{name}, which an earlier build compiled for another Python"):
        check_contents(wheel, TRIXIE)
