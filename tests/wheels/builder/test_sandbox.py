"""The sandbox: runs a command in another tree, for root and ordinary users, and leaves nothing behind."""

import contextlib
import ctypes
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import hatch_docker
from hatch_docker.core.errors import BuildError
from hatch_docker.core.process import ProcessFailed
from hatch_docker.wheels.builder import sandbox
from hatch_docker.wheels.builder.sandbox import Bind, ExhaustedError, _capabilities, run_in
from hatch_docker.wheels.builder.sandbox_init import (
    CLONE3,
    CLONE_NEWUSER,
    IO_URING,
    KEYCTL,
    LARGEST_FILE,
    PROCESSES,
    SYSTEM_CALLS,
)
from tests.conftest import run
from tests.fakes.context import context
from tests.fakes.sandbox_roots import UNSHARE, program_root, python_root, readable_root

ENV = {"PATH": "/usr/bin:/bin"}
CAP_SYS_RESOURCE = 24  # capabilities(7)


@pytest.fixture(scope="session")
def root() -> Iterator[Path]:
    """A root directory with some programs."""
    with readable_root(program_root) as path:
        yield path


@pytest.fixture(scope="session")
def python_tree() -> Iterator[Path]:
    """A root directory with the Python that runs the tests."""
    with readable_root(python_root) as path:
        yield path


def sh(root: Path, script: str, **options: object) -> str:
    return run_in(root, ["sh", "-c", script], env=ENV, **options)  # type: ignore[arg-type]


def test_working_sandbox_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a setting of the kernel changes. An error is not cached."""
    ctx, answers = context(tmp_path / "cache"), [None, "denied", "denied"]
    monkeypatch.setattr(sandbox, "sandbox_error", lambda _environ: answers.pop(0))
    assert [sandbox.cached_sandbox_error(ctx) for _ in range(2)] == [None, None]
    monkeypatch.setattr(sandbox, "_setting", lambda _name: "0")
    assert [sandbox.cached_sandbox_error(ctx) for _ in range(2)] == ["denied", "denied"]


def test_persistent_bind_is_writable_in_later_runs(root: Path, tmp_path: Path) -> None:
    """A later sandbox can change files of an earlier one; the owner of other files is not changed."""
    kept = tmp_path / "kept"
    kept.mkdir()
    binds = [Bind(kept, "/kept", persistent=True)]
    sh(root, "mkdir /kept/a && echo 1 > /kept/a/b", binds=binds)
    mine = kept / "mine"
    mine.touch()
    sh(root, "echo 2 >> /kept/a/b && ls /kept/a", binds=binds)
    assert (kept / "a/b").read_text() == "1\n2\n"
    assert mine.stat().st_uid == os.geteuid()


def test_only_tmp_and_writable_binds_are_writable(root: Path, tmp_path: Path) -> None:
    """Files in a writable bind remain after the sandbox ended."""
    inner = tmp_path / "given" / "inner"
    inner.mkdir(parents=True)
    written = sh(
        root,
        "for path in /x /etc/x /bin/x /dev/x /given/inner/x /tmp/x /dev/shm/x /etc/motd /bin/sh;"
        " do touch $path 2>&- && echo $path; done; true",
        binds=[Bind(tmp_path / "given", "/given", writable=True)],
    )
    assert written.split() == ["/given/inner/x", "/tmp/x", "/dev/shm/x"]
    assert (inner / "x").exists()
    assert not (root / "tmp").exists()


def test_bind_is_read_only_by_default(root: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("content")
    binds = [Bind(tmp_path / "file", "/etc/deep/file"), Bind(tmp_path, "/given")]
    assert sh(root, "cat /etc/deep/file /given/file; touch /given/y 2>&- || echo no", binds=binds) == (
        "contentcontentno\n"
    )


@pytest.mark.parametrize("user", [(1000, 1000), (65532, 65532), (0, 0)])
def test_command_has_no_privileges(root: Path, user: tuple[int, int]) -> None:
    """No capabilities, no new privileges and no terminal, for all users."""
    text = sh(root, "id -u; id -g; cat /proc/self/status", user=user)
    assert text.split()[:2] == [str(user[0]), str(user[1])]
    status = dict(line.split(":\t", 1) for line in text.splitlines()[2:] if ":\t" in line)
    assert {status[name].strip() for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    with pytest.raises(ProcessFailed):
        sh(root, "cat < /dev/tty", user=user)


def test_no_network_has_only_loopback(root: Path) -> None:
    """Loopback is up, so that test servers work. There is no other device and no resolver."""
    text = sh(root, "cat /proc/net/dev /proc/net/if_inet6; ls /etc/resolv.conf 2>&- || echo none")
    devices = [line.split(":")[0].strip() for line in text.splitlines() if ":" in line]
    assert devices == ["lo"]
    assert text.endswith("none\n")


def test_network_has_the_hosts_devices_and_names(root: Path) -> None:
    text = sh(root, "cat /proc/net/dev /etc/hosts", network=True)
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        assert line.split(":")[0] in text
    assert Path("/etc/hosts").read_text() in text


def test_environment_of_the_parent_is_hidden(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sees only `env`, standard input is empty, and process 1 shows no variables."""
    monkeypatch.setenv("PASSWORD", "hunter2")
    text = sh(root, "env; cat; cat /proc/1/environ 2>&-; ls -l /proc/self/fd", environ=os.environ)
    assert "hunter2" not in text
    assert {line.split("=")[0] for line in text.splitlines() if "=" in line} <= {"PATH", "PWD", "OLDPWD", "_"}
    assert sh(root, "hostname; umask") == "sandbox\n0022\n"
    assert {word for word in sh(root, "ls /proc").split() if word.isdigit()} <= {"1", "2", "3", "4"}


