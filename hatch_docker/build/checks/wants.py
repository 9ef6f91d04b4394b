"""Programs and libraries that code asks for by name while it runs, and that an image may lack.

No ELF file tells of them. Known are the first lines of scripts, some packages, and what a failed check printed.
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
# Packages, and the libraries and programs that they open or run by name.
OPENED: Mapping[str, tuple[str, ...]] = {
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
# Packages that bring what another one opens.
BROUGHT = {"psycopg": ("psycopg-binary", "psycopg-c"), "pyvips": ("pyvips-binary",)}
_PRINTED = (
    r"No such file or directory: b?'([\w./+-]+)'",
    r"cannot (?:load|open) (?:shared )?(?:library|object)[^']*'([\w.+-]+)'",
    r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object", r"(?:\A|\n|: )(\w[\w.+-]*): (?:command )?not found",
)  # fmt: skip
_SAID = {"failed to find libmagic": "libmagic.so.1", "Bad git executable": "git", '"cairo-2"': "libcairo.so.2"}


def find_wants(built: BuiltImage, ctx: Context) -> list[str]:
    """Return a line for each thing that an image lacks though a script or a package of it asks for it; remembered."""
    names: list[str] = sorted(canonicalize_name(pin.name) for pin in built.pins)
    base = len(built.base.image.layers)

    def find() -> list[list[str]]:
        from hatch_docker.build.checks.loader import read_files

        return [list(pair) for pair in _wanted(read_files(built.image.layers, base, ctx), names)]

    key = key_of(RECIPE, [layer.diff_id for layer in built.image.layers], base, names)
    return [
        f"{who}, which the image lacks: {advice(what, built.base, ctx)}"
        for who, what in ctx.store.remembered(KIND, key, find)
    ]


def _wanted(files: ImageFiles, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield who asks for what an image lacks, as words, and the name of that."""
    there = {posixpath.basename(path) for path in (*files.names, *files.links, *files.programs)}
    for path, line in sorted(files.scripts.items()):
        words = line.split()
        program = posixpath.basename(words[0]) if words else ""
        program = words[1] if program == "env" and "env" in there and words[1:] else program
        if program and program not in there:
            yield f"/{path} starts with #!{line}", program
    for name in names:
        if not set(BROUGHT.get(name, ())).intersection(names):
            for what in OPENED.get(name, ()):
                if what not in there:
                    yield f"{name} {'opens' if '.so' in what else 'runs'} {what}", what


def advice(what: str, base: Base, ctx: Context) -> str:
    """Return how an image gets a library or a program."""
    package = ""
    if base.suite in DEBIAN_PYTHONS:
        from hatch_docker.bases.debian.find_library import find_providers
        from hatch_docker.bases.debian.find_package import KNOWN, find_package
        from hatch_docker.bases.debian.suite import Suite

        suite = Suite(base.plan, base.suite, base.platform.architecture, ctx)
        if ".so" in what and what not in KNOWN:
            found = find_providers([what], suite).get(what)
            package = found.package if found else ""
        else:
            package = find_package(what, suite)
    return f'add "{package}" to runtime.packages' if package else "add the package that has it to runtime.packages"


def advice_after(output: str, base: Base, ctx: Context) -> str:
    """Return what to do after a command in the image printed that something is missing, "" if it did not."""
    from hatch_docker.bases.debian.find_package import KNOWN

    name = next((what for text, what in _SAID.items() if text in output), "")
    found = (match for pattern in _PRINTED if (match := re.search(pattern, output)))
    name = name or posixpath.basename(next(found, [""] * 2)[1])
    is_known = name in KNOWN or re.fullmatch(r"lib[\w.+-]+\.so[.\d]*", name)
    return f"\nthe image lacks {name}: {advice(name, base, ctx)}" if is_known else ""
