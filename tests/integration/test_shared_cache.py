"""The registry as the cache: a machine without a cache takes what another machine pushed, and makes the same image."""

import gzip
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry
from tests.integration.builds import Outcome, build, run_in
from tests.projects import write_project

pytestmark = pytest.mark.network
TAG = "hatch-docker-cache-linux-amd64"


@dataclass(frozen=True)
class Pushed:
    """A compiled project whose image and shared cache are in a registry."""

    registry: FakeRegistry
    project: Path
    digest: str

    @property
    def source(self) -> dict[str, str]:
        """Variables of a build that reads the shared cache and pushes nothing."""
        return {"HATCH_DOCKER_CACHE_FROM": f"type=registry,ref={self.registry.host}/app:{TAG}"}


def push(project: Path, cache: Path, **variables: str) -> Outcome:
    outcome = run_in(project, cache, "hatch-docker", "build", "--push", "-v", variables=variables)
    assert outcome.status == 0, outcome.output
    return outcome


@pytest.fixture(scope="module")
def pushed(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    with FakeRegistry() as registry:
        project = write_project("c-extension", tmp_path_factory.mktemp("p"), options=f'image = "{registry.host}/app"')
        yield Pushed(registry, project, push(project, cache).digest)


def test_an_empty_machine_makes_nothing(pushed: Pushed, tmp_path: Path) -> None:
    """No package is unpacked, nothing compiled, no layer downloaded: a few kB say that the registry has the image."""
    start, empty = len(pushed.registry.requests), tmp_path / "cache"
    outcome = push(pushed.project, empty)
    assert (outcome.digest, outcome.made()) == (pushed.digest, [])
    assert not list(empty.glob("v1/trees/*/*"))  # no compiler, no build environment, no wheel
    requests = [(request.method, request.path) for request in pushed.registry.requests[start:]]
    assert [path for method, path in requests if method in ("PUT", "POST")] == []
    assert sum(method == "GET" and "/blobs/" in path for method, path in requests) == 1
    assert sum(path.stat().st_size for path in empty.rglob("*") if path.is_file()) < 1_000_000
    # Its archive needs the layers, which are downloaded; a build by another name knows nothing of all that.
    archived = build(pushed.project, empty, variables=pushed.source)
    assert archived.image().digest == pushed.digest
    assert not list(empty.glob("v1/trees/*/*"))


def test_what_is_not_as_it_should_be_is_not_used(pushed: Pushed, tmp_path: Path) -> None:
    """Facts of a wrong form and a layer of other bytes are named in a warning, and the image is made without them."""
    repository = pushed.registry.repository("app")
    media_type, manifest = repository.manifests[TAG]
    value = json.loads(manifest)
    facts = json.loads(gzip.decompress(repository.blobs[value["layers"][0]["digest"]]))["facts"]
    smallest = min(value["layers"][1:], key=lambda layer: int(layer["size"]))
    wrong = [["layer", "../x", {}], ["layer", "0" * 64, {"digest": "../../x"}], ["pushed", "0" * 64, "x"], 1]
    data = gzip.compress(json.dumps({"facts": [*facts, *wrong]}).encode())
    value["layers"][0] |= {"digest": pushed.registry.put_blob("app", data), "size": len(data)}
    pushed.registry.put_manifest("app", TAG, media_type, json.dumps(value).encode())
    good = repository.blobs[smallest["digest"]]
    repository.blobs[smallest["digest"]] = bytes(len(good))
    shutil.rmtree(pushed.project / "dist")  # an archive that is there is not written again
    outcome = build(pushed.project, tmp_path / "cache", variables=pushed.source)
    assert outcome.image().digest == pushed.digest
    assert "4 of its facts are not as they should be" in outcome.output
    assert "a layer of the shared cache is made here instead" in outcome.output
    repository.blobs[smallest["digest"]] = good
    pushed.registry.put_manifest("app", TAG, media_type, manifest)


def test_an_edit_on_an_empty_machine(pushed: Pushed, cache: Path, tmp_path: Path) -> None:
    """The Python of a borrowed base compiles the same bytes. A directory serves as well as a registry."""
    place = tmp_path / "shared"
    project = write_project("hello", tmp_path / "p")
    variables = {"HATCH_DOCKER_CACHE_TO": f"type=local,dest={place}", "HATCH_DOCKER_CACHE_FROM": "none"}
    build(project, cache, variables=variables)
    source = project / "hello.py"
    source.write_text(source.read_text() + "\n# edited\n")
    empty = tmp_path / "cache"
    outcome = build(project, empty, variables={"HATCH_DOCKER_CACHE_FROM": f"type=local,src={place}"})
    assert outcome.made() == ["project"]
    assert outcome.digest == build(project, cache).digest
    names = [{path.name for path in where.glob("v1/facts/layer/*")} for where in (empty, cache)]
    assert names[0]
    assert not names[0] & names[1]  # what it took, and what it made of that, is for builds with this cache alone
