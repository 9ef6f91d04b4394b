"""A project with the output of an earlier build, and checks of the error line of a failed build."""

import ctypes
import re
from pathlib import Path

from tests.fakes.package_index import FakeIndex
from tests.integration.builds import Outcome, require
from tests.projects import write_files, write_project

PACKAGE = '[tool.hatch.build.targets.wheel]\npackages = ["hello"]\n'
EARLIER_OUTPUT = {"hello-1.0.0.oci.tar": b"an image of before", "hello-1.0.0.image.json": b"its receipt"}


def new_project(directory: Path, *, options: str = "", base: str = "debian:trixie") -> Path:
    """Write the hello project, as a package, with the output of an earlier build in dist/."""
    project = write_project("hello", directory / "p", options=f"{options}\n{PACKAGE}", base=base)
    write_files(project / "dist", EARLIER_OUTPUT)
    (project / "hello").mkdir()
    (project / "hello.py").rename(project / "hello/__init__.py")
    return project


def check_error(outcome: Outcome, *parts: str, status: int = 1, steps: int = 0) -> str:
    """Check a failed build: its last line has `parts`, `steps` lines of progress come before it, dist/ is unchanged.

    Return the last line. Lines with a duration are not counted: a fast machine prints none.
    """
    assert outcome.status == status, outcome.output
    assert "Traceback" not in outcome.output
    lines = [line for line in outcome.output.splitlines() if not re.search(r": ([\d.]+ \S+ in )?[\d.]+ s$", line)]
    assert len(lines) == steps + 1, outcome.output
    for part in parts:
        assert part in lines[-1], lines[-1]
    assert {path.name: path.read_bytes() for path in outcome.directory.iterdir()} == EARLIER_OUTPUT
    return lines[-1]


def drop_capabilities() -> None:
    """Drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (capabilities(7)), so that file permissions apply to root too."""
    library = ctypes.CDLL(None)
    for capability in (1, 2):
        library.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def write_pylock(project: Path, index: FakeIndex, filename: str, *, sha256: str = "") -> None:
    """Write a pylock.toml that names one wheel of the index, and require its package."""
    name, version = filename.split("-")[:2]
    require(project, name)
    url = f"{index.url.removesuffix('/simple')}/files/{name}/{filename}"
    digest = sha256 or index.sha256(filename)
    (project / "pylock.toml").write_text(
        f'lock-version = "1.0"\ncreated-by = "test"\n[[packages]]\nname = "{name}"\nversion = "{version}"\n'
        f'[[packages.wheels]]\nname = "{filename}"\nurl = "{url}"\nhashes = {{sha256 = "{digest}"}}\n'
    )
