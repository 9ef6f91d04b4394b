"""Tests of hatch_docker.release.sign and cosign: command lines for all versions of cosign, and hidden secrets."""

import base64
import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.config.load import load_config
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, ImageError, ProgramError, SignatureError
from hatch_docker.core.http.client import Client
from hatch_docker.core.progress import silent
from hatch_docker.oci.media_types import OCI
from hatch_docker.oci.model import Platform, canonical_json
from hatch_docker.oci.push import Target
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.referrers import fallback_tag, referrers
from hatch_docker.oci.registry import Remote
from hatch_docker.plan.defaults import make_plan
from hatch_docker.plan.model import SignPlan
from hatch_docker.release.attachments import attach_and_sign
from hatch_docker.release.cosign import Cosign, check_signing
from hatch_docker.release.model import Document
from hatch_docker.release.push import push_to_all
from hatch_docker.release.sign import Signer, Trust, sign_item, verify_image
from tests.fakes.context import context
from tests.fakes.images import small_image
from tests.fakes.registry import FakeRegistry, push
from tests.fakes.sbom_images import project

IMAGE = small_image()
PASSWORD = "s3cret-pass-word"
BY_KEY = SignPlan("k.key", False)
DOCUMENTS = (
    Document("a.cdx.json", "cyclonedx", "application/vnd.cyclonedx+json", "", IMAGE.digest),
    Document("a.provenance.json", "slsa", "application/vnd.in-toto+json", "", IMAGE.digest),
)

# Records its command line and prints what cosign prints. The file "flags" has the flags that this version has.
PROGRAM = r'''#!/bin/sh
for flag in "$@"; do
    case "$flag" in --new-bundle-format=*|--use-signing-config=*)
        grep -qx -e "${flag%%=*}" DIRECTORY/flags || { echo "Error: unknown flag: ${flag%%=*}" >&2; exit 1; } ;;
    esac
done
echo "$@" >> "DIRECTORY/calls"
echo "password=$COSIGN_PASSWORD" >> "DIRECTORY/environ"
case "$1 $2" in
public-key*) echo PUBLIC ;;
verify-attestation*) cat DIRECTORY/attested 2>/dev/null || exit 1 ;;
verify*) cat DIRECTORY/verified 2>/dev/null || { cat DIRECTORY/refuse >&2; exit 10; } ;;
sign*) test ! -f DIRECTORY/refuse || { echo "signing" >&2; cat DIRECTORY/refuse >&2; exit 1; } ;;
esac
'''


class FakeCosign:
    """A fake of cosign that records its command lines."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        program = directory / "cosign"
        program.write_text(PROGRAM.replace("DIRECTORY", str(directory)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        (directory / "flags").touch()

    @property
    def calls(self) -> list[str]:
        """The recorded command lines, without those that failed because of an unknown flag."""
        path = self.directory / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(referrers=True) as fake:
        push(Remote(Client({}, silent()), {}), IMAGE, [parse_reference(f"{fake.host}/app:1")])
        yield fake


@pytest.fixture
def program(tmp_path: Path) -> FakeCosign:
    """Return the fake, and write the files of a key pair."""
    (tmp_path / "bin").mkdir()
    for name in ("k.key", "k.pub"):
        (tmp_path / name).write_text("KEY")
    return FakeCosign(tmp_path / "bin")


def context_with_cosign(tmp_path: Path, lines: list[str] | None = None, **environ: str) -> Context:
    return context(tmp_path / "cache", lines, PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin", **environ)


def sign(
    registry: FakeRegistry, root: Path, plan: SignPlan = BY_KEY, lines: list[str] | None = None, **environ: str
) -> Target:
    """Sign the image in the registry, and its documents. `root` is the project's directory."""
    ctx = context_with_cosign(root, lines, **environ)
    name = replace(parse_reference(f"{registry.host}/app"), tag="")
    target = Target(Remote(ctx.client, {}), name, lambda _digest: "")
    sign_item(Signer(Cosign(root, ctx), plan, target), IMAGE, DOCUMENTS, read)
    return target


def read(document: Document) -> bytes:
    return json.dumps({"bom": 1} if document.format == "cyclonedx" else {"predicate": {"p": 1}}).encode()


