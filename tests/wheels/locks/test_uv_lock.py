"""uv.lock: the packages that a project needs on a target, by hash."""

from pathlib import Path

import pytest

from hatch_docker.core.context import Context
from hatch_docker.core.errors import WheelError
from hatch_docker.plan.model import LockPlan
from hatch_docker.wheels.locks.pin import pin
from hatch_docker.wheels.target import Target
from tests.fakes.lock_files import AMD64, FOREIGN, OLD, UV_LOCK


def uvlock(root: Path, *requirements: str, text: str = UV_LOCK, **chosen: tuple[str, ...]) -> LockPlan:
    (root / "uv.lock").write_text(text)
    return LockPlan("uv", "uv.lock", requirements, **chosen)


@pytest.mark.parametrize(
    ("target", "chosen", "expected"),
    [
        (AMD64, {}, ["app 1.0", "dep 2.0"]),
        (OLD, {}, ["app 1.0", "dep 1.0"]),
        (OLD, {"extras": ("web",)}, ["app 1.0", "dep 1.0", "quick 1.0"]),
        (AMD64, {"groups": ("dev",)}, ["app 1.0", "dep 2.0", "tool 1.0"]),
        (AMD64, {"extras": ("no",)}, []),
    ],
)
def test_pins_of_uv_lock(
    ctx: Context, root: Path, target: Target, chosen: dict[str, tuple[str, ...]], expected: list[str]
) -> None:
    """Forks, extras of extras, groups, direct URLs and uv's conflict markers; uv itself is not needed."""
    pins = pin(uvlock(root, **chosen), root, target, ctx)
    assert [f"{found.name} {found.version}" for found in pins] == expected
    assert all(found.upload_time == 1704164645 and found.size == 5 for found in pins if found.name == "app")


@pytest.mark.parametrize(
    ("lock", "target", "message"),
    [
        ({"requirements": ("app>=2",)}, AMD64, r"uv\.lock is stale: .*'app>=2'.*has app 1\.0; run `uv lock`"),
        ({"requirements": ("app", "new")}, AMD64, "does not have new"),
        ({"requirements": ("quick",), "extras": ("web",)}, OLD, "still has app"),
        ({"extras": ("nope",)}, AMD64, "does not contain the extra 'nope'"),
        ({"groups": ("nope",)}, AMD64, "does not contain the dependency group 'nope'"),
        ({"extras": ("inner",)}, AMD64, "is the directory packages/member, which the project does not name: add it"),
        ({"extras": ("web",)}, FOREIGN, "quick 1.0 has no wheel for"),
        ({"text": UV_LOCK.replace('editable = "."', 'editable = "elsewhere"')}, AMD64, "does not contain the project"),
        ({"text": UV_LOCK.replace("version = 1\n", "version = 9\n", 1)}, AMD64, "version 9"),
        ({"text": UV_LOCK.replace("https://f.example/app", "https://u:hush@ex\u2100mple/app")}, AMD64,
         r"is not a lock of uv's: \(a malformed URL\) is not a URL; in a password"),
    ],
)
def test_invalid_uv_lock(ctx: Context, root: Path, lock: dict[str, object], target: Target, message: str) -> None:
    """The error is one line with a remedy."""
    requirements = lock.pop("requirements", ())
    with pytest.raises(WheelError, match=message) as caught:
        pin(uvlock(root, *requirements, **lock), root, target, ctx)  # type: ignore[misc, arg-type]
    assert "\n" not in str(caught.value)
