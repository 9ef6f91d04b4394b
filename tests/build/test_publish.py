"""Pushing archives with `hatch-docker push`, with and without a receipt."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.build.publish import receipt_of, resolve_archive
from hatch_docker.build.receipt import read_receipt, receipt_from_image
from hatch_docker.cli.main import main
from hatch_docker.core.errors import ConfigError, ImageError
from hatch_docker.oci.archive import write_archive
from hatch_docker.oci.make_image import Settings, build_image, scratch
from hatch_docker.oci.model import Image, Index, digest_of
from hatch_docker.plan.naming import PREFIX
from tests.fakes.github_outputs import read_outputs
from tests.fakes.images import AMD64, small_image, small_index, small_layer
from tests.fakes.registry import FakeRegistry

pytestmark = pytest.mark.usefixtures("own_cache")


def make_archive(
    directory: Path, item: Image | Index | None = None, name: str = "app-1.0", tags: tuple[str, ...] = ("1.0", "latest")
) -> Path:
    """Write an archive with tags and without a receipt; return its path."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}.oci.tar"
    with path.open("wb") as stream:
        write_archive(item or small_image(), [f"team/app:{tag}" for tag in tags], stream, host=AMD64)
    return path


def write_receipt(path: Path, item: Image | Index, **facts: Any) -> Path:
    """Write a receipt beside an archive; return its path. `facts`: values that replace the default ones."""
    value = json.loads(receipt_from_image(item, path.name, "team/app", ["1.0", "latest"]).to_json())
    receipt = path.with_name(path.name.replace(".oci.tar", ".image.json"))
    receipt.write_text(json.dumps(value | facts))
    return receipt


def pushed_tags(registry: FakeRegistry, repository: str) -> set[str]:
    return {name for name in registry.repository(repository).manifests if ":" not in name}


