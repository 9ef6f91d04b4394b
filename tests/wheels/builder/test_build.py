"""The builder stage: the sdist's backend builds the wheel in the sandbox, once for the same contents.

The root contains the Python that runs the tests, and the backends are in the sdists: no network is needed.
integration/test_builder_stage.py tests the real root with a compiler.
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
from hatch_docker.core.cache.kept_file import existing_file
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, ConfigError, RegistryError, WheelError
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import BuildPlan
from hatch_docker.wheels.builder.build import BuilderStage, build_wheel, cached_sdist, find_wheel, make_builder_stage
from hatch_docker.wheels.builder.sdist import read_sdist
from hatch_docker.wheels.metadata import metadata_of
from hatch_docker.wheels.target import Target
from tests.fakes.builder_stages import PYPROJECT, TARGET, VERSION, demo_text, make_base
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
def short_directory() -> Iterator[Path]:
    """A directory with a short path, for sockets."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def with_plan(builder: BuilderStage, **options: object) -> BuilderStage:
    plan = BuildPlan(isolated=True, **{"network": False, **options})  # type: ignore[arg-type]
    return BuilderStage(builder.root, plan, builder.base, builder.target, builder.ctx, builder.project)


def build(builder: BuilderStage, directory: Path, backend: str = BACKEND, **options: object) -> Path:
    files = {"pyproject.toml": PYPROJECT, "backend.py": backend}
    return build_wheel(read_sdist(write_sdist(directory, files, **options)), builder)  # type: ignore[arg-type]


def test_build_environment_is_fixed(builder: BuilderStage, tmp_path: Path) -> None:
    """Path, user and environment are the same everywhere; no variables of the host."""
    wheel = build(builder, tmp_path / "a")
    assert wheel.name == "demo-1.0-py3-none-any.whl"
    text = demo_text(wheel)
    assert text.endswith("/build/src1000")
    assert "hunter2" not in text
    assert str(tmp_path) not in text
    assert "('HATCH_DOCKER_BUILDER_STAGE', '1')" in text
    assert "('SOURCE_DATE_EPOCH', '315532800')" in text
    assert metadata_of(wheel) == b"Name: demo\n"
    assert not list((builder.ctx.store.root / "tmp").iterdir())


def test_sdist_is_built_once_for_same_contents(builder: BuilderStage, tmp_path: Path, lines: list[str]) -> None:
    """Times and the path of an sdist do not matter; a changed line is another wheel."""
    first = build(builder, tmp_path / "a", mtime=1)
    assert build(builder, tmp_path / "b", mtime=2) == first
    assert sum(line.endswith("in the builder") for line in lines) == 1  # a slow build adds its time to the line
    assert build(builder, tmp_path / "c", BACKEND + "\n") != first
    assert build(with_plan(builder, env={"A": "b"}), tmp_path / "d") != first


@pytest.mark.parametrize("copied", [False, True])
def test_edited_tool_table_does_not_rebuild_wheel(
    builder: BuilderStage, tmp_path: Path, lines: list[str], *, copied: bool
) -> None:
    """Unless the wheel contains a copy of pyproject.toml."""
    copy = '        wheel.write("pyproject.toml", "demo/pyproject.toml")\n    return name'
    backend = BACKEND.replace("    return name", copy) if copied else BACKEND
    tables = ["", "[tool.hatch-docker]\nports = [1]\n", "[tool.hatch-docker]\nports = [2]\n", ""]
    wheels = []
    for number, table in enumerate(tables):
        sdist = write_sdist(tmp_path / str(number), {"pyproject.toml": PYPROJECT + table, "backend.py": backend})
        wheels.append(build_wheel(cached_sdist(existing_file(sdist), builder.ctx), builder))
    assert len(set(wheels)) == (3 if copied else 1)
    assert wheels[0] == wheels[3]
    assert sum(line.endswith("in the builder") for line in lines) == len(set(wheels))


