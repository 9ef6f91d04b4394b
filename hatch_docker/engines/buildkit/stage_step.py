"""Program for a stage of the Dockerfile: it runs a step in the finished file tree, and copies the step's outputs.

    python -I -S -B step.py SPEC BEFORE OUT

SPEC is a JSON object: `command`, its complete environment `env`, `secrets` (names; the values are in /run/secrets), the
directory `cwd`, `user` (UID and GID), `outputs` (absolute paths), `timeout` in seconds. BEFORE is the file tree before
the step. New and changed files below the outputs are copied to OUT; a write elsewhere is an error. The base's Python
runs it as root (3.9 or newer), with the standard library only. The embedded engine uses `changed_paths` too.
"""

from __future__ import annotations

import filecmp
import itertools
import json
import os
import shutil
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

DATE = 315532800  # 1980-01-01, the same as SOURCE_DATE
ELSEWHERE = "the step wrote elsewhere: "
REMOVED = "the step removed: "
LATE = "the step took too long"
# Paths that container runtimes or this stage mount, and temporary directories: writes there are ignored.
SKIPPED = (
    "/before", "/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt",
    "/inputs", "/out", "/proc", "/run/.containerenv", "/run/secrets", "/.dockerenv", "/step", "/sys", "/tmp",  # noqa: S108
    "/tools",
)  # fmt: skip
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def find_path(trees: Sequence[str], path: str) -> tuple[str, list[str]]:
    """Return the file of a path in the trees, "" for none, and the trees in which the path is a directory.

    As with layers, the first tree that has a path hides the others, except that directories are merged. No symlink is
    followed, also not above the path: on the machine that builds, it could point out of the tree.
    """
    place, found, parts = "", list(trees), path.strip("/").split("/")
    for end in range(1, len(parts) + 1):
        place, found = _find_below(found, "/".join(parts[:end]))
    return place, found


def _find_below(trees: Sequence[str], path: str) -> tuple[str, list[str]]:
    """Return the result of `find_path`, for trees in which the directory above the path is not a symlink."""
    found = [tree for tree in trees if os.path.lexists(f"{tree}/{path}")]
    directories = itertools.takewhile(lambda tree: stat.S_ISDIR(os.lstat(f"{tree}/{path}").st_mode), found)
    return f"{found[0]}/{path}" if found else "", list(directories)


def merged_paths(trees: Sequence[str], path: str) -> Iterator[tuple[str, str]]:
    """Yield the paths below a directory of `trees`, each with its file; sorted, directories before their contents."""
    for name in sorted({name for tree in trees for name in os.listdir(f"{tree}/{path}")}):  # noqa: PTH208
        below = f"{path}/{name}"
        place, directories = _find_below(trees, below)
        yield below, place
        yield from merged_paths(directories, below)


def changed_paths(before: Sequence[str], after: str, output: str) -> tuple[list[str], list[str]]:
    """Return the new or changed paths, and the removed paths, below the directory `output` in the tree `after`.

    `before`: trees, merged as in `find_path`. Paths are relative to the root.
    """
    former, now = (dict(merged_paths(find_path(trees, output)[1], output)) for trees in (before, [after]))
    new = [path for path, place in now.items() if path not in former or not is_same(former[path], place)]
    return new, sorted(former.keys() - now.keys())


def is_same(former: str, path: str) -> bool:
    """Return whether two paths have the same type, the same contents and the same executable bit."""
    old, now = os.lstat(former), os.lstat(path)
    if stat.S_IFMT(old.st_mode) != stat.S_IFMT(now.st_mode):
        return False
    if stat.S_ISLNK(now.st_mode):
        return os.readlink(former) == os.readlink(path)  # noqa: PTH115
    if not stat.S_ISREG(now.st_mode):
        return True
    executable = old.st_mode & 0o100 == now.st_mode & 0o100
    return executable and filecmp.cmp(former, path, shallow=False)