def push_signature(registry: FakeRegistry, ending: str, text: str = "1") -> None:
    """Push a manifest as cosign would push it under its tag with this suffix."""
    config, layer = (registry.put_blob("app", data.encode()) for data in ("{}", text))
    manifest = canonical_json({
        "schemaVersion": 2, "mediaType": OCI.manifest,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/x", "digest": layer, "size": len(text), "annotations": {"s": "sig"}}],
    })  # fmt: skip
    registry.put_manifest("app", fallback_tag(IMAGE.digest) + ending, OCI.manifest, manifest)


def test_image_and_documents_are_signed_with_a_key(registry: FakeRegistry, program: FakeCosign, tmp_path: Path) -> None:
    """There is no entry in the public log, and the password is in no argument."""
    sign(registry, tmp_path, COSIGN_PASSWORD=PASSWORD)
    name, key = f"{registry.host}/app@{IMAGE.digest}", f"--key {tmp_path}/k.key"
    calls = program.calls  # their number matters, because each call takes a second
    assert calls[0] == f"sign --yes {key} --tlog-upload=false {name}"
    assert [call.split()[0] for call in calls] == ["sign", "attest", "attest"]
    assert [call.split()[-2:] for call in calls[1:]] == [["cyclonedx", name], ["slsaprovenance1", name]]
    assert PASSWORD not in "".join(program.calls)
    assert f"password={PASSWORD}" in (program.directory / "environ").read_text()


def test_signatures_are_attached_and_not_made_again(
    registry: FakeRegistry, program: FakeCosign, tmp_path: Path
) -> None:
    """The manifests under cosign's tags become referrers. A second push sends one request."""
    for ending in (".sig", ".att"):
        push_signature(registry, ending)
    target = sign(registry, tmp_path)
    assert sorted(referrer["artifactType"] for referrer in referrers(target, IMAGE.digest).values()) == [
        "application/vnd.dev.cosign.artifact.sig.v1+json", "application/vnd.dsse.envelope.v1+json",
    ]
    calls, requests = len(program.calls), len(registry.requests)
    sign(registry, tmp_path)
    assert (len(program.calls), len(registry.requests)) == (calls, requests + 1)
    (tmp_path / "k.key").write_text("ANOTHER KEY")
    sign(registry, tmp_path)
    assert len(program.calls) > calls


@pytest.mark.parametrize("manifest", [b"{}", b'{"config": 1, "layers": []}', b'{"config": {}}'])
def test_foreign_manifest_under_cosign_tag_is_an_error(
    manifest: bytes, registry: FakeRegistry, program: FakeCosign, tmp_path: Path
) -> None:
    registry.put_manifest("app", fallback_tag(IMAGE.digest) + ".att", OCI.manifest, manifest)
    with pytest.raises(ImageError, match=rf"app:sha256-{IMAGE.digest[7:]}\.att"):
        sign(registry, tmp_path)


def test_existing_attestation_is_not_made_again(
    registry: FakeRegistry, program: FakeCosign, tmp_path: Path
) -> None:
    """cosign would add a second one."""
    payload = base64.b64encode(json.dumps({"predicate": {"bom": 1}, "subject": []}).encode()).decode()
    push_signature(registry, ".att")
    (program.directory / "attested").write_text(json.dumps({"payload": payload}) + "\n")
    sign(registry, tmp_path)
    attested = [call for call in program.calls if call.startswith("attest")]
    assert [call.split()[-2] for call in attested] == ["slsaprovenance1"]


@pytest.mark.parametrize(
    ("key", "environ"), [("env://MY_KEY", {"MY_KEY": "PRIVATE s3cret"}), ("awskms:///alias/x", {})]
)
def test_keys_in_variables_and_key_stores(
    key: str, environ: dict[str, str], registry: FakeRegistry, program: FakeCosign, tmp_path: Path
) -> None:
    """cosign gets the name of the variable, or the address of the key store, unchanged."""
    check_signing(SignPlan(key, False), tmp_path, context_with_cosign(tmp_path, **environ).environ)
    sign(registry, tmp_path, SignPlan(key, False), **environ)
    assert f"--key {key} " in program.calls[0]


