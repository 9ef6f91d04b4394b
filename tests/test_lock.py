"""Locks and resolutions against a package index on loopback: for the target, complete, without running code."""

from __future__ import annotations

import hashlib
import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from hatch_docker.context import Context
from hatch_docker.errors import HatchDockerError, RegistryError, TransientError, WheelError
from hatch_docker.oci.model import Platform
from hatch_docker.plan import LockPlan
from hatch_docker.progress import Progress
from hatch_docker.retry import Policy
from hatch_docker.store import open_store
from hatch_docker.transport import Client
from hatch_docker.wheels import Pin, Target
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.lock import pin
from hatch_docker.wheels.pylock import builds_here, misfit
from hatch_docker.wheels.uv import find_uv, platform_name
from tests.fakes.index import UPLOADED_SECONDS, FakeIndex, make_sdist, make_wheel

AMD64 = Target("3.13.5", Platform("linux", "amd64"), ("glibc", "2.41"))
ARM64 = Target("3.13.5", Platform("linux", "arm64"), ("glibc", "2.41"))
OLD = Target("3.11.2", Platform("linux", "amd64"), ("glibc", "2.36"))
HOST = AMD64 if builds_here(AMD64) else ARM64
FOREIGN = ARM64 if HOST is AMD64 else AMD64
EVIL = "import pathlib; pathlib.Path({mark!r}).touch(); import setuptools; setuptools.setup(name='gamma')"


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def ctx(tmp_path: Path, lines: list[str]) -> Context:
    """A context with its own home, cache and uv cache; what is said is kept at the highest verbosity."""
    home = tmp_path / "home"
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CONFIG_DIRS": str(home),
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"), "PIP_CONFIG_FILE": "/dev/null",
    }
    progress = Progress(lines.append, 2)
    client = Client(environ, progress, Policy(sleep=lambda _seconds: None))
    return Context(open_store(tmp_path / "store"), progress, lambda: client, environ)


@pytest.fixture
def index() -> Iterator[FakeIndex]:
    with FakeIndex().serving() as serving:
        yield serving


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def using(ctx: Context, index: FakeIndex, **variables: str) -> Context:
    environ = {**ctx.environ, "UV_DEFAULT_INDEX": index.url, **variables}
    return Context(ctx.store, ctx.progress, lambda: Client(environ, ctx.progress, ctx.client.policy), environ)


def resolving(*requirements: str) -> LockPlan:
    return LockPlan("resolve", requirements=requirements)


def names(pins: tuple[Pin, ...]) -> list[str]:
    return [one.filename for one in pins]


# --- resolve


def test_resolution_is_for_the_target(ctx: Context, index: FakeIndex, root: Path) -> None:
    """K3: markers and tags are the target's, never the host's; the answer has size, hash and upload time."""
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
    """After a day the index is asked again; where it does not answer, what is remembered is used with a warning."""
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


def test_sdist_with_static_metadata(ctx: Context, index: FakeIndex, root: Path, tmp_path: Path) -> None:
    """A dependency without a wheel is pinned as its sdist with what it needs, and its code does not run."""
    mark = tmp_path / "ran"
    index.add("app", make_wheel("app", "1.0", requires=["gamma>=1"]))
    index.add("gamma", make_sdist("gamma", "1.0", requires=["delta"], setup=EVIL.format(mark=str(mark))))
    index.add("delta", make_wheel("delta", "3.0"))
    pins = pin(resolving("app"), root, HOST, using(ctx, index))
    assert names(pins) == ["app-1.0-py3-none-any.whl", "delta-3.0-py3-none-any.whl", "gamma-1.0.tar.gz"]
    assert not mark.exists()


