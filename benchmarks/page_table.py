"""A table of measured figures on a page of docs/, between two comments."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class PageTable:
    """The table between `<!-- name -->` and `<!-- /name -->` on a `page` of docs/.

    `results`: the JSON file of the figures. `rows`: the subjects by name. `measure` returns the figures of a subject.
    `table` returns all figures as Markdown.
    """

    name: str
    results: Path
    rows: Mapping[str, Any]
    measure: Callable[[Any], dict[str, Any]]
    table: Callable[[Results], str]
    page: str = "backends.md"

    def read(self) -> dict[str, Any]:
        """Return the saved figures."""
        found: dict[str, Any] = json.loads(self.results.read_text("utf-8")) if self.results.exists() else {}
        return found

    def rendered(self, text: str) -> str:
        """Return the page's text with the table of the saved figures."""
        made = self.table(self.read())
        comments = rf"(?s)(<!-- {self.name} -->\n).*?(\n<!-- /{self.name} -->)"
        return re.sub(comments, lambda found: f"{found[1]}{made}{found[2]}", text)

    def keep(self, known: Results) -> None:
        """Save the figures, in the order of the rows."""
        ordered = {row: known[row] for row in self.rows if row in known}
        self.results.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")

    def write(self) -> None:
        """Write the table of the saved figures to the page."""
        page = DOCS / self.page
        page.write_text(self.rendered(page.read_text("utf-8")), encoding="utf-8")

    def main(self, description: str | None) -> None:
        """Measure the rows that the command line selects, keep the figures of the others, and write the table."""
        parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
        parser.add_argument("--rows", help="prefixes of row names, separated by commas (default: all)", default="")
        parser.add_argument("--missing", action="store_true", help="measure only rows without figures")
        parser.add_argument("--render", action="store_true", help="measure nothing")
        options = parser.parse_args()
        known = self.read()
        for name, subject in () if options.render else self.rows.items():
            if name.startswith(tuple(options.rows.split(","))) and not (options.missing and name in known):
                known[name] = self.measure(subject)
                print(name, json.dumps(known[name]), flush=True)
                self.keep(known)
        self.write()
