"""The metadata of hatch-docker that need its public address: `[project.urls]`, and absolute links in the README.

The addresses are in `[tool.hatch.metadata.hooks.custom]` of pyproject.toml, and nowhere else: `repository`, and
`documentation`, that of the site. While `repository` is empty there are no URLs, and the README keeps the relative
links that work in a checkout. Errors name a page of the site, else of the repository: `documentation_url` in
build/failures.py.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?\[[^\]]*\]\()(?!https?://|#)([^()\s]+\))")


def absolute(readme: str, repository: str) -> str:
    """Return a README whose links and pictures lead to a repository, on GitHub or GitLab."""
    return _LINK.sub(
        lambda found: f"{found[1]}{repository}/{'raw' if found[1].startswith('!') else 'blob'}/main/{found[2]}", readme
    )


def urls(repository: str, documentation: str) -> dict[str, str]:
    """Return the table `[project.urls]`."""
    return {
        "Repository": repository,
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
        **({"Documentation": documentation} if documentation else {}),
    }


class Metadata(MetadataHookInterface):
    """The hook that hatchling calls, which gives the fields `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        repository = str(self.config.get("repository", "")).rstrip("/")
        readme = Path(self.root, "README.md").read_text("utf-8")
        if repository:
            readme = absolute(readme, repository)
            metadata["urls"] = urls(repository, self.config.get("documentation", ""))
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}
