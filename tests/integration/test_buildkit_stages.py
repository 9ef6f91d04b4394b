"""The stages of a build in BuildKit: SSH agent and variables, stages that run again, errors of failed stages."""

import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_docker.core.http.urls import CA_FILES
from hatch_docker.oci.layer import layer_entries
from tests.conftest import need, run
from tests.fakes.package_index import FakeIndex, make_wheel, only_source
from tests.integration.builds import Outcome, build, check_failed, require, run_build
from tests.integration.compare_engines import BUILDKIT, PLAIN, edit_module, new_project

pytestmark = [pytest.mark.network, pytest.mark.engine]

# Writes to the package: the number of keys of the SSH agent, whether the CA bundle is the user's, and three variables.
FINDINGS_HOOK = '''
import os, pathlib, socket, struct

def identities():
    """Return the number of keys that the agent has: SSH_AGENTC_REQUEST_IDENTITIES of its protocol."""
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect(os.environ["SSH_AUTH_SOCK"])
        agent.sendall(struct.pack(">IB", 1, 11))
        answer = agent.recv(9, socket.MSG_WAITALL)
        return struct.unpack(">IBI", answer)[2]

trusted = pathlib.Path(os.environ["SSL_CERT_FILE"]).read_text().endswith("# this machine's own\\n")
found = [identities(), trusted, os.environ["EDITION"], os.environ["LINES"], os.environ["MORE"]]
pathlib.Path("c_extension/found.py").write_text(f"FOUND = {found!r}\\n")
'''
OPTIONS = """
[tool.hatch-docker.build]
ssh = true
args = { EDITION = "$a \\"b\\"", LINES = "1\\n2" }
env = { MORE = "3\\n4" }
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Start an SSH agent with one key; return its environment variables."""
    need("ssh-agent"), need("ssh-add"), need("ssh-keygen")
    where = Path(f"/tmp/hatch-docker-agent-{secrets.token_hex(4)}")  # a socket's path is short
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(where)], stdout=subprocess.DEVNULL)
    variables = {"SSH_AUTH_SOCK": str(where)}
    try:
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key")
        for _ in range(100):
            done = subprocess.run(
                ["ssh-add", tmp_path / "key"], capture_output=True, check=False, env={**os.environ, **variables}
            )
            if done.returncode == 0:
                break
        yield variables
    finally:
        process.terminate()
        process.wait(10)
        where.unlink(missing_ok=True)


def findings(outcome: Outcome) -> str:
    """Return the content of found.py, which FINDINGS_HOOK wrote."""
    for entry, stream in layer_entries(outcome.image().layers[-1]):
        if entry.path.endswith("/found.py") and stream is not None:
            return stream.read().decode()
    raise AssertionError("found.py is in no layer")


def test_build_gets_agent_and_variables(docker: str, agent: dict[str, str], tmp_path: Path, cache: Path) -> None:
    """In both engines, with special characters, and with the CA bundle of the machine. A missing agent is an error."""
    project = new_project("c-extension", tmp_path / "p", options=OPTIONS)
    hook = project / "hatch_build.py"
    hook.write_text(FINDINGS_HOOK + hook.read_text())
    bundle = tmp_path / "bundle.pem"
    own = next(path for path in (os.environ.get("SSL_CERT_FILE"), *CA_FILES) if path and Path(path).is_file())
    bundle.write_text(f"{Path(own).read_text()}\n# this machine's own\n")
    agent |= {"SSL_CERT_FILE": str(bundle), "HATCH_DOCKER_CA_BUNDLE": str(bundle)}
    one = build(project, cache, variables=agent)
    expected = [1, True, '$a "b"', "1\n2", "3\n4"]
    assert findings(one) == f"FOUND = {expected!r}\n"
    digest = one.digest
    # Some machines have no network for BuildKit; the agent needs none.
    other = build(project, cache, variables={**agent, "HATCH_DOCKER_ENGINE": "buildkit"})
    assert other.digest == digest
    other_edition = {**agent, "HATCH_DOCKER_BUILD_ARGS": "EDITION=small,LINES=1", "HATCH_DOCKER_ENGINE": "buildkit"}
    assert "'small'" in findings(build(project, cache, variables=other_edition))
    hook.write_text(hook.read_text() + "# edited\n")
    for engine in ("embedded", "buildkit"):
        failed = run_build(project, cache, variables={"SSH_AUTH_SOCK": "", "HATCH_DOCKER_ENGINE": engine})
        check_failed(failed, "ssh needs an SSH agent, and SSH_AUTH_SOCK is not set")