def test_sdist_with_dynamic_metadata(ctx: Context, index: FakeIndex, root: Path, tmp_path: Path) -> None:
    """Where only a build knows, the caller's isolated build is asked; without one the error says what to do."""
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
    """K4: for a foreign platform, or without an sdist, the error names package, target and both ways out."""
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
    """K5: the login of the index's URL works, by pip's variable too, and is in no pin, no message, no cache."""
    index.login = ("user", "pass-mark")
    index.add("app", make_wheel("app", "1.0"))
    environ = {**ctx.environ, "PIP_INDEX_URL": index.url_with_login}
    mine = Context(ctx.store, ctx.progress, lambda: Client(environ, ctx.progress), environ)
    pins = pin(resolving("app"), root, AMD64, mine)
    fetch(pins, mine, root=root)
    with pytest.raises(HatchDockerError) as caught:
        pin(resolving("app>=7"), root, AMD64, mine)
    assert "pass-mark" not in "\n".join([*lines, repr(pins), str(caught.value)])
    assert not [path for path in ctx.store.root.rglob("*") if path.is_file() and b"pass-mark" in path.read_bytes()]


def test_wrong_password(ctx: Context, index: FakeIndex, root: Path) -> None:
    """A refusing index is an error that may not pass by waiting."""
    index.login = ("user", "right")
    index.add("app", make_wheel("app", "1.0"))
    bad = index.url.replace("//", "//user:pass-mark@")
    with pytest.raises(RegistryError, match="401") as caught:
        pin(resolving("app"), root, AMD64, using(ctx, index, UV_DEFAULT_INDEX=bad))
    assert "pass-mark" not in str(caught.value)


@pytest.mark.parametrize(("status", "passing"), [(410, False), (429, True), (503, True)])
def test_a_refusal_is_final_and_an_overload_passes(
    ctx: Context, index: FakeIndex, root: Path, status: int, passing: bool
) -> None:
    """As with every other server: exit status 75 is for what a later try may mend."""
    index.faults.append(["/app", status, 100])
    with pytest.raises(RegistryError, match=str(status)) as caught:
        pin(resolving("app"), root, AMD64, using(ctx, index, UV_HTTP_RETRIES="0"))
    assert isinstance(caught.value, TransientError) == passing


def test_a_certificate_that_nobody_knows_does_not_pass(ctx: Context, root: Path) -> None:
    """To wait does not help: the error says what does."""
    authority = trustme.CA()
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(secure)
    with FakeIndex().add("app", make_wheel("app", "1.0")).serving(secure) as index, pytest.raises(
        RegistryError, match="private CA set HATCH_DOCKER_CA_BUNDLE"
    ) as caught:
        url = index.url.replace("http:", "https:")
        pin(resolving("app"), root, AMD64, using(ctx, index, UV_DEFAULT_INDEX=url, UV_HTTP_RETRIES="0"))
    assert not isinstance(caught.value, TransientError)


def test_html_index_and_find_links(ctx: Context, index: FakeIndex, root: Path, tmp_path: Path) -> None:
    """A PEP 503 page without sizes, and a directory of wheels beside it, serve as well."""
    index.html = True
    index.add("app", make_wheel("app", "1.0", requires=["local"]))
    file, data = make_wheel("local", "1.0")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / file).write_bytes(data)
    pins = pin(resolving("app"), root, AMD64, using(ctx, index, UV_FIND_LINKS=str(tmp_path / "links")))
    assert [one.name for one in pins] == ["app", "local"]
    assert [path.read_bytes() for path in fetch(pins, using(ctx, index), root=root)][1] == data


# --- requirements with hashes


def requirements(root: Path, text: str, *asked: str) -> LockPlan:
    (root / "requirements.txt").write_text(text)
    return LockPlan("requirements", "requirements.txt", asked)


