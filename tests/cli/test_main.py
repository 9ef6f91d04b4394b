"""All commands of `hatch-docker`: their help, shared options, exit status and errors of one line."""

import os
import re
import shutil
import subprocess
import sys
from email.message import Message
from pathlib import Path

import pytest

from hatch_docker.cli.common import set_verbosity
from hatch_docker.cli.main import main, make_parser, parse
from hatch_docker.core import errors
from hatch_docker.core.cache.store import open_store
from tests.fakes.terminal import start
from tests.pages import ROOT, anchors

PARSER, COMMANDS = make_parser()
CLEAN = "argument --max-{}: must be a number of 0 or more, not {} | `hatch-docker clean --help` shows the options"
FILES = "must be a directory: several files are written, so - (standard output) is not possible"
OPTION = "`{}` is an option of [tool.hatch-docker]; HATCH_DOCKER_{} sets it for one run"
OF_PROJECTS = {"build", "plan", "dockerfile", "lock", "rebase", "verify", "init", "doctor"}
OF_IMAGES = {"inspect", "why", "diff"}
VERBOSE = {"build", "plan", "dockerfile", "lock", "load", "rebase", "push", "outdated", "verify"}


def test_list_of_all_commands() -> None:
    others = {"verify-signature", "clean", "schema", "completion", "help"}
    assert set(COMMANDS.choices) == OF_PROJECTS | OF_IMAGES | VERBOSE | others


@pytest.mark.parametrize("name", sorted(COMMANDS.choices))
def test_commands_and_arguments_have_descriptions(name: str) -> None:
    """Names of values are in capitals."""
    command = COMMANDS.choices[name]
    assert command.description
    assert command.description[0].isupper() and command.description.endswith(".")
    for action in command._actions:
        assert action.help, action.dest
        assert action.choices or action.metavar is None or str(action.metavar).isupper(), action.dest
        assert action.option_strings or str(action.metavar).isupper(), action.dest
    options = set(command._option_string_actions)
    assert ({"-v", "--verbose", "-q", "--quiet"} <= options) is (name in VERBOSE)
    assert ({"--json", "--platform"} <= options) is (name in OF_IMAGES | {"outdated"})


