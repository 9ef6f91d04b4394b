"""Dependencies that are workspace members or local directories, from the tables of uv, hatch and Poetry."""

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
from hatch_docker.project.dependencies import collect_requirements
from hatch_docker.project.hatch import hatchling_project, open_hatchling
from hatch_docker.project.metadata import Metadata
from hatch_docker.project.workspace import (
    is_member,
    member_directories,
    read_members,
    workspace_lock,
    writable_path,
)
from hatch_docker.wheels.target import Target
from tests.fakes.plans import project
from tests.fakes.workspaces import UV_SOURCES, UV_WORKSPACE, write_member
from tests.projects import git

TARGET = Target("3.13.5", Platform("linux", "amd64"), ("glibc", "2.41"))


def places(root: Path) -> dict[str, str]:
    """Return the member directories of a project: normalised name to the directory's name."""
    config = tomllib.loads((root / "pyproject.toml").read_text())
    return {name: path.name for name, path in member_directories(root, config).items()}


@pytest.mark.parametrize("table", [
    '[tool.uv.workspace]\nmembers = ["packages/*"]\nexclude = ["packages/seed"]',
    '[tool.hatch.envs.default.workspace]\nmembers = ["packages/*"]\nexclude = ["packages/seed"]',
    '[tool.hatch.envs.a]\nworkspace = {members = [{path = "packages/*"}, "{root}/packages"], exclude = ["*/seed"]}',
])  # fmt: skip
def test_members_from_tables_of_uv_and_hatch(table: str, tmp_path: Path) -> None:
    """Excluded members and the project itself are not included; names are normalised."""
    (tmp_path / "pyproject.toml").write_text(table)
    for name in ("app", "lib.One", "seed"):
        write_member(tmp_path / "packages" / name, name)
    (tmp_path / "packages/notes").mkdir()
    app = tmp_path / "packages/app"
    assert places(app) == {"lib-one": "lib.One"}
    assert is_member(app)
    assert not is_member(tmp_path / "packages/seed")
    assert not is_member(tmp_path)


def test_workspace_in_hatch_toml_includes_its_root_project(tmp_path: Path) -> None:
    write_member(tmp_path, "top", dependencies=["lib"])
    (tmp_path / "hatch.toml").write_text('[envs.default]\nworkspace.members = ["lib"]\n')
    write_member(tmp_path / "lib", "lib")
    assert places(tmp_path / "lib") == {"top": tmp_path.name}


def test_uv_sources_with_a_path_or_an_index(tmp_path: Path) -> None:
    """A directory becomes a member; a member whose source is an index, git or a URL does not."""
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
def test_members_outside_of_the_project(line: str, tmp_path: Path) -> None:
    """A `file:` URL or a path of Poetry adds a member, and the members that this member depends on."""
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


def test_too_long_path_is_ignored(tmp_path: Path) -> None:
    write_member(tmp_path, "app", more=f'[tool.poetry.dependencies]\nfar = {{ path = "../{"x" * 300}" }}\n')
    assert places(tmp_path) == {}


def test_workspace_outside_of_the_repository_is_ignored(tmp_path: Path) -> None:
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


@pytest.mark.skipif(os.getuid() != 0, reason="only root can change a file's owner")
def test_workspace_of_another_user_is_ignored(tmp_path: Path) -> None:
    """A user who may write to a directory above, such as /tmp, must not influence the image."""
    (tmp_path / "pyproject.toml").write_text(UV_WORKSPACE)
    for name in ("app", "lib"):
        write_member(tmp_path / "packages" / name, name)
    assert places(tmp_path / "packages/app") == {"lib": "lib"}
    os.chown(tmp_path / "pyproject.toml", 12345, 12345)
    assert places(tmp_path / "packages/app") == {}
    os.chown(tmp_path / "packages/app", 12345, 12345)  # the project and the workspace have the same owner
    assert places(tmp_path / "packages/app") == {"lib": "lib"}


