"""Tests of hatch_docker.release.push: each blob is sent once to a registry, and each failure has its own error."""

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
def other() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        yield fake


@pytest.fixture
def ctx(tmp_path: Path, lines: list[str]) -> Context:
    return context(tmp_path / "cache", lines, verbosity=0)


def names(registry: FakeRegistry, repository: str) -> set[str]:
    return {name for name in registry.repository(repository).manifests if not name.startswith("sha256:")}


def errors(deliveries: tuple[PushResult, ...]) -> list[str]:
    return [delivery.error for delivery in deliveries]


@pytest.mark.parametrize("item", [IMAGE, small_index()], ids=["image", "index"])
def test_push_to_all_repositories(
    item: Image | Index, registry: FakeRegistry, other: FakeRegistry, ctx: Context
) -> None:
    """The results are in the order of the repositories. A registry receives a blob once, and mounts it elsewhere."""
    repositories = [f"{registry.host}/app", f"{other.host}/app", f"{registry.host}/team/app"]
    done = push_to_all(item, repositories, TAGS, ctx)
    assert [delivery.reference for delivery in done] == [f"{name}@{item.digest}" for name in repositories]
    assert names(registry, "app") == names(registry, "team/app") == names(other, "app") == set(TAGS)
    blobs = len(registry.repository("app").blobs)
    assert (registry.count("PUT", "/blobs/"), other.count("PUT", "/blobs/"), done[2].mounted) == (blobs, blobs, blobs)
    assert push_error(done) is None


def test_second_push_sends_only_head_requests(registry: FakeRegistry, lines: list[str], ctx: Context) -> None:
    push_to_all(IMAGE, [f"{registry.host}/app"], TAGS, ctx)
    registry.requests.clear()
    (done,) = push_to_all(IMAGE, [f"{registry.host}/app"], TAGS, ctx)
    assert {request.method for request in registry.requests} == {"HEAD"}
    assert (done.sent, done.error) == (0, "")
    assert "already there" in lines[-1]


def test_removed_image_of_an_index_is_pushed_again(registry: FakeRegistry, ctx: Context) -> None:
    """Clean-up jobs of registries remove untagged images. Only the missing image is sent."""
    index = small_index()
    push_to_all(index, [f"{registry.host}/app"], TAGS, ctx)
    removed = index.images[1]
    del registry.repository("app").manifests[removed.digest]
    registry.requests.clear()
    (done,) = push_to_all(index, [f"{registry.host}/app"], TAGS, ctx)
    assert (done.error, done.sent) == ("", len(removed.manifest))
    assert removed.digest in registry.repository("app").manifests
    assert registry.count("PUT", "") == 1


def test_blobs_of_an_earlier_push_are_not_checked(registry: FakeRegistry, ctx: Context) -> None:
    index = small_index()
    push_to_all(index.images[0], [f"{registry.host}/app"], ["amd64"], ctx)
    registry.requests.clear()
    (done,) = push_to_all(index, [f"{registry.host}/app"], TAGS, ctx)
    assert done.error == ""
    assert names(registry, "app") == {"amd64", *TAGS}
    config = json.loads(index.images[0].manifest)["config"]["digest"]
    assert registry.count("HEAD", f"/blobs/{config}") == 0


def test_blobs_of_an_earlier_build_are_mounted(registry: FakeRegistry, ctx: Context) -> None:
    """Services with the same dependencies share layers. A wrong fact about a repository does no harm."""
    push_to_all(IMAGE, [f"{registry.host}/first"], TAGS, ctx)
    own = small_layer("own", b"own")
    other = small_image(*IMAGE.layers, own)
    (done,) = push_to_all(other, [f"{registry.host}/second"], TAGS, ctx)
    assert done.mounted == 2
    assert done.sent == own.descriptor.size + len(other.config) + 3 * len(other.manifest)
    del registry.repositories["first"], registry.repositories["second"]  # the stored facts are wrong now
    (done,) = push_to_all(IMAGE, [f"{registry.host}/third"], TAGS, ctx)
    assert (done.error, done.mounted, names(registry, "third")) == ("", 0, set(TAGS))


def fail() -> io.BytesIO:
    raise AssertionError("a layer was opened that the registry has")


