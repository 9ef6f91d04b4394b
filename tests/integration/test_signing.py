"""Build, push and sign, and check the result, with real programs: cosign, oras and docker-registry."""

import base64
import io
import json
import os
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from hatch_docker.core.http.client import Client
from hatch_docker.core.progress import silent
from hatch_docker.oci.media_types import OCI
from hatch_docker.oci.model import Descriptor, digest_of
from hatch_docker.oci.push import Target, push_blob, put_manifest
from hatch_docker.oci.referrers import referrers
from hatch_docker.oci.registry import Remote
from hatch_docker.plan.model import SignPlan
from hatch_docker.release.cosign import Cosign
from hatch_docker.release.model import Document
from hatch_docker.release.sign import Signer, sign_item
from tests.conftest import need
from tests.fakes.context import context
from tests.fakes.images import small_image, small_index, small_layer
from tests.fakes.registry import push
from tests.integration.builds import Outcome, check_failed, run_build
from tests.integration.docker_registry import Server, docker_registry
from tests.integration.forked_python import write_program
from tests.projects import write_project

pytestmark = [pytest.mark.engine, pytest.mark.network]

PASSWORD = "s3cret-pass-word"
SIGN = '[tool.hatch-docker.sign]\nkey = "cosign.key"'
ACCEPTED = {"accept": OCI.manifest}
KINDS = {
    "application/vnd.cyclonedx+json", "application/spdx+json", "application/vnd.in-toto+json",
    "application/vnd.dev.cosign.artifact.sig.v1+json", "application/vnd.dsse.envelope.v1+json",
}  # fmt: skip


@dataclass(frozen=True)
class Keys:
    """A directory with a key pair and with a program `cosign` for PATH, which counts its calls."""

    directory: Path

    @property
    def public(self) -> Path:
        return self.directory / "cosign.pub"

    @property
    def calls(self) -> int:
        path = self.directory / "calls"
        return path.read_text().count("\n") if path.exists() else 0

    def environ(self, **others: str) -> dict[str, str]:
        return {"COSIGN_PASSWORD": PASSWORD, "PATH": f"{self.directory}:{os.environ['PATH']}", **others}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    directory = tmp_path_factory.mktemp("keys")
    cosign = need("cosign")
    new_pair(directory, "cosign")
    program = directory / "cosign"
    program.write_text(f'#!/bin/sh\necho "$@" >> "{directory}/calls"\nexec {cosign} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return Keys(directory)


def new_pair(directory: Path, name: str) -> None:
    command = [need("cosign"), "generate-key-pair", "--output-key-prefix", name]
    environ = {**os.environ, "COSIGN_PASSWORD": PASSWORD}
    subprocess.run(command, cwd=directory, check=True, capture_output=True, env=environ)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True)


def copy(skopeo: list[str], source: str, target: str) -> None:
    """Copy an image or an attachment between repositories."""
    names = (f"docker://{source}", f"docker://{target}")
    done = run(*skopeo, "copy", "--src-tls-verify=false", "--dest-tls-verify=false", *names)
    assert done.returncode == 0, done.stderr


def cosign_verify(key: Path, name: str) -> int:
    return run(need("cosign"), "verify", "--key", str(key), "--insecure-ignore-tlog=true", name).returncode


def verify_signature(key: Path, name: str, *others: str, **variables: str) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as directory:
        inherited = write_program(Path(directory))
        command = [f"{directory}/hatch-docker", "verify-signature", name, "--key", str(key), *others]
        environ = {**os.environ, **variables}
        return subprocess.run(command, capture_output=True, text=True, env=environ, pass_fds=[inherited])


@dataclass(frozen=True)
class Pushed:
    """A pushed image: its project, the outcome of the build, and its reference."""

    project: Path
    outcome: Outcome
    name: str                                 # registry/repository@digest


