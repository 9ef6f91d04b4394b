"""Mistakes and failures: each is an error line with cause, place and solution; dist/ stays unchanged."""

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hatch_docker.oci.find_daemon import PODMAN_SOCKET
from hatch_docker.oci.layout import write_layout
from tests.conftest import script
from tests.fakes.bases import python_image
from tests.fakes.debian_archive import FakeArchive
from tests.fakes.package_index import FakeIndex, make_sdist, make_wheel
from tests.integration.builds import Outcome, edit, require, run_build
from tests.integration.failures import EARLIER_OUTPUT, check_error, drop_capabilities, new_project, write_pylock
from tests.projects import write_project

pytestmark = [pytest.mark.network, pytest.mark.usefixtures("base_in_cache")]

FILES = '[[tool.hatch-docker.files]]\nsource = "data"\ntarget = "/srv"\n'


# Mistakes in pyproject.toml: a replacement in the text, lines for the table, and parts of the error line.
MISTAKES: Mapping[str, tuple[tuple[str, str], str, tuple[str, ...]]] = {
    "unknown option": (("", ""), 'entrypint = ["hello"]', ("toml:16", "entrypint", 'did you mean "entrypoint"')),
    "wrong type": (("", ""), "tags = 3", ("pyproject.toml:16", "tool.hatch-docker.tags", "must be a list, not 3")),
    "unknown suite": (("debian:trixie", "debian:woody"), "", ("debian:woody", "known: debian:bookworm")),
    "missing script": (("", ""), 'entrypoint = ["serve"]', ("entrypoint", "'serve'", "the wheels contain: hello")),
    "no script": (('hello = "hello:main"', ""), "", ("entrypoint", "has no script", '"python", "-m"')),
    "bad script": (("hello:main", "hello main"), "", ("project.scripts.hello", "'hello main'", "module:function")),
    "Python mismatch": ((">=3.11", ">=3.14"), "", ("3.13", ">=3.14", "python:3.14-slim")),
    "Python asked for": (("", ""), 'python = "3.12"', ("'3.12'", "debian:trixie", "3.13")),
    "bad requires-python": ((">=3.11", "=>3.11"), "", ("pyproject.toml", "requires-python", "=>3.11")),
    "bad version": (('"1.0.0"', '"one"'), "", ("pyproject.toml", "project.version", "`one`")),
    "bad requirement": (
        ("requires-python", 'dependencies = ["a >> 1"]\nrequires-python'), "", ("project.dependencies", "a >> 1"),
    ),
    "no readme": (("requires-python", 'readme = "R.md"\nrequires-python'), "", ("pyproject.toml", "R.md")),
    "no code": (('["hello"]\n', '["hallo"]\n'), "", ("hello-1.0.0-py3-none-any.whl", "contains no file", "packages")),
    "groups are no table": (
        ("[build-system]", "dependency-groups = 1\n[build-system]"), "", ("dependency-groups", "table"),
    ),
    "unknown extra": (("", ""), 'extras = ["fast"]', ("tool.hatch-docker.extras", "'fast'", "it has: none")),
    "unknown user": (("", ""), 'user = "bob"', ("tool.hatch-docker.user", "'bob'", "nonroot")),
    "no such layout": (("debian:trixie", "oci:nowhere"), "", ("oci:nowhere", "does not exist")),
    "no such file": (("", ""), FILES, ("tool.hatch-docker.files", "data")),
    "no such lock": (("", ""), 'lock = "pylock.prod.toml"', ("pylock.prod.toml", "does not exist")),
}


@pytest.mark.parametrize("name", sorted(MISTAKES))
def test_mistake_in_pyproject_toml_is_reported(name: str, tmp_path: Path, cache: Path) -> None:
    (old, new), options, parts = MISTAKES[name]
    project = new_project(tmp_path, options=options)
    edit(project, old, new)
    check_error(run_build(project, cache), *parts)


def test_two_mistakes_are_reported_together(tmp_path: Path, cache: Path) -> None:
    outcome = run_build(new_project(tmp_path, options='tags = 3\nport = ["80"]'), cache)
    check_error(outcome, "pyproject.toml:1", steps=1)
    assert "pyproject.toml:16" in outcome.output
    assert "pyproject.toml:17" in outcome.output


