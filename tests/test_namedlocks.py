"""poetry.lock and pdm.lock: what the project reaches in them for a target, by hash."""

# ruff: noqa: F811 - fixtures of test_lock are used by name
from __future__ import annotations

from pathlib import Path

import pytest

from hatch_docker.context import Context
from hatch_docker.errors import WheelError
from hatch_docker.plan import LockPlan
from hatch_docker.wheels import Target
from hatch_docker.wheels.lock import pin
from tests.fakes.index import FakeIndex, make_wheel
from tests.test_lock import AMD64, ctx, lines, names, root, using  # noqa: F401

WHEELS = {
    ("app", "1.0"), ("tool", "1.0"), ("tool", "2.0"), ("deep-dep", "3.0"), ("fast_path", "1.5"), ("wide", "0.1"),
}

POETRY = """
[[package]]
name = "app"
version = "1.0"
optional = false
groups = ["main"]
files = [{file = "app-1.0-py3-none-any.whl", hash = "sha256:@app-1.0@"}]

[package.dependencies]
Deep_Dep = ">=2,<4"
fast-path = {version = "^1.5", optional = true, markers = "extra == \\"fast\\""}
colorama = {version = "*", markers = "platform_system == \\"Windows\\""}
wide = [
  {version = ">=0.1", markers = "python_version >= \\"3.9\\""},
  {version = "<0.1", markers = "python_version < \\"3.9\\""},
]

[package.extras]
fast = ["fast-path (>=1.5)"]

[[package]]
name = "deep-dep"
version = "3.0"
files = [{file = "deep_dep-3.0-py3-none-any.whl", hash = "sha256:@deep_dep-3.0@"}]

[[package]]
name = "fast-path"
version = "1.5"
optional = true
files = [{file = "fast_path-1.5-py3-none-any.whl", hash = "sha256:@fast_path-1.5@"}]

[[package]]
name = "tool"
version = "1.0"
markers = "python_version < \\"3.12\\""
files = [{file = "tool-1.0-py3-none-any.whl", hash = "sha256:@tool-1.0@"}]

[[package]]
name = "tool"
version = "2.0"
markers = {main = "python_version >= \\"3.12\\"", dev = "python_version >= \\"3.12\\""}
files = [{file = "tool-2.0-py3-none-any.whl", hash = "sha256:@tool-2.0@"}]

[[package]]
name = "wide"
version = "0.1"
files = [{file = "wide-0.1-py3-none-any.whl", hash = "sha256:@wide-0.1@"}]

[metadata]
lock-version = "2.1"
"""

PDM = """
[metadata]
lock_version = "4.5.0"

[[package]]
name = "app"
version = "1.0"
dependencies = ["Deep.Dep<4,>=2", "colorama; platform_system == 'Windows'", "wide>=0.1; python_version >= '3.9'"]
files = [{file = "app-1.0-py3-none-any.whl", hash = "sha256:@app-1.0@"}]

[[package]]
name = "app"
version = "1.0"
extras = ["fast"]
dependencies = ["app==1.0", "fast-path>=1.5"]
files = [{file = "app-1.0-py3-none-any.whl", hash = "sha256:@app-1.0@"}]

[[package]]
name = "deep-dep"
version = "3.0"
files = [{file = "deep_dep-3.0-py3-none-any.whl", hash = "sha256:@deep_dep-3.0@"}]

[[package]]
name = "fast-path"
version = "1.5"
files = [{url = "http://127.0.0.1/fast_path-1.5-py3-none-any.whl", hash = "sha256:@fast_path-1.5@"}]

[[package]]
name = "tool"
version = "1.0"
marker = "python_version < '3.12'"
files = [{file = "tool-1.0-py3-none-any.whl", hash = "sha256:@tool-1.0@"}]

[[package]]
name = "tool"
version = "2.0"
marker = "python_version >= '3.12'"
files = [{file = "tool-2.0-py3-none-any.whl", hash = "sha256:@tool-2.0@"}]

[[package]]
name = "wide"
version = "0.1"
files = [{file = "wide-0.1-py3-none-any.whl", hash = "sha256:@wide-0.1@"}]
"""

TEXTS = {"poetry": POETRY, "pdm": PDM}


