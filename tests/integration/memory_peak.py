"""The peak of memory of a command, with all the programs that it starts."""

import sys
from pathlib import Path

from tests.integration.builds import Outcome, run_in

# A program of Python that says the most memory that it, and any process that it started, had at once: kB.
MEASURING = """
import atexit, resource, runpy, sys
def tell():
    own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    with open(said, "w") as out:
        print(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=out)

said, module, *arguments = sys.argv[1:]
atexit.register(tell)
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=False)
"""


def run_measured(project: Path, cache: Path, *command: str, **variables: str) -> tuple[Outcome, int]:
    """Run a module of Python in a project; return its outcome and the peak of memory of one process, in bytes."""
    said = project.parent / "peak"
    program = (sys.executable, "-c", MEASURING, str(said), *command)
    outcome = run_in(project, cache, *program, variables=variables, timeout=1800)
    return outcome, max(map(int, said.read_text().split())) * 1024
