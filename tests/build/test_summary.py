"""The last lines of a build: changes since the previous build, and the command that runs the image."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.bases.model import Interpreter
from hatch_docker.build.receipt import LayerReceipt, Receipt
from hatch_docker.build.summary import changes, how_to_run, previous_receipt
from hatch_docker.core.context import Context
from hatch_docker.engines.model import WheelInfo
from hatch_docker.engines.wheel_layers import remember_files
from hatch_docker.release.push import PushResult
from hatch_docker.wheels.install.layout import VenvTarget
from tests.conftest import script
from tests.fakes.images import AMD64
from tests.fakes.receipts import DIGEST, RECEIPT
from tests.fakes.sbom_images import plan

DEPENDENCIES = LayerReceipt("sha256:5", "sha256:6", 9, 9, "dependencies", ("numpy 2.3.5", "six 1.17.0"), True)
BEFORE = replace(RECEIPT, wheel=WheelInfo("app-1.0-py3-none-any.whl", "0" * 64))


def receipt_with(*layers: LayerReceipt, **options: object) -> Receipt:
    """Return the receipt of another image of the project, with these layers on the base."""
    (platform,) = BEFORE.platforms
    platform = replace(platform, digest="sha256:9", layers=(platform.layers[0], *layers))
    return replace(BEFORE, **{"digest": "sha256:9", "platforms": (platform,), **options})  # type: ignore[arg-type]


def test_changed_dependencies_are_listed_with_versions(ctx: Context) -> None:
    """Updated, added and removed packages."""
    own = BEFORE.platforms[0].layers[1]
    newer = replace(DEPENDENCIES, digest="sha256:7", contents=("numpy 2.4.0", "orjson 3.11.0"))
    assert changes(receipt_with(DEPENDENCIES, own), replace(receipt_with(newer, own), digest=DIGEST), ctx) == [
        "changed since the previous build:",
        "  dependencies      numpy 2.3.5 -> 2.4.0, orjson 3.11.0 added, six 1.17.0 removed",
    ]
    many = replace(DEPENDENCIES, digest="sha256:8", contents=tuple(f"p{number} 1" for number in range(5)))
    (_, line) = changes(receipt_with(own), replace(receipt_with(many, own), digest=DIGEST), ctx)
    assert line == "  dependencies      p0 1 added, p1 1 added, p2 1 added and 2 more"


def test_changed_base_is_shown_by_packages_or_digest(ctx: Context) -> None:
    (platform,) = BEFORE.platforms
    base, own = platform.layers

    def on(name: str, digest: str, *contents: str) -> Receipt:
        layers = (replace(base, digest=digest, contents=contents), own)
        changed = replace(platform, layers=layers, digest=digest)
        return replace(BEFORE, digest=digest, platforms=(changed,), base={"name": name, "digest": digest})

    one, two = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    assert changes(on("debian:trixie", one, "libc6 2.41-12"), on("debian:trixie", two, "libc6 2.41-13"), ctx)[1:] == [
        "  base              libc6 2.41-12 -> 2.41-13"
    ]
    assert changes(on("python:3.13-slim", one), on("python:3.13-slim", two), ctx)[1:] == [
        "  base              python:3.13-slim sha256:111111111111 -> sha256:222222222222"
    ]
    assert changes(on("debian:bookworm", one), on("debian:trixie", two), ctx)[1:] == [
        "  base              debian:bookworm -> debian:trixie"
    ]


def test_changed_files_are_named_if_the_cache_has_both_wheels(ctx: Context) -> None:
    own = replace(BEFORE.platforms[0].layers[1], digest="sha256:7")
    after = receipt_with(own, wheel=WheelInfo("app-1.0-py3-none-any.whl", "1" * 64))
    assert changes(BEFORE, after, ctx)[1:] == ["  your code         changed"]
    venv = VenvTarget(Interpreter("", "3.13.5"))
    place = f"{venv.site_packages}/"
    files = {f"{place}app/{name}.py": "sha256=a" for name in "abcde"} | {f"{place}app-1.0.dist-info/RECORD": ""}
    remember_files(venv, "sha256:" + "0" * 64, files, ctx)
    remember_files(venv, "sha256:" + "1" * 64, {**files, f"{place}app/c.py": "sha256=b"}, ctx)
    assert changes(BEFORE, after, ctx)[1:] == ["  your code         1 file changed: app/c.py"]
    remember_files(venv, "sha256:" + "1" * 64, dict.fromkeys(files, "sha256=b"), ctx)
    assert changes(BEFORE, after, ctx)[1:] == [
        "  your code         5 files changed: app/a.py, app/b.py, app/c.py and 2 more"
    ]


def test_changed_files_of_workspace_member_are_named(ctx: Context) -> None:
    own, venv = BEFORE.platforms[0].layers[1], VenvTarget(Interpreter("", "3.13.5"))
    for digit, name in (("0", "app"), ("1", "lib"), ("2", "lib")):
        remember_files(venv, f"sha256:{digit * 64}", {f"{venv.site_packages}/{name}.py": f"sha256={digit}"}, ctx)
    before, after = (
        receipt_with(
            replace(own, digest=digit), digest=digit, members=(WheelInfo("lib-1.0-py3-none-any.whl", digit * 64),)
        )
        for digit in "12"
    )
    assert changes(before, after, ctx)[1:] == ["  your code         1 file changed: lib.py"]


def test_change_of_python_does_not_list_unchanged_files(ctx: Context) -> None:
    """Their directory and their .pyc files differ, but not their contents."""
    own = replace(BEFORE.platforms[0].layers[1], digest="sha256:7")
    after = receipt_with(own, wheel=WheelInfo("app-1.0-py3-none-any.whl", "1" * 64), python="3.11.2")
    for digit, python in (("0", "3.13.5"), ("1", "3.11.2")):
        venv = VenvTarget(Interpreter("", python))
        remember_files(venv, f"sha256:{digit * 64}", {f"{venv.site_packages}/app.py": "sha256=a"}, ctx)
    assert changes(BEFORE, after, ctx)[1:] == [
        "  Python            3.13.5 -> 3.11.2", "  your code         the same files, made differently",
    ]  # fmt: skip


def test_changes_outside_layers_are_listed(ctx: Context) -> None:
    """Python's version, commit, platforms, settings; or a line that nothing changed."""
    assert changes(BEFORE, BEFORE, ctx) == ["nothing changed since the previous build"]
    newer = replace(BEFORE, digest="sha256:9", python="3.13.6")
    assert changes(BEFORE, newer, ctx)[1:] == ["  Python            3.13.5 -> 3.13.6"]
    commits = [replace(BEFORE, digest=letter, revision=letter * 40) for letter in "ab"]
    assert changes(*commits, ctx)[1:] == ["  configuration     commit aaaaaaaaaaaa -> bbbbbbbbbbbb"]
    assert changes(BEFORE, receipt_with(BEFORE.platforms[0].layers[1]), ctx)[1:] == [
        "  configuration     settings, labels or time"
    ]
    (platform,) = BEFORE.platforms
    both = replace(BEFORE, digest="sha256:9", platforms=(platform, replace(platform, platform="linux/arm64")))
    assert changes(BEFORE, both, ctx)[1:] == ["  platforms         linux/arm64 added"]
    assert changes(both, BEFORE, ctx)[1:] == ["  platforms         linux/arm64 removed"]


