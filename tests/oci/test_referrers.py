"""Referrers: artifacts are listed once, with and without the referrers API, with concurrent clients."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from hatch_docker.core.errors import ImageError, RegistryError
from hatch_docker.core.http.client import Client
from hatch_docker.core.http.retry import Policy
from hatch_docker.core.progress import Progress, silent
from hatch_docker.oci.media_types import OCI
from hatch_docker.oci.model import Descriptor, canonical_json, digest_of
from hatch_docker.oci.push import Target
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.referrers import MIN_WAIT, NEW_WAIT, Artifact, artifact_manifest, attach, fallback_tag, referrers
from hatch_docker.oci.registry import Remote
from tests.fakes.images import small_image
from tests.fakes.registry import FakeRegistry, Handler, push

pytestmark = pytest.mark.usefixtures("check_no_secret_leaks")

SBOM = "application/vnd.cyclonedx+json"
IMAGE = small_image()
SUBJECT = IMAGE.descriptor


class Clock:
    """A clock that advances only by `sleep`."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def fast_remote(clock: Clock | None = None) -> Remote:
    clock = clock or Clock()
    return Remote(Client({}, silent(), Policy(sleep=clock.sleep, clock=lambda: clock.now)), {})


def target(registry: FakeRegistry, remote: Remote | None = None) -> Target:
    name = parse_reference(f"{registry.host}/team/app")
    return Target(remote or fast_remote(), replace(name, tag=""), lambda _digest: "")


def sbom(text: str = "{}", **annotations: str) -> Artifact:
    return Artifact(SBOM, text.encode(), annotations)


def list_referrers(registry: FakeRegistry) -> list[str]:
    return list(referrers(target(registry), SUBJECT.digest))


def digest(artifact: Artifact) -> str:
    return digest_of(artifact_manifest(artifact, SUBJECT))


def test_artifact_manifest_follows_the_specification() -> None:
    """An empty configuration, one layer, and a subject without a platform."""
    value = json.loads(artifact_manifest(sbom("{1}", note="x"), SUBJECT))
    assert value == {
        "schemaVersion": 2,
        "mediaType": OCI.manifest,
        "artifactType": SBOM,
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "size": 2,
        },
        "layers": [{"mediaType": SBOM, "digest": digest_of(b"{1}"), "size": 3}],
        "subject": {"mediaType": OCI.manifest, "digest": SUBJECT.digest, "size": SUBJECT.size},
        "annotations": {"note": "x"},
    }


@pytest.mark.parametrize("api", [True, False], ids=["with the API", "without"])
def test_artifact_is_listed_once(registry: FakeRegistry, api: bool) -> None:
    """With type and annotations. Attaching it again makes one request, without the API two."""
    registry.referrers = api
    push(fast_remote(), IMAGE, [parse_reference(f"{registry.host}/team/app:1")])
    ours = [sbom("{1}", note="x"), sbom("{2}")]
    sent = attach(target(registry), SUBJECT, ours)
    assert sent == {digest(item): len(item.data) + len(artifact_manifest(item, SUBJECT)) for item in ours}
    found = referrers(target(registry), SUBJECT.digest)
    assert {name: item["artifactType"] for name, item in found.items()} == {digest(item): SBOM for item in ours}
    assert found[digest(ours[0])]["annotations"] == {"note": "x"}
    before = len(registry.requests)
    assert attach(target(registry), SUBJECT, [*ours, sbom("{1}", note="x")]) == {}
    again = registry.requests[before:]
    assert [request.method for request in again] == ["GET"] * (1 if api else 2)
    tags = [tag for tag in registry.repository("team/app").manifests if ":" not in tag]
    assert tags == (["1"] if api else ["1", fallback_tag(SUBJECT.digest)])


def test_artifact_can_be_attached_before_its_subject(registry: FakeRegistry) -> None:
    attach(target(registry), SUBJECT, [sbom()])
    assert list_referrers(registry) == [digest(sbom())]


def test_api_is_used_without_the_subject_header(registry: FakeRegistry) -> None:
    """Without OCI-Subject the API is checked before the fallback tag is written."""
    registry.referrers = True

    def keep(handler: Handler) -> None:
        value = registry.put_manifest("team/app", "", OCI.manifest, handler.body)
        handler.reply(201, b"", {"docker-content-digest": value})

    registry.fault("PUT", "/manifests/sha256:", keep)
    attach(target(registry), SUBJECT, [sbom()])
    assert list_referrers(registry) == [digest(sbom())]
    assert fallback_tag(SUBJECT.digest) not in registry.repository("team/app").manifests


def test_web_page_instead_of_a_list_is_ignored(registry: FakeRegistry) -> None:
    """GitLab and others respond with 200 to unknown requests."""
    registry.fault("GET", "/referrers/", lambda handler: handler.reply(200, b"<html>"), times=9)
    attach(target(registry), SUBJECT, [sbom()])
    assert list_referrers(registry) == [digest(sbom())]


def test_list_with_several_pages(registry: FakeRegistry) -> None:
    registry.referrers, registry.page = True, 2
    ours = [sbom(f"{{{number}}}") for number in range(5)]
    attach(target(registry), SUBJECT, ours)
    assert list_referrers(registry) == [digest(item) for item in ours]


