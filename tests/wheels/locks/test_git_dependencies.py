"""Dependencies outside of indexes: git commits, sdists at a URL or path, and local files without a hash in the lock."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_docker.core.context import Context
from hatch_docker.core.errors import WheelError
from hatch_docker.plan.model import LockPlan
from hatch_docker.project.git_source import git_address
from hatch_docker.project.sources import Source
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.locks.pin import pin
from hatch_docker.wheels.target import Pin
from tests.conftest import need, run
from tests.fakes.lock_files import FOREIGN, HOST, names, resolve_plan, with_index
from tests.fakes.package_index import FakeIndex, make_sdist, make_wheel
from tests.fakes.repositories import STATIC, commit_all, make_repository

OWN = '\n[[package]]\nname = "proj"\nsource = { editable = "." }\ndependencies = [{ name = "below" }]'
HG = """lock-version = "1.0"
created-by = "x"
[[packages]]
name = "below"
vcs = {type = "hg", url = "https://x.example/a", commit-id = "1"}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    need("git")
    make_repository(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def index() -> Iterator[FakeIndex]:
    with FakeIndex().serving() as serving:
        yield serving.add("six", make_wheel("six", "1.0")).add("below", make_wheel("below", "9.0"))


def built_metadata(requested: Pin, path: Path) -> bytes:
    """Return the metadata of top-dep, as if they came from its build."""
    assert path.is_file()
    assert requested.needs_git
    return f"Metadata-Version: 2.4\nName: {requested.name}\nVersion: 1.6.dev1\nRequires-Dist: six\n".encode()


def lock_of(kind: str, repository: Path, commit: str) -> str:
    """Return a lock of `kind` with the package "below" at a git commit."""
    url, head = repository.as_uri(), '\nname = "below"\nversion = "3.1"\n'
    return {
        "uv.lock": f'version = 1\n[[package]]{head}source = {{ git = "{url}?subdirectory=sub&rev=main#{commit}" }}'
                   f"{OWN}",
        "pylock.toml": f'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]{head}'
                       f'vcs = {{type = "git", url = "{url}", commit-id = "{commit}", subdirectory = "sub"}}',
        "poetry.lock": f'[[package]]{head}files = []\n[package.source]\ntype = "git"\nurl = "{url}"\n'
                       f'reference = "main"\nresolved_reference = "{commit}"\nsubdirectory = "sub"',
        "pdm.lock": f'[[package]]{head}git = "{url}"\nref = "main"\nrevision = "{commit}"\nsubdirectory = "sub"',
        "requirements.txt": f"below @ git+{url}@{commit}#subdirectory=sub",
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["uv.lock", "pylock.toml", "poetry.lock", "pdm.lock", "requirements.txt"])
def test_locked_commit(kind: str, repository: Path, ctx: Context, index: FakeIndex, root: Path) -> None:
    """A moved branch does not matter, and files that are missing in the cache are downloaded again."""
    commit = run("git", "rev-parse", "HEAD", cwd=repository).strip()
    (root / kind).write_text(lock_of(kind, repository, commit))
    lock = LockPlan(kind.partition(".")[0], kind, ("below",))
    (repository / "sub/pyproject.toml").write_text(STATIC.replace("3.1", "4.0"))
    commit_all(repository)
    found, = pin(lock, root, HOST, with_index(ctx, index))
    assert (found.title, found.filename, found.subdirectory) == ("below 3.1", "below-3.1.tar.gz", "sub")
    assert found.commit == (f"git+{repository.as_uri()}@{commit}", commit)
    ctx.store.discard(ctx.store.blob_path(f"sha256:{found.sha256}"))
    assert fetch([found], with_index(ctx, index), root=root)[0].is_file()
    assert not index.paths("below")
    with pytest.raises(WheelError, match=r"below 3.1 has no wheel for .*, and its sdist cannot be compiled"):
        pin(lock, root, FOREIGN, with_index(ctx, index))


@pytest.mark.parametrize(("kind", "ref", "stale"), [
    ("uv.lock", "main", False), ("uv.lock", "", False), ("uv.lock", "refs/heads/main", False), ("uv.lock", "v9", True),
    ("poetry.lock", "a" * 40, True), ("requirements.txt", "main", False), ("pdm.lock", "https://x.example/a", True),
])  # fmt: skip
def test_lock_of_another_commit_than_the_projects_is_stale(
    kind: str, ref: str, stale: bool, repository: Path, ctx: Context, index: FakeIndex, root: Path
) -> None:
    """After such an edit of the project its tool would lock again."""
    (root / kind).write_text(lock_of(kind, repository, run("git", "rev-parse", "HEAD", cwd=repository).strip()))
    address = git_address(ref if "://" in ref else repository.as_uri(), "" if "://" in ref else ref, "sub")
    source = Source("below", "git", address, "[tool.uv.sources] below")
    for lock in (
        LockPlan(kind.partition(".")[0], kind, (f"below @ {address}",)),
        LockPlan(kind.partition(".")[0], kind, ("below",), sources=(source,)),
    ):
        if stale:
            with pytest.raises(WheelError, match=f"{kind} is stale: the project takes below from git .*, it has below"):
                pin(lock, root, HOST, with_index(ctx, index))
        else:
            assert pin(lock, root, HOST, with_index(ctx, index))


@pytest.mark.parametrize("kind", ["reference", "source"])
def test_branch_without_lock_becomes_a_commit(
    kind: str, repository: Path, ctx: Context, index: FakeIndex, root: Path, lines: list[str]
) -> None:
    """The commit is reported and cached like a resolution; no index is requested for the package."""
    url = repository.as_uri()
    addresses = {"below": git_address(url, "main", "sub"), "top-dep": git_address(url, "main")}
    lock = resolve_plan(*(f"{name} @ {address}" for name, address in addresses.items()))
    if kind == "source":
        found = (Source(name, "git", address, f"[tool.uv.sources] {name}") for name, address in addresses.items())
        lock = LockPlan("resolve", requirements=("below", "top-dep"), sources=tuple(found))
    commit = run("git", "rev-parse", "HEAD", cwd=repository).strip()
    pins = pin(lock, root, HOST, with_index(ctx, index), metadata=built_metadata)
    assert names(pins) == ["below-3.1.tar.gz", "six-1.0-py3-none-any.whl", "top-dep.source.tar.gz"]
    assert [found.version for found in pins] == ["3.1", "1.0", "1.6.dev1"]
    assert pins[0].commit[1] == pins[2].commit[1] == commit
    assert f"below: main of {repository.as_uri()} is commit {commit[:12]}" in lines
    (repository / "more").touch()
    commit_all(repository)
    assert pin(lock, root, HOST, with_index(ctx, index)) == pins
    assert not index.paths("below")


def test_git_dependency_may_require_another(repository: Path, ctx: Context, index: FakeIndex, root: Path) -> None:
    """Only a local repository may require a local path."""
    other = repository.parent / "other"
    make_repository(other)
    needs = git_address(other.as_uri(), "main")
    text = STATIC.replace('"six"', f'"six", "top-dep @ {needs} ; python_version > \'3\'"')
    (repository / "sub/pyproject.toml").write_text(text)
    commit_all(repository)
    lock = resolve_plan(f"below @ {git_address(repository.as_uri(), 'main', 'sub')}")
    found = names(pin(lock, root, HOST, with_index(ctx, index), metadata=built_metadata))
    assert found == ["below-3.1.tar.gz", "six-1.0-py3-none-any.whl", "top-dep.source.tar.gz"]


@pytest.mark.parametrize("place", ["path", "url"])
def test_sdist_at_url_or_path(place: str, ctx: Context, index: FakeIndex, root: Path) -> None:
    """Its current hash is computed; no index is requested for the package."""
    name, data = make_sdist("gamma", "2.0", requires=["six"])
    (root / name).write_bytes(data)
    index.add("gamma", (name, data))
    url = f"http://127.0.0.1:{index.port}/files/gamma/{name}" if place == "url" else (root / name).as_uri()
    source = Source("gamma", place, url if place == "url" else name, "[tool.uv.sources] gamma")
    for lock in (resolve_plan(f"gamma @ {url}"), LockPlan("resolve", requirements=("gamma",), sources=(source,))):
        pins = pin(lock, root, HOST, with_index(ctx, index))
        assert names(pins) == ["gamma-2.0.tar.gz", "six-1.0-py3-none-any.whl"]
        assert pins[0].sha256 == index.sha256(name)
        assert pins[0].url == url
    assert not index.paths("/simple/gamma")


@pytest.mark.parametrize("kind", ["uv.lock", "requirements.txt", "pdm.lock"])
def test_hash_of_local_file_is_computed(
    kind: str, ctx: Context, index: FakeIndex, root: Path
) -> None:
    """A uv.lock has no hashes of files in find-links directories."""
    (root / "links").mkdir()
    name, data = make_wheel("below", "3.1")
    text = {
        "uv.lock": f'version = 1\n[[package]]\nname = "below"\nversion = "3.1"\nsource = {{ registry = "links" }}\n'
                   f'wheels = [{{ path = "{name}" }}]{OWN}',
        "pdm.lock": f'[[package]]\nname = "below"\nversion = "3.1"\npath = "./links/{name}"',
        "requirements.txt": f"below @ {(root / 'links' / name).as_uri()}",
    }[kind]  # fmt: skip
    (root / kind).write_text(text)
    lock = LockPlan(kind.partition(".")[0], kind, ("below",))
    digests = []
    for content in (data, make_wheel("below", "3.1", requires=["six"])[1]):
        (root / "links" / name).write_bytes(content)
        pins = pin(lock, root, HOST, with_index(ctx, index))
        assert fetch(pins, ctx, root=root)[0].read_bytes() == content
        digests.append(pins[0].sha256)
    assert digests[0] != digests[1]
    (root / "links" / name).unlink()
    with pytest.raises(WheelError, match=r"there is no file .*; lock the project again"):
        pin(lock, root, HOST, with_index(ctx, index))


@pytest.mark.parametrize(("kind", "text", "message"), [
    ("requirements.txt", "below @ git+https://x.example/a@main", "is at a branch or a tag, which may move: name"),
    ("uv.lock", f'version = 1\n[[package]]\nname = "below"\nsource = {{ git = "ext::sh#{"a" * 40}" }}{OWN}',
     "uv.lock: below: .* by another way|not the address"),
    ("pylock.toml", HG, "comes from a hg repository, and only git's are known"),
])  # fmt: skip
def test_unsupported_git_dependency_is_rejected(
    kind: str, text: str, message: str, ctx: Context, index: FakeIndex, root: Path
) -> None:
    (root / kind).write_text(text)
    with pytest.raises(WheelError, match=message) as caught:
        pin(LockPlan(kind.partition(".")[0], kind, ("below",)), root, HOST, with_index(ctx, index))
    assert "\n" not in str(caught.value)


def test_git_dependency_with_wrong_name(repository: Path, ctx: Context, index: FakeIndex, root: Path) -> None:
    lock = resolve_plan(f"other @ {git_address(repository.as_uri(), 'main', 'sub')}")
    with pytest.raises(WheelError, match=r"other at .* is below: correct the dependency's name"):
        pin(lock, root, HOST, with_index(ctx, index))
