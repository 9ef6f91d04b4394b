"""Resolutions with a package index on loopback: complete, for the target, without executing code of packages."""

import hashlib
import ssl
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from hatch_docker.core.context import Context
from hatch_docker.core.errors import HatchDockerError, RegistryError, TransientError, WheelError
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.index import read_indexes
from hatch_docker.wheels.locks.pin import pin
from hatch_docker.wheels.locks.uv import MissingWheelError, _error_for, compile_lock
from hatch_docker.wheels.target import Pin
from tests.fakes.context import with_environ
from tests.fakes.http_server import running
from tests.fakes.lock_files import AMD64, ARM64, FOREIGN, HOST, OLD, names, resolve_plan, with_index
from tests.fakes.package_index import EVIL, UPLOADED_SECONDS, FakeIndex, as_zip, make_sdist, make_wheel


def test_resolution_is_for_the_target(ctx: Context, index: FakeIndex, root: Path) -> None:
    """Markers and tags are evaluated for the target, never the host. Pins have size, hash and upload time."""
    index.add("app", make_wheel("app", "1.0", requires=[
        "arm; platform_machine == 'aarch64'", "intel; platform_machine == 'x86_64'", "old; python_version < '3.12'",
        "win; sys_platform == 'win32'",
    ]))
    for name in ("arm", "intel", "old", "win"):
        index.add(name, make_wheel(name, "1.0"))
    index.add("intel", make_wheel("intel", "2.0", tag="cp313-cp313-manylinux_2_28_x86_64"))
    ctx = with_index(ctx, index)
    assert names(pin(resolve_plan("app"), root, ARM64, ctx)) == ["app-1.0-py3-none-any.whl", "arm-1.0-py3-none-any.whl"]
    pins = pin(resolve_plan("app"), root, AMD64, ctx)
    assert names(pins) == ["app-1.0-py3-none-any.whl", "intel-2.0-cp313-cp313-manylinux_2_28_x86_64.whl"]
    assert names(pin(resolve_plan("app"), root, OLD, ctx)) == [
        "app-1.0-py3-none-any.whl", "intel-1.0-py3-none-any.whl", "old-1.0-py3-none-any.whl"
    ]
    data = index.files["app"][pins[0].filename]
    assert (pins[0].sha256, pins[0].size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert pins[0].upload_time == UPLOADED_SECONDS


def test_resolution_for_free_threaded_python(ctx: Context, index: FakeIndex, root: Path) -> None:
    """uv has no such target: it selects versions, and the files are selected by the target's tags."""
    for tag in ("cp313-cp313-manylinux_2_28_x86_64", "cp313-cp313t-manylinux_2_28_x86_64"):
        index.add("fast", make_wheel("fast", "1.0", requires=["pure"], tag=tag))
    index.add("pure", make_wheel("pure", "1.0"))
    ctx, target = with_index(ctx, index), replace(AMD64, abi="t")
    assert names(pin(resolve_plan("fast"), root, target, ctx)) == [
        "fast-1.0-cp313-cp313t-manylinux_2_28_x86_64.whl", "pure-1.0-py3-none-any.whl"
    ]
    index.add("fast", make_wheel("fast", "2.0", tag="cp313-cp313-manylinux_2_28_x86_64"))
    with pytest.raises(WheelError, match=r"fast 2\.0 has no wheel for Python 3\.13t on .*only ones for cp313-cp313"):
        pin(resolve_plan("fast==2.0"), root, target, ctx)


@pytest.mark.parametrize("links", ["", "links"])
@pytest.mark.parametrize("html", [False, True])
def test_index_page_with_local_file_is_rejected(
    html: bool, links: str, ctx: Context, index: FakeIndex, root: Path, tmp_path: Path
) -> None:
    """A remote index could otherwise put a local file into an image. The project may require the file by its address.

    Another find-links directory does not change this; a file in the directory may be used.
    """
    name, data = make_wheel("app", "1.0")
    index.add("app", (name, data)).html, index.place = html, tmp_path.as_uri()
    file = tmp_path / "files/app" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    (tmp_path / "links").mkdir()
    ctx = with_index(ctx, index, **({"UV_FIND_LINKS": str(tmp_path / links)} if links else {}))
    with pytest.raises(WheelError, match=rf"the package index has {name} at file:///.*, on this machine: refused"):
        pin(resolve_plan("app"), root, AMD64, ctx)
    assert pin(resolve_plan(f"app @ {file.as_uri()}"), root, AMD64, ctx)[0].url == file.as_uri()
    file.rename(own := tmp_path / "links" / name)
    if links:
        assert pin(resolve_plan("app"), root, AMD64, ctx)[0].url == own.as_uri()


@pytest.mark.parametrize("part", ["/simple/", "/files/"])
def test_redirect_to_local_file_is_a_permanent_error(part: str, ctx: Context, index: FakeIndex, root: Path) -> None:
    index.add("app", make_wheel("app", "1.0", requires=["dep"]))
    index.faults.append([part, "file:///etc/passwd", 99])
    with pytest.raises(RegistryError) as caught:
        pin(resolve_plan("app"), root, AMD64, with_index(ctx, index))
    assert not isinstance(caught.value, TransientError)
    assert "\n" not in str(caught.value)


def test_resolution_is_cached_for_a_day(ctx: Context, index: FakeIndex, root: Path, lines: list[str]) -> None:
    """No request is sent, unless HATCH_DOCKER_REFRESH is set."""
    index.add("app", make_wheel("app", "1.0"))
    ctx = with_index(ctx, index)
    first = pin(resolve_plan("app"), root, AMD64, ctx)
    requested = len(index.requests)
    index.add("app", make_wheel("app", "2.0"))
    assert pin(resolve_plan("app"), root, AMD64, ctx) == first
    assert len(index.requests) == requested
    refreshed = pin(resolve_plan("app"), root, AMD64, with_index(ctx, index, HATCH_DOCKER_REFRESH="1", UV_NO_CACHE="1"))
    assert refreshed[0].version == "2.0"


def test_old_resolution_is_used_if_index_does_not_respond(
    ctx: Context, root: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a day the index is requested again. If that fails, a warning is printed."""
    with FakeIndex().add("app", make_wheel("app", "1.0")).serving() as index:
        ctx = with_index(ctx, index, UV_HTTP_RETRIES="0", UV_NO_CACHE="1")
        first = pin(resolve_plan("app"), root, AMD64, ctx)
        later = time.time() + 25 * 3600
        monkeypatch.setattr(time, "time", lambda: later)
        requested = len(index.requests)
        assert pin(resolve_plan("app"), root, AMD64, ctx) == first
        assert len(index.requests) > requested
        later += 25 * 3600
    assert pin(resolve_plan("app"), root, AMD64, ctx) == first
    assert any(line.startswith("warning: the package index does not answer") for line in lines)
    with pytest.raises(TransientError):
        pin(resolve_plan("app<2"), root, AMD64, ctx)


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_sdist_with_static_metadata(ending: str, ctx: Context, index: FakeIndex, root: Path, tmp_path: Path) -> None:
    """A dependency without a wheel is pinned as an sdist with its dependencies, and its code is not executed."""
    mark = tmp_path / "ran"
    index.add("app", make_wheel("app", "1.0", requires=["gamma>=1"]))
    sdist = make_sdist("gamma", "1.0", requires=["delta"], setup=EVIL.format(mark=str(mark)))
    index.add("gamma", as_zip(sdist) if ending == ".zip" else sdist)
    index.add("delta", make_wheel("delta", "3.0"))
    pins = pin(resolve_plan("app"), root, HOST, with_index(ctx, index))
    assert names(pins) == ["app-1.0-py3-none-any.whl", "delta-3.0-py3-none-any.whl", f"gamma-1.0{ending}"]
    assert not mark.exists()


def test_sdist_with_dynamic_metadata(ctx: Context, index: FakeIndex, root: Path, tmp_path: Path) -> None:
    """The caller's isolated build returns the metadata. Without it the error names a remedy."""
    mark = tmp_path / "ran"
    index.add("gamma", make_sdist("gamma", "1.0", dynamic=True, setup=EVIL.format(mark=str(mark))))
    index.add("delta", make_wheel("delta", "3.0"))
    ctx = with_index(ctx, index)
    with pytest.raises(WheelError, match=r"gamma 1\.0 has no wheel.*lock the project"):
        pin(resolve_plan("gamma"), root, HOST, ctx)

    def metadata(requested: Pin, path: Path) -> bytes:
        assert (requested.name, path.is_file()) == ("gamma", True)
        return b"Metadata-Version: 2.4\nName: gamma\nVersion: 1.0\nRequires-Dist: delta\n"

    assert names(pin(resolve_plan("gamma"), root, HOST, ctx, metadata=metadata)) == [
        "delta-3.0-py3-none-any.whl", "gamma-1.0.tar.gz"
    ]
    assert not mark.exists()


def test_missing_wheel_names_both_remedies(ctx: Context, index: FakeIndex, root: Path) -> None:
    """For a foreign platform, or without an sdist. The error names the package and the target."""
    index.add("gamma", make_sdist("gamma", "1.0"))
    index.add("newer", make_wheel("newer", "1.0", tag="cp313-cp313-manylinux_2_99_x86_64"))
    index.add("older", make_wheel("older", "1.0", tag="cp312-cp312-manylinux_2_17_x86_64"))
    for name, target in (("gamma", FOREIGN), ("newer", HOST), ("older", HOST)):
        with pytest.raises(WheelError) as caught:
            pin(resolve_plan(name), root, target, with_index(ctx, index))
        text = str(caught.value)
        assert name in text
        assert str(target) in text
        assert "find-links" in text
        assert f"a {target.platform} machine" in text
        assert "\n" not in text


def test_no_solution(ctx: Context, index: FakeIndex, root: Path) -> None:
    """The error is uv's explanation in one line."""
    index.add("app", make_wheel("app", "1.0"))
    with pytest.raises(WheelError, match=r"cannot resolve .*you require app>=2") as caught:
        pin(resolve_plan("app>=2"), root, AMD64, with_index(ctx, index))
    assert "\n" not in str(caught.value)


def test_password_is_used_and_hidden(
    ctx: Context, index: FakeIndex, root: Path, lines: list[str]
) -> None:
    """The login in the URL, also from pip's variable, is not in pins, messages or the cache."""
    index.login = ("user", "pass-mark")
    index.add("app", make_wheel("app", "1.0"))
    environ = {**ctx.environ, "PIP_INDEX_URL": index.url_with_login}
    own_ctx = with_environ(ctx, environ)
    pins = pin(resolve_plan("app"), root, AMD64, own_ctx)
    fetch(pins, own_ctx, root=root)
    with pytest.raises(HatchDockerError) as caught:
        pin(resolve_plan("app>=7"), root, AMD64, own_ctx)
    assert "pass-mark" not in "\n".join([*lines, repr(pins), str(caught.value)])
    assert not [path for path in ctx.store.root.rglob("*") if path.is_file() and b"pass-mark" in path.read_bytes()]


def test_wrong_password_is_a_permanent_error(ctx: Context, index: FakeIndex, root: Path) -> None:
    index.login = ("user", "right")
    index.add("app", make_wheel("app", "1.0"))
    bad = index.url.replace("//", "//user:pass-mark@")
    with pytest.raises(RegistryError, match="401") as caught:
        pin(resolve_plan("app"), root, AMD64, with_index(ctx, index, UV_DEFAULT_INDEX=bad))
    assert "pass-mark" not in str(caught.value)


@pytest.mark.parametrize(("status", "temporary"), [(410, False), (429, True), (503, True)])
def test_http_status_decides_exit_status(
    ctx: Context, index: FakeIndex, root: Path, status: int, temporary: bool
) -> None:
    """429 and 5xx are temporary failures (exit status 75); other 4xx are permanent."""
    index.faults.append(["/app", status, 100])
    with pytest.raises(RegistryError, match=str(status)) as caught:
        pin(resolve_plan("app"), root, AMD64, with_index(ctx, index, UV_HTTP_RETRIES="0"))
    assert isinstance(caught.value, TransientError) == temporary


def test_untrusted_certificate_is_a_permanent_error(ctx: Context, root: Path) -> None:
    """The error names a remedy."""
    authority = trustme.CA()
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(secure)
    with FakeIndex().add("app", make_wheel("app", "1.0")).serving(secure) as index, pytest.raises(
        RegistryError, match="private CA set HATCH_DOCKER_CA_BUNDLE"
    ) as caught:
        url = index.url.replace("http:", "https:")
        pin(resolve_plan("app"), root, AMD64, with_index(ctx, index, UV_DEFAULT_INDEX=url, UV_HTTP_RETRIES="0"))
    assert not isinstance(caught.value, TransientError)


BACKEND = """
open({mark!r}, "w").close()
def build_wheel(directory, settings=None, metadata=None):
    raise SystemExit(1)
"""


@pytest.mark.parametrize("address", ["URL/evil", "file:///nowhere/evil", "hg+https://x.example/evil"])
def test_address_without_wheel_or_sdist_is_rejected(
    ctx: Context, index: FakeIndex, root: Path, address: str
) -> None:
    """An sdist may require such an address; uv would download and build it on this machine."""
    line = f"evil @ {address.replace('URL', index.url)}"
    with pytest.raises(WheelError, match=r"evil is at .*, which is no wheel, no sdist and no git repository"):
        pin(resolve_plan(line), root, AMD64, with_index(ctx, index))


def test_text_of_a_package_in_uvs_output_is_not_trusted() -> None:
    """uv quotes invalid lines of a pyproject.toml. Only uv's own message names packages without a wheel."""
    output = "error: Failed to build `x @ https://e/x.tar.gz`\n  cause: 2 | name = Wheels are required for `evil`"
    assert not isinstance(_error_for(output, AMD64), MissingWheelError)
    error = _error_for("  \u00d7 No solution found when resolving dependencies:\n  evil has no usable wheels", AMD64)
    assert isinstance(error, MissingWheelError)
    assert error.names == ("evil",)


def test_build_that_uv_starts_fails(ctx: Context, index: FakeIndex, root: Path, tmp_path: Path) -> None:
    """Its Python finds no standard library."""
    mark, source = tmp_path / "mark", tmp_path / "evil"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (source / "backend.py").write_text(BACKEND.format(mark=str(mark)))
    (root / "constraints.txt").write_text(f"evil @ {source.as_uri()}\n")
    index.add("evil", make_wheel("evil", "1.0"))
    here = with_index(ctx, index, UV_CONSTRAINT=str(root / "constraints.txt"))
    with pytest.raises(WheelError, match="cannot resolve the dependencies"):
        compile_lock(["evil"], AMD64, root, read_indexes(root, here.environ), here, metadata={"evil": {}})
    assert not mark.exists()


def test_proxy_authentication_error_is_permanent(ctx: Context, root: Path) -> None:
    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_error(407)

        def log_message(self, *_arguments: object) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Proxy)) as server:
        environ = {
            **ctx.environ, "UV_DEFAULT_INDEX": "https://index.invalid/simple", "UV_HTTP_RETRIES": "0",
            "HTTPS_PROXY": f"http://127.0.0.1:{server.server_port}",
        }
        own_ctx = with_environ(ctx, environ)
        with pytest.raises(RegistryError, match=r"refuses uv.*proxy") as caught:
            pin(resolve_plan("app"), root, AMD64, own_ctx)
    assert not isinstance(caught.value, TransientError)


