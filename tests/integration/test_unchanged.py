"""Unchanged builds: a remembered result is used, and any single change of the input is noticed."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.build.receipt import read_receipt
from hatch_docker.build.unchanged import KIND, LIFETIME, recall
from hatch_docker.core.cache.store import RECENT
from tests.conftest import need
from tests.conftest import run as run_program
from tests.fakes.images import small_image
from tests.fakes.registry import FakeRegistry
from tests.integration.builds import Outcome, build, environment, run_in
from tests.integration.prepared_build import push_base, push_image
from tests.integration.remembered_build import (
    CHANGES,
    Edit,
    RememberedBuild,
    Undo,
    add_file,
    append,
    build_and_remember,
    command_of,
    edit_file,
    restorer,
    swap_a_byte,
)
from tests.projects import commit, git, write_files, write_project

pytestmark = pytest.mark.network

IGNORED = "made.txt\nimage.env\n"
FILES = {
    "data/a": "a", "data/sub/b": "b", "data/left-out/c": "c", "made.txt": "made", "README.md": "read",
    ".gitignore": IGNORED, "legal/licence": "text",
}  # fmt: skip
OPTIONS = """
files = [{source = "data", target = "/srv/data"}]
dotenv = "image.env"
[tool.hatch.build]
exclude = ["/data/left-out", "/legal"]
[tool.hatch.build.targets.wheel.force-include]
"made.txt" = "made.txt"
"""
DIST = tuple(f"dist/hello-1.0.0.{ending}" for ending in ("oci.tar", "image.json", "cdx.json", "provenance.json"))
LICENCE = 'license = {file = "legal/licence"}'
EXISTING = ("hello.py", "pyproject.toml", *FILES, "data/link", "image.env", *DIST)
NEW = (
    "new.py", "data/new", "data/sub/new", "package/__init__.py", "pylock.toml", "uv.lock", "poetry.lock", "pdm.lock",
    "requirements.txt", "requirements.lock", "hatch-docker.lock", "hatch.toml", "hatch_build.py", "LICENSE",
    ".hgignore", "uv.toml", ".hidden", "../pyproject.toml", "../hatch.toml", "../.gitignore", "../uv.toml",
    "../../home/.netrc", "../../home/.pip/pip.conf", "../../home/config/uv/uv.toml", "../../home/config/pip/pip.conf",
    "../../home/.docker/config.json", "../../imported/plugin.py", "dist/.hello-1.0.0.oci.tar.x.tmp",
)  # fmt: skip
VARIABLES = (
    *(f"HATCH_DOCKER_{name}" for name in (
        "BASE", "ENV", "LOAD", "PUSH", "TAGS", "IMAGES", "DEBUG", "REFRESH", "NO_CACHE", "OFFLINE", "ENGINE", "USER",
        "LABELS", "LOCK", "PINS", "SBOM", "COMPRESSION", "PLATFORMS", "PYTHON", "CHECK_COMMAND", "BUILD_ISOLATED",
    )),
    "SOURCE_DATE_EPOCH", "HATCH_BUILD_CLEAN", "HATCH_BUILD_HOOKS_ONLY", "PATH", "HOME", "LANG",
    "UV_INDEX", "UV_CONFIG_FILE", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "NETRC", "DOCKER_HOST", "DOCKER_CONTEXT",
    "https_proxy", "GITHUB_REF_NAME", "CI", "BUILD_SECRET", "PYTHONPATH", "TERM",
)  # fmt: skip

BUILD = """
import sys
sys.argv = {words}
from {module} import {name}
try:
    {name}()
finally:
    print(sorted({{name.partition(".")[0] for name in sys.modules}} & {{"pydantic", "urllib3", "docker", "packaging"}}))
