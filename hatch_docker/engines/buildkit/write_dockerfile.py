"""`docker:dockerfile`: write the Dockerfile and its context, for builds without hatch-docker."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, StoreError
from hatch_docker.core.files import atomic_write, temporary_tree, write_file, write_json
from hatch_docker.core.streams import pieces
from hatch_docker.engines.buildkit.build_request import PreloadedImage
from hatch_docker.engines.buildkit.context import (
    CopyStep,
    base_name,
    compiler_image,
    compiler_of,
    secrets_and_ssh,
    stages_of,
    write_context,
)
from hatch_docker.engines.buildkit.dockerfile import Group, render
from hatch_docker.engines.buildkit.engine import make_steps
from hatch_docker.engines.buildkit.run_step import step_of, write_step
from hatch_docker.engines.buildkit.system_packages import find_system
from hatch_docker.engines.common import created_time, image_settings, open_inputs
from hatch_docker.engines.image_files import file_layers
from hatch_docker.engines.steps import make_run
from hatch_docker.oci.archive import write_archive
from hatch_docker.oci.compression import Compression, Decompressed
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import Plan
from hatch_docker.project.model import Project
from hatch_docker.wheels.locks.pin import pin
from hatch_docker.wheels.target import Pin

DOCKERIGNORE = "# Loaded into the daemon before, never sent to it with the context.\nimages\n"


def write_dockerfile(plan: Plan, project: Project, directory: Path, ctx: Context) -> Path:
    """Write NAME-VERSION.Dockerfile, .context/ and .docker-bake.json, and return the Dockerfile's path.

    Nothing is built: sdists are built by the Dockerfile. Older files are replaced when the new ones are complete.
    Raises ConfigError for several platforms, because their wheels differ, and for values that a Dockerfile cannot
    contain.
    """
    if len(plan.platforms) != 1:
        raise ConfigError(
            "docker:dockerfile writes the Dockerfile of one platform, and platforms has "
            f"{', '.join(plan.platforms)}; choose: HATCH_DOCKER_PLATFORMS={plan.platforms[0]}"
        )
    inputs = open_inputs(plan, Platform.parse(plan.platforms[0]), project, ctx)
    base = inputs.base
    pins = pin(plan.lock, project.root, inputs.target, ctx)
    steps = make_steps(pins, inputs)
    if debs := find_system(base, ctx):
        steps.insert(0, CopyStep(Group("system", "system", debs.contents), debs=debs))
    compiler = compiler_of(base, steps, ctx)
    builder = compiler_image(compiler, base, ctx)
    images = {"base": PreloadedImage(base_name(base), base.image)} if base.plan.kind != "registry" else {}
    images |= {"builder": builder} if builder else {}
    title = plan.stem
    tars = file_layers(plan, project.root, base, Compression(plan.compression), ctx)
    settings = image_settings(plan, base, created_time(plan, base, pins))
    stages = stages_of(
        base, steps, compiler, builder, tars=tuple(tars),
        run=tuple(step_of(number, step) for number, step in enumerate(plan.steps, 1)),
    )  # fmt: skip
    text = _header(plan, title, images, steps) + render(stages, settings)

    directory.mkdir(parents=True, exist_ok=True)
    with temporary_tree(directory, f".{title}.") as work:
        context = work / "context"
        write_context(steps, base, compiler, context, project, ctx)
        for number, step in enumerate(plan.steps, 1):
            write_step(context, number, make_run(number - 1, step, base, settings, project.root))
        (context / "requirements.txt").write_text(requirements(pins), encoding="utf-8")
        (context / ".dockerignore").write_text(DOCKERIGNORE, encoding="utf-8")
        for name, (layer, _) in tars.items():
            with contextlib.closing(layer.open()) as packed, (context / f"{name}.tar").open("wb") as out:
                out.writelines(pieces(Decompressed(packed)))
        for name, image in images.items():
            with atomic_write(context / "images" / f"{name}.tar") as stream:
                write_archive(image.image, [image.name], stream, host=base.platform)
        _replace_directory(context, directory / f"{title}.context", work)
    path = directory / f"{title}.Dockerfile"
    write_file(path, text.encode())
    write_json(directory / f"{title}.docker-bake.json", bake(plan, title, steps))
    return path


def _used_secrets_and_ssh(plan: Plan, steps: Sequence[CopyStep]) -> tuple[tuple[str, ...], bool]:
    """Return the names of the secrets that stages read, and whether a stage uses the SSH agent."""
    secrets, ssh = secrets_and_ssh(steps)
    return tuple(sorted({*secrets, *(name for step in plan.steps for name in step.secrets)})), ssh


def bake(plan: Plan, title: str, steps: Sequence[CopyStep]) -> dict[str, Any]:
    """Return the build as a target of `docker buildx bake`; paths are relative to the Dockerfile's directory."""
    secrets, ssh = _used_secrets_and_ssh(plan, steps)
    target = {
        "context": f"{title}.context", "dockerfile": f"../{title}.Dockerfile", "tags": list(plan.references),
        "platforms": list(plan.platforms), "secret": [f"id={name},env={name}" for name in secrets],
        "ssh": ["default"] if ssh else [],
    }  # fmt: skip
    name = re.sub(r"[^\w-]", "_", "-".join(filter(None, (plan.name, plan.part))))
    return {
        "group": {"default": {"targets": [name]}},
        "target": {name: {key: value for key, value in target.items() if value}},
    }


def _header(plan: Plan, title: str, images: dict[str, PreloadedImage], steps: Sequence[CopyStep]) -> str:
    """Return the Dockerfile's first comment: the commands to build it, to run in its directory."""
    secrets, ssh = _used_secrets_and_ssh(plan, steps)
    options = "".join(f" --secret id={name},env={name}" for name in secrets) + (" --ssh default" if ssh else "")
    podman = "podman (and --format docker, or the health check is lost)" if plan.config.healthcheck else "podman"
    lines = [f"Written by hatch-docker. To build it here, with docker (BuildKit) or {podman}:", ""]
    context, file = quote(f"{title}.context"), quote(f"{title}.Dockerfile")  # a version may contain `!`: 1!2.0
    lines += [f"docker load --input {context}/images/{name}.tar" for name in images]
    lines += [f"docker build --file {file} --tag {plan.references[0]}{options} {context}"]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + "\n"


def requirements(pins: Sequence[Pin]) -> str:
    """Return the dependencies in wheels/ and build/ as a requirements file with hashes."""
    return "".join(f"{pinned.name}=={pinned.version} --hash=sha256:{pinned.sha256}\n" for pinned in pins)


def _replace_directory(new: Path, place: Path, work: Path) -> None:
    """Move the directory `new` to `place`; an older one is moved to `work`."""
    try:
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise StoreError(f"cannot write {place}: a file is in the way; move it away")
        if place.exists():
            place.rename(work / "old")
        new.rename(place)
    except OSError as error:
        raise StoreError(f"cannot write {place}: {error.strerror or error}") from error
