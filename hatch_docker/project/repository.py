"""Safe calls of git: the configuration of the repository is not trusted and cannot run programs."""

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hatch_docker.core.at_once import at_once
from hatch_docker.core.errors import ProgramError
from hatch_docker.core.process import run

# Settings with which a repository's configuration could run programs as the user, or hide changes.
_OVERRIDES = {
    "core.fsmonitor": "false", "core.hooksPath": "/dev/null", "core.pager": "cat", "gpg.program": "false",
    "gpg.ssh.program": "false", "gpg.x509.program": "false", "log.showSignature": "false",
    "core.fileMode": "true", "core.symlinks": "true", "core.trustctime": "true", "core.checkStat": "default",
}  # fmt: skip
_GITLINK = b"\0\0\xe0\0"  # the mode 160000 in an index: a commit of another repository (submodule)
_FILTER = ("clean", "smudge", "process", "required")


def repository_of(root: Path) -> Path | None:
    """Return the nearest directory with `.git`, `root` or above it; None outside of a git repository."""
    return next((parent for parent in (root, *root.parents) if (parent / ".git").exists()), None)


def run_git(root: Path, *arguments: str, environ: Mapping[str, str]) -> str:
    """Run git in a directory and return its output; raises ProgramError.

    git runs no program from the repository's configuration, fetches nothing, and ignores the user's GIT_* variables.
    The work tree is the directory with `.git`. git fails for a repository of another user that is not in
    safe.directory.
    """
    return run_gits(root, arguments, environ=environ)[0]


def run_gits(root: Path, *commands: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Run git commands in parallel, as `run_git` does, and return their outputs; raises the first ProgramError."""
    top = repository_of(root) or root
    settings = [*_OVERRIDES.items(), *_filters_off(top, environ)]
    return at_once(*(functools.partial(_run, top, root, command, environ, settings) for command in commands))


def _run(
    top: Path, root: Path, arguments: Sequence[str], environ: Mapping[str, str], settings: Sequence[tuple[str, str]]
) -> str:
    env = git_environment(environ, settings, "none") | {"GIT_OPTIONAL_LOCKS": "0"}
    return run(["git", "--no-pager", "-C", str(root), f"--work-tree={top}", *arguments], env=env)


def git_environment(environ: Mapping[str, str], settings: Sequence[tuple[str, str]], protocols: str) -> dict[str, str]:
    """Return the environment for git: no GIT_* of the user, `settings` over files, and allowed transports."""
    env = _without_git(environ) | {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": protocols}
    env["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (key, value) in enumerate(settings):
        env |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return env


def _without_git(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith("GIT_")}


def _filters_off(top: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield settings that disable the filters in the configuration of a repository and of its submodules."""
    names = set[str]()
    for place, files in repositories(top, environ):
        texts = [path.read_bytes().lower() for path in files if path.is_file()]
        if any(b"filter" in text or b"include" in text for text in texts):  # saves running git
            command = ["git", f"--git-dir={place}", f"--work-tree={top}", "config", "--show-scope", "--name-only", "-z"]
            try:
                found = run([*command, "--get-regexp", r"^filter\."], env=_without_git(environ), cwd=top).split("\0")
            except ProgramError:  # no filter is set
                continue
            keys = (key for scope, key in zip(found[::2], found[1::2], strict=False) if scope in ("local", "worktree"))
            names |= {key.rpartition(".")[0] for key in keys}
    for name in sorted(names):
        yield from ((f"{name}.{part}", "false" if part == "required" else "") for part in _FILTER)


def repositories(top: Path, environ: Mapping[str, str]) -> Iterator[tuple[Path, tuple[Path, ...]]]:
    """Yield the git directory and the configuration files of a checkout, and of each of its submodules."""
    place, common = git_directories(top)
    yield place, (common / "config", place / "config.worktree")
    for directory, names, files in os.walk(common / "modules"):
        if "HEAD" in files:
            yield Path(directory), (Path(directory, "config"), Path(directory, "config.worktree"))
            names[:] = [name for name in names if name == "modules"]
    for path in _submodules(top, place, environ):
        if (path / ".git").exists() and not path.is_symlink():  # its repository may be in the checkout
            yield from repositories(path, environ)


def _submodules(top: Path, place: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the directories of a checkout's submodules."""
    indexes = (path for path in (place / "index", *place.glob("sharedindex.*")) if path.is_file())
    if any(_GITLINK in path.read_bytes() for path in indexes):  # saves running git
        with contextlib.suppress(ProgramError):
            rows = _run(top, top, ["ls-files", "--stage", "-z"], environ, [*_OVERRIDES.items()])
            yield from (top / row.partition("\t")[2] for row in rows.split("\0") if row.startswith("160000 "))


def other_configurations(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the paths of git's configuration files of the user and of the system."""
    home = environ.get("HOME", "/nonexistent")
    return Path(home, ".gitconfig"), _user_file("config", environ), Path("/etc/gitconfig")


def _user_file(name: str, environ: Mapping[str, str]) -> Path:
    place = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '/nonexistent')}/.config"
    return Path(place, "git", name)


def ignore_files(top: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the paths, existing or not, of the files except .gitignore that decide which files git ignores."""
    yield from (path for _, files in repositories(top, environ) for path in files)
    yield from other_configurations(environ)
    yield git_directories(top)[1] / "info/exclude"
    try:
        named = run_git(top, "config", "--type=path", "--get", "core.excludesFile", environ=environ).strip()
    except ProgramError:  # core.excludesFile is not set
        named = ""
    yield top / named if named else _user_file("ignore", environ)


def git_directories(top: Path) -> tuple[Path, Path]:
    """Return a checkout's git directory and its common directory; these differ in a linked work tree."""
    place = top / ".git"
    if place.is_file():
        place = top / _line(place).removeprefix("gitdir:").strip()
    return place, place / _line(place / "commondir") if (place / "commondir").is_file() else place


def own_repository(top: Path, environ: Mapping[str, str]) -> Path | None:
    """Return a checkout's common git directory; None if `.git` points to the repository of another checkout.

    It is the checkout's own if it is inside, or if its `gitdir` file (linked work tree) or core.worktree points back.
    """
    place, common = (path.resolve() for path in git_directories(top))
    if place != common:
        is_linked = place.parent == common / "worktrees" and (place / "gitdir").is_file()
        found = [(place / _line(place / "gitdir")).parent] if is_linked else []
    elif place == top.resolve() / ".git":
        found = [top]
    else:
        files = (place / "config", place / "config.worktree")
        found = [place / path for file in files for path in _worktree(file, environ)]
    own = any(path.resolve() == top.resolve() for path in found)
    return common if own and not (common / "objects").is_symlink() else None


def _worktree(path: Path, environ: Mapping[str, str]) -> list[str]:
    try:
        return run(["git", "config", "--file", str(path), "core.worktree"], env=_without_git(environ)).splitlines()
    except ProgramError:  # core.worktree is not set
        return []


def _line(path: Path) -> str:
    return path.read_text("utf-8", "surrogateescape").strip()
