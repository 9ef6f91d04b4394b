"""[tool.hatch-docker.cache]: options for buildx and podman, and errors for options that they would ignore."""

import os
import shutil
import tarfile
from pathlib import Path

import pytest

from hatch_docker.config.load import load_config
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.files import is_cache, mark_as_cache
from hatch_docker.engines.buildkit.buildx import OLDEST
from hatch_docker.engines.buildkit.cache_options import GHA_BUILDX, buildx_caches, podman_caches
from hatch_docker.plan.model import CachePlan
from hatch_docker.project.git import read_revision
from hatch_docker.project.hatch import hatchling_project, open_hatchling, selected_files
from hatch_docker.project.tree import read_tree
from tests.fakes.context import context
from tests.projects import write_project

SECRET = "s3cret-0123456789"
REGISTRY = {"type": "registry", "ref": "registry.example/app:cache"}


def caches(sources: list[str] | None = None, targets: list[str] | None = None) -> CachePlan:
    """Return the CachePlan for values of cache.from and cache.to."""
    cache = load_config({"cache": {"from": sources or [], "to": targets or []}}, {}, None).cache
    return CachePlan(cache.from_, cache.to)


@pytest.mark.parametrize(("option", "value", "message"), [
    ("to", "type=inline", "inline stores the cache in an image that BuildKit pushes"),
    ("from", "type=inline", "use type=registry,ref=REPOSITORY:cache"),
    ("from", "type=wrong", "must have one of these types: type=registry, type=local"),
    ("from", "ref=registry.example/app", "must have one of these types"),
    ("to", "type=registry", "type=registry needs ref=..."),
    ("to", "type=local,src=x", "type=local needs dest=..."),
    ("from", "type=local,dest=x", "type=local needs src=..."),
    ("to", "type=gha,mode=all", "mode must be min or max"),
    ("to", "type=gha,max", "the field 'max' has no value"),
    ("to", f"type=gha,token={SECRET}", "token contains a login; remove it"),
    ("to", f"type=s3,region=x,bucket=y,secret_access_key={SECRET}", "secret_access_key contains a login"),
    ("from", f"type=gha,url=https://me:{SECRET}@cache.example/", "url contains a login"),
    ("from", 'type=local,"src', "must be fields between commas"),
])  # fmt: skip
def test_ineffective_cache_option_is_an_error(option: str, value: str, message: str) -> None:
    """The message is one line with the option's path and without the login in the value."""
    with pytest.raises(ConfigError) as error:
        load_config({"cache": {option: [value]}}, {}, None)
    assert str(error.value).startswith(f"tool.hatch-docker.cache.{option}[0]: ")
    assert message in str(error.value)
    assert SECRET not in str(error.value)


def test_variable_has_one_cache_per_line(tmp_path: Path) -> None:
    """Commas separate the fields of one cache."""
    variable = "type=registry,ref=registry.example/app:cache\ntype=gha,scope=app\n"
    assert load_config({}, {"HATCH_DOCKER_CACHE_FROM": variable}, None).cache.from_ == (
        REGISTRY, {"type": "gha", "scope": "app"},
    )  # fmt: skip


def test_default_mode_is_max_and_default_type_is_registry(tmp_path: Path) -> None:
    plan = caches(["registry.example/app:cache"], ["type=registry,ref=registry.example/app:cache,image-manifest=true"])
    assert buildx_caches(plan, tmp_path, OLDEST, context(tmp_path / "cache")) == [
        "--cache-from=type=registry,ref=registry.example/app:cache",
        "--cache-to=type=registry,ref=registry.example/app:cache,image-manifest=true,mode=max",
    ]


def test_local_cache_is_relative_to_the_project(tmp_path: Path) -> None:
    """It may be missing at first, and its path may contain a comma."""
    lines: list[str] = []
    ctx = context(tmp_path / "cache", lines)
    plan = caches(['type=local,"src=a,b"', "type=local,src=none"], ["type=local,dest=out,mode=min"])
    (tmp_path / "p" / "a,b").mkdir(parents=True)
    (tmp_path / "p" / "a,b" / "index.json").write_text("{}")
    assert buildx_caches(plan, tmp_path / "p", OLDEST, ctx) == [
        f'--cache-from=type=local,"src={tmp_path}/p/a,b"', f"--cache-to=type=local,dest={tmp_path}/p/out,mode=min",
    ]  # fmt: skip
    assert lines == ["  nothing in the cache none yet"]


@pytest.mark.parametrize("place", ["..", "{}/elsewhere", ".git/objects"])
def test_cache_outside_of_the_project_is_rejected(place: str, tmp_path: Path) -> None:
    """The environment variable allows it."""
    plan, root = caches(targets=[f"type=local,dest={place.format(tmp_path)}"]), tmp_path / "p"
    root.mkdir()
    with pytest.raises(ConfigError, match=r"cache.to: .* is outside of the project; .*; set HATCH_DOCKER_CACHE_TO"):
        buildx_caches(plan, root, OLDEST, context(tmp_path / "cache"))
    assert len(buildx_caches(plan, root, OLDEST, context(tmp_path / "cache", HATCH_DOCKER_CACHE_TO="x"))) == 1


