"""Dependencies that are projects beside a project: uv's tables and hatch's, and all that they need."""

import os
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.build.lock import open_lock
from hatch_docker.build.plans import open_plans
from hatch_docker.core.errors import ConfigError
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import Plan
from hatch_docker.project.dependencies import needs_of
from hatch_docker.project.hatch import hatchling_project, open_hatchling
from hatch_docker.project.metadata import Metadata
from hatch_docker.project.workspace import is_member, member_places, read_members, workspace_lock, written_path
from hatch_docker.wheels.target import Target
from tests.fakes.plans import project
from tests.fakes.workspaces import UV_SOURCES, UV_WORKSPACE, write_member
from tests.projects import git

TARGET = Target("3.13.5", Platform("linux", "amd64"), ("glibc", "2.41"))


def places(root: Path) -> dict[str, str]:
    """Names and directories, relative to the workspace at the test's directory."""
    config = tomllib.loads((root / "pyproject.toml").read_text())
    return {name: path.name for name, path in member_places(root, config).items()}


@pytest.mark.parametrize("table", [
    '[tool.uv.workspace]\nmembers = ["packages/*"]\nexclude = ["packages/seed"]',
    '[tool.hatch.envs.default.workspace]\nmembers = ["packages/*"]\nexclude = ["packages/seed"]',
    '[tool.hatch.envs.a]\nworkspace = {members = [{path = "packages/*"}, "{root}/packages"], exclude = ["*/seed"]}',
])  # fmt: skip
def test_members_are_those_of_uvs_and_of_hatchs_tables(table: str, tmp_path: Path) -> None:
    """By pattern, but those that are excluded; by their own names, however written; not the project itself."""
    (tmp_path / "pyproject.toml").write_text(table)
    for name in ("app", "lib.One", "seed"):
        write_member(tmp_path / "packages" / name, name)
    (tmp_path / "packages/notes").mkdir()
    app = tmp_path / "packages/app"
    assert places(app) == {"lib-one": "lib.One"}
    assert is_member(app)
    assert not is_member(tmp_path / "packages/seed")
    assert not is_member(tmp_path)


def test_a_hatch_toml_above_and_a_root_that_is_a_project(tmp_path: Path) -> None:
    write_member(tmp_path, "top", dependencies=["lib"])
    (tmp_path / "hatch.toml").write_text('[envs.default]\nworkspace.members = ["lib"]\n')
    write_member(tmp_path / "lib", "lib")
    assert places(tmp_path / "lib") == {"top": tmp_path.name}


def test_sources_name_directories_and_others(tmp_path: Path) -> None:
    """A path beside the project is a project; what comes from an index, git or a URL is none, member or not."""
    (tmp_path / "pyproject.toml").write_text(UV_WORKSPACE)
    for name in ("app", "lib", "vendored"):
        write_member(tmp_path / "packages" / name, name)
    write_member(tmp_path / "elsewhere", "far")
    (tmp_path / "elsewhere/some.whl").touch()
    app = tmp_path / "packages/app"
    write_member(app, "app", more="""
[tool.uv.sources]
far = { path = "../../elsewhere", editable = true }
wheel = { path = "../../elsewhere/some.whl" }
vendored = { index = "ours" }
[tool.hatch.envs.default.sources]
lib = { workspace = true }
""")
    assert places(app) == {"lib": "lib", "far": "elsewhere"}


@pytest.mark.parametrize("line", ["URI", "file:///${PROJECT_ROOT}/../far", "poetry"])
def test_directories_that_requirements_and_members_name(line: str, tmp_path: Path) -> None:
    """By a direct reference or by Poetry's path, outside of the project; and those that such a directory names."""
    far, near = tmp_path / "far", tmp_path / "near"
    write_member(near, "near")
    write_member(far, "far", dependencies=["near"], more='[tool.uv.sources]\nnear = { path = "../near" }\n')
    named = [f"far @ {line.replace('URI', far.as_uri())}"] if line != "poetry" else ["far"]
    more = '[tool.poetry.group.x.dependencies]\nfar = { path = "../far", develop = true }\n' * (line == "poetry")
    write_member(tmp_path / "app", "app", dependencies=named, more=more)

    def read(place: Path) -> Metadata:
        table = tomllib.loads((place / "pyproject.toml").read_text())["project"]
        lines = tuple(table.get("dependencies", ()))
        return replace(project(name=table["name"], dependencies=lines, extras={}, groups={}), root=place)

    config = tomllib.loads((tmp_path / "app/pyproject.toml").read_text())
    members = read_members(read(tmp_path / "app"), config, read)
    assert {name: member.root for name, member in members.items()} == {"far": far, "near": near}


