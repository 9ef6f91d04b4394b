"""Outputs of a build for pipelines: variables and the step summary."""

from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.build.ci_outputs import report_path, write_ci_outputs
from hatch_docker.config.load import load_config
from hatch_docker.core.errors import ConfigError, StoreError
from tests.fakes.github_outputs import read_outputs
from tests.fakes.receipts import DIGEST, ONE, RECEIPT, TWO


def test_github_s_outputs_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "output"
    path.write_text("mine<<x\n1\nx\n")
    write_ci_outputs(RECEIPT, Path("/dist"), None, {"GITHUB_OUTPUT": str(path)})
    assert read_outputs(path) == {
        "mine": "1", "name": "app", "version": "1.0", "digest": DIGEST, "reference": ONE.reference,
        "references": f"{ONE.reference}\n{TWO.reference}", "tags": "1.0\nlatest", "archive": "/dist/app-1.0.oci.tar",
        "size": "20001000",
    }  # fmt: skip


def test_projects_that_share_a_step_have_outputs_of_their_own(tmp_path: Path) -> None:
    """As those of a workspace, of which GitHub keeps the last under each name; several images of one, too."""
    path = tmp_path / "output"
    for receipt in (replace(RECEIPT, name="My_App"), replace(RECEIPT, name="tool", part="worker", version="2")):
        write_ci_outputs(receipt, Path("/dist"), None, {"GITHUB_OUTPUT": str(path)}, several=True)
    found = read_outputs(path)
    assert (found["version"], found["my-app-version"]) == ("1.0", "1.0")
    assert (found["worker-version"], found["tool-worker-version"]) == ("2", "2")


def test_a_value_with_a_line_break_stays_one_value(tmp_path: Path) -> None:
    path = tmp_path / "output"
    evil = replace(RECEIPT, tags=("1.0\nend-0\ndigest=evil",))
    write_ci_outputs(evil, Path("/dist"), None, {"GITHUB_OUTPUT": str(path)})
    found = read_outputs(path)
    assert (found["tags"], found["digest"]) == ("1.0\nend-0\ndigest=evil", DIGEST)


@pytest.mark.parametrize("path", ["../.profile", "/etc/profile", "out/.profile", ".git/config"])
def test_the_report_replaces_no_file_outside_of_the_project(path: str, tmp_path: Path) -> None:
    """A shell reads such lines as commands."""
    project = tmp_path / "p"
    project.mkdir()
    (project / "out").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"must be a path inside the project|is outside of the project; a build"):
        report_path(project, load_config({"dotenv": path}, {}, project / "pyproject.toml").dotenv, {})
    assert report_path(project, "", {}) is None


def test_gitlab_s_variables(tmp_path: Path) -> None:
    """One line a variable, no quotes, nothing empty; none is named as an option of ours."""
    write_ci_outputs(replace(RECEIPT, archive=""), Path("/dist"), tmp_path / "reports/image.env", {})
    lines = (tmp_path / "reports/image.env").read_text().splitlines()
    assert lines == [
        "IMAGE_NAME=app", "IMAGE_VERSION=1.0", f"IMAGE_DIGEST={DIGEST}", f"IMAGE_REFERENCE={ONE.reference}",
        f"IMAGE_REFERENCES={ONE.reference} {TWO.reference}", "IMAGE_TAGS=1.0 latest", "IMAGE_SIZE=20001000",
    ]  # fmt: skip


def test_the_step_summary_is_markdown(tmp_path: Path) -> None:
    """Hints name files of wheels, which may be called anything: they are text."""
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


def test_an_image_keeps_the_variables_of_one_with_a_longer_name(tmp_path: Path) -> None:
    path = tmp_path / "image.env"
    for part in ("web-admin", "web"):
        write_ci_outputs(replace(RECEIPT, part=part), Path("/dist"), path, {})
    lines = path.read_text().splitlines()
    assert {"IMAGE_WEB_NAME=app", "IMAGE_WEB_ADMIN_NAME=app"} <= {*lines}
    write_ci_outputs(replace(RECEIPT, part="web"), Path("/dist"), path, {})
    assert sorted(path.read_text().splitlines()) == sorted(lines)


def test_without_a_pipeline_nothing_is_written(tmp_path: Path) -> None:
    write_ci_outputs(RECEIPT, tmp_path, None, {"GITHUB_OUTPUT": "", "GITHUB_STEP_SUMMARY": ""})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot write .*gone/output: No such file"):
        write_ci_outputs(RECEIPT, tmp_path, None, {"GITHUB_OUTPUT": str(tmp_path / "gone/output")})
