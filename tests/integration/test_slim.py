"""Slim images of real wheels, by both engines: smaller, of one digest, and true in what they say of themselves."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need_docker
from tests.integration.builds import build, paths, write_program

pytestmark = [pytest.mark.network, pytest.mark.engine]

# greenlet brings tests, headers and a library with symbols; humanize translations; both py.typed or stubs.
SLIM = """
[tool.hatch-docker.slim]
leave-out = ["tests", "stubs", "headers", "symbols", "locales"]
locales = ["de"]
keep = ["greenlet/platform/setup_switch_x64_masm.cmd"]
"""
# Run in the image: every file of RECORD is there, as RECORD says, and the packages work.
MODULE = '''
import base64, hashlib
from importlib.metadata import files

def main():
    import greenlet, humanize
    for name in ("greenlet", "humanize"):
        for file in files(name):
            if file.hash:
                data = file.locate().read_bytes()
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
                assert (file.hash.value, file.size) == (digest, len(data)), file
    assert greenlet.greenlet(lambda: 42).switch() == 42
    humanize.i18n.activate("de")
    assert humanize.intword(2_000_000) == "2.0 Millionen", humanize.intword(2_000_000)
'''


def test_both_engines_leave_out_the_same_and_the_rest_works(tmp_path: Path, cache: Path) -> None:
    """The check of each build runs in its image; an unchanged build tells the same; SBOM and packages stay complete."""
    need_docker()
    check = 'check.command = ["slimmed"]\n'
    whole = build(write_program(tmp_path, "slimmed", MODULE, check, dependencies=["greenlet", "humanize"]), cache)
    packages = components(whole.directory)
    (before,) = whole.receipt["platforms"]
    assert before["left_out"] == []
    write_program(tmp_path, "slimmed", MODULE, check + SLIM, dependencies=["greenlet", "humanize"])
    made = build(tmp_path, cache)
    (after,) = made.receipt["platforms"]
    left = {row["kind"]: row for row in after["left_out"]}
    assert set(left) == {"tests", "stubs", "headers", "symbols", "locales"}
    gone = sum(row["size"] for row in after["left_out"])
    assert before["unpacked_size"] - after["unpacked_size"] > gone > 500_000
    found = paths(made.image(), above_base=True)
    assert not [path for path in found if path.endswith((".h", ".pyi", "/tests")) or "/fr_FR/" in path]
    assert components(made.directory) == packages
    again = build(tmp_path, cache)
    assert again.made() == []
    assert again.receipt["platforms"][0]["left_out"] == after["left_out"]
    assert "  left out  " in again.output
    variables = {"HATCH_DOCKER_ENGINE": "buildkit", "HATCH_DOCKER_BUILD_NETWORK": "false"}
    staged = build(tmp_path, cache, variables=variables)
    assert staged.digest == made.digest
    assert staged.receipt["platforms"][0]["left_out"] == after["left_out"]


def components(directory: Path) -> set[str]:
    """The packages that the SBOM names."""
    (path,) = directory.glob("*.cdx.json")
    value: dict[str, Any] = json.loads(path.read_bytes())
    return {f"{component['name']} {component.get('version')}" for component in value["components"]}