def test_layers_of_base_are_mounted_and_not_opened(registry: FakeRegistry, ctx: Context) -> None:
    base = IMAGE.layers[0]
    push_to_all(small_image(base), [f"{registry.host}/library/python"], ["3.13"], context(ctx.store.root / "other"))
    mount = {base.descriptor.digest: f"{registry.host}/library/python@{IMAGE.digest}"}
    image = small_image(replace(base, open=fail), IMAGE.layers[1])
    (done,) = push_to_all(image, [f"{registry.host}/app"], TAGS, ctx, mount=mount)
    assert (done.error, done.mounted) == ("", 1)


def test_error_names_failed_and_pushed_repositories(registry: FakeRegistry, other: FakeRegistry, ctx: Context) -> None:
    """A second push sends nothing to the registry that has the image."""
    registry.fault("PUT", "/manifests/", 500, times=99)
    repositories = [f"{registry.host}/app", f"{other.host}/app"]
    done = push_to_all(IMAGE, repositories, TAGS, ctx)
    error = push_error(done)
    assert type(error) is TransientError and error.exit_status == 75
    assert f"{registry.host}/app@{IMAGE.digest}: put manifest" in str(error)
    assert f"pushed to the other registries: {other.host}/app@{IMAGE.digest}" in str(error)
    assert names(registry, "app") == set() and names(other, "app") == set(TAGS)
    registry.faults.clear()
    for fake in (registry, other):
        fake.requests.clear()
    again = push_to_all(IMAGE, repositories, TAGS, ctx)
    assert push_error(again) is None
    assert registry.count("PUT", "/blobs/") == other.count("PUT", "") == 0


@pytest.mark.parametrize(("statuses", "status"), [((500, 403), 1), ((403, 500), 1), ((500, 503), 75), ((403, 403), 1)])
def test_exit_status_is_75_if_all_errors_are_transient(
    statuses: tuple[int, int], status: int, registry: FakeRegistry, other: FakeRegistry, ctx: Context
) -> None:
    for fake, answer in zip((registry, other), statuses, strict=True):
        fake.fault("POST", "/blobs/", answer, times=999)
    done = push_to_all(IMAGE, [f"{registry.host}/app", f"{other.host}/app"], TAGS, ctx)
    error = push_error(done)
    assert error is not None and error.exit_status == status
    assert len(str(error).splitlines()) == 2 and all(errors(done))
    assert names(registry, "app") == names(other, "app") == set()


@pytest.mark.parametrize(("tag", "expected"), [(0, "and not tagged"), (1, f"tagged {TAGS[0]}")])
def test_immutable_tag_error_lists_existing_tags(tag: int, expected: str, registry: FakeRegistry, ctx: Context) -> None:
    """Some registries do not allow to move tags of releases."""
    registry.fault("PUT", f"/manifests/{TAGS[tag]}", 403, times=99)
    (done,) = push_to_all(IMAGE, [f"{registry.host}/app"], TAGS, ctx)
    assert done.error.endswith(f"as a user who may do this; the image is there, {expected}")
    assert names(registry, "app") == set(TAGS[:tag])


@pytest.mark.parametrize(("status", "expected"), [(405, "it accepts no pushes"), (413, "limits the size of a request")])
def test_rejected_uploads_are_explained(status: int, expected: str, registry: FakeRegistry, ctx: Context) -> None:
    registry.fault("POST|PUT", "/blobs/uploads/", status, times=99)
    (done,) = push_to_all(IMAGE, [f"{registry.host}/app"], TAGS, ctx)
    assert expected in done.error and not done.transient


def test_interrupted_push_continues(registry: FakeRegistry, ctx: Context) -> None:
    """A blob that has arrived is not sent again."""
    small = min(IMAGE.layers, key=lambda layer: layer.descriptor.size).descriptor
    registry.fault("PUT", f"digest={small.digest.replace(':', '%3A')}", 403, times=1)
    (cut,) = push_to_all(IMAGE, [f"{registry.host}/app"], TAGS, ctx)
    assert "2 of 3 blobs are there; nothing is tagged" in cut.error
    registry.requests.clear()
    (done,) = push_to_all(IMAGE, [f"{registry.host}/app"], TAGS, ctx)
    assert (done.error, registry.count("PUT", "/blobs/")) == ("", 1)


