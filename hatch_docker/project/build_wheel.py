"""Program that builds the project's wheel with the hatchling first on sys.path, in a process of its own.

python -m hatch_docker.project.build_wheel ROOT DIRECTORY    -> the wheel's file name, on the last line of the output
"""

import sys
from pathlib import Path

from hatch_docker.core.errors import HatchDockerError
from hatch_docker.project.hatch import hatchling_project, open_hatchling
from hatch_docker.project.hatch_errors import hatchling_errors


def main(root: str, directory: str) -> int:
    """Build the wheel of the project at `root` in `directory`; an error of the project is one line, no traceback."""
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