def test_missing_find_links_of_pip_give_warning(ctx: Context, index: FakeIndex, root: Path, lines: list[str]) -> None:
    """Once, as in pip; uv would fail."""
    index.add("app", make_wheel("app", "1.0"))
    own_ctx = with_environ(ctx, {
        **ctx.environ, "PIP_INDEX_URL": index.url, "PIP_FIND_LINKS": f"absent file://{root}/none",
    })  # fmt: skip
    for name in ("app", "app>=1"):
        assert [found.name for found in pin(resolve_plan(name), root, AMD64, own_ctx)] == ["app"]
    assert [line for line in lines if "find-links" in line] == [
        f"warning: find-links {link} does not exist and is ignored: make the directory, or correct the configuration"
        for link in (f"{root}/absent", f"file://{root}/none")
    ]


def test_html_index_and_find_links(ctx: Context, index: FakeIndex, root: Path, tmp_path: Path) -> None:
    """A PEP 503 page without sizes, and a directory of wheels in addition."""
    index.html = True
    index.add("app", make_wheel("app", "1.0", requires=["local"]))
    file, data = make_wheel("local", "1.0")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / file).write_bytes(data)
    pins = pin(resolve_plan("app"), root, AMD64, with_index(ctx, index, UV_FIND_LINKS=str(tmp_path / "links")))
    assert [found.name for found in pins] == ["app", "local"]
    assert [path.read_bytes() for path in fetch(pins, with_index(ctx, index), root=root)][1] == data
