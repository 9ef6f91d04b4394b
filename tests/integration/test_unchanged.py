"""Builds of which nothing changed: what they leave out, and that any single change is noticed."""

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
from tests.integration.prepared_build import push_image, serve_base
from tests.integration.remembered_build import (
    CHANGES,
    Bench,
    Edit,
    Undo,
    added,
    append,
    changed,
    command,
    remembered,
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
def bench(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Bench]:
    """A project in a repository: a base's tag, `files` with a link, an ignored file in its wheel, a dotenv report."""
    place = tmp_path_factory.mktemp("unchanged")
    root, imported = place / "above/project", place / "imported"
    with FakeRegistry() as registry, pytest.MonkeyPatch.context() as patch:
        base = serve_base(registry, cache, place / "base")
        write_files(write_project("hello", root, base=base, options=OPTIONS), FILES)
        pyproject = root / "pyproject.toml"
        pyproject.write_text(pyproject.read_text().replace("[project]", f"[project]\n{LICENCE}"))
        (root / "data/link").symlink_to("a")
        commit(root, "v1")
        imported.mkdir()
        patch.syspath_prepend(str(imported))
        home = {"HOME": str(place / "home"), "XDG_CONFIG_HOME": str(place / "home/config")}
        environ = environment(cache, {**home, "HATCH_VERBOSE": "1"})  # so that it says why there is no memory
        yield remembered(root, environ, place, registry)


def committed(root: Path) -> Undo:
    git(root, "commit", "--allow-empty", "-qm", "more")
    return lambda: git(root, "reset", "-q", "--soft", "HEAD~1")


def branched(root: Path) -> Undo:
    git(root, "checkout", "-q", "-b", "other")
    return lambda: (git(root, "checkout", "-q", "main"), git(root, "branch", "-qD", "other"))


def unversioned(root: Path) -> Undo:
    (root / ".git").rename(root / "../../git")
    return lambda: (root / "../../git").rename(root / ".git")


def made_directory(root: Path) -> Undo:
    (root / "data/empty").mkdir()
    return (root / "data/empty").rmdir


EDITS: dict[str, Edit] = {
    **{f"{name} is {title}": changed(name, change) for name in EXISTING for title, change in CHANGES.items()},
    **{f"{name} is new": added(name) for name in NEW},
    "a commit": committed, "a branch": branched, "no repository": unversioned, "an empty directory": made_directory,
}  # fmt: skip


@pytest.mark.parametrize("names", [list(EDITS)[start::8] for start in range(8)], ids=str)
def test_a_single_edit_is_noticed(names: list[str], bench: Bench) -> None:
    """Sources, ignored files of the wheel, locks, tables, files in dist/, configuration of the user, commits."""
    assert [name for name in names if not bench.notices(EDITS[name])] == []


def moved_away(root: Path) -> Undo:
    (root / "data/sub").rename(root / "../sub")
    return lambda: (root / "../sub").rename(root / "data/sub")


def set_back(_root: Path) -> Undo:
    patch, now = pytest.MonkeyPatch(), time.monotonic
    patch.setattr(time, "monotonic", lambda: now() + 1)
    return patch.undo


def of_another_build(root: Path) -> Undo:
    """Give the image another name, as a build of other variables does that writes the same files."""
    undo = restorer(root / DIST[1])
    receipt = replace(read_receipt(root / DIST[1]), tags=("other",))
    receipt.write(root / DIST[1])
    return undo


@pytest.mark.parametrize("edit", [
    changed("data/sub/b", Path.unlink), changed("hello.py", Path.unlink), added("data/sub/new"), moved_away, set_back,
    of_another_build, changed(DIST[0], swap_a_byte), changed(DIST[2], append),
])  # fmt: skip
def test_what_happens_while_the_build_runs_leaves_no_memory(edit: Edit, bench: Bench) -> None:
    """Files that go or come, a clock set back, another build: no memory is left, as the build read something else."""
    time.sleep(2 * RECENT)
    (bench.ctx.store.root / "facts" / KIND / command(bench.root, bench.environ).key).unlink(missing_ok=True)
    undo: list[Undo] = []
    bench.remember(lambda: undo.append(edit(bench.root)))
    recalled = bench.is_recalled()
    undo[0]()
    assert not recalled


def test_another_environment_of_python_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have another hatchling, which writes its version into the wheel; its variables may be the same."""

    def other(_root: Path) -> Undo:
        monkeypatch.setattr(sys, "path", [*sys.path, "/other/site-packages"])
        return monkeypatch.undo

    assert bench.notices(other)


def test_a_pipeline_that_cannot_be_told_is_an_ordinary_build_without_lines(bench: Bench, tmp_path: Path) -> None:
    time.sleep(2 * RECENT)
    bench.remember()
    lines: list[str] = []
    environ = {**bench.environ, "GITHUB_OUTPUT": str(tmp_path / "none/output")}
    assert recall(command(bench.root, environ), lines.append, 0) is None
    assert lines == []


def test_two_hundred_inputs_are_tried() -> None:
    assert len(EDITS) + len(VARIABLES) >= 200


def test_a_variable_is_noticed(bench: Bench) -> None:
    time.sleep(2 * RECENT)
    bench.remember()
    assert bench.is_recalled({"PWD": "/", "SHLVL": "7", "_": "x"})
    lines: list[str] = []  # -q shows none and -v all, whichever build is remembered
    for verbosity, variables in ((-1, {"HATCH_QUIET": "1"}), (1, {"HATCH_VERBOSE": "1"})):
        found = recall(command(bench.root, {**bench.environ, **variables}), lines.append, verbosity)
        assert (found is not None, lines) == (verbosity < 0, [])
    assert [name for name in VARIABLES if bench.is_recalled({name: "1"})] == []


def test_a_tag_that_names_another_base_is_noticed(bench: Bench) -> None:
    name = f"{bench.registry.host}/base:1"

    def pushed(_root: Path) -> Undo:
        manifests = bench.registry.repositories["base"].manifests
        before = manifests["1"]
        push_image(small_image(), name)
        return lambda: manifests.update({"1": before})

    assert bench.notices(pushed)


def test_a_memory_that_is_damaged_or_a_day_old_is_an_ordinary_build(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bench.ctx.store.root / "facts" / KIND / command(bench.root, bench.environ).key
    assert bench.notices(lambda _root: (append(path), restorer(path))[1])
    now = time.time()

    def later(_root: Path) -> Undo:
        monkeypatch.setattr(time, "time", lambda: now + 2 * LIFETIME)
        return monkeypatch.undo

    assert bench.notices(later)


@pytest.mark.parametrize("place", [".", "..", "../.."])
def test_a_memory_that_others_may_write_is_not_read(place: str, bench: Bench) -> None:
    """A forged one names files to write."""
    path = bench.ctx.store.root / "facts" / KIND / place
    mode = path.stat().st_mode

    def opened(_root: Path) -> Undo:
        path.chmod(0o777)
        return lambda: path.chmod(mode)

    assert bench.notices(opened)


@pytest.mark.parametrize(("words", "imported"), [
    (["hatchling", "build", "-t", "docker"], []), (["hatchling", "build", "-t", "docker:push"], ["urllib3"]),
    (["hatch-docker", "build"], []), (["hatch-docker", "build", "--push"], ["urllib3"]),
], ids=" ".join)
def test_an_unchanged_build_says_and_writes_the_same_and_imports_no_library(
    words: list[str], imported: list[str], tmp_path: Path, cache: Path, bench: Bench
) -> None:
    """The same as an ordinary build without changes: its lines, its receipt, and the outputs of a pipeline.

    The ordinary one imports neither pydantic nor, unless it pushes, a client of a server.
    """
    name = f"{bench.registry.host}/{tmp_path.name.lower().replace('_', '-')}"
    project = write_project("hello", tmp_path / "p", options=f'image = "{name}"\ndotenv = "image.env"')
    module, entry = ENTRIES[words[0]]
    program = BUILD.format(words=words, module=module, name=entry)

    def run(name: str = "", **variables: str) -> tuple[str, list[Any]]:
        told = tmp_path / (name or "untold")
        variables |= {"GITHUB_OUTPUT": str(told)} if name else {}
        outcome = run_in(project, cache, sys.executable, "-c", program, variables=variables)
        assert outcome.status == 0, outcome.output
        *lines, modules = outcome.output.splitlines()
        texts = [path.read_text() for path in (told, project / "image.env") if path.exists()]
        done = [{**delivery, "seconds": 0} for delivery in outcome.receipt["deliveries"]]
        return modules, [lines, {**outcome.receipt, "timings": {}, "steps": [], "deliveries": done}, *texts]

    run()
    modules, ordinary = run("ordinary", OTHER="1")  # another variable is another memory
    assert modules == str(["packaging", *imported])  # the options are remembered by themselves
    run()
    modules, unchanged = run()
    assert modules == str(imported)
    assert "nothing changed since the previous build" in unchanged[0]
    assert run("unchanged")[1] == ordinary


def test_options_of_the_command_line_are_noticed(tmp_path: Path, cache: Path) -> None:
    """Each set of them has its own memory; with --no-cache everything is made again, and the user's cache stays."""
    with FakeRegistry() as registry:
        project = write_project("hello", tmp_path / "p", base=serve_base(registry, cache, tmp_path / "base"))
        time.sleep(2 * RECENT)  # a file that was just written leaves no memory

        def run(*words: str) -> tuple[bool, Outcome]:
            outcome = run_in(project, cache, sys.executable, "-m", "hatch_docker", "build", *words)
            assert outcome.status == 0, outcome.output
            return list(outcome.receipt["timings"]) == ["build"], outcome  # as a memory says

        run("-t", "shop:1")
        unchanged, first = run("-t", "shop:1")
        assert unchanged
        assert (first.receipt["image"], first.receipt["tags"]) == ("shop", ["1"])
        for tag in ("2", "1"):
            unchanged, other = run("-t", f"shop:{tag}")
            assert not unchanged
            assert (other.receipt["tags"], other.digest, other.made()) == ([tag], first.digest, [])
        before = len(registry.requests)
        unchanged, again = run("-t", "shop:1", "--no-cache")
        assert not unchanged
        assert (again.digest, again.made()) == (first.digest, ["project"])
        assert len(registry.requests) > before
        assert list((cache / "v1/tmp").iterdir()) == []
        assert run("-t", "shop:1")[1].made() == []


def test_an_edited_project_is_another_image(tmp_path: Path, cache: Path) -> None:
    """Whole builds, each after an unchanged one: the digest is that of a build in another directory."""
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
    assert len(digests) == 3  # hatch.toml excludes nothing that there is


LATE = """
import os, sys, time
from pathlib import Path
from hatchling.bridge.app import Application
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
plugins, root = PluginManager(), os.getcwd()
metadata, builder = ProjectMetadata(root, plugins), plugins.builder.get("docker")
metadata.config, metadata.core.name  # as a target before does
if "user" not in metadata.config["tool"]["hatch-docker"]:
    with open("pyproject.toml", "a") as stream:
        stream.write('user = "1000"\\n')
time.sleep(0.2)
list(builder(root, plugin_manager=plugins, metadata=metadata, app=Application()).build(directory=None))
"""


def test_an_edit_while_another_target_is_built_is_noticed(tmp_path: Path, cache: Path) -> None:
    """All targets of `hatch build -t wheel -t docker` share the pyproject.toml that the first one read."""
    project = write_project("hello", tmp_path / "p")
    for _ in range(2):
        outcome = run_in(project, cache, sys.executable, "-c", LATE)
        assert outcome.status == 0, outcome.output
    assert outcome.image().config_json["config"]["User"] == "1000"


@pytest.mark.engine
def test_an_image_that_left_the_daemon_is_loaded_again(docker: str, tmp_path: Path, cache: Path) -> None:
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
def test_podman_is_asked_only_when_its_images_change(podman: dict[str, str], tmp_path: Path, cache: Path) -> None:
    project, log = write_project("hello", tmp_path / "p"), tmp_path / "log"
    script = f'#!/bin/sh\necho "$@" >> {log}\nexec {need("podman")} "$@"\n'
    wrapper = write_files(tmp_path / "bin", {"podman": script})
    (wrapper / "podman").chmod(0o755)
    path = {"PATH": f"{wrapper}:{os.environ['PATH']}", "DOCKER_HOST": f"unix://{tmp_path}/none"}
    variables = {**podman, **path, "HATCH_DOCKER_LOAD": "always", "XDG_RUNTIME_DIR": str(tmp_path)}
    time.sleep(2 * RECENT)  # a file that was just written leaves no memory
    build(project, cache, variables=variables)
    asked = log.read_text()
    build(project, cache, variables=variables)
    assert log.read_text() == asked
    run_program("podman", "rmi", "--all", "--force", variables=podman)
    assert "hello:1.0.0" in build(project, cache, variables=variables).output
    assert {"load", "pull"} & {*log.read_text().removeprefix(asked).split()}
