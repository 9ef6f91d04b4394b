"""The registry as a shared cache: a machine with an empty cache uses the results that another machine pushed."""

import gzip
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.registry import FakeRegistry
from tests.integration.builds import Outcome, build, linked_cache, require, run_command
from tests.projects import write_project

pytestmark = pytest.mark.network
TAG = "hatch-docker-cache-linux-amd64"


def image_in(registry: FakeRegistry) -> str:
    """Return the option `image` for a registry."""
    return f'image = "{registry.host}/app"'


def reading_variables(registry: FakeRegistry) -> dict[str, str]:
    """Return the variables of a build that reads the shared cache without pushing."""
    return {"HATCH_DOCKER_CACHE_FROM": f"type=registry,ref={registry.host}/app:{TAG}"}


def push(project: Path, cache: Path, **variables: str) -> Outcome:
    outcome = run_command(project, cache, "build", "--push", "-v", **variables)
    assert outcome.status == 0, outcome.output
    return outcome


def test_build_with_an_empty_cache_makes_no_layer(registry: FakeRegistry, tmp_path: Path, cache: Path) -> None:
    """It downloads a list of the shared results, but no layer; no package is unpacked, and no code is compiled."""
    project = write_project("c-extension", tmp_path / "p", options=image_in(registry))
    digest = push(project, cache).digest
    start, empty = len(registry.requests), tmp_path / "cache"
    outcome = push(project, empty)
    assert (outcome.digest, outcome.new_layers()) == (digest, [])
    assert "resolving" not in outcome.output
    assert not list(empty.glob("v1/trees/*/*"))  # no compiler, no build environment, no wheel
    requests = [(request.method, request.path) for request in registry.requests[start:]]
    # One upload is started to test the permission to push; no data are sent.
    assert [row for row in requests if row[0] in ("PUT", "POST")] == [("POST", "/v2/app/blobs/uploads/")]
    assert sum(method == "GET" and "/blobs/" in path for method, path in requests) == 1
    assert sum(path.stat().st_size for path in empty.rglob("*") if path.is_file()) < 1_000_000
    # An archive needs the layers, which are downloaded.
    archived = build(project, empty, variables=reading_variables(registry))
    assert archived.image().digest == digest
    assert not list(empty.glob("v1/trees/*/*"))


def test_invalid_shared_cache_entries_are_ignored(registry: FakeRegistry, tmp_path: Path, cache: Path) -> None:
    """Malformed facts and a layer with a wrong digest cause warnings, and the image is made without them."""
    project = require(write_project("hello", tmp_path / "p", options=image_in(registry)), "idna")
    outcome = push(project, cache)
    digest = outcome.digest
    repository = registry.repository("app")
    media_type, manifest = repository.manifests[TAG]
    value = json.loads(manifest)
    facts = json.loads(gzip.decompress(repository.blobs[value["layers"][0]["digest"]]))["facts"]
    (digest_of_dependencies,) = [layer["digest"] for layer in outcome.layers if layer["kind"] == "dependencies"]
    (dependency,) = [layer for layer in value["layers"] if layer["digest"] == digest_of_dependencies]
    wrong = [["layer", "../x", {}], ["layer", "0" * 64, {"digest": "../../x"}], ["pushed", "0" * 64, "x"], 1]
    data = gzip.compress(json.dumps({"facts": [*facts, *wrong]}).encode())
    value["layers"][0] |= {"digest": registry.put_blob("app", data), "size": len(data)}
    registry.put_manifest("app", TAG, media_type, json.dumps(value).encode())
    repository.blobs[dependency["digest"]] = bytes(dependency["size"])
    shutil.rmtree(project / "dist")  # an existing archive would not be written again
    outcome = build(project, tmp_path / "cache", variables=reading_variables(registry))
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
def test_build_of_an_edit_with_an_empty_cache(edited: str, line: str, whole: bool, tmp_path: Path, cache: Path) -> None:
    """The builder's tree has only the files that earlier builds opened; if the build fails, it has all files."""
    place, cache = tmp_path / "shared", linked_cache(cache, tmp_path / "private")
    project = write_project("c-extension", tmp_path / "p")
    source = project / "c_extension" / edited
    comment = "#" if edited.endswith("py") else "//"
    source.write_text(f"{source.read_text()}\n{comment} {tmp_path}\n")  # not in any cache
    variables = {"HATCH_DOCKER_CACHE_TO": f"type=local,dest={place}", "HATCH_DOCKER_CACHE_FROM": "none", "CI": "true"}
    build(project, cache, variables=variables)
    source.write_text(f"{source.read_text()}\n{line}\n")
    empty = tmp_path / "cache"
    outcome = build(project, empty, variables={"HATCH_DOCKER_CACHE_FROM": f"type=local,src={place}"})
    assert outcome.new_layers() == ["project"]
    assert outcome.digest == build(project, cache).digest
    assert [kind for kind in ("builder", "base") if (empty / "v1/trees" / kind).exists()] == ["builder"] * whole
    names = [{path.name for path in where.glob("v1/facts/layer/*")} for where in (empty, cache)]
    assert names[0]
    assert not names[0] & names[1]  # results that use the shared cache have other keys


def test_round_trips_to_push_an_edit(tmp_path: Path, cache: Path) -> None:
    """At most 12 requests until the tags are written, in at most 6 sequential rounds; each response is delayed."""
    spans: list[tuple[float, float]] = []

    def delay(handler: Any) -> None:
        began = time.monotonic()
        time.sleep(0.3)
        spans.append((began, time.monotonic()))
        handler.route()

    with FakeRegistry(referrers=True) as registry:
        project = write_project("hello", tmp_path / "p", options=image_in(registry))
        push(project, cache)
        source = project / "hello.py"
        source.write_text(f"{source.read_text()}\n# {time.time()}\n")  # a unique layer
        start = len(registry.requests)
        registry.fault("GET|HEAD|POST|PUT|PATCH|DELETE", "", delay, times=99)
        push(project, cache)
        requests = [(request.method, request.path.partition("?")[0]) for request in registry.requests[start:]]
    until_tagged = len(requests) - requests[::-1].index(("PUT", "/v2/app/manifests/latest"))
    rounds, ended = 0, 0.0
    for began, end in sorted(sorted(spans)[:until_tagged], key=lambda span: span[1]):
        if began >= ended:
            rounds, ended = rounds + 1, end
    assert until_tagged <= 12, requests
    assert rounds <= 6, (spans, requests)
