"""The shipped JSON Schema, tested with validate-pyproject and with the programs behind editors' plugins."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatch_docker.cli.commands.schema import pyproject_schema
from hatch_docker.cli.main import main
from hatch_docker.config.schema import all_options, schema
from hatch_docker.core.errors import ConfigError
from tests.fakes.every_option import EVERYTHING, JUNK, load, table

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ROOT / "hatch_docker/config/schema.json"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
GOOD = '[project]\nname = "a"\nversion = "1"\n\n[tool.hatch-docker]\nbase = "debian:trixie"\nports = [80]\n'
WRONG = {"entrypiont": GOOD + 'entrypiont = ["a"]\n', "65535": GOOD.replace("80", "99999")}
EDITOR = jsonschema.Draft7Validator(json.loads(SHIPPED.read_text("utf-8")))

documented = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="an sdist has no docs")


def tables(text: str) -> list[dict[str, Any]]:
    """Return the tables [tool.hatch-docker] in the TOML blocks of a page."""
    blocks = re.findall(r"^( *)```toml\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    found = [tomllib.loads(re.sub(f"^{indent}", "", block, flags=re.MULTILINE)) for indent, block in blocks]
    return [table["tool"]["hatch-docker"] for table in found if "hatch-docker" in table.get("tool", {})]


def test_schema_file_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """`hatch-docker schema > hatch_docker/config/schema.json` updates the file."""
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == SHIPPED.read_text("utf-8")


def test_schema_is_draft_7_without_references(capsys: pytest.CaptureFixture[str]) -> None:
    """Editors support this draft, and each part of the schema can be used alone."""
    assert main(["schema", "--pyproject"]) == 0
    pyproject = json.loads(capsys.readouterr().out)
    assert pyproject == pyproject_schema()
    for value in (schema(), pyproject):
        assert value["$schema"] == "http://json-schema.org/draft-07/schema#"
        jsonschema.Draft7Validator.check_schema(value)
        assert "$ref" not in json.dumps(value)
    jsonschema.Draft7Validator(pyproject).validate(tomllib.loads(GOOD))


@documented
def test_documented_examples_are_valid() -> None:
    """This includes the example project."""
    found = [(page.name, options) for page in PAGES for options in tables(page.read_text("utf-8"))]
    assert len(found) > 20
    example = tomllib.loads((ROOT / "example_project/pyproject.toml").read_text("utf-8"))
    found.append(("example", example["tool"]["hatch-docker"]))
    for name, options in found:
        assert [error.message for error in EDITOR.iter_errors(options)] == [], name


@pytest.mark.parametrize("option", all_options(), ids=lambda option: option.name)
def test_option_has_a_description_and_typo_is_rejected(option: Any) -> None:
    """The description is a sentence without Markdown, because editors show it unformatted."""
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


def values(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for values that a schema accepts."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    found = {
        "boolean": st.booleans,
        "integer": lambda: st.integers(schema["minimum"], schema["maximum"]),
        "string": lambda: st.from_regex(schema["pattern"], fullmatch=True),
        "array": lambda: st.lists(values(schema["items"]), min_size=schema.get("minItems", 0), max_size=3),
        "object": lambda: some_options(schema) if "properties" in schema else st.dictionaries(
            values({"type": "string", **schema["propertyNames"]}), values(schema["additionalProperties"]), max_size=2
        ),
    }  # fmt: skip
    return st.one_of(found[kind]() for kind in kinds)


def some_options(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for tables with up to two options, besides the required ones, some with random values."""
    names = [name for name in schema["properties"] if name != "images"]
    some = {name: values(schema["properties"][name]) for name in names}
    return st.lists(st.sampled_from(names), max_size=2, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({
            name: some[name] if name in schema.get("required", ()) else st.one_of(some[name], some[name], JUNK)
            for name in {*chosen, *schema.get("required", ())}
        })
    )


def ecma_pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    """Match a pattern as in ECMA 262, where $ matches at the end of the text only."""
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


# In TOML, 1.0 is not an integer; in JSON Schema it is.
TYPES = jsonschema.Draft7Validator.TYPE_CHECKER.redefine("integer", lambda _checker, value: type(value) is int)
STRICT = jsonschema.validators.extend(jsonschema.Draft7Validator, {"pattern": ecma_pattern}, type_checker=TYPES)
# Errors of the models that the schema cannot express, or only in an unreadable way.
ONLY_MODELS = re.compile(r"tool\.hatch-docker\.(cache\.|user: must be at most 2147483647)")


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(some_options(EDITOR.schema))
def test_schema_and_models_accept_the_same_tables(found: dict[str, Any]) -> None:
    mistakes = [error.message for error in STRICT(EDITOR.schema).iter_errors(found)]
    try:
        load(found)
    except ConfigError as error:
        assert mistakes or all(map(ONLY_MODELS.match, str(error).splitlines())), error
    else:
        assert not mistakes


def test_table_with_every_option_is_valid() -> None:
    EDITOR.validate(table(EVERYTHING))


def program(name: str) -> str:
    """Return the path of a program of the development environment."""
    found = shutil.which(name, path=Path(sys.executable).parent)
    assert found
    return found


def lint(*command: str, cwd: Path) -> tuple[int, str]:
    """Return a program's exit status and its output without colours."""
    done = subprocess.run(
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, re.sub(r"\x1b\[[\d;]*m", "", done.stdout)


def check_good_and_wrong(path: Path, above: str, *command: str) -> list[str]:
    """Check that a program accepts a valid table and rejects the wrong ones; return its output for each."""
    path.write_text(above + GOOD)
    status, output = lint(*command, cwd=path.parent)
    assert status == 0, output
    outputs = [output]
    for word, text in WRONG.items():
        path.write_text(above + text)
        status, output = lint(*command, cwd=path.parent)
        assert status == 1, output
        assert word in output
        outputs.append(output)
    return outputs


def test_validate_pyproject_uses_the_schema(tmp_path: Path) -> None:
    """The program finds the schema by its entry point."""
    (point,) = entry_points(group="validate_pyproject.tool_schema", name="hatch-docker")
    assert point.load()("hatch-docker") == schema()
    path = tmp_path / "pyproject.toml"
    good, *wrong = check_good_and_wrong(path, "", program("validate-pyproject"), str(path))
    assert "Valid" in good
    assert all("tool.hatch-docker" in output for output in wrong)


@documented
@pytest.mark.parametrize("editor", ["taplo", "tombi"])
def test_editor_programs_use_the_schema(editor: str, tmp_path: Path) -> None:
    """The configuration is from docs/editors.md: a directive for Taplo, four lines of settings for Tombi."""
    page = (ROOT / "docs/editors.md").read_text("utf-8")
    directive, settings = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    value, above, offline = schema(), settings + "\n", "--offline"
    if editor == "taplo":
        value, above, offline = pyproject_schema(), directive.splitlines()[0] + "\n\n", "--no-auto-config"
    (tmp_path / "hatch-docker.schema.json").write_text(json.dumps(value))
    check_good_and_wrong(tmp_path / "pyproject.toml", above, program(editor), "lint", offline, "pyproject.toml")
