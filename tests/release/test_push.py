"""One image pushed to several registries: each blob is sent once, and each failure has its own error."""

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, ProgramError, RegistryError, TransientError
from hatch_docker.oci.model import Image, Index
from hatch_docker.oci.push import Target
from hatch_docker.release.push import PushResult, check_destinations, push_error, push_to_all
from tests.fakes.context import context
from tests.fakes.images import small_image, small_index, small_layer
from tests.fakes.registry import FakeRegistry

IMAGE = small_image(small_layer("a", b"a" * 5000), small_layer("b", b"b" * 3000))
TAGS = ("1.0", "latest")


@pytest.fixture
def one(registry: FakeRegistry) -> FakeRegistry:
    return registry


@pytest.fixture
def two() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def ctx(tmp_path: Path, lines: list[str]) -> Context:
    return context(tmp_path / "cache", lines, verbosity=0)


def names(registry: FakeRegistry, repository: str) -> set[str]:
    return {name for name in registry.repository(repository).manifests if not name.startswith("sha256:")}


def errors(deliveries: tuple[PushResult, ...]) -> list[str]:
    return [delivery.error for delivery in deliveries]


@pytest.mark.parametrize("item", [IMAGE, small_index()], ids=["image", "index"])
def test_every_repository_of_every_registry_has_it(
    item: Image | Index, one: FakeRegistry, two: FakeRegistry, ctx: Context
) -> None:
    """In the order asked for, by digest, under each tag; a registry is sent a blob once and mounts it then."""
    repositories = [f"{one.host}/app", f"{two.host}/app", f"{one.host}/team/app"]
    done = push_to_all(item, repositories, TAGS, ctx)
    assert [delivery.reference for delivery in done] == [f"{name}@{item.digest}" for name in repositories]
    assert names(one, "app") == names(one, "team/app") == names(two, "app") == set(TAGS)
    blobs = len(one.repository("app").blobs)
    assert (one.count("PUT", "/blobs/"), two.count("PUT", "/blobs/"), done[2].mounted) == (blobs, blobs, blobs)
    assert push_error(done) is None


def test_an_unchanged_image_moves_nothing(one: FakeRegistry, lines: list[str], ctx: Context) -> None:
    push_to_all(IMAGE, [f"{one.host}/app"], TAGS, ctx)
    one.requests.clear()
    (done,) = push_to_all(IMAGE, [f"{one.host}/app"], TAGS, ctx)
    assert {request.method for request in one.requests} == {"HEAD"}
    assert (done.sent, done.error) == (0, "")
    assert "already there" in lines[-1]


def test_an_index_whose_images_were_cleaned_up_is_whole_again(one: FakeRegistry, ctx: Context) -> None:
    """Clean-up jobs remove untagged images, also those of an index; only the missing ones are sent again."""
    index = small_index()
    push_to_all(index, [f"{one.host}/app"], TAGS, ctx)
    gone = index.images[1]
    del one.repository("app").manifests[gone.digest]
    one.requests.clear()
    (done,) = push_to_all(index, [f"{one.host}/app"], TAGS, ctx)
    assert (done.error, done.sent) == ("", len(gone.manifest))
    assert gone.digest in one.repository("app").manifests
    assert one.count("PUT", "") == 1


def test_what_an_index_shares_with_an_image_that_is_there_is_not_asked_for(one: FakeRegistry, ctx: Context) -> None:
    """One image of the index was pushed before: its blobs are not looked for again."""
    index = small_index()
    push_to_all(index.images[0], [f"{one.host}/app"], ["amd64"], ctx)
    one.requests.clear()
    (done,) = push_to_all(index, [f"{one.host}/app"], TAGS, ctx)
    assert done.error == ""
    assert names(one, "app") == {"amd64", *TAGS}
    config = json.loads(index.images[0].manifest)["config"]["digest"]
    assert one.count("HEAD", f"/blobs/{config}") == 0


def test_another_repository_mounts_what_an_earlier_build_pushed(one: FakeRegistry, ctx: Context) -> None:
    """Two services with the same dependencies: their layers are sent once."""
    push_to_all(IMAGE, [f"{one.host}/first"], TAGS, ctx)
    own = small_layer("own", b"own")
    other = small_image(*IMAGE.layers, own)
    (done,) = push_to_all(other, [f"{one.host}/second"], TAGS, ctx)
    assert done.mounted == 2
    assert done.sent == own.descriptor.size + len(other.config) + 3 * len(other.manifest)
    del one.repositories["first"], one.repositories["second"]  # what is remembered of them does no harm
    (done,) = push_to_all(IMAGE, [f"{one.host}/third"], TAGS, ctx)
    assert (done.error, done.mounted, names(one, "third")) == ("", 0, set(TAGS))