def test_zip_sdist_is_built(builder: BuilderStage, tmp_path: Path) -> None:
    """Some old releases have only a .zip. A .tar.gz with the same files has the same key."""
    sdist = tmp_path / "demo-1.0.zip"
    with zipfile.ZipFile(sdist, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("demo-1.0")
        archive.writestr("demo-1.0/pyproject.toml", PYPROJECT)
        archive.writestr("demo-1.0/backend.py", BACKEND)
    wheel = build_wheel(read_sdist(sdist), builder)
    assert demo_text(wheel).endswith("/build/src1000")
    assert build(builder, tmp_path / "a") == wheel


def test_umask_does_not_affect_build(builder: BuilderStage, tmp_path: Path) -> None:
    """The sandbox's user can read the sdist even if only the owner may read the cache."""
    before = os.umask(0o077)
    try:
        assert demo_text(build(builder, tmp_path / "a"))
    finally:
        os.umask(before)


def test_damaged_cached_wheel_is_built_again(builder: BuilderStage, tmp_path: Path) -> None:
    first = build(builder, tmp_path / "a")
    content = first.read_bytes()
    first.write_bytes(b"damaged")
    assert build(builder, tmp_path / "a").read_bytes() == content


def test_build_env_and_secrets_reach_the_build(builder: BuilderStage, tmp_path: Path, lines: list[str]) -> None:
    """Secrets are hidden in the build's output."""
    backend = BACKEND.replace("import os, zipfile", "import os, zipfile; print('key', os.environ['TOKEN'])")
    wheel = build(with_plan(builder, env={"LDFLAGS": "mine"}, secrets=("TOKEN",)), tmp_path / "a", backend)
    assert "('LDFLAGS', 'mine')" in demo_text(wheel)
    assert "('TOKEN', 'hunter2')" in demo_text(wheel)
    assert "also-secret" not in demo_text(wheel)
    assert "key ***" in lines
    with pytest.raises(ConfigError, match="ABSENT is not set"):
        build(with_plan(builder, secrets=("ABSENT",)), tmp_path / "b")


def test_build_args_are_variables_of_the_build(builder: BuilderStage, tmp_path: Path) -> None:
    """They replace default variables. Another value gives another wheel."""
    wheel = build(with_plan(builder, args={"EDITION": "full\nand more", "LDFLAGS": "-s"}), tmp_path / "a")
    assert r"('EDITION', 'full\nand more')" in demo_text(wheel)
    assert "('LDFLAGS', '-s')" in demo_text(wheel)
    assert build(with_plan(builder, args={"EDITION": "small"}), tmp_path / "a") != wheel


AGENT_CLIENT = BACKEND.replace("import os, zipfile", """
import os, socket, zipfile
agent = socket.socket(socket.AF_UNIX)
agent.connect(os.environ["SSH_AUTH_SOCK"])
for kind in (11, 19, 200):  # list keys, remove keys, unknown type
    agent.sendall(bytes([0, 0, 0, 1, kind]))
    print("the agent says", *agent.recv(100))
""")


def test_ssh_agent_is_forwarded_if_build_ssh_is_set(
    builder: BuilderStage, tmp_path: Path, lines: list[str], short_directory: Path
) -> None:
    """The sandbox's user is not the agent's owner. Without an agent the error names a remedy."""
    where = str(short_directory / "agent")
    environ = {**builder.ctx.environ, "SSH_AUTH_SOCK": where}
    forwarding = replace(with_plan(builder, ssh=True, network=True), ctx=replace(builder.ctx, environ=environ))
    with pytest.raises(ConfigError, match=r"ssh needs an SSH agent, and SSH_AUTH_SOCK is .* where no agent answers"):
        build(forwarding, tmp_path / "a", AGENT_CLIENT)
    with pytest.raises(ConfigError, match=r"SSH_AUTH_SOCK is not set; start one \(ssh-agent\)"):
        build(with_plan(builder, ssh=True, network=True), tmp_path / "a", AGENT_CLIENT)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(where)
        Path(where).chmod(0o600)
        server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):  # closed at the end
                while True:
                    client, _ = server.accept()
                    with client:
                        while message := client.recv(100):
                            client.sendall(bytes([0, 0, 0, 2, 12, message[4]]))

        threading.Thread(target=serve, daemon=True).start()
        wheel = build(forwarding, tmp_path / "a", AGENT_CLIENT)
    assert [line for line in lines if "the agent says" in line] == [
        "the agent says 0 0 0 2 12 11", *["the agent says 0 0 0 1 5"] * 2,
    ]  # fmt: skip
    assert where not in demo_text(wheel)
    with pytest.raises(BuildError, match="SSH_AUTH_SOCK"):
        build(with_plan(builder), tmp_path / "b", AGENT_CLIENT)


