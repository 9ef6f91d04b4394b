"""`hatch-docker doctor`: the findings of each check; a failure is a problem only if the project needs the thing."""

import getpass
import json
import os
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from hatch_docker.cli.doctor.run import CHECKS, NOT_ASKED, run_checks
from hatch_docker.cli.main import main
from hatch_docker.core.cache.store import open_store
from tests.conftest import script
from tests.fakes.debian_archive import FakeArchive
from tests.fakes.network import login
from tests.fakes.package_index import FakeIndex
from tests.fakes.registry import FakeRegistry
from tests.projects import BUILD_SYSTEM, write_project

SECRET = "s3cret-Marked-Word"
PURE = '[project]\nname = "shop"\nversion = "1.0"\nscripts = {shop = "shop:main"}\n'
NEEDY = f'{PURE}dependencies = ["demo>=1"]\n'


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the messages of builds, like the command."""
    monkeypatch.setenv("HATCH_QUIET", "9")


def write(root: Path, table: str = 'base = "debian:trixie"\n', project: str = PURE) -> Path:
    """Write a project of pure Python; return its directory."""
    root.mkdir()
    (root / "pyproject.toml").write_text(f"{BUILD_SYSTEM}{project}[tool.hatch-docker]\n{table}")
    (root / "shop.py").write_text("def main():\n    pass\n")
    return root


def findings(
    root: Path, cache: Path, *, only: str = "", patience: float = 20, **variables: str
) -> dict[str, list[tuple[str, str]]]:
    """Return the findings (state and text) by topic. `only`: run one check and those of registries."""
    environ: Mapping[str, str] = {
        "PATH": os.environ["PATH"], "HOME": str(cache.parent), "HATCH_DOCKER_CACHE_DIR": str(cache), **variables,
    }
    offline = "HATCH_DOCKER_OFFLINE" in variables
    found: dict[str, list[tuple[str, str]]] = {}
    checks = tuple(check for check in CHECKS if only in ("", check.topic))
    with patch("hatch_docker.cli.doctor.run.CHECKS", checks):
        for finding in run_checks(root, environ, offline=offline, deep="DEEP" in variables, patience=patience):
            assert "\n" not in finding.text or finding.topic == "project"
            found.setdefault(finding.topic, []).append((finding.state, finding.text))
    return found


def check(topic: str, root: Path, cache: Path, **options: Any) -> list[tuple[str, str]]:
    return findings(root, cache, only=topic, **options)[topic]


def offline_findings(root: Path, cache: Path, **options: Any) -> dict[str, list[tuple[str, str]]]:
    return findings(root, cache, HATCH_DOCKER_OFFLINE="1", **options)


def offline_check(topic: str, root: Path, cache: Path, **options: Any) -> list[tuple[str, str]]:
    return offline_findings(root, cache, only=topic, **options)[topic]


def test_output_for_pure_project_offline(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """Each topic has a line. Checks that need other machines are skipped. JSON has the same findings as the text."""
    root = write(tmp_path / "p")
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["doctor", str(root), "--offline"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line[4:16].strip() for line in lines} == {"project", *(check.topic for check in CHECKS)}
    assert {line[:2] for line in lines} <= {"ok", "--"}
    assert all(line.endswith(NOT_ASKED) for line in lines if line[4:16].strip() in ("debian", "index", "buildkit"))
    assert lines[0] == "ok  project       shop 1.0: engine embedded, base debian:trixie, pure Python, no dependencies"
    assert main(["doctor", str(root), "--offline", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["works"] is True
    assert document["findings"][0] == {"state": "ok", "topic": "project", "text": lines[0][18:]}


def test_all_invalid_options_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """The other checks run as well, and the exit status is 1."""
    root = write(tmp_path / "p", 'bse = "debian:trixie"\nuser = 5\n')
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["doctor", str(root), "--offline"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("!!  project       pyproject.toml:") and 'did you mean "base"?' in lines[0]
    assert lines[1].startswith(" " * 18 + "pyproject.toml:") and "user: must be" in lines[1]
    assert any(line.startswith("ok  python") for line in lines)


def test_doctor_without_project_and_without_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a project the common checks run. A directory that does not exist is an error."""
    assert offline_check("project", tmp_path, tmp_path / "cache")[0][0] == "unneeded"
    assert main(["doctor", str(tmp_path / "absent")]) == 1
    assert "give the project's directory" in capsys.readouterr().err


