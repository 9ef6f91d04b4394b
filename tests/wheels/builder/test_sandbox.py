"""The sandbox: a command in another tree, as root and as an ordinary user; nothing is left behind."""

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
    """A root of some programs."""
    with readable_root(program_root) as path:
        yield path


@pytest.fixture(scope="session")
def python_tree() -> Iterator[Path]:
    """A root with the Python that runs the tests."""
    with readable_root(python_root) as path:
        yield path


def sh(root: Path, script: str, **options: object) -> str:
    return run_in(root, ["sh", "-c", script], env=ENV, **options)  # type: ignore[arg-type]


def test_that_there_is_a_sandbox_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until something changes that the kernel looks at; that there is none never is."""
    ctx, answers = context(tmp_path / "cache"), [None, "refused", "refused"]
    monkeypatch.setattr(sandbox, "sandbox_error", lambda _environ: answers.pop(0))
    assert [sandbox.cached_sandbox_error(ctx) for _ in range(2)] == [None, None]
    monkeypatch.setattr(sandbox, "_setting", lambda _name: "0")
    assert [sandbox.cached_sandbox_error(ctx) for _ in range(2)] == ["refused", "refused"]


def test_a_kept_bind_is_used_again(root: Path, tmp_path: Path) -> None:
    """The next sandbox can change the files of the one before; the directory alone gets its owner from outside."""
    kept = tmp_path / "kept"
    kept.mkdir()
    binds = [Bind(kept, "/kept", persistent=True)]
    sh(root, "mkdir /kept/a && echo 1 > /kept/a/b", binds=binds)
    mine = kept / "mine"
    mine.touch()
    sh(root, "echo 2 >> /kept/a/b && ls /kept/a", binds=binds)
    assert (kept / "a/b").read_text() == "1\n2\n"
    assert mine.stat().st_uid == os.geteuid()


def test_only_writable_binds_can_be_written(root: Path, tmp_path: Path) -> None:
    """The root is read-only; /tmp, /dev/shm and writable binds are not, and a file that is written there stays."""
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


def test_a_bind_is_read_only_unless_asked(root: Path, tmp_path: Path) -> None:
    """A file and a directory of the host can be read at the given path and not changed."""
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("content")
    binds = [Bind(tmp_path / "file", "/etc/deep/file"), Bind(tmp_path, "/given")]
    assert sh(root, "cat /etc/deep/file /given/file; touch /given/y 2>&- || echo no", binds=binds) == (
        "contentcontentno\n"
    )


@pytest.mark.parametrize("user", [(1000, 1000), (65532, 65532), (0, 0)])
def test_the_command_has_no_privileges(root: Path, user: tuple[int, int]) -> None:
    """No capabilities, no new privileges, no terminal, for any user inside."""
    text = sh(root, "id -u; id -g; cat /proc/self/status", user=user)
    assert text.split()[:2] == [str(user[0]), str(user[1])]
    status = dict(line.split(":\t", 1) for line in text.splitlines()[2:] if ":\t" in line)
    assert {status[name].strip() for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    with pytest.raises(ProcessFailed):
        sh(root, "cat < /dev/tty", user=user)


def test_without_network_there_is_a_loopback_device_alone(root: Path) -> None:
    """Loopback is up, so that tests with a server work; there is no other device and no resolver."""
    text = sh(root, "cat /proc/net/dev /proc/net/if_inet6; ls /etc/resolv.conf 2>&- || echo none")
    devices = [line.split(":")[0].strip() for line in text.splitlines() if ":" in line]
    assert devices == ["lo"]
    assert text.endswith("none\n")


def test_with_network_names_resolve_as_on_the_host(root: Path) -> None:
    """The host's devices, hosts file and resolver."""
    text = sh(root, "cat /proc/net/dev /etc/hosts", network=True)
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        assert line.split(":")[0] in text
    assert Path("/etc/hosts").read_text() in text


