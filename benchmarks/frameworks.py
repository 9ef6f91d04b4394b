"""Images of tutorial applications of a dozen frameworks: `hatch-docker init` and `build`, then a run of the image.

    python benchmarks/frameworks.py                    measure all; write frameworks.json and docs/backends.md
    python benchmarks/frameworks.py --rows Flask       measure some rows; the others keep their figures

Each application is written to an empty directory, in which `hatch-docker init --yes` and `hatch-docker build` run.
Docker runs the image without network, capabilities and a writable root (/tmp is a tmpfs); a process in the container
requests pages. Needs docker, and the network for packages. HATCH_DOCKER_CACHE_DIR names the cache.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.framework_projects import APPLICATIONS, Application  # noqa: E402 - the script is run by its path
from benchmarks.page_table import PageTable  # noqa: E402

IMAGE = "hatch-docker-frameworks"
RESTRICTED = ("--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL")
WAIT = 60  # the maximum seconds until an application responds
GET_PAGE = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"


def measure(application: Application) -> dict[str, Any]:
    """Build and run an application's image; return figures, `built`, `works`, and `why` if it fails."""
    with tempfile.TemporaryDirectory(prefix="framework-") as temporary:
        project = Path(temporary) / "application"
        for name, text in application.files.items():
            path = project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        program = [sys.executable, "-m", "hatch_docker"]
        values = {"IMAGE": IMAGE, "TAGS": "tried", "LOAD": "always", "SBOM": "[]", "PROVENANCE": "false"}
        variables = {**os.environ, "PYTHONPATH": str(ROOT), **{f"HATCH_DOCKER_{key}": values[key] for key in values}}
        started = time.monotonic()
        for words in (["init", "--yes", str(project)], ["build", str(project)]):
            done = subprocess.run([*program, *words], env=variables, text=True, capture_output=True, check=False)
            if done.returncode:
                why = done.stdout + done.stderr
                return {"built": False, "why": why, "date": dt.date.today().isoformat()}  # noqa: DTZ011
        seconds = time.monotonic() - started
        (receipt,) = (project / "dist").glob("*.image.json")
        (platform,) = json.loads(receipt.read_text("utf-8"))["platforms"]
        table = (project / "pyproject.toml").read_text("utf-8").partition("[tool.hatch-docker]\n")[2]
    why = run(application)
    return {
        "built": True, "works": not why, "why": why, "seconds": round(seconds, 1),
        "lines": table.rstrip().count("\n") + 1,
        "size": platform["unpacked_size"], "compressed": platform["size"], "date": dt.date.today().isoformat(),  # noqa: DTZ011
    }  # fmt: skip


def run(application: Application) -> str:
    """Run a container of the application; return the error, or "" if it works."""
    docker = ["docker", "run", "--detach", *RESTRICTED, f"{IMAGE}:tried"]
    container = subprocess.run(docker, text=True, capture_output=True, check=True).stdout.strip()
    try:
        end = time.monotonic() + WAIT
        while why := missing(application, container):
            if time.monotonic() > end:
                return f"{why}\n{log(container)}"
            time.sleep(1)
        return ""
    finally:
        subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=True)
        subprocess.run(["docker", "rmi", "--force", f"{IMAGE}:tried"], capture_output=True, check=False)


def missing(application: Application, container: str) -> str:
    """Return the first expected text that the log or a response does not contain yet, as a message; "" if none."""
    if application.prints and application.prints not in log(container):
        return f"it does not print {application.prints!r}"
    for path, text in dict(application.responses).items():
        url = f"http://127.0.0.1:{application.port}{path}"
        done = subprocess.run(
            ["docker", "exec", container, "python", "-c", GET_PAGE, url], text=True, capture_output=True, check=False
        )
        if text not in done.stdout:
            return f"{path} does not contain {text!r}: {(done.stdout + done.stderr)[-300:]}"
    return ""


def log(container: str) -> str:
    """Return the log of a container."""
    done = subprocess.run(["docker", "logs", container], text=True, capture_output=True, check=False)
    return done.stdout + done.stderr


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    heads = ("application", "first try", "does its job", "lines", "image", "compressed", "time", "measured")
    rows = [f"| {' | '.join(heads)} |", "|---|---|---|---:|---:|---:|---:|---|"]
    for name, found in ((row.name, results[row.name]) for row in APPLICATIONS if row.name in results):
        works = ["yes" if found.get(key) else "no" for key in ("built", "works")]
        sizes = [f"{found.get(key, 0) / 1e6:.1f} MB" for key in ("size", "compressed")]
        cells = [name, *works, str(found.get("lines", "")), *sizes, f"{found.get('seconds', 0):.0f} s", found["date"]]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


TABLE = PageTable(
    "frameworks", Path(__file__).with_suffix(".json"), {row.name: row for row in APPLICATIONS}, measure, table
)

if __name__ == "__main__":
    TABLE.main(__doc__)
