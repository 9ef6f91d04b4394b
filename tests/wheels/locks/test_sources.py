"""Sources: a package comes only from the index or file that a table of uv, Poetry or PDM assigns to its name.

The public index has another package with each name of the private index, in a higher version.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_docker.build.api import write_plans
from hatch_docker.build.plans import open_plans
from hatch_docker.core.context import Context
from hatch_docker.core.errors import HatchDockerError, WheelError
from hatch_docker.plan.model import LockPlan
from hatch_docker.project.hatch import hatchling_project, open_hatchling
from hatch_docker.wheels.declared import declared_indexes
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.locks.pin import pin, pin_requirements
from hatch_docker.wheels.locks.uv import find_uv
from tests.fakes.lock_files import AMD64, names, with_index
from tests.fakes.package_index import FakeIndex, make_wheel
from tests.fakes.workspaces import UV_WORKSPACE, write_member

TABLE = '[tool.hatch-docker]\nbase = "debian:trixie"\nentrypoint = []\ncmd = ["python"]\n'
PRIVATE = ["inner-1.0-py3-none-any.whl"]
FOREIGN = ["inner-9.0-py3-none-any.whl"]
UV = '[[tool.uv.index]]\nname = "a"\nurl = "INDEX"\nexplicit = true\n[tool.uv.sources]\n'
POETRY = '[[tool.poetry.source]]\nname = "a"\nurl = "INDEX"\npriority = "explicit"\n[tool.poetry.dependencies]\n'
PDM = '[[tool.pdm.source]]\nname = "a"\nurl = "INDEX"\n'


@pytest.fixture
def public(index: FakeIndex) -> FakeIndex:
    for name in ("inner", "inner-more", "six"):
        index.add(name, make_wheel(name, "9.0"))
    return index.add("app", make_wheel("app", "1.0", requires=["inner"]))


@pytest.fixture
def private() -> Iterator[FakeIndex]:
    with FakeIndex(login=("user", "pass-mark")).serving() as serving:
        for name in ("inner", "inner-more"):
            serving.add(name, make_wheel(name, "1.0"))
        yield serving


def lock_plan(root: Path, tables: str, ctx: Context, private: FakeIndex, *lines: str, **variables: str) -> LockPlan:
    """Return the lock plan of a project with the given tables and dependencies. INDEX stands for the private index."""
    tables = tables.replace("INDEX", private.url_with_login)
    write_member(root, "proj", dependencies=lines or ["inner"], more=TABLE + tables)
    project = hatchling_project(open_hatchling(root), root)
    environ = {**ctx.environ, "HATCH_DOCKER_CACHE_DIR": str(root.parent / "cache"), **variables}
    return open_plans(project, environ)[0][0].lock


def pinned_files(root: Path, tables: str, ctx: Context, private: FakeIndex, *lines: str, **variables: str) -> list[str]:
    """Return the file names of a project's pinned dependencies."""
    return names(pin(lock_plan(root, tables, ctx, private, *lines, **variables), root, AMD64, ctx))


@pytest.mark.parametrize(("tables", "expected"), [
    (UV, FOREIGN),
    (f'{UV}inner = {{ index = "a" }}', PRIVATE),
    (f'{UV}Inner = [{{ index = "a", marker = "sys_platform == \'linux\'" }}]', PRIVATE),
    (f'{UV}inner = {{ index = "a", marker = "sys_platform == \'win32\'" }}', FOREIGN),
    (f'{UV}inner = {{ index = "a", extra = "fast" }}', FOREIGN),
    (UV.replace("explicit = true", ""), PRIVATE),
    (POETRY, FOREIGN),
    (f'{POETRY}inner = {{ version = "*", source = "a" }}', PRIVATE),
    (f'{POETRY}inner = [{{ version = "*", source = "a" }}]', PRIVATE),
    (POETRY.replace("explicit", "primary"), PRIVATE),
    (POETRY.replace("explicit", "supplemental"), FOREIGN),
    ('[[tool.poetry.source]]\nname = "PyPI"\n' + POETRY.replace("explicit", "primary"), FOREIGN),
    ('[[tool.poetry.source]]\nname = "PyPI"\npriority = "supplemental"\n' + POETRY.replace("explicit", "primary"),
     PRIVATE),
    (PDM, FOREIGN),
    (PDM.replace('"a"', '"pypi"'), PRIVATE),
    (f'{PDM}include_packages = ["inn*"]', PRIVATE),
    (f'{PDM}include_packages = ["inner"]\nexclude_packages = ["*"]', PRIVATE),
    (f'{PDM}include_packages = ["other"]\nexclude_packages = ["*"]', FOREIGN),
])  # fmt: skip
def test_package_comes_from_its_index(
    tables: str, expected: list[str], ctx: Context, public: FakeIndex, private: FakeIndex, root: Path
) -> None:
    ctx = with_index(ctx, public)
    assert pinned_files(root, tables, ctx, private) == expected
    assert fetch(pin(lock_plan(root, tables, ctx, private), root, AMD64, ctx), ctx, root=root)
    if expected == PRIVATE:
        assert not public.paths("/inner/inner")


