"""Labels and annotations of an image, from the metadata, the base and the user."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.bases.model import Base, Interpreter
from hatch_docker.core.errors import ConfigError
from hatch_docker.engines.common import image_annotations, image_settings, unsupported_annotations
from hatch_docker.oci.make_image import scratch
from hatch_docker.oci.media_types import DOCKER
from hatch_docker.plan.model import BasePlan
from hatch_docker.plan.naming import PREFIX
from hatch_docker.project.hatch import open_hatchling, readable_project
from tests.fakes.images import AMD64
from tests.fakes.plans import plan

DIGEST = "sha256:" + "1" * 64


def base(kind: str = "registry", location: str = "python:3.13-slim") -> Base:
    name = location if kind == "registry" else f"{kind}:{location}"
    return Base(
        BasePlan(kind, name, location), name, DIGEST, scratch(AMD64), Interpreter("/usr/bin/python3.13", "3.13.5"),
        ("glibc", "2.41"), {}, frozenset(),
    )  # fmt: skip


def annotations(table: dict[str, Any] | None = None, on: Base | None = None, **facts: Any) -> dict[str, str]:
    found = image_annotations(plan(table, **facts), on or base(), 1_709_208_000)
    return {key.removeprefix(PREFIX): value for key, value in found.items()}


def test_predefined_keys_are_annotations_and_labels() -> None:
    """Labels are for tools that do not read manifests."""
    urls = {"Homepage": "https://h.example", "Source Code": "https://s.example", "Docs": "https://d.example"}
    found = annotations(urls=urls)
    assert found == {
        "title": "My.App", "version": "1.2.3", "description": "An app.", "licenses": "MIT",
        "authors": "A <a@b.example>", "url": "https://h.example", "source": "https://s.example",
        "documentation": "https://d.example", "revision": "0123456789abcdef", "created": "2024-02-29T12:00:00Z",
        "base.name": "docker.io/library/python:3.13-slim", "base.digest": DIGEST,
    }  # fmt: skip
    labels = image_settings(plan(urls=urls), base(), 1_709_208_000).labels
    assert {key.removeprefix(PREFIX): value for key, value in labels.items()} == found


def test_user_annotation_overrides_or_removes_a_key() -> None:
    own = {PREFIX + "title": "Mine", PREFIX + "created": "", PREFIX + "base.name": "", "x": ""}
    found = annotations({"annotations": own})
    assert (found["title"], found["x"]) == ("Mine", "")
    assert not {"created", "base.name"} & set(found)


def test_annotations_unsupported_by_docker_manifests() -> None:
    """Only the user's annotations are lost: those from the metadata are labels too."""
    table = {"annotations": {"x": "1", PREFIX + "title": "Mine"}, "labels": {"x": "2"}}
    docker = base()
    descriptor = replace(docker.image.descriptor, media_type=DOCKER.manifest)
    docker = replace(docker, image=replace(docker.image, descriptor=descriptor))
    assert unsupported_annotations(plan(table), base()) == []
    assert unsupported_annotations(plan(), docker) == []
    assert sorted(unsupported_annotations(plan(table), docker)) == [PREFIX + "title", "x"]


@pytest.mark.parametrize(("location", "name"), [
    ("registry.example/py:3", "registry.example/py:3"),
    ("team/py", "docker.io/team/py:latest"),
    (f"python:3.13@{DIGEST}", "docker.io/library/python:3.13"),
    (f"python@{DIGEST}", f"docker.io/library/python@{DIGEST}"),
])  # fmt: skip
def test_base_name_is_a_complete_reference(location: str, name: str) -> None:
    """The specification requires it, so that other tools find a newer base."""
    assert annotations(on=base("registry", location))["base.name"] == name


def test_layout_has_no_base_name() -> None:
    """Its name would be a path of this machine."""
    found = annotations(on=base("oci", "../bases/python"))
    assert "base.name" not in found
    assert found["base.digest"] == DIGEST


@pytest.mark.parametrize(("lines", "licence"), [
    ('license = "apache-2.0 or mit"', "Apache-2.0 OR MIT"),
    ('license = {text = "MIT"}', "MIT"),
    ('license = {text = "See the file"}', ""),
    ('license = {text = "Permission is hereby granted\\nand so on"}', ""),
    ('classifiers = ["License :: OSI Approved :: MIT License"]', "MIT"),
    ('classifiers = ["License :: OSI Approved :: BSD License"]', ""),
    ("", ""),
])  # fmt: skip
def test_licence_is_an_spdx_expression_or_empty(lines: str, licence: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\nversion = "1"\n{lines}\n')
    assert readable_project(open_hatchling(tmp_path)).metadata({}).licence == licence


@pytest.mark.parametrize("text", ["", "-1", "1e9", "1700000000.5", "4354819200"])
def test_invalid_source_date_epoch_is_reported(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n')
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH is"):
        readable_project(open_hatchling(tmp_path)).metadata({"SOURCE_DATE_EPOCH": text})
