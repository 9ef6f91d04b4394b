"""Hints about programs and libraries that code opens by name and that an image lacks."""

from dataclasses import replace
from pathlib import Path

import pytest

from hatch_docker.bases.image import base_of
from hatch_docker.build.checks.wants import RUNTIME_FILES, advice_after, find_missing_runtime_files
from hatch_docker.engines.model import BuiltImage
from hatch_docker.oci.layer import Entry
from hatch_docker.plan.model import BasePlan
from hatch_docker.wheels.target import Pin
from tests.fakes.bases import file, python_image
from tests.fakes.context import context
from tests.fakes.debian_archive import library_archive, suite_of
from tests.fakes.elf import make_elf
from tests.fakes.library_images import LIB, built_image, unreadable

PYTHON = file("opt/venv/bin/tool", "#!/opt/venv/bin/python\n", 0o755)


def image(tmp_path: Path, *own: Entry, system: tuple[Entry, ...] = (), requires: tuple[str, ...] = ()) -> BuiltImage:
    """Return an image with packages and files, on a base without a Debian suite."""
    pins = tuple(Pin(name, "1", f"{name}-1-py3-none-any.whl", "", "00", 1, None) for name in requires)
    python = file("opt/venv/bin/python", "", 0o755)
    return built_image(context(tmp_path / "cache"), [python], own, system=system, pins=pins)


def test_script_with_missing_interpreter_is_hinted(tmp_path: Path) -> None:
    """Programs of the environment and the user's files are checked; scripts in site-packages are not."""
    scripts = [
        PYTHON, file("opt/venv/bin/run", "#!/bin/sh -e\n", 0o755), file("srv/start", "#!/usr/bin/env bash\n", 0o755),
        file("srv/text", "#!/bin/zsh\n"), file("opt/venv/lib/python3.13/site-packages/x/run", "#!/bin/ksh\n", 0o755),
    ]  # fmt: skip
    lines = find_missing_runtime_files(image(tmp_path, *scripts), context(tmp_path / "cache"))
    assert [line.partition(": ")[0] for line in lines] == [
        "/opt/venv/bin/run starts with #!/bin/sh -e, which the image lacks",
        "/srv/start starts with #!/usr/bin/env bash, which the image lacks",
    ]
    assert all(line.endswith(": add the package that has it to runtime.packages") for line in lines)
    tools = tuple(file(f"usr/bin/{name}", "", 0o755) for name in ("sh", "env", "bash"))
    assert find_missing_runtime_files(image(tmp_path, *scripts, system=tools), context(tmp_path / "cache")) == []


def test_package_with_missing_program_or_library_is_hinted(tmp_path: Path) -> None:
    """No hint if the image has it or another package contains it. The layers are read once."""
    ctx = context(tmp_path / "cache")
    found = image(tmp_path, requires=("GitPython", "python-magic", "psycopg", "psycopg-binary"))
    lines = find_missing_runtime_files(found, ctx)
    assert [line.partition(",")[0] for line in lines] == ["gitpython runs git", "python-magic opens libmagic.so.1"]
    assert find_missing_runtime_files(unreadable(found), ctx) == lines
    system = (file("usr/bin/git", "", 0o755), file(f"{LIB}/libmagic.so.1", make_elf("libmagic.so.1")))
    assert find_missing_runtime_files(image(tmp_path, system=system, requires=("gitpython", "python-magic")), ctx) == []
    assert all(name == name.lower() for name in RUNTIME_FILES)


@pytest.mark.parametrize(("output", "line"), [
    ("FileNotFoundError: [Errno 2] No such file or directory: '/bin/sh'", 'the image lacks sh: add "dash" to'),
    ("git.exc.GitCommandNotFound: Bad git executable.", 'the image lacks git: add "git" to runtime.packages'),
    ("OSError: cannot load library 'libcairo.so.2': libcairo.so.2: ", 'the image lacks libcairo.so.2: add "libcairo2"'),
    ("OSError: libpq.so.5: cannot open shared object file: No such", 'the image lacks libpq.so.5: add "libpq5" to'),
    ("ImportError: failed to find libmagic.  Check your installation", "the image lacks libmagic.so.1: add "),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'data'", ""),
    ("ValueError: no", ""),
])  # fmt: skip
def test_output_of_failed_check_leads_to_advice(output: str, line: str, tmp_path: Path) -> None:
    ctx = context(tmp_path / "cache")
    suite = suite_of(library_archive(tmp_path / "mirror"), ctx)
    base = base_of(BasePlan("registry", "python:x", "python:x", mirror=suite.plan.mirror), python_image(), ctx)
    advice = advice_after(f"Traceback\n{output}\n", replace(base, suite="trixie"), ctx)
    assert advice.startswith(f"\n{line}") if line else not advice