def test_keyless_signing_uses_identity_and_log(registry: FakeRegistry, program: FakeCosign, tmp_path: Path) -> None:
    """The identity of the pipeline is in cosign's environment."""
    sign(registry, tmp_path, SignPlan("", True), SIGSTORE_ID_TOKEN="ey.token")
    assert program.calls[0] == f"sign --yes --tlog-upload=true {registry.host}/app@{IMAGE.digest}"
    assert not any("--key" in call or "ey.token" in call for call in program.calls)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", ""), ("--new-bundle-format\n", "--new-bundle-format=false "),
        ("--new-bundle-format\n--use-signing-config\n", "--new-bundle-format=false --use-signing-config=false "),
    ],
    ids=["2", "2.5's attest", "3"],
)
def test_all_versions_write_the_old_format(
    flags: str, expected: str, registry: FakeRegistry, program: FakeCosign, tmp_path: Path, lines: list[str]
) -> None:
    """Version 3 has new defaults, which are disabled with flags, also if the flags are not in its help (3.1)."""
    (program.directory / "flags").write_text(flags)
    sign(registry, tmp_path, lines=lines)
    assert not any("flag" in line for line in lines)
    set_signatures(program, "index.docker.io/team/app")
    name = parse_reference(f"docker.io/team/app@{IMAGE.digest}")
    verify_image(Cosign(tmp_path, context_with_cosign(tmp_path)), name, Trust(key="k.pub"))
    assert {call.split()[0] for call in program.calls} == {"sign", "attest", "verify", "verify-attestation"}
    assert all(call.startswith(f"{call.split()[0]} {expected}") for call in program.calls)
    assert expected or not any("=false" in call.replace("--tlog-upload=false", "") for call in program.calls)


@pytest.mark.parametrize(
    ("password", "hint"),
    [(PASSWORD, "is COSIGN_PASSWORD the password of the key?"), ("", "set COSIGN_PASSWORD to the key's password")],
)
def test_error_has_message_of_cosign_without_password(
    password: str, hint: str, registry: FakeRegistry, program: FakeCosign, tmp_path: Path, lines: list[str]
) -> None:
    """There is a hint if the password is wrong or missing."""
    (program.directory / "refuse").write_text(f"Error: {password or 'x'} decryption failed\n")
    with pytest.raises(ProgramError) as caught:
        sign(registry, tmp_path, lines=lines, COSIGN_PASSWORD=password)
    assert str(caught.value) == f"cosign sign: {'***' if password else 'x'} decryption failed; {hint}"
    assert caught.value.exit_status == 1
    assert PASSWORD not in "".join(lines)


@pytest.mark.parametrize("reason", [
    'Post "https://log.example/api": dial tcp 127.0.0.1:443: connect: connection refused', "unexpected EOF",
    "PUT https://h.example/v2/a/manifests/x: unexpected status code 503 Service Unavailable",
    "net/http: TLS handshake timeout",
])  # fmt: skip
def test_temporary_error_is_transient(reason: str, registry: FakeRegistry, program: FakeCosign, tmp_path: Path) -> None:
    """The exit status is 75, and the image is not reported as unsigned."""
    (program.directory / "refuse").write_text(f"Error: {reason}\n")
    on_pushed = attach_and_sign(BY_KEY, IMAGE, (), tmp_path, context_with_cosign(tmp_path), read)
    (done,) = push_to_all(IMAGE, [f"{registry.host}/app"], ["1"], context_with_cosign(tmp_path), on_pushed=on_pushed)
    assert (done.transient, done.error) == (True, f"cosign sign: {reason}")
    name = parse_reference(f"{registry.host}/app@{IMAGE.digest}")
    with pytest.raises(ProgramError) as caught:
        verify_image(Cosign(tmp_path, context_with_cosign(tmp_path)), name, Trust(key="k.pub"))
    assert (str(caught.value), caught.value.exit_status) == (f"cosign verify: {reason}", 75)