def test_missing_lock_file_is_a_problem(tmp_path: Path) -> None:
    root = write(tmp_path / "p", 'base = "debian:trixie"\nlock = "requirements.txt"\n')
    assert offline_check("project", root, tmp_path / "cache") == [
        ("problem", "tool.hatch-docker.lock: requirements.txt does not exist; correct the path, or create it")
    ]


def test_archive_of_standalone_base_is_looked_up(tmp_path: Path) -> None:
    """A missing mirror and a missing archive are problems."""
    root = write(tmp_path / "p", 'base = "standalone:3.14"\nplatforms = ["linux/amd64"]\n')
    archive = tmp_path / "cpython-3.14.2+20261003-x86_64-unknown-linux-gnu-install_only_stripped.tar.gz"
    ((state, text),) = check("standalone", root, tmp_path / "cache")
    assert (state, "none is set; set" in text) == ("problem", True)
    options = {"UV_PYTHON_INSTALL_MIRROR": tmp_path.as_uri()}
    ((state, text),) = check("standalone", root, tmp_path / "cache", **options)
    assert (state, "has no install_only_stripped archive of CPython 3.14" in text) == ("problem", True)
    archive.touch()
    ((state, text),) = check("standalone", root, tmp_path / "cache", **options)
    assert state == "ok"
    assert text == f"standalone:3.14 for linux/amd64 is {archive.name}, by UV_PYTHON_INSTALL_MIRROR"


def test_image_lock_has_a_finding(tmp_path: Path) -> None:
    """An image lock that cannot be read is a problem."""
    root = write(tmp_path / "p")
    (root / "hatch-docker.lock").write_text("version = 1\n")
    assert offline_check("pins", root, tmp_path / "cache")[0][0] == "ok"
    (root / "hatch-docker.lock").write_text("version = 99\n")
    ((state, text),) = offline_check("project", root, tmp_path / "cache")
    assert (state, "hatch-docker.lock" in text) == ("problem", True)


def test_backend_is_not_run_for_dynamic_metadata(tmp_path: Path) -> None:
    """A finding says so."""
    root = tmp_path / "p"
    root.mkdir()
    (root / "pyproject.toml").write_text('[project]\nname = "shop"\ndynamic = ["version"]\n')
    (root / "setup.py").write_text("raise SystemExit('this was run')\n")
    first, second = offline_check("project", root, tmp_path / "cache")
    assert "built in the builder stage" in first[1]
    assert second == ("ok", "its backend may request more during a build, in the builder stage")


def test_missing_daemon_is_a_problem_with_load_always(tmp_path: Path) -> None:
    """The finding does not contain the password in the daemon's URL."""
    host = f"tcp://user:{SECRET}@127.0.0.1:1"
    root = write(tmp_path / "p")
    ((state, text),) = check("docker", root, tmp_path / "cache", DOCKER_HOST=host)
    assert state == "unneeded"
    assert text == "nothing answers at tcp://127.0.0.1:1 (Connection refused); start Docker, or set DOCKER_HOST"
    always = write(tmp_path / "q", 'base = "debian:trixie"\nload = "always"\n')
    assert check("docker", always, tmp_path / "cache", DOCKER_HOST=host)[0][0] == "problem"
    missing = offline_check("docker", root, tmp_path / "cache", DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert missing[0][1].startswith(f"nothing answers at {tmp_path}/none.sock (No such file")


def test_missing_builder_is_a_problem_for_buildkit_engine(tmp_path: Path) -> None:
    other = write(tmp_path / "p")
    root = write(tmp_path / "q", 'base = "debian:trixie"\nengine = "buildkit"\n')
    nothing = {"PATH": str(tmp_path), "DOCKER_HOST": "unix:///nowhere"}
    assert check("buildkit", other, tmp_path / "cache", **nothing)[0][0] == "unneeded"
    ((state, text),) = check("buildkit", root, tmp_path / "cache", **nothing)
    assert state == "problem"
    assert 'neither is in PATH; install one, or set engine = "embedded"' in text


def test_missing_or_old_uv_and_cosign(tmp_path: Path) -> None:
    """uv is needed if requirements are resolved, cosign if images are signed."""
    shim = script(tmp_path / "bin/uv", "echo uv 0.5.0")
    root = write(tmp_path / "p", 'base = "debian:trixie"\nsign.key = "cosign.key"\n', NEEDY)
    found = offline_findings(root, tmp_path / "cache", PATH=str(shim.parent))
    assert found["uv"] == [
        ("problem", f"uv 0.5.0 at {shim} is too old: 0.8.6 or newer is needed; install hatch-docker[uv]")
    ]
    assert found["cosign"][0][0] == "problem"
    assert found["hatch"][0][0] == "unneeded"
    pure = offline_findings(write(tmp_path / "q"), tmp_path / "cache", PATH=str(shim.parent))
    assert [pure[topic][0][0] for topic in ("uv", "cosign")] == ["unneeded", "unneeded"]


def test_sysconfig_is_initialised_before_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv's package reads sysconfig in the threads of checks, and Python 3.11 initialises it without a lock."""
    fill = sysconfig._init_posix  # type: ignore[attr-defined]

    def fill_slowly(table: dict[str, Any]) -> None:
        time.sleep(0.3)
        fill(table)

    monkeypatch.setattr(sysconfig, "_CONFIG_VARS", None)
    monkeypatch.setattr(sysconfig, "_CONFIG_VARS_INITIALIZED", False, raising=False)
    monkeypatch.setattr(sysconfig, "_init_posix", fill_slowly)
    checks = [check for check in CHECKS if check.topic == "uv"] * 2
    with patch("hatch_docker.cli.doctor.run.CHECKS", checks):
        found = list(run_checks(tmp_path, {
            "PATH": str(tmp_path), "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache"),
        }, offline=True, deep=False, patience=20))  # fmt: skip
    assert [finding.state for finding in found if finding.topic == "uv"] == ["ok", "ok"]