def test_hashes_choose_the_file(ctx: Context, index: FakeIndex, root: Path, lines: list[str]) -> None:
    """Includes, markers, comments and continuations are read; a file whose hash is not listed is not taken."""
    plain, better = make_wheel("app", "1.0"), make_wheel("app", "1.0", tag="cp313-cp313-manylinux_2_17_x86_64")
    index.add("app", plain, better).add("dep", make_wheel("dep", "2.0"))
    (root / "more.txt").write_text(f"dep==2.0 \\\n    --hash=sha256:{index.sha256('dep-2.0-py3-none-any.whl')}\n")
    lock = requirements(root, (
        "--index-url https://other.example/simple\n# a comment\n-r more.txt\n"
        f"app==1.0 ; python_version > '3' --hash=sha256:{index.sha256(plain[0])}  # why\n"
        f"gone==1 ; sys_platform == 'win32' --hash=sha256:{'0' * 64}\n-e .\n"
    ), "app", "dep>=2")
    pins = pin(lock, root, AMD64, using(ctx, index))
    assert names(pins) == ["app-1.0-py3-none-any.whl", "dep-2.0-py3-none-any.whl"]
    assert any("requirements.txt:1: --index-url" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("app==1.0\n", r"requirements.txt:1: app has no --hash"),
        (f"app==1.0 --hash=sha512:{'0' * 128}\n", "no --hash=sha256"),
        (f"app>=1.0 --hash=sha256:{'0' * 64}\n", "not pinned"),
        (f"app==1.0 --hash=sha256:{'0' * 64}\n", "no file of app 1.0 on the index has one of its hashes"),
        ("-e ../other\n", "is a directory"),
        ("--strange\n", "--strange"),
        ("-r requirements.txt\n", "includes itself"),
        ("-r missing.txt\n", "missing.txt"),
        ("app==\n", "requirements.txt:1"),
    ],
)
def test_bad_requirements(ctx: Context, index: FakeIndex, root: Path, text: str, message: str) -> None:
    """K2: no hash, another hash, no pin: refused with file and line."""
    index.add("app", make_wheel("app", "1.0"))
    with pytest.raises(WheelError, match=message):
        pin(requirements(root, text), root, AMD64, using(ctx, index))


def test_pinned_sdist(ctx: Context, index: FakeIndex, root: Path, tmp_path: Path) -> None:
    """An sdist pinned by hash is taken without a look into it."""
    mark = tmp_path / "ran"
    sdist = make_sdist("gamma", "1.0", dynamic=True, setup=EVIL.format(mark=str(mark)))
    index.add("gamma", sdist)
    lock = requirements(root, f"gamma==1.0 --hash=sha256:{index.sha256(sdist[0])}\n", "gamma")
    assert names(pin(lock, root, HOST, using(ctx, index))) == ["gamma-1.0.tar.gz"]
    assert not mark.exists()
    with pytest.raises(WheelError, match=f"gamma 1.0 has no wheel for {FOREIGN}"):
        pin(lock, root, FOREIGN, using(ctx, index))


def test_direct_url(ctx: Context, root: Path) -> None:
    """A requirement with a URL and one hash needs no index; its password is not kept."""
    lock = requirements(root, f"app @ https://u:p@files.example/app-1.0-py3-none-any.whl --hash=sha256:{'a' * 64}\n")
    assert pin(lock, root, AMD64, ctx)[0].url == "https://files.example/app-1.0-py3-none-any.whl"


# --- pylock.toml


def pylock(root: Path, packages: str, *asked: str, extra: str = "", **chosen: tuple[str, ...]) -> LockPlan:
    (root / "pylock.toml").write_text(f'lock-version = "1.0"\ncreated-by = "test"\n{extra}\n{packages}')
    return LockPlan("pylock", "pylock.toml", asked, **chosen)


def package(name: str, *files: str, marker: str = "", version: str = "1.0", sdist: bool = False) -> str:
    wheels = ", ".join(
        f'{{name = "{file}", url = "https://u:pw@files.example/{file}#x", hashes = {{sha256 = "{"a" * 64}"}}, '
        "upload-time = 2024-01-02T03:04:05Z, size = 7}" for file in files
    )
    text = f'[[packages]]\nname = "{name}"\nversion = "{version}"\n'
    text += f'marker = "{marker}"\n' if marker else ""
    text += f"wheels = [{wheels}]\n" if files else ""
    file = f"{name}-{version}.tar.gz"
    source = f'sdist = {{name = "{file}", path = "./{file}", hashes = {{sha256 = "{"b" * 64}"}}}}\n'
    return text + (source if sdist else "")


