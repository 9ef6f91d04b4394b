"""Push to and pull from a real registry: Debian's docker-registry on a free port; skopeo reads and writes it too."""

import io
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.core.cache.store import open_store
from hatch_docker.core.errors import RegistryError
from hatch_docker.oci.pull import pull, pull_index
from hatch_docker.oci.registry import Remote
from tests.conftest import need, run
from tests.fakes.images import AMD64, ARM64, small_image, small_index, small_layer
from tests.fakes.registry import push
from tests.integration.docker_registry import Server

pytestmark = pytest.mark.engine


def test_pulled_image_equals_the_pushed_one(server: Server, remote: Remote, tmp_path: Path) -> None:
    """Digest and bytes are the same; pushing again sends nothing."""
    image = small_image(small_layer("a", bytes(300_000)), small_layer("b", b"b"))
    names = [server.name("team/app:1"), server.name("team/app:latest")]
    assert push(remote, image, names).sent == image.size + len(image.config) + 3 * len(image.manifest)
    assert push(remote, image, names).sent == 0
    back = pull(remote, names[1], AMD64, open_store(tmp_path))
    assert (back.digest, back.manifest, back.config) == (image.digest, image.manifest, image.config)
    for ours, theirs in zip(image.layers, back.layers, strict=True):
        with ours.open() as one, theirs.open() as two:
            assert one.read() == two.read()


def test_pulled_index_equals_the_pushed_one(server: Server, remote: Remote, tmp_path: Path) -> None:
    """The index and its images keep their digests."""
    index = small_index()
    push(remote, index, [server.name("team/both:1")])
    back = pull_index(remote, server.name("team/both:1"), open_store(tmp_path))
    assert (back.digest, [image.digest for image in back.images]) == (
        index.digest, [image.digest for image in index.images],
    )
    assert pull(remote, server.name("team/both:1"), ARM64, open_store(tmp_path)).platform == ARM64


def test_layer_of_the_base_is_mounted(server: Server, remote: Remote) -> None:
    """A layer that the base's repository has is mounted and its file is not opened."""
    base = small_layer("base", b"base" * 5000)
    push(remote, small_image(base), [server.name("base:1")])

    def never() -> Any:
        raise AssertionError("the base's layer was opened")

    ours = small_layer("mounted", b"ours")
    image = small_image(replace(base, open=never), ours)
    pushed = push(remote, image, [server.name("team/mounted:1")], find=lambda _digest: "base")
    assert pushed.sent == ours.descriptor.size + len(image.config) + 2 * len(image.manifest)


def test_skopeo_pulls_pushed_and_pushes_pulled_images(server: Server, remote: Remote, tmp_path: Path) -> None:
    """skopeo reads a pushed image, and `pull` reads an image that skopeo copied."""
    skopeo = need("skopeo")
    image = small_image(small_layer("s", b"skopeo"))
    push(remote, image, [server.name("team/ours:1")])
    (tmp_path / "auth.json").write_text("{}")  # the user's own file of logins may be unreadable
    environ = {**os.environ, "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    command = [skopeo, "inspect", "--raw", "--tls-verify=false", f"docker://{server.host}/team/ours:1"]
    assert subprocess.run(command, check=True, capture_output=True, env=environ).stdout == image.manifest
    run(skopeo, "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", "--format=v2s2",
        f"docker://{server.host}/team/ours:1", f"docker://{server.host}/team/theirs:1", variables=environ)
    back = pull(remote, server.name("team/theirs:1"), AMD64, open_store(tmp_path))
    assert back.descriptor.media_type == "application/vnd.docker.distribution.manifest.v2+json"
    with back.layers[0].open() as stream, image.layers[0].open() as ours:
        assert stream.read() == ours.read()


def test_error_contains_the_registrys_message(server: Server, remote: Remote, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"team/none:1: get manifest: 404 Not Found \(MANIFEST_UNKNOWN"):
        pull(remote, server.name("team/none:1"), AMD64, open_store(tmp_path))


def test_blob_with_a_wrong_digest_is_rejected(server: Server, remote: Remote, tmp_path: Path) -> None:
    """The registry rejects the blob, also at the second attempt, and no tag is written."""
    layer = small_layer("lie", b"truth")
    image = small_image(replace(layer, open=lambda: io.BytesIO(bytes(layer.descriptor.size))))
    with pytest.raises(RegistryError, match=r"DIGEST_INVALID.*nothing is tagged"):
        push(remote, image, [server.name("team/lie:1")])
    with pytest.raises(RegistryError, match="404"):
        pull(remote, server.name("team/lie:1"), AMD64, open_store(tmp_path))
