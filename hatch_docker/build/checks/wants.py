"""Programs and libraries that code opens by name at run time, and that an image may lack.

ELF files do not list them. They are found by first lines of scripts, a table of packages, and output of failed checks.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from hatch_docker.bases.model import Base
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.engines.model import BuiltImage
from hatch_docker.plan.model import DEBIAN_PYTHONS

if TYPE_CHECKING:
    from hatch_docker.build.checks.loader import ImageFiles

RECIPE = 1
KIND = "wants"
# Packages, with the libraries that they open and the programs that they run.
RUNTIME_FILES: Mapping[str, tuple[str, ...]] = {
    "cairocffi": ("libcairo.so.2",),
    "gitpython": ("git",),
    "graphviz": ("dot",),
    "invoke": ("bash",),
    "libarchive-c": ("libarchive.so.13",),
    "pdf2image": ("pdftoppm",),
    "pre-commit": ("git",),
    "psycopg": ("libpq.so.5",),
    "pydot": ("dot",),
    "pydub": ("ffmpeg",),
    "pyenchant": ("libenchant-2.so.2",),
    "pypandoc": ("pandoc",),
    "pytesseract": ("tesseract",),
    "python-magic": ("libmagic.so.1",),
    "pyusb": ("libusb-1.0.so.0",),
    "pyvips": ("libvips.so.42",),
    "pyzbar": ("libzbar.so.0",),
    "sounddevice": ("libportaudio.so.2",),
    "weasyprint": (
        "libpango-1.0.so.0", "libpangoft2-1.0.so.0", "libharfbuzz-subset.so.0", "libfontconfig.so.1",
    ),
}  # fmt: skip
# Packages of RUNTIME_FILES, with other packages that contain these libraries.
BUNDLED_IN = {"psycopg": ("psycopg-binary", "psycopg-c"), "pyvips": ("pyvips-binary",)}
_PATTERNS = (
    r"No such file or directory: b?'([\w./+-]+)'",
    r"cannot (?:load|open) (?:shared )?(?:library|object)[^']*'([\w.+-]+)'",
    r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object", r"(?:\A|\n|: )(\w[\w.+-]*): (?:command )?not found",
)  # fmt: skip
_MESSAGES = {"failed to find libmagic": "libmagic.so.1", "Bad git executable": "git", '"cairo-2"': "libcairo.so.2"}


def find_missing_runtime_files(built: BuiltImage, ctx: Context) -> list[str]:
    """Return a line for each program or library that a script or a package needs and the image lacks. Cached."""
    names: list[str] = sorted(canonicalize_name(pin.name) for pin in built.pins)
    base = len(built.base.image.layers)

    def find() -> list[list[str]]:
        from hatch_docker.build.checks.loader import read_files

        return [list(pair) for pair in _missing_files(read_files(built.image.layers, base, ctx), names)]

    key = key_of(RECIPE, [layer.diff_id for layer in built.image.layers], base, names)
    return [
        f"{reason}, which the image lacks: {advice(name, built.base, ctx)}"
        for reason, name in ctx.store.recall_or_make(KIND, key, find)
    ]


def _missing_files(files: ImageFiles, packages: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each missing program or library: the script or package that needs it, as text, and its name."""
    present = {posixpath.basename(path) for path in (*files.names, *files.links, *files.programs)}
    for path, line in sorted(files.scripts.items()):
        words = line.split()
        program = posixpath.basename(words[0]) if words else ""
        program = words[1] if program == "env" and "env" in present and words[1:] else program
        if program and program not in present:
            yield f"/{path} starts with #!{line}", program
    for package in packages:
        if not set(BUNDLED_IN.get(package, ())).intersection(packages):
            for name in RUNTIME_FILES.get(package, ()):
                if name not in present:
                    yield f"{package} {'opens' if '.so' in name else 'runs'} {name}", name


def advice(name: str, base: Base, ctx: Context) -> str:
    """Return advice on how to add a library or a program to an image."""
    package = ""
    if base.suite in DEBIAN_PYTHONS:
        from hatch_docker.bases.debian.find_library import find_providers
        from hatch_docker.bases.debian.find_package import KNOWN, find_package
        from hatch_docker.bases.debian.suite import Suite

        suite = Suite(base.plan, base.suite, base.platform.architecture, ctx)
        if ".so" in name and name not in KNOWN:
            found = find_providers([name], suite).get(name)
            package = found.package if found else ""
        else:
            package = find_package(name, suite)
    return f'add "{package}" to runtime.packages' if package else "add the package that has it to runtime.packages"


def advice_after(output: str, base: Base, ctx: Context) -> str:
    """Return advice, if the output of a command in the image names a missing program or library; otherwise ""."""
    from hatch_docker.bases.debian.find_package import KNOWN

    name = next((name for text, name in _MESSAGES.items() if text in output), "")
    found = (match for pattern in _PATTERNS if (match := re.search(pattern, output)))
    name = name or posixpath.basename(next(found, [""] * 2)[1])
    is_known = name in KNOWN or re.fullmatch(r"lib[\w.+-]+\.so[.\d]*", name)
    return f"\nthe image lacks {name}: {advice(name, base, ctx)}" if is_known else ""
