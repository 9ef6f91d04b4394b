"""`build.base`: the wheel is made in one image, which has a compiler, and runs in another."""

import json
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.bases.debian.base import builder_root
from hatch_docker.bases.open import open_base
from hatch_docker.core.context import Context, open_context
from hatch_docker.core.progress import silent
from hatch_docker.engines.buildkit.context import compiler_image
from hatch_docker.engines.buildkit.system_packages import Compiler
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.layout import write_layout
from hatch_docker.oci.make_image import Settings, build_image
from hatch_docker.oci.model import History, host_platform
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.plan.model import BasePlan
from tests.fakes.images import layer
from tests.integration.builds import Outcome, build, check_failed, check_option, lock_of, output_of, run_build
from tests.integration.compare_engines import BUILDKIT, PLAIN, new_project

pytestmark = [pytest.mark.network, pytest.mark.engine]

PLAN = BasePlan("debian", "debian:trixie", "trixie")
RELEASE = b'ID=hardened\nVERSION_ID="1"\n'


@pytest.fixture(scope="module")
def layouts(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with two layouts of an unknown distribution: `build` with a compiler and a user, and `run`."""
    place = tmp_path_factory.mktemp("pair")
    ctx: Context = open_context({"HATCH_DOCKER_CACHE_DIR": str(cache)}, silent())
    base = open_base(PLAN, host_platform(), ctx, compression=Compression("gzip"))
    name = layer("usr/lib/os-release", RELEASE)
    run = build_image(base.image, [(name, History("name"))], Settings(), SOURCE_DATE, {})
    write_layout(run, place / "run")
    compiler = compiler_image(Compiler("", builder_root(PLAN, host_platform(), (), ctx, suite="trixie")), base, ctx)
    assert compiler is not None
    image = build_image(compiler.image, [(name, History("name"))], Settings(user="65532"), SOURCE_DATE, {})
    write_layout(image, place / "build")
    return place


def test_both_engines_compile_in_build_base(layouts: Path, docker: str, tmp_path: Path, cache: Path) -> None:
    """The digests agree, for a distribution whose compiler hatch-docker cannot install."""
    project = new_project("c-extension", tmp_path / "p", options=check_option("c-extension"))
    run_base_only = {**PLAIN, "HATCH_DOCKER_BASE": f"oci:{layouts}/run"}
    check_failed(run_build(project, cache, variables=run_base_only), "set build.base to an image with a compiler")
    variables = {**run_base_only, "HATCH_DOCKER_BUILD_BASE": f"oci:{layouts}/build"}
    embedded = build(project, cache, variables=variables)
    assert "oci:build" in [row.get("name") for row in materials(embedded)]
    assert "nothing changed" in build(project, cache, variables=variables).output
    digest = embedded.digest
    other = build(project, cache, variables={**variables, **BUILDKIT})
    assert "build-project" in other.output
    assert other.digest == digest


def test_image_lock_contains_base_and_build_base(layouts: Path, tmp_path: Path, cache: Path) -> None:
    project = new_project("c-extension", tmp_path / "p")
    variables = {**PLAIN, "HATCH_DOCKER_BASE": f"oci:{layouts}/run", "HATCH_DOCKER_BUILD_BASE": f"oci:{layouts}/build"}
    output_of(project, cache, "lock", **variables)
    assert [entry["name"] for entry in lock_of(project)["base"]] == [f"oci:{layouts}/build", f"oci:{layouts}/run"]
    assert "debian" not in lock_of(project)
    output_of(project, cache, "lock", "--check", **variables)
    build(project, cache, variables=variables)
    stale = {**variables, "HATCH_DOCKER_BUILD_BASE": "debian:trixie"}
    check_failed(run_build(project, cache, variables=stale), "hatch-docker.lock is out of date")


def materials(outcome: Outcome) -> list[dict[str, Any]]:
    """Return `resolvedDependencies` of the image's provenance."""
    statement = json.loads((outcome.directory / outcome.receipt["provenance"]["file"]).read_bytes())
    found: list[dict[str, Any]] = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    return found