def test_build_requirement_comes_from_its_index(
    ctx: Context, public: FakeIndex, private: FakeIndex, root: Path
) -> None:
    ctx = with_index(ctx, public)
    lock_plan(root, f'{UV}inner = {{ index = "a" }}', ctx, private)
    assert names(pin_requirements(["inner"], root, AMD64, ctx)) == PRIVATE


def test_source_with_extra_or_group(
    ctx: Context, public: FakeIndex, private: FakeIndex, root: Path
) -> None:
    """For example torch for CPU or GPU."""
    ctx = with_index(ctx, public)
    tables = (
        f'{UV}inner = [{{ index = "a", extra = "cpu" }}, {{ index = "a", group = "prod" }}]\n'
        '[project.optional-dependencies]\ncpu = ["inner"]\ngpu = ["inner"]\n[dependency-groups]\nprod = ["inner"]\n'
    )
    chosen = {"HATCH_DOCKER_EXTRAS": "cpu"}, {"HATCH_DOCKER_DEPENDENCY_GROUPS": "prod"}
    for variables in chosen:
        assert pinned_files(root, tables, ctx, private, "six", **variables)[0] == PRIVATE[0]
    assert pinned_files(root, tables, ctx, private, "six", HATCH_DOCKER_EXTRAS="gpu")[0] == FOREIGN[0]


def test_workspace_members_have_own_and_workspace_sources(
    ctx: Context, public: FakeIndex, private: FakeIndex, tmp_path: Path
) -> None:
    """An index of the workspace or the member. The member's sources have priority over the workspace's."""
    ctx = with_index(ctx, public)
    whole = UV.replace("INDEX", private.url_with_login)
    (tmp_path / "pyproject.toml").write_text(f'{UV_WORKSPACE}{whole}inner = {{ index = "a" }}\n')
    app = tmp_path / "packages/app"
    assert pinned_files(app, "", ctx, private) == PRIVATE
    own = UV.replace('"a"', '"b"') + 'inner-more = { index = "b" }'
    assert pinned_files(app, own, ctx, private, "inner", "inner-more") == [*PRIVATE, "inner_more-1.0-py3-none-any.whl"]
    table = UV.replace('"a"', '"c"').replace("INDEX", private.url_with_login)
    write_member(tmp_path / "packages/lib", "lib", dependencies=["inner-more"], more=f'{table}inner-more.index = "c"\n')
    tables = "[tool.uv.sources]\ninner-more.index = 'd'\nlib.workspace = true"
    assert pinned_files(app, tables, ctx, private, "lib") == ["inner_more-1.0-py3-none-any.whl"]
    assert fetch(pin(lock_plan(app, tables, ctx, private, "lib"), app, AMD64, ctx), ctx, root=app)


def test_sources_are_part_of_the_resolution_key(
    ctx: Context, public: FakeIndex, private: FakeIndex, tmp_path: Path
) -> None:
    ctx = with_index(ctx, public)
    bound = f'{UV}inner = {{ index = "a" }}'
    for number, (tables, expected) in enumerate([(UV, FOREIGN), (bound, PRIVATE), (UV, FOREIGN)]):
        assert pinned_files(tmp_path / str(number), tables, ctx, private) == expected
    assert pinned_files(tmp_path / "x", bound.replace("explicit = true", ""), ctx, private, "inner", "six") == [
        PRIVATE[0], "six-9.0-py3-none-any.whl"
    ]