"""
ENTRIES = {"hatchling": ("hatchling.cli", "hatchling"), "hatch-docker": ("hatch_docker.cli.main", "main")}


@pytest.fixture(scope="module")
def cache(hello_cache: Path) -> Path:
    return hello_cache


@pytest.fixture(scope="module")
def remembered(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[RememberedBuild]:
    """Remember a build of a project in git: a base by tag, `files` with a link, an ignored file, a dotenv report."""
    place = tmp_path_factory.mktemp("unchanged")
    root, imported = place / "above/project", place / "imported"
    with FakeRegistry() as registry, pytest.MonkeyPatch.context() as patch:
        base = push_base(registry, cache, place / "base")
        write_files(write_project("hello", root, base=base, options=OPTIONS), FILES)
        pyproject = root / "pyproject.toml"
        pyproject.write_text(pyproject.read_text().replace("[project]", f"[project]\n{LICENCE}"))
        (root / "data/link").symlink_to("a")
        commit(root, "v1")
        imported.mkdir()
        patch.syspath_prepend(str(imported))
        home = {"HOME": str(place / "home"), "XDG_CONFIG_HOME": str(place / "home/config")}
        environ = environment(cache, {**home, "HATCH_VERBOSE": "1"})  # prints why a build is not remembered
        yield build_and_remember(root, environ, place, registry)


def add_commit(root: Path) -> Undo:
    git(root, "commit", "--allow-empty", "-qm", "more")
    return lambda: git(root, "reset", "-q", "--soft", "HEAD~1")


def switch_branch(root: Path) -> Undo:
    git(root, "checkout", "-q", "-b", "other")
    return lambda: (git(root, "checkout", "-q", "main"), git(root, "branch", "-qD", "other"))


def remove_repository(root: Path) -> Undo:
    (root / ".git").rename(root / "../../git")
    return lambda: (root / "../../git").rename(root / ".git")


def make_directory(root: Path) -> Undo:
    (root / "data/empty").mkdir()
    return (root / "data/empty").rmdir


EDITS: dict[str, Edit] = {
    **{f"{name} is {title}": edit_file(name, change) for name in EXISTING for title, change in CHANGES.items()},
    **{f"{name} is new": add_file(name) for name in NEW},
    "a commit": add_commit, "a branch": switch_branch, "no repository": remove_repository,
    "an empty directory": make_directory,
}  # fmt: skip


@pytest.mark.parametrize("names", [list(EDITS)[start::8] for start in range(8)], ids=str)
def test_single_edit_is_noticed(names: list[str], remembered: RememberedBuild) -> None:
    """Of sources, ignored files in the wheel, locks, tables, dist/, the user's configuration, or the repository."""
    assert [name for name in names if not remembered.is_noticed(EDITS[name])] == []


def move_away(root: Path) -> Undo:
    (root / "data/sub").rename(root / "../sub")
    return lambda: (root / "../sub").rename(root / "data/sub")


def set_clock_back(_root: Path) -> Undo:
    patch, now = pytest.MonkeyPatch(), time.monotonic
    patch.setattr(time, "monotonic", lambda: now() + 1)
    return patch.undo


def write_another_receipt(root: Path) -> Undo:
    """Change the tags in the receipt, as a parallel build with other variables would."""
    undo = restorer(root / DIST[1])
    receipt = replace(read_receipt(root / DIST[1]), tags=("other",))
    receipt.write(root / DIST[1])
    return undo


@pytest.mark.parametrize("edit", [
    edit_file("data/sub/b", Path.unlink), edit_file("hello.py", Path.unlink), add_file("data/sub/new"), move_away,
    set_clock_back, write_another_receipt, edit_file(DIST[0], swap_a_byte), edit_file(DIST[2], append),
])  # fmt: skip
def test_changes_during_the_build_prevent_remembering(edit: Edit, remembered: RememberedBuild) -> None:
    """The build may have read other input: files are removed or added, the clock is set back, another build runs."""
    time.sleep(2 * RECENT)
    key = command_of(remembered.root, remembered.environ).key
    (remembered.ctx.store.root / "facts" / KIND / key).unlink(missing_ok=True)
    undo: list[Undo] = []
    remembered.remember(lambda: undo.append(edit(remembered.root)))
    recalled = remembered.is_recalled()
    undo[0]()
    assert not recalled


