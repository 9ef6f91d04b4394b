"""Opening the base of a plan (Debian's archive, registry or OCI layout), and finding an interpreter that compiles."""

from dataclasses import replace
from pathlib import Path

from packaging.version import Version

from hatch_docker.bases.image import pull_base, read_base, running_tree
from hatch_docker.bases.model import Base, Interpreter, runnable_platform
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, ImageError, RegistryError
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import BasePlan


def open_base(plan: BasePlan, platform: Platform, ctx: Context, *, compression: Compression) -> Base:
    """Return the base of a plan for one platform. `compression` is for layers that have to be made.

    Raises BaseImageError if the base or its `build.base` is not available, has no Python, or if the two are not
    compatible; RegistryError if a request to a registry or a mirror fails.
    """
    if plan.builder is not None:
        base = open_base(replace(plan, builder=None), platform, ctx, compression=compression)
        try:
            builder = open_base(plan.builder, platform, ctx, compression=compression)
        except BaseImageError as error:
            raise BaseImageError(f"tool.hatch-docker.build.base: {error}") from error
        except RegistryError as error:
            raise error.with_message(f"tool.hatch-docker.build.base: {error}") from error
        check_builder(builder, base)
        return replace(base, builder=builder)
    if plan.kind == "debian":
        from hatch_docker.bases.debian.base_cache import recall_base, remember_base

        if (known := recall_base(plan, platform, compression, ctx)) is not None:
            # With --no-cache the base in the store was made by this command, when it read the metadata.
            return replace(known, cached=not ctx.no_cache)
        from hatch_docker.bases.debian.base import make_debian_base

        base = make_debian_base(plan, platform, ctx, compression=compression)
        remember_base(base, compression, ctx)
        return base
    return (pull_base if plan.kind == "registry" else read_base)(plan, platform, ctx)


def check_builder(builder: Base, base: Base) -> None:
    """Raise BaseImageError, naming both bases, if code compiled in `builder` does not run on `base`."""
    built_on, runs_on = builder.interpreter, base.interpreter
    if built_on.name != runs_on.name:
        raise BaseImageError(
            f"build.base {builder.name} has Python {built_on.build}, and base {base.name} has {runs_on.build}: choose "
            "two images with the same Python"
        )
    (kind, version), (runs, limit) = builder.libc, base.libc
    if kind != runs or Version(version) > Version(limit):
        raise BaseImageError(
            f"build.base {builder.name} has the C library {kind} {version}, and base {base.name} has {runs} {limit}: "
            "code that is compiled there may not run here; choose a build.base whose C library is not newer"
        )


def compiler_tree(base: Base, ctx: Context, *, compression: Compression) -> tuple[Path, Interpreter] | None:
    """Return a directory with a Python that runs on this machine and compiles for `base`, and the interpreter.

    The directory may be a partial tree. Returns None and warns if there is no such Python: the image gets no .pyc.
    """
    found = compiler_base(base, ctx, compression)
    return None if found is None else (running_tree(found, ctx), found.interpreter)


def compiler_base(base: Base, ctx: Context, compression: Compression) -> Base | None:
    """Return `base` if its interpreter runs on this machine, else the same base for this machine's architecture.

    Returns None and warns if there is none.
    """
    host = runnable_platform()
    if host is not None and base.platform.architecture == host.architecture:
        return base
    try:
        if host is None:
            raise BaseImageError("programs of a Linux image do not run on this machine")
        return base_for(base, host, ctx, compression)
    except (BaseImageError, ImageError, RegistryError) as error:
        ctx.progress.warn(f"no .pyc for {base.platform}, so the image will start more slowly: {error}")
        return None


def base_for(base: Base, platform: Platform, ctx: Context, compression: Compression) -> Base:
    """Return the same base for another platform. Raises BaseImageError if the Python versions differ."""
    plan = replace(base.plan, packages=(), builder=None)  # only the Python is needed
    if plan.kind == "registry" and base.source:
        plan = replace(plan, location=base.source)
    other = open_base(plan, platform, ctx, compression=compression)
    if other.interpreter.name != base.interpreter.name:
        raise BaseImageError(f"{base.name} for {platform} has Python {other.interpreter.build}")
    return other