def test_pylock(ctx: Context, root: Path) -> None:
    """The best wheel for the target, extras and groups, the project itself left out, no password in the pin."""
    lock = pylock(root, "".join([
        package("app", "app-1.0-py3-none-any.whl", "app-1.0-cp313-cp313-manylinux_2_41_x86_64.whl"),
        package("opt", "opt-1.0-py3-none-any.whl", marker="'web' in extras"),
        package("dev", "dev-1.0-py3-none-any.whl", marker="'dev' in dependency_groups"),
        package("not", "not-1.0-py3-none-any.whl", marker="'no' in extras or platform_machine == 'aarch64'"),
        '[[packages]]\nname = "project"\ndirectory = {path = "."}\n',
    ]), "app>=1", extra='extras = ["web", "no"]\ndependency-groups = ["dev"]', extras=("web",), groups=("dev",))
    pins = pin(lock, root, AMD64, ctx)
    assert [one.name for one in pins] == ["app", "dev", "opt"]
    assert pins[0] == Pin(
        "app", "1.0", "app-1.0-cp313-cp313-manylinux_2_41_x86_64.whl",
        "https://files.example/app-1.0-cp313-cp313-manylinux_2_41_x86_64.whl", "a" * 64, 7, 1704164645,
    )
    assert pin(lock, root, AMD64, ctx) == pins, "the same from the cache"


def test_a_pylock_of_chosen_extras(ctx: Context, root: Path) -> None:
    """One that declares no extras was exported with some; one that declares others than the image's was not of them."""
    text = package("app", "app-1.0-py3-none-any.whl")
    assert pin(pylock(root, text, extras=("web",), groups=("dev",)), root, AMD64, ctx)[0].name == "app"
    lock = pylock(root, text, extra='extras = ["cli", "no"]', extras=("Web",))
    with pytest.raises(WheelError, match=r"pylock\.toml has no extra web, only cli, no; lock the project again"):
        pin(lock, root, AMD64, ctx)
    lock = pylock(root, text, extra='dependency-groups = ["lint"]', groups=("dev",))
    with pytest.raises(WheelError, match=r"has no dependency group dev, only lint"):
        pin(lock, root, AMD64, ctx)


def test_relative_files_move_with_the_project(ctx: Context, root: Path, tmp_path: Path) -> None:
    """A path in a lock is relative to it, in a cache shared by two checkouts too."""
    lock = pylock(root, package("gamma", sdist=True))
    other = tmp_path / "checkout"
    other.mkdir()
    (other / "pylock.toml").write_bytes((root / "pylock.toml").read_bytes())
    for directory in (root, other):
        assert pin(lock, directory, HOST, ctx)[0].url == (directory / "gamma-1.0.tar.gz").as_uri()


@pytest.mark.parametrize(
    ("packages", "target", "message"),
    [
        (package("app", "app-1.0-cp312-cp312-manylinux_2_17_x86_64.whl"), AMD64, "for cp312-cp312"),
        (package("app", "app-1.0-cp313-cp313-manylinux_2_17_aarch64.whl"), AMD64, "for manylinux_2_17_aarch64"),
        (package("app", "app-1.0-cp313-cp313-manylinux_2_42_x86_64.whl"), AMD64, r"for glibc 2\.42 or newer"),
        (package("app", "app-1.0-cp313-cp313-musllinux_1_2_x86_64.whl"), AMD64, "for musllinux"),
        (package("app", sdist=True), FOREIGN, "has no wheel for"),
        ('[[packages]]\nname = "app"\ndirectory = {path = "../app"}\n', AMD64, "app is the directory ../app"),
        ('[[packages]]\nname = "app"\nvcs = {type = "git", url = "x", commit-id = "1"}\n', AMD64, "git repository"),
        (package("app", "app-1.0-py3-none-any.whl").replace("sha256", "sha512"), AMD64, "no sha256"),
        (package("app", "app-1.0-py3-none-any./../x.whl"), AMD64, "is not the name of a file|not a valid lock"),
        ('[[packages]]\nname = "App"\n', AMD64, "not a valid lock"),
        (package("other", "other-1.0-py3-none-any.whl"), AMD64, "stale: .*'app>=1'.*does not have app"),
        (package("app", "app-0.9-py3-none-any.whl", version="0.9"), AMD64, "stale: .*has app 0.9"),
        ("[[", AMD64, "not valid TOML"),
    ],
)
def test_bad_pylock(ctx: Context, root: Path, packages: str, target: Target, message: str) -> None:
    """D6 and K2: what does not fit, has no hash or is stale is refused before anything is fetched, both sides named."""
    with pytest.raises(WheelError, match=message) as caught:
        pin(pylock(root, packages, "app>=1"), root, target, ctx)
    assert "\n" not in str(caught.value)


