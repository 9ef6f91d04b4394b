"""Failures of a command as the user sees them: one line, and an exit status."""

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


def shell_command(*, hatch: bool = False) -> str:
    """Return a command line that starts hatch-docker in the user's shell.

    `hatch`: this process runs in an environment of hatch or a build tool, whose programs are not on the PATH of the
    user's shell; ignore that environment.
    """
    if {"archive-v0", "builds-v0"} & set(Path(sys.prefix).parts):  # uvx, uv build: the environment is in uv's cache
        return "uvx hatch-docker"
    temporary = re.search(r"/(pip-)?build-env-", sys.prefix)  # an environment that pip or build will remove
    own = str(Path(sys.executable).parent)
    places = [place for place in os.get_exec_path() if not (hatch and place == own)]
    if shutil.which("hatch-docker", path=os.pathsep.join(places)) or temporary:
        return "hatch-docker"
    return shlex.join([sys.executable, "-m", "hatch_docker"])


def terminal_text(error: HatchDockerError, *, hatch: bool = False) -> str:
    """Return the text of an error without control characters, and with commands that work in the user's shell."""
    text = str(error)
    if "`hatch-docker " in text:
        text = text.replace("`hatch-docker ", f"`{shell_command(hatch=hatch)} ")
    return sanitize(text)


def documentation_url(error: HatchDockerError) -> str:
    """Return the URL of the documentation about a kind of error: on the site, otherwise in the repository, or ""."""
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
    """Return the result of `work`; for an error of the user, end the program with one line (hatch's `app.abort`)."""
    try:
        with friendly_errors():
            return work()
    except HatchDockerError as error:
        page = documentation_url(error)
        text = terminal_text(error, hatch=True)
        app.abort(f"{text}\nhelp: {page}" if page else text, code=error.exit_status)
        raise


@contextlib.contextmanager
def naming_typed_options(options: Mapping[str, str]) -> Iterator[None]:
    """In ConfigErrors of the block, replace each variable by the command line option (`options`) that set it."""
    try:
        yield
    except ConfigError as error:
        text = str(error)
        for variable, option in options.items():
            text = re.sub(rf"\b{variable}(?=[:.\[])", option, text)
        error.args = (text,)
        raise
