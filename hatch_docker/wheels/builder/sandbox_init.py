"""Sandbox setup: a program (`python -I -S`, `main()`, JSON on stdin) that runs one command in a sandbox.

It is a separate process: a new interpreter with one thread enters the namespaces, so that the sandbox inherits no
threads, open files or environment of the host's Python. Standard library only, for any Python.

    this process     unshares namespaces, maps one user, composes the new root on a tmpfs
    └── process 1    mounts /proc, pivots into the new root, reaps, watches memory and disk, and dies with its parent
        └── command  no capabilities, no new privileges, no terminal, fewer system calls, limits

The new root is a tmpfs whose entries are read-only bind mounts of the given trees. The first tree that has a name has
priority, directories are merged. So no tree is modified, and no overlayfs is needed. If root runs the program, the
command runs as an unprivileged user outside of the sandbox too: a process of root owns /proc/sys, even without
capabilities.

A failed step prints the token of the specification and a JSON list [step, errno, subject]; the status is then 125.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
import threading
import time
from pathlib import Path

TYPE_CHECKING = False  # importing `typing` takes a tenth of the time until the command starts
if TYPE_CHECKING:
    from typing import Any, NoReturn

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 4096, 16384, 1 << 18, 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38

STATUS = 125        # exit status if the setup of the sandbox failed
NEW_ROOT = Path("/tmp")  # noqa: S108  (covered by our tmpfs, in our mount namespace only)
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}  # a system call's number
PROCESSES = 8192    # of the command and its children; before Linux 5.14 of the user on the whole machine
LARGEST_FILE = 8 << 30  # bytes
INTERVAL = 0.1      # seconds between two checks of memory and disk space
SPARE = (256 << 20, 4096)  # bytes and inodes that stay free on a disk, at most a tenth of the free ones at the start
SPARE_MEMORY = 0.02  # share of the machine's memory and swap that stays free
# Fields of /proc/PID/status and /proc/PID/smaps_rollup for memory that no file backs. The second file counts a page
# that several processes share once, and takes longer to read.
MEMORY = (("status", ("RssAnon:", "RssShmem:", "VmSwap:")), ("smaps_rollup", ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")))
TMPFS = ("/tmp", "/dev/shm")  # noqa: S108
# By machine: its constant in linux/audit.h; the numbers of clone, unshare, socket; the numbers of denied system calls,
# as in Docker's default profile: userfaultfd, keyctl, add_key, request_key, bpf, perf_event_open, setns.
SYSTEM_CALLS = {
    "x86_64": (0xC000003E, (56, 272, 41), (323, 250, 248, 249, 321, 298, 308)),
    "aarch64": (0xC00000B7, (220, 97, 198), (282, 219, 217, 218, 280, 241, 268)),
}
IO_URING, CLONE3, AF_VSOCK = (425, 426, 427), 435, 40  # the numbers are the same on all machines
LINKS = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}

_libc = ctypes.CDLL(None, use_errno=True)


class SetupError(Exception):
    """A step that failed, because of the kernel or a tree: the step's name, errno, subject."""