KEYS = f"""
import ctypes
libc, number, mine = ctypes.CDLL(None), {KEYCTL.get(platform.machine(), -1)}, ctypes.c_int(-3)
"""
SEARCH = KEYS + """
print(libc.syscall(number, 10, mine, b"user", b"hatch-docker-tests", 0))
"""
HAVE = KEYS + """
import subprocess, sys
libc.syscall(number, 1, None)
add = {"x86_64": 248}.get(sys.argv[1], 217)
libc.syscall(add, b"user", b"hatch-docker-tests", b"hunter2", ctypes.c_size_t(7), mine)
""" + SEARCH + """
from pathlib import Path
from hatch_docker.wheels.builder.sandbox import run_in
print(run_in(Path(sys.argv[2]), sys.argv[3:], env={"LD_LIBRARY_PATH": "/usr/lib"}))
"""


@pytest.mark.skipif(platform.machine() not in UNSHARE, reason="the number of the call is not known here")
def test_user_keyring_is_not_accessible(python_tree: Path) -> None:
    """Kerberos and other programs keep tickets there. A kernel without keyrings passes too."""
    inside = [f"/usr/bin/{next((python_tree / 'usr/bin').iterdir()).name}", "-I", "-S", "-c", SEARCH]
    command = [sys.executable, "-c", HAVE, platform.machine(), python_tree, *inside]
    assert run(*command, cwd=Path(hatch_docker.__file__).parents[1]).split()[1:] == ["-1"]


BOUNDS = """
import ctypes, errno, os, resource, socket, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
for name, number, *arguments in eval(sys.argv[1]):
    code = 0 if libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)) >= 0 else ctypes.get_errno()
    print(name, errno.errorcode.get(code, "allowed"))
try:
    socket.socket(40).close()
    print("vsock allowed")
except OSError as error:
    print("vsock", errno.errorcode[error.errno])
thread = threading.Thread(target=print, args=("thread",))
thread.start(), thread.join()
print(*(resource.getrlimit(limit)[0] for limit in (resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE)))
print(open("/proc/self/oom_score_adj").read().strip(), flush=True)
try:
    os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"0")
    print("lowered", flush=True)
except OSError:
    print("kept", flush=True)
file = os.open("/tmp/sparse", os.O_CREAT | os.O_WRONLY)
os.ftruncate(file, resource.getrlimit(resource.RLIMIT_FSIZE)[0] + 1)
"""


