"""The builder stage: an sdist's own backend makes the wheel in the sandbox, once for the same contents.

The root here is the Python that runs the tests, and backends are in the sdists themselves: no network. The real
root with its compiler is in integration/test_builder_stage.py.
"""

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from hatch_docker.bases.model import Base
from hatch_docker.core.cache.kept_file import given_file
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, ConfigError, RegistryError, WheelError
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import BuildPlan
from hatch_docker.wheels.builder.build import BuilderStage, find_wheel, known_sdist, make_builder_stage, wheel_of
from hatch_docker.wheels.builder.sdist import read_sdist
from hatch_docker.wheels.metadata import metadata_of
from hatch_docker.wheels.target import Target
from tests.fakes.builder_stages import PYPROJECT, TARGET, VERSION, make_base, said
from tests.fakes.package_index import write_sdist

BACKEND = '''
import os, zipfile

def build_wheel(directory, settings, metadata):
    name = "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr(zipfile.ZipInfo("demo.txt"), repr(sorted(os.environ.items())) + os.getcwd() + str(os.getuid()))
        wheel.writestr(zipfile.ZipInfo("demo-1.0.dist-info/METADATA"), "Name: demo\\n")
    return name
'''


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory for sockets, whose paths must be short."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def planned(builder: BuilderStage, **options: object) -> BuilderStage:
    plan = BuildPlan(isolated=True, **{"network": False, **options})  # type: ignore[arg-type]
    return BuilderStage(builder.root, plan, builder.base, builder.target, builder.ctx, builder.project)


def build(builder: BuilderStage, directory: Path, backend: str = BACKEND, **options: object) -> Path:
    files = {"pyproject.toml": PYPROJECT, "backend.py": backend}
    return wheel_of(read_sdist(write_sdist(directory, files, **options)), builder)  # type: ignore[arg-type]


def test_a_wheel_has_no_traces_of_this_machine(builder: BuilderStage, tmp_path: Path) -> None:
    """Fixed path, fixed user, fixed environment, no variables of the host."""
    wheel = build(builder, tmp_path / "a")
    assert wheel.name == "demo-1.0-py3-none-any.whl"
    text = said(wheel)
    assert text.endswith("/build/src1000")
    assert "hunter2" not in text
    assert str(tmp_path) not in text
    assert "('HATCH_DOCKER_BUILDER_STAGE', '1')" in text
    assert "('SOURCE_DATE_EPOCH', '315532800')" in text
    assert metadata_of(wheel) == b"Name: demo\n"
    assert not list((builder.ctx.store.root / "tmp").iterdir())


def test_the_same_contents_are_built_once(builder: BuilderStage, tmp_path: Path, lines: list[str]) -> None:
    """Other times, another path, the same files: the cache has the wheel. Another line: it is built."""
    first = build(builder, tmp_path / "a", mtime=1)
    assert build(builder, tmp_path / "b", mtime=2) == first
    assert sum(line.endswith("in the builder") for line in lines) == 1  # followed by its time if it was slow
    assert build(builder, tmp_path / "c", BACKEND + "\n") != first
    assert build(planned(builder, env={"A": "b"}), tmp_path / "d") != first


@pytest.mark.parametrize("copied", [False, True])
def test_our_table_is_no_reason_to_build_again(
    builder: BuilderStage, tmp_path: Path, lines: list[str], *, copied: bool
) -> None:
    """An edit of [tool.hatch-docker] leaves the wheel, unless the wheel has a copy of pyproject.toml."""
    copy = '        wheel.write("pyproject.toml", "demo/pyproject.toml")\n    return name'
    backend = BACKEND.replace("    return name", copy) if copied else BACKEND
    tables = ["", "[tool.hatch-docker]\nports = [1]\n", "[tool.hatch-docker]\nports = [2]\n", ""]
    wheels = []
    for number, table in enumerate(tables):
        sdist = write_sdist(tmp_path / str(number), {"pyproject.toml": PYPROJECT + table, "backend.py": backend})
        wheels.append(wheel_of(known_sdist(given_file(sdist), builder.ctx), builder))
    assert len(set(wheels)) == (3 if copied else 1)
    assert wheels[0] == wheels[3]
    assert sum(line.endswith("in the builder") for line in lines) == len(set(wheels))


