"""Installation of a wheel into a virtual environment: the path, mode and contents of every file (PEP 427, PEP 376).

Standard library only, for Python 3.9: the process makes layers of these files, and a stage of the Dockerfile runs this
file too and writes them to its disk (`engines.buildkit.stage_install`). Both so install the same bytes.
"""

from __future__ import annotations

import configparser
import csv
import hashlib
import io
import posixpath
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, cast

from hatch_docker.oci.paths import WHITEOUT, parents, safe_path
from hatch_docker.wheels.install.archive import (
    BadWheelError,
    Member,
    PieceReader,
    WheelArchive,
    record_hash,
    refusing,
)
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.install.slim import LOOKED_AT, SYMBOLS, Rules, choose, count, is_stripped
from hatch_docker.wheels.install.strip import MAGIC, Piece, length, strip_parts, strip_plan

INSTALLER = b"hatch-docker\n"
REHASHED = 1 << 20        # bytes from which RECORD keeps a hash that is not SHA-256
PTH_LIMIT = 1 << 20       # bytes of a .pth in which imports are looked for
SCRIPTS_LIMIT = 64 << 20  # bytes of scripts that get another first line, and are held in memory
SPOOLED = 8 << 20         # bytes of a file from which a disk holds it while its symbols are looked for
_SCRIPT = """\
#!{python}
import sys
from {module} import {name}
if __name__ == "__main__":
    sys.exit({call}())
"""
_ENTRY_POINT = re.compile(r"(?P<module>[\w.]+)\s*:\s*(?P<call>[\w.]+)\s*(\[.*\])?\s*$")


class InstalledFile(NamedTuple):
    """A file that a wheel puts into an image; `path` is relative to the root, `size` in bytes."""

    path: str
    mode: int
    size: int
    content: bytes | Callable[[], BinaryIO]

    def open(self) -> BinaryIO:
        """Open the contents; the last `read` raises WheelError where they differ from the wheel's RECORD."""
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content()


