"""Code of both engines: opening the inputs of an image, checks, grouping wheels into layers, and the final image."""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from hatch_docker.bases.debian.apt_config import APT, read_passwords, read_settings
from hatch_docker.bases.image import base_tree, check_python
from hatch_docker.bases.model import Base, numeric_user
from hatch_docker.bases.open import open_base
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, ConfigError, HatchDockerError, WheelError
from hatch_docker.core.http.urls import netrc_passwords
from hatch_docker.core.secrets import secret_part
from hatch_docker.engines import launch
from hatch_docker.engines.gpu_packages import warn_of_gpu_packages
from hatch_docker.engines.model import HISTORY_PREFIX, BuiltImage, Excluded, Inputs, LayerInfo, WheelInfo
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.make_image import Settings, build_image, rfc3339
from hatch_docker.oci.media_types import DOCKER
from hatch_docker.oci.model import History, Layer, Platform
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.oci.reference import parse_reference
from hatch_docker.plan.model import DEFAULT_PATH, PROGRAMS, PYTHON_MIRROR, VENV, BasePlan, BuildPlan, ConfigPlan, Plan
from hatch_docker.plan.naming import PREFIX, merge_labels
from hatch_docker.project.git_logins import add_git_logins
from hatch_docker.project.model import Project
from hatch_docker.wheels.index import read_indexes
from hatch_docker.wheels.install.archive import MEMBERS, ZIP_ERRORS
from hatch_docker.wheels.install.compatibility import check_fits, check_library, lacks_libc_tag
from hatch_docker.wheels.install.slim import NONE, SYMBOLS, Rules
from hatch_docker.wheels.target import Pin, Target, target_of

if TYPE_CHECKING:
    from hatch_docker.engines.steps import Steps

