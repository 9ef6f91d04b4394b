"""Projects of existing wheels: the wheel for each target, and wheels that are rejected."""

import argparse
import shutil
from pathlib import Path

import pytest

from hatch_docker.build.given_wheels import open_wheels
from hatch_docker.build.plans import open_plans
from hatch_docker.cli.source import read_source
from hatch_docker.core.errors import ConfigError, HatchDockerError
from hatch_docker.oci.model import Platform
from hatch_docker.wheels.install.compatibility import fitting_wheel
from hatch_docker.wheels.target import Target
from tests.fakes.wheels import Wheel

PURE = "demo-1.0-py3-none-any.whl"
AMD64, ARM64 = (f"demo-1.0-cp313-cp313-manylinux_2_28_{machine}.whl" for machine in ("x86_64", "aarch64"))
OLDER, MUSL = "demo-1.0-cp312-cp312-manylinux_2_28_x86_64.whl", "demo-1.0-cp313-cp313-musllinux_1_2_x86_64.whl"
STABLE = "demo-1.0-cp311-abi3-manylinux_2_28_x86_64.whl"


def write(directory: Path, *names: str, metadata: str = "Requires-Python: >=3.10\n") -> list[Path]:
    wheel = Wheel(scripts="[console_scripts]\ndemo = demo:main\n")
    wheel.metadata += metadata
    return [wheel.write(directory / name) for name in names]


@pytest.mark.parametrize(
    ("names", "python", "platform", "libc", "found"),
    [
        ([PURE, AMD64], "3.13.5", "linux/amd64", ("glibc", "2.41"), AMD64),
        ([PURE, AMD64], "3.12.1", "linux/amd64", ("glibc", "2.41"), PURE),
        ([AMD64, ARM64, OLDER, MUSL], "3.13.5", "linux/arm64", ("glibc", "2.41"), ARM64),
        ([AMD64, ARM64, OLDER, MUSL], "3.12.1", "linux/amd64", ("glibc", "2.36"), OLDER),
        ([AMD64, ARM64, OLDER, MUSL], "3.13.5", "linux/amd64", ("musl", "1.2"), MUSL),
        ([OLDER, STABLE], "3.14.0", "linux/amd64", ("glibc", "2.41"), STABLE),
        ([AMD64, OLDER], "3.13.5", "linux/arm64", ("glibc", "2.41"), None),
    ],
)
def test_most_specific_compatible_wheel_is_selected(
    names: list[str], python: str, platform: str, libc: tuple[str, str], found: str | None
) -> None:
    target = Target(python, Platform.parse(platform), libc, base="python:3")
    if found is None:
        start = "no wheel fits the base python:3, which is Python 3"
        with pytest.raises(HatchDockerError, match=f"{start}.*: {AMD64} is for .*, {OLDER} is for cp312"):
            fitting_wheel([Path(name) for name in names], target)
        return
    assert fitting_wheel([Path(name) for name in names], target).name == found


@pytest.mark.parametrize(
    ("names", "base"),
    [
        ([PURE], "python:3.14-slim"), ([AMD64, ARM64], "python:3.13-slim"), ([OLDER, AMD64], "python:3.13-slim"),
        ([STABLE], "python:3.14-slim"), (["demo-1.0-py2.py3-none-any.whl"], "python:3.14-slim"),
        (["demo-1.0-py313-none-any.whl"], "python:3.14-slim"),
    ],
)  # fmt: skip
def test_default_base_has_a_python_of_the_wheel_tags(names: list[str], base: str, tmp_path: Path) -> None:
    """The project is not built and has no commit; its output directory is that of the wheel."""
    project = open_wheels(write(tmp_path, *names), tmp_path, "pyproject.toml")
    (plan,), _ = open_plans(project, {"HOME": str(tmp_path), "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "c")})
    assert (plan.base.name, plan.build.isolated, plan.revision, plan.created) == (base, False, "", None)
    assert (plan.config.entrypoint, plan.stem, project.output()) == (("demo",), "demo-1.0", tmp_path)


def source(*names: object, **options: object) -> tuple[list[Path], Path, str]:
    found = read_source(argparse.Namespace(project=[*map(str, names)], **{"config": "", "build_arg": [], **options}))
    return list(found.wheels), found.root, found.file


def test_options_are_those_of_the_project_around_the_wheel(tmp_path: Path) -> None:
    (tmp_path / "p/dist").mkdir(parents=True)
    for name in ("p/pyproject.toml", "images.toml"):
        (tmp_path / name).write_text("[tool.hatch-docker]\nbase = 'debian:trixie'\nuser = 0.5\n")
    wheels = write(tmp_path / "p/dist", PURE)
    assert source(*wheels) == (wheels, tmp_path / "p", "pyproject.toml")
    assert source(*wheels, config=tmp_path / "images.toml") == (wheels, tmp_path, "images.toml")
    with pytest.raises(ConfigError, match=r"images\.toml.*user"):
        open_plans(open_wheels(wheels, tmp_path, "images.toml"), {"HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ((PURE, "."), {}, "is not a wheel: give only wheels"), (("a", "b"), {}, "a and b: give one project"),
        ((PURE,), {"watch": True}, "--watch watches the sources"), ((), {"config": "x.toml"}, "--config is for"),
        ((PURE,), {"config": "x.toml"}, "no file x.toml"), ((PURE,), {"build_arg": ["A=1"]}, "is already built"),
        ((PURE,), {"config": "mkdocs.toml"}, "mkdocs.toml has no table .tool.hatch-docker.; give the file that has it"),
    ],
)  # fmt: skip
def test_invalid_combination_of_arguments_is_rejected(
    names: tuple[str, ...], options: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mkdocs.toml").write_text("[tool.other]\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        source(*names, **options)


def test_different_renamed_or_invalid_wheels_are_rejected(tmp_path: Path) -> None:
    (pure,) = write(tmp_path, PURE)
    (amd64,) = write(tmp_path, AMD64, metadata="Requires-Python: >=3.13\n")
    (tmp_path / "other-1.0-py3-none-any.whl").touch()
    (tmp_path / "demo.whl").touch()
    (wrong,) = write(tmp_path, "demo-1.0-1-py3-none-any.whl", metadata="Requires-Python: none\n")
    shutil.copyfile(pure, tmp_path / "demo-2.0-py3-none-any.whl")
    for names, message in (
        ((pure, amd64), "have different metadata"), ((tmp_path / "demo.whl",), "not the name of a wheel"),
        ((pure, tmp_path / "other-1.0-py3-none-any.whl"), "of different packages or versions"),
        ((tmp_path / "*.whl",), "there is no wheel"),
        ((wrong,), "the metadata of demo-1.0-1-.* are not valid; .*: .*'none'"),
        ((pure.with_name("demo-2.0-py3-none-any.whl"),), "demo-2.0-.* was renamed: its metadata are those of demo 1.0"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            open_wheels(names, tmp_path, "pyproject.toml")
