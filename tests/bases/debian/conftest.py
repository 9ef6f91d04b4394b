"""Fixtures for the tests of `bases/debian`."""

from pathlib import Path

import pytest

from tests.fakes.debian_archive import FakeArchive


@pytest.fixture
def fake(tmp_path: Path) -> FakeArchive:
    """Return an archive, not yet written, with the packages `tool` and `lib`; `tool` depends on `lib`."""
    found = FakeArchive(tmp_path / "mirror")
    found.add("tool", "1.0", {"usr/bin/tool": b"one"}, Depends="lib (>= 1)")
    found.add("lib", "1.0", {"usr/lib/lib.so": b"lib"})
    return found