def test_a_zip_is_built_as_a_tar_is(builder: BuilderStage, tmp_path: Path) -> None:
    """Old releases have no other sdist; the same files are the same contents, which are built once."""
    sdist = tmp_path / "demo-1.0.zip"
    with zipfile.ZipFile(sdist, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("demo-1.0")
        archive.writestr("demo-1.0/pyproject.toml", PYPROJECT)
        archive.writestr("demo-1.0/backend.py", BACKEND)
    wheel = wheel_of(read_sdist(sdist), builder)
    assert said(wheel).endswith("/build/src1000")
    assert build(builder, tmp_path / "a") == wheel


def test_our_umask_is_not_the_build_s(builder: BuilderStage, tmp_path: Path) -> None:
    """The sandbox's user needs no permission to read an sdist or a cache that only we may read."""
    before = os.umask(0o077)
    try:
        assert said(build(builder, tmp_path / "a"))
    finally:
        os.umask(before)


def test_a_damaged_wheel_is_made_again(builder: BuilderStage, tmp_path: Path) -> None:
    """A file of the cache is verified before it is used."""
    first = build(builder, tmp_path / "a")
    content = first.read_bytes()
    first.write_bytes(b"damaged")
    assert build(builder, tmp_path / "a").read_bytes() == content


def test_environment_and_secrets_of_the_plan(builder: BuilderStage, tmp_path: Path, lines: list[str]) -> None:
    """build.env and the named variables reach the build; a secret is hidden in the build's output."""
    backend = BACKEND.replace("import os, zipfile", "import os, zipfile; print('key', os.environ['TOKEN'])")
    wheel = build(planned(builder, env={"LDFLAGS": "mine"}, secrets=("TOKEN",)), tmp_path / "a", backend)
    assert "('LDFLAGS', 'mine')" in said(wheel)
    assert "('TOKEN', 'hunter2')" in said(wheel)
    assert "also-secret" not in said(wheel)
    assert "key ***" in lines
    with pytest.raises(ConfigError, match="ABSENT is not set"):
        build(planned(builder, secrets=("ABSENT",)), tmp_path / "b")


def test_arguments_of_the_plan(builder: BuilderStage, tmp_path: Path) -> None:
    """build.args are variables of the build, over what every build has; another value is another wheel."""
    wheel = build(planned(builder, args={"EDITION": "full\nand more", "LDFLAGS": "-s"}), tmp_path / "a")
    assert r"('EDITION', 'full\nand more')" in said(wheel)
    assert "('LDFLAGS', '-s')" in said(wheel)
    assert build(planned(builder, args={"EDITION": "small"}), tmp_path / "a") != wheel


ASKS = BACKEND.replace("import os, zipfile", """
import os, socket, zipfile
agent = socket.socket(socket.AF_UNIX)
agent.connect(os.environ["SSH_AUTH_SOCK"])
for kind in (11, 19, 200):  # to list the keys, to remove them
    agent.sendall(bytes([0, 0, 0, 1, kind]))
    print("the agent says", *agent.recv(100))
""")


def test_the_ssh_agent_is_forwarded_to_a_build_that_asks(
    builder: BuilderStage, tmp_path: Path, lines: list[str], short: Path
) -> None:
    """As another user than its owner, and to no other build; without an agent the error says what to do."""
    where = str(short / "agent")
    environ = {**builder.ctx.environ, "SSH_AUTH_SOCK": where}
    forwarding = replace(planned(builder, ssh=True, network=True), ctx=replace(builder.ctx, environ=environ))
    with pytest.raises(ConfigError, match=r"ssh needs an SSH agent, and SSH_AUTH_SOCK is .* where none answers"):
        build(forwarding, tmp_path / "a", ASKS)
    with pytest.raises(ConfigError, match=r"SSH_AUTH_SOCK is not set; start one \(ssh-agent\)"):
        build(planned(builder, ssh=True, network=True), tmp_path / "a", ASKS)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(where)
        Path(where).chmod(0o600)
        server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):  # closed at the end
                while True:
                    client, _ = server.accept()
                    with client:
                        while question := client.recv(100):
                            client.sendall(bytes([0, 0, 0, 2, 12, question[4]]))

        threading.Thread(target=serve, daemon=True).start()
        wheel = build(forwarding, tmp_path / "a", ASKS)
    assert [line for line in lines if "the agent says" in line] == [
        "the agent says 0 0 0 2 12 11", *["the agent says 0 0 0 1 5"] * 2,
    ]  # fmt: skip
    assert where not in said(wheel)
    with pytest.raises(BuildError, match="SSH_AUTH_SOCK"):
        build(planned(builder), tmp_path / "b", ASKS)


