"""Choice of the base image, its Python and the base of the builder stage, with a reason for each guess."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet

from hatch_docker.core.errors import ConfigError
from hatch_docker.plan.model import DEBIAN_PYTHONS, TINI, UNRELEASED, BasePlan, Guess, StandalonePlan
from hatch_docker.project.metadata import Metadata

if TYPE_CHECKING:
    from hatch_docker.config.options import Config

# In order of preference: Pythons with wheels of most projects, the newest first; then Pythons with few wheels.
KNOWN_PYTHONS = ("3.14", "3.13", "3.12", "3.11", "3.10", "3.15")


def base_plan(project: Metadata, config: Config, guesses: list[Guess]) -> tuple[BasePlan, str]:
    """Return the base of a project and its Python, "" if only the image determines it; raises ConfigError."""
    name, python = config.base, config.python
    if not name:
        if python.endswith("t"):
            raise ConfigError(f'python = {python!r} is free-threaded: set base = "standalone:{python}" instead')
        fitting = (known for known in KNOWN_PYTHONS if _admits(project.requires_python, known))
        python = python or next((known for known in fitting if _has_wheel(project.pythons, known)), "")
        if not python:
            known = ", ".join(KNOWN_PYTHONS)
            raise ConfigError(
                f"requires-python {project.requires_python!r} does not allow any known Python ({known}); "
                "set base to an image with such a Python"
            )
        name = f"python:{python}-slim"
        reason = f"the newest CPython that requires-python {project.requires_python or '(none)'} allows"
        reason += " and a wheel is for" if any(project.pythons) else ""
        guesses.append(Guess("base", name, reason))
    kind, location = base_location(name)
    standalone = None
    if name.startswith("standalone:"):
        standalone, python, location = _standalone_plan(name, python, config)
        kind = "debian"
    elif kind == "debian":
        python = _suite_python(project, name, DEBIAN_PYTHONS[location], python, guesses)
    for option, packages in (("runtime.packages", config.runtime.packages), ("init", TINI if config.init else ())):
        if kind != "debian" and packages and config.engine != "buildkit":
            raise ConfigError(
                f"tool.hatch-docker.{option}: on base {name!r} only its own apt can install {' '.join(packages)}; set "
                'engine = "buildkit", or base = "debian:trixie", where no apt is needed'
            )
    if python and not _admits(project.requires_python, python):
        where = name if kind == "debian" else f"python = {python!r}"
        raise ConfigError(
            f"{where} has Python {python}, but {project.name} requires-python {project.requires_python!r}; "
            f"set base to {fitting_bases(project.requires_python)}, or widen requires-python"
        )
    debian = config.debian.mirror, config.debian.security_mirror, config.debian.slim
    return BasePlan(
        kind, name, location, *debian, tuple(sorted({*config.runtime.packages, *(TINI if config.init else ())})),
        python="" if standalone or kind != "debian" else python, check_valid_until=config.debian.check_valid_until,
        builder=_builder(config, python), standalone=standalone,
    ), python  # fmt: skip


def _standalone_plan(name: str, python: str, config: Config) -> tuple[StandalonePlan, str, str]:
    """Return the archive, the Python and the suite of a `standalone:` base; raises ConfigError."""
    options, version = config.standalone, name.removeprefix("standalone:")
    if not re.fullmatch(r"3\.\d{1,2}t?", version):
        raise ConfigError(f"base {name!r}: write a Python after the colon, such as standalone:3.14t")
    if python not in ("", version):
        raise ConfigError(f"python = {python!r} does not fit base {name!r}; remove `python`")
    if options.suite not in DEBIAN_PYTHONS:
        raise ConfigError(
            f"tool.hatch-docker.standalone.suite: {options.suite!r} is unknown; known: {', '.join(DEBIAN_PYTHONS)}"
        )
    return StandalonePlan(version, options.mirror, options.release), version, options.suite


def _builder(config: Config, python: str) -> BasePlan | None:
    """Return the base of the builder stage (`build.base`), None if it is not set; raises ConfigError."""
    name, packages = config.build.base, config.build.packages
    if not name:
        return None
    if name.startswith("standalone:"):
        raise ConfigError(f"tool.hatch-docker.build.base: {name} has no compiler; leave it out, or name another image")
    kind, location = base_location(name)
    if kind != "debian" and packages:
        raise ConfigError(
            f"tool.hatch-docker.build.packages: {packages[0]} cannot be installed into build.base {name!r}; name an "
            "image that has it, or leave out build.base"
        )
    return BasePlan(
        kind, name, location, config.debian.mirror, config.debian.security_mirror,
        python=python if python in DEBIAN_PYTHONS.get(location, ()) else "",
        check_valid_until=config.debian.check_valid_until,
    )


def base_location(name: str) -> tuple[str, str]:
    """Return the kind of a base and its suite, reference or path; raises ConfigError for an unknown suite."""
    kind, _, location = name.partition(":")
    if kind == "debian" and location not in DEBIAN_PYTHONS:
        known = ", ".join(f"debian:{suite}" for suite in DEBIAN_PYTHONS)
        raise ConfigError(f"base {name!r}: unknown Debian suite; known: {known}")
    return (kind, location) if kind in ("debian", "oci") else ("registry", name)


def _suite_python(project: Metadata, name: str, known: Sequence[str], python: str, guesses: list[Guess]) -> str:
    """Return the Python of a suite to use. `known`: the suite's Pythons, its default first. Raises ConfigError."""
    if python in known:
        return python
    if python:
        bases = f'"standalone:{python}"' if python.endswith("t") else fitting_bases(f"=={python}.*", unreleased=True)
        raise ConfigError(
            f"python = {python!r} does not fit base {name!r}, whose Python is {' or '.join(known)}; remove `python`, "
            f"or set base to {bases}"
        )
    found = next((python for python in known if _admits(project.requires_python, python)), known[0])
    if found != known[0]:
        guesses.append(Guess("python", found, f"requires-python {project.requires_python} does not allow {known[0]}"))
    return found


def fitting_bases(requires_python: str, *, unreleased: bool = False) -> str:
    """Return, for a message, up to three bases whose Python a project admits; `unreleased`: unreleased suites too."""
    suites: dict[str, str] = {}
    for suite, pythons in reversed([*DEBIAN_PYTHONS.items()]):  # reversed: the oldest suite of a Python wins
        if unreleased or suite not in UNRELEASED:
            suites |= dict.fromkeys(pythons, f"debian:{suite}")
    fitting = [python for python in KNOWN_PYTHONS if _admits(requires_python, python)]
    found = [suites[python] for python in fitting if python in suites]
    found += [f"python:{python}-slim" for python in fitting]
    return " or ".join(found[:3]) or "an image with such a Python"


def _admits(requires_python: str, python: str) -> bool:
    specifiers, python = SpecifierSet(requires_python), python.removesuffix("t")
    # A lower bound such as >=3.13.2 admits 3.13: compare with the highest possible patch release.
    return specifiers.contains(f"{python}.99") or specifiers.contains(f"{python}.0")


def _has_wheel(pythons: Sequence[str], python: str) -> bool:
    """Return whether a prebuilt wheel supports a Python; True without prebuilt wheels. `pythons`: their specifiers."""
    return not pythons or any(_admits(specifier, python) for specifier in pythons)
