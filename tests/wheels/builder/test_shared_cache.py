"""The builder stage with a shared cache: its facts can find a wheel, and never decide what is installed."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.bases.model import Interpreter
from hatch_docker.core.cache.kept_file import KeptFile, existing_file
from hatch_docker.core.cache.shared import Fact, SharedCache
from hatch_docker.core.context import Context
from hatch_docker.plan.model import BuildPlan
from hatch_docker.wheels.builder.build import BuilderStage, find_wheel, make_builder_stage
from hatch_docker.wheels.builder.sdist import read_sdist
from tests.fakes.builder_stages import PYPROJECT, TARGET, VERSION, demo_text, make_base
from tests.fakes.context import context, facts_of, with_shared_cache
from tests.fakes.package_index import FakeIndex, make_wheel, write_sdist

BACKEND = """
import os, sysconfig, zipfile

def get_requires_for_build_wheel(settings):
    return ["more"]

def build_wheel(directory, settings, metadata):
    installed = {name.partition("-")[0] for name in os.listdir(sysconfig.get_path("purelib"))}
    with zipfile.ZipFile(os.path.join(directory, "demo-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.writestr(zipfile.ZipInfo("demo.txt"), " ".join(sorted(installed)))
    return "demo-1.0-py3-none-any.whl"
"""


@pytest.fixture
def machine(
    builder: BuilderStage, index: FakeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[KeptFile, Context, SharedCache]]:
    """A function that builds an sdist with build requirements on a machine with an empty cache and a shared cache."""
    for name in ("helper", "more", "evil"):
        index.add(name, make_wheel(name, "1.0"))
    files = {"pyproject.toml": PYPROJECT.replace("[]", '["helper"]'), "backend.py": BACKEND}
    sdist = existing_file(write_sdist(tmp_path / "sdist", files))

    def stage(_source: object, *rest: object, unpacked: bool = True) -> BuilderStage:
        return BuilderStage(builder.root, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("hatch_docker.wheels.builder.build.make_builder_stage", stage)
    monkeypatch.setattr("hatch_docker.wheels.builder.build.base_tree", lambda *_: builder.root)

    def build(name: str, facts: Sequence[Fact] = ()) -> tuple[KeptFile, Context, SharedCache]:
        own = context(
            tmp_path / name, PATH=os.environ["PATH"], UV_DEFAULT_INDEX=index.url, UV_CACHE_DIR=str(tmp_path / "uv")
        )
        ctx, shared = with_shared_cache(own, facts)
        index.requests.clear()
        return find_wheel(sdist, builder.plan, builder.base, TARGET, ctx, tmp_path), ctx, shared

    return build


def test_pins_in_shared_cache_find_a_wheel(
    machine: Callable[..., tuple[KeptFile, Context, SharedCache]], index: FakeIndex
) -> None:
    """If the pins are at most a day old, no request is sent and no file is made until the wheel's bytes are read."""
    made, first, shared_ = machine("first")
    assert demo_text(made.open()) == "helper more"
    facts = facts_of(shared_)
    found, ctx, shared = machine("second", facts)
    assert (found.digest, index.requests, list(ctx.store.root.glob("trees/*/*"))) == (made.digest, [], [])
    assert ctx.materials == first.materials
    assert facts_of(shared) == [fact for fact in facts if fact[0] != "pyproject-in-wheel"]
    # The resolution is recorded with its age, and under this machine's key.
    assert {kind for kind, _ in ctx.response_times} == {"build-pins"}
    assert all(ctx.store.local.recall(*answer)["at"] == at for answer, at in ctx.response_times.items())
    assert found.open().read_bytes() == made.open().read_bytes()
    assert index.paths("/files/helper")  # installed wheels are resolved on this machine

    old = [(kind, key, {**value, "at": value["at"] - 86401} if kind == "build-pins" else value)
           for kind, key, value in facts]  # fmt: skip
    later, ctx, _ = machine("third", old)
    assert (later.digest, list(ctx.store.root.glob("trees/*/*"))) == (made.digest, [])
    assert index.paths("/simple/helper")


@pytest.mark.parametrize("line", ["evil", "evil @ {url}/files/evil/evil-1.0-py3-none-any.whl"])
def test_facts_of_shared_cache_do_not_affect_installation(
    machine: Callable[..., tuple[KeptFile, Context, SharedCache]], index: FakeIndex, line: str
) -> None:
    """Pins, requirements and backend are forged in the shared cache; the build uses those of sdist and index."""
    line = line.format(url=index.url.removesuffix("/simple"))
    _, _, shared_ = machine("first")
    pin = ["evil", "1.0", "evil-1.0-py3-none-any.whl", index.sha256("evil-1.0-py3-none-any.whl")]
    now = int(time.time())
    changes = {
        "build-pins": lambda _: {"at": now, "pins": [pin]}, "build-requires": lambda _: [line],
        "sdist": lambda value: ["0" * 64, [line], "evil", [], value[4]],
    }  # fmt: skip
    honest = [fact for fact in facts_of(shared_) if fact[0] != "wheel"]
    assert {fact[0] for fact in honest} >= changes.keys()
    for number, hostile in enumerate([*([kind] for kind in changes), list(changes)]):
        facts = [(kind, key, changes[kind](value) if kind in hostile else value) for kind, key, value in honest]
        made, ctx, _ = machine(f"machine {number}", facts)
        assert demo_text(made.open()) == "helper more"
        assert not list(ctx.store.root.glob("trees/build-env/*/env/lib/*/site-packages/evil*"))
        assert "@" not in line or not index.paths("evil")


@pytest.mark.parametrize("secret", [{}, {"secrets": ("TOKEN",)}, {"ssh": True}])
def test_build_with_secrets_uses_no_partial_trees(
    secret: dict[str, object], tmp_path: Path, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partial trees come from a shared cache, whose programs must not see secrets."""
    for name, tree in (
        ("bases.debian.base.builder_root", "whole"), ("wheels.builder.build.base_tree", "whole"),
        ("wheels.builder.build.find_partial", "part"), ("wheels.builder.build.running_tree", "part"),
    ):  # fmt: skip
        monkeypatch.setattr(f"hatch_docker.{name}", lambda *_arguments, tree=tree, **_options: Path(tree))
    sdist, plan = read_sdist(write_sdist(tmp_path / "a", {"setup.py": ""})), BuildPlan(isolated=True, **secret)  # type: ignore[arg-type]
    base = replace(make_base(), interpreter=Interpreter("/usr/local/bin/python3.13", VERSION))
    stage = make_builder_stage(sdist, plan, base, TARGET, ctx, tmp_path)
    assert {stage.root, stage.python_tree()} == {Path("whole" if secret else "part")}
