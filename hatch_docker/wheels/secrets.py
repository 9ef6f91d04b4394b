"""Names of files that hold secrets and belong in no image, and links that would bring one there."""

from __future__ import annotations

import os
from pathlib import Path

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


def refused_link(path: str, root: Path) -> str:
    """What a link of the project leads to that must not be taken along, "" for all else.

    Links may lead about the repository, not out of it, or whoever wrote one could take the user's own files. What
    `force-include` names outside of the project was named by the project's own hand.
    """
    real, here = os.path.realpath(path), os.path.abspath(path)  # noqa: PTH100 - links are not to be followed in one
    if not here.startswith(f"{root}{os.sep}") or real == os.path.realpath(root) + here.removeprefix(str(root)):
        return ""
    top = os.path.realpath(next((place for place in (root, *root.parents) if (place / ".git").exists()), root))
    if not Path(real).is_relative_to(top):
        return "a place outside of the project"
    part = secret_part(os.path.relpath(real, top))
    return f"{part}, which looks like a secret" if part else ""
