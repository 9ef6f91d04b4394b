"""The sandbox: runs a command in another file tree with namespaces of Linux. It needs no daemon, root or program.

The command sees the given trees read-only, `binds`, a new /tmp, /proc and /dev, the host name `sandbox`, one user, no
capabilities, and either the host's network or only a loopback device. When this process ends, the kernel kills the
command and all its child processes. `sandbox_init.py` sets up the sandbox in another interpreter.
"""

import errno
import json
import os
import secrets as random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_docker.bases.partial_tree import PartialTreeError, is_partial
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, SandboxError
from hatch_docker.core.files import temporary_directory
from hatch_docker.core.process import ProcessFailed, redact, run
from hatch_docker.core.text import megabytes

BUILD_USER = (1000, 1000)
"""User and group of a build. Not 0: tar would then set owners that do not exist in the sandbox."""

NOBODY = 65534
"""User and group of a build outside of the sandbox if root runs it."""

HOSTS = "127.0.0.1\tlocalhost sandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n"
KIND = "sandbox"  # fact: this machine can run a sandbox
SETTINGS = (
    "kernel/random/boot_id", "kernel/unprivileged_userns_clone", "kernel/apparmor_restrict_unprivileged_userns",
    "user/max_user_namespaces", "user/max_mnt_namespaces", "user/max_pid_namespaces",
)  # fmt: skip
_EMPTY: Mapping[str, str] = {}
EXHAUSTED = {
    "memory": "used more than the {0} of memory that [tool.hatch-docker.build] memory allows",
    "machine": "left this machine no memory; end other programs, or build with fewer processes at once",
    "disk": "filled the disk of {1}; free some space, or set HATCH_DOCKER_CACHE_DIR to another disk",
}


