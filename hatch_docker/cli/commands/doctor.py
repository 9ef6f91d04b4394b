"""`hatch-docker doctor`: check whether this machine can build a project's image; print a line for each check."""

import argparse
import dataclasses
import os

from hatch_docker.cli.common import (
    Commands,
    add_json,
    add_project,
    declare,
    non_negative,
    print_json,
    print_lines,
    project_root,
)

PATIENCE = 15.0  # seconds; longer than the HTTP client's timeout for a connection
MARKS = {"ok": "ok", "unneeded": "--", "problem": "!!"}
TOPIC_WIDTH = 12  # width of the column with the topic
EXAMPLES = (
    ("hatch-docker doctor", "check this machine and this project"),
    ("hatch-docker doctor --offline", "without the network"),
)


def add(commands: Commands) -> None:
    """Declare the command."""
    doctor = declare(
        commands, "doctor", "check that a build can work here, and print what to do if not", run, examples=EXAMPLES
    )
    add_project(doctor)
    doctor.add_argument("--offline", action="store_true", help="contact no mirror, index, registry or builder")
    doctor.add_argument("--deep", action="store_true", help="read the whole cache, which may take minutes")
    add_json(doctor, "docs/troubleshooting.md")
    doctor.add_argument(
        "--patience", type=non_negative, default=PATIENCE, metavar="SECONDS",
        help="how long to wait for an answer; default: %(default)g",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; return 1 if there is a problem."""
    from hatch_docker.cli.doctor.run import run_checks

    root = project_root(options)
    os.environ |= {"HATCH_QUIET": "9", "HATCH_VERBOSE": "0"}  # print no messages of a build between the findings
    findings = []
    for finding in run_checks(root, os.environ, offline=options.offline, deep=options.deep, patience=options.patience):
        findings.append(finding)
        if not options.json:
            first, *rest = finding.text.splitlines() or [""]
            print_lines([f"{MARKS[finding.state]}  {finding.topic:{TOPIC_WIDTH}}  {first}"])
            print_lines(f"{'':{TOPIC_WIDTH + 6}}{line}" for line in rest)
    works = all(finding.state != "problem" for finding in findings)
    if options.json:
        print_json({"schema": 1, "works": works, "findings": [dataclasses.asdict(finding) for finding in findings]})
    return 0 if works else 1
