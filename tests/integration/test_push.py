"""Build and push as a pipeline does: two real registries, pull by digest, number of bytes and requests."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.filesystem import extract
from hatch_docker.oci.model import Image, Index, Platform
from tests.conftest import need, need_docker, run
from tests.fakes.github_outputs import read_outputs
from tests.fakes.registry import FakeRegistry
from tests.integration.builds import Outcome, build, check_failed, require, run_build, start
from tests.integration.docker_registry import Server, docker_registry
from tests.projects import write_project

pytestmark = [pytest.mark.engine, pytest.mark.network]

BOTH = '["linux/amd64", "linux/arm64"]'


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Start two registries."""
    directory = tmp_path_factory.mktemp("registries")
    with docker_registry(directory / "one") as one, docker_registry(directory / "two") as two:
        yield one, two


def new_project(directory: Path, *registries: str, options: str = "", kind: str = "hello") -> Path:
    return write_project(kind, directory, options=f"registries = {json.dumps(registries)}\n{options}")


def deliveries(outcome: Outcome) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = outcome.receipt["deliveries"]
    return found


def bytes_sent(outcome: Outcome) -> int:
    return sum(delivery["sent"] for delivery in deliveries(outcome))


@pytest.fixture
def docker() -> list[str]:
    return [need_docker()]


def test_image_is_pushed_to_two_registries_and_runs(
    servers: tuple[Server, Server], docker: list[str], skopeo: list[str], tmp_path: Path, cache: Path
) -> None:
    """Both have all tags; standard output has the references with digests, which Docker can pull."""
    project = new_project(tmp_path / "p", servers[0].host, f"{servers[1].host}/team/hi")
    outcome = build(project, cache, verb="docker:push", variables={"HATCH_QUIET": "1"})
    names = [f"{servers[0].host}/hello@{outcome.digest}", f"{servers[1].host}/team/hi@{outcome.digest}"]
    assert outcome.output.splitlines() == names
    assert outcome.receipt["references"] == names
    assert {path.suffixes[-2] for path in outcome.directory.iterdir()} == {".image", ".cdx", ".provenance"}
    for name in names:
        repository = name.partition("@")[0]
        for tag in ("1.0.0", "latest"):
            found = json.loads(run(*skopeo, "inspect", "--tls-verify=false", f"docker://{repository}:{tag}"))
            assert found["Digest"] == outcome.digest
        run(*docker, "pull", "--quiet", name)
        assert run(*docker, "run", "--rm", "--network", "none", name) == "hello, world\n"
        run(*docker, "rmi", "--force", name)


def test_push_sends_only_changes(servers: tuple[Server, Server], tmp_path: Path, cache: Path) -> None:
    """An unchanged image sends no byte; after an edit less than 1 % of the image is sent."""
    project = new_project(tmp_path / "p", f"{servers[0].host}/costs", f"{servers[1].host}/costs")
    build(project, cache, verb="docker:push")
    assert bytes_sent(build(project, cache, verb="docker:push")) == 0
    source = project / "hello.py"
    source.write_text(source.read_text().replace("hello, world", f"hello, {tmp_path.name}"))
    edited = build(project, cache, verb="docker:push")
    (own,) = [layer["size"] for layer in edited.layers if layer["kind"] == "project"]
    for delivery in deliveries(edited):
        assert own < delivery["sent"] < 0.01 * edited.receipt["platforms"][0]["size"]


def test_index_of_two_platforms_in_all_destinations(
    servers: tuple[Server, Server], docker: list[str], skopeo: list[str], tmp_path: Path, cache: Path
) -> None:
    """Archive, registry, daemon. skopeo reads the same bytes; `docker load` loads the image of this platform."""
    project = new_project(tmp_path / "p", f"{servers[0].host}/both", options=f"platforms = {BOTH}\npush = true")
    outcome = build(project, cache)
    index = outcome.item()
    assert isinstance(index, Index)
    assert [str(image.platform) for image in index.images] == ["linux/amd64", "linux/arm64"]
    name = f"docker://{servers[0].host}/both@{outcome.digest}"
    assert run(*skopeo, "inspect", "--raw", "--tls-verify=false", name).encode() == index.index
    for image in index.images:
        described = run(*skopeo, "inspect", "--override-arch", image.platform.architecture, "--tls-verify=false", name)
        assert json.loads(described)["Architecture"] == image.platform.architecture
    run(*docker, "load", "--quiet", "-i", outcome.archive)
    assert run(*docker, "run", "--rm", "--network", "none", "hello:1.0.0") == "hello, world\n"
    run(*docker, "rmi", "--force", "hello:1.0.0", "hello:latest")


