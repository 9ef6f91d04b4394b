"""Unchanged builds that push: their requests to the registries, and the effect of other responses."""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from hatch_docker.build.unchanged import recall
from hatch_docker.core.cache.store import RECENT
from tests.fakes.images import small_image
from tests.fakes.registry import FakeRegistry
from tests.integration.builds import build, environment
from tests.integration.prepared_build import push_image
from tests.integration.remembered_build import (
    RememberedBuild,
    Undo,
    add_file,
    append,
    build_and_remember,
    command_of,
    edit_file,
)
from tests.projects import write_project

pytestmark = pytest.mark.network

PUSHED = ("pushed", "other/copy")


@pytest.fixture(scope="module")
def cache(hello_cache: Path) -> Path:
    return hello_cache


@pytest.fixture(scope="module")
def pushing(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[RememberedBuild]:
    """Remember a push to two repositories with two tags; the registry has no referrers API."""
    place = tmp_path_factory.mktemp("pushing")
    with FakeRegistry() as registry:
        names = [f"{registry.host}/{name}" for name in PUSHED]
        options = f'image = "hello"\nregistries = {names}\ntags = ["1", "latest"]'
        root = write_project("hello", place / "project", options=options)
        home = {"HOME": str(place / "home"), "XDG_CONFIG_HOME": str(place / "home/config")}
        environ = environment(cache, {**home, "HATCH_VERBOSE": "1"})
        yield build_and_remember(root, environ, place, registry, pushes=True)


Remote = Callable[[FakeRegistry], Undo]


def remove_manifests(repository: str, selects: Callable[[str], bool]) -> Remote:
    """Return an edit that removes the manifests of a repository whose name (tag or digest) `selects` accepts."""

    def edit(registry: FakeRegistry) -> Undo:
        manifests = registry.repository(repository).manifests
        before = dict(manifests)
        for name in filter(selects, before):
            del manifests[name]
        assert manifests != before
        return lambda: manifests.update(before)

    return edit


def move_tag(registry: FakeRegistry) -> Undo:
    manifests = registry.repositories["other/copy"].manifests
    before = manifests["latest"]
    push_image(small_image(), f"{registry.host}/other/copy:latest")
    return lambda: manifests.update({"latest": before})


def remove_referrer(registry: FakeRegistry) -> Undo:
    """Remove a document from the list of referrers, as a parallel write of another client can."""
    manifests = registry.repositories["pushed"].manifests
    (tag,) = (name for name in manifests if name.startswith("sha256-"))
    before = manifests[tag]
    index = json.loads(before[1])
    manifests[tag] = before[0], json.dumps({**index, "manifests": index["manifests"][:1]}).encode()
    return lambda: manifests.update({tag: before})


def fail_requests(action: object, method: str = "HEAD", part: str = "/manifests/latest") -> Remote:
    def edit(registry: FakeRegistry) -> Undo:
        registry.fault(method, part, action)
        return registry.faults.clear

    return edit


def require_login(registry: FakeRegistry) -> Undo:
    registry.password = "secret"
    return lambda: setattr(registry, "password", "")


REMOTE: dict[str, Remote] = {
    "tag removed": remove_manifests("pushed", lambda name: name == "latest"), "tag moved": move_tag,
    "all manifests removed": remove_manifests("other/copy", bool), "list of referrers removed": remove_manifests(
        "pushed", lambda name: name.startswith("sha256-")), "document not listed": remove_referrer,
    "response without digest": fail_requests(200), "503": fail_requests(503), "reset": fail_requests("reset"),
    "403": fail_requests(403), "list of referrers fails": fail_requests(500, "GET", "/manifests/sha256-"),
    "login required": require_login,
}  # fmt: skip


def test_change_in_a_registry_is_noticed(pushing: RememberedBuild) -> None:
    """Any response without the expected digests causes an ordinary build."""
    edits = [(name, partial(lambda edit, _root: edit(pushing.registry), edit)) for name, edit in REMOTE.items()]
    assert [name for name, edit in edits if not pushing.is_noticed(edit)] == []


def test_change_of_the_pushs_settings_is_noticed(pushing: RememberedBuild) -> None:
    """Variables, logins of the user, and the receipt. The remembered build sends eight requests."""
    variables = ("REGISTRIES", "TAGS", "IMAGE", "SIGN_KEY", "PUSH", "ALLOW_DIRTY", "CACHE_TO", "SBOM")
    time.sleep(2 * RECENT)
    pushing.remember()
    first = len(pushing.registry.requests)
    assert pushing.is_recalled()
    found = [(request.method, request.path.partition("sha256")[0]) for request in pushing.registry.requests[first:]]
    repositories = [f"/v2/{name}" for name in PUSHED]
    assert sorted(found) == sorted(
        item for place in repositories for item in (
            ("HEAD", f"{place}/manifests/1"), ("HEAD", f"{place}/manifests/latest"),
            ("GET", f"{place}/referrers/"), ("GET", f"{place}/manifests/"),
        )
    )  # fmt: skip
    assert [name for name in variables if pushing.is_recalled({f"HATCH_DOCKER_{name}": "1"})] == []
    assert recall(command_of(pushing.root, pushing.environ), lambda _line: None, 0) is None  # without the push
    files = ("../home/.docker/config.json", "../home/config/containers/auth.json")
    assert [name for name in files if not pushing.is_noticed(add_file(name))] == []
    assert pushing.is_noticed(edit_file("dist/hello-1.0.0.image.json", append))


def test_missing_image_of_a_pushed_index_is_pushed_again(pushing: RememberedBuild, tmp_path: Path, cache: Path) -> None:
    """Clean-up jobs of registries remove manifests without a tag."""
    name = f"{pushing.registry.host}/index"
    options = f'image = "{name}"\nplatforms = ["linux/amd64", "linux/arm64"]\nsbom = []\nprovenance = false'
    project = write_project("hello", tmp_path / "p", options=options)
    build(project, cache, verb="docker:push")
    first = len(pushing.registry.requests)
    assert "nothing changed" in build(project, cache, verb="docker:push").output
    assert {request.method for request in pushing.registry.requests[first:]} == {"HEAD"}
    manifests = pushing.registry.repositories["index"].manifests
    image = next(digest for digest in manifests if digest != build(project, cache, verb="docker:push").digest)
    del manifests[image]
    build(project, cache, verb="docker:push")
    assert image in manifests
