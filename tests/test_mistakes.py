"""docs/mistakes.md contains the current error messages."""

import pytest

from tests.mistakes import GROUPS, with_list
from tests.pages import DOCS

PAGE = DOCS / "mistakes.md"


@pytest.mark.skipif(not PAGE.is_file(), reason="an sdist has no docs")
def test_page_has_current_messages() -> None:
    """`python -m tests.mistakes docs/mistakes.md` updates the page."""
    assert sum(map(len, GROUPS.values())) >= 40
    assert with_list(PAGE.read_text("utf-8")) == PAGE.read_text("utf-8")
