"""Questions that are asked at the same time. It imports nothing that an unchanged build does not need."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def at_once(*questions: Callable[[], Result]) -> list[Result]:
    """Call functions at the same time, and return their results; raises the error of the first one that failed."""
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}

    def ask(number: int, question: Callable[[], Result]) -> None:
        try:
            results[number] = question()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors[number] = error

    others = [threading.Thread(target=functools.partial(ask, number, question), daemon=True)
              for number, question in enumerate(questions[1:], 1)]  # fmt: skip
    for thread in others:
        thread.start()
    ask(0, questions[0])
    for thread in others:
        thread.join()
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(questions))]
