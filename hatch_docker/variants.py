"""What a project may ask of its image beside the usual: less of its wheels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hatch_docker.errors import ConfigError
from hatch_docker.plan import SlimPlan

if TYPE_CHECKING:
    from hatch_docker.config import Config


def slim_plan(config: Config) -> SlimPlan:
    """What is left out of wheels; raises ConfigError for options that say nothing without another."""
    slim = config.slim
    if slim.locales and "locales" not in slim.leave_out:
        raise ConfigError(
            'tool.hatch-docker.slim.locales: every translation stays as long as leave-out has no "locales"'
        )
    if slim.keep and not slim.leave_out:
        raise ConfigError("tool.hatch-docker.slim.keep: nothing is left out; say what, in leave-out")
    return SlimPlan(*(tuple(sorted(set(values))) for values in (slim.leave_out, slim.locales, slim.keep)))
