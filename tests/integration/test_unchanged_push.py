"""Builds that push, of which nothing changed: what they ask the registries, and what any other answer does."""

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
from tests.integration.remembered_build import Bench, Undo, added, append, changed, command, remembered
from tests.projects import write_project

pytestmark = pytest.mark.network

PUSHED = ("pushed", "other/copy")


@pytest.fixture(scope="module")
def pushing(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Bench]:
    """A project that is pushed to two repositories under two tags; the registry's list of referrers is a tag."""
    place = tmp_path_factory.mktemp("pushing")
    with FakeRegistry() as registry:
        names = [f"{registry.host}/{name}" for name in PUSHED]
        options = f'image = "hello"\nregistries = {names}\ntags = ["1", "latest"]'
        root = write_project("hello", place / "project", options=options)
        home = {"HOME": str(place / "home"), "XDG_CONFIG_HOME": str(place / "home/config")}
        environ = environment(cache, {**home, "HATCH_VERBOSE": "1"})
        yield remembered(root, environ, place, registry, pushes=True)


Remote = Callable[[FakeRegistry], Undo]


def lost(repository: str, of: Callable[[str], bool]) -> Remote:
    """Remove manifests of a repository by their names."""

    def edit(registry: FakeRegistry) -> Undo:
        manifests = registry.repository(repository).manifests
        before = dict(manifests)
        for name in filter(of, before):
            del manifests[name]
        assert manifests != before
        return lambda: manifests.update(before)

    return edit


def moved(registry: FakeRegistry) -> Undo:
    manifests = registry.repositories["other/copy"].manifests
    before = manifests["latest"]
    push_image(small_image(), f"{registry.host}/other/copy:latest")
    return lambda: manifests.update({"latest": before})


def unlisted(registry: FakeRegistry) -> Undo:
    """Take a document out of the list of what is attached, as another client does that writes it at the same time."""
    manifests = registry.repositories["pushed"].manifests
    (tag,) = (name for name in manifests if name.startswith("sha256-"))
    before = manifests[tag]
    index = json.loads(before[1])
    manifests[tag] = before[0], json.dumps({**index, "manifests": index["manifests"][:1]}).encode()
    return lambda: manifests.update({tag: before})


def failing(action: object, method: str = "HEAD", part: str = "/manifests/latest") -> Remote:
    def edit(registry: FakeRegistry) -> Undo:
        registry.fault(method, part, action)
        return registry.faults.clear

    return edit


def login_wanted(registry: FakeRegistry) -> Undo:
    registry.password = "secret"
    return lambda: setattr(registry, "password", "")


REMOTE: dict[str, Remote] = {
    "a tag is gone": lost("pushed", lambda name: name == "latest"), "a tag has moved": moved,
    "nothing is left": lost("other/copy", bool), "the list of documents is gone": lost(
        "pushed", lambda name: name.startswith("sha256-")), "a document is not listed": unlisted,
    "no digest": failing(200), "an error": failing(503), "no answer": failing("reset"), "refused": failing(403),
    "a list of documents that cannot be read": failing(500, "GET", "/manifests/sha256-"),
    "a login is wanted": login_wanted,
}  # fmt: skip


def test_what_left_a_registry_is_pushed_again(pushing: Bench) -> None:
    """Whatever the registry answers but the same digests is an ordinary build."""
    edits = [(name, partial(lambda edit, _root: edit(pushing.registry), edit)) for name, edit in REMOTE.items()]
    assert [name for name, edit in edits if not pushing.notices(edit)] == []


def test_a_pushing_build_looks_at_what_decides_the_push(pushing: Bench) -> None:
    """The variables of the push, the user's logins, and the receipt."""
    variables = ("REGISTRIES", "TAGS", "IMAGE", "SIGN_KEY", "PUSH", "ALLOW_DIRTY", "CACHE_TO", "SBOM")
    time.sleep(2 * RECENT)
    pushing.remember()
    asked = len(pushing.registry.requests)
    assert pushing.is_recalled()
    found = [(request.method, request.path.partition("sha256")[0]) for request in pushing.registry.requests[asked:]]
    places = [f"/v2/{name}" for name in PUSHED]
    assert sorted(found) == sorted(
        item for place in places for item in (
            ("HEAD", f"{place}/manifests/1"), ("HEAD", f"{place}/manifests/latest"),
            ("GET", f"{place}/referrers/"), ("GET", f"{place}/manifests/"),
        )
    )  # fmt: skip
    assert [name for name in variables if pushing.is_recalled({f"HATCH_DOCKER_{name}": "1"})] == []
    assert recall(command(pushing.root, pushing.environ), lambda _line: None, 0) is None  # without the push
    files = ("../home/.docker/config.json", "../home/config/containers/auth.json")
    assert [name for name in files if not pushing.notices(added(name))] == []
    assert pushing.notices(changed("dist/hello-1.0.0.image.json", append))


def test_a_pushed_index_has_all_its_images(pushing: Bench, tmp_path: Path, cache: Path) -> None:
    """Jobs that clean a registry remove manifests without a tag; the next build brings them back."""
    name = f"{pushing.registry.host}/index"
    options = f'image = "{name}"\nplatforms = ["linux/amd64", "linux/arm64"]\nsbom = []\nprovenance = false'
    project = write_project("hello", tmp_path / "p", options=options)
    build(project, cache, verb="docker:push")
    asked = len(pushing.registry.requests)
    assert "nothing changed" in build(project, cache, verb="docker:push").output
    assert {request.method for request in pushing.registry.requests[asked:]} == {"HEAD"}
    manifests = pushing.registry.repositories["index"].manifests
    image = next(digest for digest in manifests if digest != build(project, cache, verb="docker:push").digest)
    del manifests[image]
    build(project, cache, verb="docker:push")
    assert image in manifests
