"""docs/mistakes.md has the messages that newcomers get."""

import pytest

from tests.mistakes import GROUPS, with_list
from tests.pages import DOCS

PAGE = DOCS / "mistakes.md"


@pytest.mark.skipif(not PAGE.is_file(), reason="an sdist has no docs")
def test_the_page_has_the_messages_of_now() -> None:
    """All mistakes are made; `python -m tests.mistakes docs/mistakes.md` writes the page."""
    assert sum(map(len, GROUPS.values())) >= 40
    assert with_list(PAGE.read_text("utf-8")) == PAGE.read_text("utf-8")
