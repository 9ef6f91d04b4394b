"""`hatch-docker`, the same as `python -m hatch_docker`: what stands beside the hatch target."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

from hatch_docker import __version__
from hatch_docker.doors import hatchling_errors
from hatch_docker.ending import stoppable
from hatch_docker.errors import HatchDockerError
from hatch_docker.faults import told_faults
from hatch_docker.progress import plain
from hatch_docker.verbs import (
    clean,
    diff,
    doctor,
    init,
    inspect,
    load,
    lock,
    make,
    push,
    rebase,
    schema,
    verify,
    verify_signature,
    why,
)

# As `--help` lists them.
VERBS = (init, make, inspect, why, diff, lock, load, rebase, push, verify, verify_signature, doctor, clean, schema)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; a HatchDockerError is one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        with stoppable(), hatchling_errors(), told_faults():
            status: int | None = options.run(options)
    except HatchDockerError as error:
        with contextlib.suppress(OSError):  # what was told before the error is read before it
            sys.stdout.flush()
        sys.stderr.write(plain(f"hatch-docker: {error}\n"))
        return error.exit_status
    return status or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("hatch-docker", description="Images of Python projects: `hatch build -t docker`.")
    parser.add_argument("--version", action="version", version=f"hatch-docker {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for verb in VERBS:
        verb.add(commands)
    return parser
