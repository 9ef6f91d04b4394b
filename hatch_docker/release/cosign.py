"""cosign as we run it: which flags, whose identity, what it may not show. Its version decides nothing, its flags do.

https://docs.sigstore.dev/cosign. Of 2 and 3 alike the signatures that every verifier reads are asked for (tags
`sha256-HEX.sig` and `.att`), not 3's bundles; distributions build it without a version, and since 3.1 its help does
not name the flags any more.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.core.errors import ConfigError, ProgramError, TransientError
from hatch_docker.core.process import ProcessFailed, run

if TYPE_CHECKING:
    from hatch_docker.core.context import Context
    from hatch_docker.oci.reference import Reference
    from hatch_docker.plan.model import SignPlan

TIMEOUT = 300.0  # seconds of one run; the transparency log may be slow
PASSWORD = "COSIGN_PASSWORD"  # noqa: S105 - a variable's name
# Variables whose values cosign reads and nobody else may see.
SECRETS = (PASSWORD, "SIGSTORE_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "BUILDKITE_AGENT_ACCESS_TOKEN")
# Where cosign looks for an identity (its pkg/providers): variables, files, and who made the machine.
_IDENTITIES = (
    ("SIGSTORE_ID_TOKEN",), ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
    ("BUILDKITE_AGENT_ACCESS_TOKEN",), ("GOOGLE_SERVICE_ACCOUNT_NAME",), ("GCE_METADATA_HOST",),
)
_TOKEN = Path("/var/run/sigstore/cosign/oidc-token")
_SPIFFE = "/tmp/spire-agent/public/api.sock"  # noqa: S108 - where its agent has it
_MAKER = Path("/sys/class/dmi/id/product_name")
# Defaults of 3 that change the format, and whose commands have them; older versions know none or one.
_NOT_OURS = ("--new-bundle-format", "--use-signing-config")
_COMMANDS = ("sign", "attest", "verify", "verify-attestation")
# Of its registry, key store or log, as Go's network library says it.
_PASSING = re.compile(
    r"\b(429|50[0234])\b|connection (refused|reset)|timeout|deadline exceeded|temporary failure|unexpected EOF",
    re.IGNORECASE,
)
_ENVIRONMENT = "env://"


@dataclass(frozen=True, slots=True)
class Cosign:
    """The program, with the project's directory, which a key's path is relative to."""

    root: Path
    ctx: Context
    unknown: set[tuple[str, str]] = field(default_factory=set, repr=False, compare=False)  # flags it refused

    def run(self, command: str, *arguments: str, secrets: Sequence[str] = ()) -> str:
        """One run, its standard output; raises Refused, whose text is cosign's own line of the failure."""
        while True:
            ours = [flag for flag in _NOT_OURS if command in _COMMANDS and (command, flag) not in self.unknown]
            try:
                return self._run(command, *(f"{flag}=false" for flag in ours), *arguments, secrets=secrets)
            except Refused as refused:
                if refused.flag not in ours:
                    raise
                self.unknown.add((command, refused.flag))  # which it says before it does anything

    def _run(self, *arguments: str, secrets: Sequence[str]) -> str:
        environ = self.ctx.environ
        _check_installed(environ)
        env = {**environ, PASSWORD: environ.get(PASSWORD, "")}  # unset, it would ask a terminal
        if environ.get("HATCH_DOCKER_CA_BUNDLE"):
            env["SSL_CERT_FILE"] = environ["HATCH_DOCKER_CA_BUNDLE"]
        hidden = [*secrets, *(environ[name] for name in SECRETS if environ.get(name))]

        def tell(line: str) -> None:
            if not any(flag in line for flag in _NOT_OURS):  # which are for us to know, or out of date
                self.ctx.progress.detail(line)

        try:
            return run(["cosign", *arguments], env=env, secrets=hidden, log=tell, timeout=TIMEOUT)
        except ProcessFailed as failure:
            raise Refused(arguments[0], failure, password=bool(environ.get(PASSWORD))) from failure

    def registry(self, name: Reference) -> tuple[str, ...]:
        """What a registry needs that is spoken to in plain http; loopback goes without saying."""
        from hatch_docker.oci.registry import INSECURE

        listed = {item.strip() for item in self.ctx.environ.get(INSECURE, "").split(",")}
        return ("--allow-http-registry",) if name.registry in listed else ()

    def key(self, key: str) -> str:
        """A key as cosign takes it: a file of the project, `env://NAME`, or the address of a key store."""
        return key if _is_address(key) else str(self.root / key)


