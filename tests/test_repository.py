"""Files for GitHub, GitLab and pre-commit: their schemas, scripts and references."""

import re
import runpy
import subprocess
import tomllib

import pytest

from tests.pages import ROOT, links
from tests.schemas import check_schema, documents, scripts

if not (ROOT / ".github").is_dir():
    pytest.skip("an sdist has no workflows", allow_module_level=True)

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
ACTION, COMPONENT = ROOT / "action.yml", ROOT / "templates/image.yml"


@pytest.mark.parametrize(("path", "kind"), [
    *((path, "github-workflows") for path in WORKFLOWS), *((path, "github-issue-forms") for path in FORMS),
    (ROOT / ".github/ISSUE_TEMPLATE/config.yml", "github-issue-config"), (ACTION, "github-actions"),
    (COMPONENT, "gitlab-ci"),
], ids=lambda value: getattr(value, "name", value))  # fmt: skip
def test_file_matches_its_schema(path: object, kind: str) -> None:
    for document in documents(path.read_text("utf-8")):  # type: ignore[attr-defined]
        check_schema(document, kind)


def test_pre_commit_hooks() -> None:
    from pre_commit import clientlib

    (hook,) = clientlib.load_manifest(str(ROOT / ".pre-commit-hooks.yaml"))
    assert " ".join([hook["entry"], *hook["args"]]) == "hatch-docker lock --check"
    for name in ("pyproject.toml", "uv.lock", "requirements-dev.txt", "hatch-docker.lock", "pylock.toml"):
        assert re.search(hook["files"], name)
    assert not re.search(hook["files"], "src/app.py")
    (local,) = clientlib.load_config(str(ROOT / ".pre-commit-config.yaml"))["repos"]
    assert {hook["entry"].partition(" ")[0] for hook in local["hooks"]} == {"ruff", "mypy", "python"}


@pytest.mark.parametrize("path", [*WORKFLOWS, ACTION, COMPONENT], ids=lambda path: path.name)
def test_scripts_are_valid_and_use_inputs_as_variables(path: object) -> None:
    """On GitHub, an expression in a script would allow code injection."""
    text = path.read_text("utf-8")  # type: ignore[attr-defined]
    for script in scripts(documents(text)):
        assert "${{" not in script
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    for used in re.findall(r"uses: (\S+)", text):
        local = used.startswith("./")
        assert (ROOT / used).is_file() if local else re.fullmatch(r"[\w-]+/[\w/-]+@(v\d+|release/v\d+)", used), used


def test_ci_tests_all_supported_pythons() -> None:
    """From the oldest version in requires-python, without a gap."""
    (document,) = documents((ROOT / ".github/workflows/tests.yml").read_text("utf-8"))
    minors = [int(version.partition(".")[2]) for version in document["jobs"]["quick"]["strategy"]["matrix"]["python"]]
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert oldest == f">=3.{minors[0]}"
    assert minors == list(range(11, 16))


def test_release_runs_after_tests_and_needs_no_token() -> None:
    (document,) = documents((ROOT / ".github/workflows/release.yml").read_text("utf-8"))
    jobs = document["jobs"]
    assert (jobs["build"]["needs"], jobs["publish"]["needs"]) == ("tests", "build")
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert document["permissions"] == {"contents": "read"}
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text("utf-8")


def test_readme_on_package_index_has_absolute_links() -> None:
    """The repository's URL is only in pyproject.toml; the release workflow writes it there."""
    build_hook = runpy.run_path(str(ROOT / "hatch_build.py"))
    text = build_hook["absolute"]((ROOT / "README.md").read_text("utf-8"), "https://host.example/owner/name")
    found = [address for address in re.findall(r"\]\(([^()\s]+)\)", text) if "host.example" in address]
    assert len(found) == len([link for link in links(ROOT / "README.md") if not link.startswith("http")]) > 20
    for address in found:
        kind, path = re.fullmatch(r"https://host\.example/owner/name/(blob|raw)/main/(.+)", address).groups()
        assert (ROOT / path.partition("#")[0]).is_file()
        assert (kind == "raw") is path.endswith(".svg")
    assert "Repository" in build_hook["urls"]("https://host.example/owner/name", "")
    line = 'repository = ""\n'
    assert line in (ROOT / "pyproject.toml").read_text("utf-8")
    assert line.strip().replace('"', '\\"') in (ROOT / ".github/workflows/release.yml").read_text("utf-8")
