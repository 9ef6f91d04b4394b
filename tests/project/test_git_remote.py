"""Remote git repositories as sources of dependencies: their addresses, and the commits fetched from them."""

import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.core.cache.store import open_store
from hatch_docker.core.context import Context
from hatch_docker.core.errors import HatchDockerError, OfflineError, RegistryError, WheelError
from hatch_docker.project.git_remote import fetch_commit, resolve_commit, submodule_source
from hatch_docker.project.git_source import GitSource, git_address, parse_git
from hatch_docker.wheels.repository import repository_archive
from tests.conftest import need, run
from tests.fakes.context import with_environ
from tests.fakes.repositories import commit_all, make_repository, serving_files
from tests.projects import git

COMMIT = "a" * 40


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A repository with two commits and a tag."""
    need("git")
    make_repository(tmp_path / "remote")
    return tmp_path / "remote"


def source(remote: Path, ref: str = "main") -> GitSource:
    return parse_git(git_address(remote.as_uri(), ref), "the test")


@pytest.mark.parametrize(("address", "expected"), [
    ("git+https://u:p@x.example/a@v1#subdirectory=b%20c&egg=d",
     GitSource("https://x.example/a", "v1", "b c", "u:p")),
    ("git+ssh://git@x.example/a.git", GitSource("ssh://git@x.example/a.git")),
    ("git@x.example:o/a.git", GitSource("ssh://git@x.example/o/a.git")),
    (git_address("git@x.example:o/a.git", "feature/x", "s"),
     GitSource("ssh://git@x.example/o/a.git", "feature/x", "s")),
    ("https://x.example/a?subdirectory=b&rev=v1", GitSource("https://x.example/a", "v1", "b")),
    ("https://x.example:8443/a?branch=main", GitSource("https://x.example:8443/a", "main")),
    ("git+file:///a/b", GitSource("file:///a/b")),
])  # fmt: skip
def test_address_forms_of_tools(address: str, expected: GitSource) -> None:
    found = parse_git(address, "the test")
    assert found == expected
    assert parse_git(str(found), "x") == GitSource(found.url, found.ref, found.subdirectory)
    assert "u:p" not in str(found)


@pytest.mark.parametrize("address", [
    "git+ext::sh -c touch% ran", "git+ext::sh", "git+git://x.example/a", "git+https:///a", "git+https://x.example",
    "git+ssh://-oProxyCommand=x/a", "git+https://x.example/a@--upload-pack=x", "git+https://x.example/a@a..b",
    "git+https://x.example/a#subdirectory=../b", "git+https://x.example:no/a", "git+-x", "git+file://host/a@-x",
])  # fmt: skip
def test_address_that_git_could_misread_is_rejected(address: str) -> None:
    with pytest.raises(WheelError, match=r"^here: ") as caught:
        parse_git(address, "here")
    assert "\n" not in str(caught.value)


def test_branch_tag_and_commit_are_resolved(remote: Path, ctx: Context) -> None:
    """An annotated tag is resolved to its commit. If a branch and a tag have the same name, the branch is used."""
    tagged, newest = (run("git", "rev-parse", f"{name}^{{commit}}", cwd=remote).strip() for name in ("v1.5", "main"))
    git(remote, "branch", "v9", "v1.5")
    git(remote, "tag", "v9", "main")
    expected = {
        "": newest, "main": newest, "refs/heads/main": newest, "v1.5": tagged, "refs/tags/v1.5": tagged, "v9": tagged,
        "refs/tags/v9": newest, COMMIT: COMMIT,
    }  # fmt: skip
    assert {ref: resolve_commit(source(remote, ref), ctx).ref for ref in expected} == expected
    with pytest.raises(WheelError, match="has no branch and no tag nope: name one, or a whole commit"):
        resolve_commit(source(remote, "nope"), ctx)


def members(archive: Path) -> dict[str, str]:
    """Return the members of an archive by name: a file's content, a link's target."""
    with tarfile.open(archive) as tar:
        found = {}
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            found[member.name] = content.read().decode("latin-1") if content else member.linkname
        return found


@pytest.mark.parametrize("server", ["file", "http"])
def test_archive_of_a_commit_is_reproducible(server: str, remote: Path, tmp_path: Path, ctx: Context) -> None:
    """It contains the files and the history from which backends compute the version; git reads it like a clone.

    With the dumb HTTP protocol a single commit cannot be fetched: all references are fetched.
    """
    found = resolve_commit(source(remote), ctx)
    first = repository_archive(found, ctx)
    other = with_environ(ctx, {**ctx.environ, "GIT_DIR": "/nonexistent", "GIT_EXEC_PATH": "/nonexistent"})
    other = replace(other, store=open_store(tmp_path / "other store"))
    git(remote, "gc", "-q")
    if server == "http":
        git(remote, "update-server-info")
        with serving_files(remote, paths := []) as url:
            moved = parse_git(git_address(f"{url}/.git", found.ref), "x")
            assert repository_archive(moved, other).sha256 == first.sha256
        assert paths
    else:
        assert repository_archive(found, other) == first
    path = ctx.store.blob_path(f"sha256:{first.sha256}")
    files = members(path)
    assert files["source/top_dep/__init__.py"] == "VALUE = 2\n"
    assert files["source/top_dep/link"] == "data.txt"
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path / "unpacked", filter="fully_trusted")
    at = tmp_path / "unpacked/source"
    assert run("git", "describe", "--tags", "--long", "--dirty", cwd=at).startswith("v1.5-1-g")
    assert run("git", "status", "--porcelain", cwd=at) == ""
    assert run("git", "rev-list", "HEAD", cwd=at) == run("git", "rev-list", "HEAD", cwd=remote)
    assert run("git", "ls-files", "-s", cwd=at) == run("git", "ls-files", "-s", cwd=remote)
    assert b"top_dep/data.txt" in run("git", "archive", "HEAD", cwd=at).encode()


def test_static_version_needs_no_history(remote: Path, ctx: Context) -> None:
    found = resolve_commit(parse_git(git_address(remote.as_uri(), "main", "sub"), "x"), ctx)
    archive = repository_archive(found, ctx)
    assert archive.version == "3.1"
    assert not [name for name in members(ctx.store.blob_path(f"sha256:{archive.sha256}")) if "/.git/" in name]
    with pytest.raises(WheelError, match="has no directory nope"):
        repository_archive(GitSource(found.url, found.ref, "nope"), ctx)


def test_archive_contains_submodules(remote: Path, tmp_path: Path, ctx: Context) -> None:
    make_repository(tmp_path / "inner")
    git(remote, "submodule", "--quiet", "add", "../inner", "vendor/inner")
    commit_all(remote)
    archive = repository_archive(resolve_commit(source(remote), ctx), ctx)
    assert "source/vendor/inner/top_dep/data.txt" in members(ctx.store.blob_path(f"sha256:{archive.sha256}"))


def test_fetching_runs_no_program_of_the_repository(remote: Path, tmp_path: Path, ctx: Context) -> None:
    """No hooks of a template directory, no filters from .gitattributes, no `ext::` protocol of a submodule."""
    ran, script = tmp_path / "ran", tmp_path / "program"
    script.write_text(f"#!/bin/sh\necho $0 >> {ran}\ncat\n")
    script.chmod(0o755)
    (tmp_path / "template/hooks").mkdir(parents=True)
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (tmp_path / "template/hooks" / hook).symlink_to(script)
    home = Path(ctx.environ["HOME"])
    home.mkdir(exist_ok=True)
    settings = {
        "init.templateDir": tmp_path / "template", "core.fsmonitor": script, "filter.evil.smudge": script,
        "filter.evil.process": script, "protocol.ext.allow": "always", "core.hooksPath": tmp_path / "template/hooks",
    }  # fmt: skip
    for key, value in settings.items():
        run("git", "config", "--file", home / ".gitconfig", key, str(value))
    (remote / ".gitattributes").write_text("* filter=evil\n")
    commit_all(remote)
    repository_archive(resolve_commit(source(remote), ctx), ctx)
    git(remote, "update-index", "--add", "--cacheinfo", f"160000,{COMMIT},mod")
    (remote / ".gitmodules").write_text(f'[submodule "s"]\n\tpath = mod\n\turl = ext::{script}\n')
    git(remote, "add", ".gitmodules")
    git(remote, "commit", "-qm", "evil")
    with pytest.raises(WheelError, match=r"a submodule of .* is not the address|by another way"):
        repository_archive(resolve_commit(source(remote), ctx), ctx)
    assert not ran.exists(), ran.read_text()


def test_local_submodule_of_a_remote_repository_is_rejected(remote: Path, ctx: Context) -> None:
    (remote / ".gitmodules").write_text('[submodule "s"]\n\tpath = mod\n\turl = file:///etc\n')
    git(remote, "update-index", "--add", "--cacheinfo", f"160000,{COMMIT},mod")
    git(remote, "add", ".gitmodules", "pyproject.toml")
    git(remote, "commit", "-qm", "evil")
    git(remote, "update-server-info")
    with serving_files(remote, []) as url, pytest.raises(WheelError, match="has a submodule on this machine: refused"):
        repository_archive(resolve_commit(parse_git(f"git+{url}/.git@main", "x"), ctx), ctx)


@pytest.mark.parametrize("name", ["../out", ".git/hooks/post-checkout", ".GIT"])
def test_path_that_git_does_not_allow_is_rejected(name: str, remote: Path, ctx: Context) -> None:
    blob = run("git", "hash-object", "-w", "pyproject.toml", cwd=remote).strip()
    first, _, rest = name.rpartition("/")
    entry = f"100644 {rest}".encode() + b"\0" + bytes.fromhex(blob)
    tree = hash_object(remote, "tree", entry)
    for part in reversed(first.split("/") if first else []):
        tree = hash_object(remote, "tree", f"40000 {part}".encode() + b"\0" + bytes.fromhex(tree))
    commit = run("git", "-c", "user.name=A", "-c", "user.email=a@b", "commit-tree", "-m", "x", tree, cwd=remote).strip()
    git(remote, "branch", "evil", commit)
    with pytest.raises(WheelError, match="a path that git itself refuses"):
        repository_archive(resolve_commit(source(remote, "evil"), ctx), ctx)


def hash_object(remote: Path, kind: str, content: bytes) -> str:
    (remote / "object").write_bytes(content)
    name = run("git", "hash-object", "-w", "--literally", "-t", kind, "object", cwd=remote).strip()
    (remote / "object").unlink()
    return name


@pytest.mark.parametrize(("address", "login"), [
    ("https://forge.example/b", "me:token"), ("../b", "me:token"), ("https://own:x@forge.example/b", "own:x"),
    ("http://forge.example/b", ""), ("https://forge.example:8443/b", ""), ("https://forge.example.evil.example/b", ""),
    ("ssh://git@forge.example/b", ""),
])  # fmt: skip
def test_submodule_of_another_origin_gets_no_login(address: str, login: str) -> None:
    """The address comes from an untrusted repository, and over http others could read the login."""
    parent = GitSource("https://forge.example/a", COMMIT, login="me:token")
    assert submodule_source(parent, address, COMMIT).login == login


def test_login_is_sent_to_the_server_only(remote: Path, ctx: Context, lines: list[str]) -> None:
    """No command line, message or cache file contains it."""
    git(remote, "update-server-info")
    with serving_files(remote, paths := []) as url:
        address = url.replace("//", "//user:pass-mark@")
        found = resolve_commit(parse_git(f"git+{address}/.git@main", "x"), ctx)
        repository_archive(found, ctx)
        with pytest.raises(RegistryError) as caught, fetch_commit(GitSource(found.url, COMMIT, login=found.login), ctx):
            pass
    assert paths
    kept = [path for path in ctx.store.root.rglob("*") if path.is_file()]
    texts = [str(caught.value), "\n".join(lines), *(path.read_bytes().decode("latin-1") for path in kept)]
    assert not [text for text in texts if "pass-mark" in text]


@pytest.mark.parametrize(("url", "message"), [
    ("file:///nowhere/at/all", "does not appear to be a git repository"),
    ("http://127.0.0.1:9/x", "Failed to connect|Connection refused"),
])
def test_missing_repository_is_one_line(url: str, message: str, ctx: Context) -> None:
    need("git")
    with pytest.raises(RegistryError, match=message) as caught:
        resolve_commit(GitSource(url, "main"), ctx)
    assert "\n" not in str(caught.value)


def test_missing_commit_and_offline_errors(remote: Path, ctx: Context) -> None:
    with pytest.raises(HatchDockerError, match=f"has no commit {COMMIT}"), fetch_commit(source(remote, COMMIT), ctx):
        pass
    found = resolve_commit(source(remote), ctx)
    repository_archive(found, ctx)
    offline = with_environ(ctx, {**ctx.environ, "HATCH_DOCKER_OFFLINE": "1"})
    assert repository_archive(found, offline)
    with pytest.raises(OfflineError):
        resolve_commit(source(remote), offline)
