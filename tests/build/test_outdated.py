"""`hatch-docker outdated`: comparison of a lock or an image with Debian archives, registries and package indexes."""

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.bases.debian.suite import Suite
from hatch_docker.build import outdated
from hatch_docker.build.outdated import Pinned, count_pins, find_outdated
from hatch_docker.cli.main import main
from hatch_docker.core.context import REFRESH, Context
from hatch_docker.core.errors import RegistryError, TransientError
from hatch_docker.core.image_lock import image_lock_toml
from hatch_docker.oci.archive import write_archive
from hatch_docker.plan.model import BasePlan
from hatch_docker.plan.naming import PREFIX
from tests.conftest import need
from tests.fakes.bases import file, publish, python_base
from tests.fakes.context import with_environ
from tests.fakes.debian_archive import FakeArchive
from tests.fakes.images import AMD64, image_of, layer_of, with_config
from tests.fakes.package_index import FakeIndex, make_wheel
from tests.fakes.registry import FakeRegistry
from tests.projects import commit, write_files, write_project
from tests.renovate import configuration, found_by_renovate, pins_for_renovate, run_renovate

PLAN = BasePlan("debian", "", "")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    """Return an archive of trixie: libc6 has a security update, tzdata a newer version, zlib1g no newer version."""
    fake = FakeArchive(tmp_path / "mirror")
    for name in ("libc6", "tzdata", "zlib1g"):
        fake.add(name, "1.0")
    fake.add("libc6", "1.0+deb13u1", where="-security")
    fake.add("tzdata", "1.1", where="-updates")
    monkeypatch.setattr(outdated, "Suite", functools.partial(Suite, keyring=fake.keyring))
    return fake.write()


def add_wheels(index: FakeIndex) -> FakeIndex:
    """Add newer and yanked versions, one for a newer Python, and a pre-release to an index; return it."""
    index.add("plain", *(make_wheel("plain", version) for version in ("1.0", "1.1", "1.2", "2.0", "3.0rc1")))
    index.add("bad", make_wheel("bad", "1.0"))
    index.notes = {
        "plain-1.2-py3-none-any.whl": {"yanked": "broken"}, "plain-2.0-py3-none-any.whl": {"requires-python": ">=3.14"},
        "bad-1.0-py3-none-any.whl": {"yanked": "it <deletes> files"},
    }  # fmt: skip
    return index


def without_cached_answers(ctx: Context, **variables: str) -> Context:
    return with_environ(ctx, {**ctx.environ, REFRESH: "1", **variables})


def debian_pin(name: str, version: str = "1.0") -> Pinned:
    return Pinned("debian", "trixie amd64", name, version, "")


def test_outdated_debian_packages_and_security_updates(archive: FakeArchive, tmp_path: Path, ctx: Context) -> None:
    """If the mirror has an old Release file, the command fails: it does not report that all is current."""
    ctx = without_cached_answers(ctx, HATCH_DOCKER_DEBIAN_MIRROR=archive.url)
    pins = [debian_pin("libc6", "1.0+deb13u1"), *map(debian_pin, ("libc6", "tzdata", "zlib1g", "gone"))]
    found = find_outdated(pins, PLAN, tmp_path, ctx)
    assert [(item.pinned.name, item.newest, item.reason) for item in found] == [
        ("libc6", "1.0+deb13u1", "security"), ("tzdata", "1.1", "newer"),
    ]  # fmt: skip
    archive.date = "Fri, 31 Oct 2025 00:00:00 UTC"  # a mirror that is behind
    archive.write()
    with pytest.raises(TransientError, match="the mirror gives no current package list"):
        find_outdated(pins, PLAN, tmp_path, ctx)