def test_password_of_a_source_is_hidden(
    ctx: Context, public: FakeIndex, private: FakeIndex, root: Path, lines: list[str]
) -> None:
    bound = f'{UV}inner = {{ index = "a" }}', f'{POETRY}inner = {{ source = "a" }}', f'{PDM}include_packages = ["*"]'
    for tables in bound:
        lock = lock_plan(root, tables, with_index(ctx, public), private)
        pins = pin(lock, root, AMD64, with_index(ctx, public))
        fetch(pins, with_index(ctx, public), root=root)
        kept = [path for path in ctx.store.root.rglob("*") if path.is_file()]
        for text in (repr(lock), repr(pins), "\n".join(lines), *(path.read_text("latin-1") for path in kept)):
            assert "pass-mark" not in text


@pytest.mark.parametrize("login", [
    {"POETRY_HTTP_BASIC_A_USERNAME": "user", "POETRY_HTTP_BASIC_A_PASSWORD": "pass-mark"},
    {"UV_INDEX_A_USERNAME": "user", "UV_INDEX_A_PASSWORD": "pass-mark"},
    {"NETRC": "netrc"},
], ids=["poetry", "uv", "netrc"])  # fmt: skip
def test_login_of_variables_or_netrc(
    login: dict[str, str], ctx: Context, public: FakeIndex, private: FakeIndex, root: Path
) -> None:
    (root / "netrc").write_text("machine 127.0.0.1 login user password pass-mark\n")
    if "NETRC" in login:
        login = {"NETRC": str(root / "netrc")}
    ctx = with_index(ctx, public, **login)
    tables = f'{POETRY}inner = {{ source = "a" }}'.replace("INDEX", private.url)
    assert pinned_files(root, tables, ctx, private) == PRIVATE
    assert fetch(pin(lock_plan(root, tables, ctx, private), root, AMD64, ctx), ctx, root=root)


def test_variables_in_logins_of_pdm(ctx: Context, public: FakeIndex, private: FakeIndex, root: Path) -> None:
    ctx = with_index(ctx, public, USER_NAME="user", TOKEN="pass-mark")
    url = private.url.replace("//", "//${USER_NAME}:${TOKEN}@")
    assert pinned_files(root, f'{PDM}include_packages = ["inner"]'.replace("INDEX", url), ctx, private) == PRIVATE
    source = f'{PDM}include_packages = ["inner"]\nusername = "user"\npassword = "${{TOKEN}}"'
    assert pinned_files(root, source.replace("INDEX", private.url), ctx, private) == PRIVATE


@pytest.mark.parametrize(("tool", "url"), [
    ("pdm", "https://a%2Fb%40:a%2Fb%40@${T}.example/${T}"), ("poetry", "https://${T}:${T}@${T}.example/${T}"),
])  # fmt: skip
def test_variables_in_addresses_are_not_expanded(tool: str, url: str) -> None:
    """As in PDM and Poetry: an address is written to locks and messages, and names the server of requests."""
    source = {"name": "a", "url": "https://${T}:${T}@${T}.example/${T}"}
    declared = declared_indexes({"tool": {tool: {"source": [source]}}}, {"T": "a/b@"})
    assert declared is not None
    assert [entry["url"] for entry in declared.indexes] == [url]


@pytest.mark.parametrize("tables", ["[tool.uv.sources]\ninner", "[tool.poetry.dependencies]\ninner"])
def test_wheel_at_path_or_url(
    tables: str, ctx: Context, public: FakeIndex, private: FakeIndex, root: Path
) -> None:
    """Its current hash is computed."""
    name, data = make_wheel("inner", "2.0")
    (root / "wheels").mkdir()
    (root / "wheels" / name).write_bytes(data)
    ctx = with_index(ctx, public)
    assert pinned_files(root, f'{tables} = {{ path = "wheels/{name}" }}', ctx, private) == [name]
    (root / "wheels" / name).write_bytes(make_wheel("inner", "2.0", requires=["six"])[1])
    pins = pin(lock_plan(root, f'{tables} = {{ path = "wheels/{name}" }}', ctx, private), root, AMD64, ctx)
    assert names(pins) == [name, "six-9.0-py3-none-any.whl"]
    assert fetch(pins, ctx, root=root)
    assert ctx.local_wheels == {str(root / "wheels" / name)}
    public.add("inner", make_wheel("inner", "2.0"))
    at = f"http://127.0.0.1:{public.port}/files/inner/{name}"
    assert pinned_files(root, f'{tables} = {{ url = "{at}" }}', ctx, private) == [name]


