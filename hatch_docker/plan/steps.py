"""The steps of a plan: commands in the finished image, and the directories that they may write to."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from hatch_docker.core.errors import ConfigError
from hatch_docker.plan.model import StepPlan

if TYPE_CHECKING:
    from hatch_docker.config.options import Config

# Directories and files that are mounted while a step runs, so that a layer cannot contain them.
MOUNTED_DIRECTORIES = ("/tmp/", "/proc/", "/sys/", "/dev/", "/run/secrets/", "/inputs/")  # noqa: S108
MOUNTED_FILES = ("/etc/hosts", "/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt")


def step_plans(config: Config) -> tuple[StepPlan, ...]:
    """Return the plans of the option `steps`; raises ConfigError for outputs that a layer cannot contain."""
    steps = []
    for number, step in enumerate(config.steps):
        table = f"tool.hatch-docker.steps[{number}]"
        outputs = sorted({posixpath.normpath(f"/{path.strip('/')}") for path in step.outputs})
        for path in outputs:
            check_output(path, number)
        if twice := sorted(set(step.env) & set(step.secrets)):
            raise ConfigError(f"{table}.env: {twice[0]} is also one of its secrets; remove it from one of them")
        top = tuple(path for path in outputs if not any(path.startswith(f"{other}/") for other in outputs))
        steps.append(StepPlan(
            tuple(step.command), top, tuple(sorted(set(step.inputs))), dict(sorted(step.env.items())),
            tuple(sorted(set(step.secrets))), step.network, step.timeout / 1e9,
        ))  # fmt: skip
    return tuple(steps)


def check_output(path: str, number: int) -> None:
    """Raise ConfigError if a layer cannot contain an output. `path`: absolute; `number`: the step's index from 0."""
    table = f"tool.hatch-docker.steps[{number}]"
    if path == "/":
        raise ConfigError(f"{table}.outputs: / is the whole image; set the directory that the command writes to")
    if f"{path}/".startswith(MOUNTED_DIRECTORIES):
        raise ConfigError(
            f"{table}.outputs: {path} belongs to the container's runtime or to the step, and cannot be in a layer; "
            "choose another directory, such as /srv/static"
        )
    if any(file.startswith(f"{path}/") for file in MOUNTED_FILES):
        raise ConfigError(
            f"{table}.outputs: {path} contains files of the step's container; choose a directory below it"
        )
