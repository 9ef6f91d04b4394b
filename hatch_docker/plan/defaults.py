"""make_plan: the defaults and guesses of a plan, each guess with its reason."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from hatch_docker.core.errors import ConfigError
from hatch_docker.oci.model import Platform
from hatch_docker.plan.bases import base_plan
from hatch_docker.plan.debug import debug_variant
from hatch_docker.plan.model import (
    CA_BUNDLE,
    BudgetPlan,
    BuildPlan,
    CachePlan,
    CheckPlan,
    ConfigPlan,
    FilePlan,
    Guess,
    HealthCheck,
    LockPlan,
    MemberPlan,
    Plan,
    SignPlan,
    SlimPlan,
)
from hatch_docker.plan.naming import annotations_of, merge_labels, repositories_of, tags_of
from hatch_docker.plan.steps import step_plans
from hatch_docker.project.dependencies import Requirements, collect_requirements
from hatch_docker.project.metadata import PURE_HOOKS, Metadata

if TYPE_CHECKING:
    from hatch_docker.config.options import BuildConfig, Config


def make_plan(project: Metadata, config: Config, host: Platform, part: str = "") -> Plan:
    """Return the plan of an image, from the user's options, else the project's metadata, else defaults.

    `part`: NAME for an image of images.NAME. The function reads no file, clock or environment variable. Raises
    ConfigError for options that contradict each other or the project.
    """
    guesses: list[Guess] = []
    base, python = base_plan(project, config, guesses)
    extras, groups = _chosen(project, config)
    image = _image(project, config, part, guesses)
    tags, notes = tags_of(config.tags, project, move=config.prereleases_move_tags)
    repositories = repositories_of(image, config.registries)
    needs = collect_requirements(project, extras, groups)
    return debug_variant(Plan(
        name=project.file_name,
        version=project.version,
        image=image,
        tags=tags,
        repositories=repositories,
        revision=project.revision.commit if project.revision else "",
        dirty=project.revision.dirty if project.revision else (),
        engine=config.engine,
        platforms=_platforms(config, host, guesses),
        requires_python=project.requires_python,
        python=python,
        base=base,
        lock=_lock(project, config, needs, extras, groups, guesses),
        build=_build(project, config, guesses),
        files=tuple(FilePlan(item.source, item.target, item.mode) for item in config.files),
        config=_config(project, config, guesses),
        scripts=project.scripts,
        compression=config.compression,
        created=_created(project, guesses),
        check=CheckPlan(config.check.command, config.check.timeout / 1e9) if config.check.command else None,
        load=config.load, archive=config.archive,
        push=config.push,
        allow_dirty=config.allow_dirty,
        sbom=config.sbom,
        provenance=config.provenance,
        sign=sign_plan(config),
        dotenv=config.dotenv,
        builder=config.builder,
        cache=_cache(config),
        pins=_pins(project, config, guesses),
        members=_members(project, config, needs, guesses),
        budget=_budget(config, repositories),
        wheel_records=config.wheel_records,
        native_libraries=config.native_libraries,
        slim=_slim(config),
        steps=step_plans(config),
        ca_certificates=tuple(config.ca_certificates),
        part=part,
        guesses=tuple(guesses),
        notes=notes,
    ), config)  # fmt: skip


def _chosen(project: Metadata, config: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
    chosen: list[tuple[str, ...]] = []
    for option, wanted, known in (
        ("extras", config.extras, project.extras),
        ("dependency-groups", config.dependency_groups, project.groups),
    ):
        names = {canonicalize_name(name): name for name in known}
        for name in wanted:
            if canonicalize_name(name) not in names:
                has = ", ".join(sorted(known)) or "none"
                raise ConfigError(f"tool.hatch-docker.{option}: {project.name} has no {name!r}; it has: {has}")
        chosen.append(tuple(sorted({names[canonicalize_name(name)] for name in wanted})))
    return chosen[0], chosen[1]


def _lock(
    project: Metadata, config: Config, needs: Requirements, extras: tuple[str, ...], groups: tuple[str, ...],
    guesses: list[Guess],
) -> LockPlan:
    if config.lock in ("auto", "none"):
        path = project.locks[0] if project.locks and config.lock == "auto" else ""
        if config.lock == "auto":
            where = "the workspace's root" if path.startswith("..") else "the project's root"
            reason = f"the first lock found, at {where}" if path else "no lock at the project's root"
            guesses.append(Guess("lock", path or "resolve", reason))
    else:
        path = config.lock
    places = tuple(_path_of(project.members[name], project) for name in needs.members)
    pinned = project.pinned if config.lock == "auto" and not path else ""
    return LockPlan(
        _lock_kind(path), path, needs.requirements, extras, groups, places, sources=needs.sources, pinned=pinned
    )


def _members(project: Metadata, config: Config, needs: Requirements, guesses: list[Guess]) -> tuple[MemberPlan, ...]:
    """Return the workspace members to install; their wheels are built with the options of the project."""
    found = []
    for name, markers in needs.members.items():
        member = project.members[name]
        path = _path_of(member, project)
        guesses.append(Guess("members", path, f"{project.name} depends on {member.name}, a project of its workspace"))
        found.append(MemberPlan(member.name, member.version, path, markers, _build(member, config, [])))
    return tuple(found)


def _path_of(member: Metadata, project: Metadata) -> str:
    return os.path.relpath(member.root, project.root).replace(os.sep, "/")


def _pins(project: Metadata, config: Config, guesses: list[Guess]) -> str:
    if config.pins == "auto":
        reason = "it is at the project's root" if project.pins else "there is no lock at the project's root"
        guesses.append(Guess("pins", project.pins or "none", reason))
        return project.pins
    return "" if config.pins == "none" else config.pins


def _budget(config: Config, repositories: Sequence[str]) -> BudgetPlan | None:
    if config.max_growth and not repositories:
        raise ConfigError(
            "tool.hatch-docker.max-growth: compares with the last pushed image; set `image` or `registries`, so that "
            "its repository is known"
        )
    share, growth = config.max_growth or (None, None)
    return BudgetPlan(config.max_size or None, growth, share) if config.max_size or config.max_growth else None


def _lock_kind(path: str) -> str:
    name = path.rpartition("/")[2]
    if not name:
        return "resolve"
    if re.fullmatch(r"pylock(\.[^.]+)?\.toml", name):
        return "pylock"
    if name in ("uv.lock", "poetry.lock", "pdm.lock"):
        return name.removesuffix(".lock")
    if name.endswith((".txt", ".in", ".lock")):
        return "requirements"
    raise ConfigError(
        f"tool.hatch-docker.lock: {path!r} is not a lock that can be read; "
        "use pylock.toml, uv.lock, poetry.lock, pdm.lock or a requirements file with hashes"
    )


def _image(project: Metadata, config: Config, part: str, guesses: list[Guess]) -> str:
    if config.image:
        return config.image
    image = canonicalize_name(project.name) + (f"-{part}" if part else "")
    guesses.append(Guess("image", image, "the project's name" + (" and the image's" if part else "")))
    return image


def _platforms(config: Config, host: Platform, guesses: list[Guess]) -> tuple[str, ...]:
    if config.platforms:
        return tuple(dict.fromkeys(config.platforms))
    guesses.append(Guess("platforms", str(host), "this machine's architecture"))
    return (str(host),)


def _build(project: Metadata, config: Config, guesses: list[Guess]) -> BuildPlan:
    build = config.build
    _check_build(build)
    isolated = build.isolated == "always"
    if build.isolated == "auto":
        unknown = [hook for hook in project.hooks if hook not in PURE_HOOKS]
        requested = [name for name in ("base", "packages", "env", "args", "secrets", "ssh") if getattr(build, name)]
        other = project.backend != "hatchling.build"
        isolated = bool(unknown or requested or other)
        reason = "its wheel needs no build hook"
        if other:
            reason = f"its backend is {project.backend}"
        elif isolated:
            reason = f"build hook {unknown[0]!r} may compile" if unknown else f"build.{requested[0]} asks for it"
        guesses.append(Guess("build.isolated", "always" if isolated else "never", reason))
    return BuildPlan(
        isolated, tuple(sorted(set(build.packages))), build.env, tuple(build.secrets), build.network,
        dict(sorted(build.args.items())), build.ssh, project.requires, build.timeout / 1e9, build.memory,
        build.compiler_cache and isolated and not build.secrets and not build.ssh,  # outputs may contain secrets
    )  # fmt: skip


def _check_build(build: BuildConfig) -> None:
    table = "tool.hatch-docker.build"
    for name in sorted(build.args):
        for other in ("env", "secrets"):
            if name in getattr(build, other):
                raise ConfigError(f"{table}.args: {name} is also in build.{other}; remove it from one of them")
    if build.ssh and not build.network:
        raise ConfigError(f"{table}.ssh: SSH needs the network, and network = false forbids it")
    for name in ("args", "env", "ssh"):
        if build.isolated == "never" and getattr(build, name):
            raise ConfigError(f'{table}.{name}: is for the builder stage, which isolated = "never" switches off')


def _config(project: Metadata, config: Config, guesses: list[Guess]) -> ConfigPlan:
    metadata = annotations_of(project)
    health = config.healthcheck
    # SSL_CERT_FILE is read by OpenSSL and by other TLS libraries; requests has its own certificates and variable.
    trust = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), CA_BUNDLE) if config.ca_certificates else {}
    return ConfigPlan(
        entrypoint=_entrypoint(project, config, guesses),
        cmd=tuple(config.cmd),
        env=dict(sorted({**_environment(config.user), **trust, **config.env}.items())),
        labels=merge_labels(metadata, config.labels),
        annotations=merge_labels(metadata, config.annotations),
        user=config.user,
        workdir=config.workdir,
        ports=tuple(config.ports),
        volumes=tuple(config.volumes),
        stop_signal=config.stop_signal,
        healthcheck=HealthCheck(
            tuple(health.command), health.interval, health.timeout, health.start_period, health.retries,
            health.start_interval,
        ) if health else None,
        init=config.init,
    )


def _environment(user: str) -> dict[str, str]:
    """Return the environment variables of every image.

    A numeric user may have no entry in /etc/passwd and no writable home directory. HOME and USER are set for libraries
    that need a directory for caches or a user name; /tmp is writable, usually also with a read-only root.
    """
    number = user.partition(":")[0]
    own = {"HOME": "/tmp", "USER": "nonroot"} if number.isdigit() and int(number) else {}  # noqa: S108
    return {"PYTHONUNBUFFERED": "1", **own}


def default_script(project: str, scripts: Sequence[str]) -> tuple[str, str] | None:
    """Return the script that is named like the project, and the reason; None if there is none.

    `ansible` is the script of `ansible-core`, `rich` of `rich-cli`, and `supervisord` of `supervisor`.
    """
    likely = {project: "the script named like the project", f"{project}d": "the project's daemon"}
    if short := re.fullmatch(r"(.+)[-_.](?:core|cli)", project):
        likely[short[1]] = "the script named like the project"
    for wanted, why in likely.items():
        for name in scripts:
            if canonicalize_name(name) == canonicalize_name(wanted):
                return name, why
    return None


def _entrypoint(project: Metadata, config: Config, guesses: list[Guess]) -> tuple[str, ...]:
    if config.entrypoint is not None:
        return tuple(config.entrypoint)
    scripts = project.scripts
    if len(scripts) == 1:
        guesses.append(Guess("entrypoint", scripts[0], "the project's only script"))
        return scripts
    if found := default_script(project.name, scripts):
        guesses.append(Guess("entrypoint", *found))
        return (found[0],)
    if config.cmd:
        return ()
    example = '"SCRIPT"' if scripts else '"python", "-m", "MODULE"'
    looked = config.model_fields_set  # `init` has written options, and found no program
    has = f"several scripts: {', '.join(scripts)}" if scripts else "no script"
    raise ConfigError(
        f"tool.hatch-docker.entrypoint: {project.name} has {has}; set the program to run: entrypoint = [{example}]"
        f"{'' if scripts or looked else ', or run `hatch-docker init`, which searches for it'}"
    )


def _cache(config: Config) -> CachePlan:
    """Return the plan of the shared cache; raises ConfigError for options that the engine would ignore."""
    options = {"cache.from": tuple(config.cache.from_), "cache.to": tuple(config.cache.to)}
    if config.engine == "buildkit":
        return CachePlan(*(tuple(item for item in row if item["type"] != "none") for row in options.values()))
    if config.builder:
        raise ConfigError(f'tool.hatch-docker.builder: is for engine = "buildkit", not {config.engine!r}')
    for option, rows in options.items():
        for fields in rows:
            if fields["type"] not in ("registry", "local", "none"):
                raise ConfigError(
                    f'tool.hatch-docker.{option}: type={fields["type"]} is for engine = "buildkit", not '
                    f"{config.engine!r}, which supports type=registry and type=local"
                )
            if unknown := sorted(fields.keys() - {"type", "ref", "src", "dest", "mode"}):
                raise ConfigError(
                    f'tool.hatch-docker.{option}: {unknown[0]}=... is for engine = "buildkit", not {config.engine!r}'
                )
    return CachePlan(*options.values())


def sign_plan(config: Config) -> SignPlan | None:
    """Return the plan for signing, None without `sign` options; raises ConfigError for contradicting options."""
    key, keyless, log = config.sign.key, config.sign.keyless, config.sign.transparency_log
    if key and keyless:
        raise ConfigError("tool.hatch-docker.sign: key and keyless cannot be used together; remove one of them")
    if keyless and log is False:
        raise ConfigError(
            "tool.hatch-docker.sign.transparency-log: keyless signatures are always in the log; leave this option out, "
            "or use a key"
        )
    if not key and not keyless:
        if log is not None:
            raise ConfigError("tool.hatch-docker.sign.transparency-log: nothing is signed; set key or keyless = true")
        return None
    return SignPlan(key, keyless if log is None else log)


def _slim(config: Config) -> SlimPlan:
    """Return the files to leave out of wheels; raises ConfigError for an option without effect."""
    slim = config.slim
    if slim.locales and "locales" not in slim.leave_out:
        raise ConfigError(
            'tool.hatch-docker.slim.locales: has no effect without "locales" in leave-out: every translation stays'
        )
    if slim.keep and not slim.leave_out:
        raise ConfigError("tool.hatch-docker.slim.keep: has no effect without leave-out: nothing is left out")
    return SlimPlan(*(tuple(sorted(set(values))) for values in (slim.leave_out, slim.locales, slim.keep)))


def _created(project: Metadata, guesses: list[Guess]) -> int | None:
    if project.source_date is None:
        guesses.append(Guess("created", "the newest wheel's upload time", "no SOURCE_DATE_EPOCH and no commit"))
    return project.source_date
