"""Make the project's wheel by another hatchling than the one that runs: a program, with that one first on its path.

python -m hatch_docker.project.build_wheel ROOT DIRECTORY    -> the name of the wheel in DIRECTORY, on the last line
"""

import sys
from pathlib import Path

from hatch_docker.core.errors import HatchDockerError
from hatch_docker.project.hatch import hatchling_project, open_hatchling
from hatch_docker.project.hatch_errors import hatchling_errors


def main(root: str, directory: str) -> int:
    """Make the wheel of the project at `root`; a failure that its author can mend is one line."""
    try:
        with hatchling_errors():
            wheel = hatchling_project(open_hatchling(Path(root)), Path(directory)).wheel()
    except HatchDockerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    sys.stdout.write(f"\n{wheel.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
