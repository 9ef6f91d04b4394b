"""Secrets of a build: they are found in all outputs, and an output with a secret is not stored."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import pytest

from hatch_docker.core.errors import RegistryError, SecretError
from hatch_docker.core.secrets import Secrets
from hatch_docker.engines.common import logins
from hatch_docker.engines.layer_cache import layer_by_key, search_layers
from hatch_docker.oci.layer import Compression, Entry, layer_entries
from hatch_docker.oci.model import Layer
from hatch_docker.project.model import Project
from hatch_docker.release.attachments import check_secrets, make_documents
from hatch_docker.release.push import add_push_secrets
from tests.fakes.bases import directory, file, link
from tests.fakes.context import context
from tests.fakes.package_index import make_wheel
from tests.fakes.sbom_images import plan, plan_and_image

VALUE = "pa/ss\"wörd +\\x"
GZIP = Compression()
ENCODINGS = {
    "as it is": VALUE.encode(), "in a URL": quote(VALUE, safe="").encode(), "in a path": quote(VALUE).encode(),
    "in JSON": json.dumps(VALUE).encode(), "in JSON of today": json.dumps(VALUE, ensure_ascii=False).encode(),
    "in Python": repr(VALUE).encode(), "in base64": base64.b64encode(VALUE.encode()),
    "in a login": base64.b64encode(f"user:{VALUE}".encode()),
    "in another login": base64.b64encode(f"users:{VALUE}!".encode()),
    "in a token": base64.urlsafe_b64encode(f"us:{VALUE}".encode()),
    "in hexadecimal": VALUE.encode().hex().encode(), "in capital hexadecimal": VALUE.encode().hex().upper().encode(),
    "in UTF-16": VALUE.encode("utf-16-le"), "in UTF-16, big end first": VALUE.encode("utf-16-be"),
    **{f"in base32 after {size} bytes": base64.b32encode(bytes(size) + VALUE.encode() + b"!") for size in range(5)},
}  # fmt: skip
BODY = base64.encodebytes(bytes(range(7, 200))).decode()
KEYS = {label: f"-----BEGIN {label}-----\n{BODY}-----END {label}-----\n" for label in ("PRIVATE KEY", "CERTIFICATE")}


def secrets(value: str = VALUE, others: int = 0) -> Secrets:
    known = Secrets()
    for number in range(others):
        known.add("another value", hashlib.sha256(bytes([number])).hexdigest()[: 10 + number])
    known.add("the value of TOKEN", value)
    return known


@pytest.mark.parametrize("others", [0, 30])
@pytest.mark.parametrize("how", ENCODINGS)
def test_secret_is_found_in_any_encoding(how: str, others: int) -> None:
    """With any text before and after it; with one secret and with many."""
    with pytest.raises(SecretError, match=r"^the value of TOKEN is in the manifest: nothing is written or pushed"):
        secrets(others=others).check("the manifest", b"before " + ENCODINGS[how] + b" after")


@pytest.mark.parametrize("before", range(25))
def test_secret_is_found_at_any_offset(before: int) -> None:
    """With many secrets, aligned words are compared first."""
    long = VALUE * 4
    for value, form in ((long, long.encode()), (long, long.encode().hex().encode()), (VALUE, ENCODINGS["in UTF-16"])):
        with pytest.raises(SecretError, match="the value of TOKEN"):
            secrets(value, others=30).check("a file", bytes(before) + form + b"ab")
        secrets(value, others=30).check("a file", bytes(before) + form[:-3] + b"xb")


def test_lines_of_a_private_key_are_found() -> None:
    """A single line, indented (YAML), or with line breaks as `\\n` (JSON). Lines of a certificate are no secret."""
    line = BODY.splitlines()[1]
    for value in (KEYS["PRIVATE KEY"], json.dumps({"private_key": KEYS["PRIVATE KEY"]})):
        for text in (f"    {line}\n", f"-----BEGIN PRIVATE KEY-----\r\n  {line}\r\n", json.dumps(KEYS["PRIVATE KEY"])):
            with pytest.raises(SecretError):
                secrets(value).check("a file", text.encode())
        secrets(value).check("a file", b"-----BEGIN PRIVATE KEY-----")
    secrets(KEYS["CERTIFICATE"]).check("a file", line.encode())
    openssh = KEYS["PRIVATE KEY"].replace("PRIVATE", "OPENSSH PRIVATE")
    secrets(openssh).check("a file", BODY.splitlines()[0].encode())  # the same in all keys of one kind


@pytest.mark.parametrize("how", ENCODINGS)
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_secret_across_pieces_is_found(how: str, size: int) -> None:
    watch = secrets().search()
    assert watch is not None
    feed = watch("srv/config")
    data = bytes(100) + ENCODINGS[how] + bytes(100)
    with pytest.raises(SecretError, match=r"is in /srv/config of the image"):
        for start in range(0, len(data), size):
            feed(data[start : start + size])


def test_similar_and_short_values_are_not_found() -> None:
    """Values under six characters are ignored: any file may contain them by chance."""
    secrets().check("a file", VALUE[:-1].encode() + b" and more " + VALUE[1:].encode())
    short = secrets("12345")
    assert short.search() is None
    short.check("a file", b"12345")
    assert VALUE not in repr(secrets())


def test_final_newline_of_a_secret_is_ignored() -> None:
    with pytest.raises(SecretError):
        secrets("several\nlines of it\n").check("a file", b'{"key": "several\\nlines of it"}')


def test_sources_are_called_once_at_the_first_search() -> None:
    """A source that fails has no values."""
    calls: list[str] = []

    def source() -> Iterator[tuple[str, str]]:
        calls.append("source")
        yield "the login", VALUE

    def broken() -> Iterator[tuple[str, str]]:
        raise RegistryError("no helper")
        yield

    known = Secrets()
    known.add_source("one", source)
    known.add_source("one", source)
    known.add_source("two", broken)
    known.check("a file", VALUE.encode())
    assert calls == []
    assert known.search() is not None
    assert known.search() is not None
    assert calls == ["source"]


def cached_files(root: Path) -> list[Path]:
    """Return all files in the cache except locks and the marks of a cache directory."""
    marks = ("CACHEDIR.TAG", ".gitignore")
    files = (path for path in root.rglob("*") if path.is_file() and path.parent.name != "locks")
    return [path for path in files if path.name not in marks]


@pytest.mark.parametrize(
    "entry",
    [
        file("srv/app.py", f"KEY = '{VALUE}'"), file(f"srv/{quote(VALUE, safe='')}"), link("srv/x", quote(VALUE)),
        Entry("srv/big", "file", 0o644, 0, size=1 << 20, content=Path("big")),
    ],
    ids=["a file", "a name", "a link", "a large file"],
)  # fmt: skip
def test_layer_with_a_secret_is_not_stored(entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file. The next build makes the layer again, and fails again."""
    monkeypatch.chdir(tmp_path)
    data = VALUE.encode()
    Path("big").write_bytes(bytes((1 << 18) - 3) + data + bytes((1 << 20) - (1 << 18) + 3 - len(data)))
    ctx = context(tmp_path / "cache")
    ctx.secrets.add("the value of TOKEN", VALUE)
    for _ in range(2):
        with pytest.raises(SecretError, match=rf"^the value of TOKEN is in /{entry.path} of the image"):
            layer_by_key("key", GZIP, ctx, lambda: [directory("srv"), entry])
    assert cached_files(tmp_path / "cache") == []


