"""Client for remote git repositories: resolve a branch or tag to a commit, and fetch a commit's files and history.

Logins come from the user's git configuration: credential helpers and the SSH agent. No code of the remote repository
runs: there is no work tree, so hooks, filters and attributes have no effect; objects are read unconverted.
"""

import contextlib
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from hatch_docker.core.context import Context
from hatch_docker.core.errors import OfflineError, RegistryError, TransientError, WheelError
from hatch_docker.core.files import temporary_tree
from hatch_docker.core.http.client import is_offline
from hatch_docker.core.http.retry import Retryable
from hatch_docker.core.http.urls import parse
from hatch_docker.core.process import ProcessFailed, run_bytes
from hatch_docker.project.git_files import GitFile, GitObject
from hatch_docker.project.git_source import GitSource, git_address, parse_git
from hatch_docker.project.repository import git_environment

_SETTINGS = {
    "core.hooksPath": "/dev/null", "core.fsmonitor": "false", "core.pager": "cat", "gc.auto": "0",
    "maintenance.auto": "false", "fetch.recurseSubmodules": "false", "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
}  # fmt: skip
_TRANSIENT = re.compile(
    r"Could not resolve host|Failed to connect|Connection (?:refused|reset|timed out)|timed out|early EOF|RPC failed"
    r"|unexpected disconnect|returned error: (?:408|429|5\d\d)|remote end hung up|Operation too slow",
    re.IGNORECASE,
)
_BATCH = 32 << 20  # bytes of objects to read at once; a single object may be larger
LIMIT = 1 << 30    # bytes of all files of a commit


@dataclass(frozen=True, slots=True)
class Commit:
    """A fetched commit. `files`: the bare repository with its files; `history`: the one with its history, or None."""

    source: GitSource
    files: Path
    history: Path | None
    ctx: Context

    def entries(self) -> list[tuple[GitFile, int]]:
        """Return the commit's entries, directories and submodules included, with sizes in bytes; raises WheelError."""
        output = _local(self.files, "ls-tree", "-r", "-t", "-l", "-z", self.source.ref, ctx=self.ctx)
        found = []
        for row in output.decode(errors="surrogateescape").split("\0"):
            facts, _, path = row.partition("\t")
            if facts:
                mode, _, name, size = facts.split()
                found.append((GitFile(path, mode, name), int(size) if size != "-" else 0))
        for file, _ in found:
            if any(part.lower() in ("", ".", "..", ".git") for part in file.path.split("/")):
                raise WheelError(f"{self.source} has a file {file.path[:100]!r}, a path that git itself refuses")
        if sum(size for _, size in found) > LIMIT:
            raise WheelError(f"{self.source} has files of more than {LIMIT >> 20} MB")
        return found

    def root_tree(self) -> str:
        """Return the object name of the commit's tree."""
        return _local(self.files, "rev-parse", f"{self.source.ref}^{{tree}}", ctx=self.ctx).decode().strip()

    def submodules(self) -> dict[str, str]:
        """Return the submodules in .gitmodules: path to URL."""
        try:
            output = _local(
                self.files, "config", "--blob", f"{self.source.ref}:.gitmodules", "-z", "--get-regexp",
                r"^submodule\..*\.(path|url)$", ctx=self.ctx,
            ).decode(errors="surrogateescape")  # fmt: skip
        except ProcessFailed:  # the commit has no .gitmodules
            return {}
        rows = dict(item.partition("\n")[::2] for item in output.split("\0"))
        sections = {key.removesuffix(".path") for key in rows if key.endswith(".path")}
        return {rows[f"{name}.path"]: rows[f"{name}.url"] for name in sorted(sections) if f"{name}.url" in rows}

    def tags(self) -> dict[str, str]:
        """Return the tags of the commit and its ancestors: reference to object name. Without history it is empty."""
        if self.history is None:
            return {}
        options = ["--merged", self.source.ref, "--format=%(refname)%00%(objectname)", "refs/tags"]
        lines = _local(self.history, "for-each-ref", *options, ctx=self.ctx).decode(errors="replace").splitlines()
        return dict(line.split("\0") for line in lines)

    def contents(self, names: Sequence[str]) -> Iterator[GitObject]:
        """Yield the objects with these names from the commit's files."""
        yield from _objects(self.files, names, self.ctx)

    def history_objects(self) -> Iterator[GitObject]:
        """Yield the commit and its ancestors, and the annotated tags of all of these."""
        assert self.history is not None
        names = _local(self.history, "rev-list", self.source.ref, ctx=self.ctx).decode().split()
        known = {*names}
        yield from _objects(self.history, names, self.ctx)
        tags = [name for name in dict.fromkeys(self.tags().values()) if name not in known]
        while tags:
            found = [item for item in _objects(self.history, tags, self.ctx) if item.kind == "tag"]
            yield from found
            inner = [item.content.split(b"\n", 1)[0].removeprefix(b"object ").decode() for item in found]
            tags = [name for name in inner if name not in known]  # an annotated tag may point to another tag


