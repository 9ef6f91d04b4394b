"""What a plan says of the configuration and the annotations, once the base is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from hatch_docker.bases.model import Base
from hatch_docker.errors import ConfigError
from hatch_docker.oci.model import DOCKER_MANIFEST, SOURCE_DATE
from hatch_docker.oci.mutate import Settings, rfc3339
from hatch_docker.oci.reference import parse_reference
from hatch_docker.plan import DEFAULT_PATH, VENV, HealthCheck, Plan
from hatch_docker.release.names import PREFIX, merged
from hatch_docker.wheels.target import Pin


def image_settings(plan: Plan, base: Base, created: int) -> Settings:
    """The configuration of the image (config.md): the plan's over the base's."""
    config = plan.config
    base_env = dict(item.split("=", 1) for item in (base.image.config_json.get("config") or {}).get("Env") or [])
    path = f"/{VENV}/bin:{base_env.get('PATH', DEFAULT_PATH)}"
    return Settings(
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        env={"PATH": path, **config.env},
        labels=merged(foundations(base, created), config.labels),
        user=numeric_user(config.user, base),
        workdir=config.workdir,
        ports=config.ports,
        volumes=config.volumes,
        stop_signal=config.stop_signal,
        healthcheck=_healthcheck(config.healthcheck),
    )


def image_annotations(plan: Plan, base: Base, created: int) -> dict[str, str]:
    """The annotations of the manifest (annotations.md); the user's win."""
    return merged(foundations(base, created), plan.config.annotations)


def lost_annotations(plan: Plan, base: Base) -> list[str]:
    """The keys of the user's own annotations that the manifest cannot have: Docker's media types know none."""
    if base.image.descriptor.media_type != DOCKER_MANIFEST:
        return []
    labels = plan.config.labels  # which say the same of the metadata
    return [key for key, value in plan.config.annotations.items() if labels.get(key) != value]


def foundations(base: Base, created: int) -> dict[str, str]:
    """The pre-defined keys that are known only once the base is.

    The name of a registry's base is spelt out, as the specification wants it; a layout has none but its path here.
    """
    values = {"base.digest": base.digest, "base.name": base.name, "created": rfc3339(created)}
    if base.plan.kind == "registry":
        reference = parse_reference(base.plan.location)
        values["base.name"] = str(replace(reference, digest="") if reference.tag else reference)
    elif base.plan.kind == "oci":
        del values["base.name"]
    return {PREFIX + key: value for key, value in values.items()}


def numeric_user(user: str, base: Base) -> str:
    """The user as numbers, so that a cluster can see it is not root; raises ConfigError for an unknown name."""
    name, colon, group = user.partition(":")
    if name.isdigit() and (not colon or group.isdigit()):
        return user
    if colon or name not in base.users:
        known = ", ".join(sorted(base.users))
        raise ConfigError(
            f"tool.hatch-docker.user: {user!r} is no user of base {base.name}; use a number, or one of: {known}"
        )
    return "{}:{}".format(*base.users[name])


def created_time(plan: Plan, base: Base, pins: Sequence[Pin]) -> int:
    """The image's time: the plan's, else the newest upload of its wheels, else the base's; never now."""
    if plan.created is not None:
        return plan.created
    known = [one.upload_time for one in pins if one.upload_time is not None]
    if known:
        return max(known)
    try:
        return int(datetime.fromisoformat(base.image.config_json.get("created", "")).timestamp())
    except (ValueError, TypeError):
        return SOURCE_DATE


def _healthcheck(check: HealthCheck | None) -> dict[str, object] | None:
    """Docker's own addition to the configuration: HEALTHCHECK, times in nanoseconds."""
    if check is None:
        return None
    values = {
        "Test": ["CMD", *check.command], "Interval": check.interval, "Timeout": check.timeout,
        "StartPeriod": check.start_period, "Retries": check.retries,
    }
    return {key: value for key, value in values.items() if value}