def layer_search(root: Path, layer: Layer) -> Callable[..., int]:
    """Return a function that searches a layer in a new build, and returns how often it opened the layer.

    The function takes a value of TOKEN, and values of sources by name.
    """

    def search(value: str = "", **sources: str) -> int:
        opened: list[bool] = []

        def open_it() -> BinaryIO:
            opened.append(True)
            return layer.open()

        ctx = context(root)
        if value:
            ctx.secrets.add("the value of TOKEN", value)
        for name, word in sources.items():
            ctx.secrets.add_source(name, lambda word=word: [("the login", word)])
        search_layers([replace(layer, open=open_it)], ctx)
        return len(opened)

    return search


def test_cached_layer_is_searched_once_for_each_set_of_secrets(tmp_path: Path) -> None:
    """The cache contains no values, and a layer with a secret is removed."""
    layer, _ = layer_by_key("key", GZIP, context(tmp_path), lambda: [file("srv/app.py", f"KEY = '{VALUE}'")])
    search = layer_search(tmp_path, layer)
    assert [search(one="another-word") for _ in range(2)] == [1, 0]
    with pytest.raises(SecretError, match=r"^the login is in /srv/app\.py of the image"):
        search(two=VALUE)
    assert not any(b"another-word" in path.read_bytes() for path in cached_files(tmp_path))
    ctx = context(tmp_path)
    assert not ctx.store.has(layer.descriptor.digest)
    ctx.secrets.add_source("three", lambda: [("the login", VALUE)])
    search_layers([layer], ctx, {layer.descriptor.digest})  # made in this build, which has searched it already


