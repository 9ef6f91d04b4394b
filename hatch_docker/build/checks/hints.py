"""Hints: what makes an image large, or lacks its code, though nothing failed: a line each, never an error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hatch_docker.core.cache.store import key_of
from hatch_docker.core.text import abbreviate, megabytes
from hatch_docker.engines.model import BuiltImage

if TYPE_CHECKING:
    from hatch_docker.core.context import Context
    from hatch_docker.plan.model import Plan

RECIPE = 1
KIND = "duplicates"
WORTH = 1_000_000  # bytes from which it is told
SHOWN = 2  # modules or packages that a line names
PAGE = "docs/slimming.md"
_CUDA = re.compile(r"nvidia-.+|(pytorch-)?triton|cuda-(bindings|toolkit|pathfinder)|jax-cuda\d+-.+")
_BUNDLED = re.compile(r".*\.libs/(?P<name>lib[^/]+?)(?:-[0-9a-f]{8})*\.so[.0-9]*")  # as auditwheel names it


def find_hints(plan: Plan, built: Sequence[BuiltImage], ctx: Context) -> tuple[str, ...]:
    """What a user may want to know of some images; what takes a look at files is remembered by the layers."""
    lines = [line for one in built for line in (*_own(plan, one, ctx), *_cuda(one))]
    if plan.native_libraries != "off":
        lines += [line for one in built for line in _duplicates(one, ctx)]
    return tuple(dict.fromkeys(lines))


def _own(plan: Plan, one: BuiltImage, ctx: Context) -> Iterator[str]:
    """A wheel of the project with its metadata alone, as a backend makes it that finds no code; or with bad code."""
    from hatch_docker.engines.common import rules_of
    from hatch_docker.engines.wheel_layers import known_files, uncompiled
    from hatch_docker.wheels.install.destination import VenvTarget

    if one.wheel is None:
        return
    venv, digest, rules = VenvTarget(one.base.interpreter), f"sha256:{one.wheel.sha256}", rules_of(plan, "project")
    files = known_files(venv, digest, ctx, rules)
    if files and all(".dist-info/" in path or path.startswith(f"{venv.root}/bin/") for path in files):
        yield f"{one.wheel.filename} holds no module: where that is not meant, say where the code is"
    if bad := [path.removeprefix(f"{venv.site_packages}/") for path in uncompiled(venv, digest, ctx, rules)]:
        modules = abbreviate(bad, SHOWN)
        yield f"Python {venv.interpreter.short} does not accept {modules}: an import fails with a SyntaxError"


def _cuda(one: BuiltImage) -> Iterator[str]:
    """Packages for GPUs in an image that does not ask for one; those that have a layer to themselves count."""
    environment = (one.image.config_json.get("config") or {}).get("Env") or []
    if any(item.startswith("NVIDIA_") for item in environment):
        return
    sizes: dict[str, int] = {}
    for layer, note in zip(one.image.layers, one.notes, strict=True):
        if note.kind == "dependencies" and len(note.contents) == 1 and _is_cuda(note.contents[0]):
            sizes[note.contents[0]] = layer.unpacked_size or 0
    if sum(sizes.values()) < WORTH:
        return
    titles = sorted(sizes, key=lambda title: -sizes[title])
    packages = "1 package is" if len(titles) == 1 else f"{len(titles)} packages are"
    torch = any(pin.name == "torch" for pin in one.pins)
    wheel = "torch's CPU wheel from PyTorch's index for it" if torch else "a CPU wheel of what asks for them"
    yield (
        f"{megabytes(sum(sizes.values()))} are for GPUs: {packages} CUDA's ({abbreviate(titles, SHOWN)}). "
        f"Without one take {wheel} ([tool.uv.sources], {PAGE}); with one set env.NVIDIA_VISIBLE_DEVICES"
    )


def _is_cuda(title: str) -> bool:
    name, _, version = title.partition(" ")
    return _CUDA.fullmatch(name) is not None or re.search(r"\+cu\d+", version) is not None


def _duplicates(one: BuiltImage, ctx: Context) -> list[str]:
    """Libraries that several wheels bring, each for itself."""
    base = len(one.base.image.layers)
    key = key_of(RECIPE, [layer.diff_id for layer in one.image.layers], base)
    known: list[str] | None = ctx.store.recall(KIND, key)
    if known is None:
        from hatch_docker.build.checks.elf_files import read_files

        found: dict[str, dict[str, int]] = {}
        for code in read_files(one.image.layers, base, ctx).code:
            if code.owner and (match := _BUNDLED.fullmatch(code.path)):
                owners = found.setdefault(match["name"].removesuffix("64_"), {})
                owners[code.owner] = owners.get(code.owner, 0) + code.size
        known = [line for name, owners in sorted(found.items()) for line in _told(name, owners)]
        ctx.store.remember(KIND, key, known)
    return known


def _told(name: str, owners: dict[str, int]) -> Iterator[str]:
    if len(owners) > 1 and sum(owners.values()) - max(owners.values()) >= WORTH:
        each = ", ".join(f"{owner} ({megabytes(size)})" for owner, size in owners.items())
        yield f"{name} is there {len(owners)} times: {each}. Wheels cannot share it; fewer of them would be smaller"