class Refused(ProgramError):
    """cosign ended with a failure, its `status`; `flag` is one that it does not know; `passing` ones may do later."""

    def __init__(self, command: str, failure: ProcessFailed, *, password: bool = True) -> None:
        lines = [line for line in failure.output.splitlines() if line.startswith(("Error: ", "error during"))]
        reason = (lines or failure.output.splitlines() or ["it said nothing"])[0].removeprefix("Error: ")
        if "decryption failed" in reason:
            told = f"is {PASSWORD} the password of the key?" if password else f"set {PASSWORD} to the key's password"
            reason += f"; {told}"
        super().__init__(f"cosign {command}: {reason[:500]}")
        self.status = failure.status
        self.flag = reason.removeprefix("unknown flag: ") if reason.startswith("unknown flag: ") else ""
        self.passing = bool(_PASSING.search(reason))
        if self.passing:
            self.exit_status = TransientError.exit_status


def _check_installed(environ: Mapping[str, str]) -> None:
    if shutil.which("cosign", path=environ.get("PATH", "")) is None:
        raise ProgramError("signatures need the program cosign, which is not installed; install it")


def _is_address(key: str) -> bool:
    return "://" in key or key.startswith("pkcs11:")


def check_signing(sign: SignPlan, root: Path, environ: Mapping[str, str]) -> None:
    """Raise ConfigError or ProgramError, before anything is built, where what is pushed could not be signed."""
    _check_installed(environ)
    if not sign.key:
        if not _has_identity(environ):
            raise ConfigError(
                "tool.hatch-docker.sign.keyless: this pipeline has no identity; on GitHub give the job the permission "
                "`id-token: write`, on GitLab `id_tokens: SIGSTORE_ID_TOKEN: {aud: sigstore}`, or set sign.key"
            )
    else:
        check_key(sign.key, root, "tool.hatch-docker.sign.key", environ)


def _has_identity(environ: Mapping[str, str]) -> bool:
    """Whether cosign may find one; whether that is any good it finds out itself."""
    if any(all(environ.get(name) for name in names) for names in _IDENTITIES):
        return True
    if _TOKEN.exists() or Path(environ.get("SPIFFE_ENDPOINT_SOCKET") or _SPIFFE).exists():
        return True
    with contextlib.suppress(OSError):
        return _MAKER.read_bytes().startswith(b"Google")
    return False


def check_key(key: str, root: Path, option: str, environ: Mapping[str, str]) -> None:
    """Raise ConfigError where a key is not where an option says; what others keep only they know."""
    if key.startswith(_ENVIRONMENT):
        name = key.removeprefix(_ENVIRONMENT)
        if not environ.get(name):
            raise ConfigError(f"{option}: {name} is not set in the environment; set it to the key")
    elif not _is_address(key) and not (root / key).is_file():
        raise ConfigError(f"{option}: there is no {key}; `cosign generate-key-pair` makes a pair")


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
    from hatch_docker.core.cache.store import file_digest, key_of

    if not sign.key or (_is_address(sign.key) and not sign.key.startswith(_ENVIRONMENT)):
        return sign.key or "keyless"
    if secrets := key_secrets(sign, environ):
        return key_of(*secrets)
    return file_digest(root / sign.key)


