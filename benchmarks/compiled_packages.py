"""Images of packages with compiled code: each is built, the package is imported, and `pip check` runs.

    python benchmarks/compiled_packages.py                    measure all; write compiled_packages.json and the page
    python benchmarks/compiled_packages.py --rows numpy,lxml  measure some rows; the others keep their figures
    python benchmarks/compiled_packages.py --missing          measure the rows without figures

compiled_packages.toml lists the packages. Each is the only dependency of a project with one empty module, whose image
`hatch-docker init --yes` and `hatch-docker build` make, with the newest release that has a wheel in the configured
index. Docker runs it without network, capabilities and a writable root (/tmp is a tmpfs). Python runs the package's
code, which must load a library of the environment or run a program of the package. `pip check`, with the pip of this
machine's Python, must report no problem. Needs docker, and the network for packages. HATCH_DOCKER_CACHE_DIR names the
cache.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.page_table import PageTable  # noqa: E402 - the script is run by its path
from benchmarks.published_projects import measure_in  # noqa: E402

PACKAGES = {
    name: {"name": name, **(package if isinstance(package, dict) else {"code": package})}
    for name, package in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["packages"].items()
}
PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "one-dependency"
version = "1.0"
dependencies = {dependencies}
"""
# Runs in the image. The loaded libraries are counted before pip is imported.
CHECK = """
import importlib.metadata, re, runpy, sys
version, maps = importlib.metadata.version(NAME), open("/proc/self/maps").read()
loaded = len({*re.findall(r"/opt/venv/\\S+\\.so\\S*", maps)})
assert loaded or "subprocess" in sys.modules, "no extension module was loaded"
print("measured", version, loaded, len([*importlib.metadata.distributions()]), flush=True)
sys.path.insert(0, "/pip")
sys.argv = ["pip", "check"]
runpy.run_module("pip", run_name="__main__")
"""


def measure(package: Mapping[str, Any]) -> dict[str, Any]:
    """Build and run the image of a package; return figures, `works`, and `why` if it fails."""
    pip = importlib.util.find_spec("pip")
    assert pip is not None
    assert pip.submodule_search_locations
    mounted = f"{pip.submodule_search_locations[0]}:/pip/pip:ro"
    code = f"NAME = {package['name']!r}\n{package['code']}\n{CHECK}"
    subject = {**package, "code": code, "prints": "No broken requirements found.", "options": ["--volume", mounted]}
    with tempfile.TemporaryDirectory(prefix="compiled-") as temporary:
        project = Path(temporary, "project")
        project.mkdir()
        names = json.dumps([package["name"], *package.get("with", [])])
        (project / "pyproject.toml").write_text(PYPROJECT.format(dependencies=names), encoding="utf-8")
        (project / "one_dependency.py").touch()
        found = measure_in(project, subject)
    line = re.search(r"^measured (\S+) (\d+) (\d+)$", found.pop("output", ""), re.MULTILINE)
    return found | (dict(zip(("version", "loaded", "distributions"), line.groups(), strict=True)) if line else {})


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures as a Markdown table, with a summary line."""
    heads = ("package", "lines", "distributions", "libraries loaded", "works, `pip check`", "image", "time", "measured")
    rows = [f"| {' | '.join(heads)} |", "|---|---:|---:|---:|---|---:|---:|---|"]
    measured = [(name, results[name]) for name in PACKAGES if name in results]
    for name, found in measured:
        size = f"{found['size'] / 1e6:.0f} MB" if "size" in found else ""
        cells = (f"{name} {found.get('version', '')}", f"{found['lines']}", found.get("distributions", ""),
                 found.get("loaded", ""), "yes" if found["works"] else "no", size, f"{found['seconds']:.0f} s",
                 found["date"])  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    first, works = (sum(found[key] for _, found in measured) for key in ("first", "works"))
    return "\n".join([*rows, "", f"{first} of {len(measured)} at the first try; {works} work and are clean."])


TABLE = PageTable("compiled", Path(__file__).with_suffix(".json"), PACKAGES, measure, table, "packages.md")

if __name__ == "__main__":
    TABLE.main(__doc__)