def test_failed_build_shows_last_lines_and_remedy(builder: BuilderStage, tmp_path: Path) -> None:
    """The last twenty lines, then configuration that installs the missing package."""
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


def test_build_without_network_names_the_option(builder: BuilderStage, tmp_path: Path) -> None:
    backend = "import socket\ndef build_wheel(*a): socket.create_connection(('192.0.2.1', 80))\n"
    with pytest.raises(BuildError, match="network = false forbids"):
        build(builder, tmp_path / "a", backend)


def test_killed_build_names_memory(builder: BuilderStage, tmp_path: Path) -> None:
    backend = "import os\ndef build_wheel(*a): os.kill(os.getpid(), 9)\n"
    text = r"failed with status 137; something killed it; perhaps the memory ran out.*:\n\(its build printed nothing\)$"
    with pytest.raises(BuildError, match=text):
        build(builder, tmp_path / "a", backend)


def test_build_timeout(builder: BuilderStage, tmp_path: Path) -> None:
    backend = "import time\ndef build_wheel(*a): time.sleep(3600)\n"
    with pytest.raises(BuildError, match=r"took longer than 2 s and was stopped; increase \[tool.hatch-docker.build\]"):
        build(with_plan(builder, timeout=2.0), tmp_path / "a", backend)


def test_build_memory_limit(builder: BuilderStage, tmp_path: Path) -> None:
    backend = "import time\ndef build_wheel(*a):\n    data = b'x' * (300 << 20)\n    time.sleep(3600)\n"
    with pytest.raises(BuildError, match=r"^building demo.*: python was stopped, because it used more than the 200.00 "
                       r"MB of memory that \[tool.hatch-docker.build\] memory allows$"):
        build(with_plan(builder, memory=200_000_000), tmp_path / "a", backend)