@pytest.mark.parametrize(("tables", "message"), [
    (f'{UV}inner = {{ index = "b" }}', r"sources\] inner names the index 'b', which no \[\[tool.uv.index"),
    (f'{POETRY}inner = {{ source = "b" }}', r"inner names the index 'b', which no \[\[tool.poetry.source"),
    (f'{UV}inner = {{ git = "ext::u:pass-mark@x.example/inner" }}', "inner: a git repository is reached by"),
    (f'{UV}inner = {{ path = "../inner.tar.gz" }}', "inner: there is no file ../inner.tar.gz"),
    (f'{UV}inner = {{ path = "../inner" }}', "is at ../inner, which is no wheel, no sdist and no project: correct"),
    (f'{UV}inner = {{ path = "inner.whl" }}', "inner: there is no file inner.whl"),
    (f'[tool.uv]\noverride-dependencies = ["inner"]\n{UV}inner = {{ index = "a" }}', "has inner, .* run `uv lock`"),
    (f"{UV}inner = {{ workspace = true }}", "names the workspace, which does not have"),
    (f'{UV}inner = [{{ index = "a" }}, {{ url = "https://x.example/y.whl" }}]', "takes inner from .* and "),
    (f'{POETRY}inner = {{ git = "hg://x.example/inner" }}', "inner: a git repository is reached by"),
    (f'{POETRY}inner = [{{ source = "a", python = "<3.9" }}, {{ path = "x" }}]', "has several places: lock with"),
    (f'{PDM}exclude_packages = ["inner"]\n[[tool.pdm.source]]\nname = "b"\nurl = "https://x.example/simple"',
     r"\[\[tool.pdm.source\]\] a: uv cannot look for inner in some of the indexes: .*`pdm lock`"),
])  # fmt: skip
def test_unsupported_source_is_rejected(
    tables: str, message: str, ctx: Context, public: FakeIndex, private: FakeIndex, root: Path
) -> None:
    with pytest.raises(HatchDockerError, match=message) as caught:
        pinned_files(root, tables, with_index(ctx, public), private)
    assert "pass-mark" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not public.paths("inner")


@pytest.mark.parametrize("tables", [
    f'{PDM}include_packages = ["inn*"]',
    f'[tool.uv]\nconstraint-dependencies = ["inner<99"]\n{UV}inner = {{ index = "a" }}',
])  # fmt: skip
@pytest.mark.parametrize("known", [True, False])
def test_source_of_transitive_dependency(
    tables: str, known: bool, ctx: Context, public: FakeIndex, private: FakeIndex, root: Path
) -> None:
    """For PDM's patterns, and uv's sources of constraints; the package may be on one index or on both."""
    if not known:
        del public.files["inner"]
    assert pinned_files(root, tables, with_index(ctx, public), private, "app") == ["app-1.0-py3-none-any.whl", *PRIVATE]


def test_uv_no_sources_disables_uvs_sources(ctx: Context, public: FakeIndex, private: FakeIndex, root: Path) -> None:
    """As in uv. Poetry's sources are not affected."""
    ctx = with_index(ctx, public, UV_NO_SOURCES="1")
    assert pinned_files(root, f'{UV}inner = {{ index = "a" }}', ctx, private) == FOREIGN
    assert pinned_files(root, f'{POETRY}inner = {{ source = "a" }}', ctx, private) == PRIVATE


def test_sources_after_the_public_index_are_not_used(
    ctx: Context, public: FakeIndex, private: FakeIndex, root: Path
) -> None:
    """uv uses its default index last. The error for a package that only such a source has names the remedy."""
    private.add("only", make_wheel("only", "1.0"))
    ordered = f"{PDM}[tool.pdm.resolution]\nrespect-source-order = true\n"
    for tool, tables in (("poetry", POETRY.replace("explicit", "supplemental")), ("pdm", ordered)):
        assert pinned_files(root, tables, with_index(ctx, public), private) == FOREIGN
        with pytest.raises(WheelError, match=f"only was not found .*source.. a comes after .*lock with `{tool} lock`"):
            pinned_files(root, tables, with_index(ctx, public), private, "only")


