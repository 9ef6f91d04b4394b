"""docs/options.md: the generated sections are complete and current."""

import subprocess
import sys
from pathlib import Path

import pytest

from hatch_docker.config.schema import LISTS, all_options
from hatch_docker.core.context import VARIABLES
from tests.options_page import options_page, variables_page, with_sections

ROOT = Path(__file__).parent.parent.parent
OPTIONS = ROOT / "docs" / "options.md"


def test_page_contains_each_option_and_variable() -> None:
    for option in all_options():
        if not option.is_table and option.name not in LISTS:
            assert f"### `{option.name}`\n" in options_page()
    assert all(f"- `{name}`: " in variables_page() for name in VARIABLES)


@pytest.mark.skipif(not OPTIONS.parent.is_dir(), reason="an sdist has no docs")
def test_page_is_current() -> None:
    """CONTRIBUTING.md has the command that updates the page."""
    assert with_sections(OPTIONS.read_text("utf-8")) == OPTIONS.read_text("utf-8")


def test_command_updates_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- options -->\nold\n<!-- /options -->\n<!-- variables -->\nold\n<!-- /variables -->\nend\n")
    subprocess.run([sys.executable, "-m", "tests.options_page", str(page)], check=True, cwd=ROOT)
    assert f"{options_page()}\n<!-- /options -->" in page.read_text("utf-8")
    assert page.read_text("utf-8").endswith(f"{variables_page()}\n<!-- /variables -->\nend\n")
