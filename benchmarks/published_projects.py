"""Images of published projects: `hatch-docker init` and `build` in the unchanged sdist, then a run of the image.

    python benchmarks/published_projects.py                   measure all; write published_projects.json and the page
    python benchmarks/published_projects.py --rows nox,flask  measure some rows; the others keep their figures
    python benchmarks/published_projects.py --missing         measure the rows without figures

published_projects.toml lists the projects. The sdist of the newest release is downloaded from the configured package
index and its hash is verified. `hatch-docker init --yes` and `hatch-docker build` run in its directory. If this fails
and the list has lines for [tool.hatch-docker], both run again with these lines. Docker runs the image without network,
capabilities and a writable root. Needs docker, and the network for packages. HATCH_DOCKER_CACHE_DIR names the cache.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.backends import RESTRICTED, unpack_release  # noqa: E402 - the script is run by its path
from benchmarks.page_table import PageTable  # noqa: E402

PROJECTS = {
    name: {"name": name, **project}
    for name, project in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["projects"].items()
}
IMAGE = f"hatch-docker-published-{os.getpid()}"
LIMIT = 900  # the maximum duration of a build, in seconds


def measure(project: Mapping[str, Any]) -> dict[str, Any]:
    """Build and run the image of a project's newest release; return figures, `works`, and `why` if it fails."""
    with tempfile.TemporaryDirectory(prefix="published-") as temporary:
        place, version = unpack_release(project["name"], "", Path(temporary))
        found = {"version": version} | measure_in(place, {"prints": version, **project})
        return {key: value for key, value in found.items() if key != "output"}


def measure_in(place: Path, project: Mapping[str, Any]) -> dict[str, Any]:
    """Build and run the image of a project in a directory; if it fails, try again with the project's lines."""
    found: dict[str, Any] = {"date": dt.date.today().isoformat(), "lines": 0}  # noqa: DTZ011
    for lines in ([], project.get("lines", [])):
        copy = place.with_name(f"with-{len(lines)}")
        shutil.copytree(place, copy, symlinks=True)
        started = time.monotonic()
        why = _build(copy, lines, code="code" in project)
        found["seconds"] = round(time.monotonic() - started, 1)
        if not why:
            why = _run(project, found, copy)
        found |= {"works": not why, "first": found.get("first", not why), "lines": len(lines)}
        if not why or not project.get("lines"):
            break
    return found | ({"why": why} if why else {})


def _build(place: Path, lines: Sequence[str], *, code: bool) -> str:
    """Build the image of a project with lines for its table; return the end of the output if it fails, else "".

    A library (`code`) has no program: the entrypoint of its image is Python.
    """
    wanted = {"IMAGE": IMAGE, "TAGS": "tried", "LOAD": "always", "SBOM": "[]", "PROVENANCE": "false"}
    wanted |= {"ENTRYPOINT": '["python"]'} if code else {}
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **{f"HATCH_DOCKER_{key}": wanted[key] for key in wanted}}
    for words in ["init", "--yes"], ["build"]:
        if words == ["build"] and lines:
            table = place / "pyproject.toml"
            head, mark, rest = table.read_text("utf-8").partition("[tool.hatch-docker]\n")
            table.write_text("".join([head, mark, *(f"{line}\n" for line in lines), rest]), encoding="utf-8")
        command = [sys.executable, "-m", "hatch_docker", *words, str(place)]
        try:
            done = subprocess.run(
                command, env=variables, text=True, check=False, timeout=LIMIT, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"{words[0]} took longer than {LIMIT} s"
        if done.returncode:
            return f"{words[0]} ended with status {done.returncode}: {done.stdout[-1500:]}"
    return ""


def _run(project: Mapping[str, Any], found: dict[str, Any], place: Path) -> str:
    """Run the image; add its size and its output to `found`; return the error, or ""."""
    (receipt,) = (place / "dist").glob("*.image.json")
    (platform,) = json.loads(receipt.read_text("utf-8"))["platforms"]
    found["size"] = platform["unpacked_size"]
    words = ["-c", project["code"]] if "code" in project else project["run"]
    options = [*RESTRICTED, "--tmpfs", "/tmp", *project.get("options", [])]
    command = ["docker", "run", *options, f"{IMAGE}:tried", *words]
    done = subprocess.run(
        command, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT
    )
    subprocess.run(["docker", "rmi", "--force", f"{IMAGE}:tried"], capture_output=True, check=False)
    found["output"] = done.stdout[-500:]
    if done.returncode or project["prints"] not in done.stdout:
        return f"run ended with status {done.returncode}: {done.stdout[-1500:]}"
    return ""


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures as a Markdown table, with a summary line."""
    heads = ("project", "backend", "compiled", "lines", "first try", "does its job", "image", "time", "measured")
    rows = [f"| {' | '.join(heads)} |", "|---|---|---|---:|---|---|---:|---:|---|"]
    measured = {name: project for name, project in PROJECTS.items() if name in results}
    for name, project in measured.items():
        found = results[name]
        size = f"{found['size'] / 1e6:.0f} MB" if "size" in found else ""
        yes = ("yes" if found[key] else "no" for key in ("first", "works"))
        cells = (f"{name} {found['version']}", project.get("backend", "setuptools"), project.get("compiled", ""),
                 str(found["lines"]), *yes, size, f"{found['seconds']:.0f} s", found["date"])  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    plain = [results[name] for name, project in measured.items() if not project.get("lines")]
    first = sum(found["first"] for found in plain)
    share = f"{first} of {len(plain)} that need no system package were right at the first try"
    works = sum(results[name]["works"] for name in measured)
    return "\n".join([*rows, "", f"{share}; {works} of {len(measured)} do their job."])


TABLE = PageTable("published", Path(__file__).with_suffix(".json"), PROJECTS, measure, table)

if __name__ == "__main__":
    TABLE.main(__doc__)
