"""pylock.toml (PEP 751): the files for a target, by hash, and invalid or stale locks."""

from dataclasses import replace
from pathlib import Path

import pytest
from packaging.markers import Marker

from hatch_docker.core.context import Context
from hatch_docker.core.errors import WheelError
from hatch_docker.plan.model import LockPlan
from hatch_docker.wheels.locks.pin import pin
from hatch_docker.wheels.target import Pin, Target, incompatibility
from tests.fakes.lock_files import AMD64, FOREIGN, HOST, OLD


def pylock(root: Path, packages: str, *requirements: str, extra: str = "", **chosen: tuple[str, ...]) -> LockPlan:
    (root / "pylock.toml").write_text(f'lock-version = "1.0"\ncreated-by = "test"\n{extra}\n{packages}')
    return LockPlan("pylock", "pylock.toml", requirements, **chosen)


def package(name: str, *files: str, marker: str = "", version: str = "1.0", sdist: bool = False) -> str:
    wheels = ", ".join(
        f'{{name = "{file}", url = "https://u:pw@files.example/{file}#x", hashes = {{sha256 = "{"a" * 64}"}}, '
        "upload-time = 2024-01-02T03:04:05Z, size = 7}" for file in files
    )
    text = f'[[packages]]\nname = "{name}"\nversion = "{version}"\n'
    text += f'marker = "{marker}"\n' if marker else ""
    text += f"wheels = [{wheels}]\n" if files else ""
    file = f"{name}-{version}.tar.gz"
    source = f'sdist = {{name = "{file}", path = "./{file}", hashes = {{sha256 = "{"b" * 64}"}}}}\n'
    return text + (source if sdist else "")


def test_pins_of_pylock(ctx: Context, root: Path) -> None:
    """The best wheel for the target, with extras and groups, without the project itself; no password in the pin."""
    lock = pylock(root, "".join([
        package("app", "app-1.0-py3-none-any.whl", "app-1.0-cp313-cp313-manylinux_2_41_x86_64.whl"),
        package("opt", "opt-1.0-py3-none-any.whl", marker="'web' in extras"),
        package("dev", "dev-1.0-py3-none-any.whl", marker="'dev' in dependency_groups"),
        package("not", "not-1.0-py3-none-any.whl", marker="'no' in extras or platform_machine == 'aarch64'"),
        '[[packages]]\nname = "project"\ndirectory = {path = "."}\n',
    ]), "app>=1", extra='extras = ["web", "no"]\ndependency-groups = ["dev"]', extras=("web",), groups=("dev",))
    pins = pin(lock, root, AMD64, ctx)
    assert [found.name for found in pins] == ["app", "dev", "opt"]
    assert pins[0] == Pin(
        "app", "1.0", "app-1.0-cp313-cp313-manylinux_2_41_x86_64.whl",
        "https://files.example/app-1.0-cp313-cp313-manylinux_2_41_x86_64.whl", "a" * 64, 7, 1704164645,
    )
    assert pin(lock, root, AMD64, ctx) == pins, "the same from the cache"


def test_extras_of_pylock(ctx: Context, root: Path) -> None:
    """A lock without declared extras was exported with some. Undeclared extras and groups are rejected."""
    text = package("app", "app-1.0-py3-none-any.whl")
    assert pin(pylock(root, text, extras=("web",), groups=("dev",)), root, AMD64, ctx)[0].name == "app"
    lock = pylock(root, text, extra='extras = ["cli", "no"]', extras=("Web",))
    with pytest.raises(WheelError, match=r"pylock\.toml has no extra web, only cli, no; lock the project again"):
        pin(lock, root, AMD64, ctx)
    lock = pylock(root, text, extra='dependency-groups = ["lint"]', groups=("dev",))
    with pytest.raises(WheelError, match=r"has no dependency group dev, only lint"):
        pin(lock, root, AMD64, ctx)


def test_relative_paths_with_two_checkouts(ctx: Context, root: Path, tmp_path: Path) -> None:
    """Paths are relative to the lock, also in a cache that two checkouts share."""
    lock = pylock(root, package("gamma", sdist=True))
    other = tmp_path / "checkout"
    other.mkdir()
    (other / "pylock.toml").write_bytes((root / "pylock.toml").read_bytes())
    for directory in (root, other):
        assert pin(lock, directory, HOST, ctx)[0].url == (directory / "gamma-1.0.tar.gz").as_uri()