@pytest.mark.parametrize(("variables", "parts"), [
    ({"HATCH_DOCKER_PLATFORMS": "linux/mips"}, ("HATCH_DOCKER_PLATFORMS", "linux/amd64", "linux/mips")),
    ({"SOURCE_DATE_EPOCH": "-5"}, ("SOURCE_DATE_EPOCH", "'-5'", "seconds since 1970")),
    ({"SOURCE_DATE_EPOCH": "99999999999"}, ("SOURCE_DATE_EPOCH", "2107")),
    ({"HATCH_DOCKER_DEBIAN_MIRROR": "ftp://x/debian"}, ("HATCH_DOCKER_DEBIAN_MIRROR", "ftp://x/debian", "http")),
    (
        {"HATCH_DOCKER_DEBIAN_MIRROR": "http://mirror.invalid/debian", "no_proxy": "*"},
        ("mirror.invalid", "does not resolve"),
    ),
])  # fmt: skip
def test_wrong_variable_is_reported(variables: Mapping[str, str], parts: tuple[str, ...], tmp_path: Path) -> None:
    check_error(run_build(new_project(tmp_path), tmp_path / "c", variables=variables), *parts)


def test_unknown_target_version_is_reported(tmp_path: Path, cache: Path) -> None:
    check_error(run_build(new_project(tmp_path), cache, verb="docker:imgae"), "docker:imgae", "docker:image")


def test_module_with_syntax_error_gives_a_hint(tmp_path: Path, cache: Path) -> None:
    """The image is made, as the file may be there on purpose. An unchanged build prints the hint again."""
    project = new_project(tmp_path)
    (project / "hello/broken.py").write_text("def (\n")
    line = "hint: Python 3.13 does not accept hello/broken.py: an import fails with a SyntaxError"
    for _ in range(2):
        outcome = run_build(project, cache)
        assert outcome.status == 0, outcome.output
        assert line in outcome.output.splitlines()


@pytest.mark.parametrize(("load", "status"), [("auto", 0), ("always", 1)])
def test_broken_podman_does_not_prevent_the_image(load: str, status: int, tmp_path: Path, cache: Path) -> None:
    """Many machines have Podman installed but not set up, for example without subordinate IDs."""
    if Path(PODMAN_SOCKET).exists():
        pytest.skip("a Podman that works answers here")
    program = script(tmp_path / "bin/podman", "echo no such ids >&2\nexit 125")
    variables = {
        "PATH": f"{program.parent}:{os.environ['PATH']}", "HATCH_DOCKER_LOAD": load, "XDG_RUNTIME_DIR": str(tmp_path),
        "DOCKER_HOST": f"unix://{tmp_path}/none", "CONTAINER_HOST": "",
    }  # fmt: skip
    outcome = run_build(new_project(tmp_path), cache, variables=variables)
    assert outcome.status == status, outcome.output
    line = 'not loaded: podman failed with status 125: no such ids; load = "never" leaves Podman out'
    assert (line in outcome.output) is (load == "auto")
    assert outcome.image().layers


# Files that cannot be part of an image.


def pipe(path: Path) -> None:
    os.mkfifo(path / "it")


def unix_socket(path: Path) -> None:
    where = os.open(path, os.O_RDONLY)  # the address of a socket is limited to 107 bytes; a test's path is longer
    with socket.socket(socket.AF_UNIX) as project:
        project.bind(f"/proc/self/fd/{where}/it")
    os.close(where)


def dangling_link(path: Path) -> None:
    (path / "it").symlink_to("nowhere")


def looping_link(path: Path) -> None:
    (path / "it").symlink_to("it")


def undecodable_name(path: Path) -> None:
    Path(os.fsdecode(bytes(path) + b"/it\xff")).write_text("x")


SPECIAL_FILES = (pipe, unix_socket, dangling_link, looping_link, undecodable_name)


@pytest.mark.parametrize("make", SPECIAL_FILES)
def test_special_file_in_a_package_is_reported(make: Callable[[Path], None], tmp_path: Path, cache: Path) -> None:
    """The build does not wait for a FIFO."""
    project = new_project(tmp_path)
    make(project / "hello")
    check_error(run_build(project, cache), "hello/it")


@pytest.mark.parametrize("make", [pipe, unix_socket, undecodable_name])
def test_special_file_in_files_option_is_reported(make: Callable[[Path], None], tmp_path: Path, cache: Path) -> None:
    project = new_project(tmp_path, options=FILES)
    (project / "data").mkdir()
    make(project / "data")
    check_error(run_build(project, cache), "tool.hatch-docker.files", "it")