def find_strays(before: str, path: str, outputs: Sequence[str]) -> Iterator[str]:
    """Yield the paths below `path` that the step created, changed or removed, outside of the outputs and SKIPPED."""
    names = {
        name for top in (before + path, path) if os.path.isdir(top) and not os.path.islink(top)  # noqa: PTH112, PTH114
        for name in os.listdir(top)  # noqa: PTH208
    }
    for name in sorted(names):
        below = f"{path.rstrip('/')}/{name}"
        if below in SKIPPED or below in outputs:
            continue
        old, now = status(before + below), status(below)
        above = any(other.startswith(f"{below}/") for other in (*SKIPPED, *outputs))
        if not (above and now) and (
            not old or not now or old.st_mode != now.st_mode
            or (not stat.S_ISDIR(now.st_mode) and (old.st_size, old.st_mtime_ns) != (now.st_size, now.st_mtime_ns))
        ):
            yield below
        else:
            yield from find_strays(before, below, outputs)


def status(path: str) -> os.stat_result | None:
    """Return the status of a path without following a symlink, None if it does not exist."""
    return os.lstat(path) if os.path.lexists(path) else None


def prepare(outputs: Sequence[str], user: int, group: int) -> None:
    """Create missing outputs, and change the owner of all outputs to the user."""
    for output in outputs:
        os.makedirs(output, exist_ok=True)  # noqa: PTH103
        below = merged_paths(find_path([""], output)[1], output.strip("/"))
        for path in (output, *(place for _, place in below)):
            os.chown(path, user, group, follow_symlinks=False)


def execute(spec: dict[str, Any]) -> NoReturn:
    """Replace this process by the command, as its user."""
    env = {**{name: os.environ[name] for name in PROXIES if name in os.environ}, **spec["env"]}
    for name in spec["secrets"]:
        env[name] = Path("/run/secrets", name).read_text("utf-8")
    user, group = spec["user"]
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    os.umask(0o022)
    os.chdir(spec["cwd"] if os.path.isdir(spec["cwd"]) else "/")  # noqa: PTH112
    os.execvpe(spec["command"][0], spec["command"], env)  # noqa: S606


def run(spec: dict[str, Any]) -> None:
    """Run the command and wait for it; raises SystemExit if it fails or exceeds the timeout."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            execute(spec)
        except OSError as error:
            os.write(2, f"cannot run {spec['command'][0]}: {error.strerror}\n".encode())
        finally:
            os._exit(127)

    def end(*_: object) -> None:
        os.killpg(child, signal.SIGKILL)
        raise SystemExit(LATE)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, spec["timeout"])
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.setitimer(signal.ITIMER_REAL, 0)
    if code:
        raise SystemExit(code if code > 0 else 128 - code)


def copy(paths: Sequence[str], out: str) -> None:
    """Copy files, directories and links from / to `out`, with fixed modes and times."""
    for path in paths:
        place, mode = Path(out, path), os.lstat(f"/{path}").st_mode
        place.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISLNK(mode):
            place.symlink_to(os.readlink(f"/{path}"))  # noqa: PTH115
        elif stat.S_ISDIR(mode):
            place.mkdir(exist_ok=True)
        elif stat.S_ISREG(mode):
            shutil.copyfile(f"/{path}", place)
            place.chmod(0o755 if mode & 0o100 else 0o644)
            os.utime(place, (DATE, DATE))


def main(specification: str, before: str, out: str) -> None:
    """Run the step and copy its outputs."""
    os.umask(0o022)
    spec = json.loads(Path(specification).read_text("utf-8"))
    outputs = spec["outputs"]
    prepare(outputs, *spec["user"])
    run(spec)
    if strays := list(find_strays(before, "/", outputs))[:5]:
        raise SystemExit(ELSEWHERE + ", ".join(strays))
    for output in outputs:
        new, removed = changed_paths([before], "", output.lstrip("/"))
        if removed:
            raise SystemExit(REMOVED + ", ".join(f"/{path}" for path in removed[:5]))
        copy(new, out)
    Path(out).mkdir(parents=True, exist_ok=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