def test_entries_of_other_clients_are_not_changed(registry: FakeRegistry) -> None:
    """Unknown fields and the order are kept."""
    other = canonical_json({"subject": {"digest": SUBJECT.digest}})
    theirs = {
        "mediaType": OCI.manifest, "digest": registry.put_manifest("team/app", "", OCI.manifest, other),
        "size": len(other), "artifactType": "application/other", "data": "e30=", "platform": None,
    }
    index = canonical_json({"schemaVersion": 2, "mediaType": OCI.index, "manifests": [theirs]})
    tag = fallback_tag(SUBJECT.digest)
    registry.put_manifest("team/app", tag, OCI.index, index)
    attach(target(registry), SUBJECT, [sbom()])
    value = json.loads(registry.repository("team/app").manifests[tag][1])
    assert value["manifests"][0] == theirs
    assert [item["digest"] for item in value["manifests"][1:]] == [digest(sbom())]


def test_image_under_the_fallback_tag_is_not_overwritten(registry: FakeRegistry) -> None:
    registry.put_manifest("team/app", fallback_tag(SUBJECT.digest), OCI.manifest, IMAGE.manifest)
    with pytest.raises(ImageError, match="is not an index, so nothing can be attached; delete that tag"):
        attach(target(registry), SUBJECT, [sbom()])


@pytest.mark.parametrize("wait", [True, False], ids=["at once", "later"])
def test_overwritten_entry_is_added_again(registry: FakeRegistry, *, wait: bool) -> None:
    """Another client overwrites the list before it is read again. At the end both entries are listed.

    The list is read once after the wait; with `later` a push does other work during the wait.
    """
    tag = fallback_tag(SUBJECT.digest)
    theirs = artifact_manifest(sbom("{theirs}"), SUBJECT)
    registry.put_manifest("team/app", "", OCI.manifest, theirs)
    item = Descriptor(OCI.manifest, digest_of(theirs), len(theirs)).to_json()
    index = canonical_json({"schemaVersion": 2, "mediaType": OCI.index, "manifests": [item]})
    looks: list[str] = []

    def overwritten(handler: Handler) -> None:
        if registry.count("PUT", tag) == 1:
            looks.append(handler.path)
            if len(looks) == 1:
                registry.put_manifest("team/app", tag, OCI.index, index)
        handler.route()

    registry.fault("GET", tag, overwritten, times=1000)
    later: list[Callable[[], object]] = []
    attach(replace(target(registry), later=None if wait else later), SUBJECT, [sbom()])
    assert registry.count("PUT", tag) == 1 + wait
    for function in later:
        function()
    assert registry.count("PUT", tag) == 2
    assert list_referrers(registry) == [digest_of(theirs), digest(sbom())]


@pytest.mark.parametrize(
    ("new", "theirs", "seconds"), [(True, False, NEW_WAIT), (True, True, MIN_WAIT), (False, False, MIN_WAIT)]
)  # fmt: skip
def test_wait_is_short_for_a_new_image(registry: FakeRegistry, new: bool, theirs: bool, seconds: float) -> None:
    """Only another push of the same image can attach to it. If the list has entries, the wait is not short."""
    if theirs:
        attach(target(registry), SUBJECT, [sbom("{theirs}")])
    clock = Clock()
    attach(replace(target(registry, fast_remote(clock)), is_new=new), SUBJECT, [sbom()])
    assert seconds <= clock.now < seconds + 0.1
    assert list_referrers(registry) == [digest(sbom("{theirs}"))] * theirs + [digest(sbom())]


def test_permanently_overwritten_list_is_an_error(registry: FakeRegistry) -> None:
    """The error says what to do."""
    tag = fallback_tag(SUBJECT.digest)
    index = canonical_json({"schemaVersion": 2, "mediaType": OCI.index, "manifests": []})

    def overwritten(handler: Handler) -> None:
        registry.put_manifest("team/app", tag, OCI.index, index)
        handler.route()

    registry.fault("GET", tag, overwritten, times=1000)
    with pytest.raises(RegistryError, match=r"other pushes keep overwriting the list .* push again when they are done"):
        attach(target(registry), SUBJECT, [sbom()])


@pytest.mark.parametrize("conditions", [False, True], ids=["ignoring If-Match", "heeding If-Match"])
def test_ten_concurrent_clients_are_all_listed(registry: FakeRegistry, conditions: bool) -> None:
    registry.conditions, registry.slowness = conditions, 0.01
    start = Barrier(10)

    def one(number: int) -> None:
        remote = Remote(Client({}, Progress(lambda _line: None)), {})
        start.wait()
        attach(target(registry, remote), SUBJECT, [sbom(f"{{{number}}}")])

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(one, range(10)))
    assert sorted(list_referrers(registry)) == sorted(digest(sbom(f"{{{number}}}")) for number in range(10))


def test_error_for_a_denied_request(registry: FakeRegistry) -> None:
    """It contains the registry's message."""
    registry.password = "other"
    with pytest.raises(RegistryError, match=r"team/app: list what is attached: .*log in"):
        attach(target(registry), SUBJECT, [sbom()])
    registry.password = ""
    registry.fault("PUT", "/manifests/sha256:", 400)
    with pytest.raises(RegistryError, match=r"put manifest .*400"):
        attach(target(registry), SUBJECT, [sbom()])
