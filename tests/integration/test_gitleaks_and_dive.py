"""Images checked by other tools: gitleaks finds no secret in them, and dive finds no file in two layers."""

import json
import random
import shutil
import string
import subprocess
import sys
from pathlib import Path

import pytest

from hatch_docker.oci.filesystem import extract
from tests.conftest import need
from tests.integration.builds import build
from tests.projects import write_files, write_project

pytestmark = [pytest.mark.engine, pytest.mark.network]


def tool(name: str) -> str:
    """Return the path of a program that pip installs beside Python."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or need(name)


def leaks(directory: Path) -> list[str]:
    """Return the files in which gitleaks finds secrets."""
    command = [tool("gitleaks"), "dir", directory, "--no-banner", "--exit-code", "0", "--report-format", "json"]
    done = subprocess.run([*command, "--report-path", "-"], capture_output=True, text=True, timeout=300, check=True)
    return sorted({str(Path(finding["File"]).relative_to(directory)) for finding in json.loads(done.stdout)})


def text(generator: random.Random, length: int, letters: str = string.ascii_letters + string.digits) -> str:
    return "".join(generator.choice(letters) for _ in range(length))


def write_secrets(project: Path) -> None:
    """Write invented secrets, in formats that scanners detect, to the files in which people keep them."""
    generator, base32 = random.Random(7), string.ascii_uppercase + "234567"
    key = "\n".join(text(generator, 64) for _ in range(24))
    write_files(project, {
        ".env": f"GITHUB_TOKEN=ghp_{text(generator, 36)}\n",
        ".pypirc": f"[pypi]\npassword = pypi-AgEIcHlwaS5vcmc{text(generator, 120)}\n",
        "id_rsa": f"-----BEGIN RSA PRIVATE KEY-----\n{key}\n-----END RSA PRIVATE KEY-----\n",
        ".aws/credentials": f"[default]\naws_access_key_id = AKIA{text(generator, 16, base32)}\n",
        ".gitignore": ".env\n.pypirc\nid_rsa\n.aws\ndist\n",
    })  # fmt: skip


def test_gitleaks_finds_no_secret_of_the_project_in_its_image(tmp_path: Path, cache: Path) -> None:
    """It checks all layers, manifest, configuration, receipt, SBOM and provenance."""
    project = write_project("c-extension", tmp_path / "p")
    write_secrets(project)
    assert leaks(project) == [".aws/credentials", ".env", ".pypirc", "id_rsa"]
    outcome = build(project, cache)
    image = outcome.image()
    for name in ("tree", "documents"):
        (tmp_path / name).mkdir()
    extract(image.layers, tmp_path / "tree")
    for path in outcome.directory.glob("*.json"):
        shutil.copy(path, tmp_path / "documents")
    (tmp_path / "documents/manifest.json").write_bytes(image.manifest)
    (tmp_path / "documents/config.json").write_bytes(image.config)
    assert leaks(tmp_path / "tree") == []
    assert leaks(tmp_path / "documents") == []


@pytest.mark.parametrize("packages", ["[]", '["libgomp1"]'])
def test_dive_finds_no_file_in_two_layers(packages: str, tmp_path: Path, cache: Path) -> None:
    """dive reports an efficiency above 0.99."""
    options = f"[tool.hatch-docker.runtime]\npackages = {packages}"
    outcome = build(write_project("c-extension", tmp_path / "p", options=options), cache)
    done = subprocess.run(
        [tool("dive"), "--ci", f"docker-archive://{outcome.archive}", "--lowestEfficiency", "0.99"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    efficiency = next(line.split()[-2] for line in done.stdout.splitlines() if "efficiency:" in line)
    assert float(efficiency) > 99
