"""Failures of a command as a user sees them: one line, and an exit status."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from hatch_docker.core.errors import HatchDockerError
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


def page_about(error: HatchDockerError) -> str:
    """Return the address of the page about a kind of error, "" if the package names no address of its documentation."""
    import importlib.metadata

    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for entry in importlib.metadata.metadata("hatch-docker").get_all("Project-URL") or ():
            label, _, address = entry.partition(", ")
            if label.lower() == "documentation":
                return f"{address.rstrip('/')}/troubleshooting/#{error.section}"
    return ""


def run_or_abort(app: Any, work: Callable[[], Result]) -> Result:
    """Return what `work` returns; a failure that the user can mend ends the program with one line, by hatch's `app`."""
    try:
        with friendly_errors():
            return work()
    except HatchDockerError as error:
        # The name of a file may be no text at all, or control characters for a terminal.
        page = page_about(error)
        app.abort(sanitize(f"{error}\nhelp: {page}" if page else str(error)), code=error.exit_status)
        raise
