"""Measurement of some work in a process of its own: seconds of CPU, the peak of memory, the error.

The peak is the kernel's VmHWM (proc(5)), reset before the work: getrusage's ru_maxrss of a child begins with what its
parent had. The process is a fork of one that has many more modules than a program of ours: not they are counted, but
what a program of ours has.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.forked_python import run_module

OWN = 40 << 20  # bytes that a Python with our modules has, before it works


@dataclass(frozen=True)
class Measured:
    """`seconds` of CPU, the peak of resident memory in bytes, and the error that ended the work, "" for none."""

    seconds: float
    peak: int
    said: str


def measure(work: Callable[..., object], *arguments: str, timeout: float = 120.0) -> Measured:
    """Do some work, a function of a module of the tests, in a process that has nothing but our modules."""
    command = [sys.executable, "-m", "tests.fakes.resource_use", f"{work.__module__}:{work.__name__}", *arguments]
    status, output = run_module(command, Path(__file__).parent.parent.parent, os.environ, timeout)
    assert status == 0, output
    return Measured(**json.loads(output.splitlines()[-1]))


def quickest(work: Callable[[], object], times: int = 10) -> float:
    """The shortest time that some work takes, in seconds: whatever else the machine does disturbs some, not all."""

    def once() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return min(once() for _ in range(times))


def peak_of(pid: int | str = "self") -> int:
    """The most memory that a process had at once, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM:"))


def reset_peak() -> int:
    """From now on this process's peak is what it has from here on; what it has now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_of()


def main() -> None:
    """Import the work and all it needs, then measure it."""
    from hatch_docker.core.errors import HatchDockerError

    module, _, name = sys.argv[1].partition(":")
    work: Any = getattr(importlib.import_module(module), name)
    before = reset_peak()
    said, start = "", time.process_time()
    try:
        work(*sys.argv[2:])
    except HatchDockerError as error:
        said = str(error)
    seconds = time.process_time() - start
    print(json.dumps({"seconds": seconds, "peak": peak_of() - before + OWN, "said": said}))


if __name__ == "__main__":
    main()