def test_members_are_replaced_by_their_requirements() -> None:
    """Extras and markers are applied. Cycles, and requirements on the project itself, are allowed."""
    core = project(name="Core", version="0.3", dependencies=("idna; python_version < '4'",), extras={}, groups={})
    lib = project(
        name="lib", version="0.2", dependencies=("core", "click"), groups={},
        extras={"fast": ("h11", "app"), "all": ("lib[fast]",)},
    )  # fmt: skip
    app = project(
        name="app", dependencies=("Lib[all]>=0.1; sys_platform == 'linux'", "app[own]"), extras={"own": ("x",)},
        groups={}, members={"lib": lib, "core": core},
    )  # fmt: skip
    needs = collect_requirements(app, (), ())
    linux = 'sys_platform == "linux"'
    assert needs.members == {"core": (linux,), "lib": (linux,)}
    assert needs.requirements == (
        f"click; {linux}", f"h11; {linux}", f'idna; ({linux}) and (python_version < "4")', "x",
    )  # fmt: skip


def test_member_of_an_unfit_version_is_reported() -> None:
    lib = project(name="lib", version="0.2", dependencies=(), extras={}, groups={})
    app = project(name="app", dependencies=("lib>=1",), extras={}, groups={}, members={"lib": lib})
    with pytest.raises(ConfigError, match=r"app requires lib>=1, but lib of its workspace is 0\.2"):
        collect_requirements(app, (), ())


def plan_of(root: Path, cache: Path, **environ: str) -> Plan:
    project = hatchling_project(open_hatchling(root), root)
    return open_plans(project, {"HATCH_DOCKER_CACHE_DIR": str(cache), **environ})[0][0]


def workspace(root: Path) -> Path:
    """Write a workspace with the dependencies app -> lib -> core and an unused member; return app's directory."""
    (root / "pyproject.toml").write_text(UV_WORKSPACE + UV_SOURCES)
    table = '[tool.hatch-docker]\nbase = "debian:trixie"\nentrypoint = []\ncmd = ["python"]\n'
    write_member(root / "packages/app", "app", dependencies=["lib", "h11"], more=table)
    write_member(root / "packages/lib", "lib", version="0.2", dependencies=["core; python_version >= '3'", "idna"])
    write_member(root / "packages/core", "core", more='[tool.hatch.build.targets.wheel.hooks.custom]\n')
    write_member(root / "packages/other", "other", dependencies=["numpy"])
    return root / "packages/app"


def test_plan_contains_members_and_their_requirements(tmp_path: Path) -> None:
    plan = plan_of(workspace(tmp_path), tmp_path / "cache")
    assert [(item.name, item.version, item.path, item.build.isolated) for item in plan.members] == [
        ("core", "1.0", "../core", True), ("lib", "0.2", "../lib", False),
    ]  # fmt: skip
    assert plan.lock.requirements == ("h11", "idna")
    assert plan.lock.members == ("../core", "../lib")
    assert plan.lock.kind == "resolve"
    (tmp_path / "uv.lock").touch()
    assert plan_of(tmp_path / "packages/app", tmp_path / "cache").lock.path == "../../uv.lock"


def test_changed_member_or_lock_is_dirty(tmp_path: Path) -> None:
    app = workspace(tmp_path)
    for arguments in (["init"], ["add", "."], ["commit", "-m", "all"]):
        git(tmp_path, *arguments)
    environ = {"PATH": os.environ["PATH"]}
    assert plan_of(app, tmp_path.parent / "cache", **environ).dirty == ()
    (tmp_path / "packages/other/other.py").write_text("changed = True\n")
    assert plan_of(app, tmp_path.parent / "cache", **environ).dirty == ()
    (tmp_path / "packages/lib/lib.py").write_text("changed = True\n")
    (dirty,) = plan_of(app, tmp_path.parent / "cache", **environ).dirty
    assert dirty == "../lib/lib.py"
    (tmp_path / "uv.lock").write_text("version = 1\n")
    assert plan_of(app, tmp_path.parent / "cache", **environ).dirty == ("../lib/lib.py", "../../uv.lock")
    git(tmp_path, "add", "uv.lock")
    git(tmp_path, "commit", "-m", "lock")
    assert plan_of(app, tmp_path.parent / "cache", **environ).dirty == ("../lib/lib.py",)