def test_dockerfile_takes_secret_ssh_and_args(docker: str, agent: dict[str, str], tmp_path: Path, cache: Path) -> None:
    """The command is that of the Dockerfile's first lines, with another value for an argument."""
    project = new_project("c-extension", tmp_path / "p", options=OPTIONS + 'secrets = ["TOKEN"]\n')
    hook = project / "hatch_build.py"
    hook.write_text(FINDINGS_HOOK + 'assert os.environ["TOKEN"] == "s3"\n' + hook.read_text())
    outcome = build(project, cache, verb="docker:dockerfile")
    (dockerfile,) = outcome.directory.glob("*.Dockerfile")
    lines = [line.removeprefix("# ") for line in dockerfile.read_text().splitlines() if line.startswith("# docker")]
    assert "--secret id=TOKEN,env=TOKEN --ssh default" in lines[-1]
    name = "hatch-docker/tested:lent"
    lines[-1] = lines[-1].replace("c-extension:1.0.0", name).replace(" --file", " --build-arg EDITION=x --file")
    for line in lines:
        run(*line.split(), cwd=outcome.directory, variables={**agent, "TOKEN": "s3"})
    try:
        program = "from c_extension.found import FOUND; print(FOUND)"
        command = [docker, "run", "--rm", "--network=none", "--entrypoint=python", name, "-c", program]
        assert run(*command) == f"{[1, False, 'x', chr(10).join('12'), chr(10).join('34')]!r}\n"
    finally:
        run(docker, "rmi", "--force", name)


def test_compiler_cache_of_buildkit_compiles_only_changed_files(docker: str, tmp_path: Path, cache: Path) -> None:
    """After an edit of a Python file cc1 is not run. The layer is that of a build without a compiler cache."""
    project = new_project("c-extension", tmp_path / "p")
    hook = project / "hatch_build.py"
    count = "import os\nprint('kept', len(os.listdir('/compiler-cache')))\n"
    hook.write_text(count + hook.read_text())
    verbose = {**BUILDKIT, "HATCH_VERBOSE": "1"}
    outputs = [build(project, cache, variables=verbose).output]
    for name, line in (("__init__.py", "# edited\n"), ("_answer.c", "int edited;\n"), ("__init__.py", "# again\n")):
        source = project / "c_extension" / name
        source.write_text(source.read_text() + line)
        outputs.append(build(project, cache, variables=verbose).output)
    assert [re.findall(r"kept (\d+)", text)[0] for text in outputs] == ["0", "3", "3", "4"]  # bytecode, result, call
    hook.write_text(hook.read_text().removeprefix(count))
    with_cache = build(project, cache, variables=BUILDKIT).layers[-1]
    plain = build(project, cache, variables={**PLAIN, "HATCH_DOCKER_BUILD_COMPILER_CACHE": "false"})
    assert plain.layers[-1]["digest"] == with_cache["digest"]


MORE_REQUIREMENTS = """
def get_requires_for_build_wheel(config_settings=None):
    return ["asked-for"]

_build_wheel = build_wheel

def build_wheel(directory, config_settings=None, metadata_directory=None):
    import asked_for
    return _build_wheel(directory)
"""
VENDORED_METADATA = """
FILES |= {
    "only_source/_vendor/needed_by_it-1.0.dist-info/METADATA":
        "Metadata-Version: 2.1\\nName: needed-by-it\\nVersion: 1.0\\n",
    "only_source/_vendor/needed_by_it-1.0.dist-info/RECORD": "needed_by_it/__init__.py,sha256=another,1\\n",
}
"""
OTHER_WHEEL = """
_build = build_wheel

def build_wheel(directory, config_settings=None, metadata_directory=None):
    import os
    os.rename(directory + "/" + _build(directory), directory + "/other-1.0-py3-none-any.whl")
    return "other-1.0-py3-none-any.whl"
"""


def test_metadata_of_sdists_come_from_a_stage(docker: str, tmp_path: Path, cache: Path) -> None:
    """A hook returns the build requirements; the build shows the dependencies. Vendored metadata are ignored."""
    project = new_project("hello", tmp_path / "p")
    require(project, "one-more", "another")
    index = FakeIndex()
    # The random comments keep them out of any cache, so that both engines run the hooks.
    index.add("one-more", only_source("one_more", f"{VENDORED_METADATA}{MORE_REQUIREMENTS}# {secrets.token_hex()}\n"))
    index.add("another", only_source("another", f"{VENDORED_METADATA}{MORE_REQUIREMENTS}# {secrets.token_hex()}\n"))
    index.add("needed-by-it", make_wheel("needed-by-it", "2.0"))
    index.add("asked-for", make_wheel("asked-for", "1.0"))
    with index.serving() as serving:
        own_index = {"UV_DEFAULT_INDEX": serving.url, "no_proxy": "*", "NO_PROXY": "*", "HATCH_DOCKER_REFRESH": "1"}
        other = build(project, cache, variables={**BUILDKIT, **own_index})
        digest = other.digest
        assert build(project, cache, variables={**PLAIN, **own_index}).digest == digest
    contents = [item for layer in other.layers[1:] for item in layer["contents"]]
    assert contents == ["another 1.0", "one-more 1.0", "needed-by-it 2.0", "hello 1.0.0"]


