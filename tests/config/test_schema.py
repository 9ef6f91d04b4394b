"""The JSON Schema that is shipped: what editors and validate-pyproject make of it, as programs."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hatch_docker.cli.main import main
from hatch_docker.config.fields import all_options
from hatch_docker.config.schema import pyproject_schema, schema

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ROOT / "hatch_docker/config/schema.json"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
GOOD = '[project]\nname = "a"\nversion = "1"\n\n[tool.hatch-docker]\nbase = "debian:trixie"\nports = [80]\n'
WRONG = {"entrypiont": GOOD + 'entrypiont = ["a"]\n', "65535": GOOD.replace("80", "99999")}
EDITOR = jsonschema.Draft7Validator(json.loads(SHIPPED.read_text("utf-8")))

documented = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="an sdist has no docs")


def tables(text: str) -> list[dict[str, Any]]:
    """Every [tool.hatch-docker] of a page's TOML, whatever its indentation."""
    blocks = re.findall(r"^( *)```toml\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    found = [tomllib.loads(re.sub(f"^{indent}", "", block, flags=re.MULTILINE)) for indent, block in blocks]
    return [one["tool"]["hatch-docker"] for one in found if "hatch-docker" in one.get("tool", {})]


def test_it_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """`hatch-docker schema > hatch_docker/config/schema.json` writes what is there."""
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == SHIPPED.read_text("utf-8")


def test_it_is_of_the_draft_that_editors_take(capsys: pytest.CaptureFixture[str]) -> None:
    """Draft 7, without references: whoever takes a part of it has all of that part."""
    assert main(["schema", "--pyproject"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole == pyproject_schema()
    for one in (schema(), whole):
        assert one["$schema"] == "http://json-schema.org/draft-07/schema#"
        jsonschema.Draft7Validator.check_schema(one)
        assert "$ref" not in json.dumps(one)
    jsonschema.Draft7Validator(whole).validate(tomllib.loads(GOOD))


@documented
def test_every_example_fits() -> None:
    """Of the documentation and of the example project."""
    found = [(page.name, table) for page in PAGES for table in tables(page.read_text("utf-8"))]
    assert len(found) > 20
    example = tomllib.loads((ROOT / "example_project/pyproject.toml").read_text("utf-8"))
    found.append(("example", example["tool"]["hatch-docker"]))
    for name, table in found:
        assert [error.message for error in EDITOR.iter_errors(table)] == [], name


@pytest.mark.parametrize("option", all_options(), ids=lambda option: option.name)
def test_every_option_is_explained_and_its_typo_refused(option: Any) -> None:
    """A sentence that ends, without Markdown, which editors show as it is; a name that misses a letter is none."""
    node: dict[str, Any] = EDITOR.schema
    for name in option.path:
        node = node["properties"][name]
    assert re.fullmatch(r"[A-Z\[].*[.:)]", node["description"], re.DOTALL)
    assert "`" not in node["description"]
    typo: Any = "x"
    for name in (option.path[-1][:-1], *reversed(option.path[:-1])):
        typo = {name: typo}
    (error, *_others) = EDITOR.iter_errors(typo)
    assert f"'{option.path[-1][:-1]}' was unexpected" in error.message or "required" in error.message


def program(name: str) -> str:
    """A program of the development environment."""
    found = shutil.which(name, path=Path(sys.executable).parent)
    assert found
    return found


def lint(*command: str, cwd: Path) -> tuple[int, str]:
    """The status of a program, and what it says without its colours."""
    done = subprocess.run(
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, re.sub(r"\x1b\[[\d;]*m", "", done.stdout)


def check_good_and_wrong(path: Path, above: str, *command: str) -> list[str]:
    """Let a program check a good table, then wrong ones, which it refuses; return what it says of each."""
    path.write_text(above + GOOD)
    status, said = lint(*command, cwd=path.parent)
    assert status == 0, said
    answers = [said]
    for word, text in WRONG.items():
        path.write_text(above + text)
        status, said = lint(*command, cwd=path.parent)
        assert status == 1, said
        assert word in said
        answers.append(said)
    return answers


def test_validate_pyproject_takes_it(tmp_path: Path) -> None:
    """The real one, which finds it by its entry point."""
    (point,) = entry_points(group="validate_pyproject.tool_schema", name="hatch-docker")
    assert point.load()("hatch-docker") == schema()
    path = tmp_path / "pyproject.toml"
    good, *wrong = check_good_and_wrong(path, "", program("validate-pyproject"), str(path))
    assert "Valid" in good
    assert all("tool.hatch-docker" in said for said in wrong)


@documented
@pytest.mark.parametrize("editor", ["taplo", "tombi"])
def test_editors_take_it(editor: str, tmp_path: Path) -> None:
    """As docs/editors.md says: by a directive for Taplo, by four lines of settings for Tombi."""
    page = (ROOT / "docs/editors.md").read_text("utf-8")
    directive, settings = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    value, above, offline = schema(), settings + "\n", "--offline"
    if editor == "taplo":
        value, above, offline = pyproject_schema(), directive.splitlines()[0] + "\n\n", "--no-auto-config"
    (tmp_path / "hatch-docker.schema.json").write_text(json.dumps(value))
    check_good_and_wrong(tmp_path / "pyproject.toml", above, program(editor), "lint", offline, "pyproject.toml")
