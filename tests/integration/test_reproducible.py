"""The same digest whatever differs around a build: one difference at a time, all at once, and fifty times over.

The everyday half is in test_builds (another host), test_locking (a new release upstream), test_verify and
test_compile. These take minutes: `pytest -m long`, with Debian's `reprotest` and `disorderfs`.
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
from tests.integration.builds import build, done, install_elsewhere, other_python
from tests.integration.prepared_build import Prepared, prepare_build

pytestmark = [pytest.mark.network, pytest.mark.long]


@pytest.fixture
def prepared(public_dir: Path, cache: Path, shared: Path) -> Prepared:
    """A locked project with two wheels, and a cache that has what is downloaded and nothing that is made."""
    options = 'extras = ["colour"]'
    made = prepare_build(public_dir, shared / "hello", warm=False, kind="extras-and-groups", options=options)
    done(made.project, cache, "lock")
    return made


def fresh(prepared: Prepared, name: str) -> Path:
    """The prepared's cache as it was in the beginning."""
    return shutil.copytree(prepared.cache, prepared.project.parent / name, symlinks=True)


def test_reprotest(prepared: Prepared) -> None:
    """All that reprotest varies: clock, locale, path, order of files, number of CPUs, home and more."""
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
    """Differences of a build: variables, options of the process, place, order of files, Python and user."""

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
def test_one_difference(name: str, prepared: Prepared) -> None:
    """The same digest where one thing differs, everything made anew."""
    differs, root = DIFFERENCES[name], prepared.project.parent
    own, python = fresh(prepared, "own"), sys.executable
    project = shutil.copytree(prepared.project, root / differs.place / "p") if differs.place else prepared.project
    if differs.other_python:
        install_elsewhere(other_python(), root / "venv")
        python = str(root / "venv/bin/python")
    options, variables = dict(differs.options), dict(differs.variables)
    if differs.plain_user:
        assert os.getuid() == 0, "only root can be somebody else"
        subprocess.run(["chown", "-R", "65534:65534", str(project), str(own)], check=True)
        options |= {"user": 65534, "group": 65534, "extra_groups": []}
        variables |= {"HOME": str(own), "TMPDIR": str(own)}
    with disordered(project, root / "mount", differs.disordered) as place:
        made = build(place, own, python=python, variables=variables, **options)
        assert len(made.made()) == 3
        assert made.digest == prepared.digest
        made.item()


@contextlib.contextmanager
def disordered(directory: Path, mount: Path, option: str) -> Iterator[Path]:
    """The directory by way of a file system that lists it in another order; itself without an option."""
    if not option:
        yield directory
        return
    mount.mkdir()
    subprocess.run([need("disorderfs"), "--quiet", option, str(directory), str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_fifty_builds(prepared: Prepared) -> None:
    """Without a cache, with one, and in between; on one CPU and on all; by any hash seed: one digest."""
    dice, found = random.Random(5), []
    own = fresh(prepared, "own")
    for number in range(50):
        if dice.random() < 0.4:  # a cache as on a machine that made nothing yet
            shutil.rmtree(own)
            own = fresh(prepared, f"own-{number}")
        elif dice.random() < 0.5:  # and one out of which something was swept
            blobs = sorted((own / "v1/blobs").iterdir())
            for path in dice.sample(blobs, len(blobs) // 2):
                path.unlink()
        single = dice.random() < 0.5
        cpus = {min(os.sched_getaffinity(0))} if single else os.sched_getaffinity(0)
        made = build(
            prepared.project, own, variables={"PYTHONHASHSEED": str(dice.randrange(1 << 32))},
            preexec_fn=lambda cpus=cpus: os.sched_setaffinity(0, cpus),
        )  # fmt: skip
        found.append(made.digest)
    assert set(found) == {prepared.digest}
    assert len(found) == 50