def never() -> io.BytesIO:
    raise AssertionError("a layer was opened that the registry has")


def test_the_base_s_layers_are_mounted_and_never_opened(one: FakeRegistry, ctx: Context) -> None:
    base = IMAGE.layers[0]
    push_to_all(small_image(base), [f"{one.host}/library/python"], ["3.13"], context(ctx.store.root / "other"))
    mount = {base.descriptor.digest: f"{one.host}/library/python@{IMAGE.digest}"}
    image = small_image(replace(base, open=never), IMAGE.layers[1])
    (done,) = push_to_all(image, [f"{one.host}/app"], TAGS, ctx, mount=mount)
    assert (done.error, done.mounted) == ("", 1)


def test_one_registry_s_failure_is_its_own(one: FakeRegistry, two: FakeRegistry, ctx: Context) -> None:
    """The error names the registries that have the image; a second push sends nothing to those."""
    one.fault("PUT", "/manifests/", 500, times=99)
    repositories = [f"{one.host}/app", f"{two.host}/app"]
    done = push_to_all(IMAGE, repositories, TAGS, ctx)
    error = push_error(done)
    assert type(error) is TransientError and error.exit_status == 75
    assert f"{one.host}/app@{IMAGE.digest}: put manifest" in str(error)
    assert f"pushed in spite of that: {two.host}/app@{IMAGE.digest}" in str(error)
    assert names(one, "app") == set() and names(two, "app") == set(TAGS)
    one.faults.clear()
    for registry in (one, two):
        registry.requests.clear()
    again = push_to_all(IMAGE, repositories, TAGS, ctx)
    assert push_error(again) is None
    assert one.count("PUT", "/blobs/") == two.count("PUT", "") == 0


@pytest.mark.parametrize(("statuses", "status"), [((500, 403), 1), ((403, 500), 1), ((500, 503), 75), ((403, 403), 1)])
def test_the_exit_status_is_75_where_all_may_pass(
    statuses: tuple[int, int], status: int, one: FakeRegistry, two: FakeRegistry, ctx: Context
) -> None:
    for registry, answer in zip((one, two), statuses, strict=True):
        registry.fault("POST", "/blobs/", answer, times=999)
    done = push_to_all(IMAGE, [f"{one.host}/app", f"{two.host}/app"], TAGS, ctx)
    error = push_error(done)
    assert error is not None and error.exit_status == status
    assert len(str(error).splitlines()) == 2 and all(errors(done))
    assert names(one, "app") == names(two, "app") == set()


@pytest.mark.parametrize(("tag", "expected"), [(0, "and not tagged"), (1, f"tagged {TAGS[0]}")])
def test_a_tag_that_may_not_move(tag: int, expected: str, one: FakeRegistry, ctx: Context) -> None:
    """As registries have it for those of releases: what is there is said."""
    one.fault("PUT", f"/manifests/{TAGS[tag]}", 403, times=99)
    (done,) = push_to_all(IMAGE, [f"{one.host}/app"], TAGS, ctx)
    assert done.error.endswith(f"as a user who may do this; the image is there, {expected}")
    assert names(one, "app") == set(TAGS[:tag])


@pytest.mark.parametrize(("status", "expected"), [(405, "it accepts no pushes"), (413, "limits the size of a request")])
def test_a_registry_that_takes_nothing(status: int, expected: str, one: FakeRegistry, ctx: Context) -> None:
    one.fault("POST|PUT", "/blobs/uploads/", status, times=99)
    (done,) = push_to_all(IMAGE, [f"{one.host}/app"], TAGS, ctx)
    assert expected in done.error and not done.transient


def test_a_push_that_was_cut_goes_on_where_it_was(one: FakeRegistry, ctx: Context) -> None:
    """A blob that arrived is not sent again."""
    small = min(IMAGE.layers, key=lambda layer: layer.descriptor.size).descriptor
    one.fault("PUT", f"digest={small.digest.replace(':', '%3A')}", 403, times=1)
    (cut,) = push_to_all(IMAGE, [f"{one.host}/app"], TAGS, ctx)
    assert "2 of 3 blobs are there; nothing is tagged" in cut.error
    one.requests.clear()
    (done,) = push_to_all(IMAGE, [f"{one.host}/app"], TAGS, ctx)
    assert (done.error, one.count("PUT", "/blobs/")) == ("", 1)