def test_a_failed_build_ends_with_its_last_lines(builder: BuilderStage, tmp_path: Path) -> None:
    """Twenty lines, in order, and then the lines of configuration if they name what is missing."""
    backend = (
        "def build_wheel(*arguments):\n    for number in range(30): print('line', number)\n"
        "    raise SystemExit('x.c:1:10: fatal error: libpq-fe.h: No such file or directory')\n"
    )
    with pytest.raises(BuildError) as failure:
        build(builder, tmp_path / "a", backend)
    first, *rest = str(failure.value).splitlines()
    assert first == "building demo-1.0.tar.gz failed with status 1 because libpq-fe.h is missing:"
    assert rest[0] == "line 11"
    assert rest[20:] == [
        "libpq-dev of Debian has libpq-fe.h; add to pyproject.toml:", "  [tool.hatch-docker.build]",
        '  packages = ["libpq-dev"]',
    ]  # fmt: skip
    assert not list((builder.ctx.store.root / "tmp").iterdir())


def test_a_build_that_needs_the_network_names_the_option(builder: BuilderStage, tmp_path: Path) -> None:
    """network = false is named if it stopped the build."""
    backend = "import socket\ndef build_wheel(*a): socket.create_connection(('192.0.2.1', 80))\n"
    with pytest.raises(BuildError, match="network = false forbids"):
        build(builder, tmp_path / "a", backend)


def test_a_build_that_is_killed_names_memory(builder: BuilderStage, tmp_path: Path) -> None:
    backend = "import os\ndef build_wheel(*a): os.kill(os.getpid(), 9)\n"
    said = r"failed with status 137; something killed it; perhaps the memory ran out.*:\n\(its build printed nothing\)$"
    with pytest.raises(BuildError, match=said):
        build(builder, tmp_path / "a", backend)


def test_a_build_that_never_ends_is_ended(builder: BuilderStage, tmp_path: Path) -> None:
    backend = "import time\ndef build_wheel(*a): time.sleep(3600)\n"
    with pytest.raises(BuildError, match=r"took longer than 2 s and was ended; \[tool.hatch-docker.build\] timeout"):
        build(planned(builder, timeout=2.0), tmp_path / "a", backend)


def test_a_build_that_takes_too_much_memory_is_ended(builder: BuilderStage, tmp_path: Path) -> None:
    backend = "import time\ndef build_wheel(*a):\n    data = b'x' * (300 << 20)\n    time.sleep(3600)\n"
    with pytest.raises(BuildError, match=r"^building demo.*: python was ended, because it took more than the 200.00 MB "
                       r"of memory that \[tool.hatch-docker.build\] memory allows$"):
        build(planned(builder, memory=200_000_000), tmp_path / "a", backend)


