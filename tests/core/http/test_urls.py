"""Invalid and hostile URLs: forbidden redirects, and passwords in messages."""

import pytest

from hatch_docker.core.errors import RegistryError, WheelError
from hatch_docker.core.http.urls import follow, parse, redact_requirement, redact_url, split
from hatch_docker.wheels.locks.uv import _check_lines

pytestmark = pytest.mark.usefixtures("check_no_secret_leaks")


@pytest.mark.parametrize("url", [
    "https://user:hu/sh@h.example/x", "https://user:12/hush@h.example/x", "https://user:hu#hush@h.example/x",
    "https://user:hu?hush@h.example/x", "user:hush@h.example/x", "https://user:hush@h.example/x?hush=1#hush",
])  # fmt: skip
def test_unescaped_password_is_redacted(url: str) -> None:
    """Everything before the last @ is hidden, because an unescaped slash changes the parsed host."""
    assert "hu" not in redact_url(url)
    assert redact_url(url).endswith("h.example/x")
    if "/x?" not in url:
        with pytest.raises(RegistryError) as caught:
            split(url)
            raise RegistryError("a port of digits")
        assert "hu" not in str(caught.value)


@pytest.mark.parametrize("url", [
    "https://user:hu[sh@h.example/x", "https://user:hush@ex\u2100mple/x", "https://user:hu]@[sh@h.example/x",
])  # fmt: skip
def test_error_for_invalid_url_contains_no_password(url: str) -> None:
    """The standard library's errors quote the part with the password."""
    with pytest.raises(ValueError, match="is not a URL; in a password write") as caught:
        parse(url)
    assert "hu" not in str(caught.value)
    assert "hush" not in redact_requirement(f"app @ {url}; python_version > '3'")
    with pytest.raises(WheelError) as lines:
        _check_lines([f"app @ {url}"])
    assert str(lines.value).startswith("the dependency 'app @ https://***@")


def test_url_without_credentials_is_not_changed() -> None:
    for url in ("https://h.example:8080/a", "https://h.example/@scope/x", "file:///srv/a@b", "http://[::1]:80/x"):
        assert redact_url(url) == url


@pytest.mark.parametrize("host", [
    "2852039166", "0xa9fea9fe", "169.254.43518", "127.1", "0", "localhost.", "a.localhost", "[::ffff:169.254.169.254]",
    "10.0.0.1", "169.254.169.254", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[::ffff:0:a00:1]", "[fd00:ec2::254]",
    "[fe80::1]", "224.0.0.1", "100.64.0.1", "0.0.0.0", "[::]",
])  # fmt: skip
def test_private_address_is_detected_in_any_notation(host: str) -> None:
    """A resolver reads "2852039166" as 169.254.169.254 (inet_aton(3))."""
    with pytest.raises(RegistryError, match="private address"):
        follow("http://h.example/", f"http://{host}/latest")


@pytest.mark.parametrize("url", [
    r"https://evil.example\@h.example/x", r"//evil.example\@h.example/x", r"https://169.254.169.254\@evil.example/x",
    r"https://evil.example\.h.example/x",
])  # fmt: skip
def test_backslash_in_host_is_rejected(url: str) -> None:
    """For urllib everything before the last @ is a login; for urllib3 the host ends at the backslash."""
    with pytest.raises(RegistryError, match="not an http or https URL"):
        follow("https://h.example/v2/", url)
    with pytest.raises(RegistryError, match="not an http or https URL"):
        split(url)