def test_nothing_of_our_environment_gets_in(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sees the given variables, standard input is empty, and process 1 shows nothing."""
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
def test_the_users_keyring_stays_outside(python_tree: Path) -> None:
    """Kerberos and others keep tickets there; a kernel without keyrings has nothing to hide."""
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
def test_the_command_has_bounds(network: bool, python_tree: Path) -> None:
    """System calls that reach much of the kernel are refused; processes and the size of a file have a limit.

    Out of memory, the kernel ends the command before other programs of the machine.
    """
    _, (clone, unshare, _), refused = SYSTEM_CALLS[platform.machine()]
    calls = [(str(number), number, 0, 0, 0) for number in (*refused, *IO_URING)]
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
    expected = [f"{number} EPERM" for number in (*refused, *IO_URING)]
    vsock = lines.pop(len(expected) + 6)
    assert (vsock == "vsock EPERM") is not network
    assert lines[: lines.index("Traceback (most recent call last):")] == [
        *expected, "nested EPERM", "upper bits EPERM", "cloned EPERM", "x32 ENOSYS", "clone3 ENOSYS", "unshare allowed",
        "thread", f"{PROCESSES} {LARGEST_FILE}", "1000", "kept" if CAP_SYS_RESOURCE in _capabilities() else "lowered",
    ]  # fmt: skip


MEMORY = {
    "its own": "data = b'x' * SIZE",
    "of many processes": "[os.fork() or ([b'x' * (SIZE // 8), time.sleep(60)]) for _ in range(8)]",
    "a file in /tmp": "open('/tmp/x', 'wb').write(b'x' * SIZE)",
    "shared memory": "open('/dev/shm/x', 'wb').write(b'x' * (SIZE * 3 // 4)); data = b'x' * (SIZE // 2)",
    "mapped, and not a file's": "data = mmap.mmap(-1, SIZE); data.write(b'x' * SIZE)",
    "of a process that nobody may look at": "libc.prctl(4, 0, 0, 0, 0); data = b'x' * SIZE",
    "a segment of System V": "libc.memset(libc.shmat(libc.shmget(0, SIZE, 0o1600), 0, 0), 1, SIZE)",
}


@pytest.mark.parametrize("way", MEMORY)
def test_memory_has_a_limit(way: str, python_tree: Path) -> None:
    """Wherever the command takes it; and it is ended whatever its processes do with signals."""
    python = next((python_tree / "usr/bin").iterdir()).name
    script = (
        "import ctypes, mmap, os, signal, time\nSIZE = 400 << 20\nlibc = ctypes.CDLL(None)\n"
        "libc.shmat.restype, libc.memset.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)\n"
        f"signal.signal(15, signal.SIG_IGN)\n{MEMORY[way]}\ntime.sleep(60)"
    )
    with pytest.raises(ExhaustedError, match=rf"{python} was ended, because it took more than the 268.44 MB of memory"):
        run_in(python_tree, [f"/usr/bin/{python}", "-I", "-S", "-c", script], env=ENV, memory=256 << 20, timeout=50)


def test_memory_that_processes_share_counts_once(python_tree: Path) -> None:
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
def test_a_disk_keeps_some_room(script: str, python_tree: Path, tmp_path: Path) -> None:
    """The command ends before the bytes or the inodes of a disk do, with one line."""
    python = next((python_tree / "usr/bin").iterdir()).name
    run("mount", "-t", "tmpfs", "-o", "size=16m,nr_inodes=400", "tmpfs", tmp_path)
    try:
        with pytest.raises(ExhaustedError, match=rf"it filled the disk that {tmp_path} is on; make room"):
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
def test_sockets_without_a_file_are_out_of_reach(python_tree: Path) -> None:
    """With the machine's network a command would reach those of a desktop and a bus, which let this user in."""
    python = next((python_tree / "usr/bin").iterdir()).name
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0hatch-docker-test-outside")
        server.listen()
        said = run_in(python_tree, [f"/usr/bin/{python}", "-I", "-S", "-c", CALL], env=ENV, network=True)
    assert said.splitlines() == ["Operation not permitted", "connected"]


def test_several_roots_are_one(root: Path, tmp_path: Path) -> None:
    """Directories are merged, the first tree that has a file wins, and given texts win over both."""
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


def test_a_link_in_the_tree_leads_nowhere(root: Path, tmp_path: Path) -> None:
    """If a tree's /etc or /dev is a link to a directory of the host, nothing is written there."""
    tree, canary = tmp_path / "tree", tmp_path / "canary"
    tree.mkdir(), canary.mkdir()
    canary.chmod(0o777), tree.chmod(0o755), tmp_path.chmod(0o755)
    for name in ("etc", "dev", "tmp", "proc", "given"):
        (tree / name).symlink_to(canary)
    binds = [Bind(root / "bin/cat", "/given/a/b")]
    text = run_in([tree, root], ["sh", "-c", "ls /etc /given/a"], env=ENV, binds=binds, files={"/etc/x": ""})
    assert text.split() == ["/etc:", "hosts", "motd", "x", "/given/a:", "b"]
    assert not list(canary.iterdir())


def test_a_failure_has_its_last_lines(root: Path) -> None:
    """Status and output of the command, secrets hidden; both streams in order when merged."""
    lines: list[str] = []
    with pytest.raises(ProcessFailed, match=r"sh failed with status 3:\nout\nkey \*\*\*$") as failure:
        sh(root, "echo out; echo key hunter2 >&2; exit 3", merge=True, secrets=["hunter2"], log=lines.append)
    assert failure.value.status == 3
    assert lines == ["out", "key ***"]
    with pytest.raises(ProcessFailed, match="status 137"):
        sh(root, "kill -9 $$")


def test_a_command_that_cannot_be_started_is_named(root: Path) -> None:
    """A missing program or directory is the user's mistake, in one line."""
    with pytest.raises(BuildError, match="cannot run nope: No such file"):
        run_in(root, ["nope"], env=ENV)
    with pytest.raises(BuildError, match="cannot run in the directory /nope: No such file"):
        run_in(root, ["id"], env=ENV, cwd="/nope")


@pytest.mark.parametrize("target", ["relative", "/", "/a/../b", "/tmp/x", "/proc"])
def test_mount_points_are_plain(root: Path, target: str) -> None:
    """Two mounts over each other, or a path with .. in it, are a mistake of the caller."""
    with pytest.raises(ValueError, match=r"path|mounts"):
        run_in(root, ["id"], env=ENV, binds=[Bind(root, target)])


def sleepers(mark: str) -> int:
    """Return how many processes sleep for `mark` seconds, without the shell that starts them."""
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
    """Run a program that starts two sleepers in a sandbox, and has printed "ready"."""
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
def test_it_ends_with_us(root: Path, number: int) -> None:
    """The command and its processes, detached or not, end with our process, by any signal."""
    mark = f"{1000000 + os.getpid() * 10 + number}"
    with sleeping(root, mark) as parent:
        wait_for(2, mark)
        os.kill(parent.pid, number)
        assert parent.wait(60) != 0
        wait_for(0, mark)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after", [0, 20, 40, 80, 160])
def test_one_signal_ends_it_at_any_moment(root: Path, number: int, after: int) -> None:
    """`after` milliseconds of a build: in an import, which drops exceptions, in a program's start, in the sandbox's."""
    mark = f"{4000000 + os.getpid() * 100 + after}"
    with sleeping(root, mark, "handled") as parent:
        time.sleep(after / 1000)
        os.kill(parent.pid, number)
        assert parent.wait(60) == 128 + number
        # Time for a process that was about to start a sleeper.
        time.sleep(0.2)
        wait_for(0, mark)


def test_a_background_process_ends_with_the_command(root: Path) -> None:
    """A process left in the background does not outlive the command."""
    mark = f"{3000000 + os.getpid()}"
    begun = time.monotonic()
    sh(root, f"sleep {mark} > /dev/null 2>&1 & exit 0")
    assert time.monotonic() - begun < 60
    wait_for(0, mark)
