"""Untrusted manifests, indexes and configurations: errors name the field that does not follow the image-spec.

Random damage is tested in test_fuzz, large inputs in test_bounds, layers in test_layer and test_filesystem.
"""

from pathlib import Path
from typing import Any

import pytest

from hatch_docker.bases.inspection import read_facts
from hatch_docker.core.cache.store import Store, open_store
from hatch_docker.core.errors import BaseImageError, HatchDockerError, ImageError, RegistryError
from hatch_docker.core.progress import silent
from hatch_docker.oci.media_types import DOCKER, OCI
from hatch_docker.oci.model import Descriptor, Image, Platform, canonical_json, digest_of
from hatch_docker.oci.pull import pull, pull_index, resolve
from hatch_docker.oci.reference import parse_reference
from tests.fakes.context import context
from tests.fakes.images import AMD64, ARM64, small_image, small_index, small_layer
from tests.fakes.network import Recording, name
from tests.fakes.registry import FakeRegistry, Handler, push
from tests.fakes.resource_use import measure


def test_manifest_with_wrong_digest_is_rejected(registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    """Wrong by the requested digest, or by the header Docker-Content-Digest."""
    image, other = small_image(), small_image(small_layer("x", b"x"))
    push(recorded.remote, image, [name(registry)])
    kind = {"content-type": OCI.manifest}
    registry.fault("GET", "/manifests/", lambda h: h.reply(200, other.manifest, kind), times=2)
    with pytest.raises(RegistryError, match=r"digest is sha256:\w+ instead of sha256:\w+; gave up after 2 tries"):
        resolve(recorded.remote, name(registry).pinned(image.digest), store)
    lie = {"content-type": OCI.manifest, "docker-content-digest": "sha256:" + "0" * 64}
    registry.fault("GET", "/manifests/", lambda h: h.reply(200, image.manifest, lie), times=2)
    with pytest.raises(RegistryError, match="instead of sha256:0000"):
        resolve(recorded.remote, name(registry), store)


def test_tag_that_moves_during_a_pull(registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    """The image of the first index is pulled."""
    index, other = small_index(), small_index(small_image(small_layer("other", b"other")))
    push(recorded.remote, other, [name(registry, "team/app:other")])
    push(recorded.remote, index, [name(registry)])

    def move(handler: Handler) -> None:
        handler.route()
        registry.put_manifest("team/app", "1", OCI.index, other.index)

    registry.fault("GET", f"/manifests/{index.digest}", move)
    registry.fault("GET", "/manifests/1", move)
    found = pull(recorded.remote, name(registry), AMD64, store)
    assert found.digest == index.images[0].digest
    assert pull(recorded.remote, name(registry), AMD64, store).digest == other.images[0].digest


def manifest_with(**changes: object) -> bytes:
    return canonical_json({**small_image().manifest_json, **changes})


LAYER = small_image().manifest_json["layers"][0]
CONFIG = small_image().manifest_json["config"]
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


@pytest.mark.parametrize(("data", "media_type", "reason"), [
    (b"[" * 100_000, OCI.manifest, "not readable as JSON"),
    (b"\xff", OCI.manifest, "not readable as JSON"),
    (b"[]", OCI.manifest, "not a JSON object"),
    (b'{"schemaVersion": NaN}', OCI.manifest, "NaN is not JSON"),
    (b'{"layers": [], "layers": []}', OCI.manifest, "a key appears twice"),
    (b'{"schemaVersion": 1, "fsLayers": []}', OCI.manifest, "schema 1"),
    (manifest_with(manifests=[]), OCI.manifest, "CVE-2021-41190"),
    (small_index().index, OCI.manifest, "mediaType"),
    (small_index().index, DOCKER.manifest, "mediaType"),
    (manifest_with(mediaType=OCI.index), OCI.index, "mediaType"),
    (manifest_with(mediaType=7), "text/html", "mediaType"),
    (small_image().manifest, OCI.index, "mediaType"),
    (manifest_with(layers=None), OCI.manifest, "layers is not a list"),
    (manifest_with(layers=[1]), OCI.manifest, r"layers\[0\] is not a descriptor"),
    (manifest_with(layers=[{**LAYER, "size": -1}]), OCI.manifest, r"layers\[0\].size"),
    (manifest_with(layers=[{**LAYER, "digest": "md5:1"}]), OCI.manifest, r"layers\[0\].digest"),
    (manifest_with(layers=[{**LAYER, "mediaType": "text/x"}]), OCI.manifest, "unknown media type 'text/x'"),
    (manifest_with(layers=[{**LAYER, "mediaType": FOREIGN}]), OCI.manifest, "unknown media type .*foreign"),
    (manifest_with(layers=[{**LAYER, "size": 1 << 60}]), OCI.manifest, r"layers\[0\].size"),
    (manifest_with(layers=[{**LAYER, "size": 1 << 40}]), OCI.manifest, "its layer .* has 1099511627776 bytes"),
    (manifest_with(layers=[{**LAYER, "size": 1.5}]), OCI.manifest, r"layers\[0\].size"),
    (manifest_with(layers=[{**LAYER, "size": True}]), OCI.manifest, r"layers\[0\].size"),
    (manifest_with(config=None), OCI.manifest, "config is not a descriptor"),
    (manifest_with(config={**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}), OCI.manifest,
     "not a container image, its config is 'application/vnd.cncf.helm"),
    (manifest_with(config={**CONFIG, "size": 9 << 20}), OCI.manifest, "its config has 9437184 bytes"),
    (manifest_with(layers=[LAYER, LAYER]), OCI.manifest, "2 layers but 1 diff_ids"),
    (manifest_with(layers=[]), OCI.manifest, "0 layers but 1 diff_ids"),
    (canonical_json({"manifests": [{**LAYER, "platform": "linux"}]}), OCI.index, r"manifests\[0\].platform"),
    (canonical_json({"manifests": {}}), OCI.index, "manifests is not a list"),
    (b" " * (5 << 20), OCI.manifest, "larger than 4194304 bytes"),
])  # fmt: skip
def test_invalid_manifest(
    data: bytes, media_type: str, reason: str, registry: FakeRegistry, recorded: Recording, store: Store
) -> None:
    """The error is one short line that names the field."""
    registry.put_manifest("team/app", "1", media_type, data)
    registry.put_blob("team/app", small_image().config)
    with pytest.raises(HatchDockerError, match=reason) as caught:
        pull(recorded.remote, name(registry), AMD64, store)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert recorded.sleeps == []


def test_image_for_another_platform_is_rejected(registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    """The error names both platforms."""
    push(recorded.remote, small_image(platform=ARM64), [name(registry)])
    with pytest.raises(ImageError, match="is for linux/arm64/v8, not for linux/amd64"):
        pull(recorded.remote, name(registry), AMD64, store)


def test_urls_of_a_layer_are_ignored(registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    """A layer is downloaded from its registry only."""
    image = small_image()
    with FakeRegistry(address="127.0.0.2") as elsewhere:
        elsewhere.put_blob("x", b"x")
        document = manifest_with(layers=[{**LAYER, "urls": [f"{elsewhere.origin}/v2/x/blobs/{LAYER['digest']}"]}])
        registry.put_manifest("team/app", "1", OCI.manifest, document)
        registry.put_blob("team/app", image.config)
        layer = pull(recorded.remote, name(registry), AMD64, store).layers[0]
        with pytest.raises(RegistryError, match="404 Not Found"):
            layer.open()
        with image.layers[0].open() as stream:
            registry.put_blob("team/app", stream.read())
        layer.open().close()
        assert elsewhere.requests == []


def serve_config(registry: FakeRegistry, config: bytes, **fields: Any) -> None:
    """Put an image with this configuration, with correct digests."""
    registry.put_blob("team/app", config)
    descriptor = {**CONFIG, "digest": digest_of(config), "size": len(config)}
    registry.put_manifest("team/app", "1", OCI.manifest, manifest_with(config=descriptor, **fields))


def config_with(**changes: object) -> bytes:
    return canonical_json({**small_image().config_json, **changes})


@pytest.mark.parametrize(("config", "reason"), [
    (b"", "config: not readable as JSON"),
    (b"[]", "config: not a JSON object"),
    (b'{"os": "linux", "os": "linux"}', "config: a key appears twice"),
    (config_with(os=""), "config.os is missing"),
    (config_with(architecture=None), "config.architecture is missing"),
    (config_with(rootfs=None), "config.rootfs.diff_ids is not a list of digests"),
    (config_with(rootfs={"type": "layers", "diff_ids": ["x"]}), "config.rootfs.diff_ids is not a list of digests"),
    (config_with(rootfs={"type": "layers", "diff_ids": []}), "1 layers but 0 diff_ids"),
    (config_with(config={"Env": ["PATH"]}), "config.config.Env has an item that is not NAME=VALUE"),
    (config_with(config=[1]), "config.config is not an object"),
    (config_with(history=[1]), "config.history is not a list of objects"),
    (config_with(history=[{"created_by": 1}]), "config.history has a line that is not a text"),
    (config_with(config={"Labels": {"a": 1}}), "config.Labels is not a map of texts"),
    (config_with(architecture="arm64"), "is for linux/arm64, not for linux/amd64"),
])  # fmt: skip
def test_invalid_config(config: bytes, reason: str, registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    """Invalid by config.md, or for another image. The error is one line that names the field."""
    serve_config(registry, config)
    with pytest.raises(ImageError, match=reason) as caught:
        pull(recorded.remote, name(registry), AMD64, store)
    assert "\n" not in str(caught.value)
    assert recorded.sleeps == []


def test_image_without_layers(registry: FakeRegistry, recorded: Recording, store: Store, tmp_path: Path) -> None:
    """It is valid by config.md, but cannot be a base."""
    serve_config(registry, config_with(rootfs={"type": "layers", "diff_ids": []}), layers=[])
    empty = pull(recorded.remote, name(registry), AMD64, store)
    assert empty.layers == ()
    with pytest.raises(BaseImageError, match="team/app has no Python") as caught:
        read_facts(empty, "team/app", context(tmp_path))
    assert "\n" not in str(caught.value)


def read_large(host: str, directory: str) -> None:
    """Pull an image; called in another process."""
    from hatch_docker.core.http.client import Client
    from hatch_docker.oci.registry import Remote

    remote = Remote(Client({}, silent()), {})
    pull(remote, parse_reference(f"{host}/team/app:1"), AMD64, open_store(Path(directory)))


def pairs(text: bytes) -> bytes:
    """Return a manifest with as many small values as DOCUMENT_LIMIT allows."""
    return b'{"schemaVersion": 2, "layers": [' + text * ((4 << 20) // len(text) - 30) + b"1]}"


LARGE = {
    "100 MB": (None, "larger than 4194304 bytes"),
    "nested": (b'{"layers":' * 400_000, "not readable as JSON"),
    "small objects": (pairs(b"{},"), "config is not a descriptor"),
    "small keys": (pairs(b'{"a":0},'), "config is not a descriptor"),
    "digits": (b'{"layers": ' + b"9" * (3 << 20) + b"}", "not readable as JSON"),
}  # fmt: skip


@pytest.mark.parametrize("what", LARGE)
def test_large_manifest_is_rejected_with_little_memory(what: str, registry: FakeRegistry, tmp_path: Path) -> None:
    """With less than 200 MB of memory, and about half a second of CPU time. Only DOCUMENT_LIMIT bytes are read."""
    data, message = LARGE[what]
    sent: list[int] = []

    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", OCI.manifest)
        handler.send_header("content-length", str(100_000_000))
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" " * 1_000_000)
            sent.append(1_000_000)

    if data is None:
        registry.fault("GET", "/manifests/", endless, times=9)
    else:
        registry.put_manifest("team/app", "1", OCI.manifest, data)
    found = measure(read_large, registry.host, str(tmp_path / "cache"))
    assert message in found.error
    assert found.peak < 200 << 20, found
    assert found.seconds < 4, found
    assert sum(sent) < 20_000_000


ARM6, ARM7, ARM5 = (Platform("linux", "arm", f"v{number}") for number in (6, 7, 5))
UNKNOWN = Platform("unknown", "unknown")


def index_for(*platforms: Platform | None) -> tuple[bytes, dict[Platform | None, Image]]:
    """Return an index with an image for each platform; None is an image without a platform in the index."""
    images = {item: small_image(small_layer("f", str(item).encode()), platform=item or AMD64) for item in platforms}
    items = []
    for platform, image in images.items():
        item = image.descriptor.to_json()
        if platform is None:
            del item["platform"]
        items.append(item)
    return canonical_json({"schemaVersion": 2, "mediaType": OCI.index, "manifests": items}), images


@pytest.mark.parametrize(("there", "wanted", "found"), [
    ([ARM6, ARM7], ARM7, ARM7),
    ([ARM7, ARM6], ARM6, ARM6),
    ([ARM5, ARM6], ARM7, ARM6),
    ([ARM5, Platform("linux", "arm")], ARM7, ARM5),
    ([ARM7], ARM6, "it has: linux/arm/v7"),
    ([ARM7, ARM6], Platform("linux", "arm"), ARM7),
    ([AMD64, ARM64], Platform("linux", "arm64"), ARM64),
    ([AMD64, Platform("linux", "arm64")], ARM64, Platform("linux", "arm64")),
    ([Platform("linux", "amd64", "v3"), AMD64], AMD64, AMD64),
    ([Platform("linux", "amd64", "v3")], AMD64, "it has: linux/amd64/v3"),
    ([UNKNOWN, AMD64, UNKNOWN], AMD64, AMD64),
    ([UNKNOWN, AMD64], ARM64, "it has: linux/amd64"),
    ([UNKNOWN], AMD64, "it has: none"),
    ([Platform("windows", "amd64")], AMD64, "it has: windows/amd64"),
    ([None], AMD64, None),
    ([None], ARM64, "is for linux/amd64, not for linux/arm64"),
])  # fmt: skip
def test_image_of_an_index_is_chosen_by_platform(
    there: list[Platform | None], wanted: Platform, found: Platform | str | None, registry: FakeRegistry,
    recorded: Recording, store: Store,
) -> None:
    """The newest variant that can run, never an attestation. Otherwise the error lists the platforms."""
    index, images = index_for(*there)
    for image in images.values():
        push(recorded.remote, image, [name(registry, "team/app:child")])
    registry.put_manifest("team/app", "1", OCI.index, index)
    if isinstance(found, str):
        with pytest.raises(ImageError, match=found + "(/v8)?$"):
            pull(recorded.remote, name(registry), wanted, store)
    else:
        assert pull(recorded.remote, name(registry), wanted, store).digest == images[found].digest


def test_index_with_too_many_images_is_rejected(registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    """Each image needs requests."""
    one = Descriptor(OCI.manifest, f"sha256:{'0' * 64}", 1, AMD64).to_json()
    document = canonical_json({"schemaVersion": 2, "mediaType": OCI.index, "manifests": [one] * 101})
    registry.put_manifest("team/app", "1", OCI.index, document)
    with pytest.raises(RegistryError, match="has 101 images, more than 100: name one by its digest"):
        pull_index(recorded.remote, name(registry), store)
    assert registry.count("GET", "0" * 64) == 0


def test_attestations_are_ignored(registry: FakeRegistry, recorded: Recording, store: Store) -> None:
    """The attestations of BuildKit's index are not requested."""
    index, images = index_for(AMD64, UNKNOWN, ARM64)
    for platform, image in images.items():
        if platform != UNKNOWN:
            push(recorded.remote, image, [name(registry, "team/app:child")])
    registry.put_manifest("team/app", "1", OCI.index, index)
    found = pull_index(recorded.remote, name(registry), store)
    assert [image.platform for image in found.images] == [AMD64, ARM64]
    assert registry.count("GET", images[UNKNOWN].digest) == 0