def lock_of(kind: str, index: FakeIndex, version: str) -> str:
    """Return a lock of `kind` with one package from an index."""
    file = f"inner-{version}-py3-none-any.whl"
    url, sha256 = f"http://127.0.0.1:{index.port}/files/inner/{file}", index.sha256(file)
    own = '\n[[package]]\nname = "proj"\nsource = { editable = "." }\ndependencies = [{ name = "inner" }]'
    head = f'\nname = "inner"\nversion = "{version}"\n'
    wheels = f'wheels = [{{ url = "{url}", name = "{file}", hashes.sha256 = "{sha256}" }}]'
    return {
        "uv.lock": f'version = 1\n[[package]]{head}source.registry = "{index.url}"\n'
                   f'wheels = [{{ url = "{url}", hash = "sha256:{sha256}" }}]{own}',
        "pylock.toml": f'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]{head}index = "{index.url}"\n{wheels}',
        "poetry.lock": f'[[package]]{head}files = [{{file = "{file}", hash = "sha256:{sha256}"}}]\n'
                       f'source = {{type = "legacy", url = "{index.url}", reference = "a"}}',
        "pdm.lock": f'[[package]]{head}files = [{{file = "{file}", hash = "sha256:{sha256}"}}]',
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["uv.lock", "pylock.toml", "poetry.lock", "pdm.lock"])
def test_locked_package_comes_from_the_locks_index(
    kind: str, ctx: Context, public: FakeIndex, private: FakeIndex, root: Path
) -> None:
    """The public index has another file of the same version."""
    public.add("inner", make_wheel("inner", "1.0", requires=["six"]))
    tables = {
        "poetry.lock": f'{POETRY}inner = {{ source = "a" }}', "pdm.lock": f'{PDM}include_packages = ["inner"]',
    }.get(kind, f'{UV}inner = {{ index = "a" }}')  # fmt: skip
    (root / kind).write_text(lock_of(kind, private, "1.0"))
    ctx = with_index(ctx, public)
    lock = lock_plan(root, tables, ctx, private)
    assert lock.path == kind
    pins = pin(lock, root, AMD64, ctx)
    assert [file.sha256 for file in pins] == [private.sha256(PRIVATE[0])]
    assert fetch(pins, ctx, root=root)
    assert not public.paths("inner")


@pytest.mark.parametrize("kind", ["uv.lock", "pylock.toml", "poetry.lock"])
def test_lock_with_another_index_than_the_source_is_stale(
    kind: str, ctx: Context, public: FakeIndex, private: FakeIndex, root: Path
) -> None:
    """The table was changed after the lock, and the tool would lock again."""
    (root / kind).write_text(lock_of(kind, public, "9.0"))
    ctx = with_index(ctx, public)
    assert pinned_files(root, "", ctx, private) == FOREIGN
    tables = f'{POETRY}inner = {{ source = "a" }}' if kind == "poetry.lock" else f'{UV}inner = {{ index = "a" }}'
    message = f"{kind} is stale: the project takes inner from index a, it has inner from {public.url}; "
    with pytest.raises(WheelError, match=message):
        pinned_files(root, tables, ctx, private)


def test_login_in_an_address_is_not_in_the_plan_file(ctx: Context, private: FakeIndex, root: Path) -> None:
    tables = f'{UV}inner.url = "https://u:pass-mark@x.example/inner.whl"\n[tool.hatch.metadata]'
    tables += "\nallow-direct-references = true\n"
    lock_plan(root, tables, ctx, private, "inner", "six @ https://user:pass-mark@x.example/six.whl")
    environ = {**ctx.environ, "HATCH_DOCKER_CACHE_DIR": str(root / "cache")}
    (path,) = write_plans(hatchling_project(open_hatchling(root), root), root, environ)
    assert {"x.example/inner.whl", "x.example/six.whl"} <= set(re.findall(r"x\.example/\w+\.whl", path.read_text()))
    assert "pass-mark" not in path.read_text()


def test_uv_lock_and_resolution_agree(
    ctx: Context, public: FakeIndex, private: FakeIndex, root: Path
) -> None:
    """uv writes the index's URL without login."""
    ctx = with_index(ctx, public)
    tables = f'[tool.uv]\nconstraint-dependencies = ["inner<99"]\n{UV}inner = {{ index = "a" }}'
    resolved = pin(lock_plan(root, tables, ctx, private, "app", "six"), root, AMD64, ctx)
    command = [find_uv(ctx.environ), "lock", "--quiet", "--python", sys.executable]
    subprocess.run(command, cwd=root, env=dict(ctx.environ), check=True)
    lock = lock_plan(root, tables, ctx, private, "app", "six")
    assert lock.path == "uv.lock"
    assert [file.sha256 for file in pin(lock, root, AMD64, ctx)] == [file.sha256 for file in resolved]
    assert names(resolved) == ["app-1.0-py3-none-any.whl", *PRIVATE, "six-9.0-py3-none-any.whl"]
