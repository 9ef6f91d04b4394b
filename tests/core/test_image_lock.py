"""The image lock: the file format, builds without requests, and messages for outdated locks."""

import os
import random
import shutil
import tarfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uv
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_docker.bases.debian.base import make_debian_base
from hatch_docker.bases.model import Base
from hatch_docker.bases.open import open_base
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, ConfigError, RegistryError
from hatch_docker.core.image_lock import (
    Entry,
    image_lock_changes,
    image_lock_toml,
    make_image_lock,
    parse_image_lock,
    question_of,
    read_image_lock,
)
from hatch_docker.oci.layer import Compression
from hatch_docker.oci.layout import write_layout
from hatch_docker.oci.model import Image, Platform
from hatch_docker.plan.model import BasePlan, LockPlan
from hatch_docker.project.hatch import hatchling_project, open_hatchling
from hatch_docker.project.sources import Source
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.locks.pin import _without_login, pin
from hatch_docker.wheels.target import Target
from tests.conftest import need
from tests.fakes.bases import BOTH, publish, python_image
from tests.fakes.context import context
from tests.fakes.debian_archive import FakeArchive, serving
from tests.fakes.images import small_index
from tests.fakes.package_index import FakeIndex, make_wheel
from tests.fakes.registry import FakeRegistry
from tests.fakes.repositories import commit_all, make_repository
from tests.projects import git, write_project

AMD64 = Platform("linux", "amd64")
TARGET = Target("3.13.5", AMD64, ("glibc", "2.41"))
UV = str(uv.find_uv_bin())
SHA = "0123456789abcdef" * 4
PLACE = {"platform": "linux/amd64", "python": "3.13.5", "libc": "glibc 2.41"}


def deb(name: str, version: str, sha256: str = SHA) -> dict[str, Any]:
    path = f"pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb"
    return {"name": name, "version": version, "architecture": "amd64", "archive": "main", "path": path, "size": 7,
            "sha256": sha256}  # fmt: skip


def debian(*packages: dict[str, Any], **fields: Any) -> tuple[str, Entry]:
    entry = {"for": "runtime", "suite": "trixie", "architecture": "amd64", "slim": True, "asked": ["libpq5"]}
    return "debian", {**entry, "as-of": "2026-01-02T03:04:05Z", "packages": list(packages), **fields}


def requirements(*asked: str, version: str = "1.0", **fields: Any) -> tuple[str, Entry]:
    file = {"name": "a", "version": version, "file": f"a-{version}-py3-none-any.whl", "url": "https://x.example/a.whl",
            "sha256": SHA, "size": 3, "uploaded": "2026-01-02T03:04:05Z"}  # fmt: skip
    return "requirements", {**PLACE, "asked": list(asked), "files": [file], **fields}


def base(name: str = "python:3.13-slim", digest: str = "sha256:" + SHA, image: str = "") -> tuple[str, Entry]:
    return "base", {"name": name, "digest": digest, "platforms": [{"digest": image or digest, **PLACE}]}


ENTRIES = [
    base(), base("debian:trixie"), debian(deb("libpq5", "17.1")), requirements("a>=1", 'b; python_version < "4"'),
    debian(deb("gcc", "14"), **{"for": "builder", "asked": [f"package-{number}" for number in range(20)]}),
]  # fmt: skip


def test_file_is_deterministic_and_round_trips() -> None:
    """TOML with one line for each package. The order of the entries does not matter."""
    text = image_lock_toml(ENTRIES)
    assert text.startswith(b"# Written by `hatch-docker lock`")
    shuffled = list(ENTRIES)
    for seed in range(5):
        random.Random(seed).shuffle(shuffled)
        assert image_lock_toml(shuffled) == text
    assert image_lock_toml(parse_image_lock(text, "x.lock")) == text
    assert tomllib.loads(text.decode())["debian"][1]["packages"] == [deb("libpq5", "17.1")]
    (line,) = [line for line in text.decode().splitlines() if "libpq5_17.1" in line]
    assert line.startswith('    { name = "libpq5", version = "17.1"')


