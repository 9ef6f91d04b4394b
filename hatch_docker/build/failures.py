"""Failures of a command as a user sees them: one line, and an exit status."""

import contextlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hatch_docker.core.errors import ConfigError, HatchDockerError
from hatch_docker.core.os_errors import friendly_os_errors
from hatch_docker.core.signals import handle_signals
from hatch_docker.core.text import sanitize
from hatch_docker.project.hatch_errors import hatchling_errors

Result = TypeVar("Result")


@contextlib.contextmanager
def friendly_errors() -> Iterator[None]:
    """Turn signals, and errors of hatchling and of the operating system, into errors of one line."""
    with handle_signals(), hatchling_errors(), friendly_os_errors():
        yield


def own_command(*, hatch: bool = False) -> str:
    """Return the command line of hatch-docker that works in the user's shell.

    hatch and build tools run us in an environment of theirs, whose programs are not in that shell's PATH: with `hatch`
    they do not count.
    """
    if {"archive-v0", "builds-v0"} & set(Path(sys.prefix).parts):  # uvx, uv build: the environment is in uv's cache
        return "uvx hatch-docker"
    temporary = re.search(r"/(pip-)?build-env-", sys.prefix)  # of pip or build, which remove it
    own = str(Path(sys.executable).parent)
    places = [place for place in os.get_exec_path() if not (hatch and place == own)]
    if shutil.which("hatch-docker", path=os.pathsep.join(places)) or temporary:
        return "hatch-docker"
    return shlex.join([sys.executable, "-m", "hatch_docker"])


def told(error: HatchDockerError, *, hatch: bool = False) -> str:
    """Return the text of an error for a terminal: no control characters, and commands that can be typed here."""
    text = str(error)
    if "`hatch-docker " in text:
        text = text.replace("`hatch-docker ", f"`{own_command(hatch=hatch)} ")
    return sanitize(text)


def page_about(error: HatchDockerError) -> str:
    """Return the address of the page about a kind of error: of the site, else in the repository; "" without either."""
    import importlib.metadata

    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        entries = importlib.metadata.metadata("hatch-docker").get_all("Project-URL") or ()
        addresses = {label.lower(): address for label, _, address in (entry.partition(", ") for entry in entries)}
        if site := addresses.get("documentation"):
            return f"{site.rstrip('/')}/troubleshooting/#{error.section}"
        if repository := addresses.get("repository"):
            return f"{repository}/blob/main/docs/troubleshooting.md#{error.section}"
    return ""


def run_or_abort(app: Any, work: Callable[[], Result]) -> Result:
    """Return what `work` returns; a failure that the user can mend ends the program with one line, by hatch's `app`."""
    try:
        with friendly_errors():
            return work()
    except HatchDockerError as error:
        # The name of a file may be no text at all, or control characters for a terminal.
        page = page_about(error)
        text = told(error, hatch=True)
        app.abort(f"{text}\nhelp: {page}" if page else text, code=error.exit_status)
        raise


@contextlib.contextmanager
def named_as_typed(typed: Mapping[str, str]) -> Iterator[None]:
    """Name in ConfigErrors of the block the options that the user typed, by the variables that carry their values."""
    try:
        yield
    except ConfigError as error:
        text = str(error)
        for variable, option in typed.items():
            text = re.sub(rf"\b{variable}(?=[:.\[])", option, text)
        error.args = (text,)
        raise