def test_damaged_cache_entries_are_a_problem(tmp_path: Path) -> None:
    """Blobs, facts and trees are verified. Unfinished files are counted, but are no problem."""
    store = open_store(tmp_path / "cache")
    blob = store.blob_path(store.put(b"blob"))
    store.remember("kind", "key", {"a": 1})
    tree = store.tree("kind", "tree", lambda directory: (directory / "f").write_text("1") and None)
    (store.root / "tmp" / "tmpleft").write_bytes(bytes(1000))
    (store.root / "compilers/project").mkdir(parents=True)  # not verified: builds write to it
    root = write(tmp_path / "p")
    sound = offline_check("cache", root, tmp_path / "cache", DEEP="1")
    assert [state for state, _ in sound] == ["ok"] * 3
    assert sound[1][1].startswith("1 unfinished files (1.00 kB)")
    assert sound[2][1].endswith("none is damaged")
    fact = store.root / "facts/kind/key"
    for path, text in ((blob, b"blub"), (fact, fact.read_bytes() + b" "), (tree / "f", b"2")):
        before = path.read_bytes()
        path.write_bytes(text)
        state, line = offline_check("cache", root, tmp_path / "cache")[-1]
        assert (state, line.startswith("1 of ")) == ("problem", True)
        assert path.read_bytes() == text  # doctor changes nothing
        path.write_bytes(before)
        if path == tree / "f":
            os.utime(path, (0, 0))


def test_unusable_cache_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    found = offline_findings(write(tmp_path / "p"), tmp_path / "cache")
    assert found["cache"][0][0] == "problem"
    assert found["cache"][0][1].endswith("set HATCH_DOCKER_CACHE_DIR to a directory that can be written")
    assert found["project"][0][0] == "ok"


def test_output_directory_without_write_permission_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """os.access is replaced, because root may write anywhere."""
    root = write(tmp_path / "p")
    for place in (root, root / "dist"):
        place.mkdir(exist_ok=True)
        with monkeypatch.context() as context:
            context.setattr("os.access", lambda path, mode, place=place: path != place)
            found = offline_check("disk", root, tmp_path / "cache")
        assert [text for state, text in found if state == "problem"] == [
            (
                f"{place}, where images are written, is not writable: change its permissions, or set another "
                "directory (`-o`)"
            ),
        ]