@pytest.fixture(scope="module")
def pushed(server: Server, keys: Keys, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Pushed:
    """Push a signed image with both SBOMs to a registry."""
    options = f'image = "{server.host}/team/hello"\nsbom = ["cyclonedx", "spdx"]\n{SIGN}'
    project = write_project("hello", tmp_path_factory.mktemp("p") / "hello", options=options)
    (project / "cosign.key").write_bytes((keys.directory / "cosign.key").read_bytes())
    outcome = push_project(project, cache, keys)
    assert outcome.status == 0, outcome.output
    return Pushed(project, outcome, f"{server.host}/team/hello@{outcome.digest}")


def push_project(project: Path, cache: Path, keys: Keys, **variables: str) -> Outcome:
    return run_build(project, cache, verb="docker:push", variables=keys.environ(**variables))


def test_oras_lists_all_attachments(pushed: Pushed, skopeo: list[str]) -> None:
    """SBOMs, provenance, signature and attestations, each once."""
    found = run(need("oras"), "discover", "--plain-http", "--format", "json", pushed.name)
    assert found.returncode == 0, found.stderr
    kinds = [manifest["artifactType"] for manifest in json.loads(found.stdout)["manifests"]]
    assert sorted(kinds) == sorted(KINDS)
    digest = run(*skopeo, "inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{pushed.name}")
    assert digest.stdout.strip() == pushed.outcome.digest


def test_attachments_equal_the_files_in_dist(pushed: Pushed, tmp_path: Path) -> None:
    """`oras pull` writes the files of dist/, with their names."""
    host = pushed.name.partition("@")[0]
    found = run(need("oras"), "discover", "--plain-http", "--format", "json", pushed.name)
    for manifest in json.loads(found.stdout)["manifests"]:
        if "cosign" in manifest["artifactType"] or "dsse" in manifest["artifactType"]:
            continue
        done = run(need("oras"), "pull", "--plain-http", "-o", str(tmp_path), f"{host}@{manifest['digest']}")
        assert done.returncode == 0, done.stderr
    files = [*pushed.outcome.receipt["sbom"], pushed.outcome.receipt["provenance"]]
    assert len(files) == 3
    for file in files:
        data = (tmp_path / file["file"]).read_bytes()
        assert data == (pushed.outcome.directory / file["file"]).read_bytes()
        assert digest_of(data) == file["digest"]


def test_second_push_sends_and_signs_nothing(pushed: Pushed, cache: Path, keys: Keys) -> None:
    """cosign is not started."""
    before = keys.calls
    again = push_project(pushed.project, cache, keys)
    assert again.status == 0, again.output
    (delivery,) = again.receipt["deliveries"]
    assert (delivery["sent"], delivery["attached"], again.digest) == (0, 0, pushed.outcome.digest)
    assert keys.calls == before


def test_cosign_verifies_with_the_right_key_only(pushed: Pushed, keys: Keys, tmp_path: Path) -> None:
    """Signature and attestations."""
    new_pair(tmp_path, "other")
    assert cosign_verify(keys.public, pushed.name) == 0
    assert cosign_verify(tmp_path / "other.pub", pushed.name) != 0
    for kind in ("cyclonedx", "spdxjson", "slsaprovenance1"):
        command = [need("cosign"), "verify-attestation", "--insecure-ignore-tlog=true", "--type", kind]
        assert run(*command, "--key", str(keys.public), pushed.name).returncode == 0
        assert run(*command, "--key", str(tmp_path / "other.pub"), pushed.name).returncode != 0


def test_verify_signature(pushed: Pushed, keys: Keys, tmp_path: Path) -> None:
    """By tag or digest; the output lists the signed documents. With another key there is one error line."""
    new_pair(tmp_path, "other")
    for name in (pushed.name, pushed.name.partition("@")[0] + ":latest"):
        done = verify_signature(keys.public, name)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{pushed.name} is signed, and so are its documents: cyclonedx, spdx, slsa\n"
    refused = verify_signature(tmp_path / "other.pub", pushed.name)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "has no valid signature: cosign verify: no matching signatures" in refused.stderr


def remote() -> Remote:
    return Remote(Client({}, silent()), {})


def test_signature_of_another_image_is_rejected(pushed: Pushed, server: Server, keys: Keys, skopeo: list[str]) -> None:
    """An image without a signature is rejected, also with a copy of the signature of another image."""
    altered = small_image(small_layer("evil", b"evil"))
    push(remote(), altered, [server.name("team/hello:altered")])
    name = f"{server.host}/team/hello@{altered.digest}"
    assert cosign_verify(keys.public, name) != 0
    tags = [f"{digest.replace(':', '-')}.sig" for digest in (pushed.outcome.digest, altered.digest)]
    copy(skopeo, *(f"{server.host}/team/hello:{tag}" for tag in tags))
    assert cosign_verify(keys.public, name) != 0
    assert verify_signature(keys.public, name).returncode == 1


def test_copied_signature_is_rejected(pushed: Pushed, server: Server, keys: Keys, skopeo: list[str]) -> None:
    """cosign accepts a copy of image and signature; `verify-signature` needs `--signed-as` for such a mirror."""
    source = pushed.name.partition("@")[0]
    tag = f"{pushed.outcome.digest.replace(':', '-')}.sig"
    for name in ("latest", tag):
        copy(skopeo, f"{source}:{name}", f"{server.host}/thief/hello:{name}")
    copied = f"{server.host}/thief/hello@{pushed.outcome.digest}"
    assert cosign_verify(keys.public, copied) == 0
    refused = verify_signature(keys.public, copied)
    assert refused.returncode == 1
    assert f"is signed, but for {source}, not for {server.host}/thief/hello" in refused.stderr
    assert verify_signature(keys.public, copied, "--signed-as", source).returncode == 0


def test_wrong_password_of_the_key(pushed: Pushed, cache: Path, keys: Keys, server: Server) -> None:
    """The image is pushed, the error contains no password, and a push with the right password signs the image."""
    image = f"{server.host}/team/other"
    missing = push_project(pushed.project, cache, keys, HATCH_DOCKER_IMAGE=image, COSIGN_PASSWORD="")
    check_failed(missing, "set COSIGN_PASSWORD to the key's password")
    failed = push_project(pushed.project, cache, keys, HATCH_DOCKER_IMAGE=image, COSIGN_PASSWORD="wr0ng-one")
    check_failed(failed, "is COSIGN_PASSWORD the password of the key?")
    assert PASSWORD not in failed.output
    assert "wr0ng-one" not in failed.output
    assert push_project(pushed.project, cache, keys, HATCH_DOCKER_IMAGE=image).status == 0
    assert cosign_verify(keys.public, f"{image}:latest") == 0


def test_key_in_a_variable(pushed: Pushed, cache: Path, keys: Keys, server: Server, tmp_path: Path) -> None:
    """Pipelines pass keys in variables. There is no file of the key, and the key is not printed."""
    project = write_project("hello", tmp_path / "p", options=f'image = "{server.host}/team/variable"')
    key = (keys.directory / "cosign.key").read_text()
    done = push_project(project, cache, keys, HATCH_DOCKER_SIGN_KEY="env://MY_KEY", MY_KEY=key)
    assert done.status == 0, done.output
    assert cosign_verify(keys.public, f"{server.host}/team/variable:latest") == 0
    assert key.splitlines()[1] not in done.output


LOGIN = "pl4nted-l0gin"
HASHED = "user:$2b$04$OnQrBIJthp360dGyOAt9t.9Efz/DDR1vq3PDkmQdVPKbXIpwT2g.q\n"


@pytest.mark.parametrize("where", ["docker", "podman"])
def test_registry_with_password(where: str, pushed: Pushed, cache: Path, keys: Keys, tmp_path: Path) -> None:
    """cosign gets the login of Docker or Podman too: push, attachments, signature, verification. It is not printed."""
    with docker_registry(tmp_path / "registry", HASHED) as closed:
        login = {"auths": {closed.host: {"auth": base64.b64encode(f"user:{LOGIN}".encode()).decode()}}}
        path = tmp_path / "config.json"
        path.write_text(json.dumps(login))
        own = {"DOCKER_CONFIG": str(tmp_path)} if where == "docker" else {"REGISTRY_AUTH_FILE": str(path)}
        own |= {"HOME": str(tmp_path), "HATCH_DOCKER_IMAGE": f"{closed.host}/team/app"}
        without = push_project(pushed.project, cache, keys, **{**own, "DOCKER_CONFIG": "/x", "REGISTRY_AUTH_FILE": ""})
        check_failed(without, f"it requires a password: log in with `docker login {closed.host}`")
        done = push_project(pushed.project, cache, keys, HATCH_VERBOSE="1", **own)
        assert done.status == 0, done.output
        name = f"{closed.host}/team/app:latest"
        found = verify_signature(keys.public, name, **own)
        assert found.stdout.endswith("is signed, and so are its documents: cyclonedx, spdx, slsa\n"), found.stderr
        assert LOGIN not in done.output + json.dumps(done.receipt) + found.stderr


def test_index_and_images_are_signed(server: Server, keys: Keys, tmp_path: Path) -> None:
    """Each has its own signature and its own documents, so that each digest can be verified."""
    index = small_index()
    push(remote(), index, [server.name("team/both:1")])
    documents = {
        Document("a.cdx.json", "cyclonedx", "application/vnd.cyclonedx+json", "", index.images[0].digest): b"{}",
        Document("a.provenance.json", "slsa", "application/vnd.in-toto+json", "", index.digest): json.dumps(
            {"predicate": {"buildDefinition": {"buildType": "t"}, "runDetails": {"builder": {"id": "b"}}}}
        ).encode(),
    }  # fmt: skip
    ctx = context(tmp_path / "cache", **keys.environ(HOME=str(tmp_path)))
    to = Target(remote(), replace(server.name("team/both"), tag=""), lambda _digest: "")
    signer = Signer(Cosign(keys.directory, ctx), SignPlan("cosign.key", False), to)
    sign_item(signer, index, tuple(documents), documents.__getitem__)
    names = [f"{server.host}/team/both@{item.digest}" for item in (index, *index.images)]
    signed = [verify_signature(keys.public, name).stdout for name in names]
    assert signed == [
        f"{names[0]} is signed, and so are its documents: slsa\n",
        f"{names[1]} is signed, and so are its documents: cyclonedx\n",
        f"{names[2]} is signed; its documents are not signed\n",
    ]


ATTACH_SCRIPT = """
import sys
from hatch_docker.oci.push import Target
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.referrers import Artifact, attach
from hatch_docker.oci.registry import Remote
from hatch_docker.core.progress import silent
from hatch_docker.core.http.client import Client
from tests.fakes.images import small_image

host, number = sys.argv[1:]
target = Target(Remote(Client({}, silent()), {}), parse_reference(f"{host}/ten"), lambda _digest: "")
print("ready", flush=True)
sys.stdin.readline()
attach(target, small_image().descriptor, [Artifact("application/x-ten", number.encode())])
"""


def test_ten_parallel_attachments(server: Server) -> None:
    """The registry has neither the referrers API nor conditional requests: 10 of 10 are listed (with oras 6)."""
    command = [sys.executable, "-c", ATTACH_SCRIPT, server.host]
    started = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(10)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=120) and process.returncode for process in started] == [0] * 10
    image = small_image()
    to = Target(remote(), replace(server.name("ten"), tag=""), lambda _digest: "")
    found = referrers(to, image.digest)
    assert len(found) == 10
    name = f"{server.host}/ten@{image.digest}"
    push(remote(), image, [server.name("ten:1")])
    listed = run(need("oras"), "discover", "--plain-http", "--format", "json", name)
    assert len(json.loads(listed.stdout)["manifests"]) == 10


