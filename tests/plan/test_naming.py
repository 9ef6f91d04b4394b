"""Names of an image: tags from templates, repositories from `image` and `registries`, annotations of an index."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_docker.oci.make_image import Settings, build_image, scratch
from hatch_docker.oci.reference import check_tag, parse_reference
from hatch_docker.plan.naming import PREFIX, fill_template, index_annotations, repositories_of, tags_of
from hatch_docker.project.git import Revision
from tests.fakes.images import AMD64, ARM64
from tests.fakes.plans import project

DIRTY = Revision("0123456789abcdef", "main", 1_700_000_000, ("a.py",))


@pytest.mark.parametrize(("template", "facts", "tag"), [
    ("{version}", {}, "1.2.3"),
    ("{major}.{minor}", {}, "1.2"),
    ("{major}", {"version": "2!3.4"}, "3"),
    ("{branch}-{revision}", {}, "main-0123456789ab"),
    ("{date}", {"source_date": 1_709_164_800}, "20240229"),
    ("{revision}", {"revision": DIRTY}, "0123456789ab-dirty"),
])  # fmt: skip
def test_placeholders_of_a_tag_template(template: str, facts: dict[str, Any], tag: str) -> None:
    assert fill_template(template, project(**facts)) == (tag, "")


@pytest.mark.parametrize(("template", "facts", "tag"), [
    ("{version}", {"version": "1.0+cu128"}, "1.0-cu128"),
    ("{version}", {"version": "2!1.0"}, "2-1.0"),
    ("{branch}", {"revision": Revision("0" * 40, "fix/the thing", 0)}, "fix-the-thing"),
    ("{branch}", {"revision": Revision("0" * 40, ".ä", 0)}, "_-"),
    ("{branch}", {"revision": Revision("0" * 40, "b" * 200, 0)}, "b" * 128),
])  # fmt: skip
def test_invalid_characters_of_a_tag_are_replaced(template: str, facts: dict[str, Any], tag: str) -> None:
    found, lines = fill_template(template, project(**facts))
    assert found == tag
    assert lines.startswith('tag "') and f'is written "{tag}"' in lines


@given(st.text(min_size=1))
def test_any_branch_gives_a_valid_tag(branch: str) -> None:
    tag, lines = fill_template("{branch}", project(revision=Revision("0" * 40, branch, 0)))
    check_tag(tag, tag)
    assert bool(lines) == (tag != branch)


@pytest.mark.parametrize("version", ["2.0rc1", "2.0.dev3", "2.0a1+local"])
def test_prerelease_gets_no_moving_tags(version: str) -> None:
    templates = ["{version}", "latest", "{major}", "{major}.{minor}", "edge", "{branch}"]
    tags, notes = tags_of(templates, project(version=version), move=False)
    assert tags == (version.replace("+", "-"), "edge", "main")
    assert 'is a pre-release: not tagged "latest", "{major}", "{major}.{minor}"' in notes[0]
    assert "prereleases-move-tags = true" in notes[0]


@pytest.mark.parametrize(("version", "templates", "move", "tags", "notes"), [
    ("2.0rc1", ["latest", "{major}"], True, ("latest", "2"), 0),
    ("2.0rc1", ["latest"], False, ("2.0rc1",), 1),  # no other tag remains: the tag is the version
    ("1.2.3", ["{version}", "latest"], False, ("1.2.3", "latest"), 0),
    ("1.0.post1", ["{version}", "latest"], False, ("1.0.post1", "latest"), 0),
    ("1.0+local", ["{version}", "latest"], False, ("1.0-local", "latest"), 1),
    ("1.2.3", ["{version}", "1.2.3"], False, ("1.2.3",), 0),
])  # fmt: skip
def test_moving_tags(version: str, templates: list[str], move: bool, tags: tuple[str, ...], notes: int) -> None:
    found, lines = tags_of(templates, project(version=version), move=move)
    assert (found, len(lines)) == (tags, notes)


@pytest.mark.parametrize(("image", "registries", "repositories"), [
    ("registry.example/team/app", [], ["registry.example/team/app"]),
    ("localhost/app", [], ["localhost/app"]),
    ("127.0.0.1:5000/app", [], ["127.0.0.1:5000/app"]),
    ("team/app", [], ["docker.io/team/app"]),
    ("app", [], []),
    ("app", ["registry.example", "localhost:5000"], ["registry.example/app", "localhost:5000/app"]),
    ("team/app", ["registry.example"], ["registry.example/team/app"]),
    ("one.example/team/app", ["two.example"], ["two.example/team/app"]),
    ("app", ["registry.example/eu/app", "[::1]:5000/x"], ["registry.example/eu/app", "[::1]:5000/x"]),
    ("app", ["registry.example", "registry.example/app"], ["registry.example/app"]),
])  # fmt: skip
def test_repositories_to_push_to(image: str, registries: list[str], repositories: list[str]) -> None:
    found = repositories_of(image, registries)
    assert found == tuple(repositories)
    for name in found:
        assert re.match(r"(.*)/.*", name) and parse_reference(name).name == name


def test_index_has_the_annotations_common_to_all_images() -> None:
    images = [
        build_image(scratch(platform), [], Settings(), 0, {
            PREFIX + "title": "app", PREFIX + "created": f"2024-02-{day}T00:00:00Z", PREFIX + "base.digest": f"{day}",
        })
        for platform, day in ((AMD64, 28), (ARM64, 29))
    ]  # fmt: skip
    assert index_annotations(images) == {PREFIX + "title": "app", PREFIX + "created": "2024-02-29T00:00:00Z"}
