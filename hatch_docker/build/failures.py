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


def run_or_abort(app: Any, work: Callable[[], Result]) -> Result:
    """Return what `work` returns; a failure that the user can mend ends the program with one line, by hatch's `app`."""
    try:
        with friendly_errors():
            return work()
    except HatchDockerError as error:
        # The name of a file may be no text at all, or control characters for a terminal.
        app.abort(sanitize(str(error)), code=error.exit_status)
        raise