@pytest.mark.parametrize("engine", ["embedded", "buildkit"])
def test_sdist_that_builds_another_package_is_rejected(engine: str, docker: str, tmp_path: Path, cache: Path) -> None:
    project = new_project("hello", tmp_path / "p")
    require(project, "one-more")
    index = FakeIndex()
    index.add("one-more", only_source("one_more", OTHER_WHEEL))
    with index.serving() as serving:
        own_index = {"UV_DEFAULT_INDEX": serving.url, "no_proxy": "*", "NO_PROXY": "*", "HATCH_DOCKER_REFRESH": "1"}
        failed = run_build(project, cache, variables={**PLAIN, **own_index, "HATCH_DOCKER_ENGINE": engine})
    check_failed(failed, "building one_more-1.0.tar.gz gave other-1.0-py3-none-any.whl, another package or version")


def test_failed_stage_prints_its_last_20_lines(docker: str, tmp_path: Path, cache: Path) -> None:
    project = new_project("c-extension", tmp_path / "p")
    # Only standard error, because BuildKit does not keep the order of the two streams.
    talk = (
        'import sys\nfor number in range(1, 31):\n    print("line", number, file=sys.stderr)\n'
        'raise SystemExit("no luck today")\n'
    )
    (project / "hatch_build.py").write_text(talk)
    failed = run_build(project, cache, variables=BUILDKIT)
    assert failed.status == 1
    lines = failed.output.partition("stage build-project failed (exit status 1):\n")[2].splitlines()
    assert lines == [*(f"line {number}" for number in range(12, 31)), "no luck today"]


def test_killed_stage_suggests_lack_of_memory(docker: str, tmp_path: Path, cache: Path) -> None:
    """Exit status 137 is that of SIGKILL, which the kernel's OOM killer sends."""
    project = new_project("c-extension", tmp_path / "p")
    (project / "hatch_build.py").write_text('import os\nprint("filling", flush=True)\nos._exit(137)\n')
    failed = run_build(project, cache, variables=BUILDKIT)
    assert failed.status == 1
    text = "stage build-project failed (exit status 137); something killed it; perhaps the memory ran out:\nfilling\n"
    assert failed.output.endswith(text)


def steps(docker: str, dockerfile: Path) -> dict[str, bool]:
    """Return the steps of a build (`stage: instruction`), and for each whether BuildKit took it from its cache."""
    command = [
        docker, "buildx", "build", "--progress=rawjson", "--output=type=cacheonly", f"--file={dockerfile}",
        str(dockerfile.with_suffix(".context")),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, bool] = {}
    text, decoder = done.stderr.lstrip(), json.JSONDecoder()
    while text.startswith("{"):
        value, end = decoder.raw_decode(text)
        text = text[end:].lstrip()
        for vertex in value.get("vertexes") or ():
            step = re.match(r"\[(?:\S+ )?(\S+) +\d+/\d+\] (RUN|COPY)", vertex.get("name", ""))
            if step and vertex.get("completed"):
                found[f"{step[1]}: {step[2]}"] = bool(vertex.get("cached"))
    return found


def test_edit_or_new_version_runs_only_the_wheels_stages(docker: str, tmp_path: Path, cache: Path) -> None:
    """According to BuildKit's log of a build of all stages. Build requirements and dependencies stay cached."""
    project = new_project("c-extension", tmp_path / "p")
    require(project, "idna>=3")

    def again() -> tuple[set[str], set[str]]:
        outcome = build(project, cache, verb="docker:dockerfile", variables=PLAIN)
        found = steps(docker, max(outcome.directory.glob("*.Dockerfile")))
        return {step for step in found if found[step]}, {step for step in found if not found[step]}

    _, run_first = again()
    assert {"build-project: RUN", "install-project: RUN"} <= run_first
    assert not again()[1]
    wheel = {"sdist-project: COPY", "build-project: RUN", "install-project: RUN", "runtime: COPY"}
    for change in (edit_module, raise_version):
        change(project)
        cached, rerun = again()
        assert rerun <= wheel
        assert {"build-project: RUN", "install-project: RUN"} <= rerun
        assert {"environment-project: RUN", "install-packages: RUN"} <= cached


def raise_version(project: Path) -> None:
    """Change the project's version from 1.0.0 to 1.0.1."""
    source = project / "pyproject.toml"
    source.write_text(source.read_text().replace('version = "1.0.0"', 'version = "1.0.1"'))