def test_base_is_outdated_if_its_tag_has_another_digest(registry: FakeRegistry, tmp_path: Path, ctx: Context) -> None:
    """A base with tag and digest is also compared; a base with only a digest is not."""
    first, second = python_base(), python_base("3.13.6")
    publish(registry, second)
    name = f"{registry.host}/python"
    names = [f"{name}:3.13", f"{name}:3.13@{first.digest}", f"{name}@{first.digest}"]
    found = find_outdated([Pinned("base", "", text, first.digest, "") for text in names], PLAN, tmp_path, ctx)
    assert [(item.pinned.name, item.newest) for item in found] == [(text, second.digest) for text in names[:2]]
    assert not find_outdated([Pinned("base", "", names[0], second.digest, "")], PLAN, tmp_path, ctx)


@pytest.mark.parametrize("html", [False, True])
def test_outdated_and_yanked_wheels(index: FakeIndex, html: bool, root: Path, ctx: Context, lines: list[str]) -> None:
    """With JSON and HTML pages. A newer release counts only if it supports the pin's Python."""
    add_wheels(index).html = html
    pins = [
        Pinned("wheel", "3.13.5", name, version, "", f"{name}-{version}-py3-none-any.whl")
        for name, version in (("plain", "1.0"), ("bad", "1.0"), ("private", "1.0"), ("plain", "1.1"))
    ]
    ctx = without_cached_answers(ctx, UV_DEFAULT_INDEX=index.url)
    found = find_outdated([*pins, Pinned("wheel", "3.14.0", "plain", "1.1.0", "")], PLAN, root, ctx)
    assert [(item.pinned.name, item.pinned.place, item.newest, item.reason) for item in found] == [
        ("bad", "3.13.5", "", "yanked: it <deletes> files"), ("plain", "3.13.5", "1.1", "newer"),
        ("plain", "3.14.0", "2.0", "newer"),
    ]  # fmt: skip
    assert "no package index has private 1.0: newer versions are unknown" in "\n".join(lines)
    index.faults.append(["/simple/", 403, 9])
    with pytest.raises(RegistryError, match="403"):
        find_outdated(pins, PLAN, root, ctx)