def call(step: str, subject: str, function: Any, *arguments: Any) -> None:
    """Call a function of the C library; raise SetupError with its errno."""
    if function(*arguments) != 0:
        raise SetupError(step, ctypes.get_errno(), subject)


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process."""
    call("prctl", str(option), _libc.prctl, option, ctypes.c_ulong(value), 0, 0, 0)


def mount(source: str | Path | None, target: str | Path, kind: str | None, flags: int, data: str = "") -> None:
    """Mount a file system; raise SetupError."""
    names = os.fsencode(source or "none"), os.fsencode(target), kind.encode() if kind else None
    call("mount", str(target), _libc.mount, *names, ctypes.c_ulong(flags), data.encode())


def bind(source: Path, target: Path, writable: bool) -> None:
    """Bind-mount a file or directory at `target`, without set-user-ID bits and devices."""
    mount(source, target, None, MS_BIND)
    # The mount options of the underlying file system are locked, and must be repeated.
    locked = os.statvfs(target).f_flag & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount(None, target, None, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | locked | (0 if writable else MS_RDONLY))


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends. A change of credentials resets this."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(STATUS)  # the parent exited before PR_SET_PDEATHSIG took effect


def has_id(identifier: int) -> bool:
    """Return whether this user namespace has a user and a group with this number; rootless containers may have one."""
    for name in ("uid_map", "gid_map"):
        ranges = [line.split() for line in Path("/proc/self", name).read_text().splitlines()]
        if not any(int(first) <= identifier < int(first) + int(count) for first, _, count in ranges):
            return False
    return True


def write_maps(process: str, inside: tuple[int, int], outside: tuple[int, int], inside_namespace: bool) -> None:
    """Map one user and one group of a new user namespace. `inside_namespace`: this process is in the namespace."""
    maps = {"uid_map": (inside[0], outside[0]), "gid_map": (inside[1], outside[1])}
    try:
        if inside_namespace:
            Path("/proc", process, "setgroups").write_text("deny")
        for name, (new, old) in maps.items():
            Path("/proc", process, name).write_text(f"{new} {old} 1")
    except OSError as error:
        raise SetupError("map", error.errno or 0, "") from error


def unshare(flags: int, inside: tuple[int, int], outside: tuple[int, int]) -> None:
    """Enter new namespaces, in which the user and group `outside` have the numbers `inside`."""
    if outside == (os.geteuid(), os.getegid()):
        call("unshare", "", _libc.unshare, flags)
        write_maps("self", inside, outside, inside_namespace=True)
        return
    # Only a process outside of the new namespace may map another user than its own.
    ready, go = os.pipe()
    process = str(os.getpid())
    child = os.fork()
    if child == 0:
        try:
            os.close(go)
            if os.read(ready, 1):
                write_maps(process, inside, outside, inside_namespace=False)
            os._exit(0)
        except SetupError as error:
            os._exit(error.args[1] or 1)
    try:
        call("unshare", "", _libc.unshare, flags)
        os.write(go, b"1")
    finally:
        os.close(go)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        raise SetupError("map", status, "")
    os.setgroups([])


def chown_tree(paths: list[str], persistent: list[str], owner: tuple[int, int]) -> None:
    """Make `owner`, the command's user outside of the sandbox, the owner of the writable directories.

    The contents of persistent directories are skipped: another sandbox could replace a directory there by a symlink.
    """
    for top in paths:
        os.chown(top, *owner, follow_symlinks=False)
        for directory, subdirectories, files in os.walk(top) if top not in persistent else ():
            for name in subdirectories + files:
                os.chown(Path(directory, name), *owner, follow_symlinks=False)


def mount_tree(targets: list[str]) -> dict[str, Any]:
    """Return mount points as nested dictionaries by name; a mount point itself is an empty dictionary."""
    top: dict[str, Any] = {}
    for target in targets:
        node = top
        for name in target.strip("/").split("/"):
            node = node.setdefault(name, {})
    return top


def compose(sources: list[Path], target: Path, mounts: dict[str, Any]) -> None:
    """Fill a directory with the entries of the sources, except the mount points in `mounts`."""
    found: dict[str, list[Path]] = {}
    for source in sources:
        for path in source.iterdir():
            found.setdefault(path.name, []).append(path)
    for name, paths in found.items():
        below = mounts.get(name, {})
        if name in mounts and not below:
            continue
        place = target / name
        mode = paths[0].lstat().st_mode
        if below or stat.S_ISDIR(mode):
            # No symlink in a path that is written to: it would point outside of the new root, which is not / yet.
            directories = [path for path in paths if stat.S_ISDIR(path.lstat().st_mode)]
            place.mkdir(0o700)
            if below or len(directories) > 1:
                # Directories that the command's user cannot read, such as /root, are skipped.
                compose([path for path in directories if os.access(path, os.R_OK | os.X_OK)], place, below)
                place.chmod(stat.S_IMODE(mode) & 0o1777 if stat.S_ISDIR(mode) else 0o755)
            else:
                bind(directories[0], place, writable=False)
        elif stat.S_ISLNK(mode):
            place.symlink_to(paths[0].readlink())
        elif stat.S_ISREG(mode):
            place.touch()
            bind(paths[0], place, writable=False)


def make_tmpfs(place: Path, memory: int) -> None:
    """Mount a world-writable tmpfs with `memory` bytes, 0 for half of the machine's memory."""
    place.mkdir()
    mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777" + (f",size={memory}" if memory else ""))


