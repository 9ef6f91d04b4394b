"""README and docs/: tables are parsed, commands and manifests validated, and links followed.

integration/test_docs.py runs the important commands.
"""

import functools
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tomlkit

if not Path(__file__).parent.parent.joinpath("docs").is_dir():
    pytest.skip("an sdist has no docs", allow_module_level=True)

from hatch_docker.build.plans import open_plans
from hatch_docker.build.project import open_project
from hatch_docker.cli.main import make_parser, parse
from hatch_docker.config.load import load_config
from hatch_docker.config.schema import all_options
from hatch_docker.core.context import VARIABLES
from hatch_docker.plugin.target import DockerBuilder
from tests.conftest import missing
from tests.pages import DOCS, LANGUAGES, ROOT, Block, anchors, blocks, commands, inline, links, pages
from tests.schemas import check_schema, documents, scripts

# The project for a block that is only a part of a pyproject.toml.
PROJECT: dict[str, Any] = {
    "build-system": {"requires": ["hatchling>=1.27"], "build-backend": "hatchling.build"},
    "project": {
        "name": "app", "version": "1.0.0", "requires-python": ">=3.11",
        "scripts": dict.fromkeys(("app", "web", "worker", "hello"), "app:main"),
        "optional-dependencies": {"queue": ["idna"], "postgres": ["idna"]},
    },
    "dependency-groups": {"prod": ["idna"]},
}  # fmt: skip
TABLES = {"build-system", "project", "dependency-groups", "tool"}
HATCH_TABLES = {"dependencies", "enable-by-default"}
# Programs whose options are looked up in their `--help`, if they are installed.
WITH_HELP = {
    "cosign", "docker", "oras", "podman", "skopeo", "uv", "pip", "python", "mkdocs", "pytest", "ruff", "mypy",
    "validate-pyproject",
}  # fmt: skip
# Programs whose options are not checked.
UNCHECKED = {
    "apt-get", "autoload", "cd", "compinit", "cp", "cut", "deploy", "echo", "eval", "exit", "git", "grep", "kubectl",
    "mkdir", "printf", "set", "sleep", ".", "sort", "sudo", "tar", "source", ".ci/run", "sh", "awk", "ls", "cat",
    "grype", "rm", "trivy",
}  # fmt: skip
# The files that a page of the site loads.
LOADED = re.compile(r"<(?:link|script|img|source|iframe)\b[^>]*?\b(?:href|src)=[\"']?([^\s\"'>]+)")


def shown(value: object) -> str:
    return str(value)


def in_project(text: str) -> dict[str, Any]:
    """Return the complete pyproject.toml for a block that may be a part of one."""
    table = tomllib.loads(text)
    return table if "project" in table else merged(PROJECT, table)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: merged(under[key], over[key]) if isinstance(under.get(key), dict) and isinstance(over.get(key), dict)
        else over[key] if key in over else under[key]
        for key in [*under, *(key for key in over if key not in under)]
    }  # fmt: skip


def test_all_blocks_have_a_language() -> None:
    assert not [f"{block}: {block.language!r}" for block in blocks() if block.language not in LANGUAGES]


@pytest.mark.parametrize("block", blocks("toml"), ids=shown)
def test_toml_block_gives_a_plan(block: Block, tmp_path: Path) -> None:
    """Each block is read as the table of a project, up to the plan of the image."""
    config = in_project(block.text)
    assert set(config) <= TABLES
    for target in (
        config.get("tool", {}).get("hatch", {}).get("build", {}).get("targets", {}).get("docker", {}),
        config.get("tool", {}).get("hatch", {}).get("build", {}).get("targets", {}).get("wheel", {}).get("hooks", {})
        .get("docker", {}),
    ):  # fmt: skip
        assert set(target) <= HATCH_TABLES
    (tmp_path / "pyproject.toml").write_text(tomlkit.dumps(config), encoding="utf-8")
    (tmp_path / "app.py").write_text("def main() -> None: ...\n", encoding="utf-8")
    (tmp_path / "requirements.txt").touch()
    environ = {
        "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache"),
        "HATCH_DOCKER_OFFLINE": "1",
    }  # fmt: skip
    plans, _ = open_plans(open_project(tmp_path, environ, tmp_path), environ)
    assert plans


