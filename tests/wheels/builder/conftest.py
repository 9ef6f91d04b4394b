"""Fixtures for the builder stage. The root contains the Python that runs the tests, so no network is needed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_docker.core.context import Context
from hatch_docker.plan.model import BuildPlan
from hatch_docker.wheels.builder.build import BuilderStage
from tests.fakes.builder_stages import TARGET, make_base
from tests.fakes.context import context
from tests.fakes.sandbox_roots import python_root, readable_root


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """A root directory with a Python."""
    with readable_root(python_root) as path:
        yield path


@pytest.fixture
def ctx(tmp_path: Path, lines: list[str]) -> Context:
    return context(tmp_path / "cache", lines, PATH=os.environ["PATH"], TOKEN="hunter2", OTHER="also-secret")


@pytest.fixture
def builder(tree: Path, ctx: Context, tmp_path: Path) -> BuilderStage:
    return BuilderStage(tree, BuildPlan(isolated=True, network=False), make_base(), TARGET, ctx, tmp_path)
