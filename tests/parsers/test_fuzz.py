"""Fuzzing of all parsers of untrusted input: they return quickly, or raise a HatchDockerError.

Each parser (tests/parsers/) gets randomly damaged documents (tests/fakes/damaged_documents.py): as many as it reads in
0.1 seconds of CPU time, but at least 50, and at most 250 (1000 with CI=true). HATCH_DOCKER_EXAMPLES=20000 sets the
number for a longer search. test_bounds has large documents.
"""

import importlib
import inspect
import os
import pkgutil
import random
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from hatch_docker.core.errors import HatchDockerError
from hatch_docker.core.text import sanitize
from tests import parsers
from tests.conftest import IN_PIPELINE
from tests.fakes.resource_use import peak_of, reset_peak
from tests.parsers.parser import PARSERS

REQUESTED = int(os.environ.get("HATCH_DOCKER_EXAMPLES") or 0)
EXAMPLES = REQUESTED or (1000 if IN_PIPELINE in os.environ else 250)
LEAST = REQUESTED or 50
ENOUGH = 0.1         # seconds of CPU time, after which a parser gets no more than LEAST documents
SECONDS = 1.0
MEMORY = 300 << 20  # bytes

for family in pkgutil.iter_modules(parsers.__path__, f"{parsers.__name__}."):
    importlib.import_module(family.name)  # adds its parsers to PARSERS


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_damaged_document_is_parsed_or_rejected(name: str, tmp_path: Path) -> None:
    """The only exception is a HatchDockerError. The limits are a second of CPU time and 300 MB of memory."""
    parse, damaged, valid = PARSERS[name]
    (tmp_path / "valid").mkdir()
    parse(valid, tmp_path / "valid")  # otherwise all documents might be rejected for the same reason
    dice, longest, before = random.Random(), 0.0, reset_peak()
    fresh = "directory" in inspect.signature(parse).parameters  # the parameter is called _directory if it is not used
    number, begun = 0, time.process_time()
    while number < LEAST or (number < EXAMPLES and time.process_time() - begun < ENOUGH):
        number += 1
        document = damaged(dice)
        with tempfile.TemporaryDirectory(dir=tmp_path) if fresh else nullcontext(tmp_path) as place:
            start = time.process_time()
            try:
                parse(document, Path(place))
            except HatchDockerError as error:
                assert all(len(line) < 2100 for line in sanitize(str(error)).splitlines()), document
            except Exception:
                print(f"the document: {document!r}")
                raise
            longest = max(longest, time.process_time() - start)
    used = peak_of() - before
    print(f"{name}: {number} documents, the slowest in {longest:.3f} s, {used / 1e6:.0f} MB")
    assert longest < SECONDS
    assert used < MEMORY