@pytest.mark.parametrize(("old", "new", "place"), [
    (f"sha256:{SHA}", f"sha512:{SHA}", "base[0].digest"),
    ("pool/main/l/", "../main/l/", "packages[0].path"),
    ("pool/main/l/", "/pool/l/", "packages[0].path"),
    ("pool/main/l/", "pool/../../l/", "packages[0].path"),
    ("size = 7", 'size = "7"', "packages[0].size"),
    ("size = 7", "size = -7", "packages[0].size"),
    ("https://x.example", "ftp://x.example", "files[0].url"),
    ("a-1.0-py3", "../a-1.0-py3", "files[0].file"),
    ('name = "a"', 'name = "../a"', "files[0].name"),
    ('suite = "trixie"', "suite = 3", "suite"),
    ('for = "runtime"', 'for = "ever"', "for"),
    ('asked = ["libpq5"]', 'asked = "libpq5"', "asked"),
    ('libc = "glibc 2.41"', 'libc = "glibc\\n2.41"', "libc"),
    ('libc = "glibc 2.41"', 'libcc = "glibc 2.41"', "not as"),
    ('python = "3.13.5"', 'python = "three"', "python"),
    ('platform = "linux/amd64"', 'platform = "Linux"', "platform"),
    ("2026-01-02T03:04:05Z", "2026-02-30T03:04:05Z", "as-of"),
    ("version = 1", "version = 2", "version 2"),
    ("[[base]]", "[[bass]]", "'bass'"),
    ("version = 1", "version = = 1", "not valid TOML"),
])  # fmt: skip
def test_error_for_invalid_file_names_the_field(old: str, new: str, place: str) -> None:
    """No path leaves the archive, no type is converted, and the message is one line."""
    text = image_lock_toml([base(), debian(deb("libpq5", "17.1")), requirements("a")]).decode()
    assert old in text
    with pytest.raises(ConfigError) as caught:
        parse_image_lock(text.replace(old, new).encode(), "x.lock")
    assert place in str(caught.value)
    assert "hatch-docker" in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_damaged_file_is_read_or_rejected(source: random.Random) -> None:
    """With bytes changed, removed and repeated: valid entries, or a one-line error."""
    data = bytearray(image_lock_toml(ENTRIES))
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(data))
        other = source.choice((b"", b'"', b"[", b"9", b"\xff", bytes(data[at : at + 60])))
        data[at : at + source.choice((0, 1, 1, 40))] = other
    try:
        found = parse_image_lock(bytes(data), "x.lock")
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        parse_image_lock(image_lock_toml(found), "x.lock")


def test_parsed_lock_is_cached_by_contents(tmp_path: Path) -> None:
    ctx = context(tmp_path / "cache")
    path = tmp_path / "x.lock"
    path.write_bytes(image_lock_toml(ENTRIES))
    first, again = (read_image_lock(path, "x.lock", ctx.store) for _ in range(2))
    assert first.entries == again.entries
    assert len(first.entries) == len(ENTRIES)
    path.write_bytes(image_lock_toml([]))
    assert read_image_lock(path, "x.lock", ctx.store).entries == {}


@pytest.mark.parametrize(("kind", "question", "expected"), [
    ("base", {"name": "debian:trixie"}, "it pins no base"),
    ("base", {"name": "debian:bookworm"}, "it pins python:3.13-slim, debian:trixie, and the base is debian:bookworm"),
    ("debian", {**debian()[1], "asked": ["libgomp1", "libpq5"]},
     "for runtime.packages of debian:trixie for amd64: libgomp1 added"),
    ("debian", {**debian()[1], "slim": False}, "slim was on and is off"),
    ("debian", {**debian()[1], "architecture": "arm64"},
     "it has nothing for runtime.packages of debian:trixie for arm64"),
    ("requirements", {**PLACE, "asked": ["a>=2"]}, "a>=2 added, a>=1, b; python_version"),
    ("requirements", {**requirements("a>=1", 'b; python_version < "4"')[1], "python": "3.13.6"},
     "python was 3.13.5 and is 3.13.6"),
])  # fmt: skip
def test_error_for_outdated_lock_says_what_changed(kind: str, question: dict[str, Any], expected: str) -> None:
    pins = make_image_lock("hatch-docker.lock", "", ENTRIES if expected != "it pins no base" else [])
    with pytest.raises(ConfigError) as caught:
        pins.find(kind, question_of(kind, question))
    message = str(caught.value)
    assert message.startswith("hatch-docker.lock is out of date: ")
    assert expected in message
    assert message.endswith("run `hatch-docker lock`")