def resolve_commit(source: GitSource, ctx: Context) -> GitSource:
    """Return the source with its branch or tag resolved to a commit; raises WheelError and the errors of `_remote`."""
    if source.is_pinned:
        return source
    with temporary_tree(ctx.store.root / "tmp") as work:  # an empty repository: no other one's configuration applies
        output = _remote(source, ["ls-remote", "origin"], _new_repository(work / "empty", source, ctx), ctx)
    rows = (line.partition("\t")[::2] for line in output.decode(errors="replace").splitlines())
    known = {ref: name for name, ref in rows}
    ref = source.ref or "HEAD"
    # As in pip and uv, a branch comes before a tag. An annotated tag (^{}) is resolved to its commit.
    for name in (f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"{ref}^{{}}", ref):
        if name in known:
            return replace(source, ref=known[name])
    raise WheelError(
        f"{source.url} has no branch and no tag {source.ref or 'HEAD'}: name one, or a whole commit of 40 digits"
    )


@contextlib.contextmanager
def fetch_commit(source: GitSource, ctx: Context) -> Iterator[Commit]:
    """Fetch a commit with its files, for the `with` block; raises RegistryError without it, else as `_remote`."""
    with temporary_tree(ctx.store.root / "tmp") as work, ctx.progress.task(f"fetching {source}"):
        yield Commit(source, _fetch_files(source, work, ctx), None, ctx)


def fetch_history(commit: Commit) -> Commit:
    """Return the commit with its ancestors and tags fetched (`history`); raises the errors of `fetch_commit`."""
    source, ctx = commit.source, commit.ctx
    history = _new_repository(commit.files.with_name("history"), source, ctx)
    settings = {"remote.origin.promisor": "true", "remote.origin.partialclonefilter": "tree:0"}
    every = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
    for refs in (every, [source.ref]):
        if not _has_commit(history, source.ref, ctx):
            _remote(source, ["fetch", "--quiet", "--filter=tree:0", "origin", *refs], history, ctx, settings)
    return replace(commit, history=history)


def submodule_source(parent: GitSource, address: str, commit: str) -> GitSource:
    """Return the source of a submodule; a relative address is resolved against the parent's. Raises WheelError."""
    if address.startswith(("./", "../")):
        parts = parse(parent.url)
        address = parts._replace(path=posixpath.normpath(f"{parts.path}/{address}")).geturl()
    found = parse_git(git_address(address), f"a submodule of {parent}")
    if found.is_local and not parent.is_local:
        raise WheelError(f"{parent} has a submodule on this machine: refused")
    # The parent's login goes to the same origin only: over http, others could read it.
    login = parent.login if _origin(found) == _origin(parent) else ""
    return replace(found, ref=commit, subdirectory="", login=found.login or login)


def _origin(source: GitSource) -> list[str]:
    return source.url.split("/", 3)[:3]


def _fetch_files(source: GitSource, work: Path, ctx: Context) -> Path:
    """Fetch the commit into a new repository and return its path; all references, if a single commit cannot be sent."""
    repository = _new_repository(work / "files", source, ctx)
    try:
        _remote(source, ["fetch", "--quiet", "--depth=1", "--no-tags", "origin", source.ref], repository, ctx)
    except RegistryError as error:
        if isinstance(error, TransientError):
            raise
        for lock in repository.glob("shallow*"):
            lock.unlink()
        every = ["+refs/*:refs/remotes/origin/*"]
        _remote(source, ["fetch", "--quiet", "--no-tags", "origin", *every], repository, ctx)
    if not _has_commit(repository, source.ref, ctx):
        raise RegistryError(f"{source.url} has no commit {source.ref}: it was removed, or the lock is of another one")
    return repository