def test_lock_for_another_python(ctx: Context, root: Path) -> None:
    """A lock made for newer Pythons names both."""
    lock = pylock(root, package("app", "app-1.0-py3-none-any.whl"), extra='requires-python = ">=3.12"')
    with pytest.raises(WheelError, match=r"does not serve Python 3\.11 .*3\.11\.2.*>=3\.12"):
        pin(lock, root, OLD, ctx)


# --- uv.lock

UV_LOCK = """
version = 1
revision = 3
requires-python = ">=3.11"
[[package]]
name = "app"
version = "1.0"
source = { registry = "https://i.example/simple" }
dependencies = [{ name = "dep", version = "1.0", source = { registry = "https://i.example/simple" }, \
marker = "python_full_version < '3.12'" }, { name = "dep", version = "2.0", source = { registry = \
"https://i.example/simple" }, marker = "python_full_version >= '3.12'" }]
wheels = [{ url = "https://f.example/app-1.0-py3-none-any.whl", hash = "sha256:HASH", size = 5, \
upload-time = "2024-01-02T03:04:05.5Z" }]
[package.optional-dependencies]
fast = [{ name = "quick", marker = "sys_platform == 'linux'" }]
[[package]]
name = "dep"
version = "1.0"
source = { registry = "https://i.example/simple" }
wheels = [{ url = "https://f.example/dep-1.0-py3-none-any.whl", hash = "sha256:HASH" }]
[[package]]
name = "dep"
version = "2.0"
source = { registry = "https://i.example/simple" }
wheels = [{ url = "https://f.example/dep-2.0-py3-none-any.whl", hash = "sha256:HASH" }]
[[package]]
name = "quick"
version = "1.0"
source = { registry = "https://i.example/simple" }
dependencies = [{ name = "app" }]
sdist = { url = "https://f.example/quick-1.0.tar.gz", hash = "sha256:HASH" }
wheels = [{ url = "https://f.example/quick-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", hash = "sha256:HASH" }]
[[package]]
name = "tool"
version = "1.0"
source = { url = "https://f.example/tool-1.0-py3-none-any.whl" }
wheels = [{ url = "https://f.example/tool-1.0-py3-none-any.whl", hash = "sha256:HASH" }]
[[package]]
name = "member"
version = "1"
source = { editable = "packages/member" }
[[package]]
name = "project"
version = "1.0"
source = { editable = "." }
dependencies = [{ name = "app", marker = "extra != 'extra-7-project-no'" }]
[package.optional-dependencies]
web = [{ name = "app", extra = ["fast"] }]
inner = [{ name = "member" }]
no = []
[package.dev-dependencies]
dev = [{ name = "tool" }]
""".replace("HASH", "a" * 64)


def uvlock(root: Path, *asked: str, text: str = UV_LOCK, **chosen: tuple[str, ...]) -> LockPlan:
    (root / "uv.lock").write_text(text)
    return LockPlan("uv", "uv.lock", asked, **chosen)