@pytest.mark.usefixtures("own_cache")
def test_outdated_command_on_lock_and_image(
    archive: FakeArchive, index: FakeIndex, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Table, exit status and remedies for a lock, then JSON for the image in dist/."""
    project = write_project("hello", tmp_path / "p")
    monkeypatch.chdir(project)
    for name, value in {"HATCH_DOCKER_DEBIAN_MIRROR": archive.url, "UV_DEFAULT_INDEX": add_wheels(index).url}.items():
        monkeypatch.setenv(name, value)
    (project / "hatch-docker.lock").write_bytes(image_lock_toml(ENTRIES))
    assert main(["outdated", "--exit-code", "-q"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^Debian trixie amd64  libc6 +1\.0 +1\.0\+deb13u1 +security$", out, re.MULTILINE)
    assert out.endswith("lock: 2 of 3 outdated, 1 with a security fix\n  hatch-docker lock --upgrade\n")

    (project / "hatch-docker.lock").unlink()
    image = image_of(layer_of([
        file("etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n'), file("usr/lib/python3.13/os.py"),
        file("var/lib/dpkg/status", "Package: tzdata\nStatus: install ok installed\nVersion: 1.0\nArchitecture: all\n"),
        file("usr/lib/python3.13/site-packages/bad-1.0.dist-info/METADATA", "Name: bad\nVersion: 1.0\n"),
    ]))  # fmt: skip
    publish(registry, base := python_base())
    name = f"{registry.host}/python:3.13"
    labels = {f"{PREFIX}base.name": name, f"{PREFIX}base.digest": f"sha256:{HASH}"}
    image = with_config(image, {**image.config_json, "config": {"Labels": labels}})
    (project / "dist").mkdir()
    with (project / "dist/hello-1.0.oci.tar").open("wb") as stream:
        write_archive(image, ["hello:1.0"], stream, host=AMD64)
    assert main(["outdated", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["of"], document["compared"]) == ("hello:1.0", 3)
    assert [(row["name"], row["newest"], row["reason"]) for row in document["outdated"]] == [
        (name, base.digest, "newer"), ("tzdata", "1.1", "newer"), ("bad", "", "yanked: it <deletes> files"),
    ]  # fmt: skip
    assert {row["remedy"] for row in document["outdated"]} == {"build the image again"}


def test_files_of_two_platforms_count_as_one_pin() -> None:
    files = (f"plain-1.0-cp313-cp313-manylinux_2_28_{machine}.whl" for machine in ("x86_64", "aarch64"))
    wheels = [Pinned("wheel", "3.13.5", "plain", "1.0", "", file) for file in files]
    assert count_pins([*wheels, debian_pin("plain"), debian_pin("plain"), debian_pin("other")]) == 3


HASH = "0" * 64
DEB = {"architecture": "amd64", "archive": "main", "path": "pool/x.deb", "size": 1, "sha256": HASH}
ENTRIES: list[tuple[str, dict[str, Any]]] = [
    ("debian", {
        "for": "base", "suite": "trixie", "architecture": "amd64", "slim": True, "asked": ["libc6"],
        "packages": [{"name": name, "version": "1.0", **DEB} for name in ("libc6", "zlib1g")],
    }),
    ("requirements", {
        "platform": "linux/amd64", "python": "3.13.5", "libc": "glibc 2.41", "asked": ["plain"],
        "files": [{"name": "plain", "version": "1.0", "file": "plain-1.0-py3-none-any.whl", "sha256": HASH,
                   "url": "https://index.example/plain-1.0-py3-none-any.whl"}],
    }),
]  # fmt: skip


def lock_with_all(reference: str, digest: str) -> str:
    """Return a lock with all kinds of pins. `reference` and `digest`: its base in a registry."""
    base = {"name": reference, "digest": digest, "platforms": [
        {"platform": "linux/amd64", "digest": digest, "python": "3.13.5", "libc": "glibc 2.41"},
    ]}  # fmt: skip
    archive = {"name": "standalone:3.14", "platform": "linux/amd64", "sha256": HASH}
    archive |= {"file": "20261101/cpython-3.14.0.tar.gz"}
    there = ("debian", {**ENTRIES[0][1], "for": "runtime", "packages": []})
    return image_lock_toml([("base", base), ("python", archive), there, *ENTRIES]).decode()


@pytest.mark.engine
@pytest.mark.long
def test_renovate_program_finds_all_pins(tmp_path: Path) -> None:
    program, digest = need("renovate"), f"sha256:{HASH}"
    lock, base = lock_with_all("python:3.13-slim", digest), f'[tool.hatch-docker]\nbase = "python:3.13@{digest}"\n'
    write_files(tmp_path, {"renovate.json": configuration(), "hatch-docker.lock": lock, "pyproject.toml": base})
    commit(tmp_path, "v1")
    assert run_renovate(program, tmp_path) == sorted([*pins_for_renovate(lock), ("docker", f"python {digest}")])


@pytest.mark.parametrize("reference", ["registry.example:5000/team/python:3.13-slim", "python:3.13-slim"])
def test_renovate_configuration_matches_all_pins(reference: str) -> None:
    """The regular expressions of docs/pins.md match the entries of a lock, and the option `base`."""
    digest = f"sha256:{HASH}"
    lock = lock_with_all(reference, digest)
    name = reference.rpartition(":")[0]
    expected = pins_for_renovate(lock)
    assert found_by_renovate(lock, "hatch-docker.lock") == expected
    assert ("docker", f"{name} {digest}") in expected
    assert len(expected) == 5
    for text, version in (reference, "3.13-slim"), (f"{reference}@{digest}", digest), (f"{name}@{digest}", digest):
        table = f'[tool.hatch-docker]\nbase = "{text}"\n'
        assert found_by_renovate(table, "pyproject.toml") == [("docker", f"{name} {version}")]
    for text in ("debian:trixie", "oci:./base", "standalone:3.14"):
        assert not found_by_renovate(f'base = "{text}"\n', "pyproject.toml")
