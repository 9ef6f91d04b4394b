"""The scripts of the GitHub action and of the GitLab component, run as a pipeline runs them."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.github_outputs import read_outputs
from tests.integration.builds import Outcome, run_in
from tests.pages import ROOT
from tests.projects import write_project
from tests.schemas import documents

pytestmark = pytest.mark.network

if not (ROOT / "action.yml").is_file():
    pytest.skip("an sdist has no action", allow_module_level=True)


def run_script(script: str, project: Path, cache: Path, variables: Mapping[str, str]) -> Outcome:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    outcome = run_in(project, cache, "bash", "-eo", "pipefail", "-c", script, variables={**variables, "PATH": path})
    assert outcome.status == 0, outcome.output
    return outcome


def step(steps: list[dict[str, Any]], name: str, inputs: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the script of a step, and its variables with the inputs filled in."""
    (found,) = [step for step in steps if step.get("name") == name]
    texts = found["env"].items()
    return found["run"], {key: re.sub(r"\$\{\{ inputs\.([\w-]+) }}", lambda match: inputs[match[1]], text)
                          for key, text in texts}  # fmt: skip


def test_github_action_builds_and_sets_its_outputs(tmp_path: Path, cache: Path) -> None:
    (action,) = documents((ROOT / "action.yml").read_text("utf-8"))
    steps, defaults = action["runs"]["steps"], {name: entry["default"] for name, entry in action["inputs"].items()}
    inputs = {**defaults, "tag": "shop:7", "arguments": "--no-load --quiet", "cache-size": "20"}
    project = write_project("hello", tmp_path / "p")
    script, variables = step(steps, "Build the image", inputs)
    outcome = run_script(script, project, cache, {**variables, "GITHUB_OUTPUT": str(tmp_path / "outputs")})
    outputs = read_outputs(tmp_path / "outputs")
    assert outputs["digest"] == outcome.digest
    assert (outputs["tags"], outcome.receipt["image"]) == ("7", "shop")
    assert set(outputs) == set(action["outputs"])
    assert all(entry["value"] == f"${{{{ steps.build.outputs.{name} }}}}" for name, entry in action["outputs"].items())
    run_script(*step(steps, "Limit the cache", inputs)[:1], project, cache, {"CACHE_SIZE": "20"})


def test_gitlab_component_builds_and_writes_its_report(tmp_path: Path, cache: Path) -> None:
    text = (ROOT / "templates/image.yml").read_text("utf-8")
    inputs = {name: entry["default"] for name, entry in documents(text)[0]["spec"]["inputs"].items()}
    inputs |= {"options": "--no-load", "image": "registry.example/shop", "cache-size": "20"}
    filled = re.sub(r"\$\[\[ inputs\.([\w-]+) ]]", lambda match: inputs[match[1]], text)
    job = documents(filled)[1]["image"]
    project = write_project("hello", tmp_path / "p")
    variables = {**job["variables"], "HATCH_DOCKER_CACHE_DIR": str(cache)}
    outcome = run_script("\n".join(job["script"]), project, cache, variables)
    report = (project / job["artifacts"]["reports"]["dotenv"]).read_text()
    assert f"IMAGE_DIGEST={outcome.digest}\n" in report
    assert outcome.receipt["image"] == "registry.example/shop"
