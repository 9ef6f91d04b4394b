"""Outputs of a build for CI pipelines: variables and the step summary."""

from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.build.ci_outputs import report_path, write_ci_outputs
from hatch_docker.config.load import load_config
from hatch_docker.core.errors import ConfigError, StoreError
from tests.fakes.github_outputs import read_outputs
from tests.fakes.receipts import DIGEST, ONE, RECEIPT, TWO


def test_github_outputs_are_appended_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "output"
    path.write_text("mine<<x\n1\nx\n")
    write_ci_outputs(RECEIPT, Path("/dist"), None, {"GITHUB_OUTPUT": str(path)})
    assert read_outputs(path) == {
        "mine": "1", "name": "app", "version": "1.0", "digest": DIGEST, "reference": ONE.reference,
        "references": f"{ONE.reference}\n{TWO.reference}", "tags": "1.0\nlatest", "archive": "/dist/app-1.0.oci.tar",
        "size": "20001000",
    }  # fmt: skip


def test_outputs_of_several_projects_have_name_prefixes(tmp_path: Path) -> None:
    """GitHub keeps only the last value of a name. Several images of a project also have a prefix."""
    path = tmp_path / "output"
    for receipt in (replace(RECEIPT, name="My_App"), replace(RECEIPT, name="tool", part="worker", version="2")):
        write_ci_outputs(receipt, Path("/dist"), None, {"GITHUB_OUTPUT": str(path)}, several=True)
    found = read_outputs(path)
    assert (found["version"], found["my-app-version"]) == ("1.0", "1.0")
    assert (found["worker-version"], found["tool-worker-version"]) == ("2", "2")


def test_line_break_in_value_defines_no_other_output(tmp_path: Path) -> None:
    path = tmp_path / "output"
    evil = replace(RECEIPT, tags=("1.0\nend-0\ndigest=evil",))
    write_ci_outputs(evil, Path("/dist"), None, {"GITHUB_OUTPUT": str(path)})
    found = read_outputs(path)
    assert (found["tags"], found["digest"]) == ("1.0\nend-0\ndigest=evil", DIGEST)


@pytest.mark.parametrize("path", ["../.profile", "/etc/profile", "out/.profile", ".git/config"])
def test_dotenv_path_outside_the_project_is_rejected(path: str, tmp_path: Path) -> None:
    """A shell would execute such lines in .profile."""
    project = tmp_path / "p"
    project.mkdir()
    (project / "out").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"must be a path inside the project|is outside of the project; a build"):
        report_path(project, load_config({"dotenv": path}, {}, project / "pyproject.toml").dotenv, {})
    assert report_path(project, "", {}) is None


def test_dotenv_report_has_a_line_for_each_variable(tmp_path: Path) -> None:
    """Values have no quotes, and empty values are left out. No name is the variable of an option."""
    write_ci_outputs(replace(RECEIPT, archive=""), Path("/dist"), tmp_path / "reports/image.env", {})
    lines = (tmp_path / "reports/image.env").read_text().splitlines()
    assert lines == [
        "IMAGE_NAME=app", "IMAGE_VERSION=1.0", f"IMAGE_DIGEST={DIGEST}", f"IMAGE_REFERENCE={ONE.reference}",
        f"IMAGE_REFERENCES={ONE.reference} {TWO.reference}", "IMAGE_TAGS=1.0 latest", "IMAGE_SIZE=20001000",
    ]  # fmt: skip


def test_step_summary_is_escaped_markdown(tmp_path: Path) -> None:
    """Hints contain file names of wheels, which may look like Markdown or HTML."""
    path = tmp_path / "summary"
    hint = "lib\n# passed\n<img src=x>[a](https://evil.example)`|\x1b[2J.so is there 2 times"
    receipt = replace(RECEIPT, deliveries=(ONE, replace(TWO, error="it said no")), hints=(hint,))
    write_ci_outputs(receipt, Path("/dist"), None, {"GITHUB_STEP_SUMMARY": str(path)})
    text = path.read_text()
    assert f"- `{ONE.reference}` as `1.0`, `latest`, 1.23 MB sent\n" in text
    assert f"- **not pushed** to `{TWO.reference}`\n" in text
    assert "| linux/amd64 | unpacked | compressed | |\n|---|--:|--:|---|\n| base | 50.00 MB | 20.00 MB |" in text
    assert text.splitlines()[-2] == (
        r"- lib # passed \<img src=x\>\[a\](https://evil.example)\`\|\\x1b\[2J.so is there 2 times"
    )


def test_dotenv_keeps_variables_of_other_images(tmp_path: Path) -> None:
    path = tmp_path / "image.env"
    for part in ("web-admin", "web"):
        write_ci_outputs(replace(RECEIPT, part=part), Path("/dist"), path, {})
    lines = path.read_text().splitlines()
    assert {"IMAGE_WEB_NAME=app", "IMAGE_WEB_ADMIN_NAME=app"} <= {*lines}
    write_ci_outputs(replace(RECEIPT, part="web"), Path("/dist"), path, {})
    assert sorted(path.read_text().splitlines()) == sorted(lines)


def test_outside_a_pipeline_nothing_is_written(tmp_path: Path) -> None:
    write_ci_outputs(RECEIPT, tmp_path, None, {"GITHUB_OUTPUT": "", "GITHUB_STEP_SUMMARY": ""})
    assert list(tmp_path.iterdir()) == []


def test_unwritable_output_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot write .*gone/output: No such file"):
        write_ci_outputs(RECEIPT, tmp_path, None, {"GITHUB_OUTPUT": str(tmp_path / "gone/output")})