def test_a_wheel_larger_than_the_disk_is_not_copied(
    builder: BuilderStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file takes no room where it is made, and all of its size where it is copied to."""
    name = "demo-1.0-py3-none-any.whl"
    write = f"open(directory + '/{name}', 'w').truncate(2 << 30)"
    backend = f"def build_wheel(directory, *a):\n    {write}\n    return '{name}'\n"
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1 << 30))
    with pytest.raises(BuildError, match=f"{name} has 2147.48 MB, more than the disk has free"):
        build(builder, tmp_path / "a", backend)


@pytest.mark.parametrize("trick", [
    "os.symlink('/etc/passwd', directory + '/demo-1.0-py3-none-any.whl')",
    "os.mkfifo(directory + '/demo-1.0-py3-none-any.whl')",
    "os.mkdir(directory + '/demo-1.0-py3-none-any.whl')",
    "pass",
])
def test_only_a_regular_file_is_taken(builder: BuilderStage, tmp_path: Path, trick: str) -> None:
    """A backend that makes a link, a pipe or nothing instead of its wheel gets no file of the host."""
    backend = f"import os\ndef build_wheel(directory, *a):\n    {trick}\n    return 'demo-1.0-py3-none-any.whl'\n"
    with pytest.raises(BuildError, match="no such file"):
        build(builder, tmp_path / "a", backend)


@pytest.mark.parametrize("trick", [
    "os.symlink('/etc/passwd', directory + '/result.json')", "os.mkfifo(directory + '/result.json')",
    "open(directory + '/result.json', 'w').write('[' * 100000)",
    "open(directory + '/result.json', 'w').truncate(1 << 30)", "pass",
])
def test_a_false_result_is_refused(builder: BuilderStage, tmp_path: Path, trick: str) -> None:
    """A backend can write result.json itself."""
    backend = f"import os\ndef build_wheel(directory, *a):\n    {trick}\n    os._exit(0)\n"
    with pytest.raises(BuildError, match="without its result"):
        build(builder, tmp_path / "a", backend)


@pytest.mark.parametrize("name", ["demo-1.0-cp27-cp27m-win32.whl", "../demo-1.0-py3-none-any.whl", "demo.zip"])
def test_a_wheel_for_something_else_is_refused(builder: BuilderStage, tmp_path: Path, name: str) -> None:
    """Tags are checked before the wheel is taken."""
    backend = f"def build_wheel(directory, *a):\n    open(directory + '/x', 'w')\n    return {name!r}\n"
    with pytest.raises((WheelError, BuildError), match=r"does not fit|not the name of a wheel|no such file"):
        build(builder, tmp_path / "a", backend)


def test_links_of_an_sdist_stay_in_the_sandbox(builder: BuilderStage, tmp_path: Path) -> None:
    """An sdist is unpacked inside: a link to the host's file leads to the sandbox's, a relative one works."""
    backend = BACKEND.replace("repr(", "open('alias').read() + str(os.path.exists('outside')) + repr(")
    (tmp_path / "secret").write_text("secret")
    links = {"alias": "pyproject.toml", "outside": str(tmp_path / "secret")}
    assert said(build(builder, tmp_path / "a", backend, links=links)).startswith(PYPROJECT + "False")


def test_in_tree_backends_are_in_the_tree(builder: BuilderStage, tmp_path: Path) -> None:
    """A backend-path whose backend comes from elsewhere is refused (PEP 517)."""
    pyproject = PYPROJECT.replace('"backend"', '"json"')
    sdist = write_sdist(tmp_path / "a", {"pyproject.toml": pyproject})
    with pytest.raises(BuildError, match="not in backend-path"):
        wheel_of(read_sdist(sdist), builder)


@pytest.mark.parametrize(
    "text", ["[build-system]\nrequires = 1", "[build-system]", "x =", "[build-system]\nrequires = [1]"]
)
def test_a_wrong_build_system_is_named(tmp_path: Path, text: str) -> None:
    """One line that names the sdist and the table."""
    with pytest.raises(WheelError, match=r"^demo-1\.0\.tar\.gz: \[build-system\] of its pyproject\.toml"):
        read_sdist(write_sdist(tmp_path / "a", {"pyproject.toml": text}))


def test_an_unreadable_sdist_is_named(tmp_path: Path) -> None:
    """A zip, a damaged archive, a file of the cache."""
    with pytest.raises(WheelError, match=r"demo-1\.0\.tar\.bz2 is not an sdist"):
        read_sdist(tmp_path / "demo-1.0.tar.bz2")
    (tmp_path / "demo-1.0.zip").write_bytes(b"damaged")
    with pytest.raises(WheelError, match=r"cannot read the sdist demo-1\.0\.zip: .* not a zip"):
        read_sdist(tmp_path / "demo-1.0.zip")
    with zipfile.ZipFile(tmp_path / "demo-1.0.zip", "w") as archive:
        archive.writestr("demo-1.0/../../x", "")
    with pytest.raises(WheelError, match=r"cannot read the sdist demo-1\.0\.zip: .*\.\./x"):
        read_sdist(tmp_path / "demo-1.0.zip")
    (tmp_path / "hex").write_bytes(b"\x1f\x8b\x08damaged")
    with pytest.raises(WheelError, match=r"cannot read the sdist demo-1\.0\.tar\.gz"):
        read_sdist(tmp_path / "hex", "demo-1.0.tar.gz")


def test_an_sdist_without_a_table_is_built_by_setuptools(tmp_path: Path) -> None:
    """PEP 517's default, with or without a pyproject.toml."""
    for files in ({"setup.py": ""}, {"pyproject.toml": "[project]\nname = 'demo'"}):
        sdist = read_sdist(write_sdist(tmp_path / "a", files))
        assert (sdist.requires, sdist.backend) == (("setuptools",), "setuptools.build_meta:__legacy__")


def test_the_base_is_unpacked_beside_the_root(
    builder: BuilderStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layer of the wheel needs it. Its failure is left to that."""
    begun = threading.Event()

    def running_tree(_base: Base, _ctx: Context) -> Path:
        begun.set()
        raise RegistryError("the registry does not answer")

    def stage(*_arguments: object, unpacked: bool = True) -> BuilderStage:
        assert not unpacked or begun.wait(10)
        return builder

    monkeypatch.setattr("hatch_docker.wheels.builder.build.make_builder_stage", stage)
    monkeypatch.setattr("hatch_docker.wheels.builder.build.running_tree", running_tree)
    sdist = given_file(write_sdist(tmp_path, {"pyproject.toml": PYPROJECT, "backend.py": BACKEND}))
    made = find_wheel(sdist, builder.plan, builder.base, builder.target, builder.ctx, tmp_path)
    assert made.name == "demo-1.0-py3-none-any.whl"


@pytest.mark.parametrize("change", ["a module more", "no interpreter"])
def test_a_tree_that_changed_makes_no_wheel(
    builder: BuilderStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], change: str
) -> None:
    """It is compared while the sandbox runs. What that made is thrown away, its failure too, and made again."""
    name, store = "hatch_docker.wheels.builder.build", builder.ctx.store
    monkeypatch.setattr(f"{name}.make_builder_stage", lambda *given, **_: replace(builder, ctx=given[4]))
    monkeypatch.setattr(f"{name}.base_tree", lambda _base, _ctx: builder.root)
    sdist = given_file(write_sdist(tmp_path, {"pyproject.toml": PYPROJECT, "backend.py": BACKEND}))
    find = partial(find_wheel, sdist, builder.plan, builder.base, builder.target, builder.ctx, tmp_path)
    made = find()
    (environment,) = (store.root / "trees/build-env").iterdir()
    if change == "no interpreter":
        (environment / builder.venv.root / "bin/python").unlink()
    else:
        packages = environment / builder.venv.site_packages
        (packages / "sitecustomize.py").write_text("import zipfile\nzipfile.ZipFile.writestr = lambda *_: None\n")
    for path in ("trees/wheel", "facts/wheel"):
        shutil.rmtree(store.root / path)
    store.verified.clear()
    assert find().digest == made.digest
    assert lines.count("building demo-1.0.tar.gz in the builder") == 3
    assert find().digest == made.digest


def test_bases_without_a_compiler_are_named(tmp_path: Path, ctx: Context) -> None:
    """Another distribution or architecture is an error before anything is fetched; it says what to use."""
    sdist = read_sdist(write_sdist(tmp_path / "a", {"setup.py": ""}))
    plan = BuildPlan(isolated=True)
    with pytest.raises(BuildError, match="not Debian; use debian:<suite>"):
        make_builder_stage(sdist, plan, make_base(suite=""), TARGET, ctx, tmp_path)
    other = Target(VERSION, Platform("linux", "s390x"), TARGET.libc)
    with pytest.raises(BuildError, match="cannot be compiled for"):
        make_builder_stage(sdist, plan, make_base(), other, ctx, tmp_path)
