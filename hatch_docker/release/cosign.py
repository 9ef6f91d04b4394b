"""Running the program cosign (https://docs.sigstore.dev/cosign): flags, keys and identities, secrets.

Signatures are written under the tags `sha256-HEX.sig` and `.att`, which all verifiers read, and not as the bundles of
cosign 3. Version 3 needs flags for this format, which older versions reject. The flags are found by trying, because
some distributions build cosign without a version number, and the help of 3.1 and later does not list the flags.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hatch_docker.core.cache.store import file_digest, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, ProgramError, TransientError
from hatch_docker.core.process import ProcessFailed, run
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry import INSECURE
from hatch_docker.plan.model import SignPlan

TIMEOUT = 300.0  # seconds for one run; the transparency log may be slow
PASSWORD = "COSIGN_PASSWORD"  # noqa: S105 - a variable's name
# Variables of cosign with secret values.
SECRETS = (PASSWORD, "SIGSTORE_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "BUILDKITE_AGENT_ACCESS_TOKEN")
# Where cosign searches for an identity (its pkg/providers): variables, files, and the product name of the machine.
_IDENTITIES = (
    ("SIGSTORE_ID_TOKEN",), ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
    ("BUILDKITE_AGENT_ACCESS_TOKEN",), ("GOOGLE_SERVICE_ACCOUNT_NAME",), ("GCE_METADATA_HOST",),
)
_TOKEN = Path("/var/run/sigstore/cosign/oidc-token")
_SPIFFE = "/tmp/spire-agent/public/api.sock"  # noqa: S108 - the default path of the SPIRE agent
_PRODUCT_NAME = Path("/sys/class/dmi/id/product_name")
# Flags that disable the new format, which is the default of cosign 3, and the commands that have these flags. Older
# versions have one of them or none.
_OLD_FORMAT = ("--new-bundle-format", "--use-signing-config")
_COMMANDS = ("sign", "attest", "verify", "verify-attestation")
# Temporary errors of registries, key stores and logs, in the words of Go's network library.
_TRANSIENT = re.compile(
    r"\b(429|50[0234])\b|connection (refused|reset)|timeout|deadline exceeded|temporary failure|unexpected EOF",
    re.IGNORECASE,
)
_ENVIRONMENT = "env://"


@dataclass(frozen=True, slots=True)
class Cosign:
    """The program cosign. Paths of keys are relative to `root`, the project's directory."""

    root: Path
    ctx: Context
    unknown: set[tuple[str, str]] = field(default_factory=set, repr=False, compare=False)  # (command, unknown flag)

    def run(self, command: str, *arguments: str, secrets: Sequence[str] = ()) -> str:
        """Run a command and return its standard output. Raises CosignError with cosign's own error message."""
        while True:
            flags = [flag for flag in _OLD_FORMAT if command in _COMMANDS and (command, flag) not in self.unknown]
            try:
                return self._run(command, *(f"{flag}=false" for flag in flags), *arguments, secrets=secrets)
            except CosignError as error:
                if error.flag not in flags:
                    raise
                self.unknown.add((command, error.flag))  # nothing was done: cosign checks its flags first

    def _run(self, *arguments: str, secrets: Sequence[str]) -> str:
        environ = self.ctx.environ
        _check_installed(environ)
        env = {**environ, PASSWORD: environ.get(PASSWORD, "")}  # without the variable, cosign prompts for it
        if environ.get("HATCH_DOCKER_CA_BUNDLE"):
            env["SSL_CERT_FILE"] = environ["HATCH_DOCKER_CA_BUNDLE"]
        hidden = [*secrets, *(environ[name] for name in SECRETS if environ.get(name))]

        def log(line: str) -> None:
            if not any(flag in line for flag in _OLD_FORMAT):  # skip advice on flags that the user did not set
                self.ctx.progress.detail(line)

        try:
            return run(["cosign", *arguments], env=env, secrets=hidden, log=log, timeout=TIMEOUT)
        except ProcessFailed as failure:
            raise CosignError(arguments[0], failure, password=bool(environ.get(PASSWORD))) from failure

    def registry(self, name: Reference) -> tuple[str, ...]:
        """Return the flag for a registry with plain HTTP. For loopback addresses cosign needs no flag."""
        insecure = {item.strip() for item in self.ctx.environ.get(INSECURE, "").split(",")}
        return ("--allow-http-registry",) if name.registry in insecure else ()

    def key(self, key: str) -> str:
        """Return a key as an argument of cosign: a path, `env://NAME`, or the address of a key store."""
        return key if _is_address(key) else str(self.root / key)


