"""The sandbox for root and for an ordinary user, and the message where a kernel or a container refuses it."""

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
    """A root of some programs."""
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
    """Yield a directory that every user can write, with a copy of the package that every user can read."""
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
def test_an_ordinary_user_gets_the_same(root: Path) -> None:
    """Without root the user inside is the same, and its files belong to us."""
    need("/usr/bin/python3")
    done = probe(root, [], user=12345, group=12345, extra_groups=[])
    assert (done.stdout, done.stderr) == ("['1000', '1000'] 12345\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_builds_as_nobody(root: Path) -> None:
    """If root runs it, the command is the user nobody outside: it owns nothing of root's, above all not /proc/sys."""
    done = probe(root, [])
    assert (done.stdout, done.stderr) == ("['1000', '1000'] 65534\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("lacking", ["chown", "setuid", "setgid"])
def test_root_without_capabilities_is_told_which(root: Path, lacking: str) -> None:
    """Containers that drop capabilities leave root unable to become the builder's user."""
    done = probe(root, [need("setpriv"), f"--bounding-set=-{lacking}", f"--inh-caps=-{lacking}"])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "give root the capabilities CHOWN, SETUID and SETGID" in done.stderr


def test_a_kernel_without_user_namespaces_is_named(root: Path) -> None:
    """max_user_namespaces = 0, here of a user namespace of its own: the message says which sysctl."""
    need("unshare")
    limit = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\""
    done = probe(root, ["unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh"])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "unshare: No space left on device" in done.stderr
    assert "user.max_user_namespaces" in done.stderr


@pytest.mark.skipif(platform.machine() not in UNSHARE, reason="the number of the call is not known here")
def test_a_seccomp_profile_is_named(root: Path) -> None:
    """A container's default profile answers unshare with EPERM: one line with the ways out."""
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