PROGRAM_DIRECTORIES = ("/opt/venv/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_EXTENSION = re.compile(r"\.cpython-(\d+\w*)-(\w+)-linux-(gnu|musl)\w*\.so$")  # EXT_SUFFIX of extension modules
# A `${` that `launch.expand` does not replace.
_UNSUPPORTED_VARIABLE = re.compile(r"(?<!\$)\$\{(?![A-Za-z_]\w*(?:\}|:-.*\}))", re.ASCII | re.DOTALL)
OWN_LAYER_SIZE = 1_000_000  # bytes: a wheel of at least this size gets its own layer
MAX_LAYERS = 100            # layers of an image; the limit of Docker's overlay driver is about 125


def open_inputs(plan: Plan, platform: Platform, project: Project, ctx: Context) -> Inputs:
    """Open the base of an image and add all secrets to `ctx.secrets`; raises BaseImageError for an unfit Python."""
    secrets = [("build", plan.build.secrets), *(("steps", step.secrets) for step in plan.steps)]
    for table, name in ((table, name) for table, names in secrets for name in names):
        ctx.secrets.add(f"the value of {name} ({table}.secrets)", ctx.environ.get(name, ""))
    with contextlib.suppress(HatchDockerError):  # a later step that needs this configuration reports the error
        for what, value in logins(plan, project.root, ctx.environ):
            ctx.secrets.add(what, value)
    add_git_logins(project.root, ctx)
    located = with_absolute_paths(plan.base, project.root)
    base = open_base(located, platform, ctx, compression=Compression(plan.compression))
    check_python(base, plan.requires_python)
    if plan.python and base.interpreter.name != plan.python:
        raise BaseImageError(f"base {base.name} has Python {base.interpreter.build}, not {plan.python} as asked for")
    return Inputs(plan, project, base, target_of(base), ctx)


def with_absolute_paths(plan: BasePlan, root: Path) -> BasePlan:
    """Return the plan of a base with paths of OCI layouts resolved against the project's root."""
    plan = replace(plan, builder=with_absolute_paths(plan.builder, root)) if plan.builder else plan
    return replace(plan, location=str(root / plan.location)) if plan.kind == "oci" else plan


def finish(
    inputs: Inputs, pins: Sequence[Pin], layers: Sequence[tuple[Layer, LayerInfo]], wheels: Sequence[WheelInfo],
    tallies: Iterable[Mapping[str, Sequence[int]]] = (), steps: Steps | None = None,
) -> BuiltImage:
    """Return the image: the base, `layers` (of the wheels), and the layers of files, volumes and steps.

    `wheels`: the wheels of the workspace members and of the project, the project's last. `tallies`: for each wheel, the
    files left out, as kind to (files, bytes).
    """
    plan, root, base, ctx = inputs.plan, inputs.project.root, inputs.base, inputs.ctx
    above, compression = list(layers), Compression(plan.compression)
    if own_layers(plan):
        from hatch_docker.engines.image_files import file_layers

        above += file_layers(plan, root, base, compression, ctx).values()
    if keys := unsupported_annotations(plan, base):
        ctx.progress.warn(
            f"base {base.name} has Docker's media types, which do not support annotations; not set: {', '.join(keys)}; "
            "use a base with OCI media types, or labels"
        )
    created = created_time(plan, base, pins)
    settings, annotations = image_settings(plan, base, created), image_annotations(plan, base, created)
    if plan.steps and steps is not None:
        from hatch_docker.engines.steps import step_layers

        above += step_layers(plan, base, above, settings, root, compression, steps, ctx)
    additions = [(layer, History(f"{HISTORY_PREFIX}{note.kind}", ", ".join(note.contents))) for layer, note in above]
    image = build_image(base.image, additions, settings, created, annotations)
    below = [LayerInfo(kind, contents, base.cached) for kind, contents in zip(base.kinds, base.contents, strict=True)]
    *members, wheel = wheels
    notes = (*below, *(note for _, note in above))
    left_out: dict[str, Excluded] = {}
    for kind, (files, size) in (row for tally in tallies for row in tally.items()):
        known = left_out.get(kind, Excluded(kind, 0, 0))
        left_out[kind] = Excluded(kind, known.files + files, known.size + size)
    largest = sorted(left_out.values(), key=lambda row: (-row.size, row.kind))
    return BuiltImage(image, base, notes, wheel, tuple(pins), members=tuple(members), left_out=tuple(largest))


def slim_rules(plan: Plan, kind: str) -> Rules:
    """Return the rules for leaving files out of wheels; of the project's own wheels, only debug symbols are removed."""
    slim = Rules(plan.slim.leave_out, plan.slim.locales, plan.slim.keep)
    if kind == "dependencies":
        return slim
    return Rules((SYMBOLS,), keep=slim.keep) if SYMBOLS in slim.leave_out else NONE


def free_layers(plan: Plan, base: Base, own: int) -> int:
    """Return the number of dependencies that may have their own layer. `own`: the number of the workspace's wheels.

    One layer is reserved for the remaining dependencies.
    """
    system = base.plan.kind != "debian" and bool(base.plan.packages)  # a layer; Debian bases contain the packages
    return MAX_LAYERS - len(base.image.layers) - system - own - own_layers(plan) - len(plan.steps) - 1


def own_layers(plan: Plan) -> int:
    """Return the maximum number of layers between the wheels and the steps: files, volumes, certificates, launcher."""
    options = plan.files, plan.config.volumes, plan.ca_certificates, launch.uses_variables(plan.config.command)
    return sum(map(bool, options))


def checked_groups(pins: Sequence[Pin], inputs: Inputs, own: int) -> tuple[list[Pin], list[Pin]]:
    """Return the pins with their own layer and the pins that share one. `own`: see `free_layers`.

    Raises the errors of `check_pins`, and prints the warning of `warn_of_gpu_packages`.
    """
    root, ctx = inputs.project.root, inputs.ctx
    check_pins(pins, inputs.target, root, ctx)
    warn_of_gpu_packages(inputs.plan, inputs.base, pins, ctx)
    return group_pins(pins, root, ctx, free_layers(inputs.plan, inputs.base, own))


def group_pins(pins: Sequence[Pin], root: Path, ctx: Context, free: int) -> tuple[list[Pin], list[Pin]]:
    """Return the pins with their own layer (large wheels, and sdists to build), and the pins that share one layer.

    If there are more than `free` of the former, the smallest wheels go into the shared layer, so that a new dependency
    changes at most two layers.
    """
    built = [pinned for pinned in pins if not pinned.is_wheel]
    sizes = {pinned: _size(pinned, root, ctx) for pinned in pins if pinned.is_wheel}
    large = [pinned for pinned, size in sizes.items() if size >= OWN_LAYER_SIZE]
    largest = sorted(large, key=lambda pinned: (-sizes[pinned], pinned.name))[:max(free - len(built), 0)]
    alone = {*built, *largest}
    return [pinned for pinned in pins if pinned in alone], [pinned for pinned in pins if pinned not in alone]


def _size(pinned: Pin, root: Path, ctx: Context) -> int:
    """Return the size of a wheel in bytes; if the lock does not contain it, the wheel is fetched."""
    if pinned.size is not None:
        return pinned.size
    from hatch_docker.wheels.fetch import fetch

    digest = f"sha256:{pinned.sha256}"
    path = ctx.store.blob_path(digest) if ctx.store.has(digest) else fetch([pinned], ctx, root=root)[0]
    return path.stat().st_size


def check_pins(pins: Sequence[Pin], target: Target, root: Path, ctx: Context) -> None:
    """Raise WheelError if the wheel of a dependency cannot run on the target; a successful check is cached.

    A wheel whose tags do not name a C library is fetched, and its compiled code is checked.
    """
    names = [pinned.filename for pinned in pins if pinned.is_wheel]
    unknown = [pinned for pinned in pins if pinned.is_wheel and lacks_libc_tag(pinned.filename)]
    key = key_of(str(target), [*names, *(pinned.sha256 for pinned in unknown)])
    if ctx.store.recall("fits", key) is not None:
        return
    for name in names:
        check_fits(name, target)
    if unknown:
        from hatch_docker.wheels.fetch import fetch

        advice = "; choose another version or base, or let the builder make the wheel out of its sdist"
        for pinned, path in zip(unknown, fetch(unknown, ctx, root=root), strict=True):
            check_library(path, pinned.filename, target, advice)
    ctx.store.remember("fits", key, True)


def dependency_build_plan(build: BuildPlan, pinned: Pin | None = None) -> BuildPlan:
    """Return the build plan of a dependency: the project's packages and network, without its secrets and variables.

    git is added for a dependency whose version is computed from its commits.
    """
    packages = tuple(sorted({*build.packages, "git"})) if pinned and pinned.needs_git else build.packages
    return BuildPlan(True, packages=packages, network=build.network, timeout=build.timeout, memory=build.memory)


def check_contents(wheel: Path, target: Target) -> None:
    """Raise WheelError if the project's or a member's wheel is not a wheel, or contains too many files, a file that may
    contain secrets, or an extension module that was compiled for another Python, machine or C library.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
    except ZIP_ERRORS as error:
        raise WheelError(f"{wheel.name} is not a wheel: {error}") from error
    if len(names) > MEMBERS:
        raise WheelError(
            f"the project's wheel contains {len(names)} files, more than the limit of {MEMBERS}: exclude files that "
            "the "
            "program does not read, or copy data into the image with `files`"
        )
    for name in names:
        if part := secret_part(name):
            raise WheelError(
                f"the project's wheel contains {name}, which looks like a secret; "
                f'exclude it: [tool.hatch.build] exclude = ["{part}"]'
            )
        built = _EXTENSION.search(name)
        libc = "musl" if target.libc[0] == "musl" else "gnu"
        if built and built.groups() != (target.short.replace(".", "") + target.abi, target.machine, libc):
            raise WheelError(
                f"the project's wheel contains {name}, which an earlier build compiled for another Python, machine or "
                "C "
                f"library than the base's ({target}): remove it, and have git ignore it"
            )


def check_commands(plan: Plan, base: Base, programs: frozenset[str], ctx: Context) -> None:
    """Raise ConfigError if the program of entrypoint (or cmd) or of the health check is not in the image.

    Prints a warning for a `${` that the launcher does not replace, such as `${PORT-8000}`.
    """
    for option, words in (("entrypoint", plan.config.entrypoint), ("cmd", plan.config.cmd)):
        for word in filter(_UNSUPPORTED_VARIABLE.search, words):
            ctx.progress.warn(
                f"tool.hatch-docker.{option}: {word!r} is not replaced: write ${{NAME}} or "
                "${NAME:-default}, or $${ for ${ itself"
            )
    words = plan.config.entrypoint or plan.config.cmd
    option = "entrypoint" if plan.config.entrypoint else "cmd"
    if plan.debug:  # the program that the debugger runs
        words = tuple(word.removeprefix(PROGRAMS) for word in words if word.startswith(PROGRAMS))[:1]
    commands = {option: words}
    if plan.config.healthcheck:
        commands["healthcheck.command"] = plan.config.healthcheck.command
    for option, words in commands.items():
        if words and not _is_program(words[0], plan, base, programs, ctx):
            known = ", ".join(sorted(programs)) or "none"
            raise ConfigError(
                f"tool.hatch-docker.{option}: {words[0]!r} is not a program in the image; the wheels contain: {known}"
            )


def _is_program(word: str, plan: Plan, base: Base, programs: frozenset[str], ctx: Context) -> bool:
    """Return whether a word is an absolute path, or a program in the image: of wheels, `files` or the base."""
    if word.startswith("/") or word in programs or word in ("python", "python3"):
        return True
    if not word.strip(".") or "/" in word:
        return False
    if any(file.target in (place, f"{place}/{word}") for file in plan.files for place in PROGRAM_DIRECTORIES):
        return True
    # A symlink of the base is not followed here: its target would be looked up on this machine.
    places = (base_tree(base, ctx) / place[1:] / word for place in PROGRAM_DIRECTORIES)
    return any(path.is_symlink() or path.is_file() for path in places)


def image_settings(plan: Plan, base: Base, created: int) -> Settings:
    """Return the settings of the image's configuration (config.md) that override the base's."""
    config = plan.config
    check = config.healthcheck
    health = {  # Docker's extension of the configuration; times in nanoseconds
        "Test": ["CMD", *check.command], "Interval": check.interval, "Timeout": check.timeout,
        "StartPeriod": check.start_period, "StartInterval": check.start_interval, "Retries": check.retries,
    } if check else {}  # fmt: skip
    path = f"/{VENV}/bin:{base.image.env.get('PATH', DEFAULT_PATH)}"
    return Settings(
        entrypoint=_entrypoint(config), cmd=config.cmd, env={"PATH": path, **config.env},
        labels=merge_labels(base_labels(base, created), config.labels), user=numeric_user(config.user, base),
        workdir=config.workdir, ports=config.ports, volumes=config.volumes, stop_signal=config.stop_signal,
        healthcheck={key: value for key, value in health.items() if value} or None,
    )  # fmt: skip


def _entrypoint(config: ConfigPlan) -> tuple[str, ...]:
    """Return the entry point, preceded by tini and by the launcher that replaces variables, if they are used."""
    init = ("/usr/bin/tini-static", "--") if config.init else ()
    launcher = (f"{PROGRAMS}python", launch.PATH) if launch.uses_variables(config.command) else ()
    return (*init, *launcher, *config.entrypoint)


def image_annotations(plan: Plan, base: Base, created: int) -> dict[str, str]:
    """Return the annotations of the manifest (annotations.md); the user's values override others."""
    return merge_labels(base_labels(base, created), plan.config.annotations)


def unsupported_annotations(plan: Plan, base: Base) -> list[str]:
    """Return the keys of the user's annotations that are lost because Docker's manifest format has no annotations."""
    if base.image.descriptor.media_type != DOCKER.manifest:
        return []
    labels = plan.config.labels  # annotations from the metadata are labels too, so they are not lost
    return [key for key, value in plan.config.annotations.items() if labels.get(key) != value]


def base_labels(base: Base, created: int) -> dict[str, str]:
    """Return the pre-defined keys (annotations.md) base.name, base.digest and created.

    The name of a registry's image is complete, as the specification requires. A layout has no name except its path on
    this machine, which is not added.
    """
    values = {"base.digest": base.digest, "base.name": base.name, "created": rfc3339(created)}
    if base.plan.kind == "registry":
        reference = parse_reference(base.plan.location)
        values["base.name"] = str(replace(reference, digest="") if reference.tag else reference)
    elif base.plan.kind == "oci":
        del values["base.name"]
    return {PREFIX + key: value for key, value in values.items()}


def created_time(plan: Plan, base: Base, pins: Sequence[Pin]) -> int:
    """Return the image's creation time: the plan's, else of the newest upload of its wheels, else the base's."""
    if plan.created is not None:
        return plan.created
    if known := [pinned.upload_time for pinned in pins if pinned.upload_time is not None]:
        return max(known)
    try:
        return int(datetime.fromisoformat(base.image.config_json.get("created", "")).timestamp())
    except (ValueError, TypeError):
        return SOURCE_DATE


def logins(plan: Plan, root: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield a description and the password or token of each login of indexes, netrc, mirrors and proxies.

    Raises ConfigError if the configuration of an index cannot be read.
    """
    for host, password in netrc_passwords(environ).items():
        yield f"the password of {host} in netrc", password
    for mirror in (plan.base.mirror, plan.base.security_mirror):
        yield "the password of debian.mirror", _password(mirror)
    for mirror in (plan.base.standalone.mirror if plan.base.standalone else "", environ.get(PYTHON_MIRROR, "")):
        yield "the password of standalone.mirror", _password(mirror)
    for machine, password in read_passwords(APT).items():
        yield f"the password of {machine} in apt's auth.conf", password
    for name, value in read_settings(APT).items():
        if "::proxy" in name:
            yield f"the password in apt's {name}", _password(value)
    for name, value in environ.items():
        if name.lower().endswith("_proxy"):
            yield f"the password in {name}", _password(value)
    for source in plan.lock.sources:
        yield f"the password in {source.table}", _password(source.where)
    indexes = read_indexes(root, environ)
    for index in (*indexes.indexes, *indexes.find_links):
        if index.login is not None:
            # A token may be in the place of the user name: https://TOKEN@host
            yield f"the login of the index {index.url}", index.login[1] or index.login[0]


def _password(url: str) -> str:
    try:
        return unquote(urlsplit(url).password or "")
    except ValueError:
        return ""