def test_arm64_image_runs_under_qemu(tmp_path: Path, cache: Path) -> None:
    """With the compiled code of a wheel; the build itself uses no emulation."""
    emulator = need("qemu-aarch64")
    if os.uname().machine != "x86_64":
        pytest.skip("arm64 is this machine's own")
    project = write_project("hello", tmp_path / "p", options=f"platforms = {BOTH}")
    require(project, "markupsafe>=3")
    (project / "hello.py").write_text(
        "import os\nfrom markupsafe import _speedups as it\n\n\ndef main():\n    print(os.uname()[4], it.__file__)\n"
    )
    archive = build(project, cache).archive
    image = read_archive(archive, Platform("linux", "arm64"))
    assert isinstance(image, Image)
    root = tmp_path / "root"
    root.mkdir()
    extract(image.layers, root)
    shutil.copy(emulator, root / "qemu")
    (entrypoint,) = image.config_json["config"]["Entrypoint"]
    python = ["/qemu", "-0", "/opt/venv/bin/python", "/opt/venv/bin/python"]
    command = ["unshare", "--map-root-user", "chroot", root, *python, f"/opt/venv/bin/{entrypoint}"]
    output = run("env", "-i", f"PATH={os.environ['PATH']}", *command)
    assert re.fullmatch(r"aarch64 /opt/venv/\S+/_speedups\.\S+aarch64\S+\.so\n", output), output


def test_base_layers_in_the_registry_are_not_transferred(tmp_path: Path, cache: Path) -> None:
    """The cache has the facts about the base but no layers; a build after an edit neither downloads nor sends them."""
    with FakeRegistry() as registry:
        seed = build(write_project("hello", tmp_path / "seed"), cache, variables={"HATCH_DOCKER_PUSH": "1"} | {
            "HATCH_DOCKER_REGISTRIES": f"{registry.host}/library/python", "HATCH_DOCKER_TAGS": "3.13",
        })  # fmt: skip
        own = tmp_path / "cache"
        project = write_project("hello", tmp_path / "p", base=f"{registry.host}/library/python:3.13")
        variables = {"HATCH_DOCKER_REGISTRIES": f"{registry.host}/app"}
        first = build(project, own, verb="docker:push", variables=variables)
        digest = first.digest
        assert deliveries(first)[0]["mounted"] == len(seed.image().layers)
        for layer in seed.image().layers:
            (own / "v1/blobs" / layer.descriptor.digest.removeprefix("sha256:")).unlink()
        (project / "hello.py").write_text((project / "hello.py").read_text().replace("world", "you"))
        registry.requests.clear()
        edited = build(project, own, verb="docker:push", variables=variables)
        assert edited.digest != digest
        assert registry.count("GET", "/blobs/") == 0
        assert 0 < bytes_sent(edited) < 0.01 * edited.receipt["platforms"][0]["size"]


def test_layer_in_the_registry_is_not_made_again(tmp_path: Path, cache: Path) -> None:
    """The cache has the layer's key and digest but not its file: it is made only for a registry without the layer."""
    with FakeRegistry() as one, FakeRegistry() as two:
        project = new_project(tmp_path / "p", f"{one.host}/app")
        (project / "hello.py").write_text(f"def main(): print({str(tmp_path)!r})\n")  # a unique layer
        first = build(project, cache, verb="docker:push")
        digest = first.digest
        (layer,) = [layer for layer in first.layers if layer["kind"] == "project"]
        blob = cache / "v1/blobs" / layer["digest"].removeprefix("sha256:")
        blob.unlink()
        one.requests.clear()
        again = build(project, cache, verb="docker:push", variables={"OTHER": "1"})  # is not remembered
        assert (again.digest, bytes_sent(again), blob.exists()) == (digest, 0, False)
        # The manifest by digest, the list of attachments (referrers API, then the fallback tag), two tags.
        requests = [(request.method, request.path.rpartition("/")[2]) for request in one.requests]
        tag = digest.replace(":", "-")
        assert requests == [("HEAD", digest), ("GET", digest), ("GET", tag), ("HEAD", "1.0.0"), ("HEAD", "latest")]
        elsewhere = build(project, cache, verb="docker:push", variables={"HATCH_DOCKER_REGISTRIES": f"{two.host}/app"})
        assert (elsewhere.digest, blob.exists()) == (digest, True)
        assert len(two.repository("app").blobs) == len(one.repository("app").blobs)


