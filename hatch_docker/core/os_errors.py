"""Error messages for failures of the machine: a full or broken disk, a closed standard output."""

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
# Full, broken, read-only and lost disks, and too many open files.
FAULTS = FULL | {errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENFILE}
BROKEN_PIPE = 141  # exit status of a program whose output was closed: 128 + SIGPIPE


def reason(error: OSError, directory: Path) -> str:
    """Return the system's message; for a full disk also the free space of the disk of `directory`.

    The temporary files were removed before, so the operation needs more than the free space.
    """
    said = error.strerror or str(error)
    if error.errno in FULL:
        with contextlib.suppress(OSError):
            said += f": it needs more than the {shutil.disk_usage(directory).free / 1e6:.1f} MB that are free there"
    return said


@contextlib.contextmanager
def friendly_os_errors() -> Iterator[None]:
    """Turn failures of the machine into StoreError; exit without a message if standard output was closed.

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
    """Standard output that stores the error of a failed write in `failure`."""

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
        """Discard all further output. Otherwise Python would report the same error again at exit."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