@pytest.mark.skipif(platform.machine() not in SYSTEM_CALLS, reason="the numbers of the calls are not known here")
@pytest.mark.parametrize("network", [True, False])
def test_command_has_system_call_and_resource_limits(network: bool, python_tree: Path) -> None:
    """Dangerous system calls are denied; the number of processes and the file size are limited.

    If memory runs out, the kernel kills the command before other programs.
    """
    _, (clone, unshare, _), denied = SYSTEM_CALLS[platform.machine()]
    calls = [(str(number), number, 0, 0, 0) for number in (*denied, *IO_URING)]
    calls += [
        ("nested", unshare, CLONE_NEWUSER), ("upper bits", unshare, 1 << 40 | CLONE_NEWUSER),
        ("cloned", clone, 1 << 40 | CLONE_NEWUSER | signal.SIGCHLD), ("x32", 0x40000000 | 39), ("clone3", CLONE3, 0, 0),
        ("unshare", unshare, 0),
    ]  # fmt: skip
    lines: list[str] = []
    python = next((python_tree / "usr/bin").iterdir()).name
    with pytest.raises(ProcessFailed, match="File too large"):
        run_in(
            python_tree, [f"/usr/bin/{python}", "-I", "-S", "-c", BOUNDS, repr(calls)], env=ENV, network=network,
            log=lines.append, merge=True,
        )
    expected = [f"{number} EPERM" for number in (*denied, *IO_URING)]
    vsock = lines.pop(len(expected) + 6)
    assert (vsock == "vsock EPERM") is not network
    assert lines[: lines.index("Traceback (most recent call last):")] == [
        *expected, "nested EPERM", "upper bits EPERM", "cloned EPERM", "x32 ENOSYS", "clone3 ENOSYS", "unshare allowed",
        "thread", f"{PROCESSES} {LARGEST_FILE}", "1000", "kept" if CAP_SYS_RESOURCE in _capabilities() else "lowered",
    ]  # fmt: skip


MEMORY = {
    "private": "data = b'x' * SIZE",
    "of many processes": "[os.fork() or ([b'x' * (SIZE // 8), time.sleep(60)]) for _ in range(8)]",
    "a file in /tmp": "open('/tmp/x', 'wb').write(b'x' * SIZE)",
    "shared memory": "open('/dev/shm/x', 'wb').write(b'x' * (SIZE * 3 // 4)); data = b'x' * (SIZE // 2)",
    "anonymous mapping": "data = mmap.mmap(-1, SIZE); data.write(b'x' * SIZE)",
    "of a process that is not dumpable": "libc.prctl(4, 0, 0, 0, 0); data = b'x' * SIZE",
    "a segment of System V": "libc.memset(libc.shmat(libc.shmget(0, SIZE, 0o1600), 0, 0), 1, SIZE)",
}


@pytest.mark.parametrize("way", MEMORY)
def test_memory_limit(way: str, python_tree: Path) -> None:
    """For all kinds of memory, and for processes that ignore signals."""
    python = next((python_tree / "usr/bin").iterdir()).name
    script = (
        "import ctypes, mmap, os, signal, time\nSIZE = 400 << 20\nlibc = ctypes.CDLL(None)\n"
        "libc.shmat.restype, libc.memset.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)\n"
        f"signal.signal(15, signal.SIG_IGN)\n{MEMORY[way]}\ntime.sleep(60)"
    )
    with pytest.raises(ExhaustedError, match=rf"{python} was stopped, because it used more than the 268.44 MB of mem"):
        run_in(python_tree, [f"/usr/bin/{python}", "-I", "-S", "-c", script], env=ENV, memory=256 << 20, timeout=50)


