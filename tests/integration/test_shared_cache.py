"""The registry as the cache: a machine without a cache takes what another machine pushed, and makes the same image."""

import gzip
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.registry import FakeRegistry
from tests.integration.builds import Outcome, build, command, require
from tests.projects import write_project

pytestmark = pytest.mark.network
TAG = "hatch-docker-cache-linux-amd64"


def image_in(registry: FakeRegistry) -> str:
    """The option that names an image in a registry."""
    return f'image = "{registry.host}/app"'


def source(registry: FakeRegistry) -> dict[str, str]:
    """Variables of a build that reads the shared cache and pushes nothing."""
    return {"HATCH_DOCKER_CACHE_FROM": f"type=registry,ref={registry.host}/app:{TAG}"}


def push(project: Path, cache: Path, **variables: str) -> Outcome:
    outcome = command(project, cache, "build", "--push", "-v", **variables)
    assert outcome.status == 0, outcome.output
    return outcome


def test_an_empty_machine_makes_nothing(registry: FakeRegistry, tmp_path: Path, cache: Path) -> None:
    """No package is unpacked, nothing compiled or resolved, no layer downloaded: a few kB say what the registry has."""
    project = write_project("c-extension", tmp_path / "p", options=image_in(registry))
    digest = push(project, cache).digest
    start, empty = len(registry.requests), tmp_path / "cache"
    outcome = push(project, empty)
    assert (outcome.digest, outcome.made()) == (digest, [])
    assert "resolving" not in outcome.output
    assert not list(empty.glob("v1/trees/*/*"))  # no compiler, no build environment, no wheel
    requests = [(request.method, request.path) for request in registry.requests[start:]]
    # It is asked whether we may push; nothing is sent.
    assert [row for row in requests if row[0] in ("PUT", "POST")] == [("POST", "/v2/app/blobs/uploads/")]
    assert sum(method == "GET" and "/blobs/" in path for method, path in requests) == 1
    assert sum(path.stat().st_size for path in empty.rglob("*") if path.is_file()) < 1_000_000
    # Its archive needs the layers, which are downloaded; a build by another name knows nothing of all that.
    archived = build(project, empty, variables=source(registry))
    assert archived.image().digest == digest
    assert not list(empty.glob("v1/trees/*/*"))


def test_what_is_not_as_it_should_be_is_not_used(registry: FakeRegistry, tmp_path: Path, cache: Path) -> None:
    """Facts of a wrong form and a layer of other bytes are named in a warning, and the image is made without them."""
    project = require(write_project("hello", tmp_path / "p", options=image_in(registry)), "idna")
    outcome = push(project, cache)
    digest = outcome.digest
    repository = registry.repository("app")
    media_type, manifest = repository.manifests[TAG]
    value = json.loads(manifest)
    facts = json.loads(gzip.decompress(repository.blobs[value["layers"][0]["digest"]]))["facts"]
    (made,) = [layer["digest"] for layer in outcome.layers if layer["kind"] == "dependencies"]
    (dependency,) = [layer for layer in value["layers"] if layer["digest"] == made]
    wrong = [["layer", "../x", {}], ["layer", "0" * 64, {"digest": "../../x"}], ["pushed", "0" * 64, "x"], 1]
    data = gzip.compress(json.dumps({"facts": [*facts, *wrong]}).encode())
    value["layers"][0] |= {"digest": registry.put_blob("app", data), "size": len(data)}
    registry.put_manifest("app", TAG, media_type, json.dumps(value).encode())
    repository.blobs[dependency["digest"]] = bytes(dependency["size"])
    shutil.rmtree(project / "dist")  # an archive that is there is not written again
    outcome = build(project, tmp_path / "cache", variables=source(registry))
    assert outcome.image().digest == digest
    assert "4 of its records are not valid" in outcome.output
    assert "a layer of the shared cache is made here instead" in outcome.output


@pytest.mark.parametrize(
    ("edited", "line", "whole"),
    [
        ("__init__.py", "# edited", False),
        pytest.param("_answer.c", "#include <sys/quota.h>", True, marks=pytest.mark.long),  # downloads the compiler
    ],
)
def test_an_edit_on_an_empty_machine(edited: str, line: str, whole: bool, tmp_path: Path, cache: Path) -> None:
    """It is built in the files that builds opened before, or else in the whole system, to the same digest.

    A directory serves as well as a registry.
    """
    place = tmp_path / "shared"
    project = write_project("c-extension", tmp_path / "p")
    source = project / "c_extension" / edited
    comment = "#" if edited.endswith("py") else "//"
    source.write_text(f"{source.read_text()}\n{comment} {tmp_path}\n")  # no cache knows it
    variables = {"HATCH_DOCKER_CACHE_TO": f"type=local,dest={place}", "HATCH_DOCKER_CACHE_FROM": "none", "CI": "true"}
    build(project, cache, variables=variables)
    source.write_text(f"{source.read_text()}\n{line}\n")
    empty = tmp_path / "cache"
    outcome = build(project, empty, variables={"HATCH_DOCKER_CACHE_FROM": f"type=local,src={place}"})
    assert outcome.made() == ["project"]
    assert outcome.digest == build(project, cache).digest
    assert [kind for kind in ("builder", "base") if (empty / "v1/trees" / kind).exists()] == ["builder"] * whole
    names = [{path.name for path in where.glob("v1/facts/layer/*")} for where in (empty, cache)]
    assert names[0]
    assert not names[0] & names[1]  # what it took, and what it made of that, is for builds with this cache alone


def test_a_push_after_an_edit_takes_few_round_trips(tmp_path: Path, cache: Path) -> None:
    """At most 12 requests until the tags are there, 6 of them one after the other; each is held, so that some overlap.
    """
    spans: list[tuple[float, float]] = []

    def hold(handler: Any) -> None:
        began = time.monotonic()
        time.sleep(0.3)
        spans.append((began, time.monotonic()))
        handler.route()

    with FakeRegistry(referrers=True) as registry:
        project = write_project("hello", tmp_path / "p", options=image_in(registry))
        push(project, cache)
        source = project / "hello.py"
        source.write_text(f"{source.read_text()}\n# {time.time()}\n")  # no other build made that layer
        start = len(registry.requests)
        registry.fault("GET|HEAD|POST|PUT|PATCH|DELETE", "", hold, times=99)
        push(project, cache)
        requests = [(request.method, request.path.partition("?")[0]) for request in registry.requests[start:]]
    tagged = len(requests) - requests[::-1].index(("PUT", "/v2/app/manifests/latest"))
    rounds, ended = 0, 0.0
    for began, end in sorted(sorted(spans)[:tagged], key=lambda span: span[1]):
        if began >= ended:
            rounds, ended = rounds + 1, end
    assert tagged <= 12, requests
    assert rounds <= 6, (spans, requests)
