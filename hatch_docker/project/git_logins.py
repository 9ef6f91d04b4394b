"""Logins in git's configuration files, of the repository and of the user, and a copy of a repository without logins."""

import base64
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from hatch_docker.core.context import Context
from hatch_docker.core.errors import ProgramError
from hatch_docker.core.secrets import fingerprint
from hatch_docker.project.repository import git_directories, other_configurations, repositories, repository_of, run_git

_COPIED_KEYS = re.compile(
    r"core\.(repositoryformatversion|filemode|symlinks|ignorecase|precomposeunicode|autocrlf|eol|abbrev|quotepath)"
    r"|extensions\.(objectformat|compatobjectformat|refstorage|partialclone|preciousobjects)"
    r"|remote\..+\.(url|fetch|promisor|partialclonefilter)|branch\..+\.(remote|merge)|submodule\..+\.(url|active)",
    re.DOTALL,
)
_USERINFO = re.compile(r"([a-z][a-z0-9+.-]*://)([^/@\s]+)@", re.IGNORECASE)
_MAY_HOLD_LOGIN = re.compile(rb"://[^/\s]*@|extraheader|helper|include|token|pass", re.IGNORECASE)
_SECRET_KEYS = (".token", ".oauthtoken", ".password", "pass")
_TOKEN_LENGTH = 20  # characters: a user name in a URL of at least this length is a token, a shorter one is a name


def _configuration_marks(root: Path, environ: Mapping[str, str]) -> str:
    """Return hashes (`mark`) of git's configuration files that may contain a login, "" if no file may."""
    top = repository_of(root)
    found = []
    own = [path for _, files in repositories(top, environ) for path in files] if top is not None else []
    for path in (*own, *other_configurations(environ)):
        try:
            text = path.read_bytes()
        except OSError:
            continue
        found += [fingerprint(text)] if _MAY_HOLD_LOGIN.search(text) else []
    return " ".join(found)


def add_git_logins(root: Path, ctx: Context) -> None:
    """Add the logins of git's configuration to the secrets of `ctx`; git runs only when the secrets are searched."""
    if marks := _configuration_marks(root, ctx.environ):
        ctx.secrets.add_source(f"logins of git {marks}", lambda: git_logins(root, ctx.environ))


def git_logins(root: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield a description and the value of each secret in the git configuration that applies to a directory."""
    for key, value in _settings(root, environ):
        name = f"the login in git's {_without_logins(key)}"
        for match in _USERINFO.finditer(f"{key} {value}"):
            user, _, password = match[2].partition(":")
            yield name, unquote(password)
            if len(user) >= _TOKEN_LENGTH:
                yield name, unquote(user)
        if key.startswith("http.") and key.endswith(".extraheader"):
            scheme, _, token = value.partition(":")[2].strip().partition(" ")
            yield name, token.strip() or scheme
            if scheme.lower() == "basic":
                try:
                    yield name, base64.b64decode(token, validate=False).decode("utf-8", "replace").partition(":")[2]
                except ValueError:
                    continue
        elif key.endswith(_SECRET_KEYS):
            yield name, value
        elif key.endswith(".helper"):
            yield from ((name, found) for found in re.findall(r"password=([^\s;\"'$`]+)", value))


def _settings(root: Path, environ: Mapping[str, str], *options: str) -> list[tuple[str, str]]:
    """Return the keys and values of git's configuration; an empty list if git cannot read it."""
    try:
        found = run_git(root, "config", "--list", "-z", *options, environ=environ)
    except ProgramError:
        return []
    return [(key, value) for key, _, value in (item.partition("\n") for item in found.split("\0")) if key]


def copy_repository(top: Path, objects: str, directory: Path, environ: Mapping[str, str]) -> None:
    """Copy a checkout's repository into `directory`, without logins, hooks, helpers, filters, includes and objects.

    `objects`: the path of the objects, which the copy uses as its alternates.
    """
    checkout, repository = git_directories(top)
    (directory / "objects/info").mkdir(parents=True)
    (directory / "objects/info/alternates").write_text(f"{objects}\n")
    for name in ("refs", "reftable"):
        if _is_real(repository / name) and (repository / name).is_dir():
            shutil.copytree(repository / name, directory / name, symlinks=True)
    names = ((repository, ("packed-refs", "shallow", "info/exclude", "info/attributes")),
             (checkout, ("HEAD", "index", "ORIG_HEAD", *(path.name for path in checkout.glob("sharedindex.*")))))
    for place, files in names:
        for name in files:
            if _is_real(place / name) and (place / name).is_file():
                (directory / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(place / name, directory / name)
    lines = []
    for key, value in _settings(top, environ, "--local", "--no-includes"):
        if _COPIED_KEYS.fullmatch(key):
            section, _, name = key.rpartition(".")
            section, dot, part = section.partition(".")
            lines.append(f"[{section} {_quoted(_without_logins(part))}]" if dot else f"[{section}]")
            lines.append(f"\t{name} = {_quoted(_without_logins(value))}")
    (directory / "config").write_text("\n".join([*lines, ""]), encoding="utf-8", errors="surrogateescape")


def _is_real(path: Path) -> bool:
    """Return whether neither a path nor its directory is a symlink, which could point to a file of the user."""
    return not path.is_symlink() and not path.parent.is_symlink()


def _without_logins(text: str) -> str:
    """Return a text without the user names and passwords of its URLs."""
    return _USERINFO.sub(r"\1", text)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
