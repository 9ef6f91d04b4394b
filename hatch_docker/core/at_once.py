"""Work on several things at the same time. It imports nothing that an unchanged build does not need."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def at_once(*questions: Callable[[], Result]) -> list[Result]:
    """Call functions at the same time, the first one in this thread, and return their results.

    Raises the error of the first one that failed, once all have ended; an interrupt of this thread at once.
    """
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}

    def ask(number: int, question: Callable[[], Result]) -> None:
        try:
            results[number] = question()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            errors[number] = error

    numbered = list(enumerate(questions))
    others = [threading.Thread(target=ask, args=item, daemon=True) for item in numbered[1:]]
    for thread in others:
        thread.start()
    for item in numbered[:1]:
        ask(*item)
    for thread in others:
        thread.join()
    if errors:
        raise errors[min(errors)]
    return [results[number] for number, _ in numbered]
