"""The build hook: wheels for which it builds no image, the project of a wheel, and checks of the wheel.

Whole builds are in integration/test_build_hook.py.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.bases.model import Base, Interpreter
from hatch_docker.build.plans import open_plans
from hatch_docker.build.receipt import make_receipt
from hatch_docker.core.errors import WheelError
from hatch_docker.core.files import CACHE_TAG
from hatch_docker.engines.model import BuiltImage, WheelInfo
from hatch_docker.oci.make_image import make_index, scratch
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import BasePlan
from hatch_docker.plugin import build_hook
from hatch_docker.plugin.build_hook import is_temporary, project_root, reason_to_skip
from hatch_docker.project.hatch import hatchling_project, open_hatchling, readable_project
from hatch_docker.wheels.install.compatibility import check_prebuilt
from hatch_docker.wheels.target import Target
from tests.fakes.plans import plan
from tests.integration.forked_python import run_module
from tests.projects import write_project

TRIXIE = Target("3.13.5", Platform("linux", "amd64"), ("glibc", "2.41"), base="debian:trixie")
ALPINE = Target("3.13.5", Platform("linux", "amd64"), ("musl", "1.2"))
HOOK = "[tool.hatch.build.targets.wheel.hooks.docker]\nenable-by-default = false\n"
ENABLED = {"HATCH_BUILD_HOOK_ENABLE_DOCKER": "1"}


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory of Python's `tempfile`, in its default location."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


# Wheels without an image


@pytest.mark.parametrize(("version", "environ", "reason"), [
    ("editable", {}, "editable"),
    ("standard", {"HATCH_DOCKER_BUILDER_STAGE": "1"}, "builder stage"),
    ("standard", {"PIP_BUILD_TRACKER": "/somewhere"}, "python -m build"),
])  # fmt: skip
def test_no_image_for_installs_and_in_the_builder(
    version: str, environ: Mapping[str, str], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").touch()
    assert reason in reason_to_skip(version, tmp_path / "dist", environ)
    assert reason_to_skip("standard", tmp_path / "dist", {}) == "", "the user keeps the wheel"


def test_guard_variable_is_the_same_in_hook_and_builder() -> None:
    """The constant is defined twice, because the hook must not import the builder."""
    from hatch_docker.wheels.builder.variables import GUARD

    assert build_hook.GUARD == GUARD


def test_directory_of_tempfile_is_temporary(temporary: Path) -> None:
    """Unlike a user's directory, its name ends with eight random characters, and others have no access."""
    assert is_temporary(temporary)
    assert is_temporary(temporary / "deep" / "down")
    assert "temporary directory" in reason_to_skip("standard", temporary, {})
    temporary.chmod(0o755)
    assert not is_temporary(temporary)


def test_dist_of_a_project_in_a_temporary_directory_is_kept(temporary: Path) -> None:
    (temporary / "pyproject.toml").touch()
    assert not is_temporary(temporary / "dist")
    assert not is_temporary(temporary)


def test_directory_in_a_tools_cache_is_temporary(tmp_path: Path) -> None:
    """uv builds the wheels that it installs in its cache, which contains a CACHEDIR.TAG."""
    (tmp_path / "pyproject.toml").touch()
    cache = tmp_path / "cache"
    (cache / "builds").mkdir(parents=True)
    (cache / "CACHEDIR.TAG").write_bytes(b"not the signature")
    assert not is_temporary(cache / "builds" / ".tmp123")
    (cache / "CACHEDIR.TAG").write_bytes(CACHE_TAG + b"\n# a comment")
    assert is_temporary(cache / "builds" / ".tmp123")


# The project of a wheel


def write(directory: Path, text: str, *, sdist: bool = False) -> Path:
    directory.mkdir(parents=True)
    (directory / "pyproject.toml").write_text(text)
    if sdist:
        (directory / "PKG-INFO").touch()
    return directory