def test_shared_memory_counts_once(python_tree: Path) -> None:
    python = next((python_tree / "usr/bin").iterdir()).name
    script = (
        "import os, time\ndata = b'x' * (100 << 20)\n"
        "children = [os.fork() or (time.sleep(1), os._exit(0)) for _ in range(8)]\n[os.wait() for _ in children]"
    )
    run_in(python_tree, [f"/usr/bin/{python}", "-I", "-S", "-c", script], env=ENV, memory=256 << 20)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("script", [
    "open('/out/x', 'wb').write(b'x' * (31 << 19))", "[open(f'/out/{number}', 'w').close() for number in range(380)]"
])
def test_command_is_killed_before_the_disk_is_full(script: str, python_tree: Path, tmp_path: Path) -> None:
    """Before bytes or inodes run out."""
    python = next((python_tree / "usr/bin").iterdir()).name
    run("mount", "-t", "tmpfs", "-o", "size=16m,nr_inodes=400", "tmpfs", tmp_path)
    try:
        with pytest.raises(ExhaustedError, match=rf"it filled the disk of {tmp_path}; free some space"):
            run_in(
                python_tree, [f"/usr/bin/{python}", "-I", "-S", "-c", f"import time; {script}; time.sleep(60)"],
                env=ENV, binds=[Bind(tmp_path, "/out", writable=True)], timeout=50,
            )
    finally:
        run("umount", tmp_path)


CALL = """
import socket
for name in ("\\0hatch-docker-test-outside", "\\0inside"):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        try:
            if name == "\\0inside":
                server.bind(name)
                server.listen()
            client.connect(name)
            print("connected")
        except OSError as error:
            print(error.strerror)
"""


def landlock() -> int:
    """Return the kernel's version of Landlock; 6, in Linux 6.12, has scopes."""
    return int(ctypes.CDLL(None).syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), 1))


@pytest.mark.skipif(sys.platform != "linux" or landlock() < 6, reason="the kernel has no scopes of Landlock")
def test_abstract_sockets_of_the_host_are_not_accessible(python_tree: Path) -> None:
    """With the host's network a command could otherwise connect to those of a desktop session or D-Bus."""
    python = next((python_tree / "usr/bin").iterdir()).name
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0hatch-docker-test-outside")
        server.listen()
        output = run_in(python_tree, [f"/usr/bin/{python}", "-I", "-S", "-c", CALL], env=ENV, network=True)
    assert output.splitlines() == ["Operation not permitted", "connected"]


def test_several_roots_are_merged(root: Path, tmp_path: Path) -> None:
    """The first root with a file has priority; `files` have priority over all roots."""
    tmp_path.chmod(0o755)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/motd").write_text("ours\n")
    (tmp_path / "etc/link").symlink_to("motd")
    (tmp_path / "opt/venv").mkdir(parents=True)
    text = run_in(
        [tmp_path, root], ["sh", "-c", "cat /etc/motd /etc/link /etc/given; ls /opt"],
        env=ENV, files={"/etc/given": "given\n"},
    )
    assert text == "ours\nours\ngiven\nvenv\n"


def test_symlinked_directory_of_a_tree_is_not_followed(root: Path, tmp_path: Path) -> None:
    """If /etc or /dev of a tree is a symlink to a directory of the host, no file is written there."""
    tree, canary = tmp_path / "tree", tmp_path / "canary"
    tree.mkdir(), canary.mkdir()
    canary.chmod(0o777), tree.chmod(0o755), tmp_path.chmod(0o755)
    for name in ("etc", "dev", "tmp", "proc", "given"):
        (tree / name).symlink_to(canary)
    binds = [Bind(root / "bin/cat", "/given/a/b")]
    text = run_in([tree, root], ["sh", "-c", "ls /etc /given/a"], env=ENV, binds=binds, files={"/etc/x": ""})
    assert text.split() == ["/etc:", "hosts", "motd", "x", "/given/a:", "b"]
    assert not list(canary.iterdir())