def test_push_order_is_blobs_manifests_tags(registry: FakeRegistry, ctx: Context) -> None:
    index = small_index()
    push_to_all(index, [f"{registry.host}/app"], TAGS, ctx)
    puts = [request.path.partition("?")[0].rpartition("/") for request in registry.requests if request.method == "PUT"]
    kinds = ["blob" if head.endswith("uploads") else name for head, _, name in puts]
    first = kinds.index(index.images[0].digest)
    assert set(kinds[:first]) == {"blob"}
    assert kinds[first:] == [*(image.digest for image in index.images), index.digest, *TAGS]


@pytest.mark.parametrize("code", ["DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN"])
def test_manifest_is_sent_again_for_unknown_blobs(code: str, registry: FakeRegistry, ctx: Context) -> None:
    """docker-registry fails like this while another client pushes the same blob."""
    registry.fault("PUT", "/manifests/", lambda handler: handler.error(400, code, "not yet"), times=2)
    assert errors(push_to_all(IMAGE, [f"{registry.host}/app"], TAGS, ctx)) == [""]
    registry.fault("PUT", "/manifests/", lambda handler: handler.error(400, code, "never"), times=99)
    (done,) = push_to_all(IMAGE, [f"{registry.host}/other"], TAGS, ctx)
    assert "never" in done.error
    assert not done.transient


def test_forbidden_push_is_not_transient(registry: FakeRegistry, lines: list[str], ctx: Context) -> None:
    registry.fault("HEAD", "/manifests/", 403, times=9)
    (done,) = push_to_all(IMAGE, [f"{registry.host}/app"], TAGS, ctx)
    error = push_error([done])
    assert type(error) is RegistryError and "log in" in str(error)
    assert lines[-1] == f"{registry.host}/app: not pushed"


def test_each_repository_gets_its_own_token(ctx: Context, lines: list[str], tmp_path: Path) -> None:
    """A mount needs a token that can also read the other repository. The password is in no output."""
    password = "pass-s3cret-word"
    with FakeRegistry(password=password) as registry:
        auth = base64.b64encode(f"user:{password}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        ctx = replace(ctx, environ={"DOCKER_CONFIG": str(tmp_path)})
        done = push_to_all(IMAGE, [f"{registry.host}/one", f"{registry.host}/two"], TAGS, ctx)
        assert errors(done) == ["", ""]
        assert done[1].mounted == 3
        scopes = [request.path for request in registry.requests if request.path.startswith("/token")]
        assert len(scopes) == 3  # for `one`, for `two`, and for `two` with the right to read `one`
        assert password not in "\n".join([*lines, *(str(delivery) for delivery in done)])
    with FakeRegistry(password=password) as registry:
        (refused,) = push_to_all(IMAGE, [f"{registry.host}/one"], TAGS, ctx)
        assert f"log in with `docker login {registry.host}`" in refused.error
        assert not refused.transient


def test_uncommitted_changes_and_missing_registry_are_rejected() -> None:
    with pytest.raises(ConfigError, match=r"a, b, c and 1 more; commit or ignore.*allow-dirty = true"):
        check_destinations(["registry.example/app"], "app", ["a", "b", "c", "d"], allow_dirty=False)
    check_destinations(["registry.example/app"], "app", ["a"], allow_dirty=True)
    with pytest.raises(ConfigError, match=r'image \'app\' has none; set registries = \["registry.example"\]'):
        check_destinations([], "app", [], allow_dirty=False)


def test_failed_documents_leave_no_tag(registry: FakeRegistry, ctx: Context) -> None:
    """The next push continues with the image that is already in the registry."""
    found: list[set[str]] = []

    def fails(_target: Target) -> list[int]:
        found.append(names(registry, "team/app"))
        raise ProgramError("cosign sign: no such key")

    failed = push_to_all(IMAGE, [f"{registry.host}/team/app"], TAGS, ctx, on_pushed=fails)
    assert errors(failed) == ["cosign sign: no such key"]
    assert (found, names(registry, "team/app")) == ([set()], set())
    assert IMAGE.digest in registry.repository("team/app").manifests
    (done,) = push_to_all(IMAGE, [f"{registry.host}/team/app"], TAGS, ctx, on_pushed=lambda _target: [100, 20])
    assert (done.error, done.attached, done.sent) == ("", 2, 120 + len(TAGS) * len(IMAGE.manifest))
    assert names(registry, "team/app") == set(TAGS)
