"""Download of wheels: verified, once, in the order of the pins; logins are sent to their index only."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.core.context import Context
from hatch_docker.core.errors import RegistryError
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.index import read_indexes
from hatch_docker.wheels.target import Pin
from tests.fakes.context import context, with_environ
from tests.fakes.package_index import FakeIndex, make_wheel, pins_of


def add_wheels(index: FakeIndex, count: int = 3) -> None:
    for number in range(count):
        index.add(f"p{number}", make_wheel(f"p{number}", "1.0", files={f"p{number}.py": b"x" * 100_000 * number}))


def test_files_are_downloaded_once_and_in_order(ctx: Context, tmp_path: Path) -> None:
    """The second call sends no request."""
    index = FakeIndex()
    add_wheels(index, 6)
    with index.serving():
        pins = pins_of(index)
        paths = fetch(pins, ctx, root=tmp_path)
        assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] == [pin.sha256 for pin in pins]
        count = len(index.requests)
        assert fetch(pins, ctx, root=tmp_path) == paths
        assert len(index.requests) == count == 6


@pytest.mark.parametrize("fault", [503, 429, "cut", "flip"])
def test_temporary_fault_is_retried(ctx: Context, tmp_path: Path, fault: object, lines: list[str]) -> None:
    """A line reports the retry."""
    index = FakeIndex(faults=[["p1", fault, 1]])
    add_wheels(index)
    with index.serving():
        pins = pins_of(index)
        assert len(fetch(pins, ctx, root=tmp_path)) == 3
    assert len(index.paths("p1")) == 2
    assert sum("; again in " in line for line in lines) == 1


@pytest.mark.parametrize("fault", ["flip", 404, "cut"])
def test_permanent_fault_names_the_package(ctx: Context, tmp_path: Path, fault: object) -> None:
    """A file with a wrong hash never gets into the cache."""
    index = FakeIndex(faults=[["p1", fault, 99]])
    add_wheels(index)
    with index.serving():
        pins = pins_of(index)
        with pytest.raises(RegistryError, match=r"p1 1\.0 \(p1-1\.0-py3-none-any\.whl\)"):
            fetch(pins, ctx, root=tmp_path)
    assert not ctx.store.has("sha256:" + pins[1].sha256)


def test_login_is_sent_to_its_index_only(ctx: Context, tmp_path: Path, lines: list[str]) -> None:
    """The password is not sent to the other index, printed or stored."""
    index, other = FakeIndex(login=("user", "pass-mark")), FakeIndex()
    add_wheels(index, 2)
    other.add("q", make_wheel("q", "1.0"))
    with index.serving(), other.serving():
        ctx = with_environ(ctx, {**ctx.environ, "UV_DEFAULT_INDEX": index.url_with_login})
        assert len(fetch([*pins_of(index), *pins_of(other)], ctx, root=tmp_path)) == 3
    assert all(login is None for _path, login in other.requests)
    assert "pass-mark" not in "\n".join(lines)
    assert not [path for path in ctx.store.root.rglob("*") if path.is_file() and b"pass-mark" in path.read_bytes()]


def test_login_of_netrc(tmp_path: Path) -> None:
    index = FakeIndex(login=("user", "pass-mark"))
    add_wheels(index, 1)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password pass-mark\n")
    ctx = context(tmp_path / "store", HOME=str(tmp_path), NETRC=str(tmp_path / "netrc"))
    with index.serving():
        assert len(fetch(pins_of(index), ctx, root=tmp_path)) == 1


def test_file_url_is_copied_to_the_cache(ctx: Context, tmp_path: Path) -> None:
    """find-links gives such URLs."""
    file, data = make_wheel("local", "1.0")
    (tmp_path / file).write_bytes(data)
    pin = Pin("local", "1.0", file, (tmp_path / file).as_uri(), hashlib.sha256(data).hexdigest(), None, None)
    assert fetch([pin], ctx, root=tmp_path)[0].read_bytes() == data


def test_pips_cert_option_is_trusted(tmp_path: Path) -> None:
    """Unless a variable names another bundle."""
    import ssl

    import trustme

    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "pip.conf").write_text(f"[global]\ncert = {tmp_path / 'ca.pem'}\n")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "XDG_CONFIG_DIRS": str(tmp_path)}
    ctx = context(tmp_path / "store", **environ)
    with FakeIndex().serving(server) as index:
        add_wheels(index)
        pins = [replace(pin, url=pin.url.replace("http:", "https:")) for pin in pins_of(index)]
        with pytest.raises(RegistryError, match="no trusted TLS connection"):
            fetch(pins, replace(ctx, environ={**environ, "PIP_CONFIG_FILE": "/dev/null"}), root=tmp_path)
        assert len(fetch(pins, ctx, root=tmp_path)) == 3
    found = read_indexes(tmp_path, environ)
    assert found.uv_environment(environ)["SSL_CERT_FILE"] == str(tmp_path / "ca.pem")
    assert found.uv_environment({**environ, "SSL_CERT_FILE": "other.pem"})["SSL_CERT_FILE"] == "other.pem"