class CosignError(ProgramError):
    """A failed run of cosign, with its exit status.

    `flag` is the flag that this version of cosign does not have, else "". `transient` means that a retry may succeed.
    """

    def __init__(self, command: str, failure: ProcessFailed, *, password: bool = True) -> None:
        lines = [line for line in failure.output.splitlines() if line.startswith(("Error: ", "error during"))]
        reason = (lines or failure.output.splitlines() or ["it printed nothing"])[0].removeprefix("Error: ")
        if "decryption failed" in reason:
            advice = f"is {PASSWORD} the password of the key?" if password else f"set {PASSWORD} to the key's password"
            reason += f"; {advice}"
        super().__init__(f"cosign {command}: {reason[:500]}")
        self.status = failure.status
        self.flag = reason.removeprefix("unknown flag: ") if reason.startswith("unknown flag: ") else ""
        self.transient = bool(_TRANSIENT.search(reason))
        if self.transient:
            self.exit_status = TransientError.exit_status


def _check_installed(environ: Mapping[str, str]) -> None:
    if shutil.which("cosign", path=environ.get("PATH", "")) is None:
        raise ProgramError("signatures need the program cosign, which is not installed; install it")


def _is_address(key: str) -> bool:
    return "://" in key or key.startswith("pkcs11:")


def check_signing(sign: SignPlan, root: Path, environ: Mapping[str, str]) -> None:
    """Raise ConfigError or ProgramError if cosign, the key or an identity is missing."""
    _check_installed(environ)
    if sign.key:
        check_key(sign.key, root, "tool.hatch-docker.sign.key", environ)
        return
    # Only the existence of an identity is checked, not its validity.
    found = any(all(environ.get(name) for name in names) for names in _IDENTITIES)
    found = found or _TOKEN.exists() or Path(environ.get("SPIFFE_ENDPOINT_SOCKET") or _SPIFFE).exists()
    with contextlib.suppress(OSError):
        found = found or _PRODUCT_NAME.read_bytes().startswith(b"Google")
    if not found:
        raise ConfigError(
            "tool.hatch-docker.sign.keyless: this pipeline has no identity; on GitHub give the job the permission "
            "`id-token: write`, on GitLab `id_tokens: SIGSTORE_ID_TOKEN: {aud: sigstore}`, or set sign.key"
        )


def check_key(key: str, root: Path, option: str, environ: Mapping[str, str]) -> None:
    """Raise ConfigError if the key in `option` does not exist. No request is sent to key stores."""
    if key.startswith(_ENVIRONMENT):
        name = key.removeprefix(_ENVIRONMENT)
        if not environ.get(name):
            raise ConfigError(f"{option}: {name} is not set in the environment; set it to the key")
    elif not _is_address(key) and not (root / key).is_file():
        raise ConfigError(f"{option}: there is no {key}; `cosign generate-key-pair` makes a pair")


def key_secrets(sign: SignPlan, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the contents of the key if it is in a variable (`env://NAME`), else nothing."""
    value = environ.get(sign.key.removeprefix(_ENVIRONMENT), "") if sign.key.startswith(_ENVIRONMENT) else ""
    return (value,) if value else ()


def signing_secrets(sign: SignPlan, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield description and value of each secret for signing."""
    for name in SECRETS:
        yield f"the value of {name}", environ.get(name, "")
    for value in key_secrets(sign, environ):
        yield f"the key in {sign.key}", value


def key_identity(sign: SignPlan, root: Path, environ: Mapping[str, str]) -> str:
    """Return a text that identifies the key: a digest of its contents, if it is in a file or a variable."""
    if not sign.key or (_is_address(sign.key) and not sign.key.startswith(_ENVIRONMENT)):
        return sign.key or "keyless"
    if secrets := key_secrets(sign, environ):
        return key_of(*secrets)
    return file_digest(root / sign.key)


