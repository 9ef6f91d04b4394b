"""The uv program: its path, and its names of platforms."""

from pathlib import Path

import pytest

from hatch_docker.core.errors import WheelError
from hatch_docker.oci.model import Platform
from hatch_docker.wheels.locks.uv import find_uv, platform_name
from hatch_docker.wheels.target import Target
from tests.fakes.lock_files import AMD64


def test_find_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order: HATCH_UV, UV, PATH, the uv package. If all are missing, the error names a remedy."""
    for name in ("a", "b", "uv"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    environ = {"HATCH_UV": f"{tmp_path}/a", "UV": f"{tmp_path}/b", "PATH": str(tmp_path)}
    assert find_uv(environ) == f"{tmp_path}/a"
    del environ["HATCH_UV"]
    assert find_uv(environ) == f"{tmp_path}/b"
    del environ["UV"]
    assert find_uv(environ) == f"{tmp_path}/uv"
    with pytest.raises(WheelError, match="UV names /nowhere"):
        find_uv({"UV": "/nowhere"})
    monkeypatch.setitem(__import__("sys").modules, "uv", None)
    with pytest.raises(WheelError, match=r"hatch-docker\[uv\].*pylock"):
        find_uv({})


def test_platform_name() -> None:
    """The C library version in uv's name is not newer than the target's."""
    assert platform_name(AMD64) == "x86_64-manylinux_2_40"
    assert platform_name(Target("3.12.0", Platform("linux", "arm64"), ("glibc", "2.30"))) == "aarch64-manylinux_2_28"
    assert platform_name(Target("3.12.0", Platform("linux", "amd64"), ("musl", "1.2"))) == "x86_64-unknown-linux-musl"
    with pytest.raises(WheelError, match="linux/s390x"):
        platform_name(Target("3.12.0", Platform("linux", "s390x"), ("glibc", "2.41")))
