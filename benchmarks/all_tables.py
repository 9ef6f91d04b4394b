"""The measured tables of docs/backends.md and docs/packages.md, and docs/newcomer.md, all anew: for a quiet machine.

    python benchmarks/all_tables.py

Each script is a process of its own and measures all of its rows; their cache is a new one, so that every row has its
downloads and its compiler, but for what an earlier row of the same table had. Needs docker, and the network for
packages; it takes hours on two cores. What each measures is in its own words.
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
    """Run the scripts one after another; the status is that of the first that fails."""
    for script, *options in SCRIPTS:
        with tempfile.TemporaryDirectory(prefix="tables-") as cache:
            variables = {**os.environ, "HATCH_DOCKER_CACHE_DIR": cache}
            print(script, flush=True)
            subprocess.run([sys.executable, str(HERE / script), *options], env=variables, check=True)


if __name__ == "__main__":
    main()
