"""All errors for users. The message is one sentence: what failed, on what, and what to try next.

Any other exception is a bug in hatch-docker and keeps its traceback.
"""

from __future__ import annotations


class HatchDockerError(Exception):
    """A mistake of the user, or a failure of another system. `str(error)` is printed without a traceback."""

    exit_status = 1
    section = "troubleshooting"
    """Fragment (anchor) of the section in docs/troubleshooting.md."""


class _LineError(HatchDockerError):
    """An error whose message is always one line: line breaks, such as in untrusted file names, are escaped."""

    def __init__(self, message: str) -> None:
        super().__init__("\\n".join(message.splitlines()))


class ConfigError(HatchDockerError):
    """[tool.hatch-docker], the project's metadata or a HATCH_DOCKER_* variable is wrong."""

    section = "configuration"


class BaseImageError(HatchDockerError):
    """The base image cannot be made or read, or does not suit the project."""

    section = "bases"


class WheelError(_LineError):
    """A lock, a resolution, a wheel or an sdist cannot be used."""

    section = "dependencies"


class BuildError(HatchDockerError):
    """The builder stage or the check of the image failed."""

    section = "the-builder-stage"


class SandboxError(BuildError):
    """The kernel denies an operation of the sandbox."""

    section = "the-sandbox"


class ImageError(_LineError):
    """An image, layer, layout or archive does not follow its specification."""

    section = "invalid-images-and-archives"


class SecretError(_LineError):
    """An output of the build contains a secret."""


class SignatureError(HatchDockerError):
    """An image has no signature, or none of the expected signer."""

    section = "signing"


class RegistryError(HatchDockerError):
    """A request to a registry, an index or a mirror failed permanently."""

    section = "registries"

    def with_message(self, message: str) -> RegistryError:
        """Return an error of the same class (offline, transient or neither) with another message."""
        kinds = (kind for kind in (OfflineError, TransientError) if isinstance(self, kind))
        return next(kinds, RegistryError)(message)


class TransientError(RegistryError):
    """A server failed repeatedly. The same request may succeed later."""

    exit_status = 75  # EX_TEMPFAIL


class OfflineError(TransientError):
    """The cache lacks an entry, and HATCH_DOCKER_OFFLINE forbids network access."""

    exit_status = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(message or "the cache does not have it, and HATCH_DOCKER_OFFLINE forbids network access")


class DaemonError(HatchDockerError):
    """Docker or Podman failed."""

    section = "docker-podman-buildkit"


class LostError(DaemonError):
    """A builder, or the connection to it, was lost during a build."""

    exit_status = 75


class ProgramError(HatchDockerError):
    """A program is missing or failed."""


class StoreError(HatchDockerError):
    """The cache or an output directory cannot be used."""

    section = "cache-and-disk"
