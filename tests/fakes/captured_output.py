"""Capturing all output of hatch-docker in a test, at the highest verbosity, and searching it for secrets.

The passwords, tokens, upload sessions and signed URLs in these tests contain MARK.
"""

import base64
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from hatch_docker.core.errors import HatchDockerError
from hatch_docker.core.progress import Progress, Task

MARK = "s3cret"
# MARK itself, and its base64 forms: for each of the three alignments, the characters that depend only on MARK.
FORMS = [MARK, *(
    base64.b64encode(bytes(before) + MARK.encode()).decode()[-(-before * 8 // 6) : (before + len(MARK)) * 8 // 6]
    for before in range(3)
)]  # fmt: skip


class RecordedOutput:
    """Recorder of all lines, titles of tasks, and raised errors, including errors that were caught."""

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
        """Return a method that records its first argument and calls `method`."""

        def called(progress: Progress, text: str, *more: Any, **named: Any) -> Task | None:
            self.lines.append(text)
            result: Task | None = method(progress, text, *more, **named)
            return result

        return called

    def everything(self) -> list[str]:
        """Return the lines, and each error with its causes, as in a traceback without lines of code."""
        ends = ["".join(traceback.format_exception(error, limit=0)) + repr(error) for error in self.errors]
        return self.lines + ends


def secrets_in(texts: list[str]) -> list[str]:
    """Return the texts that contain a secret."""
    return [text for text in texts if any(form in text for form in FORMS)]