class ExhaustedError(BuildError):
    """A command was killed because it used too much memory or disk space."""


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of the host, mounted at an absolute path in the sandbox.

    A `writable` directory should be made for one run: if root runs the sandbox, the sandbox's user becomes the owner of
    the directory and its contents. A `persistent` directory is writable and used by several runs; its contents already
    belong to the sandbox's user.
    """

    source: Path
    target: str
    writable: bool = False
    persistent: bool = False

    @property
    def is_writable(self) -> bool:
        """True for a writable or a persistent directory."""
        return self.writable or self.persistent


def run_in(
    root: Path | Sequence[Path], command: Sequence[str], *, env: Mapping[str, str], binds: Sequence[Bind] = (),
    files: Mapping[str, str] = _EMPTY, network: bool = False, cwd: str = "/", user: tuple[int, int] = BUILD_USER,
    log: Callable[[str], None] | None = None, secrets: Sequence[str] = (), merge: bool = False,
    timeout: float | None = None, memory: int = 0, environ: Mapping[str, str] = _EMPTY,
) -> str:
    """Run a command with `root` as its root directory and return its standard output.

    Several roots are merged; the first root that contains a file has priority. `files`: additional small text files by
    absolute path. `env`: the complete environment of the command; it does not see `environ`, the environment of this
    process. Lines of standard error go to `log` with `secrets` hidden; with `merge` standard output too. Raise
    SandboxError if the kernel denies the sandbox, BuildError if the command cannot be started, ProcessFailed if its
    status is not 0, TimedOut after `timeout` seconds, and ExhaustedError if it uses more than `memory` bytes (0: no
    limit), or leaves too little memory on the machine or too little space on a disk.
    """
    roots = [root] if isinstance(root, Path) else list(root)
    parts = [(path, "/") for path in roots if is_partial(path)]
    for item in binds:
        parts += [(tree, f"{_target(item.target)}/") for tree in item.source.parents if is_partial(tree)]
    binds = [item for item in binds if not any(is_partial(tree) for tree in item.source.parents)]
    spec: dict[str, Any] = {
        "roots": [str(path.absolute()) for path in roots if not is_partial(path)],
        "partial": [[str(tree.parent.absolute()), tree.name, top] for tree, top in parts], "placeholders": [],
        "binds": [[str(item.source.absolute()), _target(item.target), item.is_writable] for item in binds],
        "persistent": [str(item.source.absolute()) for item in binds if item.persistent],
        "files": {_target(path): text for path, text in {**_network_files(network), **files}.items()},
        "command": list(command), "env": dict(env), "cwd": cwd, "uid": user[0], "gid": user[1],
        "nobody": NOBODY, "network": network, "merge": merge, "memory": memory,
    }
    targets = ["/proc", "/dev", "/tmp", *spec["files"], *(target for _, target, _ in spec["binds"])]  # noqa: S108
    for target in targets:
        if any(other.startswith(target + "/") for other in targets) or targets.count(target) > 1:
            raise ValueError(f"two mounts at or below {target}")
    return _run_sandbox(spec, environ, log, secrets, timeout)


def run_at(root: Path, command: Sequence[str], *, env: Mapping[str, str], directory: Path, cwd: str) -> None:
    """Run a command in the writable directory `directory` of the host, mounted at `cwd`; raise what `run_in` raises."""
    run_in(root, command, env=env, binds=[Bind(directory, cwd, writable=True)], cwd=cwd, merge=True)


def sandbox_error(environ: Mapping[str, str], log: Callable[[str], None] | None = None) -> str | None:
    """Return the reason why this machine cannot run a sandbox, with remedies; None if it can.

    `log` receives a line for each limit that a sandbox cannot have on this machine.
    """
    try:
        with temporary_directory() as directory:
            run_in((), (), env={}, binds=[Bind(directory, "/work", writable=True)], environ=environ, log=log)
    except SandboxError as error:
        return str(error)
    return None


def cached_sandbox_error(ctx: Context) -> str | None:
    """Return `sandbox_error`. A success is cached until a kernel setting or an attribute of this process changes."""
    try:
        status = Path("/proc/self/status").read_text().splitlines()
        spaces = [os.readlink(f"/proc/self/ns/{name}") for name in ("user", "mnt", "pid")]  # noqa: PTH115
    except OSError:  # not Linux, or hidden by a container
        return sandbox_error(ctx.environ)
    process = [line for line in status if line.startswith(("Uid", "Gid", "Cap", "NoNewPrivs", "Seccomp"))]
    key = key_of(process, spaces, [_setting(name) for name in SETTINGS])
    if ctx.store.recall(KIND, key):
        return None
    if (reason := sandbox_error(ctx.environ)) is None:
        ctx.store.remember(KIND, key, True)
    return reason


def _target(path: str) -> str:
    if not path.startswith("/") or path != os.path.normpath(path) or path == "/":
        raise ValueError(f"not a normal absolute path: {path!r}")
    return path


def _network_files(network: bool) -> dict[str, str]:
    files = {"/etc/hosts": HOSTS}
    for path in ("/etc/hosts", "/etc/resolv.conf") if network else ():
        try:
            files[path] = files.get(path, "") + Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # name resolution works without the file
    return files


def _run_sandbox(
    spec: dict[str, Any], environ: Mapping[str, str], log: Callable[[str], None] | None, secrets: Sequence[str],
    timeout: float | None,
) -> str:
    if sys.platform != "linux":
        raise SandboxError(f"the sandbox needs Linux, and this is {sys.platform}; {ALTERNATIVES.removeprefix('or ')}")
    token = random.token_hex(16)
    failure_row: list[Any] = []

    def listen(line: str) -> None:
        if line.startswith(token):
            failure_row.extend(json.loads(line.removeprefix(token)))
        elif log is not None:
            log(line)

    # Imported, not run as a script: then Python writes a .pyc file, unless the user disabled them (-B).
    program = "import sys; sys.path.append(sys.argv[1]); import sandbox_init; sandbox_init.main()"
    options = ["-I", "-S", *["-B"] * sys.dont_write_bytecode]
    command = [sys.executable, *options, "-c", program, str(Path(__file__).parent)]
    # The environment is readable in the sandbox's /proc/1: it has only the variable that Python needs to start.
    env = {name: environ[name] for name in ("LD_LIBRARY_PATH",) if name in environ}
    text = json.dumps({**spec, "token": token, "parent": os.getpid()}).encode()
    try:
        return run(command, env=env, stdin=text, secrets=secrets, log=listen, timeout=timeout)
    except ProcessFailed as failure:
        name = Path(spec["command"][0]).name if spec["command"] else "the sandbox"
        if failure_row and failure_row[0] == "placeholder":
            raise PartialTreeError(failure_row[2]) from None
        if failure_row and failure_row[0] in EXHAUSTED:
            path = next((source for source, target, _ in spec["binds"] if target == failure_row[2]), "")
            reason = EXHAUSTED[failure_row[0]].format(megabytes(spec["memory"]), path)
            raise ExhaustedError(f"{name} was stopped, because it {reason}") from None
        if failure_row:
            raise _setup_error(*failure_row) from None
        raise ProcessFailed(
            f"{name} failed with status {failure.status}:\n{redact(failure.output, secrets)}",
            failure.status, failure.output,
        ) from None


def _setup_error(step: str, code: int, subject: str) -> BuildError:
    reason = os.strerror(code)
    if step == "exec":
        return BuildError(f"cannot run {subject}: {reason}; is it installed there, and its interpreter too?")
    if step == "chdir":
        return BuildError(f"cannot run in the directory {subject}: {reason}")
    what = f"{step} {subject}".rstrip()
    return SandboxError(f"the sandbox cannot be entered ({what}: {reason}); {_remedy(step, code)}{ALTERNATIVES}")


ALTERNATIVES = 'or set engine = "buildkit"; a project without code to compile needs neither'


def _remedy(step: str, code: int) -> str:
    """Return a remedy for the most likely cause of a failed step, "" if unknown."""
    if os.geteuid() == 0 and not _capabilities() >= _CHANGE_USER:
        return "give root the capabilities CHOWN, SETUID and SETGID (docker run --cap-add), or run as another user, "
    if code == errno.ENOSPC and step == "unshare":
        return "allow user namespaces (sysctl user.max_user_namespaces is too low), "
    if _setting("kernel/unprivileged_userns_clone") == "0":
        return "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1), "
    if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1" and os.geteuid() != 0:
        return "allow user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0), "
    if any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")):
        return (
            "run this container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--security-opt systempaths=unconfined, "
        )
    if code in (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS):
        return "allow namespaces in this machine's security policy (seccomp, AppArmor, SELinux), "
    return ""


_CHANGE_USER = frozenset((0, 6, 7))  # CAP_CHOWN, CAP_SETGID, CAP_SETUID: root builds as an unprivileged user


def _capabilities() -> frozenset[int]:
    """Return the numbers of this process's capabilities (capabilities(7))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff"))
    return frozenset(number for number in range(64) if mask >> number & 1)


def _setting(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return ""
