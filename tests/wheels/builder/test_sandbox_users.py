"""The sandbox for root and for an ordinary user, and the errors if the kernel or a container denies it."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import hatch_docker
from tests.conftest import need
from tests.fakes.sandbox_roots import UNSHARE, program_root, readable_root


@pytest.fixture(scope="session")
def root() -> Iterator[Path]:
    """A root directory with some programs."""
    with readable_root(program_root) as path:
        yield path


PROBE = """
import sys
from pathlib import Path
from hatch_docker.wheels.builder.sandbox import Bind, run_in, sandbox_error
reason = sandbox_error({})
if reason:
    sys.exit(reason)
out = Path(sys.argv[2])
text = run_in(Path(sys.argv[1]), ["sh", "-c", "id -u; touch /out/x; stat -c %u /out/x"], env={"PATH": "/bin"},
              binds=[Bind(out, "/out", writable=True)])
print(text.split(), (out / "x").stat().st_uid)
"""


@contextlib.contextmanager
def copied_package() -> Iterator[Path]:
    """Yield a world-writable directory with a world-readable copy of the package."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        copy = Path(directory, "hatch_docker")
        shutil.copytree(Path(hatch_docker.__file__).parent, copy)
        for path in (copy, *copy.rglob("*")):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        yield Path(directory)


def probe(root: Path, prefix: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    with copied_package() as home:
        out = home / "out"
        out.mkdir()
        user = options.get("user")
        if user is not None:
            os.chown(out, user, user)  # type: ignore[arg-type]
        python = sys.executable if user is None else "/usr/bin/python3"
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            [*prefix, python, "-c", PROBE, root, out], env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(home)},
            cwd=home, capture_output=True, text=True, check=False, **options,
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are those of an ordinary user")
def test_ordinary_user(root: Path) -> None:
    """The user in the sandbox is the same as for root, and its files belong to the ordinary user."""
    need("/usr/bin/python3")
    done = probe(root, [], user=12345, group=12345, extra_groups=[])
    assert (done.stdout, done.stderr) == ("['1000', '1000'] 12345\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_runs_commands_as_nobody(root: Path) -> None:
    """Outside of the sandbox the command's user is nobody, which does not own /proc/sys."""
    done = probe(root, [])
    assert (done.stdout, done.stderr) == ("['1000', '1000'] 65534\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("capability", ["chown", "setuid", "setgid"])
def test_root_without_capabilities(root: Path, capability: str) -> None:
    """In containers with dropped capabilities, root cannot change to the builder's user."""
    done = probe(root, [need("setpriv"), f"--bounding-set=-{capability}", f"--inh-caps=-{capability}"])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "give root the capabilities CHOWN, SETUID and SETGID" in done.stderr


def test_disabled_user_namespaces(root: Path) -> None:
    """The test sets max_user_namespaces to 0 in its own user namespace. The message names the sysctl."""
    need("unshare")
    limit = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\""
    done = probe(root, ["unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh"])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "unshare: No space left on device" in done.stderr
    assert "user.max_user_namespaces" in done.stderr


@pytest.mark.skipif(platform.machine() not in UNSHARE, reason="the number of the call is not known here")
def test_seccomp_profile_denies_unshare(root: Path) -> None:
    """As in the default profile of containers, unshare fails with EPERM."""
    code = f"""
import ctypes, os, struct, sys
program = b"".join(struct.pack("HBBI", *step) for step in [
    (0x20, 0, 0, 0),
    (0x15, 0, 1, {UNSHARE[platform.machine()]}), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)])
memory = ctypes.create_string_buffer(program)
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(memory)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filter, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
    done = probe(root, [sys.executable, "-c", code])
    assert done.returncode == 1
    assert done.stderr.startswith("the sandbox cannot be entered (unshare: Operation not permitted); ")
    assert 'engine = "buildkit"' in done.stderr
    assert done.stderr.count("\n") == 1
