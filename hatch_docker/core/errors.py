"""All errors of this program, as help text: one line that says what failed, on what, and what to try next.

Any other exception is a bug in hatch-docker and keeps its traceback.
"""

from __future__ import annotations


class HatchDockerError(Exception):
    """The user's mistake, or a failure around us; `str(error)` is the whole message, shown without a traceback."""

    exit_status = 1
    section = "troubleshooting"
    """The section of docs/troubleshooting.md, as a fragment."""


class _LineError(HatchDockerError):
    """A failure that is told in one line, whatever the names of a stranger's files are."""

    def __init__(self, message: str) -> None:
        super().__init__("\\n".join(message.splitlines()))


class ConfigError(HatchDockerError):
    """[tool.hatch-docker], the project's metadata or a HATCH_DOCKER_* variable is wrong."""

    section = "configuration"


class BaseImageError(HatchDockerError):
    """The base cannot be made or read, or does not fit the project."""

    section = "bases"


class WheelError(_LineError):
    """A lock, a resolution, a wheel or an sdist cannot be used."""

    section = "dependencies"


class BuildError(HatchDockerError):
    """The builder stage or the check ran and failed."""

    section = "the-builder-stage"


class SandboxError(BuildError):
    """The kernel refuses what the sandbox needs."""

    section = "the-sandbox"


class ImageError(_LineError):
    """An image, layer, layout or archive breaks its specification."""

    section = "images-that-are-not-as-they-should-be"


class SecretError(_LineError):
    """A secret that the build used is in what it made."""


class SignatureError(HatchDockerError):
    """An image is not signed, or not by the expected signer."""

    section = "signing"


class RegistryError(HatchDockerError):
    """A registry, an index or a mirror refused a request."""

    section = "registries"

    def with_message(self, message: str) -> RegistryError:
        """Return the same kind of error, transient or not, with another message."""
        kinds = (kind for kind in (OfflineError, TransientError) if isinstance(self, kind))
        return next(kinds, RegistryError)(message)


class TransientError(RegistryError):
    """A remote kept failing in a way that may pass: try again later."""

    exit_status = 75  # EX_TEMPFAIL


class OfflineError(TransientError):
    """The cache does not suffice, and HATCH_DOCKER_OFFLINE forbids network access."""

    exit_status = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(message or "the cache does not have it, and HATCH_DOCKER_OFFLINE forbids network access")


class DaemonError(HatchDockerError):
    """Docker or Podman failed."""

    section = "docker-podman-buildkit"


class LostError(DaemonError):
    """A builder ended, or the connection to it, while it built."""

    exit_status = 75


class ProgramError(HatchDockerError):
    """A program is missing or failed."""


class StoreError(HatchDockerError):
    """The cache or an output directory cannot be used."""

    section = "cache-and-disk"