def test_cached_layer_is_searched_for_a_new_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache contains neither a value nor its plain hash, by which a value could be guessed."""
    layer, _ = layer_by_key("key", GZIP, context(tmp_path), lambda: [file("srv/app.py", f"KEY = '{VALUE}'")])
    search = layer_search(tmp_path, layer)
    assert [search(value) for value in ("word-one", "word-one", "word-two", "word-one")] == [1, 0, 1, 0]
    hashed = hashlib.sha256(b"word-one").hexdigest().encode()
    assert not any(text in path.read_bytes() for path in cached_files(tmp_path) for text in (b"word-one", hashed[:16]))
    monkeypatch.setattr("hatch_docker.core.secrets._key", lambda: b"of another start of the machine")
    assert [search("word-one") for _ in range(2)] == [1, 0]
    with pytest.raises(SecretError, match=r"^the value of TOKEN is in /srv/app\.py of the image"):
        search(VALUE)


def test_cached_layer_is_searched_for_a_new_registry_password(tmp_path: Path) -> None:
    layer, _ = layer_by_key("key", GZIP, context(tmp_path), lambda: [file("srv/app.py", f"KEY = '{VALUE}'")])

    def search(password: str) -> None:
        entry = {"auth": base64.b64encode(f"me:{password}".encode()).decode()}
        (tmp_path / "config.json").write_text(json.dumps({"auths": {"registry.example": entry}}))
        ctx = context(tmp_path, DOCKER_CONFIG=str(tmp_path))
        add_push_secrets(["registry.example/app"], None, ctx)
        search_layers([layer], ctx)

    search("word-one")
    with pytest.raises(SecretError, match=r"^the password of registry\.example is in /srv/app\.py of the image"):
        search(VALUE)


def test_setuid_bits_are_removed_from_layers(tmp_path: Path) -> None:
    """Setgid bits, too. The sticky bit of /tmp is kept."""
    entries = [directory("tmp", 0o1777), directory("mail", 0o2775), file("su", b"", 0o4755), file("wall", b"", 0o2755)]
    layer, _ = layer_by_key("key", GZIP, context(tmp_path), lambda: entries)
    modes = {entry.path: entry.mode for entry, _ in layer_entries(layer)}
    assert modes == {"tmp": 0o1777, "mail": 0o775, "su": 0o755, "wall": 0o755}


def test_documents_are_searched_for_secrets(tmp_path: Path) -> None:
    """New documents for all secrets, known documents only for secrets that need no call of a source."""
    made, built = plan_and_image(context(tmp_path / "cache"))

    def check(word: str) -> None:
        ctx = context(tmp_path / "cache")
        ctx.secrets.add_source("source", lambda: [("the login", word)])
        check_secrets(built.image, [built], make_documents(made, built.image, [built], source, ctx), ctx)

    source = Project(tmp_path, Path, Path)
    with pytest.raises(SecretError, match=r"^the login is in my_app-1\.2\.3\.cdx\.json"):
        check("GNU Libc Maintainers")
    with pytest.raises(SecretError, match=r"^the login is in my_app-1\.2\.3\.provenance\.json"):
        check("externalParameters")

    def matching_blobs() -> list[Path]:
        return [path for path in (tmp_path / "cache").rglob("blobs/*") if b"GNU Libc Maintainers" in path.read_bytes()]

    assert matching_blobs() == []
    check("what is in none of them")
    assert len(matching_blobs()) == 1
    check("another word")
    ctx = context(tmp_path / "cache")
    ctx.secrets.add("the value of TOKEN", "hatch-docker")
    with pytest.raises(SecretError, match="the value of TOKEN is in the manifest"):
        ctx.secrets.check("the manifest", b"hatch-docker")
    ctx.secrets.add("the value of TOKEN", json.loads(built.image.config)["rootfs"]["diff_ids"][0])
    with pytest.raises(SecretError, match="the value of TOKEN is in the configuration of sha256:"):
        check_secrets(built.image, [built], (), ctx)


def test_wheel_with_a_secret_is_rejected(tmp_path: Path) -> None:
    name, data = make_wheel("app", "1.0", files={"app/key.py": f"KEY = {VALUE!r}".encode()})
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SecretError, match=r"is in /app/key\.py of the image"):
        secrets().check_wheel(tmp_path / name)
    secrets("something else").check_wheel(tmp_path / name)
    (tmp_path / name).write_bytes(b"no zip")
    secrets().check_wheel(tmp_path / name)


def test_logins_of_a_build(tmp_path: Path) -> None:
    """Passwords of indexes, netrc, mirrors and proxies. A user name counts only if there is no password (a token)."""
    (tmp_path / "netrc").write_text("machine files.example login me password netrc-word\n")
    environ = {
        "NETRC": str(tmp_path / "netrc"), "HTTPS_PROXY": "http://me:proxy%2Fword@proxy.example", "HOME": str(tmp_path),
        "UV_INDEX": "https://me:index-word@i.example/simple https://only-token@t.example/simple",
    }  # fmt: skip
    made = plan({"base": "debian:trixie", "debian": {"mirror": "https://me:mirror-word@m.example/debian"}})
    found = {value: what for what, value in logins(made, tmp_path, environ) if value}
    assert set(found) == {"netrc-word", "proxy/word", "mirror-word", "index-word", "only-token"}
    assert found["index-word"] == "the login of the index https://i.example/simple"