@pytest.mark.parametrize("target", ["/etc", "../../outside", "data"])
def test_link_out_of_the_project_is_reported(target: str, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "outside").mkdir()
    project = new_project(tmp_path, options=FILES)
    (project / "data").symlink_to(target)
    check_error(run_build(project, cache), "tool.hatch-docker.files", "data")


def test_dangling_link_to_a_lock_is_reported(tmp_path: Path, cache: Path) -> None:
    project = new_project(tmp_path)
    (project / "pylock.toml").symlink_to("gone")
    check_error(run_build(project, cache), "pylock.toml", "does not exist")


@pytest.mark.parametrize("where", ["hello/secret.txt", "data/secret.txt", "data", "pylock.toml", "pyproject.toml"])
def test_unreadable_file_is_reported(where: str, tmp_path: Path, cache: Path) -> None:
    project = new_project(tmp_path, options=FILES)
    (project / "data").mkdir()
    if where != "data":
        with (project / where).open("a") as stream:
            stream.write("# x\n")
    (project / where).chmod(0)
    outcome = run_build(project, cache, preexec_fn=drop_capabilities)
    (project / where).chmod(0o700)
    if where == "pyproject.toml":  # hatchling reads it before it imports hatch-docker
        assert outcome.status == 1
    else:
        check_error(outcome, where.rpartition("/")[2], "Permission denied")


# Output files and the cache.


@pytest.mark.parametrize("name", ["hello-1.0.0.oci.tar", "hello-1.0.0.image.json"])
def test_directory_in_place_of_an_output_is_reported(name: str, tmp_path: Path, cache: Path) -> None:
    project = new_project(tmp_path)
    (project / "dist" / name).unlink()
    (project / "dist" / name).mkdir()
    outcome = run_build(project, cache)
    (project / "dist" / name).rmdir()
    (project / "dist" / name).write_bytes(EARLIER_OUTPUT[name])
    check_error(outcome, f"dist/{name}", "a directory is in the way")


def test_unwritable_dist_is_reported(tmp_path: Path, cache: Path) -> None:
    project = new_project(tmp_path)
    (project / "dist").chmod(0o555)
    outcome = run_build(project, cache, preexec_fn=drop_capabilities)
    check_error(outcome, "dist/hello-1.0.0.oci.tar", "Permission denied")


def test_file_in_place_of_dist_is_reported(tmp_path: Path, cache: Path) -> None:
    project = new_project(tmp_path)
    (project / "dist").rename(project / "old")
    (project / "dist").write_text("x")
    outcome = run_build(project, cache)
    check_error(Outcome(outcome.status, outcome.output, project / "old"), str(project / "dist"), "File exists")