def test_push_after_a_failed_registry_continues(servers: tuple[Server, Server], tmp_path: Path, cache: Path) -> None:
    """The receipt lists the registries that have the image, the exit status is 75, and no blob is sent twice."""
    with FakeRegistry() as flaky:
        flaky.fault("PUT", "/manifests/", 503, times=6)
        project = new_project(tmp_path / "p", f"{servers[0].host}/partial", f"{flaky.host}/partial")
        failed = run_build(project, cache, verb="docker:push")
        assert failed.status == 75, failed.output
        assert "Traceback" not in failed.output
        good = f"{servers[0].host}/partial@{failed.digest}"
        assert f"pushed to the other registries: {good}" in failed.output
        assert failed.receipt["references"] == [good]
        assert [bool(delivery["error"]) for delivery in deliveries(failed)] == [False, True]
        flaky.requests.clear()
        again = build(project, cache, verb="docker:push")
        assert flaky.count("PUT", "/blobs/") == 3  # SBOM and provenance, which were missing
        assert deliveries(again)[0]["sent"] == 0


PUSH = (sys.executable, "-m", "hatchling", "build", "-t", "docker:push")


def test_push_after_a_killed_push_continues(tmp_path: Path, cache: Path) -> None:
    """The registry has the blobs but not the manifest: no blob is sent again."""
    with FakeRegistry() as registry:
        registry.fault("PUT", "/manifests/", "hang")
        project = new_project(tmp_path / "p", f"{registry.host}/killed")
        process = start(project, cache, *PUSH)
        blobs = registry.repository("killed").blobs
        while registry.count("PUT", "/manifests/") == 0 or len(blobs) < 6:  # layers, configuration, documents, {}
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.kill()
        process.communicate()
        sent_before = set(registry.repository("killed").blobs)
        registry.requests.clear()
        again = build(project, cache, verb="docker:push")
        assert registry.count("PUT", "/blobs/") == len(blobs) - len(sent_before) == 1  # the shared cache
        assert {layer["digest"] for layer in again.layers} < sent_before


def test_two_parallel_pushes_of_a_project(servers: tuple[Server, Server], tmp_path: Path, cache: Path) -> None:
    """Both succeed, and each attachment is listed once."""
    project = new_project(tmp_path / "p", f"{servers[0].host}/twice", f"{servers[1].host}/twice")
    (project / "hello.py").write_text(f"def main(): print({str(tmp_path)!r})\n")
    both = [start(project, cache, *PUSH) for _ in range(2)]
    for process in both:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    for server in servers:
        name = f"{server.host}/twice"
        found = json.loads(run(need("oras"), "discover", "--plain-http", "--format", "json", f"{name}:latest"))
        assert sorted(manifest["artifactType"].rpartition(".")[2] for manifest in found["manifests"]) == [
            "cyclonedx+json", "in-toto+json",
        ]  # fmt: skip


