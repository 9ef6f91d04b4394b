"""Failures of the machine as help text: a full or broken disk, a standard output that was closed."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from hatch_docker.core.errors import StoreError

FULL = {errno.ENOSPC, errno.EDQUOT}
# Not the user's mistake: broken, full, read-only and vanished disks, and too many open files.
FAULTS = FULL | {errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENFILE}
BROKEN_PIPE = 141  # the exit status of a program whose output is closed: 128 + SIGPIPE


def reason(error: OSError, place: Path) -> str:
    """Return the system's message for a file at `place`; for a full disk also the space that is free.

    Unfinished files have been removed by now, so more than the free space is needed.
    """
    said = error.strerror or str(error)
    if error.errno in FULL:
        with contextlib.suppress(OSError):
            said += f": it needs more than the {shutil.disk_usage(place).free / 1e6:.1f} MB that are free there"
    return said


@contextlib.contextmanager
def friendly_os_errors() -> Iterator[None]:
    """Turn failures of the machine into StoreError; exit quietly if standard output was closed.

    Standard output is flushed at the end of the block.
    """
    output = _Output(sys.stdout)
    try:
        with contextlib.redirect_stdout(output):
            yield
            output.flush()
    except OSError as error:
        if error is output.failure:
            output.discard_output()
            if error.errno == errno.EPIPE:
                raise SystemExit(BROKEN_PIPE) from error
            raise StoreError(f"cannot write to standard output: {error.strerror}") from error
        if error.errno not in FAULTS:
            raise
        if error.filename is None:
            places = f"temporary files are in {tempfile.gettempdir()}, TMPDIR sets another directory"
            raise StoreError(f"cannot read or write a file ({places}): {error.strerror}") from error
        path = Path(os.fsdecode(error.filename))
        raise StoreError(f"cannot read or write {path}: {reason(error, path.parent)}") from error


class _Output:
    """Standard output that remembers why it could not be written."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream or io.StringIO()
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        with self._remembering():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._remembering():
            self._stream.flush()

    @contextlib.contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = error
            raise

    def discard_output(self) -> None:
        """Discard further output, or Python would report the same failure again at exit."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