def test_tags_come_after_the_manifest_and_that_after_the_blobs(one: FakeRegistry, ctx: Context) -> None:
    index = small_index()
    push_to_all(index, [f"{one.host}/app"], TAGS, ctx)
    puts = [request.path.partition("?")[0].rpartition("/") for request in one.requests if request.method == "PUT"]
    kinds = ["blob" if head.endswith("uploads") else name for head, _, name in puts]
    first = kinds.index(index.images[0].digest)
    assert set(kinds[:first]) == {"blob"}
    assert kinds[first:] == [*(image.digest for image in index.images), index.digest, *TAGS]


@pytest.mark.parametrize("code", ["DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN"])
def test_a_registry_that_does_not_see_its_blobs_yet_is_asked_again(code: str, one: FakeRegistry, ctx: Context) -> None:
    """docker-registry, while another process pushes a blob that this image has as well."""
    one.fault("PUT", "/manifests/", lambda handler: handler.error(400, code, "not yet"), times=2)
    assert errors(push_to_all(IMAGE, [f"{one.host}/app"], TAGS, ctx)) == [""]
    one.fault("PUT", "/manifests/", lambda handler: handler.error(400, code, "never"), times=99)
    (done,) = push_to_all(IMAGE, [f"{one.host}/other"], TAGS, ctx)
    assert "never" in done.error
    assert not done.transient


def test_a_registry_that_refuses_is_a_mistake_of_the_user_s(one: FakeRegistry, lines: list[str], ctx: Context) -> None:
    one.fault("HEAD", "/manifests/", 403, times=9)
    (done,) = push_to_all(IMAGE, [f"{one.host}/app"], TAGS, ctx)
    error = push_error([done])
    assert type(error) is RegistryError and "log in" in str(error)
    assert lines[-1] == f"{one.host}/app: not pushed"


def test_each_repository_is_entered_with_a_token_for_it(ctx: Context, lines: list[str], tmp_path: Path) -> None:
    """A mount needs a token that also reads the other repository; the password appears in no output."""
    password = "pass-s3cret-word"
    with FakeRegistry(password=password) as registry:
        auth = base64.b64encode(f"user:{password}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        ctx = replace(ctx, environ={"DOCKER_CONFIG": str(tmp_path)})
        done = push_to_all(IMAGE, [f"{registry.host}/one", f"{registry.host}/two"], TAGS, ctx)
        assert errors(done) == ["", ""]
        assert done[1].mounted == 3
        scopes = [request.path for request in registry.requests if request.path.startswith("/token")]
        assert len(scopes) == 3  # one, two, and two that reads one
        assert password not in "\n".join([*lines, *(str(delivery) for delivery in done)])
    with FakeRegistry(password=password) as registry:
        (refused,) = push_to_all(IMAGE, [f"{registry.host}/one"], TAGS, ctx)
        assert f"log in with `docker login {registry.host}`" in refused.error
        assert not refused.transient


def test_what_cannot_be_pushed() -> None:
    """Files that no commit has, unless that is allowed, and an image without a registry."""
    with pytest.raises(ConfigError, match=r"a, b, c and 1 more; commit or ignore.*allow-dirty = true"):
        check_destinations(["registry.example/app"], "app", ["a", "b", "c", "d"], allow_dirty=False)
    check_destinations(["registry.example/app"], "app", ["a"], allow_dirty=True)
    with pytest.raises(ConfigError, match=r'image \'app\' names none; set registries = \["registry.example"\]'):
        check_destinations([], "app", [], allow_dirty=False)


def test_the_tags_come_last(one: FakeRegistry, ctx: Context) -> None:
    """If documents or signatures fail, the image is there without a tag; the next push continues from that."""
    found: list[set[str]] = []

    def fails(_target: Target) -> list[int]:
        found.append(names(one, "team/app"))
        raise ProgramError("cosign sign: no such key")

    failed = push_to_all(IMAGE, [f"{one.host}/team/app"], TAGS, ctx, on_pushed=fails)
    assert errors(failed) == ["cosign sign: no such key"]
    assert (found, names(one, "team/app")) == ([set()], set())
    assert IMAGE.digest in one.repository("team/app").manifests
    (done,) = push_to_all(IMAGE, [f"{one.host}/team/app"], TAGS, ctx, on_pushed=lambda _target: [100, 20])
    assert (done.error, done.attached, done.sent) == ("", 2, 120 + len(TAGS) * len(IMAGE.manifest))
    assert names(one, "team/app") == set(TAGS)
