"""Passwords of indexes in the user's keyring: found like in uv, sent to their index only, and hidden."""

from pathlib import Path

import pytest

from hatch_docker.core.context import Context
from hatch_docker.core.errors import RegistryError
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import LockPlan
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.index import read_indexes
from hatch_docker.wheels.locks.pin import pin
from hatch_docker.wheels.locks.uv import find_uv
from hatch_docker.wheels.target import Target
from tests.conftest import script
from tests.fakes.captured_output import MARK
from tests.fakes.context import context
from tests.fakes.package_index import FakeIndex, make_wheel, pins_of

pytestmark = pytest.mark.usefixtures("check_no_secret_leaks")

AMD64 = Target("3.13.5", Platform("linux", "amd64"), ("glibc", "2.41"))
PASSWORD = f"{MARK}-of-the-ring/ü"


def keyring(directory: Path, answers: str) -> Path:
    """Write a program `keyring` that logs its arguments. `answers`: shell cases for its service and user."""
    text = f'echo "$@" >> {directory}/asked\ncase "$2 $3" in {answers} *) exit 1;; esac'
    return script(directory / "bin/keyring", text).parent


def keyring_calls(directory: Path) -> list[str]:
    path = directory / "asked"
    return path.read_text().splitlines() if path.exists() else []


def context_of(directory: Path, **environ: str) -> Context:
    uv = Path(find_uv({"PATH": "/usr/local/bin:/usr/bin"}))
    variables = {
        "HOME": str(directory), "PIP_CONFIG_FILE": "/dev/null", "PATH": f"{directory}/bin:/usr/bin:/bin",
        "UV": str(uv), "UV_CACHE_DIR": str(directory / "uv"), "XDG_CONFIG_HOME": str(directory / "none"), **environ,
    }  # fmt: skip
    return context(directory / "store", **variables)


@pytest.mark.parametrize("configured", ["uv", "pip", "uv.toml"])
@pytest.mark.parametrize("service", ["the index", "its host"])
def test_password_from_keyring(configured: str, service: str, tmp_path: Path) -> None:
    """uv and hatch-docker use the password. keyring runs once, and the password becomes a secret of the build."""
    index = FakeIndex(login=("ann", PASSWORD)).add("gadget", make_wheel("gadget", "1.0"))
    with index.serving():
        url = index.url.replace("//", "//ann@")
        name = index.url if service == "the index" else f"127.0.0.1:{index.port}"
        keyring(tmp_path, f"'{name} ann') echo '{PASSWORD}';;")
        own = {"UV_DEFAULT_INDEX": url, "UV_KEYRING_PROVIDER": "subprocess"}
        if configured == "pip":
            own = {"PIP_INDEX_URL": url, "PIP_KEYRING_PROVIDER": "import"}
        elif configured == "uv.toml":
            (tmp_path / "uv.toml").write_text(f'keyring-provider = "subprocess"\nindex-url = "{url}"\n')
            own = {}
        ctx = context_of(tmp_path, **own)
        pins = pin(LockPlan("resolve", requirements=("gadget",)), tmp_path, AMD64, ctx)
        before = len(keyring_calls(tmp_path))
        (path,) = fetch(pins, ctx, root=tmp_path)
        assert path.is_file()
        calls = keyring_calls(tmp_path)[before:]
        assert calls == [f"get {index.url} ann", f"get 127.0.0.1:{index.port} ann"][: 1 + (service == "its host")]
        ctx.store.blob_path(f"sha256:{pins[0].sha256}").unlink()
        fetch(pins, ctx, root=tmp_path)
        assert keyring_calls(tmp_path)[before:] == calls
        assert ctx.secrets.descriptions[PASSWORD] == f"the login of the index {index.url}"
        kept = [path for path in ctx.store.root.rglob("*") if path.is_file()]
        assert not [path for path in kept if MARK.encode() in path.read_bytes()]


def test_keyring_without_entry(tmp_path: Path) -> None:
    """The error contains the HTTP status of the index."""
    index = FakeIndex(login=("ann", PASSWORD)).add("gadget", make_wheel("gadget", "1.0"))
    with index.serving():
        keyring(tmp_path, "")
        url = index.url.replace("//", "//ann@")
        ctx = context_of(tmp_path, UV_DEFAULT_INDEX=url, UV_KEYRING_PROVIDER="subprocess")
        with pytest.raises(RegistryError, match=r"gadget 1\.0 .*401 Unauthorized"):
            fetch(pins_of(index), ctx, root=tmp_path)
        assert len(keyring_calls(tmp_path)) == 2


def test_missing_keyring_program(tmp_path: Path) -> None:
    """If the configuration enables keyring, the error names the alternatives."""
    index = FakeIndex(login=("ann", PASSWORD)).add("gadget", make_wheel("gadget", "1.0"))
    with index.serving():
        url = index.url.replace("//", "//ann@")
        ctx = context_of(tmp_path, UV_DEFAULT_INDEX=url, UV_KEYRING_PROVIDER="subprocess")
        with pytest.raises(RegistryError, match=rf"{index.url}: cannot run keyring: .*install keyring, or put"):
            fetch(pins_of(index), ctx, root=tmp_path)


@pytest.mark.parametrize(("url", "provider"), [
    ("//ann@", ""), ("//ann@", "disabled"), ("//", "subprocess"), (f"//ann:{MARK}@", "subprocess"),
    ("//--keyring-path=evil@", "subprocess"),
])  # fmt: skip
def test_keyring_is_not_run_without_need(url: str, provider: str, tmp_path: Path) -> None:
    """It runs only if it is configured, the URL has a user name (not an option) and no password."""
    index = FakeIndex().add("gadget", make_wheel("gadget", "1.0"))
    with index.serving():
        keyring(tmp_path, "*) echo x;;")
        variables = {"UV_KEYRING_PROVIDER": provider} if provider else {}
        ctx = context_of(tmp_path, UV_DEFAULT_INDEX=index.url.replace("//", url), **variables)
        fetch(pins_of(index), ctx, root=tmp_path)
        assert keyring_calls(tmp_path) == []


def test_pip_url_with_user_only_is_passed_to_uv(tmp_path: Path) -> None:
    environ = {"PIP_INDEX_URL": "https://ann@a.example/simple", "PIP_CONFIG_FILE": "/dev/null", "HOME": str(tmp_path)}
    env = read_indexes(tmp_path, environ).uv_environment(environ)
    assert env["UV_DEFAULT_INDEX"] == "https://ann@a.example/simple"
    assert "UV_KEYRING_PROVIDER" not in env