def test_change_of_sys_path_is_noticed(remembered: RememberedBuild, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another environment may have another hatchling, which writes its version into the wheel."""

    def change_path(_root: Path) -> Undo:
        monkeypatch.setattr(sys, "path", [*sys.path, "/other/site-packages"])
        return monkeypatch.undo

    assert remembered.is_noticed(change_path)


def test_unwritable_pipeline_output_is_an_ordinary_build(remembered: RememberedBuild, tmp_path: Path) -> None:
    time.sleep(2 * RECENT)
    remembered.remember()
    lines: list[str] = []
    environ = {**remembered.environ, "GITHUB_OUTPUT": str(tmp_path / "none/output")}
    assert recall(command_of(remembered.root, environ), lines.append, 0) is None
    assert lines == []


def test_at_least_200_inputs_are_changed() -> None:
    assert len(EDITS) + len(VARIABLES) >= 200


def test_change_of_a_variable_is_noticed(remembered: RememberedBuild) -> None:
    time.sleep(2 * RECENT)
    remembered.remember()
    assert remembered.is_recalled({"PWD": "/", "SHLVL": "7", "_": "x"})
    lines: list[str] = []  # the remembered build prints none with -q; -v needs an ordinary build
    for verbosity, variables in ((-1, {"HATCH_QUIET": "1"}), (1, {"HATCH_VERBOSE": "1"})):
        found = recall(command_of(remembered.root, {**remembered.environ, **variables}), lines.append, verbosity)
        assert (found is not None, lines) == (verbosity < 0, [])
    assert [name for name in VARIABLES if remembered.is_recalled({name: "1"})] == []


def test_moved_tag_of_the_base_is_noticed(remembered: RememberedBuild) -> None:
    name = f"{remembered.registry.host}/base:1"

    def push_another_base(_root: Path) -> Undo:
        manifests = remembered.registry.repositories["base"].manifests
        before = manifests["1"]
        push_image(small_image(), name)
        return lambda: manifests.update({"1": before})

    assert remembered.is_noticed(push_another_base)


def test_damaged_or_old_record_is_not_used(
    remembered: RememberedBuild, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = remembered.ctx.store.root / "facts" / KIND / command_of(remembered.root, remembered.environ).key
    assert remembered.is_noticed(lambda _root: (append(path), restorer(path))[1])
    now = time.time()

    def later(_root: Path) -> Undo:
        monkeypatch.setattr(time, "time", lambda: now + 2 * LIFETIME)
        return monkeypatch.undo

    assert remembered.is_noticed(later)


@pytest.mark.parametrize("place", [".", "..", "../.."])
def test_record_that_others_can_write_is_not_used(place: str, remembered: RememberedBuild) -> None:
    """A forged record could name files to write."""
    path = remembered.ctx.store.root / "facts" / KIND / place
    mode = path.stat().st_mode

    def make_writable(_root: Path) -> Undo:
        path.chmod(0o777)
        return lambda: path.chmod(mode)

    assert remembered.is_noticed(make_writable)


@pytest.mark.parametrize(("words", "imported"), [
    (["hatchling", "build", "-t", "docker"], []), (["hatchling", "build", "-t", "docker:push"], ["urllib3"]),
    (["hatch-docker", "build"], []), (["hatch-docker", "build", "--push"], ["urllib3"]),
], ids=" ".join)
def test_remembered_build_equals_an_ordinary_one(
    words: list[str], imported: list[str], tmp_path: Path, cache: Path, remembered: RememberedBuild
) -> None:
    """Lines, receipt and outputs for pipelines agree. It imports no library, or an HTTP client if it pushes."""
    name = f"{remembered.registry.host}/{tmp_path.name.lower().replace('_', '-')}"
    project = write_project("hello", tmp_path / "p", options=f'image = "{name}"\ndotenv = "image.env"')
    module, entry = ENTRIES[words[0]]
    program = BUILD.format(words=words, module=module, name=entry)

    def run(name: str = "", **variables: str) -> tuple[str, list[Any]]:
        outputs = tmp_path / (name or "untold")
        variables |= {"GITHUB_OUTPUT": str(outputs)} if name else {}
        outcome = run_in(project, cache, sys.executable, "-c", program, variables=variables)
        assert outcome.status == 0, outcome.output
        *lines, imports = outcome.output.splitlines()
        texts = [path.read_text() for path in (outputs, project / "image.env") if path.exists()]
        done = [{**delivery, "seconds": 0} for delivery in outcome.receipt["deliveries"]]
        return imports, [lines, {**outcome.receipt, "timings": {}, "steps": [], "deliveries": done}, *texts]

    run()
    imports, ordinary = run("ordinary", OTHER="1")  # with another variable the build is not remembered
    assert imports == str(["packaging", *imported])  # the options have a cache of their own
    run()
    imports, unchanged = run()
    assert imports == str(imported)
    assert "nothing changed since the previous build" in unchanged[0]
    assert run("unchanged")[1] == ordinary


def test_command_line_options_are_noticed(tmp_path: Path, cache: Path) -> None:
    """Each set of options is remembered separately. With --no-cache the layers are made again; the cache stays."""
    with FakeRegistry() as registry:
        project = write_project("hello", tmp_path / "p", base=push_base(registry, cache, tmp_path / "base"))
        time.sleep(2 * RECENT)  # a build is not remembered if a file was written a moment before

        def run(*words: str) -> tuple[bool, Outcome]:
            outcome = run_in(project, cache, sys.executable, "-m", "hatch_docker", "build", *words)
            assert outcome.status == 0, outcome.output
            return list(outcome.receipt["timings"]) == ["build"], outcome  # the remembered build

        run("-t", "shop:1")
        unchanged, first = run("-t", "shop:1")
        assert unchanged
        assert (first.receipt["image"], first.receipt["tags"]) == ("shop", ["1"])
        for tag in ("2", "1"):
            unchanged, other = run("-t", f"shop:{tag}")
            assert not unchanged
            assert (other.receipt["tags"], other.digest, other.new_layers()) == ([tag], first.digest, [])
        before = len(registry.requests)
        unchanged, again = run("-t", "shop:1", "--no-cache")
        assert not unchanged
        assert (again.digest, again.new_layers()) == (first.digest, ["project"])
        assert len(registry.requests) > before
        assert list((cache / "v1/tmp").iterdir()) == []
        assert run("-t", "shop:1")[1].new_layers() == []


def test_edited_project_has_another_digest(tmp_path: Path, cache: Path) -> None:
    """Three builds after each edit: all have the digest of a build in another directory."""
    project = write_project("hello", tmp_path / "p")
    digests = set()
    edits = {"hello.py": "EDIT = 1\n", "pyproject.toml": 'user = "1000"\n', "hatch.toml": "[build]\nexclude = ['x']\n"}
    for name, text in {"": "", **edits}.items():
        if name:
            with (project / name).open("a") as stream:
                stream.write(text)
        found = [build(project, cache).digest for _ in range(3)]
        other = shutil.copytree(project, tmp_path / f"other-{name}", ignore=shutil.ignore_patterns("dist"))
        assert {*found} == {build(other, cache).digest}
        digests |= {*found}
    assert len(digests) == 3  # hatch.toml excludes a file that does not exist


EDIT_AFTER_READING = """
import os, sys, time
from pathlib import Path
from hatchling.bridge.app import Application
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
plugins, root = PluginManager(), os.getcwd()
metadata, builder = ProjectMetadata(root, plugins), plugins.builder.get("docker")
metadata.config, metadata.core.name  # an earlier target reads them
if "user" not in metadata.config["tool"]["hatch-docker"]:
    with open("pyproject.toml", "a") as stream:
        stream.write('user = "1000"\\n')
time.sleep(0.2)
list(builder(root, plugin_manager=plugins, metadata=metadata, app=Application()).build(directory=None))
"""


def test_edit_while_another_target_is_built_is_noticed(tmp_path: Path, cache: Path) -> None:
    """All targets of `hatch build -t wheel -t docker` use the pyproject.toml that the first target has read."""
    project = write_project("hello", tmp_path / "p")
    for _ in range(2):
        outcome = run_in(project, cache, sys.executable, "-c", EDIT_AFTER_READING)
        assert outcome.status == 0, outcome.output
    assert outcome.image().config_json["config"]["User"] == "1000"


@pytest.mark.engine
def test_image_missing_in_the_daemon_is_loaded_again(docker: str, tmp_path: Path, cache: Path) -> None:
    project = write_project("hello", tmp_path / "p")
    name = "hatch-docker-unchanged"
    variables = {
        "HATCH_DOCKER_LOAD": "always", "HATCH_DOCKER_IMAGE": name, "HATCH_DOCKER_TAGS": "1",
        "HATCH_DOCKER_ARCHIVE": "0",
    }  # fmt: skip

    def image_id() -> str:
        return run_program(docker, "image", "inspect", "--format", "{{.Id}}", f"{name}:1").strip()

    build(project, cache, variables={**variables, "HATCH_DOCKER_TAGS": "2", "HATCH_DOCKER_USER": "1000"})
    build(project, cache, variables=variables)
    expected = image_id()
    for words in (["rmi", "-f", f"{name}:1"], ["tag", f"{name}:2", f"{name}:1"]):
        run_program(docker, *words)
        outcome = build(project, cache, variables=variables)
        assert image_id() == expected
    assert not list((project / "dist").glob("*.oci.tar"))
    assert outcome.output.splitlines()[-1].endswith(".image.json")
    run_program(docker, "rmi", "-f", f"{name}:1", f"{name}:2")


@pytest.mark.engine
def test_podman_runs_only_if_its_images_have_changed(podman: dict[str, str], tmp_path: Path, cache: Path) -> None:
    project, log = write_project("hello", tmp_path / "p"), tmp_path / "log"
    script = f'#!/bin/sh\necho "$@" >> {log}\nexec {need("podman")} "$@"\n'
    wrapper = write_files(tmp_path / "bin", {"podman": script})
    (wrapper / "podman").chmod(0o755)
    path = {"PATH": f"{wrapper}:{os.environ['PATH']}", "DOCKER_HOST": f"unix://{tmp_path}/none"}
    variables = {**podman, **path, "HATCH_DOCKER_LOAD": "always", "XDG_RUNTIME_DIR": str(tmp_path)}
    time.sleep(2 * RECENT)  # a build is not remembered if a file was written a moment before
    build(project, cache, variables=variables)
    calls = log.read_text()
    build(project, cache, variables=variables)
    assert log.read_text() == calls
    run_program("podman", "rmi", "--all", "--force", variables=podman)
    assert "hello:1.0.0" in build(project, cache, variables=variables).output
    assert {"load", "pull"} & {*log.read_text().removeprefix(calls).split()}
