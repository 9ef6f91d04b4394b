"""Measuring a function in a separate process: CPU time, peak memory, and the error.

The peak is the kernel's VmHWM (proc(5)), which is reset before the function runs, because the ru_maxrss of getrusage
starts with the parent's value. The process is a fork with many more modules than hatch-docker loads. Their memory is
not counted; instead OWN is added.
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

OWN = 40 << 20  # bytes of a Python that has loaded hatch-docker's modules


@dataclass(frozen=True)
class Measured:
    """CPU time in seconds, peak of resident memory in bytes, and the text of a HatchDockerError, "" without one."""

    seconds: float
    peak: int
    error: str


def measure(work: Callable[..., object], *arguments: str, timeout: float = 120.0) -> Measured:
    """Run `work`, a function of a test module, in a separate process, and return its use of resources."""
    command = [sys.executable, "-m", "tests.fakes.resource_use", f"{work.__module__}:{work.__name__}", *arguments]
    status, output = run_module(command, Path(__file__).parent.parent.parent, os.environ, timeout)
    assert status == 0, output
    return Measured(**json.loads(output.splitlines()[-1]))


def quickest(work: Callable[[], object], times: int = 10) -> float:
    """Return the shortest time of several runs of `work`, in seconds. Other programs disturb only some of the runs."""

    def once() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return min(once() for _ in range(times))


def peak_of(pid: int | str = "self") -> int:
    """Return the peak of resident memory of a process, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM:"))


def reset_peak() -> int:
    """Reset the peak of this process to its present memory, and return that in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_of()


def main() -> None:
    """Import the function with its modules, then measure it."""
    from hatch_docker.core.errors import HatchDockerError

    module, _, name = sys.argv[1].partition(":")
    work: Any = getattr(importlib.import_module(module), name)
    before = reset_peak()
    message, start = "", time.process_time()
    try:
        work(*sys.argv[2:])
    except HatchDockerError as error:
        message = str(error)
    seconds = time.process_time() - start
    print(json.dumps({"seconds": seconds, "peak": peak_of() - before + OWN, "error": message}))


if __name__ == "__main__":
    main()