def test_failure_has_status_and_output(root: Path) -> None:
    """Secrets are hidden; merged streams are in order."""
    lines: list[str] = []
    with pytest.raises(ProcessFailed, match=r"sh failed with status 3:\nout\nkey \*\*\*$") as failure:
        sh(root, "echo out; echo key hunter2 >&2; exit 3", merge=True, secrets=["hunter2"], log=lines.append)
    assert failure.value.status == 3
    assert lines == ["out", "key ***"]
    with pytest.raises(ProcessFailed, match="status 137"):
        sh(root, "kill -9 $$")


def test_command_that_cannot_be_started(root: Path) -> None:
    with pytest.raises(BuildError, match="cannot run nope: No such file"):
        run_in(root, ["nope"], env=ENV)
    with pytest.raises(BuildError, match="cannot run in the directory /nope: No such file"):
        run_in(root, ["id"], env=ENV, cwd="/nope")


@pytest.mark.parametrize("target", ["relative", "/", "/a/../b", "/tmp/x", "/proc"])
def test_invalid_mount_point_raises_value_error(root: Path, target: str) -> None:
    """Overlapping mounts, or a path that is not normal and absolute."""
    with pytest.raises(ValueError, match=r"path|mounts"):
        run_in(root, ["id"], env=ENV, binds=[Bind(root, target)])


def sleepers(mark: str) -> int:
    """Return the number of processes that sleep for `mark` seconds, without the shell that started them."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += path.read_bytes() == b"sleep\0" + mark.encode() + b"\0"
    return found


def wait_for(count: int, mark: str) -> None:
    deadline = time.monotonic() + 60
    while sleepers(mark) != count:
        assert time.monotonic() < deadline, f"{mark}: not {count}"
        time.sleep(0.02)


SLEEPING = """
import sys
from contextlib import nullcontext
from pathlib import Path
from hatch_docker.core.signals import handle_signals
with handle_signals() if sys.argv[3] == "handled" else nullcontext():
    print("ready", flush=True)
    from hatch_docker.wheels.builder.sandbox import run_in
    run_in(Path(sys.argv[1]), ["sh", "-c", f"sleep {sys.argv[2]} & sleep {sys.argv[2]}"], env={"PATH": "/bin"})
"""


@contextlib.contextmanager
def sleeping(root: Path, mark: str, how: str = "plain") -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that starts two sleepers in a sandbox; yield it after it printed "ready"."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPING, root, mark, how], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        cwd=Path(hatch_docker.__file__).parents[1],
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_sandbox_ends_with_its_parent(root: Path, number: int) -> None:
    """All processes of the sandbox end if a signal kills the parent."""
    mark = f"{1000000 + os.getpid() * 10 + number}"
    with sleeping(root, mark) as parent:
        wait_for(2, mark)
        os.kill(parent.pid, number)
        assert parent.wait(60) != 0
        wait_for(0, mark)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after", [0, 20, 40, 80, 160])
def test_one_signal_ends_the_sandbox_at_any_time(root: Path, number: int, after: int) -> None:
    """`after` milliseconds: during imports (which ignore exceptions), and the start of the program or the sandbox."""
    mark = f"{4000000 + os.getpid() * 100 + after}"
    with sleeping(root, mark, "handled") as parent:
        time.sleep(after / 1000)
        os.kill(parent.pid, number)
        assert parent.wait(60) == 128 + number
        # Time for a process that was about to start a sleeper.
        time.sleep(0.2)
        wait_for(0, mark)


def test_background_process_ends_with_the_command(root: Path) -> None:
    mark = f"{3000000 + os.getpid()}"
    started = time.monotonic()
    sh(root, f"sleep {mark} > /dev/null 2>&1 & exit 0")
    assert time.monotonic() - started < 60
    wait_for(0, mark)