def test_a_path_that_is_too_long_is_no_directory(tmp_path: Path) -> None:
    write_member(tmp_path, "app", more=f'[tool.poetry.dependencies]\nfar = {{ path = "../{"x" * 300}" }}\n')
    assert places(tmp_path) == {}


def test_beyond_the_repository_nothing_counts(tmp_path: Path) -> None:
    """A workspace that somebody has above a checkout is not the checkout's."""
    (tmp_path / "pyproject.toml").write_text(UV_WORKSPACE)
    (tmp_path / "packages/app/.git").mkdir(parents=True)
    write_member(tmp_path / "packages/app", "app")
    write_member(tmp_path / "packages/lib", "lib")
    (tmp_path / "uv.lock").touch()
    (tmp_path / ".git").mkdir()
    assert workspace_lock(tmp_path / "packages/lib") == "../../uv.lock"
    inner = tmp_path / "packages/app/inner"
    write_member(inner, "inner")
    assert places(inner) == {}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_the_files_of_others_do_not_count(tmp_path: Path) -> None:
    """Whoever may write to a directory above, such as /tmp, has no say in what goes into an image."""
    (tmp_path / "pyproject.toml").write_text(UV_WORKSPACE)
    for name in ("app", "lib"):
        write_member(tmp_path / "packages" / name, name)
    assert places(tmp_path / "packages/app") == {"lib": "lib"}
    os.chown(tmp_path / "pyproject.toml", 12345, 12345)
    assert places(tmp_path / "packages/app") == {}
    os.chown(tmp_path / "packages/app", 12345, 12345)  # a checkout that somebody else owns, whole
    assert places(tmp_path / "packages/app") == {"lib": "lib"}


def test_needs_of_members_stand_for_them() -> None:
    """With their extras, and the marker under which they are needed; in a circle too; itself is its extras."""
    core = project(name="Core", version="0.3", dependencies=("idna; python_version < '4'",), extras={}, groups={})
    lib = project(
        name="lib", version="0.2", dependencies=("core", "click"), groups={},
        extras={"fast": ("h11", "app"), "all": ("lib[fast]",)},
    )  # fmt: skip
    app = project(
        name="app", dependencies=("Lib[all]>=0.1; sys_platform == 'linux'", "app[own]"), extras={"own": ("x",)},
        groups={}, members={"lib": lib, "core": core},
    )  # fmt: skip
    needs = needs_of(app, (), ())
    linux = 'sys_platform == "linux"'
    assert needs.members == {"core": (linux,), "lib": (linux,)}
    assert needs.requirements == (
        f"click; {linux}", f"h11; {linux}", f'idna; ({linux}) and (python_version < "4")', "x",
    )  # fmt: skip


def test_a_member_of_another_version_is_told_with_both() -> None:
    lib = project(name="lib", version="0.2", dependencies=(), extras={}, groups={})
    app = project(name="app", dependencies=("lib>=1",), extras={}, groups={}, members={"lib": lib})
    with pytest.raises(ConfigError, match=r"app requires lib>=1, but lib of its workspace is 0\.2"):
        needs_of(app, (), ())


def opened(root: Path, cache: Path, **environ: str) -> Plan:
    project = hatchling_project(open_hatchling(root), root)
    return open_plans(project, {"HATCH_DOCKER_CACHE_DIR": str(cache), **environ})[0][0]


def workspace(root: Path) -> Path:
    """app -> lib -> core, and one that nobody needs."""
    (root / "pyproject.toml").write_text(UV_WORKSPACE + UV_SOURCES)
    table = '[tool.hatch-docker]\nbase = "debian:trixie"\nentrypoint = []\ncmd = ["python"]\n'
    write_member(root / "packages/app", "app", dependencies=["lib", "h11"], more=table)
    write_member(root / "packages/lib", "lib", version="0.2", dependencies=["core; python_version >= '3'", "idna"])
    write_member(root / "packages/core", "core", more='[tool.hatch.build.targets.wheel.hooks.custom]\n')
    write_member(root / "packages/other", "other", dependencies=["numpy"])
    return root / "packages/app"


def test_the_plan_names_what_goes_along(tmp_path: Path) -> None:
    """Members with their paths and how each is built; others not; what they need of others is asked for."""
    plan = opened(workspace(tmp_path), tmp_path / "cache")
    assert [(item.name, item.version, item.path, item.build.isolated) for item in plan.members] == [
        ("core", "1.0", "../core", True), ("lib", "0.2", "../lib", False),
    ]  # fmt: skip
    assert plan.lock.requirements == ("h11", "idna")
    assert plan.lock.members == ("../core", "../lib")
    assert plan.lock.kind == "resolve"
    (tmp_path / "uv.lock").touch()
    assert opened(tmp_path / "packages/app", tmp_path / "cache").lock.path == "../../uv.lock"