@pytest.mark.parametrize(
    ("packages", "target", "message"),
    [
        (package("app", "app-1.0-cp312-cp312-manylinux_2_17_x86_64.whl"), AMD64, "for cp312-cp312"),
        (package("app", "app-1.0-cp313-cp313-manylinux_2_17_aarch64.whl"), AMD64, "for manylinux_2_17_aarch64"),
        (package("app", "app-1.0-cp313-cp313-manylinux_2_42_x86_64.whl"), AMD64, r"for glibc 2\.42 or newer"),
        (package("app", "app-1.0-cp313-cp313-musllinux_1_2_x86_64.whl"), AMD64, "for musllinux"),
        (package("app", sdist=True), FOREIGN, "has no wheel for"),
        ('[[packages]]\nname = "app"\ndirectory = {path = "../app"}\n', AMD64, "app is the directory ../app"),
        ('[[packages]]\nname = "app"\nvcs = {type = "git", url = "x", commit-id = "1"}\n', AMD64, "git repository"),
        (package("app", "app-1.0-py3-none-any.whl").replace("sha256", "sha512"), AMD64, "no sha256"),
        (package("app", "app-1.0-py3-none-any./../x.whl"), AMD64, "is not the name of a file|not a valid lock"),
        (f'[[packages]]\nname = "app"\narchive = {{url = "https://[/x", hashes = {{sha256 = "{"a" * 64}"}}}}\n', AMD64,
         r"pylock\.toml: app: \(a malformed URL\) is not a URL; lock the project again"),
        (package("app", "app-1.0-py3-none-any.whl").replace("files.example", "ex\u2100mple"), AMD64,
         r"app: \(a malformed URL\) is not a URL; in a password"),
        ('[[packages]]\nname = "App"\n', AMD64, "not a valid lock"),
        (package("other", "other-1.0-py3-none-any.whl"), AMD64, "stale: .*'app>=1'.*does not have app"),
        (package("app", "app-0.9-py3-none-any.whl", version="0.9"), AMD64, "stale: .*has app 0.9"),
        ("[[", AMD64, "not valid TOML"),
    ],
)
def test_invalid_or_stale_pylock(ctx: Context, root: Path, packages: str, target: Target, message: str) -> None:
    """No file is downloaded before the error."""
    with pytest.raises(WheelError, match=message) as caught:
        pin(pylock(root, packages, "app>=1"), root, target, ctx)
    assert "\n" not in str(caught.value)


def test_environments_with_variable_of_packages_is_rejected(ctx: Context, root: Path) -> None:
    extra = "environments = [\"'a' in extras\"]"
    lock = pylock(root, package("app", "app-1.0-py3-none-any.whl"), "app>=1", extra=extra)
    with pytest.raises(WheelError, match=r"pylock\.toml is not a valid lock: `environments` has the variable 'extras'"):
        pin(lock, root, AMD64, ctx)


@pytest.mark.parametrize("variable", ["extras", "dependency_groups"])
def test_lock_variables_in_requirement_marker_are_rejected(variable: str) -> None:
    with pytest.raises(WheelError, match=f"has the variable '{variable}', which only locks have"):
        AMD64.satisfies(Marker(f"'a' in {variable}"))


def test_lock_for_another_python_is_rejected(ctx: Context, root: Path) -> None:
    """The error names the target's Python and the lock's requires-python."""
    lock = pylock(root, package("app", "app-1.0-py3-none-any.whl"), extra='requires-python = ">=3.12"')
    with pytest.raises(WheelError, match=r"does not serve Python 3\.11 .*3\.11\.2.*>=3\.12"):
        pin(lock, root, OLD, ctx)


@pytest.mark.parametrize(
    ("file", "target", "reason"),
    [
        ("a-1-py3-none-any.whl", AMD64, ""),
        ("a-1-cp39-abi3-manylinux2014_x86_64.whl", AMD64, ""),
        ("a-1-cp313-cp313-linux_x86_64.whl", AMD64, ""),
        ("a-1-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", OLD, "for cp313-cp313"),
        ("a-1-cp311-cp311-manylinux_2_39_x86_64.manylinux_2_38_x86_64.whl", OLD, "for glibc 2.38 or newer"),
        ("a-1-cp313-cp313-win_amd64.whl", AMD64, "for win_amd64"),
        ("a-1-cp313-cp313t-manylinux_2_17_x86_64.whl", AMD64, "for cp313-cp313t"),
        ("a-1-cp313-cp313t-manylinux_2_17_x86_64.whl", replace(AMD64, abi="t"), ""),
        ("a-1-cp313-cp313-manylinux_2_17_x86_64.whl", replace(AMD64, abi="t"), "for cp313-cp313"),
        ("a-1-cp311-abi3-manylinux_2_17_x86_64.whl", replace(AMD64, abi="t"), "for cp311-abi3"),
        ("a-1-py3-none-any.whl", replace(AMD64, abi="t"), ""),
        ("a-1-cp315-abi3.abi3t-manylinux_2_17_x86_64.whl", replace(AMD64, python="3.15.0", abi="t"), ""),
        ("a-1-cp313-cp313-manylinux_2_17_x86_64.whl", replace(AMD64, abi="d"), ""),
        ("a-1-cp313-cp313t-manylinux_2_17_x86_64.whl", replace(AMD64, abi="td"), ""),
        ("a.whl", AMD64, "not named as a wheel"),
    ],
)
def test_incompatibility(file: str, target: Target, reason: str) -> None:
    assert incompatibility(file, target).startswith(reason)
    assert bool(incompatibility(file, target)) == bool(reason)
