"""The peak memory of a command and of the programs that it starts."""

import sys
from pathlib import Path

from tests.integration.builds import Outcome, run_in

# A Python program that runs a module and writes two numbers to a file: the peak resident memory of its own process
# and the largest peak of a process that it started, in kB.
MEASURING = """
import atexit, resource, runpy, sys
def write_peaks():
    own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    with open(result, "w") as out:
        print(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=out)

result, module, *arguments = sys.argv[1:]
atexit.register(write_peaks)
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=False)
"""


def run_measured(project: Path, cache: Path, *command: str, **variables: str) -> tuple[Outcome, int]:
    """Run a Python module in a project; return its outcome and the peak memory of its largest process, in bytes."""
    result = project.parent / "peak"
    program = (sys.executable, "-c", MEASURING, str(result), *command)
    outcome = run_in(project, cache, *program, variables=variables, timeout=1800)
    return outcome, max(map(int, result.read_text().split())) * 1024
