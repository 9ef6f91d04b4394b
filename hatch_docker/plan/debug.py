"""The debug variant of an image: the same program, run by a debugger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hatch_docker.core.errors import ConfigError
from hatch_docker.plan.model import DEBUG_PORT, PROGRAMS, Plan

if TYPE_CHECKING:
    from hatch_docker.config.options import Config

DEBUG = "debug"           # the end of a debug variant's tags and file names
DEBUGGER = "debugpy"
SHELL = "busybox-static"  # Debian's package
_LONGEST_TAG = 128
OPTIONS_WITH_VALUE = ("-X", "-W", "--check-hash-based-pycs")  # options of python whose value is the next argument


def debug_variant(plan: Plan, config: Config) -> Plan:
    """Return the plan of the debug variant if the option `debug` is set, else the unchanged plan.

    The variant has other tags and file names than the image. Raises ConfigError if debugpy cannot run the program.
    """
    if not config.debug:
        if config.debug_shell:
            raise ConfigError("tool.hatch-docker.debug-shell: needs debug = true")
        return plan
    base = plan.base
    if config.debug_shell:
        if base.kind != "debian":
            raise ConfigError(
                f'tool.hatch-docker.debug-shell: adds a shell to "debian:" bases, and base is {base.name!r}'
            )
        base = replace(base, packages=tuple(sorted({*base.packages, SHELL})), busybox=True)
    settings = plan.config
    return replace(
        plan,
        part=plan.part if plan.part.split("-")[-1] == DEBUG else "-".join(filter(None, (plan.part, DEBUG))),
        tags=debug_tags(plan.tags),
        base=base,
        lock=replace(plan.lock, beside=(DEBUGGER,)),
        config=replace(
            settings,
            entrypoint=debug_command(settings.entrypoint or settings.cmd),
            cmd=settings.cmd if settings.entrypoint else (),
            ports=tuple(dict.fromkeys((*settings.ports, f"{DEBUG_PORT}/tcp"))),
        ),
        budget=None,
        debug=True,
        notes=(*plan.notes, f"a debug variant: everybody who can connect to its port {DEBUG_PORT} can run code in it"),
    )


def debug_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the tags of the debug variant of an image with `tags`."""
    return tuple(dict.fromkeys(f"{tag[: _LONGEST_TAG - len(DEBUG) - 1]}-{DEBUG}" for tag in tags))


def is_debug_variant(tags: Sequence[str]) -> bool:
    """Return whether an image with these tags is a debug variant."""
    return bool(tags) and all(tag.endswith(f"-{DEBUG}") for tag in tags)


def debug_command(command: Sequence[str]) -> tuple[str, ...]:
    """Return a command that runs `command` with debugpy; raises ConfigError if Python does not run the command."""
    word, *rest = command or ("",)
    options: list[str] = []
    if word.rpartition("/")[2].startswith("python"):
        while rest and rest[0].startswith("-") and rest[0][:2] not in ("-m", "-c"):
            options.append(rest.pop(0))
            if options[-1] in OPTIONS_WITH_VALUE and rest:
                options.append(rest.pop(0))
        program = rest
    elif word and ("/" not in word or word.startswith(PROGRAMS) or word.endswith(".py")):
        program = [word if "/" in word else PROGRAMS + word, *rest]
    else:
        program = []
    if not program:
        raise ConfigError(
            f"tool.hatch-docker.debug: a Python debugger cannot run {' '.join(command) or 'nothing'!r}; set "
            'entrypoint to a script of the environment, or to ["python", "-m", "MODULE"]'
        )
    # Breakpoints do not work in frozen modules, and debugpy would print a warning at each start.
    listen = ("-X", "frozen_modules=off", "-m", DEBUGGER, "--listen", f"0.0.0.0:{DEBUG_PORT}")
    return ("python", *options, *listen, *program)