def _has_commit(repository: Path, commit: str, ctx: Context) -> bool:
    with contextlib.suppress(ProcessFailed):
        _local(repository, "cat-file", "-e", f"{commit}^{{commit}}", ctx=ctx)
        return True
    return False


def _new_repository(directory: Path, source: GitSource, ctx: Context) -> Path:
    form = "sha256" if len(source.ref) == 64 else "sha1"
    run_bytes(
        ["git", "init", "--quiet", "--bare", "--template=", f"--object-format={form}", str(directory)],
        env=_environment(ctx.environ, {}, "none"),
    )
    return directory


def _objects(repository: Path, names: Sequence[str], ctx: Context) -> Iterator[GitObject]:
    """Yield objects of a repository, read in batches of about _BATCH bytes to limit the memory."""
    stdin = "".join(f"{name}\n" for name in names).encode()
    lines = _local(repository, "cat-file", "--batch-check", ctx=ctx, stdin=stdin).decode().splitlines()
    batch: list[str] = []
    batch_size = 0
    for name, line in zip(names, lines, strict=True):
        size = line.rpartition(" ")[2]
        if not size.isdigit():
            raise RegistryError(f"the server gave a commit without its object {name}: is the repository damaged?")
        if batch and batch_size + int(size) > _BATCH:
            yield from _read_objects(repository, batch, ctx)
            batch, batch_size = [], 0
        batch.append(name)
        batch_size += int(size)
    yield from _read_objects(repository, batch, ctx)


def _read_objects(repository: Path, names: Sequence[str], ctx: Context) -> Iterator[GitObject]:
    stdin = "".join(f"{name}\n" for name in names).encode()
    output = _local(repository, "cat-file", "--batch", ctx=ctx, stdin=stdin)
    at = 0
    for _ in names:
        end = output.index(b"\n", at)
        name, kind, size = output[at:end].decode().split()
        at = end + 1 + int(size) + 1
        yield GitObject(name, kind, output[end + 1:at - 1])


def _local(repository: Path, *arguments: str, ctx: Context, stdin: bytes | None = None) -> bytes:
    """Run git on a fetched repository, without network access, and return its output."""
    command = ["git", f"--git-dir={repository}", *arguments]
    return run_bytes(command, env=_environment(ctx.environ, {}, "none"), stdin=stdin)


def _remote(
    source: GitSource, arguments: Sequence[str], repository: Path, ctx: Context,
    settings: Mapping[str, str] = {},
) -> bytes:
    """Run git with the source's repository as the remote "origin", and return its output.

    The login is passed in the environment, because other users can read command lines. Raises OfflineError,
    RegistryError, or TransientError after several attempts.
    """
    if is_offline(ctx.environ):
        raise OfflineError(f"{source} is not in the cache, and HATCH_DOCKER_OFFLINE forbids network access")
    url = source.url
    if source.login:
        url = url.replace("://", f"://{source.login}@", 1)
        for part in source.login.split(":"):
            ctx.secrets.add(f"the login of {source.url}", unquote(part))
    allowed = "https:http:ssh:file" if source.is_local else "https:http:ssh"
    env = _environment(ctx.environ, {"remote.origin.url": url, **settings}, allowed)
    secrets = [unquote(part) for part in source.login.split(":") if part]

    def attempt() -> bytes:
        try:
            return run_bytes(["git", f"--git-dir={repository}", *arguments], env=env, secrets=secrets)
        except ProcessFailed as failed:
            lines = [line.strip() for line in failed.output.splitlines() if re.match(r"fatal|error|remote", line)]
            text = "; ".join(lines) or " ".join(failed.output.split())
            if _TRANSIENT.search(failed.output):
                raise Retryable(text, tries=3) from None
            advice = "" if source.is_local else "; git's credential helpers and the SSH agent give logins"
            raise RegistryError(f"{text[:500]}{advice}") from None

    return ctx.client.retry(f"git {source.url}", attempt)


def _environment(environ: Mapping[str, str], settings: Mapping[str, str], protocols: str) -> dict[str, str]:
    env = git_environment(environ, [*{**_SETTINGS, **settings}.items()], protocols)
    return env | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
