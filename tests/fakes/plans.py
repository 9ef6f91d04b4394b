"""Metadata of a project that has no files, and plans made from options."""

from pathlib import Path
from typing import Any

from hatch_docker.config.load import load_config
from hatch_docker.oci.model import Platform
from hatch_docker.plan.defaults import make_plan
from hatch_docker.plan.model import Plan
from hatch_docker.project.git import Revision
from hatch_docker.project.metadata import Metadata
from hatch_docker.project.model import Project

HOST = Platform("linux", "amd64")


def project(**facts: Any) -> Metadata:
    """Return the metadata of a project."""
    values: dict[str, Any] = {
        "root": Path("/nowhere"), "name": "My.App", "file_name": "my_app", "version": "1.2.3",
        "description": "An app.", "requires_python": ">=3.11", "licence": "MIT", "authors": ("A <a@b.example>",),
        "urls": {"Home Page": "https://x.example", "Source": "https://s.example"}, "scripts": ("serve",),
        "dependencies": ("b>=1", "a"), "extras": {"fast": ("c",)}, "groups": {"prod": ("d",)}, "locks": (),
        "hooks": (), "revision": Revision("0123456789abcdef", "main", 1_700_000_000), "source_date": 1_700_000_000,
        **facts,
    }  # fmt: skip
    return Metadata(**values)


def plan(table: dict[str, Any] | None = None, **facts: Any) -> Plan:
    """Return the plan for some options, on linux/amd64."""
    return make_plan(project(**facts), load_config(table or {}, {}, None), HOST)


def project_with_wheel(root: Path = Path("/nowhere")) -> Project:
    """Return a project with a built wheel. Building an sdist fails."""
    wheel = root / "x.whl"
    return Project(root, wheel=lambda: wheel, sdist=fail)


def fail() -> Path:
    raise AssertionError("the sdist must not be built")