@pytest.mark.parametrize(("words", "message"), [
    ("bild", "unknown command: bild | did you mean `hatch-docker build`? `hatch-docker help`..."),
    ("publish", "unknown command: publish | did you mean `hatch-docker push`? `hatch-docker help`..."),
    ("ps", "unknown command: ps | `hatch-docker help`..."),
    ("updat", "unknown command: updat | did you mean `hatch-docker lock --upgrade`? `hatch-docker help`..."),
    ("frobnicate", "unknown command: frobnicate | `hatch-docker help`..."),
    ("help bild", "unknown command: bild | did you mean `hatch-docker build`? `hatch-docker help`..."),
    ("build --wathc", "unknown option: --wathc | did you mean --watch?"),
    ("build --ouput=x", "unknown option: --ouput | did you mean --output?"),
    ("build --label a=b", "unknown option: --label | " + OPTION.format("labels", "LABELS")),
    ("build --cache-from x", "unknown option: --cache-from | " + OPTION.format("cache.from", "CACHE_FROM")),
    ("build --secret id=a", "unknown option: --secret | " + OPTION.format("build.secrets", "BUILD_SECRETS")),
    ("build . -f Dockerfile", "unknown option: -f | a build needs no Dockerfile; `hatch-docker dockerfile` writes one"),
    ("why h11 -x", "unknown option: -x | `hatch-docker why --help` shows what it takes"),
    ("-v build", "-v must come after the command | hatch-docker build -v"),
    ("-t x build", "-t must come after the command | hatch-docker build -t x"),
    ("--files", "--files must come after the command | hatch-docker inspect --files"),
    ("--verson", "unknown option: --verson | did you mean --version?"),
    ("clean --max-age -1", CLEAN.format("age", "-1")),
    ("clean --max-size nan", CLEAN.format("size", "nan")),
    ("clean --max-size 2GB", CLEAN.format("size", "2GB")),
    ("plan -o -", f"argument -o/--output: {FILES} | `hatch-docker plan --help` shows the options"),
    ("clean now", "unexpected argument: now | `hatch-docker clean --help` shows what it takes"),
])  # fmt: skip
def test_unknown_command_or_option_gets_a_suggestion(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 2
    error, advice = capsys.readouterr().err.splitlines()
    what, _, todo = message.replace("...", " lists all commands").partition(" | ")
    assert (error, advice) == (f"error: {what}", f"help: {todo}")


def test_help_lists_all_commands_in_groups_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    text = capsys.readouterr().err
    assert main(["help"]) == 0
    assert capsys.readouterr().out == text
    for name, command in COMMANDS.choices.items():
        assert len(re.findall(rf"^  {name}(?: |$)", text, re.MULTILINE)) == 1
        assert main(["help", name]) == 0
        described = capsys.readouterr().out
        assert described == command.format_help()
        assert "\nexamples:\n" in described or name == "help"
    for line in re.findall(r"^  (hatch-docker .*?)(?:  |$)", text, re.MULTILINE):
        parse(line.split()[1:])


@pytest.mark.parametrize("columns", ["60", "90"])
def test_help_is_as_wide_as_the_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = [line for parser in (PARSER, COMMANDS.choices["build"]) for line in parser.format_help().splitlines()]
    widest = max(len(line) for line in lines if not line.startswith("  hatch-docker "))  # examples are not wrapped
    assert int(columns) - 12 < widest <= int(columns)


def test_examples_in_help_are_valid_commands() -> None:
    for command in COMMANDS.choices.values():
        for example, text in command.examples:
            assert text
            if match := re.search(r"(hatch-docker [^>)]*)", example):
                parse(match[1].split()[1:])


def test_script_and_python_m_are_the_same_program() -> None:
    for words in (["--help"], ["build", "--help"], ["--version"]):
        message = {
            subprocess.check_output([*program, *words], text=True, env={**os.environ, "COLUMNS": "80"})
            for program in ([str(Path(sys.executable).parent / "hatch-docker")], [sys.executable, "-m", "hatch_docker"])
        }
        assert len(message) == 1


@pytest.mark.parametrize(
    ("name", "place", "message"),
    [(name, "none", "is not a directory") for name in sorted(OF_PROJECTS)]
    # init and doctor accept a directory without a project.
    + [(name, ".", "there is no pyproject.toml") for name in sorted(OF_PROJECTS - {"init", "doctor"})],
)
def test_missing_project_is_an_error_of_one_line(
    name: str, place: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("HATCH_VERBOSE", "HATCH_QUIET"):
        monkeypatch.setenv(variable, "")
    assert main([name, *(["--project"] if name in ("rebase", "verify") else []), place]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("files", "place", "message"), [
    ({"pyproject.toml": "", "src/a.py": ""}, "src", "go to the project's directory, which may be {root}, "),
    ({"pyproject.toml": "[tool.ruff]"}, ".", "pyproject.toml has neither [project] nor [build-system]: have "),
    ({"pyproject.toml": "[tool.uv.workspace]\nmembers = ['p/*']", "p/a/pyproject.toml": "[project]"}, ".",
     "{root} is a workspace and not a project: go to one of its members (p/a)"),
])  # fmt: skip
def test_build_of_directory_without_project_names_the_project(
    files: dict[str, str], place: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the error, setuptools would build a project without a name."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert main(["build", str(tmp_path / place)]) == 1
    assert message.format(root=tmp_path) in capsys.readouterr().err


def test_hatch_build_in_subdirectory_fails(tmp_path: Path) -> None:
    """hatchling would use the subdirectory as the project: the image would differ and have no commit."""
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'a'\nversion = '1'\n")
    (tmp_path / "src").mkdir()
    program = [sys.executable, "-m", "hatchling", "build", "-t", "docker:plan"]
    outcome = subprocess.run(program, cwd=tmp_path / "src", capture_output=True, text=True, check=False)
    assert outcome.returncode == 1
    assert outcome.stderr.splitlines() == [
        f"there is no pyproject.toml in {tmp_path / 'src'}: go to the project's directory, {tmp_path}"
    ]


@pytest.mark.parametrize(("options", "why"), [
    (["--max-size", "1"], ""),
    (["--max-size", "0.001"], "2.0 MB of them were used within the last hour: a build may still be reading them"),
    (["--all"], "2.0 MB of them were used within the last minute: a build may still be reading them"),
])  # fmt: skip
def test_clean_reports_recently_used_entries_that_it_keeps(
    options: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_store(tmp_path).put(bytes(2_000_000))
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(tmp_path))
    assert main(["clean", *options]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.endswith("removed 0 entries, 0.0 MB; 2.0 MB remain")
    assert rest == ([why] if why else [])


def test_output_comes_before_the_error(tmp_path: Path) -> None:
    """Also if both streams go to one file: standard output is flushed first."""
    (tmp_path / "main.py").write_text("print(1)")
    with (tmp_path / "log").open("w") as log:
        program = [sys.executable, "-m", "hatch_docker", "init", str(tmp_path)]
        assert subprocess.run(program, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode == 1
    assert (tmp_path / "log").read_text().splitlines()[-1].startswith("error: nothing is written")


@pytest.mark.parametrize("options", [
    "", "--identity me", "--issuer https://x.example", "--key k --identity me", "--key k --issuer https://x.example",
    "--key k --identity me --issuer https://x.example",
])  # fmt: skip
def test_key_and_identity_exclude_each_other(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The error comes before any request."""
    assert main(["verify-signature", "registry.invalid/x:1", *options.split()]) == 1
    assert "set whose signature is accepted" in capsys.readouterr().err


def test_lock_check_and_upgrade_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["lock", "--check", "--upgrade"])
    assert "--upgrade: not allowed with argument --check" in capsys.readouterr().err


def test_verbosity_is_the_sum_of_options_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not a number counts as 0. hatchling reads the variables."""
    monkeypatch.setenv("HATCH_VERBOSE", "1")
    monkeypatch.setenv("HATCH_QUIET", "much")
    assert set_verbosity(parse(["push", "-v"])) == 2
    assert (os.environ["HATCH_VERBOSE"], os.environ["HATCH_QUIET"]) == ("2", "0")
    assert set_verbosity(parse(["build", "-qqq"])) == -1


@pytest.mark.parametrize(("words", "message"), [
    (["push", "--registry", "a.example", "--registry", "No"], "error: --registry[1]: must be a registry "),
    (["push", "--tag", "a b"], "error: --tag[0]: must be a tag such as "),
    (["rebase", "--base", "no:"], "error: --base: must be a reference such as "),
])  # fmt: skip
def test_error_names_the_option_and_not_its_variable(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HATCH_DOCKER_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "a"\nversion = "1"\n[tool.hatch-docker]\nentrypoint = ["python"]\n'
    )
    for variable in ("HATCH_VERBOSE", "HATCH_QUIET"):
        monkeypatch.setenv(variable, "")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "a-1.oci.tar").write_bytes(b"")
    assert main(words) == 1
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize(("line", "expected"), [
    ("hatch-docker in", {"init", "inspect"}),
    ("hatch-docker build --no-", {"--no-load", "--no-cache"}),
    ("hatch-docker completion ", {"bash", "zsh", "fish", "-h", "--help"}),
])  # fmt: skip
def test_completions_for_shells(line: str, expected: set[str], tmp_path: Path) -> None:
    """argcomplete's protocol: completions are written to descriptor 8, or to a file."""
    environ = {
        **os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "out"),
        "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9",
    }  # fmt: skip
    subprocess.run([sys.executable, "-m", "hatch_docker"], env=environ, check=True)
    words = {word.strip() for word in (tmp_path / "out").read_text().split("\n")}
    assert words == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_code_is_valid_in_the_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert "hatch-docker" in code
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=code, text=True, check=True)


@pytest.mark.parametrize(("environ", "colours"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_errors_on_terminal_are_coloured_and_wrapped(environ: dict[str, str], colours: bool) -> None:
    terminal = start([sys.executable, "-m", "hatch_docker", "frobnicate"], columns=60, variables=environ)
    assert terminal.end() == 2
    assert terminal.lines() == [
        "error: unknown command: frobnicate", "help: `hatch-docker help` lists all commands",
    ]
    assert (b"\x1b[1;31merror:\x1b[0m" in terminal.raw) is colours


@pytest.mark.parametrize(("urls", "page"), [
    (["Repository, https://src.example", "Documentation, https://docs.example/latest/"],
     "https://docs.example/latest/troubleshooting/"),
    (["Issues, https://src.example/issues", "Repository, https://src.example"],
     "https://src.example/blob/main/docs/troubleshooting.md"),
])  # fmt: skip
def test_error_names_page_if_package_has_project_urls(
    urls: list[str], page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = Message()
    for url in urls:
        metadata["Project-URL"] = url
    monkeypatch.setattr("importlib.metadata.metadata", lambda _name: metadata)
    assert main(["build", str(tmp_path)]) == 1
    assert capsys.readouterr().err.splitlines()[1:] == [f"help: {page}#configuration"]


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="an sdist has no docs")
def test_troubleshooting_page_has_section_for_each_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert len(kinds) > 15
    assert {kind.section for kind in kinds} <= set(anchors(ROOT / "docs/troubleshooting.md"))
