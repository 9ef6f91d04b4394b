"""The steps of a plan: commands in the finished image, and the directories that they may fill."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from hatch_docker.core.errors import ConfigError
from hatch_docker.plan.model import StepPlan

if TYPE_CHECKING:
    from hatch_docker.config.options import Config

APART = ("/tmp/", "/proc/", "/sys/", "/dev/", "/run/secrets/", "/inputs/")  # noqa: S108 - mounted while a step runs
MOUNTED = ("/etc/hosts", "/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt")  # files, mounted in the same way


def step_plans(config: Config) -> tuple[StepPlan, ...]:
    """Return the steps in the finished image; raises ConfigError for outputs that no layer can have."""
    steps = []
    for number, step in enumerate(config.steps):
        table = f"tool.hatch-docker.steps[{number}]"
        outputs = sorted({posixpath.normpath(f"/{path.strip('/')}") for path in step.outputs})
        for path in outputs:
            check_output(path, number)
        if twice := sorted(set(step.env) & set(step.secrets)):
            raise ConfigError(f"{table}.env: {twice[0]} is one of its secrets too; leave it in one of them")
        apart = tuple(path for path in outputs if not any(path.startswith(f"{other}/") for other in outputs))
        steps.append(StepPlan(
            tuple(step.command), apart, tuple(sorted(set(step.inputs))), dict(sorted(step.env.items())),
            tuple(sorted(set(step.secrets))), step.network, step.timeout / 1e9,
        ))  # fmt: skip
    return tuple(steps)


def check_output(path: str, number: int) -> None:
    """Raise ConfigError for an absolute path that the step of a number from 0 cannot fill in a layer."""
    table = f"tool.hatch-docker.steps[{number}]"
    if path == "/":
        raise ConfigError(f"{table}.outputs: / is the whole image; name the directory that the command fills")
    if f"{path}/".startswith(APART):
        raise ConfigError(
            f"{table}.outputs: {path} belongs to the container's runtime or to the step, and cannot be in a layer; "
            "choose another directory, such as /srv/static"
        )
    if any(file.startswith(f"{path}/") for file in MOUNTED):
        raise ConfigError(f"{table}.outputs: {path} holds files of the step's container; name one below it")
