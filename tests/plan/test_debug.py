"""The debug variant of an image: its command, tags, file names and shell."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.bases.image import base_of
from hatch_docker.build.project import open_static, provisional_plan
from hatch_docker.build.summary import how_to_run
from hatch_docker.core.errors import ConfigError
from hatch_docker.engines.common import check_commands
from hatch_docker.oci.model import Platform
from hatch_docker.plan.debug import debug_command
from hatch_docker.plan.model import BasePlan, Plan
from hatch_docker.wheels.locks.pin import pin
from hatch_docker.wheels.target import Pin, Target
from tests.fakes.bases import python_image
from tests.fakes.context import context
from tests.fakes.plans import plan as plan_of
from tests.fakes.receipts import RECEIPT

LISTEN = ("-X", "frozen_modules=off", "-m", "debugpy", "--listen", "0.0.0.0:5678")


def plan(**options: Any) -> Plan:
    return plan_of({"base": "debian:trixie", "entrypoint": ["serve", "--now"], "debug": True, **options})


@pytest.mark.parametrize(("command", "expected"), [
    (("serve", "--now"), ("python", *LISTEN, "/opt/venv/bin/serve", "--now")),
    (("/opt/venv/bin/serve",), ("python", *LISTEN, "/opt/venv/bin/serve")),
    (("python", "-m", "app", "-v"), ("python", *LISTEN, "-m", "app", "-v")),
    (("python3", "-u", "-X", "dev", "-W", "error", "-m", "app"),
     ("python", "-u", "-X", "dev", "-W", "error", *LISTEN, "-m", "app")),
    (("/usr/bin/python3.13", "-c", "print()"), ("python", *LISTEN, "-c", "print()")),
    (("python", "/srv/app.py"), ("python", *LISTEN, "/srv/app.py")),
    (("/srv/app.py", "x"), ("python", *LISTEN, "/srv/app.py", "x")),
])  # fmt: skip
def test_debugpy_runs_the_program(command: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert debug_command(command) == expected


@pytest.mark.parametrize("command", [(), ("python",), ("python", "-u"), ("/usr/bin/tini", "--", "serve")])
def test_command_without_python_program_is_rejected(command: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"tool\.hatch-docker\.debug: a Python debugger cannot run"):
        debug_command(command)


def test_debug_variant_has_other_tags_and_file_names() -> None:
    """It has no size limit."""
    usual, debug = plan(debug=False), plan(**{"max-size": "1MB", "tags": ["{version}", "latest", "x" * 128]})
    assert not set(debug.references) & set(usual.references)
    assert debug.tags == ("1.2.3-debug", "latest-debug", "x" * 122 + "-debug")
    assert (usual.stem, debug.stem) == ("my_app-1.2.3", "my_app-1.2.3.debug")
    assert debug.budget is None
    assert debug.config.ports == ("5678/tcp",)
    assert debug.config.cmd == ()
    assert (debug.lock.beside, usual.lock.beside) == (("debugpy",), ())
    assert plan(cmd=["other", "x"], entrypoint=[]).config.entrypoint == ("python", *LISTEN, "/opt/venv/bin/other", "x")


def test_debug_shell_is_busybox_on_debian_bases() -> None:
    assert plan().base.packages == ()
    base = plan(**{"debug-shell": True, "runtime": {"packages": ["libpq5"]}}).base
    assert (base.packages, base.busybox) == (("busybox-static", "libpq5"), True)
    with pytest.raises(ConfigError, match=r"debug-shell: needs debug = true"):
        plan(**{"debug": False, "debug-shell": True})
    with pytest.raises(ConfigError, match=r"debug-shell: adds a shell to \"debian:\" bases, and base is"):
        plan(**{"base": "python:3.13-slim", "debug-shell": True})


def test_plan_of_the_builder_stage_is_no_debug_variant(tmp_path: Path) -> None:
    """The program of a project with another backend is unknown until its metadata is built."""
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "app"\nversion = "1"\n[project.scripts]\napp = "app:main"\n'
        '[tool.hatch-docker]\nbase = "debian:trixie"\ndebug = true\ndebug-shell = true\n'
    )
    first, _ = provisional_plan(open_static(tmp_path)[0], {"HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache")})
    assert not first.debug
    assert "busybox-static" not in (*first.base.packages, *first.build.packages)


def test_debugpy_is_resolved_separately_unless_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """debugpy does not change the versions of the project's dependencies."""
    resolved: list[list[str]] = []

    def resolve(requirements: list[str], *_rest: object) -> tuple[Pin, ...]:
        resolved.append(requirements)
        return tuple(Pin(name, "1", f"{name}-1-py3-none-any.whl", "", "0" * 64, 1, 1) for name in requirements)

    monkeypatch.setattr("hatch_docker.wheels.locks.resolver.resolve", resolve)
    target = Target("3.13.5", Platform("linux", "amd64"), ("glibc", "2.41"))
    ctx = context(tmp_path, [])
    for requirements, expected in (
        (("click",), [["click"], ["debugpy"]]), (("debugpy", "click"), [["click", "debugpy"]]),
    ):  # fmt: skip
        resolved.clear()
        lock = replace(plan().lock, requirements=requirements)
        assert [item.name for item in pin(lock, tmp_path, target, ctx)] == ["click", "debugpy"]
        assert resolved == expected


def test_missing_program_is_reported_by_its_own_name(tmp_path: Path) -> None:
    ctx = context(tmp_path, [])
    base = base_of(BasePlan("registry", "python:x", "python:x"), python_image(), ctx)
    check_commands(plan(), base, frozenset({"serve"}), ctx)
    with pytest.raises(ConfigError, match=r"entrypoint: 'serve' is not a program in the image; the wheels .*: other"):
        check_commands(plan(), base, frozenset({"other"}), ctx)


def test_debug_port_is_published_on_localhost_only(tmp_path: Path) -> None:
    debug = plan(ports=[8000])
    lines = how_to_run(RECEIPT, debug, tmp_path / "x", "docker", Platform.parse(debug.platforms[0]), {})
    assert lines[-1].strip() == "docker run --rm -p 8000:8000 -p 127.0.0.1:5678:5678 my-app:1.2.3-debug"