class Installation:
    """The files of an installed wheel by their paths, their hashes in RECORD, and what `rules` left out.

    `left_out` has kind -> files and bytes, `hashes` has path -> "sha256=...", "" for RECORD itself.

    Files are opened, and compared with RECORD, only when they are read: none is held in memory. `warn` gets a sentence
    about each module that will run at every start of Python. Raises WheelError, naming the wheel and the entry, for a
    wheel that is not sound: names that leave their directory, files that differ from RECORD or are not in it, links,
    setuid bits, archives that unpack to far more than they hold, files of the environment itself.
    """

    def __init__(self, wheel: WheelArchive, venv: VenvTarget, rules: Rules, warn: Callable[[str], object]) -> None:
        self.files: dict[str, InstalledFile] = {}
        self.left_out: dict[str, list[int]] = {}
        self._wheel = wheel
        self._venv = venv
        self._rules = rules
        self._warn = warn
        self._held = 0
        self.hashes: dict[str, str] = {}
        self._places = {
            "purelib": venv.site_packages, "platlib": venv.site_packages, "scripts": f"{venv.root}/bin",
            "headers": f"{venv.root}/include/site/python{venv.interpreter.short}/{wheel.dist_info.partition('-')[0]}",
            "data": venv.root,
        }
        root = re.escape(venv.root)
        self._reserved = re.compile(rf"{root}/(pyvenv\.cfg|bin|lib|lib64)|{root}/bin/python[0-9.]*t?")
        with refusing(wheel.filename):
            self._install()

    def _install(self) -> None:
        version = str(self._wheel.headers("WHEEL")["Wheel-Version"])
        if not version.startswith("1."):
            raise BadWheelError(f"its format has the version {version}, and 1.x is known")
        gone: dict[str, str] = {}
        if self._rules.leave_out:
            gone = choose(self._wheel.names, lambda name: self._wheel.member(name).start(LOOKED_AT), self._rules)
        for name, kind in gone.items():
            count(self.left_out, kind, self._wheel.member(name).size)
        for name, module, call in self._entry_points():
            if "/" in name:
                raise BadWheelError(f"the entry point {name!r} is no file name")
            script = _SCRIPT.format(python=self._venv.python, module=module, name=call.partition(".")[0], call=call)
            self._add(f"{self._venv.root}/bin/{safe_path(name, backslash=False)}", script.encode(), 0o755)
        for member in self._wheel.members():
            if member.name not in gone:
                self._add_member(member)
        self._add(f"{self._venv.site_packages}/{self._wheel.dist_info}/INSTALLER", INSTALLER, 0o644)
        record = f"{self._wheel.dist_info}/RECORD"
        out = io.StringIO(newline="")
        csv.writer(out, lineterminator="\n").writerows(self._rows(record))
        self._add(f"{self._venv.site_packages}/{record}", out.getvalue().encode(), 0o644)
        self.hashes[f"{self._venv.site_packages}/{record}"] = ""
        for path in self.files:
            for parent in parents(path):
                if parent in self.files:
                    raise BadWheelError(f"/{parent} would be a file and a directory")

    def _entry_points(self) -> Iterator[tuple[str, str, str]]:
        """Yield name, module and attribute of each program (entry points specification)."""
        if not self._wheel.has_metadata("entry_points.txt"):
            return
        parser = configparser.ConfigParser(delimiters="=", interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            parser.read_string(self._wheel.read_metadata("entry_points.txt"))
        except configparser.Error as error:
            raise BadWheelError(f"its entry_points.txt cannot be read ({error})") from None
        for section in {"console_scripts", "gui_scripts"} & set(parser.sections()):
            for name, value in parser.items(section):
                found = _ENTRY_POINT.match(value)
                if found is None:
                    raise BadWheelError(f"its entry_points.txt cannot be read ({name} = {value} cannot be called)")
                yield name, found["module"], found["call"]

    def _add_member(self, member: Member) -> None:
        scheme, path = self._placed(member.name)
        if scheme not in self._places or not path:
            raise BadWheelError(f"{member.name} is in no directory of .data that wheels have")
        target = f"{self._places[scheme]}/{safe_path(path, backslash=False)}"
        library = f"{self._venv.root}/lib64/"
        if target.startswith(library):  # a link to lib
            target = f"{self._venv.root}/lib/{target[len(library):]}"
        inside = target.replace(f"{self._venv.site_packages}/", "", 1).split("/")
        if len(inside) == 2 and inside[0].endswith(".dist-info") and inside[0] != self._wheel.dist_info:
            raise BadWheelError(f"it brings {inside[0]}, the metadata of another package")
        mode = 0o755 if member.executable or scheme == "scripts" else 0o644
        if scheme == "scripts" and member.start(8) == b"#!python":
            self._held += member.size
            if self._held > SCRIPTS_LIMIT:
                raise BadWheelError(f"its scripts have more than {SCRIPTS_LIMIT} bytes")
            self._add(target, f"#!{self._venv.python}\n".encode() + member.read().partition(b"\n")[2], mode)
            return
        self._warn_of_start(target, member)
        self._add(target, self._stripped(member), mode)

    def _placed(self, name: str) -> tuple[str, str]:
        """Return the scheme of a file in the archive (PEP 427), and its path there."""
        data, _, rest = name.partition("/")
        if data != f"{self._wheel.dist_info[: -len('.dist-info')]}.data":
            return "purelib", name
        scheme, _, path = rest.partition("/")
        return scheme, path

    def _stripped(self, member: Member) -> Member | Stripped:
        """Return a member, or the file without symbols that takes its place."""
        found = strip_member(member) if is_stripped(member.name, self._rules) else None
        if found is None:
            return member
        count(self.left_out, SYMBOLS, member.size - found.size)
        return found

    def _add(self, path: str, content: bytes | Member | Stripped, mode: int) -> None:
        if path in self.files:
            raise BadWheelError(f"it brings /{path} twice")
        if f"/{WHITEOUT}" in path:
            raise BadWheelError(f"it brings /{path}, which would remove what other layers have")
        if self._reserved.fullmatch(path):
            raise BadWheelError(f"it would overwrite /{path}, which is the environment's own")
        if isinstance(content, bytes):
            self.files[path] = InstalledFile(path, mode, len(content), content)
            found = record_hash(hashlib.sha256(content))
        else:
            opener = content if isinstance(content, Member) else content.open
            self.files[path] = InstalledFile(path, mode, content.size, opener)
            found = content.hash
            if not found.startswith("sha256=") and content.size < REHASHED and isinstance(content, Member):
                found = record_hash(hashlib.sha256(content.read()))
        self.hashes[path] = found

    def _rows(self, record: str) -> Iterator[tuple[str, str, str]]:
        """Yield the rows of RECORD, that of itself last: path from site-packages, hash, size."""
        site = self._venv.site_packages
        names = {
            path[len(site) + 1 :] if path.startswith(f"{site}/") else posixpath.relpath(path, site): path
            for path in self.files
        }
        for name, path in sorted(names.items()):
            yield name, self.hashes[path], str(self.files[path].size)
        yield record, "", ""

    def _warn_of_start(self, path: str, member: Member) -> None:
        name = path.replace(f"{self._venv.site_packages}/", "", 1)
        code = name.endswith(".pth") and re.search(rb"^import[ \t]", member.start(PTH_LIMIT), re.MULTILINE)
        if name == "distutils-precedence.pth" and self._wheel.dist_info.startswith("setuptools-"):
            return  # known to everybody, and without effect unless distutils is imported
        if code or name in ("sitecustomize.py", "usercustomize.py"):
            self._warn(f"wheel {self._wheel.filename} brings {name}, whose code runs at every start of Python")


class Stripped(NamedTuple):
    """A program or library without its symbols; `size` in bytes, `hash` for RECORD."""

    member: Member
    pieces: list[Piece]
    size: int
    hash: str

    def open(self) -> BinaryIO:
        """Open a stream of it; the last `read` raises WheelError where the member differs from RECORD."""
        return cast("BinaryIO", PieceReader(strip_parts(self.member(), self.pieces)))


def strip_member(member: Member) -> Stripped | None:
    """Return a program or library without its symbols; None for all other files, and for those that have none."""
    if member.start(len(MAGIC)) != MAGIC:
        return None
    with tempfile.SpooledTemporaryFile(SPOOLED) as file:
        for piece in member.pieces():
            file.write(piece)
        file.seek(0)
        pieces = strip_plan(file, member.size)
        if not pieces:
            return None
        file.seek(0)
        digest = hashlib.sha256()
        for part in strip_parts(file, pieces):
            digest.update(part)
    return Stripped(member, pieces, length(pieces), record_hash(digest))
