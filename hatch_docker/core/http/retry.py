"""The retry policy of every request.

At most six tries. The pause starts at 0.3 s and doubles up to 8 s, with jitter; `Retry-After` is followed up to one
minute. Failures that rarely disappear (a wrong digest, a server that sends nothing) are tried twice. Each retry prints
one line.
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
LONGEST_PAUSE = 8.0  # seconds; a `Retry-After` may be longer
LONGEST_REQUEST = 60.0  # seconds; a longer `Retry-After` is an error


class Retryable(TransientError):
    """A failed attempt that may succeed if it is repeated.

    `after`: seconds from `Retry-After`. `tries`: the most attempts that may fail in this way. `permanent`: True if the
    failure is permanent when `tries` attempts have failed (exit status 1, not 75).
    """

    def __init__(self, message: str, *, after: float | None = None, tries: int = 6, permanent: bool = False) -> None:
        super().__init__(message)
        self.after = after
        self.tries = tries
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits of retries. No attempt starts more than `deadline` seconds after the first."""

    tries: int = 6
    deadline: float = 300.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def run(
        self, operation: str, attempt: Callable[[], Result], progress: Progress, *, deadline: float | None = None
    ) -> Result:
        """Call `attempt` until it succeeds; return its result. `operation` is the start of each error message.

        Raises TransientError if all tries failed, RegistryError for a permanent failure.
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
                    raise _failure(f"{operation}: {error}; gave up after {tries}", error) from error
                wait = pause(number) if error.after is None else error.after
                if wait > LONGEST_REQUEST:
                    raise TransientError(
                        f"{operation}: {error}; the server asks to wait {wait:.0f} s: try again later"
                    ) from error
                if self.clock() + wait > end:
                    raise _failure(f"{operation}: {error}; gave up after {tries}: out of time", error) from error
                progress.info(f"{operation}: {error}; again in {wait:.1f} s (try {number + 1}/{self.tries})")
                self.sleep(wait)
            except RegistryError as error:
                error.args = (f"{operation}: {error}",)
                raise
        raise AssertionError("unreachable")


def _failure(message: str, error: Retryable) -> RegistryError:
    return (RegistryError if error.permanent else TransientError)(message)


def pause(number: int) -> float:
    """Return the seconds to wait after try `number`, with jitter, so that parallel builds do not retry together."""
    import random

    spread = random.uniform(0.8, 1.2)  # noqa: S311
    return min(FIRST_PAUSE * 2.0 ** (number - 1) * spread, LONGEST_PAUSE)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a `Retry-After` header (RFC 9110 §10.2.3), None if it is missing or not valid.

    A date is compared with the server's `Date` header, because the local clock may be wrong.
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
