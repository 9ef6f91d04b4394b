"""What whole builds share: one cache for the session, so that each base is made once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of all builds; TEST_CACHE_DIR keeps one over sessions, to save a developer's time."""
    kept = os.environ.get("TEST_CACHE_DIR")
    return Path(kept) if kept else tmp_path_factory.mktemp("cache")


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory that any user can reach, as pytest's own are not."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