def make_devices(top: Path) -> None:
    """Make a /dev with the devices that every program may use."""
    top.mkdir()
    for name in DEVICES:
        if Path("/dev", name).exists():
            (top / name).touch()
            mount(f"/dev/{name}", top / name, None, MS_BIND)
    for name, number in LINKS.items():
        (top / name).symlink_to(f"/proc/self/fd{number}")


def make_root(spec: dict[str, Any], trees: list[Path], binds: list[Any], parts: list[Any]) -> None:
    """Compose the new root under NEW_ROOT."""
    mount("tmpfs", NEW_ROOT, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    targets = ["/proc", "/dev", "/tmp", *spec["files"], *(target for _, target, _ in binds)]  # noqa: S108
    tops = [top for _, _, top in parts if top != "/"]
    compose(trees, NEW_ROOT, mount_tree([*targets, *tops]))
    for directory, key, top in parts:
        skip = tuple(f"{path.rstrip('/')}/" for path in (*targets, *tops) if path != top)
        spec["placeholders"] += spec["module"].compose_partial(directory, key, top, NEW_ROOT, skip, bind)
    make_devices(NEW_ROOT / "dev")
    (NEW_ROOT / "proc").mkdir(0o555)
    for target in TMPFS:
        make_tmpfs(NEW_ROOT / target[1:], spec["memory"])
    for target in targets[3:]:
        (NEW_ROOT / target[1:]).parent.mkdir(parents=True, exist_ok=True)
    for target, text in spec["files"].items():
        (NEW_ROOT / target[1:]).write_text(text, encoding="utf-8")
    for source, target, writable in binds:
        place = NEW_ROOT / target[1:]
        place.mkdir() if source.is_dir() else place.touch()
        bind(source, place, writable)


def by_descriptor(path: str) -> Path:
    """Return a path of a file or directory that stays valid after this process changes its user."""
    return Path(f"/proc/self/fd/{os.open(path, os.O_PATH)}")


def enter(spec: dict[str, Any]) -> None:
    """Set up namespaces, user and new root: all steps before process 1."""
    inside, outside = (spec["uid"], spec["gid"]), (os.geteuid(), os.getegid())
    if outside[0] == 0 and has_id(spec["nobody"]):
        outside = (spec["nobody"], spec["nobody"])
        chown_tree([source for source, _, writable in spec["binds"] if writable], spec["persistent"], outside)
    flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID
    unshare(flags if spec["network"] else flags | CLONE_NEWNET, inside, outside)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    # Opened by name while this user may still enter the parent directories; used by descriptor later.
    trees = [by_descriptor(path) for path in spec["roots"]]
    binds, parts = ([(by_descriptor(path), *where) for path, *where in spec[name]] for name in ("binds", "partial"))
    os.setresgid(inside[1], inside[1], inside[1])
    os.setresuid(inside[0], inside[0], inside[0])
    prctl(PR_SET_DUMPABLE, 1)  # otherwise /proc/self belongs to root after the change of the user
    die_with_parent(spec["parent"])
    os.umask(0o022)
    make_root(spec, trees, binds, parts)
    call("sethostname", "", _libc.sethostname, b"sandbox", 7)
    if not spec["network"]:
        # The loopback device, the only one of a sandbox without network, is started: SIOCSIFFLAGS, IFF_UP.
        fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 0x1))


def call_filter(machine: str, network: bool) -> bytes:
    """Return the seccomp program (classic BPF) that denies system calls, b"" for an unknown machine.

    Builds do not need them, and they expose much of the kernel: io_uring, userfaultfd, keyrings, bpf, perf, new user
    namespaces, system calls of another architecture, and sockets of the hypervisor in a sandbox without network.
    """
    if machine not in SYSTEM_CALLS:
        return b""
    audit, (clone, unshare, open_socket), denied = SYSTEM_CALLS[machine]
    load, equal, at_least, any_bit, result = 0x20, 0x15, 0x35, 0x45, 0x06
    number, architecture, argument = 0, 4, 16  # offsets in struct seccomp_data
    allow, deny = (result, 0, 0, 0x7FFF0000), (result, 0, 0, 0x50000 | errno.EPERM)
    not_implemented = (result, 0, 0, 0x50000 | errno.ENOSYS)
    steps = [(load, 0, 0, architecture), (equal, 1, 0, audit), not_implemented]
    steps += [(load, 0, 0, number), (at_least, 0, 1, 0x40000000), not_implemented]  # x32
    for call_number in (*denied, *IO_URING):
        steps += [(equal, 0, 1, call_number), deny]
    steps += [(equal, 0, 1, CLONE3), not_implemented]  # its flags are in memory; C libraries use clone instead
    for call_number in (clone, unshare):
        steps += [(equal, 0, 4, call_number), (load, 0, 0, argument), (any_bit, 0, 1, CLONE_NEWUSER), deny, allow]
    if not network:
        steps += [(equal, 0, 4, open_socket), (load, 0, 0, argument), (equal, 0, 1, AF_VSOCK), deny, allow]
    return b"".join(struct.pack("HBBI", *step) for step in [*steps, allow])