def test_wheel_larger_than_free_disk_space_is_rejected(
    builder: BuilderStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file has its full size only after it was copied."""
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
def test_built_wheel_must_be_a_regular_file(builder: BuilderStage, tmp_path: Path, trick: str) -> None:
    """A symlink that a backend makes must not read a file of the host."""
    backend = f"import os\ndef build_wheel(directory, *a):\n    {trick}\n    return 'demo-1.0-py3-none-any.whl'\n"
    with pytest.raises(BuildError, match="no such file"):
        build(builder, tmp_path / "a", backend)


@pytest.mark.parametrize("trick", [
    "os.symlink('/etc/passwd', directory + '/result.json')", "os.mkfifo(directory + '/result.json')",
    "open(directory + '/result.json', 'w').write('[' * 100000)",
    "open(directory + '/result.json', 'w').truncate(1 << 30)", "pass",
])
def test_invalid_result_json_is_rejected(builder: BuilderStage, tmp_path: Path, trick: str) -> None:
    """A backend can write result.json itself."""
    backend = f"import os\ndef build_wheel(directory, *a):\n    {trick}\n    os._exit(0)\n"
    with pytest.raises(BuildError, match="without its result"):
        build(builder, tmp_path / "a", backend)


@pytest.mark.parametrize("name", ["demo-1.0-cp27-cp27m-win32.whl", "../demo-1.0-py3-none-any.whl", "demo.zip"])
def test_built_wheel_with_wrong_name_is_rejected(builder: BuilderStage, tmp_path: Path, name: str) -> None:
    backend = f"def build_wheel(directory, *a):\n    open(directory + '/x', 'w')\n    return {name!r}\n"
    with pytest.raises((WheelError, BuildError), match=r"does not fit|not the name of a wheel|no such file"):
        build(builder, tmp_path / "a", backend)


def test_symlinks_in_sdist_cannot_reach_the_host(builder: BuilderStage, tmp_path: Path) -> None:
    """The sdist is unpacked in the sandbox: an absolute link points into it, and relative links work."""
    backend = BACKEND.replace("repr(", "open('alias').read() + str(os.path.exists('outside')) + repr(")
    (tmp_path / "secret").write_text("secret")
    links = {"alias": "pyproject.toml", "outside": str(tmp_path / "secret")}
    assert demo_text(build(builder, tmp_path / "a", backend, links=links)).startswith(PYPROJECT + "False")


def test_backend_outside_of_backend_path_is_rejected(builder: BuilderStage, tmp_path: Path) -> None:
    """PEP 517, in-tree build backends."""
    pyproject = PYPROJECT.replace('"backend"', '"json"')
    sdist = write_sdist(tmp_path / "a", {"pyproject.toml": pyproject})
    with pytest.raises(BuildError, match="not in backend-path"):
        build_wheel(read_sdist(sdist), builder)


@pytest.mark.parametrize(
    "text", ["[build-system]\nrequires = 1", "[build-system]", "x =", "[build-system]\nrequires = [1]"]
)
def test_invalid_build_system_table(tmp_path: Path, text: str) -> None:
    with pytest.raises(WheelError, match=r"^demo-1\.0\.tar\.gz: \[build-system\] of its pyproject\.toml"):
        read_sdist(write_sdist(tmp_path / "a", {"pyproject.toml": text}))


def test_unreadable_sdist(tmp_path: Path) -> None:
    """The message has the sdist's file name, also if the file in the cache has another."""
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


def test_sdist_without_build_system_uses_setuptools(tmp_path: Path) -> None:
    """The default of PEP 517, with or without a pyproject.toml."""
    for files in ({"setup.py": ""}, {"pyproject.toml": "[project]\nname = 'demo'"}):
        sdist = read_sdist(write_sdist(tmp_path / "a", files))
        assert (sdist.requires, sdist.backend) == (("setuptools",), "setuptools.build_meta:__legacy__")


def test_base_and_builder_root_are_unpacked_in_parallel(
    builder: BuilderStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel's layer needs the base. An error of the base is reported there."""
    started = threading.Event()

    def running_tree(_base: Base, _ctx: Context) -> Path:
        started.set()
        raise RegistryError("the registry does not answer")

    def stage(*_arguments: object, unpacked: bool = True) -> BuilderStage:
        assert not unpacked or started.wait(10)
        return builder

    monkeypatch.setattr("hatch_docker.wheels.builder.build.make_builder_stage", stage)
    monkeypatch.setattr("hatch_docker.wheels.builder.build.running_tree", running_tree)
    sdist = existing_file(write_sdist(tmp_path, {"pyproject.toml": PYPROJECT, "backend.py": BACKEND}))
    made = find_wheel(sdist, builder.plan, builder.base, builder.target, builder.ctx, tmp_path)
    assert made.name == "demo-1.0-py3-none-any.whl"


@pytest.mark.parametrize("change", ["additional module", "no interpreter"])
def test_wheel_is_rebuilt_if_a_cached_tree_was_modified(
    builder: BuilderStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], change: str
) -> None:
    """The trees are verified while the sandbox runs. A result or error from a modified tree is discarded."""
    name, store = "hatch_docker.wheels.builder.build", builder.ctx.store
    monkeypatch.setattr(f"{name}.make_builder_stage", lambda *arguments, **_: replace(builder, ctx=arguments[4]))
    monkeypatch.setattr(f"{name}.base_tree", lambda _base, _ctx: builder.root)
    sdist = existing_file(write_sdist(tmp_path, {"pyproject.toml": PYPROJECT, "backend.py": BACKEND}))
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


def test_base_without_compiler_is_rejected(tmp_path: Path, ctx: Context) -> None:
    """For another distribution or architecture, nothing is downloaded before the error."""
    sdist = read_sdist(write_sdist(tmp_path / "a", {"setup.py": ""}))
    plan = BuildPlan(isolated=True)
    with pytest.raises(BuildError, match="not Debian; use debian:<suite>"):
        make_builder_stage(sdist, plan, make_base(suite=""), TARGET, ctx, tmp_path)
    other = Target(VERSION, Platform("linux", "s390x"), TARGET.libc)
    with pytest.raises(BuildError, match="cannot be compiled for"):
        make_builder_stage(sdist, plan, make_base(), other, ctx, tmp_path)