@pytest.mark.parametrize("item", [small_image(), small_index()], ids=["image", "index"])
def test_push_goes_to_repositories_of_receipt_and_updates_it(
    item: Image | Index, registry: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_archive(tmp_path / "dist", item)
    receipt = write_receipt(path, item, repositories=[f"{registry.host}/one", f"{registry.host}/two"])
    assert main(["push", str(path)]) == 0
    names = [f"{registry.host}/{name}@{item.digest}" for name in ("one", "two")]
    lines = capsys.readouterr()
    assert lines.out.splitlines() == names
    assert f"{registry.host}/one: 1.0, latest" in lines.err
    assert pushed_tags(registry, "one") == pushed_tags(registry, "two") == {"1.0", "latest"}
    assert list(read_receipt(receipt).references) == names
    assert main(["push", "-q", str(path)]) == 0
    assert capsys.readouterr().err == ""
    assert read_receipt(receipt).deliveries[0].sent == 0


def test_options_override_variables_and_these_the_receipt(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_archive(tmp_path)
    write_receipt(path, small_image(), repositories=["registry.invalid/app"])
    monkeypatch.setenv("HATCH_DOCKER_REGISTRIES", registry.host)
    monkeypatch.setenv("HATCH_DOCKER_TAGS", "7")
    assert main(["push", str(path)]) == 0
    assert pushed_tags(registry, "team/app") == {"7"}
    assert main(["push", str(path), "--registry", f"{registry.host}/other", "--tag", "8", "--tag", "9"]) == 0
    assert (pushed_tags(registry, "team/app"), pushed_tags(registry, "other")) == ({"7"}, {"8", "9"})


@pytest.mark.parametrize(("option", "value", "expected"), [
    ("--tag", "a/b", '--tag[0]: must be a tag such as "stable-1"'),
    ("--registry", "https://r.example", "--registry[0]: must be a registry such as registry.example"),
])  # fmt: skip
def test_error_names_the_option_and_not_its_variable(
    option: str, value: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(make_archive(tmp_path)), option, value]) == 1
    assert f"error: {expected}" in capsys.readouterr().err


def test_tag_templates_are_expanded_with_values_of_the_receipt(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Branch and date are only known if the commit of the image is checked out."""
    path, item = make_archive(tmp_path / "dist"), small_image()
    write_receipt(path, item, repositories=[f"{registry.host}/x"], version="2.0rc1", revision="0" * 40)
    monkeypatch.setenv("HATCH_DOCKER_TAGS", "{version}-amd64,g{revision},latest,{major}")
    assert main(["push", str(path)]) == 0
    assert pushed_tags(registry, "x") == {"2.0rc1-amd64", "g000000000000"}
    assert "2.0rc1 is a pre-release: not tagged" in capsys.readouterr().err
    assert main(["push", str(path), "--tag", "latest", "--tag", "v{major}"]) == 0
    assert pushed_tags(registry, "x") == {"2.0rc1-amd64", "g000000000000", "latest", "v2"}
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *command], check=True, env={**os.environ, "GIT_COMMITTER_DATE": "2024-02-29T12:00Z"})
    monkeypatch.setenv("HATCH_DOCKER_TAGS", "{branch}-{date}")
    assert main(["push", str(path)]) == 1
    assert "{branch} is not known" in capsys.readouterr().err
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    write_receipt(path, item, repositories=[f"{registry.host}/y"], version="2.0", revision=head)
    assert main(["push", str(path)]) == 0
    assert pushed_tags(registry, "y") == {"main-20240229"}
    write_receipt(path, item, repositories=[f"{registry.host}/y"], version="")
    monkeypatch.setenv("HATCH_DOCKER_TAGS", "{version}")
    assert main(["push", str(path)]) == 1
    assert "app-1.0.oci.tar has no version, which the tags need: set the tags with --tag" in capsys.readouterr().err


def test_tags_of_debug_variant_keep_their_suffix(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HATCH_DOCKER_TAGS gets the suffix; --tag does not."""
    tagged = ("1.0-debug", "latest-debug")
    path = make_archive(tmp_path / "dist", name="app-1.0.debug", tags=tagged)
    facts = {"repositories": [f"{registry.host}/x"], "version": "1.0", "tags": tagged}
    write_receipt(path, small_image(), **facts)
    for variable in ("{version},latest", "1.0,latest"):
        monkeypatch.setenv("HATCH_DOCKER_TAGS", variable)
        assert main(["push", str(path)]) == 0
        assert pushed_tags(registry, "x") == {"1.0-debug", "latest-debug"}
    assert main(["push", str(path), "--tag", "look"]) == 0
    assert pushed_tags(registry, "x") == {"1.0-debug", "latest-debug", "look"}


def test_push_without_receipt_uses_names_in_the_archive(
    registry: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_archive(tmp_path)
    assert main(["push", str(path)]) == 1
    assert "a push needs a registry, and image 'team/app' has none" in capsys.readouterr().err
    assert main(["push", str(path), "--registry", registry.host]) == 0
    assert pushed_tags(registry, "team/app") == {"1.0", "latest"}


@pytest.mark.parametrize("bare", [True, False])
def test_dirty_image_needs_allow_dirty(
    bare: bool, registry: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Uncommitted changes are recorded in the receipt; without a receipt, in the label of the revision."""
    settings = Settings(labels={PREFIX + "revision": "0123-dirty"})
    image = build_image(scratch(AMD64), [], settings, 0, {})
    path = make_archive(tmp_path, image)
    if not bare:
        write_receipt(path, image, dirty=["a.py"])
    assert main(["push", str(path), "--registry", registry.host]) == 1
    assert "allow-dirty" in capsys.readouterr().err
    assert registry.requests == []
    assert main(["push", str(path), "--registry", registry.host, "--allow-dirty"]) == 0


def test_transient_push_failure_exits_with_75(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """75 is EX_TEMPFAIL. The receipt has the error."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    path = make_archive(tmp_path)
    receipt = write_receipt(path, small_image(), repositories=[f"{registry.host}/app"])
    registry.fault("POST", "/blobs/", 503, times=99)
    assert main(["push", str(path)]) == 75
    (delivery,) = read_receipt(receipt).deliveries
    assert delivery.transient and "503" in delivery.error
    assert read_receipt(receipt).references == ()


def test_directory_must_have_exactly_one_archive(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"build it first \(`hatch-docker build`\)"):
        resolve_archive(tmp_path)
    path = make_archive(tmp_path)
    assert resolve_archive(tmp_path) == path
    make_archive(tmp_path, name="app-2.0")
    with pytest.raises(ConfigError, match=r"2 archives \(app-1.0.oci.tar, app-2.0.oci.tar\): choose one of them"):
        resolve_archive(tmp_path)


def test_archives_of_several_projects_go_to_their_repositories(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """GitHub's outputs have the projects' names as prefixes."""
    paths = []
    for name in ("app", "tool"):
        paths.append(make_archive(tmp_path / "dist", name=f"{name}-1.0"))
        write_receipt(paths[-1], small_image(), name=name, repositories=[f"{registry.host}/{name}"])
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    assert main(["push", *map(str, paths)]) == 0
    names = [f"{registry.host}/{name}@{small_image().digest}" for name in ("app", "tool")]
    assert capsys.readouterr().out.splitlines() == names
    found = read_outputs(tmp_path / "output")
    assert [found["app-reference"], found["tool-reference"]] == names


def test_push_sends_all_images_of_one_build(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If dist/ has archives of two builds, the command fails."""
    worker = small_image(small_layer("worker", b"worker"))
    for item, part in ((small_image(), ""), (worker, "worker")):
        path = make_archive(tmp_path / "dist", item, f"app-1.0{part and '.'}{part}")
        repositories = [f"{registry.host}/app{part and '-'}{part}"]
        write_receipt(path, item, name="my_app", version="1.0", part=part, repositories=repositories)
    monkeypatch.chdir(tmp_path)
    assert main(["push"]) == 1
    assert "contains 2 archives" in capsys.readouterr().err
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "My.App"\n[tool.hatch-docker.images.worker]\n')
    names = [f"{registry.host}/app@{small_image().digest}", f"{registry.host}/app-worker@{worker.digest}"]
    assert main(["push"]) == 0
    assert capsys.readouterr().out.splitlines() == names
    assert main(["push", "--registry", f"{registry.host}/one"]) == 1
    assert f"app-1.0.worker.oci.tar would be pushed as {registry.host}/one:1.0, and so would app-1.0.oci.tar" in (
        capsys.readouterr().err
    )
    assert pushed_tags(registry, "one") == set()
    monkeypatch.setenv("HATCH_DOCKER_IMAGES", "worker")
    assert main(["push"]) == 0
    assert capsys.readouterr().out.splitlines() == names[1:]
    write_receipt(make_archive(tmp_path / "dist", name="app-2.0"), small_image(), name="my_app", version="2.0")
    assert main(["push"]) == 1
    assert "contains 3 archives" in capsys.readouterr().err


@pytest.mark.parametrize(("pyproject", "is_used"), [
    ('[project]\nname = "My.App"\n[tool.hatch-docker]\n', True),
    ('[tool.poetry]\nname = "my-app"\n[tool.hatch-docker]\n', True),
    ('[project]\nname = "other"\n[tool.hatch-docker]\n', False),
    ("[tool.hatch-docker]\n", False),
    ("tool = 3\nproject = 3", False),
    ("[[", False),
])  # fmt: skip
def test_options_of_project_apply_to_its_own_archives_only(
    pyproject: str, is_used: bool, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Same as `hatch publish`: an archive of the project must not be pushed unsigned if `sign` is set."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/cosign").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)
    options = f'registries = ["{registry.host}/mine"]\nsign = {{ key = "cosign.key" }}\n' if "]\n" in pyproject else ""
    (tmp_path / "pyproject.toml").write_text(pyproject + options)
    path = make_archive(tmp_path)
    write_receipt(path, small_image(), name="my_app", repositories=[f"{registry.host}/receipt"])
    assert main(["push", str(path)]) == (1 if is_used else 0)  # the key does not exist
    assert ("receipt" in registry.repositories) == (not is_used)
    (tmp_path / "pyproject.toml").write_text((pyproject + options).replace("sign =", "labels ="))
    assert main(["push", str(path)]) == 0
    assert ("mine" in registry.repositories) == is_used


def test_receipt_of_another_image_is_rejected(tmp_path: Path) -> None:
    path = make_archive(tmp_path)
    write_receipt(path, small_index())
    with pytest.raises(ImageError, match=r"is not the receipt of app-1\.0\.oci\.tar"):
        receipt_of(path, small_image())


@pytest.mark.parametrize("wrong", [
    {"part": "x<<y\ndigest=evil\ny"}, {"part": "../x"}, {"name": "a\nb"}, {"version": 5}, {"archive": "../x.oci.tar"},
    {"tags": ["a\nb"]}, {"references": "x"}, {"dirty": [1]}, {"timings": {"build": "1"}}, {"wheel": {"filename": "x"}},
    {"sbom": [{"file": "../../x", "format": "spdx", "media_type": "", "digest": "", "subject": ""}]},
    "", "[]", "{}", '{"platforms": 3}', "[" * 100_000,
])  # fmt: skip
def test_receipt_with_invalid_values_is_rejected(wrong: dict[str, object] | str, tmp_path: Path) -> None:
    """Receipts are untrusted: their values become file names and outputs of CI jobs."""
    path = write_receipt(make_archive(tmp_path), small_image())
    read_receipt(path)
    path.write_text(wrong if isinstance(wrong, str) else json.dumps({**json.loads(path.read_text()), **wrong}))
    with pytest.raises(ImageError, match="not a receipt of this version of hatch-docker: build again"):
        read_receipt(path)


def test_archive_without_names_needs_a_tag(
    registry: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "Other Tool's.oci.tar"
    with path.open("wb") as stream:
        write_archive(small_image(), [], stream, host=AMD64)
    assert main(["push", str(path), "--registry", registry.host]) == 1
    assert "has no tags for its image" in capsys.readouterr().err
    assert main(["push", str(path), "--registry", registry.host, "--tag", "1"]) == 0
    assert pushed_tags(registry, "other-tool-s") == {"1"}


@pytest.mark.parametrize("make", ["missing", "empty"])
def test_invalid_archive_is_an_error_of_one_line(make: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.oci.tar"
    if make == "empty":
        path.touch()
    assert main(["push", str(path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_push_attaches_documents_of_the_receipt(registry: FakeRegistry, tmp_path: Path) -> None:
    """If a document has changed, the push fails before its first request."""
    path, data = make_archive(tmp_path / "dist"), b'{"bomFormat": "CycloneDX"}'
    document = {
        "file": "app-1.0.cdx.json", "format": "cyclonedx", "media_type": "application/vnd.cyclonedx+json",
        "digest": digest_of(data), "subject": small_image().digest,
    }
    receipt = write_receipt(path, small_image(), sbom=[document])
    (tmp_path / "dist/app-1.0.cdx.json").write_text("{}")
    assert main(["push", str(path), "--registry", registry.host]) == 1
    assert not registry.requests
    (tmp_path / "dist/app-1.0.cdx.json").write_bytes(data)
    assert main(["push", str(path), "--registry", registry.host]) == 0
    assert registry.repository("team/app").blobs[document["digest"]] == data
    assert read_receipt(receipt).deliveries[0].attached == 1