@pytest.fixture
def index() -> FakeIndex:
    index = FakeIndex()
    for name, version in sorted(WHEELS):
        index.add(name.replace("_", "-"), make_wheel(name.replace("-", "_"), version))
    return index


def lock(root: Path, index: FakeIndex, kind: str, *asked: str, text: str = "") -> LockPlan:
    text = text or TEXTS[kind]
    for name, version in WHEELS:
        stem = f"{name.replace('-', '_')}-{version}"
        text = text.replace(f"@{stem}@", index.sha256(f"{stem}-py3-none-any.whl"))
    (root / f"{kind}.lock").write_text(text)
    return LockPlan(kind, f"{kind}.lock", asked)


@pytest.mark.parametrize("kind", ["poetry", "pdm"])
def test_what_the_project_reaches_is_pinned_by_hash(kind: str, ctx: Context, index: FakeIndex, root: Path) -> None:
    """Names of any spelling, markers of the target, extras of dependencies, one of two versions; nothing else."""
    with index.serving() as serving:
        pins = pin(lock(root, serving, kind, "app", "tool>=1"), root, AMD64, using(ctx, serving))
        assert [(one.name, one.version) for one in pins] == [
            ("app", "1.0"), ("deep-dep", "3.0"), ("tool", "2.0"), ("wide", "0.1")
        ]
        older = Target("3.11.2", AMD64.platform, AMD64.libc)
        old = pin(lock(root, serving, kind, "tool"), root, older, using(ctx, serving))
        assert names(old) == ["tool-1.0-py3-none-any.whl"]
        fast = pin(lock(root, serving, kind, "app[fast]"), root, AMD64, using(ctx, serving))
        assert "fast_path-1.5-py3-none-any.whl" in names(fast)


def test_an_extra_asked_for_later_is_followed(ctx: Context, index: FakeIndex, root: Path) -> None:
    """A package reached twice, the second time with an extra, brings what the extra asks for."""
    with index.serving() as serving:
        for kind in ("poetry", "pdm"):
            pins = pin(lock(root, serving, kind, "app", "app[fast]"), root, AMD64, using(ctx, serving))
            assert "fast_path-1.5-py3-none-any.whl" in names(pins)


@pytest.mark.parametrize(
    ("kind", "old", "new", "asked", "message"),
    [
        ("poetry", 'name = "deep-dep"', 'name = "other"', "app", "names deep-dep, which it does not have.*poetry lock"),
        ("pdm", 'name = "deep-dep"', 'name = "other"', "app", "names deep-dep, which it does not have.*pdm lock"),
        ("poetry", "", "", "missing", "poetry.lock is stale: .*does not have missing; run `poetry lock`"),
        ("pdm", "", "", "app>=2", "pdm.lock is stale: .*it has app 1.0; run `pdm lock`"),
        ("poetry", "@app-1.0@", "0" * 64, "app", "no file of app 1.0 .*run `poetry lock`"),
        ("poetry", 'markers = "python_version < \\"3.12\\""', "", "tool", "has tool 1.0, 2.0, and does not say which"),
        ("poetry", 'name = "wide"', 'source.type = "git"\nname = "wide"', "app", "wide 0.1 is no file with a sha256"),
        ("pdm", 'name = "wide"', 'git = "x"\nname = "wide"', "app", "wide 0.1 is no file with a sha256"),
        ("pdm", "[[package]]", "[package]", "app", "pdm.lock is not valid TOML|is not a lock of pdm"),
        ("poetry", 'version = "3.0"', "", "app", "poetry.lock is not a lock of poetry"),
        ("pdm", '"Deep.Dep<4,>=2"', '"Deep.Dep<<4"', "app", "is not a valid requirement"),
        ("pdm", "marker = \"python_version < '3.12'\"", 'marker = "python"', "tool", "marker that is not valid"),
    ],
)
def test_bad_locks(
    kind: str, old: str, new: str, asked: str, message: str, ctx: Context, index: FakeIndex, root: Path
) -> None:
    text = TEXTS[kind].replace(old, new) if old else TEXTS[kind]
    assert not old or text != TEXTS[kind]
    with index.serving() as serving, pytest.raises(WheelError, match=message):
        pin(lock(root, serving, kind, asked, text=text), root, AMD64, using(ctx, serving))
