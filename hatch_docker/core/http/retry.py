"""The retry policy of every transfer: when to try again, how long to wait, when to stop.

Six tries; a pause of 0.3 s that doubles up to 8 s, with jitter; `Retry-After` is obeyed up to a minute. A failure that
a second attempt rarely mends (a wrong digest, a server that hangs) is tried twice. Every retry shows one line.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from hatch_docker.core.errors import RegistryError, TransientError
from hatch_docker.core.progress import Progress

Result = TypeVar("Result")

RETRYABLE = frozenset({408, 429, 499, 500, 502, 503, 504, 522})
FIRST_PAUSE = 0.3  # seconds
LONGEST_PAUSE = 8.0  # seconds, of our own choice
LONGEST_REQUEST = 60.0  # seconds that a peer may ask us to wait


class Retryable(TransientError):
    """One attempt failed in a way that may pass.

    `after` is how many seconds the server asked to wait. `tries` bounds the attempts that may fail in this way;
    `lasting` says that trying later will not help either, once they are used up.
    """

    def __init__(self, message: str, *, after: float | None = None, tries: int = 6, lasting: bool = False) -> None:
        super().__init__(message)
        self.after = after
        self.tries = tries
        self.lasting = lasting


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits of retrying. `deadline`, in seconds, ends an operation between two tries."""

    tries: int = 6
    deadline: float = 300.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def run(
        self, what: str, attempt: Callable[[], Result], progress: Progress, *, deadline: float | None = None
    ) -> Result:
        """Return the result of the first attempt that succeeds; `what` starts every line about one that fails.

        Raises TransientError when the tries are used up, RegistryError when trying again cannot help.
        """
        end = self.clock() + (self.deadline if deadline is None else deadline)
        bounded = 0
        for number in range(1, self.tries + 1):
            try:
                return attempt()
            except Retryable as error:
                bounded += error.tries < self.tries
                tries = "1 try" if number == 1 else f"{number} tries"
                if number == self.tries or bounded >= error.tries:
                    raise _failure(f"{what}: {error}; gave up after {tries}", error) from error
                wait = pause(number) if error.after is None else error.after
                if wait > LONGEST_REQUEST:
                    raise TransientError(f"{what}: {error}; it asks to wait {wait:.0f} s: try again later") from error
                if self.clock() + wait > end:
                    raise _failure(f"{what}: {error}; gave up after {tries}: out of time", error) from error
                progress.info(f"{what}: {error}; again in {wait:.1f} s (try {number + 1}/{self.tries})")
                self.sleep(wait)
            except RegistryError as error:
                error.args = (f"{what}: {error}",)
                raise
        raise AssertionError("unreachable")


def _failure(message: str, error: Retryable) -> RegistryError:
    return (RegistryError if error.lasting else TransientError)(message)


def pause(number: int) -> float:
    """Return the seconds to wait after the `number`th try; jitter keeps parallel builds from retrying together."""
    import random

    spread = random.uniform(0.8, 1.2)  # noqa: S311
    return min(FIRST_PAUSE * 2.0 ** (number - 1) * spread, LONGEST_PAUSE)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a `Retry-After` header (RFC 9110 §10.2.3); None without a valid one.

    A date is relative to the server's own `Date`, since our clock may be wrong.
    """
    from email.utils import parsedate_to_datetime

    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    try:
        start = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        start = time.time()
    return max(0.0, until - start)