def test_altered_attestation_is_rejected(pushed: Pushed, server: Server, keys: Keys, skopeo: list[str]) -> None:
    """A word of the SBOM in cosign's envelope is changed: cosign rejects it, and the SBOM is reported as unsigned."""
    source = pushed.name.partition("@")[0]
    tag = pushed.outcome.digest.replace(":", "-")
    altered_name = server.name("altered/hello")
    for name in ("latest", f"{tag}.sig", f"{tag}.att"):
        copy(skopeo, f"{source}:{name}", f"{server.host}/altered/hello:{name}")
    name = f"{server.host}/altered/hello@{pushed.outcome.digest}"
    whole = verify_signature(keys.public, name, "--signed-as", source).stdout
    assert whole == f"{name} is signed, and so are its documents: cyclonedx, spdx, slsa\n"
    target = Target(remote(), replace(altered_name, tag=""), lambda _digest: "")
    url = target.remote.url(target.name, "")
    manifest = json.loads(target.remote.client.request("GET", f"{url}manifests/{tag}.att", headers=ACCEPTED).body)
    for layer in manifest["layers"]:
        envelope = json.loads(target.remote.client.request("GET", f"{url}blobs/{layer['digest']}").body)
        payload = base64.b64decode(envelope["payload"])
        if b'"CycloneDX"' in payload:
            envelope["payload"] = base64.b64encode(payload.replace(b"hello", b"jello")).decode()
            data = json.dumps(envelope).encode()
            layer |= {"digest": digest_of(data), "size": len(data)}
            push_blob(target, Descriptor(layer["mediaType"], digest_of(data), len(data)), partial(io.BytesIO, data))
    data = json.dumps(manifest).encode()
    put_manifest(target, f"{tag}.att", Descriptor(OCI.manifest, digest_of(data), len(data)), data)
    command = [need("cosign"), "verify-attestation", "--insecure-ignore-tlog=true", "--key", str(keys.public), "--type"]
    assert run(*command, "cyclonedx", name).returncode != 0
    altered = verify_signature(keys.public, name, "--signed-as", source)
    assert "cyclonedx" not in altered.stdout
    assert run(*command, "spdxjson", name).returncode == 0
