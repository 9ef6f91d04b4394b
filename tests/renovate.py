"""Renovate's custom managers in docs/pins.md (`any` and `recursive`), applied by this module or by Renovate.

Renovate is an npm package and needs a newer Node.js than Debian 13 has, so only a long test runs it.
"""

import json
import re
from pathlib import Path

from hatch_docker.build.outdated import pins_of_lock
from hatch_docker.core.image_lock import NAME, parse_image_lock
from tests.conftest import run
from tests.pages import blocks

DATASOURCES = {"base": "docker", "debian": "deb", "wheel": "pypi"}


def configuration() -> str:
    """Return the configuration on the page."""
    (block,) = [block for block in blocks("json") if "customManagers" in block.text]
    return block.text


def run_renovate(program: str, project: Path) -> list[tuple[str, str]]:
    """Run Renovate in a committed directory with this configuration; return the dependencies of the custom managers."""
    variables = {"LOG_LEVEL": "debug", "LOG_FORMAT": "json", "RENOVATE_BASE_DIR": f"{project}.renovate"}
    output = run(program, "--platform=local", "--dry-run=extract", cwd=project, variables=variables)
    messages = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
    (files,) = (message["packageFiles"] for message in messages if message["msg"] == "Extracted dependencies")
    deps = [dep for file in files["regex"] for dep in file["deps"]]
    return sorted(
        (dep["datasource"], f"{dep['depName']} {dep.get('currentDigest') or dep['currentValue']}") for dep in deps
    )


def found_by_renovate(text: str, name: str) -> list[tuple[str, str]]:
    """Return datasource, and name with digest or version, of each dependency that Renovate finds in a file."""
    found = []
    for manager in json.loads(configuration())["customManagers"]:
        (place,) = manager["managerFilePatterns"]
        if not re.search(place.strip("/"), name):
            continue
        *outer, inner = (re.compile(pattern.replace("(?<", "(?P<")) for pattern in manager["matchStrings"])
        assert bool(outer) == (manager.get("matchStringsStrategy") == "recursive")
        pieces = [text]
        for pattern in outer:
            pieces = [match[0] for piece in pieces for match in pattern.finditer(piece)]
        for match in (match for piece in pieces for match in inner.finditer(piece)):
            version = match.groupdict().get("currentDigest") or match["currentValue"]
            title = manager.get("depNameTemplate") or match["depName"]
            found.append((manager["datasourceTemplate"], f"{title} {version}"))
    return sorted(found)


def pins_for_renovate(lock: str) -> list[tuple[str, str]]:
    """Return the dependencies that Renovate must find in a lock: all pins, bases without their tags."""
    entries = parse_image_lock(lock.encode(), NAME)
    archives = [entry["file"].partition("/")[0] for kind, entry in entries if kind == "python"]
    pins = pins_of_lock(entries)
    names = ((item, re.sub(r":[^/:]+$", "", item.name) if item.kind == "base" else item.name) for item in pins)
    found = [(DATASOURCES[item.kind], f"{name} {item.version}") for item, name in names]
    return sorted([*found, *(("github-releases", f"astral-sh/python-build-standalone {date}") for date in archives)])
