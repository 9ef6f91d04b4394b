"""cosign as we run it: which flags, whose identity, what it may not show. Its version decides nothing, its flags do.

https://docs.sigstore.dev/cosign. Of 2 and 3 alike the signatures that every verifier reads are asked for (tags
`sha256-HEX.sig` and `.att`), not 3's bundles; distributions build it without a version.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.errors import ConfigError, ProgramError
from hatch_docker.process import ProcessFailed, run

if TYPE_CHECKING:
    from hatch_docker.context import Context
    from hatch_docker.oci.reference import Reference
    from hatch_docker.plan import SignPlan

TIMEOUT = 300.0  # seconds of one run; the transparency log may be slow
PASSWORD = "COSIGN_PASSWORD"  # noqa: S105 - a variable's name
# Variables whose values cosign reads and nobody else may see.
SECRETS = (PASSWORD, "SIGSTORE_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "BUILDKITE_AGENT_ACCESS_TOKEN")
_IDENTITIES = (
    ("SIGSTORE_ID_TOKEN",), ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
    ("BUILDKITE_AGENT_ACCESS_TOKEN",),
)
_NOT_OURS = ("new-bundle-format", "use-signing-config")  # defaults of 3 that change the format
_ENVIRONMENT = "env://"


@dataclass(frozen=True, slots=True)
class Cosign:
    """The program, with the project's directory, which a key's path is relative to."""

    root: Path
    ctx: Context
    helps: dict[str, str] = field(default_factory=dict, repr=False, compare=False)  # what a command says of itself

    def run(self, *arguments: str, secrets: Sequence[str] = ()) -> str:
        """One run, its standard output; raises ProgramError, whose text is cosign's own line of the failure."""
        environ = self.ctx.environ
        _check_installed(environ)
        env = {**environ, PASSWORD: environ.get(PASSWORD, "")}  # unset, it would ask a terminal
        if environ.get("HATCH_DOCKER_CA_BUNDLE"):
            env["SSL_CERT_FILE"] = environ["HATCH_DOCKER_CA_BUNDLE"]
        hidden = [*secrets, *(environ[name] for name in SECRETS if environ.get(name))]
        try:
            return run(
                ["cosign", *arguments], env=env, secrets=hidden, log=self.ctx.progress.detail, timeout=TIMEOUT
            )
        except ProcessFailed as failure:
            raise Refused(arguments[0], failure) from failure

    def flags(self, command: str) -> tuple[str, ...]:
        """What turns off the newer defaults of a command, where it has them."""
        if command not in self.helps:
            self.helps[command] = self.run(command, "--help")
        return tuple(f"--{name}=false" for name in _NOT_OURS if f"--{name}=" in self.helps[command])

    def registry(self, name: Reference) -> tuple[str, ...]:
        """What a registry needs that is spoken to in plain http; loopback goes without saying."""
        from hatch_docker.oci.remote import INSECURE

        listed = {item.strip() for item in self.ctx.environ.get(INSECURE, "").split(",")}
        return ("--allow-http-registry",) if name.registry in listed else ()

    def key(self, key: str) -> str:
        """A key as cosign takes it: a file of the project, `env://NAME`, or the address of a key store."""
        return key if _is_address(key) else str(self.root / key)


class Refused(ProgramError):
    """cosign ended with a failure; `status` is its own."""

    def __init__(self, command: str, failure: ProcessFailed) -> None:
        lines = [line for line in failure.output.splitlines() if line.startswith(("Error: ", "error during"))]
        reason = (lines or failure.output.splitlines() or ["it said nothing"])[0].removeprefix("Error: ")
        if "decryption failed" in reason:
            reason += f"; is {PASSWORD} the password of the key?"
        super().__init__(f"cosign {command}: {reason[:500]}")
        self.status = failure.status


def _check_installed(environ: Mapping[str, str]) -> None:
    if shutil.which("cosign", path=environ.get("PATH", "")) is None:
        raise ProgramError("signatures need the program cosign, which is not installed; install it")


def _is_address(key: str) -> bool:
    return "://" in key or key.startswith("pkcs11:")


def check_signing(sign: SignPlan, root: Path, environ: Mapping[str, str]) -> None:
    """Raise ConfigError or ProgramError, before anything is built, where what is pushed could not be signed."""
    _check_installed(environ)
    if not sign.key:
        if not any(all(environ.get(name) for name in names) for names in _IDENTITIES):
            raise ConfigError(
                "tool.hatch-docker.sign.keyless: this pipeline has no identity; on GitHub give the job the permission "
                "`id-token: write`, on GitLab `id_tokens: SIGSTORE_ID_TOKEN: {aud: sigstore}`, or set sign.key"
            )
    elif sign.key.startswith(_ENVIRONMENT):
        name = sign.key.removeprefix(_ENVIRONMENT)
        if not environ.get(name):
            raise ConfigError(f"tool.hatch-docker.sign.key: {name} is not set in the environment; set it to the key")
    elif not _is_address(sign.key) and not (root / sign.key).is_file():
        raise ConfigError(
            f"tool.hatch-docker.sign.key: there is no {sign.key}; `cosign generate-key-pair` makes one"
        )


def key_secrets(sign: SignPlan, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The key itself, where it is in a variable."""
    value = environ.get(sign.key.removeprefix(_ENVIRONMENT), "") if sign.key.startswith(_ENVIRONMENT) else ""
    return (value,) if value else ()


def signing_secrets(sign: SignPlan, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What signing takes that nobody may see, and what each is."""
    for name in SECRETS:
        yield f"the value of {name}", environ.get(name, "")
    for value in key_secrets(sign, environ):
        yield f"the key in {sign.key}", value


def key_identity(sign: SignPlan, root: Path, environ: Mapping[str, str]) -> str:
    """What stands for the key that signs: it changes when another key comes under the same name."""
    from hatch_docker.store import file_digest, key_of

    if not sign.key or (_is_address(sign.key) and not sign.key.startswith(_ENVIRONMENT)):
        return sign.key or "keyless"
    if secrets := key_secrets(sign, environ):
        return key_of(*secrets)
    return file_digest(root / sign.key)


