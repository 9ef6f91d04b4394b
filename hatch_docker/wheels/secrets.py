"""Names of files that hold secrets and belong in no image."""

from __future__ import annotations

_NAMES = frozenset({
    ".netrc", "_netrc", ".pypirc", ".git-credentials", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", ".npmrc",
    ".pgpass", ".htpasswd", ".vault-token", "cosign.key",
})
# Directories of which everything is the user's own.
_DIRECTORIES = frozenset({".git", ".ssh", ".gnupg", ".aws", ".docker", ".kube"})
_HARMLESS = (".example", ".sample", ".template", ".dist")


def looks_secret(name: str) -> bool:
    """Whether a file of this name is one that people keep secrets in: `.env`, `id_rsa`, `.netrc`, ..."""
    name = name.lower()
    environment = name == ".env" or name.startswith(".env.")
    return name in _NAMES or (environment and not name.endswith(_HARMLESS))


def secret_part(path: str) -> str:
    """The first part of a path that looks secret, or is a directory of secrets (`.git`, `.ssh`); "" if none does."""
    parts = path.split("/")
    return next((part for part in parts if part in _DIRECTORIES or looks_secret(part)), "")