@pytest.mark.parametrize(
    ("target", "chosen", "expected"),
    [
        (AMD64, {}, ["app 1.0", "dep 2.0"]),
        (OLD, {}, ["app 1.0", "dep 1.0"]),
        (OLD, {"extras": ("web",)}, ["app 1.0", "dep 1.0", "quick 1.0"]),
        (AMD64, {"groups": ("dev",)}, ["app 1.0", "dep 2.0", "tool 1.0"]),
        (AMD64, {"extras": ("no",)}, []),
    ],
)
def test_uv_lock(
    ctx: Context, root: Path, target: Target, chosen: dict[str, tuple[str, ...]], expected: list[str]
) -> None:
    """Forks, extras of extras, groups, direct URLs and uv's conflict markers, read without uv."""
    pins = pin(uvlock(root, **chosen), root, target, ctx)
    assert [f"{one.name} {one.version}" for one in pins] == expected
    assert all(one.upload_time == 1704164645 and one.size == 5 for one in pins if one.name == "app")


@pytest.mark.parametrize(
    ("lock", "target", "message"),
    [
        ({"asked": ("app>=2",)}, AMD64, r"uv\.lock is stale: .*'app>=2'.*has app 1\.0; run `uv lock`"),
        ({"asked": ("app", "new")}, AMD64, "does not have new"),
        ({"asked": ("quick",), "extras": ("web",)}, OLD, "still has app"),
        ({"extras": ("nope",)}, AMD64, "does not know the extra 'nope'"),
        ({"groups": ("nope",)}, AMD64, "does not know the dependency group 'nope'"),
        ({"extras": ("inner",)}, AMD64, "member is the directory packages/member"),
        ({"extras": ("web",)}, FOREIGN, "quick 1.0 has no wheel for"),
        ({"text": UV_LOCK.replace('editable = "."', 'editable = "elsewhere"')}, AMD64, "does not know the project"),
        ({"text": UV_LOCK.replace("version = 1\n", "version = 9\n", 1)}, AMD64, "version 9"),
    ],
)
def test_bad_uv_lock(ctx: Context, root: Path, lock: dict[str, object], target: Target, message: str) -> None:
    """A stale lock, an unknown extra, a workspace member, a foreign sdist: one line that says what to do."""
    asked = lock.pop("asked", ())
    with pytest.raises(WheelError, match=message) as caught:
        pin(uvlock(root, *asked, **lock), root, target, ctx)  # type: ignore[misc, arg-type]
    assert "\n" not in str(caught.value)


# --- uv, targets


def test_uv_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HATCH_UV, UV, PATH, the uv package, in this order; without any the error says how to get it."""
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


def test_names_of_platforms() -> None:
    """uv's name for a target is at most the target's C library."""
    assert platform_name(AMD64) == "x86_64-manylinux_2_40"
    assert platform_name(Target("3.12.0", Platform("linux", "arm64"), ("glibc", "2.30"))) == "aarch64-manylinux_2_28"
    assert platform_name(Target("3.12.0", Platform("linux", "amd64"), ("musl", "1.2"))) == "x86_64-unknown-linux-musl"
    with pytest.raises(WheelError, match="linux/s390x"):
        platform_name(Target("3.12.0", Platform("linux", "s390x"), ("glibc", "2.41")))


@pytest.mark.parametrize(
    ("file", "target", "reason"),
    [
        ("a-1-py3-none-any.whl", AMD64, ""),
        ("a-1-cp39-abi3-manylinux2014_x86_64.whl", AMD64, ""),
        ("a-1-cp313-cp313-linux_x86_64.whl", AMD64, ""),
        ("a-1-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", OLD, "for cp313-cp313"),
        ("a-1-cp311-cp311-manylinux_2_39_x86_64.manylinux_2_38_x86_64.whl", OLD, "for glibc 2.38 or newer"),
        ("a-1-cp313-cp313-win_amd64.whl", AMD64, "for win_amd64"),
        ("a-1-cp313-cp313t-manylinux_2_17_x86_64.whl", AMD64, "for cp313-cp313t"),
        ("a.whl", AMD64, "no wheel's name"),
    ],
)
def test_misfit(file: str, target: Target, reason: str) -> None:
    """D6: the side of the wheel, in the words of the error."""
    assert misfit(file, target).startswith(reason)
    assert bool(misfit(file, target)) == bool(reason)
