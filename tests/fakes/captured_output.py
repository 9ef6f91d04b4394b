"""Everything that a test makes us print, at the highest verbosity, and a search for secrets in it.

Passwords, tokens, upload sessions and signed URLs of these tests hold the MARK.
"""

import base64
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from hatch_docker.core.errors import HatchDockerError
from hatch_docker.core.progress import Progress, Task

MARK = "s3cret"
# As base64 writes it, whatever stands before and after it: the signs that are its own, in each of three places.
FORMS = [MARK, *(
    base64.b64encode(bytes(before) + MARK.encode()).decode()[-(-before * 8 // 6) : (before + len(MARK)) * 8 // 6]
    for before in range(3)
)]  # fmt: skip


class RecordedOutput:
    """All lines, titles of tasks and errors that were raised, caught or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[str] = []
        self.errors: list[BaseException] = []
        for name in ("info", "detail", "warn"):
            monkeypatch.setattr(Progress, name, self.recording(getattr(Progress, name)))
        monkeypatch.setattr(Progress, "task", self.recording(Progress.task))
        errors = self.errors

        def remembered(kind: type[HatchDockerError], *arguments: object, **named: object) -> HatchDockerError:
            error = Exception.__new__(kind, *arguments)
            errors.append(error)
            return error

        monkeypatch.setattr(HatchDockerError, "__new__", remembered)

    def recording(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method, whose first argument is remembered."""

        def called(progress: Progress, text: str, *more: Any, **named: Any) -> Task | None:
            self.lines.append(text)
            result: Task | None = method(progress, text, *more, **named)
            return result

        return called

    def everything(self) -> list[str]:
        """Return the lines, and each error as its traceback ends, with its causes.

        Without the lines of code between: they are the same whatever the secrets are.
        """
        ends = ["".join(traceback.format_exception(error, limit=0)) + repr(error) for error in self.errors]
        return self.lines + ends


def secrets_in(texts: list[str]) -> list[str]:
    """Those of some texts that hold a secret."""
    return [text for text in texts if any(form in text for form in FORMS)]
