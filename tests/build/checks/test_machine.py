"""Checks of the machine before downloads: errors unless the cache has results of earlier builds."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hatch_docker.build.checks.machine import check_machine
from hatch_docker.core.context import Context
from hatch_docker.core.errors import DaemonError, HatchDockerError, WheelError
from hatch_docker.plan.model import BuildPlan, Plan
from tests.conftest import need
from tests.fakes.context import with_environ
from tests.fakes.plans import plan

ISOLATED = {"build": BuildPlan(isolated=True)}
NO_UV = {"HATCH_UV": "/nowhere/uv"}
NO_DAEMON = {"DOCKER_HOST": "unix:///nowhere/docker.sock", "CONTAINER_HOST": "unix:///nowhere/podman.sock", "PATH": ""}


def plan_with(**changes: Any) -> Plan:
    return replace(plan(), **changes)


@pytest.mark.parametrize(("changes", "environ", "error"), [
    ({}, NO_UV, WheelError),
    ({"lock": replace(plan().lock, kind="uv"), "build": BuildPlan(isolated=False)}, NO_UV, None),
    ({"load": "always"}, NO_DAEMON, DaemonError),
    ({"load": "auto"}, NO_DAEMON, None),
])  # fmt: skip
def test_missing_program_fails_if_the_build_needs_it(
    changes: dict[str, Any], environ: dict[str, str], error: type[HatchDockerError] | None, ctx: Context
) -> None:
    ctx = with_environ(ctx, environ)
    if error is None:
        check_machine(plan_with(**changes), ctx)
        return
    with pytest.raises(error):
        check_machine(plan_with(**changes), ctx)


def test_uv_is_not_required_with_cached_resolutions(ctx: Context) -> None:
    ctx.store.remember("pins", "a", {})
    check_machine(plan(), with_environ(ctx, NO_UV))


def test_all_problems_are_in_one_error(ctx: Context) -> None:
    """The error has a line for each. With the tree of a builder in the cache, no mirror is needed."""
    base = replace(plan().base, kind="debian", location="trixie", mirror="ftp://nowhere")
    ctx, compiled = with_environ(ctx, NO_UV | NO_DAEMON), plan_with(base=base, load="always", **ISOLATED)
    with pytest.raises(HatchDockerError) as caught:
        check_machine(compiled, ctx)
    daemon, uv, mirror = str(caught.value).splitlines()
    assert "no Docker or Podman answers" in daemon
    assert "uv" in uv
    assert "'ftp://nowhere'" in mirror
    (ctx.store.root / "trees/builder").mkdir(parents=True)
    with pytest.raises(WheelError):
        check_machine(plan_with(base=base, **ISOLATED), ctx)


def test_refused_sandbox_fails_before_downloads(tmp_path: Path) -> None:
    """The error also reports that uv is missing. Nothing is written to the cache."""
    need("unshare")
    limit = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\""
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\n'
        '[project]\nname = "demo"\nversion = "1"\nscripts.demo = "demo:main"\n'
        '[tool.hatch-docker]\nbase = "debian:trixie"\n'
    )
    (tmp_path / "demo.py").write_text("def main(): pass\n")
    refusing = ["unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh"]
    done = subprocess.run(
        [*refusing, sys.executable, "-m", "hatch_docker", "build"],
        cwd=tmp_path, env={"HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache"), **NO_UV, "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    sandbox, uv = done.stderr.splitlines()
    assert (done.returncode, "the sandbox cannot be entered" in sandbox, NO_UV["HATCH_UV"] in uv) == (1, True, True)
    assert not list((tmp_path / "cache/v1/blobs").iterdir())


def test_low_disk_space_is_a_warning(ctx: Context, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=120_000_000))
    check_machine(plan(), ctx)
    assert "has 120.00 MB free, and a first build may need 1000.00 MB" in lines[-1]