def test_member_with_another_name_is_reported(tmp_path: Path) -> None:
    write_member(tmp_path / "lib", "other-name")
    write_member(tmp_path / "app", "app", dependencies=["lib"], more='[tool.uv.sources]\nlib = { path = "../lib" }\n')
    with pytest.raises(ConfigError, match="is other-name, but app depends on it as lib"):
        plan_of(tmp_path / "app", tmp_path / "cache")


@pytest.mark.parametrize("members", [
    "members = ['a**']", "members = [{x = 1}]", "members = 3", "members = ['p']\nexclude = 3",
])  # fmt: skip
def test_invalid_workspace_table_is_reported(members: str, tmp_path: Path) -> None:
    write_member(tmp_path / "p", "p")
    (tmp_path / "pyproject.toml").write_text(f"[tool.uv.workspace]\n{members}\n")
    with pytest.raises(ConfigError, match=f"the workspace of {tmp_path} cannot be read: "):
        is_member(tmp_path / "p")


@pytest.mark.parametrize("text", ["tool = 1", "[tool]\nuv = 1\nhatch = 2", "[tool.hatch]\nenvs = 1"])
def test_wrong_types_above_the_project_are_ignored(text: str, tmp_path: Path) -> None:
    write_member(tmp_path / "p", "p")
    (tmp_path / "pyproject.toml").write_text(f"{text} # workspace\n")
    assert not is_member(tmp_path / "p")


@pytest.mark.parametrize(("name", "allowed"), [
    ("x.lock", True), ("a/../x.lock", True), ("../../x.lock", True), ("../../../x.lock", False), ("/etc/x", False),
    ("link/x.lock", False), ("link", False), (".git/config", False), ("../../.git/hooks/x", False),
])
@pytest.mark.parametrize("top", [".git", "workspace"])
def test_output_outside_of_the_top_directory_is_rejected(top: str, name: str, allowed: bool, tmp_path: Path) -> None:
    """The top is the repository or, without git, the workspace. The variable allows every path."""
    root = write_member(tmp_path / "top/packages/app", "app")
    (root / "link").symlink_to(tmp_path)
    if top == ".git":
        (tmp_path / "top/.git").mkdir()
    else:
        (tmp_path / "top/pyproject.toml").write_text(UV_WORKSPACE)
    if allowed:
        assert writable_path(root, name, "option", "VARIABLE", {}) == root / name
        return
    with pytest.raises(ConfigError, match=f"^option: {name} is outside of the project; .*; set VARIABLE$"):
        writable_path(root, name, "option", "VARIABLE", {"VARIABLE": ""})
    assert writable_path(root, name, "option", "VARIABLE", {"VARIABLE": name}) == root / name


def test_image_lock_and_output_directory_stay_in_the_project(tmp_path: Path) -> None:
    """Otherwise a project could write a file that a shell executes, such as .bash_login."""
    root = write_member(tmp_path, "app")
    with pytest.raises(ConfigError, match=r"tool.hatch-docker.pins: ../../.bash_login is outside of the project"):
        open_lock(root, {"tool": {"hatch-docker": {"pins": "../../.bash_login"}}}, {})
    with (root / "pyproject.toml").open("a") as stream:
        stream.write('\n[tool.hatch.build]\ndirectory = "../../out"\n')
    with pytest.raises(ConfigError, match=r"build: directory: .*/out is outside of .*; give that directory"):
        open_hatchling(root).output()