def test_changes_between_two_locks() -> None:
    """One line for each changed version, changed file, new entry and removed entry."""
    old = [base(), debian(deb("libpq5", "17.1"), deb("gone", "1")), requirements("a")]
    new = [base(digest="sha256:" + SHA[::-1]), debian(deb("libpq5", "17.2"), deb("new", "2")), requirements("a")]
    assert image_lock_changes(old, old) == []
    assert image_lock_changes(old, new) == [
        f"base: python:3.13-slim sha256:{SHA[:12]} -> sha256:{SHA[::-1][:12]}",
        "debian:trixie amd64: gone 1 is no longer there",
        "debian:trixie amd64: libpq5 17.1 -> 17.2",
        "debian:trixie amd64: new 2 is new",
    ]
    replaced = [base(), debian(deb("libpq5", "17.1", SHA[::-1]), deb("gone", "1")), requirements("a", version="1.1")]
    assert image_lock_changes(old, replaced) == [
        "debian:trixie amd64: libpq5 17.1 is another file now", "for linux/amd64: a 1.0 -> 1.1",
    ]  # fmt: skip


def with_new_lock(ctx: Context) -> Context:
    """Return the context of `hatch-docker lock` without an old lock."""
    return replace(ctx, image_lock=make_image_lock("hatch-docker.lock", "", [], update=True))


def with_lock(ctx: Context, writer: Context, *more: tuple[str, Entry]) -> Context:
    """Return the context of a build with the entries of the lock that `writer` has written, and `more`."""
    assert writer.image_lock is not None
    data = image_lock_toml([*writer.image_lock.used_entries.values(), *more])
    entries: list[tuple[str, Entry]] = [*parse_image_lock(data, "hatch-docker.lock")]
    return replace(ctx, image_lock=make_image_lock("hatch-docker.lock", "d", entries))


def debian_base(fake: FakeArchive, ctx: Context, url: str, *packages: str) -> Base:
    plan = BasePlan("debian", "debian:trixie", "trixie", mirror=url, packages=packages)
    return make_debian_base(plan, AMD64, ctx, compression=Compression(), keyring=fake.keyring)


@pytest.fixture
def fake(tmp_path: Path) -> FakeArchive:
    archive = FakeArchive(tmp_path / "mirror").python()
    archive.add("libpq5", "17.1", {"usr/lib/libpq.txt": b"one"})
    return archive.write()


def test_locked_debian_base_does_not_change(fake: FakeArchive, tmp_path: Path) -> None:
    """With a newer package on the mirror and an empty cache: the same base, and only .debs are requested."""
    writer = with_new_lock(context(tmp_path / "one"))
    first = debian_base(fake, writer, fake.url, "libpq5")
    fake.add("libpq5", "17.2", {"usr/lib/libpq.txt": b"two"})
    fake.write()
    with serving(tmp_path / "mirror") as (url, requests):
        again = debian_base(fake, with_lock(context(tmp_path / "two"), writer), f"{url}/debian", "libpq5")
        assert again.digest == first.digest
        assert {path.rpartition(".")[2] for path in requests} == {"deb"}
        newest = debian_base(fake, context(tmp_path / "three"), f"{url}/debian", "libpq5")
    assert newest.digest != first.digest


