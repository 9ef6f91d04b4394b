"""poetry.lock and pdm.lock: the packages that a project needs on a target, by hash."""

from pathlib import Path

import pytest

from hatch_docker.core.context import Context
from hatch_docker.core.errors import WheelError
from hatch_docker.plan.model import LockPlan
from hatch_docker.wheels.locks.pin import pin
from hatch_docker.wheels.target import Target
from tests.fakes.lock_files import AMD64, PDM, POETRY, names, with_index
from tests.fakes.package_index import FakeIndex, make_wheel

WHEELS = {("app", "1.0"), ("tool", "1.0"), ("tool", "2.0"), ("deep-dep", "3.0"), ("fast_path", "1.5"), ("wide", "0.1")}


WIDE = 'name = "wide"'
TEXTS = {"poetry": POETRY, "pdm": PDM}


@pytest.fixture
def index() -> FakeIndex:
    index = FakeIndex()
    for name, version in sorted(WHEELS):
        index.add(name.replace("_", "-"), make_wheel(name.replace("-", "_"), version))
    return index


def lock(root: Path, index: FakeIndex, kind: str, *requirements: str, text: str = "") -> LockPlan:
    text = text or TEXTS[kind]
    for name, version in WHEELS:
        stem = f"{name.replace('-', '_')}-{version}"
        text = text.replace(f"@{stem}@", index.sha256(f"{stem}-py3-none-any.whl"))
    (root / f"{kind}.lock").write_text(text)
    return LockPlan(kind, f"{kind}.lock", requirements)


@pytest.mark.parametrize("kind", ["poetry", "pdm"])
def test_needed_packages_are_pinned(kind: str, ctx: Context, index: FakeIndex, root: Path) -> None:
    """With normalised names, markers of the target, extras of dependencies, and one of two versions."""
    with index.serving() as serving:
        pins = pin(lock(root, serving, kind, "app", "tool>=1"), root, AMD64, with_index(ctx, serving))
        assert [(found.name, found.version) for found in pins] == [
            ("app", "1.0"), ("deep-dep", "3.0"), ("tool", "2.0"), ("wide", "0.1")
        ]
        older = Target("3.11.2", AMD64.platform, AMD64.libc)
        old = pin(lock(root, serving, kind, "tool"), root, older, with_index(ctx, serving))
        assert names(old) == ["tool-1.0-py3-none-any.whl"]
        fast = pin(lock(root, serving, kind, "app[fast]"), root, AMD64, with_index(ctx, serving))
        assert "fast_path-1.5-py3-none-any.whl" in names(fast)


def test_extra_of_an_already_pinned_package(ctx: Context, index: FakeIndex, root: Path) -> None:
    """The extra's dependencies are pinned too."""
    with index.serving() as serving:
        for kind in ("poetry", "pdm"):
            pins = pin(lock(root, serving, kind, "app", "app[fast]"), root, AMD64, with_index(ctx, serving))
            assert "fast_path-1.5-py3-none-any.whl" in names(pins)


@pytest.mark.parametrize(
    ("kind", "old", "new", "requirements", "message"),
    [
        ("poetry", 'name = "deep-dep"', 'name = "other"', "app", "names deep-dep, which it does not have.*poetry lock"),
        ("pdm", 'name = "deep-dep"', 'name = "other"', "app", "names deep-dep, which it does not have.*pdm lock"),
        ("poetry", "", "", "missing", "poetry.lock is stale: .*does not have missing; run `poetry lock`"),
        ("pdm", "", "", "app>=2", "pdm.lock is stale: .*it has app 1.0; run `pdm lock`"),
        ("poetry", "@app-1.0@", "0" * 64, "app", "no file of app 1.0 .*run `poetry lock`"),
        ("poetry", 'markers = "python_version < \\"3.12\\""', "", "tool", "has tool 1.0, 2.0, and does not say which"),
        ("poetry", WIDE, f'source.type = "git"\n{WIDE}', "app", "wide: .* is reached by https, http, ssh, file"),
        ("pdm", WIDE, f'git = "x"\n{WIDE}', "app", "wide: a git repository is reached by https, http, ssh, file"),
        ("pdm", "files =", 'path = "./wide"\nother =', "app", "is not a file with a sha256 hash"),
        ("pdm", "[[package]]", "[package]", "app", "pdm.lock is not valid TOML|is not a lock of pdm"),
        ("poetry", 'version = "3.0"', "", "app", "poetry.lock is not a lock of poetry"),
        ("pdm", '"Deep.Dep<4,>=2"', '"Deep.Dep<<4"', "app", "is not a valid requirement"),
        ("pdm", 'version = "1.0"', f'version = "{"9" * 5000}"', "app>=1", "cannot resolve the dependencies for"),
        ("pdm", "marker = \"python_version < '3.12'\"", 'marker = "python"', "tool", "marker that is not valid"),
    ],
)
def test_invalid_or_stale_lock(
    kind: str, old: str, new: str, requirements: str, message: str, ctx: Context, index: FakeIndex, root: Path
) -> None:
    text = TEXTS[kind].replace(old, new) if old else TEXTS[kind]
    assert not old or text != TEXTS[kind]
    with index.serving() as serving, pytest.raises(WheelError, match=message):
        pin(lock(root, serving, kind, requirements, text=text), root, AMD64, with_index(ctx, serving))