def test_root_of_an_unpacked_sdist_is_the_checkout(tmp_path: Path) -> None:
    """The checkout has the same pyproject.toml. The root of a project that is not an unpacked sdist does not change."""
    unpacked = write(tmp_path / "unpacked", "x = 1", sdist=True)
    checkout = write(tmp_path / "checkout", "x = 1")
    assert project_root(unpacked, checkout / "dist") == checkout
    assert project_root(unpacked, checkout) == checkout
    other = write(tmp_path / "other", "x = 2")
    assert project_root(unpacked, other / "dist") == unpacked
    assert project_root(unpacked, tmp_path) == unpacked
    assert project_root(write(tmp_path / "here", "x = 1"), checkout / "dist") == tmp_path / "here"


def test_hook_does_not_affect_the_build_of_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the hook enabled, the target needs no builder stage, and its wheel does not start a second image build."""
    monkeypatch.setenv("HATCH_BUILD_HOOK_ENABLE_DOCKER", "1")
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(tmp_path / "cache"))
    root = write_project("hello", tmp_path / "p")
    with (root / "pyproject.toml").open("a") as stream:
        stream.write(HOOK)
    out = tmp_path / "out"
    project = hatchling_project(open_hatchling(root), out)
    (plan,), _ = open_plans(project, os.environ)
    assert not plan.build.isolated
    assert project.wheel().name == "hello-1.0.0-py3-none-any.whl"
    assert [path.name for path in out.iterdir()] == ["hello-1.0.0-py3-none-any.whl"]


def test_existing_wheel_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This is also true with a build hook that compiles, and with build.isolated = "always"."""
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(tmp_path / "cache"))
    options = '[tool.hatch-docker.build]\nisolated = "always"\npackages = ["libpq-dev"]'
    root = write_project("c-extension", tmp_path / "p", options=options)
    wheel = tmp_path / "x.whl"
    project = replace(readable_project(open_hatchling(root)), wheel=lambda: wheel, wheels=(wheel,))
    (plan,), _ = open_plans(project, os.environ)
    assert not plan.build.isolated
    assert plan.build.packages == ("libpq-dev",)  # needed by dependencies that are built from sdists
    assert project.wheel() == wheel
    with pytest.raises(AssertionError):
        project.sdist()


# Checks of the wheel against the base


def make_wheel(directory: Path, tag: str, content: bytes = b"") -> Path:
    path = directory / f"demo-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("demo/__init__.py", b"'GLIBC_2.99'")
        if content:
            archive.writestr("demo/_c.so", content)
    return path


def elf(version: bytes, padding: int = 0) -> bytes:
    return b"\x7fELF" + bytes(padding) + b"\0GLIBC_2.2.5\0GLIBC_PRIVATE\0GLIBC_" + version + b"\0"


def test_fitting_wheel_is_accepted(tmp_path: Path) -> None:
    check_prebuilt(make_wheel(tmp_path, "py3-none-any"), TRIXIE)
    check_prebuilt(make_wheel(tmp_path, "cp313-cp313-linux_x86_64", elf(b"2.41")), TRIXIE)
    check_prebuilt(make_wheel(tmp_path, "cp313-cp313-manylinux_2_17_x86_64", elf(b"2.17")), TRIXIE)


@pytest.mark.parametrize("tag", ["cp312-cp312-linux_x86_64", "cp313-cp313-linux_aarch64", "cp313-cp313-win_amd64"])
def test_wheel_for_another_python_or_platform_is_rejected(tag: str, tmp_path: Path) -> None:
    with pytest.raises(WheelError) as caught:
        check_prebuilt(make_wheel(tmp_path, tag), TRIXIE)
    assert f"demo-1.0-{tag}.whl does not fit the base debian:trixie, which is Python 3.13" in str(caught.value)
    assert str(caught.value).endswith("`hatch build -t docker`")
    assert "\n" not in str(caught.value)


# Offsets around 1 MiB, the size of the pieces that are read: the version may be split between two pieces.
@pytest.mark.parametrize("padding", [0, *range((1 << 20) - 60, (1 << 20) + 10, 7), 3 << 20])
def test_wheel_that_needs_a_newer_glibc_is_rejected(padding: int, tmp_path: Path) -> None:
    """Such a wheel, compiled on a newer host, has a fitting tag and would fail at import."""
    wheel = make_wheel(tmp_path, "cp313-cp313-linux_x86_64", elf(b"2.42", padding))
    with pytest.raises(WheelError, match=r"demo/_c\.so in demo-1\.0-.*\.whl needs glibc 2\.42, .* glibc 2\.41"):
        check_prebuilt(wheel, TRIXIE)


