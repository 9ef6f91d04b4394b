"""Names of files that hold secrets and belong in no image."""

from __future__ import annotations

_NAMES = frozenset({
    ".netrc", ".pypirc", ".git-credentials", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519",
})
_HARMLESS = (".example", ".sample", ".template", ".dist")


def looks_secret(name: str) -> bool:
    """Whether a file of this name is one that people keep secrets in: `.env`, `id_rsa`, `.netrc`, ..."""
    environment = name == ".env" or name.startswith(".env.")
    return name in _NAMES or (environment and not name.endswith(_HARMLESS))
