"""Mistakes and failures: one line that says what, where and what to try, and dist/ as it was."""

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
from tests.integration.failures import OLD, check_error, lock, project, without_privileges
from tests.projects import write_project

pytestmark = [pytest.mark.network, pytest.mark.usefixtures("made_before")]

FILES = '[[tool.hatch-docker.files]]\nsource = "data"\ntarget = "/srv"\n'


# What is wrong in pyproject.toml: what is replaced there, the options, and what the line tells.
MISTAKES: Mapping[str, tuple[tuple[str, str], str, tuple[str, ...]]] = {
    "unknown option": (("", ""), 'entrypint = ["hello"]', ("toml:16", "entrypint", 'did you mean "entrypoint"')),
    "wrong type": (("", ""), "tags = 3", ("pyproject.toml:16", "tool.hatch-docker.tags", "must be a list, not 3")),
    "unknown suite": (("debian:trixie", "debian:woody"), "", ("debian:woody", "known: debian:bookworm")),
    "missing script": (("", ""), 'entrypoint = ["serve"]', ("entrypoint", "'serve'", "the wheels bring: hello")),
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
def test_a_mistake_in_pyproject_toml_is_one_line(name: str, tmp_path: Path, cache: Path) -> None:
    (old, new), options, parts = MISTAKES[name]
    made = project(tmp_path, options=options)
    edit(made, old, new)
    check_error(run_build(made, cache), *parts)


def test_two_mistakes_are_two_lines(tmp_path: Path, cache: Path) -> None:
    outcome = run_build(project(tmp_path, options='tags = 3\nport = ["80"]'), cache)
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
def test_a_wrong_variable_is_one_line(variables: Mapping[str, str], parts: tuple[str, ...], tmp_path: Path) -> None:
    check_error(run_build(project(tmp_path), tmp_path / "c", variables=variables), *parts)


def test_an_unknown_verb_is_one_line(tmp_path: Path, cache: Path) -> None:
    check_error(run_build(project(tmp_path), cache, verb="docker:imgae"), "docker:imgae", "docker:image")


def test_code_that_is_no_python_is_pointed_out_every_time(tmp_path: Path, cache: Path) -> None:
    """It is the user's, and may be there on purpose: the image is made, and says so also when nothing changed."""
    made = project(tmp_path)
    (made / "hello/broken.py").write_text("def (\n")
    line = "hint: Python 3.13 does not accept hello/broken.py: an import fails with a SyntaxError"
    for _ in range(2):
        outcome = run_build(made, cache)
        assert outcome.status == 0, outcome.output
        assert line in outcome.output.splitlines()


@pytest.mark.parametrize(("load", "status"), [("auto", 0), ("always", 1)])
def test_a_broken_podman_is_told_and_the_image_is_there(load: str, status: int, tmp_path: Path, cache: Path) -> None:
    """Its program is on many machines where it never ran, for want of subordinate ids, say."""
    if Path(PODMAN_SOCKET).exists():
        pytest.skip("a Podman that works answers here")
    program = script(tmp_path / "bin/podman", "echo no such ids >&2\nexit 125")
    variables = {
        "PATH": f"{program.parent}:{os.environ['PATH']}", "HATCH_DOCKER_LOAD": load, "XDG_RUNTIME_DIR": str(tmp_path),
        "DOCKER_HOST": f"unix://{tmp_path}/none", "CONTAINER_HOST": "",
    }  # fmt: skip
    outcome = run_build(project(tmp_path), cache, variables=variables)
    assert outcome.status == status, outcome.output
    line = 'not loaded: podman failed with status 125: no such ids; load = "never" leaves Podman out'
    assert (line in outcome.output) is (load == "auto")
    assert outcome.image().layers


# Files that cannot be part of an image.


def pipe(path: Path) -> None:
    os.mkfifo(path / "it")


def unix_socket(path: Path) -> None:
    where = os.open(path, os.O_RDONLY)  # the name of a socket is short, the path of a test is not
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{where}/it")
    os.close(where)


def dangling(path: Path) -> None:
    (path / "it").symlink_to("nowhere")


def going_round(path: Path) -> None:
    (path / "it").symlink_to("it")


def no_text(path: Path) -> None:
    Path(os.fsdecode(bytes(path) + b"/it\xff")).write_text("x")


ODDITIES = (pipe, unix_socket, dangling, going_round, no_text)


@pytest.mark.parametrize("oddity", ODDITIES)
def test_an_odd_file_in_a_package_is_named(oddity: Callable[[Path], None], tmp_path: Path, cache: Path) -> None:
    """A pipe is not waited for."""
    made = project(tmp_path)
    oddity(made / "hello")
    check_error(run_build(made, cache), "hello/it")


@pytest.mark.parametrize("oddity", [pipe, unix_socket, no_text])
def test_an_odd_file_among_files_is_named(oddity: Callable[[Path], None], tmp_path: Path, cache: Path) -> None:
    made = project(tmp_path, options=FILES)
    (made / "data").mkdir()
    oddity(made / "data")
    check_error(run_build(made, cache), "tool.hatch-docker.files", "it")


@pytest.mark.parametrize("target", ["/etc", "../../outside", "data"])
def test_files_do_not_lead_out_of_the_project_or_in_circles(target: str, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "outside").mkdir()
    made = project(tmp_path, options=FILES)
    (made / "data").symlink_to(target)
    check_error(run_build(made, cache), "tool.hatch-docker.files", "data")


def test_a_link_to_no_lock_is_not_the_lack_of_a_lock(tmp_path: Path, cache: Path) -> None:
    made = project(tmp_path)
    (made / "pylock.toml").symlink_to("gone")
    check_error(run_build(made, cache), "pylock.toml", "does not exist")


@pytest.mark.parametrize("where", ["hello/secret.txt", "data/secret.txt", "data", "pylock.toml", "pyproject.toml"])
def test_a_file_that_may_not_be_read_is_named(where: str, tmp_path: Path, cache: Path) -> None:
    made = project(tmp_path, options=FILES)
    (made / "data").mkdir()
    if where != "data":
        with (made / where).open("a") as stream:
            stream.write("# x\n")
    (made / where).chmod(0)
    outcome = run_build(made, cache, preexec_fn=without_privileges)
    (made / where).chmod(0o700)
    if where == "pyproject.toml":  # hatchling reads it before it finds us
        assert outcome.status == 1
    else:
        check_error(outcome, where.rpartition("/")[2], "Permission denied")


# Where output goes.


@pytest.mark.parametrize("name", ["hello-1.0.0.oci.tar", "hello-1.0.0.image.json"])
def test_a_directory_in_the_place_of_an_output_is_told_first(name: str, tmp_path: Path, cache: Path) -> None:
    made = project(tmp_path)
    (made / "dist" / name).unlink()
    (made / "dist" / name).mkdir()
    outcome = run_build(made, cache)
    (made / "dist" / name).rmdir()
    (made / "dist" / name).write_bytes(OLD[name])
    check_error(outcome, f"dist/{name}", "a directory is in the way")


def test_a_dist_that_may_not_be_written_is_told(tmp_path: Path, cache: Path) -> None:
    made = project(tmp_path)
    (made / "dist").chmod(0o555)
    check_error(run_build(made, cache, preexec_fn=without_privileges), "dist/hello-1.0.0.oci.tar", "Permission denied")


def test_a_file_in_the_place_of_dist_is_told(tmp_path: Path, cache: Path) -> None:
    made = project(tmp_path)
    (made / "dist").rename(made / "old")
    (made / "dist").write_text("x")
    outcome = run_build(made, cache)
    check_error(Outcome(outcome.status, outcome.output, made / "old"), str(made / "dist"), "File exists")


@pytest.mark.parametrize("kind", ["file", "read-only"])
def test_a_cache_that_cannot_be_used_is_told(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "cache"
    if kind == "file":
        place.write_text("x")
    else:
        place.mkdir(mode=0o555)
    outcome = run_build(project(tmp_path), place, preexec_fn=without_privileges)
    check_error(outcome, str(place), "HATCH_DOCKER_CACHE_DIR")


# Mirrors and registries.


def test_a_mirror_that_does_not_answer_is_tried_again_and_the_failure_may_pass(tmp_path: Path) -> None:
    """Every retry is a line; the status is 75 (EX_TEMPFAIL), for whoever wants to try later."""
    dead = {"HATCH_DOCKER_DEBIAN_MIRROR": "http://127.0.0.1:9/debian", "no_proxy": "*"}
    outcome = run_build(project(tmp_path), tmp_path / "c", variables=dead)
    retries = outcome.output.count("; again in ")
    check_error(outcome, "http://127.0.0.1:9/debian", "refused", "gave up after 6 tries", status=75, steps=retries)


def test_a_mirror_that_is_no_mirror_is_named(tmp_path: Path) -> None:
    (tmp_path / "debian").mkdir()
    variables = {"HATCH_DOCKER_DEBIAN_MIRROR": (tmp_path / "debian").as_uri()}
    line = check_error(run_build(project(tmp_path), tmp_path / "c", variables=variables), "InRelease does not exist")
    assert "named by HATCH_DOCKER_DEBIAN_MIRROR" in line


def test_a_mirror_that_lies_is_not_believed(tmp_path: Path) -> None:
    """Everything is in order there, but for who signed it."""
    archive = FakeArchive(tmp_path / "mirror").python().write()
    variables = {"HATCH_DOCKER_DEBIAN_MIRROR": archive.url}
    outcome = run_build(project(tmp_path), tmp_path / "c", variables=variables)
    check_error(outcome, "InRelease is not signed by Debian's archive keys", "HATCH_DOCKER_DEBIAN_MIRROR")
    assert not list((tmp_path / "c/v1/blobs").iterdir())


# Dependencies.


def using(index: FakeIndex, **variables: str) -> dict[str, str]:
    return {"UV_DEFAULT_INDEX": index.url, "no_proxy": "*", "NO_PROXY": "*", **variables}


@pytest.mark.parametrize(("requirements", "parts"), [
    (("unknown-to-all",), ("unknown-to-all was not found",)), (("one>=1", "one<1"), ("one<1", "one>=1")),
])  # fmt: skip
def test_requirements_without_a_solution_are_named(
    requirements: tuple[str, ...], parts: tuple[str, ...], index: FakeIndex, tmp_path: Path, cache: Path
) -> None:
    index.add("one", make_wheel("one", "1.0"))
    made = require(project(tmp_path), *requirements)
    check_error(run_build(made, cache, variables=using(index)), *parts, steps=1)


def test_without_a_lock_and_without_uv_both_ways_out_are_told(index: FakeIndex, tmp_path: Path) -> None:
    """Before anything is downloaded, if the cache has no resolution."""
    index.add("one", make_wheel("one", "1.0"))
    made = project(tmp_path)
    require(made, "one")
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/uv.py").write_text("raise ImportError\n")
    without = {"PATH": str(tmp_path / "hidden"), "PYTHONPATH": str(tmp_path / "hidden"), "UV": "", "HATCH_UV": ""}
    outcome = run_build(made, tmp_path / "cache", variables=using(index, **without))
    check_error(outcome, "needs uv", "hatch-docker[uv]", "pylock.toml")


def test_an_sdist_for_a_foreign_platform_is_refused_by_name(index: FakeIndex, tmp_path: Path, cache: Path) -> None:
    index.add("source-only", make_sdist("source-only", "1.0"))
    write_layout(python_image("arm64"), tmp_path / "layout")
    made = project(tmp_path, base=f"oci:{tmp_path / 'layout'}")
    require(made, "source-only")
    outcome = run_build(made, cache, variables=using(index, HATCH_DOCKER_PLATFORMS="linux/arm64"))
    check_error(outcome, "source-only", "linux/arm64", steps=1)


def test_a_wheel_that_is_not_what_the_lock_says_is_refused(index: FakeIndex, tmp_path: Path, cache: Path) -> None:
    index.add("one", make_wheel("one", "1.0"))
    made = project(tmp_path)
    lock(made, index, "one-1.0-py3-none-any.whl", sha256="0" * 64)
    outcome = run_build(made, cache, variables=using(index))
    check_error(outcome, "one-1.0-py3-none-any.whl", "sha256:0000", "instead of", "gave up after 2 tries", steps=2)
    assert not (cache / "v1/blobs" / ("0" * 64)).exists()


def test_a_wheel_that_is_not_sound_is_refused(index: FakeIndex, tmp_path: Path, cache: Path) -> None:
    """It is what the lock says, and its files are not what its directory says."""
    filename, data = make_wheel("one", "1.0", files={"one.py": b"x = 1\n"})
    index.add("one", (filename, data.replace(b"x = 1\n", b"x = 2\n")))
    made = project(tmp_path)
    lock(made, index, filename)
    check_error(run_build(made, cache, variables=using(index)), filename, "one.py", "pin another version", steps=1)


def test_a_lock_that_is_none_is_named(tmp_path: Path, cache: Path) -> None:
    locks = {"pylock.toml": "x = [", "uv.lock": "version = 1\n[[package]]\nname = 3"}
    for name, text in locks.items():
        made = project(tmp_path / name)
        (made / name).write_text(text)
        check_error(run_build(made, cache), name)


def test_a_failed_compile_shows_what_the_compiler_said(tmp_path: Path, cache: Path) -> None:
    """The compiler's own line, with file and place, is among the last lines; the exit status is 1."""
    made = write_project("c-extension", tmp_path / "p")
    source = made / "c_extension" / "_answer.c"
    source.write_text(source.read_text().replace("PyLong_FromLong(42);", "PyLong_FromLong(42)"))
    outcome = run_build(made, cache)
    assert outcome.status == 1
    assert "_answer.c:" in outcome.output
    assert "error: expected" in outcome.output
    assert not list((made / "dist").glob("*"))