def test_wheel_with_glibc_code_is_rejected_on_musl(tmp_path: Path) -> None:
    with pytest.raises(WheelError, match=r"needs glibc 2\.5, and the base is .* musl"):
        check_prebuilt(make_wheel(tmp_path, "cp313-cp313-linux_x86_64", elf(b"2.5")), ALPINE)


def test_unreadable_wheel_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.0-cp313-cp313-linux_x86_64.whl"
    path.write_bytes(b"no zip")
    with pytest.raises(WheelError, match="cannot read the wheel demo"):
        check_prebuilt(path, TRIXIE)


# The receipt


def test_receipt_contains_the_wheel_if_all_platforms_share_it() -> None:
    one, other = WheelInfo("a.whl", "11"), WheelInfo("b.whl", "22")

    def receipt(*wheels: WheelInfo | None) -> Mapping[str, str] | None:
        base = Base(
            BasePlan("debian", "debian:trixie", "trixie"), "debian:trixie", "", scratch(TRIXIE.platform),
            Interpreter("/usr/bin/python3.13", "3.13.5"), TRIXIE.libc, {}, frozenset(),
        )  # fmt: skip
        built = [BuiltImage(base.image, base, (), wheel) for wheel in wheels]
        item = make_index([scratch(Platform("linux", name)) for name in ("amd64", "arm64")], {})
        return make_receipt(plan(), item, built, archive="", documents=(), loaded=(), deliveries=(), timings={}).wheel

    assert receipt(one, one) == one
    assert receipt(one, other) is None
    assert receipt(None) is None


# Errors in each frontend

PYTHON = sys.executable
FRONTENDS = {
    "hatchling": [PYTHON, "-m", "hatchling", "build", "-t", "wheel"],
    "build": [PYTHON, "-m", "build", "--no-isolation"],
    "uv": [PYTHON, "-m", "uv", "build", "--offline", "--no-build-isolation", "--python", PYTHON],
}


def frontend(name: str, project: Path, tmp_path: Path) -> tuple[int, str]:
    """Run a frontend that builds a wheel, and return its exit status and output."""
    environment = {**os.environ, **ENABLED, "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache")}
    if name == "hatchling":
        return run_module(FRONTENDS[name], project, environment, timeout=120)
    done = subprocess.run(
        FRONTENDS[name], cwd=project, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize(
    ("base", "hook", "message"),
    [
        ("debian:nope", HOOK, "base 'debian:nope': unknown Debian suite"),
        ("debian:trixie", f"{HOOK}base = 'x'\n", "hooks.docker.base: unknown option of the hook"),
    ],
    ids=["base", "option"],
)
def test_error_is_one_line_and_the_wheel_is_kept(name: str, base: str, hook: str, message: str, tmp_path: Path) -> None:
    project = write_project("hello", tmp_path / "p", base=base)
    with (project / "pyproject.toml").open("a") as stream:
        stream.write(hook)
    status, output = frontend(name, project, tmp_path)
    assert status in (1, 2), output
    assert sum(message in line for line in output.splitlines()) == 1, output
    assert "Traceback" not in output
    assert [path.suffix for path in (project / "dist").glob("hello*") if path.suffix != ".gz"] == [".whl"]


def test_sdist_target_builds_no_image(tmp_path: Path) -> None:
    """The hook is enabled for all targets ([tool.hatch.build.hooks.docker])."""
    project = write_project("hello", tmp_path / "p", base="debian:nope")
    with (project / "pyproject.toml").open("a") as stream:
        stream.write("[tool.hatch.build.hooks.docker]\n")
    status, output = run_module([PYTHON, "-m", "hatchling", "build", "-t", "sdist"], project, os.environ, timeout=120)
    assert status == 0, output
    assert "image" not in output
    assert [path.name for path in (project / "dist").iterdir()] == ["hello-1.0.0.tar.gz"]
