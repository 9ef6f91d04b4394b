"""Slim images of real wheels, with both engines: smaller, the same digest, complete RECORD files and SBOM."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need_docker
from tests.integration.builds import build, paths, write_program

pytestmark = [pytest.mark.network, pytest.mark.engine]

# greenlet has tests, headers and a library with symbols; humanize has translations; both have py.typed or stubs.
SLIM = """
[tool.hatch-docker.slim]
leave-out = ["tests", "stubs", "headers", "symbols", "locales"]
locales = ["de"]
keep = ["greenlet/platform/setup_switch_x64_masm.cmd"]
"""
# Runs in the image: checks size and hash of every file in RECORD, and uses the packages.
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


def test_slim_image_in_both_engines(tmp_path: Path, cache: Path) -> None:
    """The image's check succeeds; an unchanged build reports the same sizes; the SBOM lists all packages."""
    need_docker()
    check = 'check.command = ["slimmed"]\n'
    full = build(write_program(tmp_path, "slimmed", MODULE, check, dependencies=["greenlet", "humanize"]), cache)
    packages = components(full.directory)
    (before,) = full.receipt["platforms"]
    assert before["left_out"] == []
    write_program(tmp_path, "slimmed", MODULE, check + SLIM, dependencies=["greenlet", "humanize"])
    slim = build(tmp_path, cache)
    (after,) = slim.receipt["platforms"]
    left_out = {row["kind"]: row for row in after["left_out"]}
    assert set(left_out) == {"tests", "stubs", "headers", "symbols", "locales"}
    total = sum(row["size"] for row in after["left_out"])
    assert before["unpacked_size"] - after["unpacked_size"] > total > 500_000
    found = paths(slim.image(), above_base=True)
    assert not [path for path in found if path.endswith((".h", ".pyi", "/tests")) or "/fr_FR/" in path]
    assert components(slim.directory) == packages
    again = build(tmp_path, cache)
    assert again.new_layers() == []
    assert again.receipt["platforms"][0]["left_out"] == after["left_out"]
    assert "  left out  " in again.output
    variables = {"HATCH_DOCKER_ENGINE": "buildkit", "HATCH_DOCKER_BUILD_NETWORK": "false"}
    staged = build(tmp_path, cache, variables=variables)
    assert staged.digest == slim.digest
    assert staged.receipt["platforms"][0]["left_out"] == after["left_out"]


def components(directory: Path) -> set[str]:
    """Return the packages in the SBOM."""
    (path,) = directory.glob("*.cdx.json")
    value: dict[str, Any] = json.loads(path.read_bytes())
    return {f"{component['name']} {component.get('version')}" for component in value["components"]}