def test_error_for_missing_deb_says_what_to_do(fake: FakeArchive, tmp_path: Path) -> None:
    writer = with_new_lock(context(tmp_path / "one"))
    debian_base(fake, writer, fake.url, "libpq5")
    shutil.rmtree(tmp_path / "mirror/debian/pool/main/l/libpq5")
    with serving(tmp_path / "mirror") as (url, _), pytest.raises(RegistryError) as caught:
        debian_base(fake, with_lock(context(tmp_path / "two"), writer), f"{url}/debian", "libpq5")
    for words in ("libpq5_17.1_amd64.deb", "hatch-docker.lock pins libpq5 17.1", "lock --upgrade`", "snapshot"):
        assert words in str(caught.value)


def test_added_package_makes_the_lock_outdated(fake: FakeArchive, tmp_path: Path) -> None:
    writer = with_new_lock(context(tmp_path / "one"))
    debian_base(fake, writer, fake.url)
    with pytest.raises(ConfigError, match=r"nothing for runtime\.packages .*run `hatch-docker lock`"):
        debian_base(fake, with_lock(context(tmp_path / "one"), writer), fake.url, "libpq5")


def test_locked_tag_is_not_requested(tmp_path: Path) -> None:
    """After the tag has moved: the same base, requested by its digest."""
    with FakeRegistry() as registry:
        publish(registry, BOTH)
        name = f"{registry.host}/python:3.13"
        entry = base(name, BOTH.digest, BOTH.images[0].digest)
        moved = small_index(python_image("amd64", "3.13.9"), python_image("arm64", "3.13.9"))
        publish(registry, moved)
        plan = BasePlan("registry", name, name)
        ctx = context(tmp_path / "one")
        assert open_base(plan, AMD64, ctx, compression=Compression()).digest == moved.digest
        registry.requests.clear()
        ctx = with_lock(context(tmp_path / "two"), with_new_lock(ctx), entry)
        assert open_base(plan, AMD64, ctx, compression=Compression()).digest == BOTH.digest
        assert not [request for request in registry.requests if "/manifests/3.13" in request.path]
        ctx = with_lock(context(tmp_path / "two"), with_new_lock(ctx), base(name, BOTH.digest, image="sha256:" + SHA))
        with pytest.raises(BaseImageError, match=f"{BOTH.images[0].digest} for linux/amd64, and sha256:{SHA} in the"):
            open_base(plan, AMD64, ctx, compression=Compression())


