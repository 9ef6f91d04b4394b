"""Authentication at registries: the credentials of Docker and Podman, credential helpers, challenges and tokens."""

import base64
import json
import time
from pathlib import Path

import pytest

from hatch_docker.core.errors import RegistryError
from hatch_docker.core.http.client import Client
from hatch_docker.core.progress import silent
from hatch_docker.oci import auth
from hatch_docker.oci.auth import Credential, credential_for, merge_scopes, parse_challenges
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.registry import Remote
from tests.conftest import script
from tests.fakes.images import small_image
from tests.fakes.registry import FakeRegistry, push

pytestmark = pytest.mark.usefixtures("check_no_secret_leaks")

REGISTRY = "registry.example"


def entry(username: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Variables with a new home directory, and a directory for credential helpers in PATH."""
    (tmp_path / "bin").mkdir()
    (tmp_path / ".docker").mkdir()
    return {"HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:/usr/bin:/bin"}


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def helper(tmp_path: Path, name: str, body: str) -> None:
    script(tmp_path / f"bin/docker-credential-{name}", f"read key\n{body}")


ANSWER = """echo '{"ServerURL": "x", "Username": "USER", "Secret": "s3cret-from-NAME"}'"""


def test_no_credential_file_is_no_error(environ: dict[str, str]) -> None:
    assert credential_for(REGISTRY, environ) is None
    assert credential_for(REGISTRY, {}) is None


@pytest.mark.parametrize("key", [REGISTRY, f"https://{REGISTRY}", f"https://{REGISTRY}/v1/", f"{REGISTRY}/v2/"])
def test_keys_of_auths(key: str, environ: dict[str, str], tmp_path: Path) -> None:
    """Docker's file, with the forms of keys that old and new versions of Docker write."""
    write(tmp_path / ".docker/config.json", {"auths": {key: entry("user", "s3cret:word")}})
    assert credential_for(REGISTRY, environ) == Credential("user", "s3cret:word")
    assert credential_for("other.example", environ) is None


def test_key_of_docker_hub(environ: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path / ".docker/config.json", {"auths": {"https://index.docker.io/v1/": entry("user", "x")}})
    assert credential_for("docker.io", environ) == Credential("user", "x")


def test_precedence_of_credentials(environ: dict[str, str], tmp_path: Path) -> None:
    """The order is credHelpers, credsStore, auths; REGISTRY_AUTH_FILE, Docker's file, Podman's files."""
    config = {"credHelpers": {REGISTRY: "one"}, "credsStore": "two", "auths": {REGISTRY: entry("u", "three")}}
    for name in ("one", "two"):
        helper(tmp_path, name, ANSWER.replace("NAME", name))
    path = tmp_path / ".docker/config.json"
    found = []
    for key in ("", "credHelpers", "credsStore"):
        config.pop(key, None)
        write(path, config)
        credential = credential_for(REGISTRY, environ)
        assert credential is not None
        found.append(credential.password)
    assert found == ["s3cret-from-one", "s3cret-from-two", "three"]

    write(tmp_path / "run/containers/auth.json", {"auths": {REGISTRY: entry("u", "run")}})
    write(tmp_path / ".config/containers/auth.json", {"auths": {REGISTRY: entry("u", "home")}})
    write(tmp_path / "explicit.json", {"auths": {REGISTRY: entry("u", "explicit")}})
    environ |= {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "REGISTRY_AUTH_FILE": str(tmp_path / "explicit.json")}
    found = []
    for gone in ("explicit.json", ".docker/config.json", "run/containers/auth.json", ".config/containers/auth.json"):
        credential = credential_for(REGISTRY, environ)
        assert credential is not None
        found.append(credential.password)
        (tmp_path / gone).unlink()
    assert found == ["explicit", "three", "run", "home"]


def test_longest_key_of_a_podman_namespace_is_used(environ: dict[str, str], tmp_path: Path) -> None:
    auths = {REGISTRY: entry("u", "all"), f"{REGISTRY}/team": entry("u", "team"), f"{REGISTRY}/te": entry("u", "te")}
    write(tmp_path / ".config/containers/auth.json", {"auths": auths})
    for repository, password in {"team/app": "team", "teams/app": "all", "": "all"}.items():
        assert credential_for(REGISTRY, environ, repository) == Credential("u", password)


@pytest.mark.parametrize(("config", "reason"), [
    ("{", "not a JSON object"),
    ("[]", "not a JSON object"),
    ({"auths": {REGISTRY: {"auth": "%%%"}}}, "auth of registry.example is not base64"),
    ({"auths": {REGISTRY: {"auth": base64.b64encode(b"s3cret").decode()}}}, "has no password"),
    ({"auths": {REGISTRY: "x"}}, "is not an object"),
    ({"credHelpers": {REGISTRY: "missing"}}, "cannot run docker-credential-missing"),
    ({"credHelpers": {REGISTRY: "../evil"}}, "is not the name of a credential helper"),
    ({"credHelpers": {REGISTRY: "garbage"}}, "docker-credential-garbage did not answer with credentials"),
    ({"credHelpers": {REGISTRY: "broken"}}, "gives no credentials for registry.example: the keyring is locked"),
])  # fmt: skip
def test_invalid_credentials_file(config: object, reason: str, environ: dict[str, str], tmp_path: Path) -> None:
    """The error is one line that names the file, and contains nothing of it."""
    write(tmp_path / ".docker/config.json", config)
    helper(tmp_path, "garbage", "echo s3cret")
    helper(tmp_path, "broken", "echo the keyring is locked >&2; exit 1")
    with pytest.raises(RegistryError, match=reason) as caught:
        credential_for(REGISTRY, environ)
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_credentials_file_that_is_a_directory_is_an_error(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".docker/config.json").mkdir()
    with pytest.raises(RegistryError, match=r"cannot read the credentials in .*config.json: Is a directory"):
        credential_for(REGISTRY, environ)


def test_hanging_helper_is_killed(environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert auth.HELPER_TIMEOUT == 30
    monkeypatch.setattr(auth, "HELPER_TIMEOUT", 0.3)
    write(tmp_path / ".docker/config.json", {"credHelpers": {REGISTRY: "slow"}})
    helper(tmp_path, "slow", "sleep 600")
    start = time.monotonic()
    with pytest.raises(RegistryError, match=r"docker-credential-slow did not finish within 0\.3 s"):
        credential_for(REGISTRY, environ)
    assert time.monotonic() - start < 60


def test_credential_helper_without_an_entry_is_no_error(environ: dict[str, str], tmp_path: Path) -> None:
    """A credsStore that is not installed is no error, either."""
    helper(tmp_path, "empty", "echo credentials not found in native keychain; exit 1")
    for store in ("empty", "elsewhere"):
        write(tmp_path / ".docker/config.json", {"credsStore": store, "auths": {REGISTRY: entry("u", "file")}})
        assert credential_for(REGISTRY, environ) == Credential("u", "file")


def test_identity_token_is_exchanged_by_oauth2(environ: dict[str, str], tmp_path: Path) -> None:
    with FakeRegistry(password="s3cret-identity") as registry:
        helper(tmp_path, "token", """echo '{"Username": "<token>", "Secret": "s3cret-identity"}'""")
        write(tmp_path / ".docker/config.json", {"credHelpers": {registry.host: "token"}})
        remote = Remote(Client(environ, silent()), environ)
        push(remote, small_image(), [parse_reference(f"{registry.host}/app")])
        assert registry.count("POST", "/token") == 1
        assert registry.count("GET", "/token") == 0


@pytest.mark.parametrize(("header", "expected"), [
    ('Bearer realm="https://a/t",service="s"', [("bearer", {"realm": "https://a/t", "service": "s"})]),
    ('Basic realm="a \\"b\\", c"', [("basic", {"realm": 'a "b", c'})]),
    (
        'Basic realm="x", Bearer realm=y , scope="a b"',
        [("basic", {"realm": "x"}), ("bearer", {"realm": "y", "scope": "a b"})],
    ),
    ("Negotiate", [("negotiate", {})]),
    ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
    ("", []),
    ("=,=,", []),
    ('Bearer realm="unfinished', [("bearer", {}), ("realm", {})]),
    ("Bearer " + 'a="' * 20_000, None),
])  # fmt: skip
def test_parse_challenges(header: str, expected: list[tuple[str, dict[str, str]]] | None) -> None:
    """Any `WWW-Authenticate` is parsed by RFC 9110 in less than a second."""
    start = time.process_time()
    found = parse_challenges(header)
    assert time.process_time() - start < 1
    if expected is not None:
        assert found == expected


def test_scopes_are_joined() -> None:
    """One scope for each resource."""
    wanted = ["repository:a:pull,push", "repository:b:pull", "repository:a:pull", "repository:b:delete"]
    assert merge_scopes(wanted) == ["repository:a:pull,push", "repository:b:pull,delete"]


def test_repr_of_a_credential_contains_no_secret() -> None:
    """Tracebacks may contain it."""
    assert "s3cret" not in repr(Credential("user", "s3cret", "s3cret"))