def test_missing_temporary_directory_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a read-only container: a finding if the cache is writable, otherwise an error."""
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "absent")])
    ((state, text),) = offline_check("disk", tmp_path, tmp_path / "cache")
    assert (state, text.endswith("; set TMPDIR to one")) == ("problem", True)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert main(["doctor", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: there is no directory for temporary files")


def test_missing_or_empty_ca_bundle_is_a_problem(tmp_path: Path) -> None:
    """The finding names the variable."""
    root, bundle = write(tmp_path / "p"), {"HATCH_DOCKER_CA_BUNDLE": str(tmp_path / "no.pem")}
    ((state, text),) = offline_check("certificates", root, tmp_path / "cache", **bundle)
    assert (state, "HATCH_DOCKER_CA_BUNDLE names" in text) == ("problem", True)
    (tmp_path / "no.pem").write_text("nothing")
    ((state, text),) = offline_check("certificates", root, tmp_path / "cache", **bundle)
    assert (state, "; set it to a PEM file with certificates" in text) == ("problem", True)


def test_wrong_signature_or_dead_mirror_is_a_problem(tmp_path: Path) -> None:
    """The finding names the variable with the mirror, and not the password."""
    archive = FakeArchive(tmp_path / "archive").write()
    root = write(tmp_path / "p")
    ((state, text),) = check("debian", root, tmp_path / "cache", HATCH_DOCKER_DEBIAN_MIRROR=archive.url)
    assert (state, "is not signed by Debian's archive keys" in text) == ("problem", True)
    dead = f"http://user:{SECRET}@127.0.0.1:1/debian"
    ((state, text),) = check("debian", root, tmp_path / "cache", HATCH_DOCKER_DEBIAN_MIRROR=dead)
    assert state == "problem"
    assert text.startswith("by HATCH_DOCKER_DEBIAN_MIRROR: GET http://127.0.0.1:1/debian")
    assert text.endswith("gave up after 1 try; check that the address is right")


def test_package_indexes_are_requested_with_credentials(tmp_path: Path) -> None:
    """Refused credentials are a problem; a missing page is not."""
    root = write(tmp_path / "p", project=NEEDY)
    with FakeIndex(login=("user", SECRET)).serving() as index:
        good = check("index", root, tmp_path / "cache", UV_DEFAULT_INDEX=index.url_with_login)
        assert good == [("ok", f"{index.url} answers, by uv's configuration, with the login of that configuration")]
        assert index.paths("/simple/demo/")
        ((state, text),) = check("index", root, tmp_path / "cache", UV_DEFAULT_INDEX=index.url)
        assert (state, "there is no login for it; put user and password into" in text) == ("problem", True)
        (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login user password {SECRET}\n")
        (tmp_path / ".netrc").chmod(0o600)
        ((state, text),) = check("index", root, tmp_path / "cache", UV_DEFAULT_INDEX=index.url)
        assert (state, text) == ("ok", f"{index.url} answers, by uv's configuration, with the login in netrc")
        _, line = check(
            "index", root, tmp_path / "cache", PIP_INDEX_URL=index.url_with_login, PIP_FIND_LINKS="/no/such/place"
        )
        assert line == ("unneeded", "find-links /no/such/place, by pip's configuration: not there, and left out")


def test_unreachable_registry_is_a_problem(tmp_path: Path) -> None:
    table = 'base = "debian:trixie"\nregistries = ["127.0.0.1:1/team/app"]\npush = true\n'
    ((state, text),) = check("registry", write(tmp_path / "p", table), tmp_path / "cache")
    assert (state, text.endswith("(Connection refused); check that the address is right")) == ("problem", True)


def pushing(root: Path, registry: FakeRegistry) -> Path:
    return write(root, f'base = "debian:trixie"\nregistries = ["{registry.host}/team/app"]\npush = true\n')


def test_registry_upload_is_started_and_cancelled(tmp_path: Path) -> None:
    """The finding names the source of the credentials, or says how to log in."""
    with FakeRegistry(password=SECRET) as registry:
        root = pushing(tmp_path / "p", registry)
        ((state, text),) = check("registry", root, tmp_path / "cache")
        assert (state, f"log in with `docker login {registry.host}`" in text) == ("problem", True)
        environ = login(tmp_path, registry, password=SECRET)
        ((state, text),) = check("registry", root, tmp_path / "cache", **environ)
        assert (state, text) == (
            "ok", f"{registry.host}/team/app takes uploads, with the login of {tmp_path}/config.json"
        )
        assert registry.count("DELETE", "/blobs/uploads/") == 1
        assert not registry.uploads
        environ = login(tmp_path, registry, password="wrong")
        assert check("registry", root, tmp_path / "cache", **environ)[0][0] == "problem"
        found = offline_check("registry", root, tmp_path / "cache")
        assert found == [("unneeded", NOT_ASKED)]


def test_missing_base_is_reported_with_an_alternative(tmp_path: Path) -> None:
    """Like the error of a build, the finding names a base that needs no registry."""
    with FakeRegistry() as registry:
        root = write(tmp_path / "p", f'base = "{registry.host}/python:3.13-slim"\n')
        ((state, text),) = check("registry", root, tmp_path / "cache")
    assert state == "problem"
    assert text.startswith(f"{registry.host}/python, without a login: ")
    assert text.endswith('; base = "debian:trixie" needs no registry')


HELPERS = {
    "missing": (None, "cannot run docker-credential-shim"),
    "failing": (f'echo \'{{"Username": "u", "Secret": "{SECRET}"}}\'; exit 3', "gives no credentials for"),
    "babbling": (f"echo {SECRET}", "did not answer with credentials"),
    "good": (f'echo \'{{"Username": "user", "Secret": "{SECRET}"}}\'', "with the login of docker-credential-shim"),
}


@pytest.mark.parametrize("kind", HELPERS)
def test_failed_credential_helper_is_a_problem(kind: str, tmp_path: Path) -> None:
    """The finding names the helper, and never contains its output."""
    text, expected = HELPERS[kind]
    if text:
        script(tmp_path / "bin/docker-credential-shim", text)
    with FakeRegistry(password=SECRET) as registry:
        root = pushing(tmp_path / "p", registry)
        (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {registry.host: "shim"}}))
        variables = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
        ((state, text),) = check("registry", root, tmp_path / "cache", **variables)
    assert (state, expected in text) == ("ok" if kind == "good" else "problem", True)
    assert SECRET not in text


def test_hanging_checks_end_after_patience(tmp_path: Path) -> None:
    """A sleeping credential helper and a registry that does not answer are problems; the helper is killed."""
    script(tmp_path / "bin/docker-credential-shim", f"echo $$ >> {tmp_path}/pid\nexec sleep 300")
    with FakeRegistry() as registry:
        registry.fault("POST", "/v2/", "hang", times=9)
        root = pushing(tmp_path / "p", registry)
        start = time.monotonic()
        ((state, text),) = check("registry", root, tmp_path / "cache", patience=2)
        assert state == "problem"
        (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {registry.host: "shim"}}))
        variables = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
        ((state, text),) = check("registry", root, tmp_path / "cache", patience=2, **variables)
        assert state == "problem"
        assert text == "no result after 2 s; check that server, or allow more time with --patience"
        assert time.monotonic() - start < 60
    (pid,) = (tmp_path / "pid").read_text().split()
    end = time.monotonic() + 30
    while Path("/proc", pid).exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path("/proc", pid).exists()


def test_findings_contain_no_secret(tmp_path: Path) -> None:
    """Neither secrets in URLs, variables and files, nor those in invalid URLs."""
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login user password {SECRET}\n")
    table = (
        'base = "debian:trixie"\nregistries = ["127.0.0.1:1/app"]\n[tool.hatch-docker.build]\nsecrets = ["TOKEN"]\n'
        f'[tool.hatch-docker.debian]\nmirror = "http://u:{SECRET}@127.0.0.1:1/debian"\n'
        '[tool.hatch-docker.sign]\nkey = "env://KEY"\n'
    )
    root = write(tmp_path / "p", table, NEEDY)
    at = f"u:{SECRET}@127.0.0.1:1"
    found = findings(
        root, tmp_path / "cache", TOKEN=SECRET, KEY=SECRET, COSIGN_PASSWORD=SECRET, DOCKER_HOST=f"tcp://{at}",
        UV_INDEX=f"a=http://{at}/simple", UV_FIND_LINKS=f"http://{at}/links", CONTAINER_HOST=f"tcp://{at}",
        https_proxy=f"http://{at}", http_proxy=f"http://{at}/", HATCH_DOCKER_DEBIAN_MIRROR=f"http://{at}/debian",
    )
    assert SECRET not in json.dumps(found)
    for broken in (f"http://u:{SECRET}/x@127.0.0.1:1/", f"http://[u:{SECRET}@"):
        found = findings(root, tmp_path / "cache", UV_INDEX=broken, https_proxy=broken, DOCKER_HOST=broken,
                     HATCH_DOCKER_DEBIAN_MIRROR=broken, TOKEN=SECRET, KEY=SECRET)
        assert SECRET not in json.dumps(found), broken


def test_missing_limit_of_the_sandbox_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatch_docker.wheels.builder.sandbox.run_in", lambda *_, log, **__: log("it has no filter"))
    (found,) = offline_check("sandbox", write(tmp_path / "p"), tmp_path / "cache")
    assert found == ("ok", f"namespaces can be entered by {getpass.getuser()}; it has no filter")


def test_refused_sandbox_is_a_problem_for_compiled_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a pure project it is no problem."""
    monkeypatch.setattr("sys.platform", "plan9")
    pure = offline_check("sandbox", write(tmp_path / "p"), tmp_path / "cache")
    assert pure[0][0] == "unneeded"
    compiled = offline_check("sandbox", write_project("c-extension", tmp_path / "q"), tmp_path / "cache")
    assert compiled[0][0] == "problem"
    assert 'set engine = "buildkit"' in compiled[0][1]