@pytest.mark.parametrize("block", blocks("console", "sh"), ids=shown)
def test_commands_in_blocks_are_valid(block: Block) -> None:
    check_script(block.script())


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_in_sentences_are_valid(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For example `hatch-docker verify [ARCHIVE]`. Arguments may be omitted there."""
    for text in inline(page):
        if re.match(r"(hatch-docker|hatch (build|publish)|python -m hatch_docker) ", text):
            try:
                check_script(re.sub(r"\.\.\.|[\[\]]", "", text).replace(" COMMAND", " build"))
            except AssertionError:
                if "the following arguments are required" not in capsys.readouterr().err:
                    raise


def check_script(script: str) -> None:
    """Check that a shell can parse a script, and that its programs accept their options."""
    done = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    found = list(commands(script))
    assert found
    for command in found:
        check_command(command)


def check_command(command: list[str]) -> None:
    """Check that a program accepts a command line."""
    words = [re.sub(r"^\S*/bin/", "", command[0]), *command[1:]]
    words = words[1:] if words[0] == "uvx" else words
    if words[:3] in (["python", "-m", "hatch_docker"], ["python3", "-m", "hatch_docker"]):
        words = ["hatch-docker", *words[3:]]
    program, *arguments = words
    if program == "hatch-docker":
        try:
            parse(arguments)
        except SystemExit as end:
            assert not end.code, command
    elif program == "hatch":
        check_hatch(arguments)
    elif words[1:3] == ["-m", "hatchling"]:
        check_target(arguments[arguments.index("-t") + 1])
    elif program.startswith("python") and arguments[0].endswith(".py"):
        assert long_options(words) <= options_in_help(sys.executable, str(ROOT / arguments[0])), command
    elif program in WITH_HELP or program.startswith("python"):
        check_options(words)
    else:
        assert program in UNCHECKED, f"nobody knows what {program} takes: {command}"


def check_hatch(arguments: list[str]) -> None:
    """Check arguments with hatch's own parser, and the targets."""
    import click
    from hatch.cli import hatch

    arguments = [word for word in arguments if word not in ("-q", "-v")]
    try:
        context = hatch.commands[arguments[0]].make_context(arguments[0], arguments[1:])
    except click.UsageError as error:
        pytest.fail(f"hatch {' '.join(arguments)}: {error.message}")
    for target in context.params.get("targets") or ():
        check_target(target)


def check_target(target: str) -> None:
    name, _, versions = target.partition(":")
    assert name in ("docker", "wheel", "sdist"), target
    known = DockerBuilder(str(ROOT)).get_version_api() if name == "docker" else {}
    assert set(filter(None, versions.split(","))) <= set(known), target


def check_options(words: list[str]) -> None:
    """Check that a program's help contains the long options of a command; skip the test if it is not installed."""
    subcommand = [words[0]]
    for word in words[1:3]:
        if word.startswith(("-", ".")) or not word.isalpha():
            break
        subcommand.append(word)
    program = shutil.which(subcommand[0], path=str(Path(sys.executable).parent)) or shutil.which(subcommand[0])
    if program is None:
        missing(f"{subcommand[0]} is missing")
    own = words[1 : 1 + next((at for at, word in enumerate(words[1:]) if _ends(word, words[0])), len(words))]
    options = long_options(own)
    for subcommands in (subcommand[1:], subcommand[1:2], []):
        if options <= options_in_help(program, *subcommands):
            return
    pytest.fail(f"{' '.join(words)}: no such option in its help")


@functools.cache
def options_in_help(*command: str) -> frozenset[str]:
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    return frozenset(re.findall(r"--[\w-]+", done.stdout + done.stderr))


def long_options(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if re.match(r"--\w", word)}


def _ends(word: str, program: str) -> bool:
    """Return whether a word is an image, so that the following words are for a program in the container."""
    return program in ("docker", "podman") and re.fullmatch(r"(app|busybox|hello)(:.*)?", word) is not None


@pytest.mark.parametrize("block", blocks("yaml"), ids=shown)
def test_yaml_block_matches_its_schema(block: Block) -> None:
    """Workflows, pipelines, compose files and Kubernetes objects."""
    for document in documents(block.text):
        if "apiVersion" in document:
            import kubernetes_validate

            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
            continue
        kinds = {"jobs": "github-workflows", "services": "compose-spec", "repos": "pre-commit"}
        check_schema(document, next((kind for key, kind in kinds.items() if key in document), "gitlab-ci"))
        for script in scripts(document):
            check_script(script)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_targets_of_links_exist(page: Path) -> None:
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        path, _, fragment = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not fragment or fragment in anchors(target), link


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_variables_exist(page: Path) -> None:
    known = {option.variable for option in all_options()} | set(VARIABLES)
    named = set(re.findall(r"\bHATCH_DOCKER_[A-Z_]*[A-Z]\b", page.read_text("utf-8")))
    assert not named - known


@pytest.mark.parametrize("block", blocks("console", "sh", "yaml"), ids=shown)
def test_values_of_variables_are_valid(block: Block) -> None:
    """Values from a pipeline or shell variable are unknown here."""
    for name, value in given_variables(block):
        if name not in VARIABLES and "$" not in value:
            load_config({}, {name: value}, None)


def given_variables(block: Block) -> list[tuple[str, str]]:
    if block.language == "yaml":
        return [(name, str(value)) for name, value in re.findall(r"(HATCH_DOCKER_\w+): ([^\s,}]+)", block.text)]
    words = (word for line in block.script().splitlines() for word in shlex.split(line, comments=True))
    return [(name, value) for name, found, value in (word.partition("=") for word in words)
            if found and re.fullmatch(r"HATCH_DOCKER_\w+", name)]  # fmt: skip


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_options_exist(page: Path) -> None:
    """For names such as `build.packages` in sentences, also with a value."""
    known = {option.name for option in all_options()}
    tables = {name.partition(".")[0] for name in known if "." in name}
    named = {text.partition(" = ")[0] for text in inline(page)}
    dotted = {name for name in named if re.fullmatch(rf"({'|'.join(tables)})\.(?!py$)[a-z-]+", name)}
    assert not dotted - known


def test_readme_links_all_pages() -> None:
    linked = {link.partition("#")[0] for link in links(ROOT / "README.md")}
    assert not [page.name for page in DOCS.glob("*.md") if f"docs/{page.name}" not in linked]


def test_navigation_has_each_page_once() -> None:
    named = re.findall(r"^ +- [^:]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(page.name for page in DOCS.glob("*.md"))


def test_commands_page_is_complete() -> None:
    """It has all commands with their arguments and options, except common options."""
    _, commands = make_parser()
    rows = re.findall(r"^\| `([a-z][\w-]*)(.*?)` (.*)$", (DOCS / "commands.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == sorted(commands.choices)
    for name, arguments, row in rows:
        places = {str(action.metavar) for action in commands.choices[name]._actions if not action.option_strings}
        assert set(re.findall(r"[A-Z]+", arguments)) == places, name
        options = long_options(re.findall(r"--[\w-]+", commands.choices[name].format_help()))
        assert long_options(re.findall(r"--[\w-]+", row)) == options - {"--help", "--verbose", "--quiet"}, name


def test_contributing_lists_all_packages() -> None:
    """All files that CONTRIBUTING names exist."""
    page = ROOT / "CONTRIBUTING.md"
    named = set(inline(page))
    rows = re.findall(r"^\| `hatch_docker/(\w+)/`", page.read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(path.parent.name for path in (ROOT / "hatch_docker").glob("*/__init__.py"))
    assert {f"tests/{path.name}/" for path in (ROOT / "tests").iterdir() if path.name in ("fakes", "parsers")} <= named
    for name in named:
        if re.fullmatch(r"[\w/*.-]+(\.(py|md|yml)|/)", name):
            places = (ROOT, ROOT / "hatch_docker", ROOT / "hatch_docker/engines")
            assert any(list(place.glob(name)) for place in places), name


def test_mkdocs_builds_without_warnings(tmp_path: Path) -> None:
    """The pages load no file from another host."""
    # Without --quiet, which removes the warnings before --strict can count them.
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (ROOT / "docs").glob("*.md"):
        path = tmp_path / "site" / ("index.html" if page.stem == "index" else f"{page.stem}/index.html")
        loaded = LOADED.findall(path.read_text("utf-8"))
        assert loaded
        assert not [address for address in loaded if re.match(r"(https?:)?//", address)]