@pytest.mark.parametrize("kind", ["file", "read-only"])
def test_unusable_cache_is_reported(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    if kind == "file":
        place.write_text("x")
    else:
        place.mkdir(mode=0o555)
    outcome = run_build(new_project(tmp_path), place, preexec_fn=drop_capabilities)
    check_error(outcome, str(place), "HATCH_DOCKER_CACHE_DIR")


# Mirrors and registries.


def test_unreachable_mirror_is_retried_and_exits_with_75(tmp_path: Path) -> None:
    """Each retry is a line. Exit status 75 (EX_TEMPFAIL) marks a temporary failure."""
    dead = {"HATCH_DOCKER_DEBIAN_MIRROR": "http://127.0.0.1:9/debian", "no_proxy": "*"}
    outcome = run_build(new_project(tmp_path), tmp_path / "c", variables=dead)
    retries = outcome.output.count("; again in ")
    check_error(outcome, "http://127.0.0.1:9/debian", "refused", "gave up after 6 tries", status=75, steps=retries)


def test_mirror_without_inrelease_is_reported(tmp_path: Path) -> None:
    (tmp_path / "debian").mkdir()
    variables = {"HATCH_DOCKER_DEBIAN_MIRROR": (tmp_path / "debian").as_uri()}
    outcome = run_build(new_project(tmp_path), tmp_path / "c", variables=variables)
    line = check_error(outcome, "InRelease does not exist")
    assert "the mirror is from HATCH_DOCKER_DEBIAN_MIRROR" in line


def test_mirror_with_a_foreign_signature_is_rejected(tmp_path: Path) -> None:
    """The mirror is valid, but another key has signed it."""
    archive = FakeArchive(tmp_path / "mirror").python().write()
    variables = {"HATCH_DOCKER_DEBIAN_MIRROR": archive.url}
    outcome = run_build(new_project(tmp_path), tmp_path / "c", variables=variables)
    check_error(outcome, "InRelease is not signed by Debian's archive keys", "HATCH_DOCKER_DEBIAN_MIRROR")
    assert not list((tmp_path / "c/v1/blobs").iterdir())


# Dependencies.


def using_index(index: FakeIndex, **variables: str) -> dict[str, str]:
    return {"UV_DEFAULT_INDEX": index.url, "no_proxy": "*", "NO_PROXY": "*", **variables}


@pytest.mark.parametrize(("requirements", "parts"), [
    (("unknown-to-all",), ("unknown-to-all was not found",)), (("one>=1", "one<1"), ("one<1", "one>=1")),
])  # fmt: skip
def test_unsatisfiable_requirements_are_reported(
    requirements: tuple[str, ...], parts: tuple[str, ...], index: FakeIndex, tmp_path: Path, cache: Path
) -> None:
    index.add("one", make_wheel("one", "1.0"))
    project = require(new_project(tmp_path), *requirements)
    check_error(run_build(project, cache, variables=using_index(index)), *parts, steps=1)


def test_missing_lock_and_uv_are_reported(index: FakeIndex, tmp_path: Path) -> None:
    """The error comes before any download, if the cache has no resolution; it names both solutions."""
    index.add("one", make_wheel("one", "1.0"))
    project = new_project(tmp_path)
    require(project, "one")
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/uv.py").write_text("raise ImportError\n")
    without_uv = {"PATH": str(tmp_path / "hidden"), "PYTHONPATH": str(tmp_path / "hidden"), "UV": "", "HATCH_UV": ""}
    outcome = run_build(project, tmp_path / "cache", variables=using_index(index, **without_uv))
    check_error(outcome, "needs uv", "hatch-docker[uv]", "pylock.toml")


def test_sdist_for_another_platform_is_rejected(index: FakeIndex, tmp_path: Path, cache: Path) -> None:
    index.add("source-only", make_sdist("source-only", "1.0"))
    write_layout(python_image("arm64"), tmp_path / "layout")
    project = new_project(tmp_path, base=f"oci:{tmp_path / 'layout'}")
    require(project, "source-only")
    outcome = run_build(project, cache, variables=using_index(index, HATCH_DOCKER_PLATFORMS="linux/arm64"))
    check_error(outcome, "source-only", "linux/arm64", steps=1)


def test_wheel_with_another_hash_is_rejected(index: FakeIndex, tmp_path: Path, cache: Path) -> None:
    index.add("one", make_wheel("one", "1.0"))
    project = new_project(tmp_path)
    write_pylock(project, index, "one-1.0-py3-none-any.whl", sha256="0" * 64)
    outcome = run_build(project, cache, variables=using_index(index))
    check_error(outcome, "one-1.0-py3-none-any.whl", "sha256:0000", "instead of", "gave up after 2 tries", steps=2)
    assert not (cache / "v1/blobs" / ("0" * 64)).exists()


def test_corrupt_wheel_is_rejected(index: FakeIndex, tmp_path: Path, cache: Path) -> None:
    """The hash is that of the lock, but the content of a file does not have the CRC of the ZIP directory."""
    filename, data = make_wheel("one", "1.0", files={"one.py": b"x = 1\n"})
    index.add("one", (filename, data.replace(b"x = 1\n", b"x = 2\n")))
    project = new_project(tmp_path)
    write_pylock(project, index, filename)
    outcome = run_build(project, cache, variables=using_index(index))
    check_error(outcome, filename, "one.py", "pin another version", steps=1)


def test_invalid_lock_file_is_reported(tmp_path: Path, cache: Path) -> None:
    locks = {"pylock.toml": "x = [", "uv.lock": "version = 1\n[[package]]\nname = 3"}
    for name, text in locks.items():
        project = new_project(tmp_path / name)
        (project / name).write_text(text)
        check_error(run_build(project, cache), name)


def test_compiler_error_is_shown(tmp_path: Path, cache: Path) -> None:
    """The compiler's line with file and position is printed; the exit status is 1."""
    project = write_project("c-extension", tmp_path / "p")
    source = project / "c_extension" / "_answer.c"
    source.write_text(source.read_text().replace("PyLong_FromLong(42);", "PyLong_FromLong(42)"))
    outcome = run_build(project, cache)
    assert outcome.status == 1
    assert "_answer.c:" in outcome.output
    assert "error: expected" in outcome.output
    assert not list((project / "dist").glob("*"))
