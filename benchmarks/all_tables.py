"""Measure all tables of docs/backends.md, docs/packages.md and docs/newcomer.md again. The machine must be idle.

    python benchmarks/all_tables.py

Each script runs in its own process, with a new cache, and measures all of its rows. A row includes the downloads and
the compiler, except those of earlier rows of the same table. Needs docker, and the network for packages; it takes hours
on two cores. The docstring of each script describes its measurements.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPTS = (
    ["published_projects.py"], ["frameworks.py"], ["compiled_packages.py"], ["backends.py"], ["newcomer.py", "--write"],
)


def main() -> None:
    """Run the scripts one after another; the first failure ends the program with its exit status."""
    for script, *options in SCRIPTS:
        with tempfile.TemporaryDirectory(prefix="tables-") as cache:
            variables = {**os.environ, "HATCH_DOCKER_CACHE_DIR": cache}
            print(script, flush=True)
            subprocess.run([sys.executable, str(HERE / script), *options], env=variables, check=True)


if __name__ == "__main__":
    main()