def test_hatch_publish_output_and_exit_status(servers: tuple[Server, Server], tmp_path: Path, cache: Path) -> None:
    """`hatch -q publish`: the reference on standard output, files for pipelines, and exit statuses of failures."""
    need("git")
    project = new_project(tmp_path / "p", f"{servers[0].host}/by-hatch", options='dotenv = "image.env"')
    hatch = [Path(sys.executable).with_name("hatch")]
    output, summary = tmp_path / "output", tmp_path / "summary"
    environ = {
        **os.environ, "HATCH_DOCKER_CACHE_DIR": str(cache), "HATCH_DOCKER_LOAD": "never",
        "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary),
    }  # fmt: skip
    build(project, cache)
    done = subprocess.run(
        [*hatch, "-q", "publish", "-p", "docker"], cwd=project, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    name = f"{servers[0].host}/by-hatch@{Outcome(0, '', project / 'dist').digest}"
    assert (done.stdout, done.stderr) == (f"{name}\n", "")
    assert f"IMAGE_REFERENCE={name}\n" in (project / "image.env").read_text()
    assert read_outputs(output)["reference"] == name
    assert f"`{name}`" in summary.read_text()
    with FakeRegistry() as busy:
        busy.fault("HEAD", "/manifests/", 429, times=99, headers={"retry-after": "86400"})
        command = [*hatch, "publish", "-p", "docker", "-o", f"registries={busy.host}"]
        failed = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, check=False)
    assert failed.returncode == 75, failed.stderr
    assert "the server asks to wait 86400 s: try again later" in failed.stderr
    for option in ("registry=x", "tags=a b"):
        wrong = [*hatch, "publish", "-p", "docker", "-o", option]
        refused = subprocess.run(wrong, cwd=project, env=environ, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr


def test_uncommitted_changes_are_not_pushed(tmp_path: Path, cache: Path) -> None:
    """The push fails before the build. With allow-dirty the revision of the image ends with `-dirty`."""
    need("git")
    with FakeRegistry() as registry:
        project = write_project("vcs-version", tmp_path / "p", options=f'registries = ["{registry.host}"]')
        clean = build(project, cache, verb="docker:push").receipt
        shutil.rmtree(project / "dist")  # the version comes from git and will change
        (project / "vcs_version/__init__.py").write_text("def main(): print('other')\n")
        registry.requests.clear()
        refused = run_build(project, cache, verb="docker:push")
        check_failed(refused, "it contains uncommitted changes: vcs_version/__init__.py; commit")
        assert registry.requests == []
        dirty = build(project, cache, verb="docker:push", variables={"HATCH_DOCKER_ALLOW_DIRTY": "1"}).receipt
        assert (clean["dirty"], dirty["dirty"]) == ([], ["vcs_version/__init__.py"])
        assert clean["revision"] == dirty["revision"]
        _media_type, manifest = registry.repository("vcs-version").manifests[dirty["digest"]]
        revision = json.loads(manifest)["annotations"]["org.opencontainers.image.revision"]
        assert revision == f"{dirty['revision']}-dirty"


def test_pushed_digest_of_a_buildkit_image(
    servers: tuple[Server, Server], docker: list[str], skopeo: list[str], tmp_path: Path, cache: Path
) -> None:
    """hatch-docker pushes the image; the daemon would compress the layers again and change the digest."""
    project = new_project(tmp_path / "p", f"{servers[0].host}/stages")
    embedded = build(project, cache, verb="docker:push").digest
    stages = build(project, cache, verb="docker:push", variables={"HATCH_DOCKER_ENGINE": "buildkit"})
    assert stages.digest == embedded
    (name,) = stages.receipt["references"]
    (delivery,) = deliveries(stages)
    assert (delivery["attached"], delivery["sent"] < 20_000) == (1, True)  # the provenance, which names the engine
    assert json.loads(run(*skopeo, "inspect", "--tls-verify=false", f"docker://{name}"))["Digest"] == embedded


def test_archive_and_push_in_one_command(tmp_path: Path, cache: Path) -> None:
    """Both verbs in either order, and the option `push`: the archive is written and the image is pushed once."""
    for verb, options in (("docker:image,push", ""), ("docker:push,image", ""), ("docker", "push = true")):
        with FakeRegistry() as registry:
            project = new_project(tmp_path / verb / options, f"{registry.host}/app", options=options)
            outcome = build(project, cache, verb=verb)
            assert outcome.archive.name == outcome.receipt["archive"]
            assert registry.count("PUT", "/manifests/latest") == 1
            assert outcome.receipt["references"] == [f"{registry.host}/app@{outcome.digest}"]


@pytest.mark.parametrize("referrers", [True, False], ids=["with the API", "without"])
def test_number_of_requests_to_push_an_edit(tmp_path: Path, cache: Path, *, referrers: bool) -> None:
    """No request for blobs that are known to exist or that cannot exist; the tags are written last."""
    with FakeRegistry(referrers=referrers) as registry:
        project = new_project(tmp_path / "p", f"{registry.host}/edited")
        variables = {"HATCH_DOCKER_CACHE_TO": "none"}
        for text in ("one", "two"):
            registry.requests.clear()
            (project / "hello.py").write_text(f"def main(): print({text + str(tmp_path)!r})\n")
            build(project, cache, verb="docker:push", variables=variables)
        methods = [request.method for request in registry.requests]
        # POST and PUT of layer, configuration and two documents; PUT of two manifests and two tags.
        # Without the referrers API also the list of referrers under its fallback tag.
        fallback = [] if referrers else ["GET", "GET", "PUT"]
        assert sorted(methods) == sorted(["POST", "PUT"] * 4 + ["PUT"] * 4 + fallback)
        put = [request.path.rpartition("/")[2] for request in registry.requests if request.method == "PUT"]
        assert put[-2:] == ["1.0.0", "latest"]
        registry.repository("edited").blobs.clear()  # as a clean-up job may
        (project / "hello.py").write_text("def main(): print('three')\n")
        assert build(project, cache, verb="docker:push", variables=variables).receipt["references"]
