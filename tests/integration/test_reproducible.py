"""The digest does not depend on the environment: one difference at a time, all at once, and fifty builds.

These tests take minutes (`pytest -m long`) and need Debian's `reprotest` and `disorderfs`. The quicker ones are in
test_builds (another host), test_lock_command (a new release), test_verify and tests/bases/test_bytecode.py.
"""

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need, script
from tests.integration.builds import build, install_in_new_venv, other_python, output_of
from tests.integration.prepared_build import PreparedBuild, prepare_build

pytestmark = [pytest.mark.network, pytest.mark.long]


@pytest.fixture
def prepared(public_dir: Path, cache: Path, shared: Path) -> PreparedBuild:
    """Return a locked project with two wheels, and a cache that has downloads only."""
    options = 'extras = ["colour"]'
    result = prepare_build(public_dir, shared / "hello", warm=False, kind="extras-and-groups", options=options)
    output_of(result.project, cache, "lock")
    return result


def copy_cache(prepared: PreparedBuild, name: str) -> Path:
    """Copy the initial cache of a prepared build; return the copy."""
    return shutil.copytree(prepared.cache, prepared.project.parent / name, symlinks=True)


def test_reprotest(prepared: PreparedBuild) -> None:
    """reprotest varies clock, locale, path, order of files, number of CPUs, home and more."""
    need("disorderfs")
    command = script(
        prepared.project.parent / "build.sh",
        "set -e\nown=$(mktemp -d)\n"
        f'cp -a "{prepared.cache}/." "$own"\nHATCH_DOCKER_CACHE_DIR="$own" HATCH_DOCKER_LOAD=never '
        f'HATCH_DOCKER_OFFLINE=1 "{sys.executable}" -m hatchling build -t docker\nrm -rf "$own"',
    )
    varied = "--vary=+all,-user_group,-domain_host,-kernel"
    found = subprocess.run(
        [need("reprotest"), varied, "-c", str(command), ".", "dist/*.oci.tar"], cwd=prepared.project, timeout=600,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout
    assert "Reproduction successful" in found.stdout
    assert found.stdout.count(prepared.digest) == 2
    assert found.stdout.count("making the base") >= 2


@dataclass(frozen=True)
class Difference:
    """Differences of a build: variables, options of the process, directory, order of files, Python and user."""

    variables: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    place: str = ""
    disordered: str = ""
    plain_user: bool = False
    other_python: bool = False


DIFFERENCES = {
    "umask 000": Difference(options={"umask": 0}),
    "umask 077": Difference(options={"umask": 0o077}),
    "locale": Difference({"LC_ALL": "C", "LANG": "C", "LANGUAGE": "tr"}),
    "time zone": Difference({"TZ": "Asia/Kathmandu"}),
    "hash seed": Difference({"PYTHONHASHSEED": "4242", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONOPTIMIZE": "2"}),
    "path": Difference(place="another place, and a longer one/än"),
    "one CPU": Difference(options={"preexec_fn": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})}),
    "files shuffled": Difference(disordered="--shuffle-dirents=yes"),
    "files reversed": Difference(disordered="--reverse-dirents=yes"),
    "Python": Difference(other_python=True),
    "user": Difference(other_python=True, plain_user=True),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_one_difference_keeps_the_digest(name: str, prepared: PreparedBuild) -> None:
    """All layers are made again, with one difference in the environment."""
    difference, root = DIFFERENCES[name], prepared.project.parent
    own, python = copy_cache(prepared, "own"), sys.executable
    project = shutil.copytree(prepared.project, root / difference.place / "p") if difference.place else prepared.project
    if difference.other_python:
        install_in_new_venv(other_python(), root / "venv")
        python = str(root / "venv/bin/python")
    options, variables = dict(difference.options), dict(difference.variables)
    if difference.plain_user:
        assert os.getuid() == 0, "only root can switch to another user"
        subprocess.run(["chown", "-R", "65534:65534", str(project), str(own)], check=True)
        options |= {"user": 65534, "group": 65534, "extra_groups": []}
        variables |= {"HOME": str(own), "TMPDIR": str(own)}
    with disordered(project, root / "mount", difference.disordered) as place:
        outcome = build(place, own, python=python, variables=variables, **options)
        assert len(outcome.new_layers()) == 3
        assert outcome.digest == prepared.digest
        outcome.item()


@contextlib.contextmanager
def disordered(directory: Path, mount: Path, option: str) -> Iterator[Path]:
    """Mount a directory with disorderfs, which changes the order of files; without `option` yield the directory."""
    if not option:
        yield directory
        return
    mount.mkdir()
    subprocess.run([need("disorderfs"), "--quiet", option, str(directory), str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_fifty_builds_have_the_same_digest(prepared: PreparedBuild) -> None:
    """With an empty, a complete and a partial cache; on one CPU and on all; with random hash seeds."""
    generator, found = random.Random(5), []
    own = copy_cache(prepared, "own")
    for number in range(50):
        if generator.random() < 0.4:  # the initial cache
            shutil.rmtree(own)
            own = copy_cache(prepared, f"own-{number}")
        elif generator.random() < 0.5:  # a cache from which half of the blobs were removed
            blobs = sorted((own / "v1/blobs").iterdir())
            for path in generator.sample(blobs, len(blobs) // 2):
                path.unlink()
        single = generator.random() < 0.5
        cpus = {min(os.sched_getaffinity(0))} if single else os.sched_getaffinity(0)
        outcome = build(
            prepared.project, own, variables={"PYTHONHASHSEED": str(generator.randrange(1 << 32))},
            preexec_fn=lambda cpus=cpus: os.sched_setaffinity(0, cpus),
        )  # fmt: skip
        found.append(outcome.digest)
    assert set(found) == {prepared.digest}
    assert len(found) == 50