@pytest.mark.parametrize(("plan", "environ", "message"), [
    (BY_KEY, {"PATH": "/nowhere"}, r"signatures need the program cosign, which is not installed"),
    (SignPlan("gone.key", False), {}, r"sign\.key: there is no gone\.key; `cosign generate-key-pair` makes a pair"),
    (SignPlan("env://K", False), {}, r"sign\.key: K is not set in the environment"),
    (SignPlan("", True), {}, r"sign\.keyless: this pipeline has no identity; on GitHub .* on GitLab"),
])  # fmt: skip
def test_missing_cosign_key_or_identity_is_an_early_error(
    plan: SignPlan, environ: dict[str, str], message: str, program: FakeCosign, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_TOKEN", "_PRODUCT_NAME"):  # the tests may run on a machine of Google, which has an identity
        monkeypatch.setattr(f"hatch_docker.release.cosign.{name}", tmp_path / "nowhere")
    with pytest.raises((ConfigError, ProgramError), match=message):
        check_signing(plan, tmp_path, {**context_with_cosign(tmp_path).environ, **environ})


@pytest.mark.parametrize("environ", [
    {"SIGSTORE_ID_TOKEN": "ey"}, {"BUILDKITE_AGENT_ACCESS_TOKEN": "x"}, {"GOOGLE_SERVICE_ACCOUNT_NAME": "me"},
    {"ACTIONS_ID_TOKEN_REQUEST_URL": "https://x", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x"},
    {"SPIFFE_ENDPOINT_SOCKET": "SOCKET"},
])  # fmt: skip
def test_all_identity_providers_of_cosign_are_accepted(
    environ: dict[str, str], program: FakeCosign, tmp_path: Path
) -> None:
    (tmp_path / "socket").touch()
    environ = {name: str(tmp_path / "socket") if value == "SOCKET" else value for name, value in environ.items()}
    check_signing(SignPlan("", True), tmp_path, {**context_with_cosign(tmp_path).environ, **environ})


@pytest.mark.parametrize(("table", "expected"), [
    ({}, None),
    ({"key": "k"}, SignPlan("k", False)),
    ({"key": "k", "transparency-log": True}, SignPlan("k", True)),
    ({"keyless": True}, SignPlan("", True)),
    ({"key": "k", "keyless": True}, "key and keyless cannot be used together"),
    ({"keyless": True, "transparency-log": False}, "keyless signatures are always in the log"),
    ({"transparency-log": True}, "nothing is signed; set key or keyless"),
])  # fmt: skip
def test_options_for_signing(table: dict[str, object], expected: SignPlan | str | None) -> None:
    config = load_config({"sign": table}, {}, None)
    if isinstance(expected, str):
        with pytest.raises(ConfigError, match=expected):
            make_plan(project(), config, Platform("linux", "amd64"))
    else:
        assert make_plan(project(), config, Platform("linux", "amd64")).sign == expected


def set_signatures(program: FakeCosign, *repositories: str, digest: str = IMAGE.digest) -> None:
    """Have the fake return valid signatures for some repositories."""
    payloads = [
        {"critical": {"identity": {"docker-reference": item}, "image": {"docker-manifest-digest": digest}}}
        for item in repositories
    ]
    (program.directory / "verified").write_text(json.dumps(payloads))


def test_signature_of_another_repository_is_rejected(program: FakeCosign, tmp_path: Path) -> None:
    """cosign itself accepts an image that was copied with its signature. For a mirror, `signed_as` is needed."""
    cosign, trust = Cosign(tmp_path, context_with_cosign(tmp_path)), Trust(key="k.pub")
    name = parse_reference(f"docker.io/team/app@{IMAGE.digest}")
    with pytest.raises(ConfigError, match=r"--key: there is no gone\.pub"):
        verify_image(cosign, name, Trust(key="gone.pub"))
    set_signatures(program, "index.docker.io/team/app")
    assert verify_image(cosign, name, trust) == []
    assert "--key k.pub --insecure-ignore-tlog=true" in program.calls[0]
    set_signatures(program, "registry.example/team/app")
    with pytest.raises(SignatureError, match=r"signed, but for registry\.example/team/app, not for docker\.io/team"):
        verify_image(cosign, name, trust)
    verify_image(cosign, name, trust, signed_as="registry.example/team/app")
    set_signatures(program, "index.docker.io/team/app", digest="sha256:" + "0" * 64)
    with pytest.raises(SignatureError, match="but for nothing"):
        verify_image(cosign, name, trust)


def test_verification_with_an_identity(program: FakeCosign, tmp_path: Path) -> None:
    set_signatures(program, "registry.example/app")
    name = parse_reference(f"registry.example/app@{IMAGE.digest}")
    trust = Trust(identity="https://git.example/app", issuer="https://token.example")
    verify_image(Cosign(tmp_path, context_with_cosign(tmp_path)), name, trust)
    wanted = "--certificate-identity https://git.example/app --certificate-oidc-issuer https://token.example"
    assert wanted in program.calls[0]
    assert "ignore-tlog" not in program.calls[0]
