"""Context of a Dockerfile: the base, the wheels and sdists of each stage, and the programs that stages run.

Wheels and sdists are fetched, and the project's pure wheel is built, in this process, as by the embedded engine: stages
need no index, the daemon gets no login, and both engines install the same files.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from hatch_docker.bases.bytecode import DRIVER
from hatch_docker.bases.debian.base import ENV
from hatch_docker.bases.model import Base
from hatch_docker.bases.open import base_for
from hatch_docker.core import errors
from hatch_docker.core.cache.kept_file import KeptFile
from hatch_docker.core.cache.store import file_digest, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, BuildError
from hatch_docker.core.http.urls import is_loopback
from hatch_docker.engines.buildkit import stage_diff, stage_install
from hatch_docker.engines.buildkit.build_request import IMAGES, PreloadedImage
from hatch_docker.engines.buildkit.dockerfile import WHEEL, Group, Stages, Step, multiline_variables
from hatch_docker.engines.buildkit.stage_install import REPAIRED
from hatch_docker.engines.buildkit.system_packages import Compiler, Debs, find_compiler, write_packages
from hatch_docker.engines.layer_cache import compiler_layer_key, layer_by_key, packages_layer_key, stage_tree_key
from hatch_docker.engines.wheel_layers import find_record_faults
from hatch_docker.oci import paths
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.filesystem import tree_entries
from hatch_docker.oci.make_image import Settings, build_image, scratch
from hatch_docker.oci.model import History, Image, Platform, digest_of, host_platform
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.plan.model import BuildPlan
from hatch_docker.project.model import Project
from hatch_docker.wheels.builder import compiler_cache, compiler_places, pep517
from hatch_docker.wheels.builder.build import cached_sdist
from hatch_docker.wheels.builder.sdist import Sdist
from hatch_docker.wheels.builder.variables import certificates, proxies
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.install import archive, destination, layout, slim, strip
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.locks.pin import pin_requirements
from hatch_docker.wheels.target import Pin, Target

STAGE_MODULES = (errors, paths, archive, destination, layout, slim, strip)
"""Modules that stages import, copied beside their programs: they need Python 3.9 and the standard library only."""


@dataclass(frozen=True, slots=True)
class Job:
    """The build of an sdist in a stage, with its pinned requirements."""

    sdist: Sdist
    plan: BuildPlan
    known: tuple[str, ...]                    # the build requirements that were resolved
    requires: tuple[Pin, ...]                 # their pinned wheels


@dataclass(frozen=True, slots=True)
class CopyStep:
    """One layer of the image, with the inputs of its stage: pins, a pure wheel, an sdist to build, or .deb files."""

    group: Group
    pins: tuple[Pin, ...] = ()
    wheel: Path | None = None
    job: Job | None = None
    debs: Debs | None = None

    def key(self, base: Base, compiler: str) -> str:
        """Return the key of the step's layer."""
        if self.debs is not None:
            return packages_layer_key(self.debs.key(base))
        inputs: list[object] = [pinned.sha256 for pinned in self.pins]
        if self.wheel is not None:
            inputs.append([self.wheel.name, file_digest(self.wheel)])
        if self.job is not None:
            plan = self.job.plan
            inputs += [
                compiler, self.job.sdist.content, [pinned.sha256 for pinned in self.job.requires], dict(plan.env),
                dict(plan.args), sorted(plan.secrets), plan.network, plan.ssh,
            ]  # fmt: skip
        if self.group.rules.leave_out:
            inputs.append(list(self.group.rules))
        return stage_tree_key(base, VenvTarget(base.interpreter), inputs, own_files=self.group.venv)


def stages_of(
    base: Base, steps: Sequence[CopyStep], compiler: Compiler | None, builder: PreloadedImage | None, *,
    tars: Sequence[str] = (), certificates: bool = False, run: tuple[Step, ...] = (),
) -> Stages:
    """Return the values of the Dockerfile. `builder`: the compiler's image, if it has to be loaded.

    Raises BaseImageError for a base with ONBUILD.
    """
    user, own = _has_user(base), compiler.base if compiler else None
    image = builder.name if builder else base_name(own) if own else ""
    tools = compiler.debs.to_install if compiler and compiler.debs and compiler.debs.packages != () else None
    system = next((step.debs.to_install for step in steps if step.debs), None)
    return Stages(
        base=base_name(base), python=base.interpreter.path, compiler=image, tools=tools,
        system=system, groups=tuple(step.group for step in steps if not step.debs),
        tars=tuple(tars), steps=run, user=user, certificates=certificates,
        compiler_python=own.interpreter.path if own else "", compiler_user=_has_user(own) if own else False,
    )  # fmt: skip