def test_error_for_missing_digest_says_what_to_do(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        publish(registry, BOTH)
        name = f"{registry.host}/python:3.13"
        entry = base(name, "sha256:" + SHA)
        ctx = with_lock(context(tmp_path), with_new_lock(context(tmp_path)), entry)
        with pytest.raises(RegistryError) as caught:
            open_base(BasePlan("registry", name, name), AMD64, ctx, compression=Compression())
    for words in (SHA, "hatch-docker.lock pins it", "`hatch-docker lock --upgrade`"):
        assert words in str(caught.value)


def test_other_image_in_a_locked_layout_is_rejected(tmp_path: Path) -> None:
    first, other = (python_image("amd64", version) for version in ("3.13.5", "3.13.6"))
    plan = BasePlan("oci", "oci:base", str(tmp_path / "base"))

    def open_layout(image: Image) -> Base:
        write_layout(image, tmp_path / "base")
        entry = ("base", {"name": "oci:base", "platforms": [{**PLACE, "digest": first.digest}]})
        ctx = with_lock(context(tmp_path / "cache"), with_new_lock(context(tmp_path / "cache")), entry)
        return open_base(plan, AMD64, ctx, compression=Compression())

    assert open_layout(first).digest == first.digest
    with pytest.raises(BaseImageError, match=f"{other.digest}.*{first.digest}.*--upgrade"):
        open_layout(other)


def test_locked_resolution_does_not_change(tmp_path: Path) -> None:
    """With a new release and an empty cache: the same file, and no request to the index."""
    index = FakeIndex()
    index.add("a", make_wheel("a", "1.0"))
    lock = LockPlan("resolve", requirements=("a>=1",))
    with index.serving() as serving_index:
        environ = {"UV_DEFAULT_INDEX": serving_index.url, "no_proxy": "*", "PATH": "", "HATCH_DOCKER_REFRESH": "1"}
        environ["UV"] = UV
        writer = with_new_lock(context(tmp_path / "one", **environ))
        first = pin(lock, tmp_path, TARGET, writer)
        index.add("a", make_wheel("a", "1.1"))
        serving_index.requests.clear()
        build = with_lock(context(tmp_path / "two", **environ), writer)
        assert pin(lock, tmp_path, TARGET, build) == first
        assert serving_index.requests == []
        assert pin(lock, tmp_path, TARGET, context(tmp_path / "two", **environ)) != first
    with pytest.raises(ConfigError, match="b added"):
        pin(replace(lock, requirements=("a>=1", "b")), tmp_path, TARGET, build)
    with pytest.raises(ConfigError, match="a from index x added"):
        pin(replace(lock, sources=(Source("a", "index", "x", "[tool.uv.sources] a"),)), tmp_path, TARGET, build)


def test_find_links_path_in_the_lock_is_relative(tmp_path: Path) -> None:
    """The lock can be used in a checkout at another path."""
    for name in ("one", "two"):
        (tmp_path / name / "wheels").mkdir(parents=True)
        filename, data = make_wheel("a", "1.0")
        (tmp_path / name / "wheels" / filename).write_bytes(data)
    environ = {"UV_FIND_LINKS": str(tmp_path / "one/wheels"), "UV_NO_INDEX": "1", "UV": UV, "PATH": ""}
    lock = LockPlan("resolve", requirements=("a",))
    writer = with_new_lock(context(tmp_path / "cache", **environ))
    pin(lock, tmp_path / "one", TARGET, writer)
    build = with_lock(context(tmp_path / "cache"), writer)
    (found,) = pin(lock, tmp_path / "two", TARGET, build)
    assert found.url == (tmp_path / "two/wheels" / found.filename).as_uri()


def test_git_commit_is_locked(tmp_path: Path) -> None:
    """The branch may move. A new tag, which changes the version, is an error. Logins in the URL are not written."""
    need("git")
    there, environ = tmp_path / "there", {"UV": UV, "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    commit = make_repository(there)
    metadata = b"Metadata-Version: 2.4\nName: top-dep\nVersion: 1.6.dev1\n"
    lock = LockPlan("resolve", requirements=(f"top-dep @ git+{there.as_uri()}@main",))
    writer = with_new_lock(context(tmp_path / "cache", **environ))
    pin(lock, tmp_path, TARGET, writer, metadata=lambda _pin, _path: metadata)
    (there / "more").touch()
    commit_all(there)
    build = with_lock(context(tmp_path / "another", **environ), writer)
    (found,) = pin(lock, tmp_path, TARGET, build)
    assert found.commit == (f"git+{there.as_uri()}@{commit}", commit)
    assert fetch([found], build, root=tmp_path)[0].is_file()
    git(there, "tag", "v2", commit)
    with pytest.raises(RegistryError, match="has other tags than when it was locked"):
        fetch([found], context(tmp_path / "third", **environ), root=tmp_path)
    assert _without_login("a @ git+https://u:p@x.example/y@main") == "a @ git+https://x.example/y@main"


def test_sdist_does_not_contain_the_lock(tmp_path: Path) -> None:
    """A new lock must not change the sdist: compiled code would be built again."""
    project = write_project("hello", tmp_path / "p")
    (project / "hatch-docker.lock").write_bytes(image_lock_toml([]))
    with tarfile.open(hatchling_project(open_hatchling(project), tmp_path).sdist().open()) as sdist:
        assert "hello-1.0.0/pyproject.toml" in sdist.getnames()
        assert not [name for name in sdist.getnames() if name.endswith(".lock")]
