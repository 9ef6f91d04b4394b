"""Concurrent function calls. This module imports only what an unchanged build imports anyway."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def at_once(*functions: Callable[[], Result]) -> list[Result]:
    """Call functions concurrently, the first in this thread, the others in daemon threads; return their results.

    If some fail, the error of the first of them (in the order of the arguments) is raised after all have returned.
    KeyboardInterrupt in this thread is raised immediately.
    """
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}

    def call(number: int, function: Callable[[], Result]) -> None:
        try:
            results[number] = function()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            errors[number] = error

    numbered = list(enumerate(functions))
    threads = [threading.Thread(target=call, args=item, daemon=True) for item in numbered[1:]]
    for thread in threads:
        thread.start()
    for item in numbered[:1]:
        call(*item)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[min(errors)]
    return [results[number] for number, _ in numbered]