def test_a_changed_member_makes_the_image_one_of_no_commit(tmp_path: Path) -> None:
    """An image that is pushed has all of its sources in a commit, or says so."""
    app = workspace(tmp_path)
    for arguments in (["init"], ["add", "."], ["commit", "-m", "all"]):
        git(tmp_path, *arguments)
    environ = {"PATH": os.environ["PATH"]}
    assert opened(app, tmp_path.parent / "cache", **environ).dirty == ()
    (tmp_path / "packages/other/other.py").write_text("changed = True\n")
    assert opened(app, tmp_path.parent / "cache", **environ).dirty == ()
    (tmp_path / "packages/lib/lib.py").write_text("changed = True\n")
    (dirty,) = opened(app, tmp_path.parent / "cache", **environ).dirty
    assert dirty == "../lib/lib.py"
    (tmp_path / "uv.lock").write_text("version = 1\n")  # by which the dependencies of all are installed
    assert opened(app, tmp_path.parent / "cache", **environ).dirty == ("../lib/lib.py", "../../uv.lock")
    git(tmp_path, "add", "uv.lock")
    git(tmp_path, "commit", "-m", "lock")
    assert opened(app, tmp_path.parent / "cache", **environ).dirty == ("../lib/lib.py",)


def test_a_project_that_is_not_what_its_directory_is_taken_for(tmp_path: Path) -> None:
    write_member(tmp_path / "lib", "other-name")
    write_member(tmp_path / "app", "app", dependencies=["lib"], more='[tool.uv.sources]\nlib = { path = "../lib" }\n')
    with pytest.raises(ConfigError, match="is other-name, but app depends on it as lib"):
        opened(tmp_path / "app", tmp_path / "cache")


@pytest.mark.parametrize("members", [
    "members = ['a**']", "members = [{x = 1}]", "members = 3", "members = ['p']\nexclude = 3",
])  # fmt: skip
def test_a_workspace_that_cannot_be_read(members: str, tmp_path: Path) -> None:
    write_member(tmp_path / "p", "p")
    (tmp_path / "pyproject.toml").write_text(f"[tool.uv.workspace]\n{members}\n")
    with pytest.raises(ConfigError, match=f"the workspace of {tmp_path} cannot be read: "):
        is_member(tmp_path / "p")


@pytest.mark.parametrize("text", ["tool = 1", "[tool]\nuv = 1\nhatch = 2", "[tool.hatch]\nenvs = 1"])
def test_tables_above_that_are_none(text: str, tmp_path: Path) -> None:
    write_member(tmp_path / "p", "p")
    (tmp_path / "pyproject.toml").write_text(f"{text} # workspace\n")
    assert not is_member(tmp_path / "p")


@pytest.mark.parametrize(("name", "allowed"), [
    ("x.lock", True), ("a/../x.lock", True), ("../../x.lock", True), ("../../../x.lock", False), ("/etc/x", False),
    ("link/x.lock", False), ("link", False), (".git/config", False), ("../../.git/hooks/x", False),
])
@pytest.mark.parametrize("whole", [".git", "workspace"])
def test_nothing_is_written_outside_of_the_whole(whole: str, name: str, allowed: bool, tmp_path: Path) -> None:
    """The whole is a repository or, without git, a workspace; who sets the variable decides for themselves."""
    root = write_member(tmp_path / "top/packages/app", "app")
    (root / "link").symlink_to(tmp_path)
    if whole == ".git":
        (tmp_path / "top/.git").mkdir()
    else:
        (tmp_path / "top/pyproject.toml").write_text(UV_WORKSPACE)
    if allowed:
        assert written_path(root, name, "option", "VARIABLE", {}) == root / name
        return
    with pytest.raises(ConfigError, match=f"^option: {name} is outside of the project; .*; set VARIABLE$"):
        written_path(root, name, "option", "VARIABLE", {"VARIABLE": ""})
    assert written_path(root, name, "option", "VARIABLE", {"VARIABLE": name}) == root / name


def test_lock_and_output_are_in_the_project(tmp_path: Path) -> None:
    """A lock of a project's own choice could be a file that a shell runs."""
    root = write_member(tmp_path, "app")
    with pytest.raises(ConfigError, match=r"tool.hatch-docker.pins: ../../.bash_login is outside of the project"):
        open_lock(root, {"tool": {"hatch-docker": {"pins": "../../.bash_login"}}}, {})
    with (root / "pyproject.toml").open("a") as stream:
        stream.write('\n[tool.hatch.build]\ndirectory = "../../out"\n')
    with pytest.raises(ConfigError, match=r"build: directory: .*/out is outside of .*; name that directory"):
        open_hatchling(root).output()