def restrict(spec: dict[str, Any]) -> None:
    """Set the command's limits that the kernel enforces: system calls, processes, file size."""
    for limit, value in (
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, PROCESSES), (resource.RLIMIT_FSIZE, LARGEST_FILE)
    ):
        hard = resource.getrlimit(limit)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (least, least))
    program = ctypes.create_string_buffer(call_filter(os.uname().machine, spec["network"]))
    steps = struct.pack("HxxxxxxP", len(program.raw) // 8, ctypes.addressof(program))
    if _libc.prctl(PR_SET_SECCOMP, 2, steps, 0, 0) != 0:
        os.write(2, b"the sandbox has no filter of system calls: the kernel or this machine has none\n")


def execute(spec: dict[str, Any]) -> NoReturn:
    """Drop all remaining privileges and execute the command."""
    os.setsid()  # no terminal, so that the command cannot send input to it
    for capability in range(64):
        _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)  # fails above the kernel's last capability
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    # Abstract sockets, also those of a desktop, belong to the network: Linux 6.12 can hide them (landlock(7), scopes).
    rules = _libc.syscall(ctypes.c_long(444), struct.pack("3Q", 0, 0, 1), ctypes.c_size_t(24), 0)
    _libc.syscall(ctypes.c_long(446), rules, 0)
    restrict(spec)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and child processes inherit that
        signal.signal(number, signal.SIG_DFL)
    if spec["merge"]:
        os.dup2(2, 1)
    step, subject = "chdir", spec["cwd"]
    try:
        os.chdir(subject)
        step, subject = "exec", spec["command"][0]
        os.execvpe(subject, spec["command"], spec["env"])  # noqa: S606
    except OSError as error:
        raise SetupError(step, error.errno or 0, subject) from error