def test_previous_receipt_is_of_this_or_the_newest_version(tmp_path: Path) -> None:
    """It must be of the same project and image. Unreadable files are skipped."""
    def found(part: str = "") -> str | None:
        path = tmp_path / f"app-2.0{part and '.'}{part}.image.json"
        receipt = previous_receipt(path, replace(plan(), name="app", version="2.0", part=part))
        return receipt and receipt.version

    assert found() is None
    for version, age in (("0.9", 200), ("1.0", 100)):
        path = tmp_path / f"app-{version}.image.json"
        path.write_bytes(replace(BEFORE, version=version).to_json())
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    (tmp_path / "app-1.1.worker.image.json").write_bytes(replace(BEFORE, version="1.1", part="worker").to_json())
    (tmp_path / "app-1.2.image.json").write_text("{")
    assert (found(), found("worker")) == ("1.0", "1.1")
    (tmp_path / "app-2.0.image.json").write_bytes(replace(BEFORE, version="2.0").to_json())
    assert found() == "2.0"


def test_command_that_runs_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a loaded image, an archive and a pushed image; with ports, and for another platform."""
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / "dist" / "app-1.0.oci.tar"
    planned = replace(plan(), platforms=("linux/amd64",))
    name = planned.references[0]
    served = replace(planned, config=replace(planned.config, ports=("8000/tcp", "53/udp")))
    assert how_to_run(BEFORE, served, archive, "podman", AMD64, {}) == [
        "run it:", f"  podman run --rm -p 8000:8000 -p 53:53/udp {name}",
    ]  # fmt: skip
    assert how_to_run(BEFORE, planned, archive, "", AMD64, {}) == [
        "run it on a machine with Docker:", "  docker load -i dist/app-1.0.oci.tar", f"  docker run --rm {name}",
    ]  # fmt: skip
    foreign = replace(planned, platforms=("linux/arm64",))
    assert how_to_run(BEFORE, foreign, archive, "docker", AMD64, {})[1:] == [
        f"  docker run --rm --platform linux/arm64 {name}"
    ]
    planned = replace(planned, tags=("1.0",))
    deliveries = (PushResult(f"one/app@{DIGEST}", (), error="is down"), PushResult(f"two/app@{DIGEST}", ()))
    pushed = replace(BEFORE, archive="", deliveries=deliveries)
    assert how_to_run(pushed, planned, archive, "", AMD64, {})[1:] == ["  docker run --rm two/app:1.0"]
    program = script(tmp_path / "bin/podman", "")
    there = how_to_run(BEFORE, planned, archive, "", AMD64, {"PATH": str(program.parent)})
    assert there[:1] == ["run it:"]
    assert there[1] == "  podman load -i dist/app-1.0.oci.tar"