def _has_user(base: Base) -> bool:
    """Return whether a base has a user other than root; raises BaseImageError for a base with ONBUILD."""
    config = base.image.settings
    if config.get("OnBuild"):
        raise BaseImageError(
            f"base {base.name} has ONBUILD instructions ({str(config['OnBuild'][0])[:60]}), which a build with a "
            'Dockerfile runs; set engine = "embedded", which runs none, or use a base without them'
        )
    return str(config.get("User") or "0").partition(":")[0] not in ("0", "root")


def secrets_and_ssh(steps: Sequence[CopyStep]) -> tuple[tuple[str, ...], bool]:
    """Return the names of the secrets that the builds in `steps` use, and whether one of them uses the SSH agent."""
    plans = [step.job.plan for step in steps if step.job]
    return tuple(sorted({name for plan in plans for name in plan.secrets})), any(plan.ssh for plan in plans)


def proxies_of(steps: Sequence[CopyStep], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy variables for the stages of `steps`, {} if no stage uses the network."""
    used = any(step.debs or (step.job and step.job.plan.network) for step in steps)
    return local_proxies(environ) if used else {}


def local_proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Return this machine's proxy variables, without proxies on the loopback interface, which stages cannot reach."""

    def is_local(proxy: str) -> bool:
        try:
            return is_loopback(urlsplit(proxy if "://" in proxy else f"//{proxy}").hostname or "")
        except ValueError:  # not a URL: the programs in the stages report the error
            return False

    return {name: value for name, value in proxies(environ).items() if not is_local(value)}


def stage_base(
    base: Base, steps: Sequence[CopyStep], platforms: Sequence[str], ctx: Context, compression: Compression
) -> Base:
    """Return the base whose Python runs in the stages. `platforms`: the builder's platforms, its native one first.

    For another platform than the builder's native one, wheels are installed by the base's native variant, without
    emulation. If something has to be compiled, emulation is needed. Raises BuildError if the builder has none.
    """
    own = Platform(*(platforms[0].split("/") if platforms else str(host_platform()).split("/"))[:2])
    if base.platform.architecture == own.architecture:
        return base
    compiled = [f"{step.group.contents[0]} has to be compiled" for step in steps if step.job]
    compiled += ["runtime.packages have to be installed" for step in steps if step.debs]
    if compiled and str(base.platform) in platforms:
        return base
    if compiled:
        raise BuildError(
            f"{compiled[0]} for {base.platform}, and the builder runs "
            f"{', '.join(platforms) or own} only; give it QEMU's emulation (docker/setup-qemu-action, the package "
            "qemu-user-static), use a builder with that platform (builder = ...), or remove it from `platforms`"
        )
    found = base_for(base, own, ctx, compression)
    if found.interpreter != base.interpreter:
        raise BuildError(
            f"base {base.name} has Python {base.interpreter.version} for {base.platform} and "
            f"{found.interpreter.version} for {own}, where wheels are installed; pin a digest of the base whose "
            "platforms have the same Python"
        )
    return found


def base_name(base: Base) -> str:
    """Return the reference for FROM: a registry's image with its digest, else the name of the loaded image."""
    if base.plan.kind != "registry":
        return image_name("base", base.image)
    return base.plan.location if "@" in base.plan.location else f"{base.plan.location}@{base.digest}"


def compiler_of(base: Base, steps: Sequence[CopyStep], ctx: Context) -> Compiler | None:
    """Return the compiler for the sdists of `steps`, None without sdists; raises the errors of `find_compiler`."""
    plans = [step.job.plan for step in steps if step.job]
    return find_compiler(base, sorted({name for plan in plans for name in plan.packages}), ctx) if plans else None


def compiler_image(
    compiler: Compiler | None, base: Base, ctx: Context, *, remote: bool = False
) -> PreloadedImage | None:
    """Return the compiler's image if it has to be loaded: a builder root, or a `build.base` that is not in a registry.

    The layer of a builder root is compressed only if it is sent to a remote builder.
    """
    if compiler and compiler.base and compiler.base.plan.kind != "registry":
        return PreloadedImage(base_name(compiler.base), compiler.base.image)
    if compiler is None or compiler.tree is None:
        return None
    tree = compiler.tree
    key, compression = compiler_layer_key(tree.name), Compression("gzip" if remote else "none")
    layer, _ = layer_by_key(key, compression, ctx, lambda: tree_entries(tree), title="packing the compiler")
    additions = [(layer, History("hatch-docker builder"))]
    image = build_image(scratch(base.platform), additions, Settings(env=ENV), SOURCE_DATE, {})
    return PreloadedImage(image_name("builder", image), image)


def image_name(what: str, image: Image) -> str:
    """Return an image's name with the digest of its configuration, which does not depend on the layers' compression."""
    return f"{IMAGES}/{what}:{digest_of(image.config)[7:23]}"


def make_job(sdist: KeptFile, plan: BuildPlan, target: Target, project: Project, ctx: Context) -> Job:
    """Return the build of an sdist; its build requirements are resolved to wheels in this process."""
    found = cached_sdist(sdist, ctx)
    more = ctx.store.recall("stage-requires", key_of(found.content)) or []
    known = (*found.requires, *more)
    return Job(found, plan, known, pin_requirements(known, project.root, target, ctx))


def write_context(
    steps: Sequence[CopyStep], base: Base, compiler: Compiler | None, directory: Path, project: Project, ctx: Context
) -> None:
    """Write the files that the stages of `steps` copy; of the project, only its sdist or wheel is written."""
    write_tools(directory / "tools")
    if any(step.debs for step in steps):
        (directory / "changes").mkdir()
        shutil.copyfile(stage_diff.__file__, directory / "changes" / "changes.py")
    if compiler and compiler.debs:
        write_packages(compiler.debs, base, directory / "packages" / "compiler", ctx)
    for step in steps:
        name = step.group.name
        if step.debs is not None:
            write_packages(step.debs, base, directory / "packages" / name, ctx)
        elif step.job is not None:
            build, sdist = directory / "build" / name, step.job.sdist
            _write_pins(step.job.requires, build / "wheels", project, ctx)
            (build / "sdist").mkdir()
            shutil.copyfile(sdist.open(), build / "sdist" / sdist.name)
            spec = {
                "sdist": f"/sdist/{sdist.name}", "source": "/build/src", "output": WHEEL, "backend": sdist.backend,
                "backend_path": sdist.backend_path, "known": step.job.known, "time": SOURCE_DATE, "strict": True,
                "secrets": step.job.plan.secrets, "env": multiline_variables(step.job.plan),
                **({"project": sdist.subdirectory} if sdist.subdirectory else {}),
                **({"cache": True} if step.group.cache else {}),
            }  # fmt: skip
            text = json.dumps(spec, indent=2, ensure_ascii=False) + "\n"
            (build / "sdist" / "spec.json").write_text(text, encoding="utf-8")
        else:
            wheels = directory / "wheels" / name
            _write_pins(step.pins, wheels, project, ctx)
            if step.wheel is not None:
                shutil.copyfile(step.wheel, wheels / step.wheel.name)


def write_tools(directory: Path) -> None:
    """Write the programs that stages run, and the modules that they import."""
    for module in STAGE_MODULES:
        place = directory / Path(*module.__name__.split(".")).with_suffix(".py")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(module.__file__), place)
    shutil.copyfile(stage_install.__file__, directory / "install.py")
    for module in (pep517, compiler_cache, compiler_places):
        shutil.copyfile(str(module.__file__), directory / Path(str(module.__file__)).name)
    (directory / "compile.py").write_text(DRIVER, encoding="utf-8")


def write_certificates(directory: Path, ctx: Context, *, network: bool) -> bool:
    """Write the certificates that this machine trusts, if a build uses the network; return whether any were written."""
    found = certificates(ctx.environ, network=network)
    for path, text in found.items():
        place = directory / "certificates" / path.rpartition("/")[2]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return bool(found)


def _write_pins(pins: Sequence[Pin], directory: Path, project: Project, ctx: Context) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if pins:
        for pinned, path in zip(pins, fetch(pins, ctx, root=project.root), strict=True):
            shutil.copyfile(path, directory / pinned.filename)
            if find_record_faults(path, pinned.filename, f"sha256:{pinned.sha256}", ctx):
                (directory / f"{pinned.filename}{REPAIRED}").touch()
