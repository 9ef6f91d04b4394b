"""Resolutions against a package index on loopback: for the target, complete, without running code."""

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
from tests.fakes.lock_files import AMD64, ARM64, FOREIGN, HOST, OLD, names, resolving, using
from tests.fakes.package_index import EVIL, UPLOADED_SECONDS, FakeIndex, as_zip, make_sdist, make_wheel


def test_resolution_is_for_the_target(ctx: Context, index: FakeIndex, root: Path) -> None:
    """Markers and tags are the target's, never the host's; the answer has size, hash and upload time."""
    index.add("app", make_wheel("app", "1.0", requires=[
        "arm; platform_machine == 'aarch64'", "intel; platform_machine == 'x86_64'", "old; python_version < '3.12'",
        "win; sys_platform == 'win32'",
    ]))
    for name in ("arm", "intel", "old", "win"):
        index.add(name, make_wheel(name, "1.0"))
    index.add("intel", make_wheel("intel", "2.0", tag="cp313-cp313-manylinux_2_28_x86_64"))
    ctx = using(ctx, index)
    assert names(pin(resolving("app"), root, ARM64, ctx)) == ["app-1.0-py3-none-any.whl", "arm-1.0-py3-none-any.whl"]
    pins = pin(resolving("app"), root, AMD64, ctx)
    assert names(pins) == ["app-1.0-py3-none-any.whl", "intel-2.0-cp313-cp313-manylinux_2_28_x86_64.whl"]
    assert names(pin(resolving("app"), root, OLD, ctx)) == [
        "app-1.0-py3-none-any.whl", "intel-1.0-py3-none-any.whl", "old-1.0-py3-none-any.whl"
    ]
    data = index.files["app"][pins[0].filename]
    assert (pins[0].sha256, pins[0].size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert pins[0].upload_time == UPLOADED_SECONDS


def test_resolution_for_a_free_threaded_python(ctx: Context, index: FakeIndex, root: Path) -> None:
    """uv knows no such target: the files of the versions that it takes are chosen by the target's own tags."""
    for tag in ("cp313-cp313-manylinux_2_28_x86_64", "cp313-cp313t-manylinux_2_28_x86_64"):
        index.add("fast", make_wheel("fast", "1.0", requires=["pure"], tag=tag))
    index.add("pure", make_wheel("pure", "1.0"))
    ctx, target = using(ctx, index), replace(AMD64, abi="t")
    assert names(pin(resolving("fast"), root, target, ctx)) == [
        "fast-1.0-cp313-cp313t-manylinux_2_28_x86_64.whl", "pure-1.0-py3-none-any.whl"
    ]
    index.add("fast", make_wheel("fast", "2.0", tag="cp313-cp313-manylinux_2_28_x86_64"))
    with pytest.raises(WheelError, match=r"fast 2\.0 has no wheel for Python 3\.13t on .*only ones for cp313-cp313"):
        pin(resolving("fast==2.0"), root, target, ctx)


@pytest.mark.parametrize("beside", ["", "links"])
@pytest.mark.parametrize("html", [False, True])
def test_a_page_names_no_file_of_this_machine(
    html: bool, beside: str, ctx: Context, index: FakeIndex, root: Path, tmp_path: Path
) -> None:
    """An index may know a file's hash, and the file would get into an image; an address of the project's own may.

    The user's own directory of wheels `beside` the index changes nothing, and may have it.
    """
    name, data = make_wheel("app", "1.0")
    index.add("app", (name, data)).html, index.place = html, tmp_path.as_uri()
    file = tmp_path / "files/app" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    (tmp_path / "links").mkdir()
    ctx = using(ctx, index, **({"UV_FIND_LINKS": str(tmp_path / beside)} if beside else {}))
    with pytest.raises(WheelError, match=rf"the package index has {name} at file:///.*, on this machine: refused"):
        pin(resolving("app"), root, AMD64, ctx)
    assert pin(resolving(f"app @ {file.as_uri()}"), root, AMD64, ctx)[0].url == file.as_uri()
    file.rename(own := tmp_path / "links" / name)
    if beside:
        assert pin(resolving("app"), root, AMD64, ctx)[0].url == own.as_uri()


@pytest.mark.parametrize("part", ["/simple/", "/files/"])
def test_a_redirect_to_a_file_is_refused_for_good(part: str, ctx: Context, index: FakeIndex, root: Path) -> None:
    """Another try gives the same answer: exit status 1."""
    index.add("app", make_wheel("app", "1.0", requires=["dep"]))
    index.faults.append([part, "file:///etc/passwd", 99])
    with pytest.raises(RegistryError) as caught:
        pin(resolving("app"), root, AMD64, using(ctx, index))
    assert not isinstance(caught.value, TransientError)
    assert "\n" not in str(caught.value)


def test_resolution_is_remembered(ctx: Context, index: FakeIndex, root: Path, lines: list[str]) -> None:
    """Unchanged requirements cost no traffic for a day; HATCH_DOCKER_REFRESH asks again."""
    index.add("app", make_wheel("app", "1.0"))
    ctx = using(ctx, index)
    first = pin(resolving("app"), root, AMD64, ctx)
    asked = len(index.requests)
    index.add("app", make_wheel("app", "2.0"))
    assert pin(resolving("app"), root, AMD64, ctx) == first
    assert len(index.requests) == asked
    refreshed = pin(resolving("app"), root, AMD64, using(ctx, index, HATCH_DOCKER_REFRESH="1", UV_NO_CACHE="1"))
    assert refreshed[0].version == "2.0"


def test_old_resolution_serves_while_no_index_answers(
    ctx: Context, root: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a day the index is asked again; if it does not answer, the remembered resolution is used with a warning."""
    with FakeIndex().add("app", make_wheel("app", "1.0")).serving() as index:
        ctx = using(ctx, index, UV_HTTP_RETRIES="0", UV_NO_CACHE="1")
        first = pin(resolving("app"), root, AMD64, ctx)
        later = time.time() + 25 * 3600
        monkeypatch.setattr(time, "time", lambda: later)
        asked = len(index.requests)
        assert pin(resolving("app"), root, AMD64, ctx) == first
        assert len(index.requests) > asked
        later += 25 * 3600
    assert pin(resolving("app"), root, AMD64, ctx) == first
    assert any(line.startswith("warning: the package index does not answer") for line in lines)
    with pytest.raises(TransientError):
        pin(resolving("app<2"), root, AMD64, ctx)


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_sdist_with_static_metadata(ending: str, ctx: Context, index: FakeIndex, root: Path, tmp_path: Path) -> None:
    """A dependency without a wheel is pinned as its sdist with what it needs, and its code does not run."""
    mark = tmp_path / "ran"
    index.add("app", make_wheel("app", "1.0", requires=["gamma>=1"]))
    sdist = make_sdist("gamma", "1.0", requires=["delta"], setup=EVIL.format(mark=str(mark)))
    index.add("gamma", as_zip(sdist) if ending == ".zip" else sdist)
    index.add("delta", make_wheel("delta", "3.0"))
    pins = pin(resolving("app"), root, HOST, using(ctx, index))
    assert names(pins) == ["app-1.0-py3-none-any.whl", "delta-3.0-py3-none-any.whl", f"gamma-1.0{ending}"]
    assert not mark.exists()


def test_sdist_with_dynamic_metadata(ctx: Context, index: FakeIndex, root: Path, tmp_path: Path) -> None:
    """If only a build knows, the caller's isolated build is used; without one the error says what to do."""
    mark = tmp_path / "ran"
    index.add("gamma", make_sdist("gamma", "1.0", dynamic=True, setup=EVIL.format(mark=str(mark))))
    index.add("delta", make_wheel("delta", "3.0"))
    ctx = using(ctx, index)
    with pytest.raises(WheelError, match=r"gamma 1\.0 has no wheel.*lock the project"):
        pin(resolving("gamma"), root, HOST, ctx)

    def metadata(asked: Pin, path: Path) -> bytes:
        assert (asked.name, path.is_file()) == ("gamma", True)
        return b"Metadata-Version: 2.4\nName: gamma\nVersion: 1.0\nRequires-Dist: delta\n"

    assert names(pin(resolving("gamma"), root, HOST, ctx, metadata=metadata)) == [
        "delta-3.0-py3-none-any.whl", "gamma-1.0.tar.gz"
    ]
    assert not mark.exists()


def test_no_wheel_names_both_ways_out(ctx: Context, index: FakeIndex, root: Path) -> None:
    """For a foreign platform, or without an sdist, the error names package, target and both ways out."""
    index.add("gamma", make_sdist("gamma", "1.0"))
    index.add("newer", make_wheel("newer", "1.0", tag="cp313-cp313-manylinux_2_99_x86_64"))
    index.add("older", make_wheel("older", "1.0", tag="cp312-cp312-manylinux_2_17_x86_64"))
    for name, target in (("gamma", FOREIGN), ("newer", HOST), ("older", HOST)):
        with pytest.raises(WheelError) as caught:
            pin(resolving(name), root, target, using(ctx, index))
        text = str(caught.value)
        assert name in text
        assert str(target) in text
        assert "find-links" in text
        assert f"a {target.platform} machine" in text
        assert "\n" not in text


def test_no_solution(ctx: Context, index: FakeIndex, root: Path) -> None:
    """uv's explanation in one line."""
    index.add("app", make_wheel("app", "1.0"))
    with pytest.raises(WheelError, match=r"cannot resolve .*you require app>=2") as caught:
        pin(resolving("app>=2"), root, AMD64, using(ctx, index))
    assert "\n" not in str(caught.value)


def test_password_opens_the_index_and_stays_hidden(
    ctx: Context, index: FakeIndex, root: Path, lines: list[str]
) -> None:
    """The login of the index's URL works, by pip's variable too, and is in no pin, no message, no cache."""
    index.login = ("user", "pass-mark")
    index.add("app", make_wheel("app", "1.0"))
    environ = {**ctx.environ, "PIP_INDEX_URL": index.url_with_login}
    mine = with_environ(ctx, environ)
    pins = pin(resolving("app"), root, AMD64, mine)
    fetch(pins, mine, root=root)
    with pytest.raises(HatchDockerError) as caught:
        pin(resolving("app>=7"), root, AMD64, mine)
    assert "pass-mark" not in "\n".join([*lines, repr(pins), str(caught.value)])
    assert not [path for path in ctx.store.root.rglob("*") if path.is_file() and b"pass-mark" in path.read_bytes()]


def test_wrong_password(ctx: Context, index: FakeIndex, root: Path) -> None:
    """An index that refuses a login is a lasting error."""
    index.login = ("user", "right")
    index.add("app", make_wheel("app", "1.0"))
    bad = index.url.replace("//", "//user:pass-mark@")
    with pytest.raises(RegistryError, match="401") as caught:
        pin(resolving("app"), root, AMD64, using(ctx, index, UV_DEFAULT_INDEX=bad))
    assert "pass-mark" not in str(caught.value)


@pytest.mark.parametrize(("status", "passing"), [(410, False), (429, True), (503, True)])
def test_a_refusal_lasts_and_an_overload_passes(
    ctx: Context, index: FakeIndex, root: Path, status: int, passing: bool
) -> None:
    """As with every other server: exit status 75 is for errors that a later try may not have."""
    index.faults.append(["/app", status, 100])
    with pytest.raises(RegistryError, match=str(status)) as caught:
        pin(resolving("app"), root, AMD64, using(ctx, index, UV_HTTP_RETRIES="0"))
    assert isinstance(caught.value, TransientError) == passing


def test_an_unknown_certificate_is_a_lasting_error(ctx: Context, root: Path) -> None:
    """Waiting does not help: the error says what does."""
    authority = trustme.CA()
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(secure)
    with FakeIndex().add("app", make_wheel("app", "1.0")).serving(secure) as index, pytest.raises(
        RegistryError, match="private CA set HATCH_DOCKER_CA_BUNDLE"
    ) as caught:
        url = index.url.replace("http:", "https:")
        pin(resolving("app"), root, AMD64, using(ctx, index, UV_DEFAULT_INDEX=url, UV_HTTP_RETRIES="0"))
    assert not isinstance(caught.value, TransientError)


BACKEND = """
open({mark!r}, "w").close()
def build_wheel(directory, settings=None, metadata=None):
    raise SystemExit(1)
"""


@pytest.mark.parametrize("address", ["URL/evil", "file:///nowhere/evil", "hg+https://x.example/evil"])
def test_an_address_that_is_not_a_file_is_never_built_here(
    ctx: Context, index: FakeIndex, root: Path, address: str
) -> None:
    """An sdist may require such an address; uv would fetch it and build it on this machine."""
    line = f"evil @ {address.replace('URL', index.url)}"
    with pytest.raises(WheelError, match=r"evil is at .*, which is no wheel, no sdist and no git repository"):
        pin(resolving(line), root, AMD64, using(ctx, index))


def test_quoted_files_of_a_package_allow_nothing() -> None:
    """uv quotes a line of a pyproject.toml that it cannot read; only uv's own words name packages without a wheel."""
    said = "error: Failed to build `x @ https://e/x.tar.gz`\n  cause: 2 | name = Wheels are required for `evil`"
    assert not isinstance(_error_for(said, AMD64), MissingWheelError)
    mine = _error_for("  \u00d7 No solution found when resolving dependencies:\n  evil has no usable wheels", AMD64)
    assert isinstance(mine, MissingWheelError)
    assert mine.names == ("evil",)


def test_uv_runs_no_build_even_where_it_would(ctx: Context, index: FakeIndex, root: Path, tmp_path: Path) -> None:
    """A build that it starts for any reason finds no Python."""
    mark, source = tmp_path / "mark", tmp_path / "evil"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (source / "backend.py").write_text(BACKEND.format(mark=str(mark)))
    (root / "constraints.txt").write_text(f"evil @ {source.as_uri()}\n")
    index.add("evil", make_wheel("evil", "1.0"))
    here = using(ctx, index, UV_CONSTRAINT=str(root / "constraints.txt"))
    with pytest.raises(WheelError, match="cannot resolve the dependencies"):
        compile_lock(["evil"], AMD64, root, read_indexes(root, here.environ), here, metadata={"evil": {}})
    assert not mark.exists()


def test_a_proxy_that_wants_a_password_is_a_lasting_error(ctx: Context, root: Path) -> None:
    """It wants one the next time too."""

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
        mine = with_environ(ctx, environ)
        with pytest.raises(RegistryError, match=r"refuses uv.*proxy") as caught:
            pin(resolving("app"), root, AMD64, mine)
    assert not isinstance(caught.value, TransientError)


def test_a_directory_of_pips_that_is_not_there(ctx: Context, index: FakeIndex, root: Path, lines: list[str]) -> None:
    """A warning, said once, as pip has it; uv alone would fail."""
    index.add("app", make_wheel("app", "1.0"))
    mine = with_environ(ctx, {
        **ctx.environ, "PIP_INDEX_URL": index.url, "PIP_FIND_LINKS": f"absent file://{root}/none",
    })  # fmt: skip
    for name in ("app", "app>=1"):
        assert [found.name for found in pin(resolving(name), root, AMD64, mine)] == ["app"]
    assert [line for line in lines if "find-links" in line] == [
        f"warning: find-links {link} does not exist and is ignored: make the directory, or correct the configuration"
        for link in (f"{root}/absent", f"file://{root}/none")
    ]


def test_html_index_and_find_links(ctx: Context, index: FakeIndex, root: Path, tmp_path: Path) -> None:
    """A PEP 503 page without sizes, and a directory of wheels beside it, serve as well."""
    index.html = True
    index.add("app", make_wheel("app", "1.0", requires=["local"]))
    file, data = make_wheel("local", "1.0")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / file).write_bytes(data)
    pins = pin(resolving("app"), root, AMD64, using(ctx, index, UV_FIND_LINKS=str(tmp_path / "links")))
    assert [found.name for found in pins] == ["app", "local"]
    assert [path.read_bytes() for path in fetch(pins, using(ctx, index), root=root)][1] == data
