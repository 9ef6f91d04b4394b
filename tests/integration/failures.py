"""A project with the output of an earlier build, and the one line that a failed build says."""

import ctypes
import re
from pathlib import Path

from tests.fakes.package_index import FakeIndex
from tests.integration.builds import Outcome, require
from tests.projects import write_files, write_project

PACKAGE = '[tool.hatch.build.targets.wheel]\npackages = ["hello"]\n'
OLD = {"hello-1.0.0.oci.tar": b"an image of before", "hello-1.0.0.image.json": b"its receipt"}


def project(directory: Path, *, options: str = "", base: str = "debian:trixie") -> Path:
    """The hello project, with a package and the output of an earlier build."""
    made = write_project("hello", directory / "p", options=f"{options}\n{PACKAGE}", base=base)
    write_files(made / "dist", OLD)
    (made / "hello").mkdir()
    (made / "hello.py").rename(made / "hello/__init__.py")
    return made


def check_error(outcome: Outcome, *parts: str, status: int = 1, steps: int = 0) -> str:
    """The one line of a failure, after some lines of progress; it has the parts, and dist/ is as it was.

    The lines that tell how long something took are not counted: a quick machine has none.
    """
    assert outcome.status == status, outcome.output
    assert "Traceback" not in outcome.output
    lines = [line for line in outcome.output.splitlines() if not re.search(r": ([\d.]+ \S+ in )?[\d.]+ s$", line)]
    assert len(lines) == steps + 1, outcome.output
    for part in parts:
        assert part in lines[-1], lines[-1]
    assert {path.name: path.read_bytes() for path in outcome.directory.iterdir()} == OLD
    return lines[-1]


def without_privileges() -> None:
    """Root becomes a user to whom permissions apply: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH go (capabilities(7))."""
    library = ctypes.CDLL(None)
    for capability in (1, 2):
        library.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def lock(made: Path, index: FakeIndex, filename: str, *, sha256: str = "") -> None:
    """A pylock.toml that names one wheel of the index."""
    name, version = filename.split("-")[:2]
    require(made, name)
    url = f"{index.url.removesuffix('/simple')}/files/{name}/{filename}"
    digest = sha256 or index.sha256(filename)
    (made / "pylock.toml").write_text(
        f'lock-version = "1.0"\ncreated-by = "test"\n[[packages]]\nname = "{name}"\nversion = "{version}"\n'
        f'[[packages.wheels]]\nname = "{filename}"\nurl = "{url}"\nhashes = {{sha256 = "{digest}"}}\n'
    )
