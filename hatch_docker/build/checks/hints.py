"""Hints: a line about each likely mistake that fails no step, such as an empty wheel or a library that is there twice.
"""

import re
from collections.abc import Iterator, Sequence

from hatch_docker.build.checks.references import SERVERS
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.text import abbreviate, megabytes
from hatch_docker.engines.common import slim_rules
from hatch_docker.engines.gpu_packages import SHOWN, gpu_advice, is_for_gpus, uses_gpu
from hatch_docker.engines.model import BuiltImage
from hatch_docker.engines.wheel_layers import known_files, uncompiled
from hatch_docker.plan.model import Plan
from hatch_docker.wheels.install.layout import VenvTarget

RECIPE = 1
KIND = "duplicates"
LEAST_SAVING = 1_000_000  # bytes; there is no hint if it would save less
_SERVE_STATIC = frozenset({"whitenoise", "servestatic", "dj-static", "django-storages"})
_BUNDLED = re.compile(r".*\.libs/(?P<name>lib[^/]+?)(?:-[0-9a-f]{8})*\.so[.0-9]*")  # auditwheel's file names


def find_hints(plan: Plan, built: Sequence[BuiltImage], ctx: Context) -> tuple[str, ...]:
    """Return the hints for images. Hints that need the contents of files are kept in the cache by diff-ids."""
    lines: list[str] = []
    for image in built:
        lines += [*_wheel_hints(plan, image, ctx), *_static_file_hints(plan, image, ctx), *_gpu_hints(image)]
    if plan.native_libraries != "off":
        from hatch_docker.build.checks.wants import find_missing_runtime_files

        for image in built:
            lines += [*_duplicates(image, ctx), *find_missing_runtime_files(image, ctx)]
    return tuple(dict.fromkeys(lines))


def _wheel_hints(plan: Plan, built: BuiltImage, ctx: Context) -> Iterator[str]:
    """Yield a hint if the project's wheel contains no module, or modules that the image's Python cannot compile."""
    if built.wheel is None:
        return
    venv, digest = VenvTarget(built.base.interpreter), f"sha256:{built.wheel.sha256}"
    rules = slim_rules(plan, "project")
    files = known_files(venv, digest, ctx, rules)
    if files and all(".dist-info/" in path or path.startswith(f"{venv.root}/bin/") for path in files):
        yield f"{built.wheel.filename} contains no module: if that is a mistake, configure where the code is"
    if bad := [path.removeprefix(f"{venv.site_packages}/") for path in uncompiled(venv, digest, ctx, rules)]:
        modules = abbreviate(bad, SHOWN)
        yield f"Python {venv.interpreter.short} does not accept {modules}: an import fails with a SyntaxError"


def _static_file_hints(plan: Plan, built: BuiltImage, ctx: Context) -> Iterator[str]:
    """Yield a hint if a WSGI or ASGI server starts a Django site with static files: these servers do not serve them."""
    program = next(iter(plan.config.entrypoint), "").rpartition("/")[2]
    names = {pin.name for pin in built.pins}
    if program not in SERVERS or "django" not in names or names & _SERVE_STATIC or built.wheel is None:
        return
    venv = VenvTarget(built.base.interpreter)
    files = known_files(venv, f"sha256:{built.wheel.sha256}", ctx, slim_rules(plan, "project")) or ()
    for path in sorted(files):
        name = path.removeprefix(f"{venv.site_packages}/")
        if "static" in name.split("/")[:-1]:
            yield (
                f"{program} does not serve Django's static files, such as {name}: add whitenoise and its "
                "middleware, or have another server serve STATIC_ROOT"
            )
            return


def _gpu_hints(built: BuiltImage) -> Iterator[str]:
    """Yield a hint if an image that does not use a GPU has layers with packages for GPUs."""
    if uses_gpu(built.image.env):
        return
    sizes: dict[str, int] = {}
    for layer, note in zip(built.image.layers, built.notes, strict=True):
        name, _, version = note.contents[0].partition(" ") if len(note.contents) == 1 else ("", "", "")
        if note.kind == "dependencies" and is_for_gpus(name, version):
            sizes[note.contents[0]] = layer.unpacked_size or 0
    if sum(sizes.values()) < LEAST_SAVING:
        return
    titles = sorted(sizes, key=lambda title: -sizes[title])
    packages = "1 package is" if len(titles) == 1 else f"{len(titles)} packages are"
    yield (
        f"{megabytes(sum(sizes.values()))} are for GPUs: {packages} CUDA's ({abbreviate(titles, SHOWN)}). "
        + gpu_advice({pin.name for pin in built.pins})
    )


def _duplicates(built: BuiltImage, ctx: Context) -> list[str]:
    """Return a hint for each shared library that several wheels bundle."""
    base = len(built.base.image.layers)
    key = key_of(RECIPE, [layer.diff_id for layer in built.image.layers], base)
    known: list[str] | None = ctx.store.recall(KIND, key)
    if known is None:
        from hatch_docker.build.checks.loader import read_files

        found: dict[str, dict[str, int]] = {}
        for code in read_files(built.image.layers, base, ctx).code:
            if code.owner and (match := _BUNDLED.fullmatch(code.path)):
                owners = found.setdefault(match["name"].removesuffix("64_"), {})
                owners[code.owner] = owners.get(code.owner, 0) + code.size
        known = []
        for name, owners in sorted(found.items()):
            each = ", ".join(f"{owner} ({megabytes(size)})" for owner, size in owners.items())
            if len(owners) > 1 and sum(owners.values()) - max(owners.values()) >= LEAST_SAVING:
                advice = "Wheels cannot share a library; with fewer wheels the image is smaller"
                known.append(f"{name} is in the image {len(owners)} times: {each}. {advice}")
        ctx.store.remember(KIND, key, known)
    return known