def init(spec: dict[str, Any]) -> int:
    """Run as process 1: enter the new root, start the command, reap all processes, and return the command's status."""
    try:
        mount("proc", NEW_ROOT / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except SetupError:
        # In a container that hides parts of its /proc, the kernel denies a new mount. Few builds need /proc.
        os.write(2, b"the sandbox has no /proc, and memory no limit: the container around it hides parts of its own\n")
    os.chdir(NEW_ROOT)
    call("pivot_root", "", _libc.pivot_root, b".", b".")
    call("umount", "", _libc.umount2, b".", MNT_DETACH)
    os.chdir("/")
    mount(None, "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    if not spec["command"]:
        restrict(spec)  # prints a line for each missing limit
        return 0
    spec["least"] = {  # from the free space before the command starts
        target: [min(spare, free // 10) for spare, free in zip(SPARE, free_space(target), strict=True)]
        for _, target, writable in spec["binds"] if writable
    }  # fmt: skip
    if spec["placeholders"]:
        spec["partial"] = spec["module"].Placeholders(spec["placeholders"])
        check_placeholders(spec)
    child = os.fork()
    if child == 0:
        run_and_exit(spec, execute)
    threading.Thread(target=run_and_exit, args=(spec, watch), daemon=True).start()
    while True:
        process, status = os.wait()
        if process == child:
            check_placeholders(spec)
            return exit_status(status)


def check_placeholders(spec: dict[str, Any]) -> None:
    """Raise SetupError if the command opened a file that is missing in a partial tree."""
    if spec["placeholders"] and (path := spec["partial"].find_opened()):
        raise SetupError("placeholder", 0, path)


def watch(spec: dict[str, Any]) -> NoReturn:
    """Raise SetupError when the command uses too much memory, or leaves too little on the machine or on a disk.

    Also when it opens a file that is missing in a partial tree. No cgroup is needed: few machines let users create
    them. If process 1 ends, the kernel kills all processes of the sandbox.
    """
    sees_memory = Path("/proc/meminfo").exists()
    while True:
        check_placeholders(spec)
        for target, spare in spec["least"].items():
            if any(free < least for free, least in zip(free_space(target), spare, strict=True)):
                raise SetupError("disk", 0, target)
        if sees_memory and is_out_of_memory():
            raise SetupError("machine", 0, "")
        # The quick estimate is never too small.
        if sees_memory and spec["memory"] and all(used_memory(index) > spec["memory"] for index in (0, 1)):
            raise SetupError("memory", 0, "")
        time.sleep(INTERVAL)


def free_space(path: str) -> tuple[int, int]:
    """Return the free bytes and inodes of a file system; sys.maxsize if it does not count inodes."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else sys.maxsize


def is_out_of_memory() -> bool:
    """Return whether the machine has almost no memory and swap left."""
    sizes = {line.partition(":")[0]: int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()}
    total, free = sizes["MemTotal"] + sizes["SwapTotal"], sizes.get("MemAvailable", 0) + sizes["SwapFree"]
    return "MemAvailable" in sizes and free < SPARE_MEMORY * total


def used_memory(exact: int) -> int:
    """Return the bytes that the sandbox uses: memory of processes, files in memory and System V segments.

    `exact` 0 counts shared memory for each process, 1 counts it once.
    """
    used = sum(process_memory(process, exact) for process in filter(str.isdigit, os.listdir("/proc")))  # noqa: PTH208 - names
    for target in TMPFS:
        found = os.statvfs(target)
        used += (found.f_blocks - found.f_bfree) * found.f_frsize
    with contextlib.suppress(OSError):  # a kernel without System V segments
        segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        used += sum(int(size) for line in segments for size in line.split()[-2:])
    return used


def process_memory(process: str, exact: int) -> int:
    """Return the bytes of memory of a process, 0 if it has ended. `exact`: see `used_memory`."""
    for name, fields in reversed(MEMORY[:exact + 1]):
        with contextlib.suppress(OSError):  # smaps_rollup of some processes is not readable
            lines = Path("/proc", process, name).read_text().splitlines()
            return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(fields))
    return 0


def exit_status(status: int) -> int:
    """Return a wait status in a shell's form: 128 plus the signal number for a killed process."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def run_and_exit(spec: dict[str, Any], step: Any) -> NoReturn:
    """Run a step and end this process with its status; print an error in the form that `launch`'s caller reads."""
    status = STATUS
    try:
        status = step(spec) or 0
    except (SetupError, OSError) as error:
        what = error.args if isinstance(error, SetupError) else ("setup", error.errno, str(error.filename or ""))
        os.write(2, f"\n{spec['token']}{json.dumps(what)}\n".encode())
    finally:
        if any(sys.exc_info()):  # a bug: its traceback goes to the log
            sys.excepthook(*sys.exc_info())
        os._exit(status)


def launch(spec: dict[str, Any]) -> int:
    """Enter the namespaces, start process 1 and return the command's status."""
    die_with_parent(spec["parent"])
    with contextlib.suppress(OSError):  # there may be no /proc
        # If memory runs out, the kernel kills the command first. If root sets the value, the command cannot change it.
        Path("/proc/self/oom_score_adj").write_text("1000")
    if number := KEYCTL.get(os.uname().machine):
        # A new session keyring: the user's may contain tickets, tokens, keys of disks.
        _libc.syscall(ctypes.c_long(number), 1, None)  # JOIN_SESSION_KEYRING; fails without keyrings
    enter(spec)
    alive, parent_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(parent_end)
        die_with_parent(0)  # the parent is outside of this namespace
        if select.select([alive], [], [], 0)[0]:
            os._exit(STATUS)
        run_and_exit(spec, init)
    os.close(alive)
    return exit_status(os.waitpid(child, 0)[1])


def main() -> NoReturn:
    """Read the specification and run it."""
    spec = json.load(sys.stdin.buffer)
    if spec["partial"]:
        import sandbox_partial  # type: ignore[import-not-found]

        spec["module"] = sandbox_partial
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    run_and_exit(spec, launch)