def test_local_cache_gets_cachedir_tag_and_gitignore(tmp_path: Path) -> None:
    """So it is in no sdist and makes no checkout dirty. A directory with other files is not changed."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.md").write_text("a")
    plan = caches(targets=["type=local,dest=kept", "type=local,dest=docs"])
    for _ in range(2):
        buildx_caches(plan, tmp_path, OLDEST, context(tmp_path / "cache"))
    assert is_cache(tmp_path / "kept")
    assert (tmp_path / "kept/.gitignore").read_text() == "*\n"
    assert [path.name for path in (tmp_path / "docs").iterdir()] == ["a.md"]
    for name in ("CACHEDIR.TAG", ".gitignore"):  # as written by an earlier version
        (tmp_path / "kept" / name).unlink()
    (tmp_path / "kept/oci-layout").write_text("{}")
    buildx_caches(plan, tmp_path, OLDEST, context(tmp_path / "cache"))
    assert is_cache(tmp_path / "kept")


def test_cache_is_not_in_the_sdist_and_not_dirty(tmp_path: Path) -> None:
    """It is large and changes with each build: the wheel would be compiled again each time."""
    project = write_project("vcs-version", tmp_path / "p")
    mark_as_cache(project / "kept")
    (project / "kept/blobs").mkdir()
    (project / "kept/blobs/blob").write_text("x")
    with tarfile.open(hatchling_project(open_hatchling(project), tmp_path).sdist().open()) as sdist:
        names = sdist.getnames()
    assert any(name.endswith("/pyproject.toml") for name in names)
    assert not [name for name in names if "kept" in name]
    revision = read_revision(project, os.environ)
    assert revision is not None
    assert revision.dirty == ()
    for _ in range(2):  # with git, and without
        assert "pyproject.toml" in read_tree(project, {}, versioned=False).files
        assert not [name for name in read_tree(project, {}, versioned=False).files if "kept" in name]
        shutil.rmtree(project / ".git", ignore_errors=True)


@pytest.mark.parametrize(("variables", "version", "message"), [
    ({}, GHA_BUILDX, "ACTIONS_RUNTIME_TOKEN and ACTIONS_RESULTS_URL are not set"),
    ({"ACTIONS_RESULTS_URL": "https://x.example"}, GHA_BUILDX, "ACTIONS_RUNTIME_TOKEN is not set"),
    ({"ACTIONS_RUNTIME_TOKEN": SECRET}, GHA_BUILDX, "ACTIONS_RESULTS_URL is not set"),
    (
        {"ACTIONS_RUNTIME_TOKEN": SECRET, "ACTIONS_RESULTS_URL": "https://x.example"}, OLDEST,
        "needs buildx 0.21 or newer for GitHub's current cache service, and this is 0.13",
    ),
])  # fmt: skip
@pytest.mark.parametrize("option", ["from", "to"])
def test_gha_cache_without_its_variables_is_rejected(
    option: str, variables: dict[str, str], version: tuple[int, int], message: str, tmp_path: Path
) -> None:
    """Without them, buildx stores nothing and prints no error."""
    ctx = context(tmp_path / "cache", **variables)
    plan = caches(**{"sources" if option == "from" else "targets": ["type=gha"]})
    with pytest.raises(ConfigError) as error:
        buildx_caches(plan, tmp_path, version, ctx)
    assert str(error.value).startswith(f"tool.hatch-docker.cache.{option}: type=gha ")
    assert message in str(error.value)
    assert SECRET not in str(error.value)


def test_gha_token_is_not_on_the_command_line(tmp_path: Path) -> None:
    """buildx reads it from the environment."""
    variables = {"ACTIONS_RUNTIME_TOKEN": SECRET, "ACTIONS_RESULTS_URL": "https://x.example"}
    plan = caches(["type=gha,scope=app"], ["type=gha,scope=app"])
    assert buildx_caches(plan, tmp_path, GHA_BUILDX, context(tmp_path / "cache", **variables)) == [
        "--cache-from=type=gha,scope=app", "--cache-to=type=gha,scope=app,mode=max",
    ]  # fmt: skip


def test_podman_caches_are_repositories(tmp_path: Path) -> None:
    plan = caches(["type=registry,ref=registry.example:5000/app/cache"], ["registry.example:5000/app/cache"])
    assert podman_caches(plan) == [
        "--cache-from=registry.example:5000/app/cache", "--cache-to=registry.example:5000/app/cache",
    ]  # fmt: skip


@pytest.mark.parametrize(("plan", "message"), [
    (caches(["type=local,src=x"]), "cache.from: podman keeps its cache in registries only, not in type=local"),
    (caches(targets=["type=gha"]), "cache.to: podman keeps its cache in registries only, not in type=gha"),
    (caches(["registry.example/app:cache"]), "cache.from: podman keeps its cache in a separate repository"),
    (caches(targets=["type=registry,ref=registry.example/a,mode=min"]), "podman does not know mode=min"),
    (caches(["type=registry,ref=registry.example/a,x=y"]), "podman does not know x; leave it out"),
])  # fmt: skip
def test_cache_that_podman_does_not_support_is_rejected(plan: CachePlan, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        podman_caches(plan)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_built_image_is_not_in_the_sdist(tmp_path: Path) -> None:
    """The directory may be set by `-o out`. A file with a receipt's name, but without an archive, is kept."""
    project = write_project("vcs-version", tmp_path / "p")
    (project / "out").mkdir()
    for name in ("out/p-1.oci.tar", "out/p-1.image.json", "out/still.image.json"):
        (project / name).touch()
    hatchling = open_hatchling(project)
    with tarfile.open(hatchling_project(hatchling, tmp_path).sdist().open()) as sdist:
        assert [name.rpartition("/")[2] for name in sdist.getnames() if "/out/" in name] == ["still.image.json"]
    watched = {str(path.relative_to(project)) for path in selected_files(hatchling, sdist=True)}
    assert {name for name in watched if name.startswith("out/")} == {"out/still.image.json"}
