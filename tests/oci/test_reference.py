"""References to images: parsing like Docker."""

import pytest

from hatch_docker.core.errors import ImageError
from hatch_docker.oci.reference import Reference, parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(("text", "expected"), [
    ("python", Reference("docker.io", "library/python", "latest")),
    ("python:3.13-slim", Reference("docker.io", "library/python", "3.13-slim")),
    ("docker.io/python", Reference("docker.io", "library/python", "latest")),
    ("index.docker.io/python", Reference("docker.io", "library/python", "latest")),
    ("team/app", Reference("docker.io", "team/app", "latest")),
    ("team/app/part:1", Reference("docker.io", "team/app/part", "1")),
    ("registry.example/app", Reference("registry.example", "app", "latest")),
    ("registry.example:5000/team/app:V1_2.3-x", Reference("registry.example:5000", "team/app", "V1_2.3-x")),
    ("localhost/app", Reference("localhost", "app", "latest")),
    ("localhost:5000/app", Reference("localhost:5000", "app", "latest")),
    ("127.0.0.1:5000/a__b-c.d", Reference("127.0.0.1:5000", "a__b-c.d", "latest")),
    ("[::1]:5000/app", Reference("[::1]:5000", "app", "latest")),
    ("Registry/app", Reference("Registry", "app", "latest")),
    (f"app@{DIGEST}", Reference("docker.io", "library/app", "", DIGEST)),
    (f"registry.example:5000/app:1@{DIGEST}", Reference("registry.example:5000", "app", "1", DIGEST)),
])  # fmt: skip
def test_parse_reference(text: str, expected: Reference) -> None:
    """The full name and the familiar name are parsed to the same reference."""
    found = parse_reference(text)
    assert found == expected
    assert parse_reference(str(found)) == found
    assert parse_reference(found.familiar) == found


@pytest.mark.parametrize(("text", "reason"), [
    ("", "is not a repository"),
    ("App", "lower case: 'library/app'"),
    ("team/App", "lower case: 'team/app'"),
    ("app:", "'' is not a tag"),
    ("app:.x", "'.x' is not a tag"),
    ("app:" + "x" * 129, "is not a tag"),
    ("app:a b", "is not a tag"),
    ("app@sha256:12", "is not a digest"),
    (f"app@{DIGEST.upper()}", "is not a digest"),
    ("app@", "is not a digest"),
    ("a//b", "is not a repository"),
    ("/a", "is not a"),
    ("a/", "is not a repository"),
    ("a-/b", "is not a repository"),
    ("a___b", "is not a repository"),
    ("registry.example:port/app", "is not a registry"),
    ("registry.example:65536/app", "host name and port"),
    ("registry_.example/app", "is not a registry"),
    ("https://registry.example/app", "is not a"),
    ("user:secret@registry.example/app", "is not a digest"),
    ("a/" * 130 + "a", "is not a repository"),
    ("app\n", "is not a repository"),
    ("a" * 300_000, "more than 512 characters"),
    ("a-" * 255, "is not a repository"),
])  # fmt: skip
def test_invalid_reference_is_rejected(text: str, reason: str) -> None:
    """The error is short and names the wrong part, but no password."""
    with pytest.raises(ImageError, match=reason) as caught:
        parse_reference(text)
    assert len(str(caught.value)) < 1200
    assert "secret" not in str(caught.value)


def test_pinned_reference_has_only_the_digest() -> None:
    assert str(parse_reference("registry.example/app:1").pinned(DIGEST)) == f"registry.example/app@{DIGEST}"
