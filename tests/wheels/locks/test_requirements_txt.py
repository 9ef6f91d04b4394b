"""Requirements files with hashes, read like `pip install --require-hashes`."""

from pathlib import Path

import pytest

from hatch_docker.build.plans import open_plans
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, WheelError
from hatch_docker.plan.model import LockPlan
from hatch_docker.project.hatch import hatchling_project, open_hatchling
from hatch_docker.wheels.locks.pin import pin
from hatch_docker.wheels.locks.requirements_txt import requirements_files
from tests.fakes.lock_files import AMD64, FOREIGN, HOST, names, with_index
from tests.fakes.package_index import EVIL, FakeIndex, make_sdist, make_wheel
from tests.fakes.workspaces import write_member


def requirements(root: Path, text: str, *lines: str) -> LockPlan:
    (root / "requirements.txt").write_text(text)
    return LockPlan("requirements", "requirements.txt", lines)


def test_file_is_selected_by_hash(ctx: Context, index: FakeIndex, root: Path, lines: list[str]) -> None:
    """Includes, markers, comments and continuation lines are read; files without a listed hash are not used."""
    plain, better = make_wheel("app", "1.0"), make_wheel("app", "1.0", tag="cp313-cp313-manylinux_2_17_x86_64")
    index.add("app", plain, better).add("dep", make_wheel("dep", "2.0"))
    (root / "more.txt").write_text(f"dep==2.0 \\\n    --hash=sha256:{index.sha256('dep-2.0-py3-none-any.whl')}\n")
    lock = requirements(root, (
        "--index-url https://other.example/simple\n# a comment\n-r more.txt\n"
        f"app==1.0 ; python_version > '3' --hash=sha256:{index.sha256(plain[0])}  # why\n"
        f"gone==1 ; sys_platform == 'win32' --hash=sha256:{'0' * 64}\n-e .\n"
    ), "app", "dep>=2")
    pins = pin(lock, root, AMD64, with_index(ctx, index))
    assert names(pins) == ["app-1.0-py3-none-any.whl", "dep-2.0-py3-none-any.whl"]
    assert any("requirements.txt:1: --index-url" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("app==1.0\n", r"requirements.txt:1: app has no --hash"),
        (f"app==1.0 --hash=sha512:{'0' * 128}\n", "no --hash=sha256"),
        (f"app>=1.0 --hash=sha256:{'0' * 64}\n", "not pinned"),
        (f"app==1.0 --hash=sha256:{'0' * 64}\n", "no file of app 1.0 on the index has one of its hashes"),
        ("-e ../other\n", "is a directory"),
        ("--strange\n", "--strange"),
        ("-r requirements.txt\n", "includes itself"),
        ("-r missing.txt\n", "missing.txt"),
        ("app==\n", "requirements.txt:1"),
    ],
)
def test_invalid_requirements_file(ctx: Context, index: FakeIndex, root: Path, text: str, message: str) -> None:
    """Most errors have the file name and the line number."""
    index.add("app", make_wheel("app", "1.0"))
    with pytest.raises(WheelError, match=message):
        pin(requirements(root, text), root, AMD64, with_index(ctx, index))


def test_included_path_with_nul_is_rejected(ctx: Context, root: Path) -> None:
    """File names cannot contain NUL: Python raises ValueError."""
    with pytest.raises(ConfigError, match="is outside of the project"):
        pin(requirements(root, "-r more\0.txt\n"), root, AMD64, ctx)


@pytest.mark.parametrize("link", [False, True])
def test_file_outside_of_the_project_is_not_read(link: bool, ctx: Context, root: Path, tmp_path: Path) -> None:
    """An error message would show its lines."""
    (tmp_path / "netrc").write_text("machine git.example login me password hunter2")
    lock = requirements(root, f"-r {tmp_path}/netrc\n")
    if link:
        (root / "requirements.txt").unlink()
        (root / "requirements.txt").symlink_to(tmp_path / "netrc")
    with pytest.raises(ConfigError, match=r"(netrc|requirements.txt) is outside of the project"):
        pin(lock, root, AMD64, ctx)


def test_pinned_sdist_is_not_executed(ctx: Context, index: FakeIndex, root: Path, tmp_path: Path) -> None:
    """Its metadata are not needed."""
    mark = tmp_path / "ran"
    sdist = make_sdist("gamma", "1.0", dynamic=True, setup=EVIL.format(mark=str(mark)))
    index.add("gamma", sdist)
    lock = requirements(root, f"gamma==1.0 --hash=sha256:{index.sha256(sdist[0])}\n", "gamma")
    assert names(pin(lock, root, HOST, with_index(ctx, index))) == ["gamma-1.0.tar.gz"]
    assert not mark.exists()
    with pytest.raises(WheelError, match=f"gamma 1.0 has no wheel for {FOREIGN}"):
        pin(lock, root, FOREIGN, with_index(ctx, index))


def test_direct_url_needs_no_index(ctx: Context, root: Path) -> None:
    """The password in the URL is not stored."""
    lock = requirements(root, f"app @ https://u:p@files.example/app-1.0-py3-none-any.whl --hash=sha256:{'a' * 64}\n")
    assert pin(lock, root, AMD64, ctx)[0].url == "https://files.example/app-1.0-py3-none-any.whl"


def test_pins_without_hashes_are_constraints(ctx: Context, index: FakeIndex, root: Path, lines: list[str]) -> None:
    """Also for transitive dependencies, with included files, and in the key. Other lines are ignored."""
    for version in ("1.0", "2.0"):
        index.add("app", make_wheel("app", version, requires=["dep"])).add("dep", make_wheel("dep", version))
    table = '[tool.hatch-docker]\nbase = "debian:trixie"\ncmd = ["python"]\n'
    write_member(root, "proj", dependencies=["app"], more=table)
    ctx = with_index(ctx, index)
    project = hatchling_project(open_hatchling(root), root)
    environ = {**ctx.environ, "HATCH_DOCKER_CACHE_DIR": str(root / "cache")}

    def found(**named: str) -> list[str]:
        return [row.title for row in pin(open_plans(project, {**environ, **named})[0][0].lock, root, AMD64, ctx)]

    assert found() == ["app 2.0", "dep 2.0"]
    (root / "more.txt").write_text("dep == 1.0 ; python_version > '3'\ntool==7\nother==3; sys_platform == 'win32'\n")
    (root / "requirements.txt").write_text("-r more.txt\n-e .\napp[x]==1.0\nunpinned>=3\ngit+https://x.example/a.git@main\n")
    assert found() == ["app 1.0", "dep 1.0"]
    assert requirements_files(root / "requirements.txt", root) == [root / "requirements.txt", root / "more.txt"]
    assert any("requirements.txt pins app==1.0, dep==1.0, tool==7; with hashes" in line for line in lines)
    assert found(HATCH_DOCKER_LOCK="none") == ["app 2.0", "dep 2.0"]
    (root / "requirements.txt").write_text("app==3.0\n")
    with pytest.raises(WheelError, match=r"no version of app==3\.0.*; requirements.txt pins"):
        found()
