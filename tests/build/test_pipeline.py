"""The steps of a build, with an engine that returns a small image, and a local registry."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.build.notes import Notes
from hatch_docker.build.pipeline import image_or_index, output_paths, run
from hatch_docker.build.receipt import Receipt, read_receipt
from hatch_docker.build.unchanged import Command
from hatch_docker.core.cache.store import DamagedBlobError
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, ConfigError, DaemonError, HatchDockerError, RegistryError, StoreError
from hatch_docker.engines.model import BuiltImage, LayerInfo
from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.model import Index
from hatch_docker.plan.model import BasePlan, BudgetPlan, Plan
from hatch_docker.project.model import Project
from tests.fakes.context import with_environ
from tests.fakes.images import ARM64, small_image
from tests.fakes.plans import project_with_wheel
from tests.fakes.registry import FakeRegistry
from tests.fakes.sbom_images import plan_and_image
from tests.validate import validate

DOCUMENTS = ["my_app-1.2.3.cdx.json", "my_app-1.2.3.provenance.json"]
FILES = sorted(["my_app-1.2.3.oci.tar", "my_app-1.2.3.image.json", *DOCUMENTS])


class Builds:
    """Builds of one project. `engine` returns the same image each time, and adds its context to `contexts`."""

    def __init__(self, directory: Path, ctx: Context, **table: Any) -> None:
        self.directory, self.ctx = directory, ctx
        self.plan, built = plan_and_image(ctx, table={"load": "never", **table})
        self.built: tuple[BuiltImage, ...] = (built,)
        self.before_engine: Callable[[Context], None] = lambda _ctx: None
        self.contexts: list[Context] = []

    def engine(self, plan: Plan, project: Project, ctx: Context) -> tuple[BuiltImage, ...]:
        assert plan == self.plan
        self.contexts.append(ctx)
        self.before_engine(ctx)
        return self.built

    def run(self, notes: Notes | None = None, **changes: Any) -> Receipt:
        self.plan = replace(self.plan, **changes)
        return run(self.plan, project_with_wheel(self.directory.parent), self.engine, self.directory, self.ctx, notes)

    @property
    def receipt(self) -> Receipt:
        """Return the receipt in the output directory."""
        return read_receipt(output_paths(self.plan, self.directory)[1])

    def files(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir()) if self.directory.is_dir() else []


@pytest.fixture
def builds(tmp_path: Path, ctx: Context) -> Builds:
    return Builds(tmp_path / "dist", ctx)


def pushing(tmp_path: Path, ctx: Context, registry: FakeRegistry) -> Builds:
    builds = Builds(tmp_path / "dist", ctx, image="team/app", registries=[registry.host])
    builds.plan = replace(builds.plan, push=True)
    return builds


def test_build_writes_archive_documents_and_receipt(builds: Builds, lines: list[str]) -> None:
    receipt = builds.run()
    item = read_archive(output_paths(builds.plan, builds.directory)[0])
    validate(item)
    assert builds.files() == FILES
    assert item.digest == receipt.digest == builds.built[0].image.digest
    assert builds.receipt == receipt
    assert [document.file for document in receipt.documents] == DOCUMENTS
    assert [layer.kind for layer in receipt.platforms[0].layers] == [note.kind for note in builds.built[0].notes]
    assert list(receipt.timings) == ["build", "libraries", "documents", "archive"]
    assert any(line.startswith("linux/amd64  sha256:") for line in lines)
    assert "nothing changed since the previous build" not in lines


def test_repeated_build_does_not_rewrite_the_archive(builds: Builds, lines: list[str]) -> None:
    first = builds.run()
    inode = output_paths(builds.plan, builds.directory)[0].stat().st_ino
    assert replace(builds.run(), timings={}) == replace(first, timings={})
    assert output_paths(builds.plan, builds.directory)[0].stat().st_ino == inode
    assert "nothing changed since the previous build" in lines


def test_build_without_archive_may_skip_known_layers(builds: Builds) -> None:
    """The engine then needs only the digests of layers (`lazy`); for an archive it needs their contents."""
    receipt = builds.run(archive=False)
    assert (receipt.archive, builds.files()) == ("", [name for name in FILES if not name.endswith(".tar")])
    assert builds.ctx.progress.warnings == [
        "the image is only in the cache: archive = false, and it is not loaded and not pushed"
    ]
    builds.run(archive=True)
    assert [ctx.lazy for ctx in builds.contexts] == [True, False]


def test_base_of_builder_is_recorded_in_notes(builds: Builds, tmp_path: Path) -> None:
    """The next build compares the digest of its tag."""
    builder = BasePlan("registry", "registry.example/builder:1", "registry.example/builder:1")
    builds.before_engine = lambda ctx: ctx.materials.update({("base", builder.name): "sha256:" + "b" * 64})
    notes = Notes(Command(tmp_path, ("test",), {}))
    builds.run(notes, base=replace(builds.plan.base, builder=builder))
    assert notes.tags[builder.location] == "sha256:" + "b" * 64


def test_images_of_several_platforms_are_an_index(builds: Builds) -> None:
    (built,) = builds.built
    other = replace(built, image=small_image(platform=ARM64), notes=(LayerInfo("base", (), cached=True),))
    builds.built = (built, other)
    item = image_or_index(builds.built)
    assert isinstance(item, Index)
    assert builds.run(sbom=(), native_libraries="off").digest == item.digest


@pytest.mark.parametrize(("changes", "message"), [
    ({"budget": BudgetPlan(10, None, None)}, "max-size is 10 bytes"),
    ({"load": "always"}, "no Docker or Podman answers"),
])  # fmt: skip
def test_failed_check_keeps_files_of_previous_build(changes: dict[str, Any], message: str, builds: Builds) -> None:
    environ = {**builds.ctx.environ, "PATH": "/nowhere", "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    builds.ctx = replace(builds.ctx, environ=environ)
    builds.run()
    _, path = output_paths(builds.plan, builds.directory)
    before = path.read_bytes()
    (built,) = builds.built
    builds.built = (replace(built, notes=(*built.notes[:-1], LayerInfo("files", (), cached=False))),)
    with pytest.raises(HatchDockerError, match=message) as caught:
        builds.run(**changes)
    assert caught.type is (BuildError if "budget" in changes else DaemonError)
    assert path.read_bytes() == before
    assert builds.files() == FILES


def test_failed_engine_keeps_files_of_previous_build(builds: Builds) -> None:
    builds.run()
    before = {path.name: path.read_bytes() for path in builds.directory.iterdir()}

    def fail(_ctx: Context) -> None:
        raise BuildError("no compiler")

    builds.before_engine = fail
    with pytest.raises(BuildError, match="no compiler"):
        builds.run()
    assert {path.name: path.read_bytes() for path in builds.directory.iterdir()} == before


def test_directory_at_output_path_fails_before_the_engine(builds: Builds) -> None:
    output_paths(builds.plan, builds.directory)[0].mkdir(parents=True)
    with pytest.raises(StoreError, match="a directory is in the way"):
        builds.run()
    assert builds.contexts == []


def test_damaged_blob_repeats_the_build_once(builds: Builds, lines: list[str]) -> None:
    """A second damage of the same blob is an error."""
    def damaged(_ctx: Context) -> None:
        if len(builds.contexts) != 2:
            raise DamagedBlobError("blob sha256:1 is damaged")

    builds.before_engine = damaged
    builds.run()
    assert (len(builds.contexts), "blob sha256:1 is damaged" in "\n".join(lines)) == (2, True)
    with pytest.raises(DamagedBlobError, match="sha256:1"):
        builds.run()
    assert len(builds.contexts) == 4


def test_layer_missing_everywhere_repeats_the_build(builds: Builds) -> None:
    """If a known layer is neither in the cache nor in a registry, the second attempt builds it."""
    def missing(ctx: Context) -> None:
        if ctx.lazy:
            raise DamagedBlobError("blob sha256:1 is missing")

    builds.before_engine = missing
    builds.run(archive=False)
    assert [ctx.lazy for ctx in builds.contexts] == [True, False]


def test_push_sends_image_tags_and_documents(tmp_path: Path, ctx: Context, registry: FakeRegistry) -> None:
    builds = pushing(tmp_path, ctx, registry)
    receipt = builds.run()
    (delivery,) = receipt.deliveries
    assert receipt.references == (f"{registry.host}/team/app@{receipt.digest}",)
    assert (delivery.error, delivery.attached, delivery.tags) == ("", 2, builds.plan.tags)
    assert list(receipt.timings)[-2:] == ["push", "cache"]
    assert builds.receipt == receipt


def test_upload_session_is_cancelled_if_machine_check_fails(
    tmp_path: Path, ctx: Context, registry: FakeRegistry
) -> None:
    """Registry and machine are checked in parallel. Nothing is built."""
    nowhere = dict.fromkeys(("DOCKER_HOST", "CONTAINER_HOST"), "unix:///nowhere/docker.sock")
    builds = pushing(tmp_path, with_environ(ctx, {**nowhere, "PATH": ""}), registry)
    with pytest.raises(DaemonError, match="no Docker or Podman answers"):
        builds.run(load="always")
    assert [request.method for request in registry.requests] == ["POST", "DELETE"]
    assert (registry.uploads, builds.files()) == ({}, [])


def test_failed_push_is_recorded_in_the_receipt(tmp_path: Path, ctx: Context, registry: FakeRegistry) -> None:
    """All files are written, and the error names the registry."""
    builds = pushing(tmp_path, ctx, registry)
    registry.fault("PUT", "/manifests/", 403, times=9)
    with pytest.raises(RegistryError, match=registry.host):
        builds.run()
    receipt = builds.receipt
    assert (receipt.references, receipt.deliveries[0].transient) == ((), False)
    assert registry.host in receipt.deliveries[0].error
    assert builds.files() == FILES


def test_invalid_push_fails_before_the_engine(tmp_path: Path, ctx: Context) -> None:
    builds = Builds(tmp_path / "dist", ctx)
    with pytest.raises(ConfigError, match="a push needs a registry"):
        builds.run(push=True)
    with pytest.raises(ConfigError, match=r"it contains uncommitted changes: x\.py"):
        builds.run(push=True, repositories=("registry.example/app",), dirty=("x.py",))
    assert builds.contexts == []


def test_build_writes_outputs_for_ci_pipelines(builds: Builds, tmp_path: Path) -> None:
    builds.ctx = replace(builds.ctx, environ={**builds.ctx.environ, "GITHUB_OUTPUT": str(tmp_path / "output")})
    receipt = builds.run(dotenv="image.env")
    assert f"IMAGE_DIGEST={receipt.digest}" in (tmp_path / "image.env").read_text()
    assert f"\n{receipt.digest}\n" in (tmp_path / "output").read_text()


def test_quiet_build_prints_nothing(builds: Builds, lines: list[str]) -> None:
    builds.ctx = replace(builds.ctx, progress=replace(builds.ctx.progress, verbosity=-1))
    builds.run()
    assert lines == []
    assert builds.receipt.hints == ()
