"""A full or broken disk, and a closed output, cause one-line errors that name the file."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hatch_docker.core.cache.store import open_store
from hatch_docker.core.errors import StoreError
from hatch_docker.core.os_errors import friendly_os_errors, reason


def test_full_disk_error_has_the_free_space(tmp_path: Path) -> None:
    message = reason(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert message.startswith("No space left on device: it needs more than the ")
    assert message.endswith(" MB that are free there")
    assert reason(OSError(errno.EACCES, "Permission denied"), tmp_path) == "Permission denied"


@pytest.mark.parametrize(("number", "message"), [
    (errno.EDQUOT, r"v1: Disk quota.*hatch-docker clean --all.*HATCH_DOCKER_CACHE_DIR"),
    (errno.EROFS, r"v1: Read-only file system; HATCH_DOCKER_CACHE_DIR names another$"),
])  # fmt: skip
def test_cache_write_error_says_what_to_do(
    number: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)

    def failing(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", failing)
    with pytest.raises(StoreError, match=message):
        store.put(b"x")
    monkeypatch.setattr("fcntl.flock", lambda _stream, _how: failing(0))
    with pytest.raises(StoreError, match=message), store.lock("x"):
        raise AssertionError("the lock was not acquired")


def test_disk_errors_become_store_errors() -> None:
    with pytest.raises(StoreError, match="cannot read or write /x/y: Input/output error"), friendly_os_errors():
        raise OSError(errno.EIO, "Input/output error", "/x/y")
    temporary = r"a file \(temporary files are in .*TMPDIR.*: Input/output"
    with pytest.raises(StoreError, match=temporary), friendly_os_errors():
        raise OSError(errno.EIO, "Input/output error")
    with pytest.raises(FileNotFoundError), friendly_os_errors():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/x/y")


PRINTING = "import sys; from hatch_docker.cli.main import main; sys.exit(main(['schema']))"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("where", "status", "message"), [
    ("full", 1, "error: cannot write to standard output: No space left on device\n"),
    ("a pipe that nobody reads", 141, ""),
    ("nowhere", 0, ""),
])  # fmt: skip
def test_unwritable_standard_output(where: str, status: int, message: str, unbuffered: str) -> None:
    """A full disk, a closed pipe (`| head`), and no standard output at all, which is no error."""
    reading, writing = os.pipe()
    os.close(reading)
    opened = os.open("/dev/full", os.O_WRONLY) if where == "full" else writing
    done = subprocess.run(
        [sys.executable, "-c", PRINTING], stdout=opened, stderr=subprocess.PIPE, text=True, check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        preexec_fn=(lambda: os.close(1)) if where == "nowhere" else None,
    )  # fmt: skip
    for descriptor in {opened, writing}:
        os.close(descriptor)
    assert (done.returncode, done.stderr) == (status, message)
