"""Every parser of untrusted input answers at once, or fails with one line of ours.

Each parser (tests/parsers/) gets sound documents that were damaged (tests/fakes/damaged_documents.py), others in each
run: as many as it reads in 0.1 seconds of CPU, but at least 50, and at most 1000 where CI=true, else 250.
HATCH_DOCKER_EXAMPLES=20000 looks longer, at so many of each. test_bounds has large documents.
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

ASKED = int(os.environ.get("HATCH_DOCKER_EXAMPLES") or 0)
EXAMPLES = ASKED or (1000 if IN_PIPELINE in os.environ else 250)
LEAST = ASKED or 50
ENOUGH = 0.1         # seconds of CPU of a parser, after which it gets no more than LEAST documents
SECONDS = 1.0
MEMORY = 300 << 20  # bytes

for family in pkgutil.iter_modules(parsers.__path__, f"{parsers.__name__}."):
    importlib.import_module(family.name)  # its parsers are in PARSERS now


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_a_parser_fails_in_one_way_only(name: str, tmp_path: Path) -> None:
    """An answer, or a HatchDockerError that a terminal can show, within a second of CPU and 300 MB of memory."""
    parse, damaged, sound = PARSERS[name]
    (tmp_path / "sound").mkdir()
    parse(sound, tmp_path / "sound")  # else the parser would refuse all documents for the same reason
    dice, longest, before = random.Random(), 0.0, reset_peak()
    fresh = "directory" in inspect.signature(parse).parameters  # else it is called _directory, and nobody looks at it
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
    taken = peak_of() - before
    print(f"{name}: {number} documents, the slowest in {longest:.3f} s, {taken / 1e6:.0f} MB")
    assert longest < SECONDS
    assert taken < MEMORY
