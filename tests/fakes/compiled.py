"""A shared library made by a real compiler, and stripping it."""

import io
import subprocess
from pathlib import Path

from hatch_docker.wheels.install.strip import strip_parts, strip_plan
from tests.conftest import need

CODE = "\n".join(f"static int f{n}(int a) {{ return a * {n}; }}" for n in range(2000))
SUM = " + ".join(f"f{n}(a)" for n in range(2000))
SOURCE = f"{CODE}\nstatic int kept = 41; static char zero[70000];\nint answer(int a) {{ return kept + zero[a] + a; }}\n"
SOURCE += f"int sum(int a) {{ return {SUM}; }}\n"


def compile_library(directory: Path, *options: str) -> bytes:
    """Return a compiled shared library with symbols and debug information."""
    compiler = need("gcc")
    (directory / "library.c").write_text(SOURCE)
    command = [compiler, "-g", "-O0", "-shared", "-fPIC", *options, "-o", "library.so", "library.c"]
    subprocess.run(command, cwd=directory, check=True)
    return (directory / "library.so").read_bytes()


def strip_bytes(data: bytes) -> bytes:
    """Return a file without symbols and debug information, or unchanged if it cannot be stripped."""
    pieces = strip_plan(io.BytesIO(data), len(data))
    return b"".join(strip_parts(io.BytesIO(data), pieces)) if pieces else data
