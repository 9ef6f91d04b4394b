"""Every parser of untrusted input answers at once, or fails with one line of ours.

Each parser (tests/parsers/) gets a thousand sound documents that were damaged (tests/fakes/damaged_documents.py);
HATCH_DOCKER_EXAMPLES=20000 looks longer. What documents may cost that are large and not damaged is in test_bounds.
"""

import importlib
import inspect
import os
import pkgutil
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatch_docker.core.errors import HatchDockerError
from hatch_docker.core.text import sanitize
from tests import parsers
from tests.fakes.resource_use import forget_peak, peak_of
from tests.parsers.parser import PARSERS

EXAMPLES = int(os.environ.get("HATCH_DOCKER_EXAMPLES", "1000"))
TOGETHER = 20  # documents that are judged at a draw: to draw costs as much as to read
SECONDS = 1.0
MEMORY = 300 << 20  # bytes

for family in pkgutil.iter_modules(parsers.__path__, f"{parsers.__name__}."):
    importlib.import_module(family.name)  # its parsers are in PARSERS now


class Together(list[Any]):
    """Some documents, whose representation would be longer than Hypothesis likes."""

    def __repr__(self) -> str:
        return f"<{len(self)} documents; that which fails is printed>"


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_a_sound_document_is_read(name: str, tmp_path: Path) -> None:
    """Else its parser would refuse all that is damaged at the first thing that is missing."""
    parse, _, sound = PARSERS[name]
    parse(sound, tmp_path)


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_a_parser_fails_in_one_way_only(name: str, tmp_path: Path) -> None:
    """An answer, or a HatchDockerError that a terminal can show, within a second of CPU and 300 MB of memory."""
    parse, damaged, _ = PARSERS[name]
    longest = 0.0
    before = forget_peak()
    fresh = "directory" in inspect.signature(parse).parameters  # else it is called _directory, and not looked at

    @settings(max_examples=EXAMPLES // TOGETHER, suppress_health_check=list(HealthCheck))
    @given(st.lists(damaged, min_size=TOGETHER, max_size=TOGETHER).map(Together))
    def judge(documents: Together) -> None:
        nonlocal longest
        for document in documents:
            with tempfile.TemporaryDirectory(dir=tmp_path) if fresh else nullcontext(tmp_path) as place:
                start = time.process_time()
                try:
                    parse(document, Path(place))
                except HatchDockerError as error:
                    assert all(len(line) < 2100 for line in sanitize(str(error)).splitlines())
                except Exception:
                    print(f"the document: {document!r}")
                    raise
                longest = max(longest, time.process_time() - start)

    judge()
    taken = peak_of() - before
    print(f"{name}: {EXAMPLES} documents, the slowest in {longest:.3f} s, {taken / 1e6:.0f} MB")
    assert longest < SECONDS
    assert taken < MEMORY
