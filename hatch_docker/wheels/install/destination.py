"""Installation of a wheel into a virtual environment: path, mode and contents of every file (PEP 427, PEP 376).

Standard library only, for Python 3.9. The embedded engine makes layers of these files. A stage of the Dockerfile runs
this module too and writes them to disk (`engines.buildkit.stage_install`). So both install the same bytes.
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
    wheel_errors,
)
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.install.slim import IMPORTS_LIMIT, SYMBOLS, Rules, count, is_stripped, left_out_files
from hatch_docker.wheels.install.strip import MAGIC, Piece, length, strip_parts, strip_plan

INSTALLER = b"hatch-docker\n"
REHASH_LIMIT = 1 << 20    # bytes; larger files keep a hash in RECORD that is not SHA-256
PTH_LIMIT = 1 << 20       # bytes of a .pth file that are searched for imports
SCRIPTS_LIMIT = 64 << 20  # bytes of scripts that get another first line; they are kept in memory
SPOOL_LIMIT = 8 << 20     # bytes; larger files are on disk while they are searched for symbols
_SCRIPT = """\
#!{python}
import sys
from {module} import {name}
if __name__ == "__main__":
    sys.exit({call}())
"""
_ENTRY_POINT = re.compile(r"(?P<module>[\w.]+)\s*:\s*(?P<call>[\w.]+)\s*(\[.*\])?\s*$")


class InstalledFile(NamedTuple):
    """A file that a wheel installs; `path` is relative to the image's root, `size` in bytes."""

    path: str
    mode: int
    size: int
    content: bytes | Callable[[], BinaryIO]

    def open(self) -> BinaryIO:
        """Open the contents. The last `read` raises WheelError if they differ from the wheel's RECORD."""
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content()


class Installation:
    """The files of an installed wheel by path, their hashes in RECORD, and the files that `rules` leave out.

    `left_out`: kind -> number of files and bytes. `hashes`: path -> "sha256=...", "" for RECORD itself.

    Files are opened and compared with RECORD only when they are read; none is kept in memory. `warn` receives a
    sentence about each module that will run at every start of Python. Raise WheelError, which names the wheel and the
    entry, for an invalid wheel: names outside of its directory, files that differ from RECORD or are missing in it,
    links, setuid bits, zip bombs, files of the environment itself.
    """

    def __init__(self, wheel: WheelArchive, venv: VenvTarget, rules: Rules, warn: Callable[[str], object]) -> None:
        self.files: dict[str, InstalledFile] = {}
        self.left_out: dict[str, list[int]] = {}
        self._wheel = wheel
        self._venv = venv
        self._rules = rules
        self._warn = warn
        self._scripts_size = 0
        self.hashes: dict[str, str] = {}
        self._schemes = {
            "purelib": venv.site_packages, "platlib": venv.site_packages, "scripts": f"{venv.root}/bin",
            "headers": f"{venv.root}/include/site/python{venv.interpreter.short}/{wheel.dist_info.partition('-')[0]}",
            "data": venv.root,
        }
        root = re.escape(venv.root)
        self._reserved = re.compile(rf"{root}/(pyvenv\.cfg|bin|lib|lib64)|{root}/bin/python[0-9.]*t?")
        with wheel_errors(wheel.filename):
            self._install()

    def _install(self) -> None:
        version = str(self._wheel.headers("WHEEL")["Wheel-Version"])
        if not version.startswith("1."):
            raise BadWheelError(f"its format has the version {version}, and 1.x is known")
        left_out: dict[str, str] = {}
        if self._rules.leave_out:
            left_out = left_out_files(self._wheel.names, self._first_bytes, self._rules)
        for name, kind in left_out.items():
            count(self.left_out, kind, self._wheel.member(name).size)
        for name, module, call in self._entry_points():
            if "/" in name:
                raise BadWheelError(f"the entry point {name!r} is no file name")
            script = _SCRIPT.format(python=self._venv.python, module=module, name=call.partition(".")[0], call=call)
            self._add(f"{self._venv.root}/bin/{safe_path(name, backslash=False)}", script.encode(), 0o755)
        for member in self._wheel.members():
            if member.name not in left_out:
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

    def _first_bytes(self, name: str) -> bytes:
        return self._wheel.member(name).start(IMPORTS_LIMIT)

    def _entry_points(self) -> Iterator[tuple[str, str, str]]:
        """Yield name, module and attribute of each script (entry points specification)."""
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
        scheme, path = self._scheme_and_path(member.name)
        if scheme not in self._schemes or not path:
            raise BadWheelError(f"{member.name} is in no directory of .data that wheels have")
        target = f"{self._schemes[scheme]}/{safe_path(path, backslash=False)}"
        library = f"{self._venv.root}/lib64/"
        if target.startswith(library):  # lib64 is a symlink to lib
            target = f"{self._venv.root}/lib/{target[len(library):]}"
        inside = target.replace(f"{self._venv.site_packages}/", "", 1).split("/")
        if len(inside) == 2 and inside[0].endswith(".dist-info") and inside[0] != self._wheel.dist_info:
            raise BadWheelError(f"it brings {inside[0]}, the metadata of another package")
        mode = 0o755 if member.executable or scheme == "scripts" else 0o644
        if scheme == "scripts" and member.start(8) == b"#!python":
            self._scripts_size += member.size
            if self._scripts_size > SCRIPTS_LIMIT:
                raise BadWheelError(f"its scripts have more than {SCRIPTS_LIMIT} bytes")
            self._add(target, f"#!{self._venv.python}\n".encode() + member.read().partition(b"\n")[2], mode)
            return
        self._warn_of_startup_code(target, member)
        self._add(target, self._without_symbols(member), mode)

    def _scheme_and_path(self, name: str) -> tuple[str, str]:
        """Return the installation scheme of a file in the archive (PEP 427), and its path there."""
        data, _, rest = name.partition("/")
        if data != f"{self._wheel.dist_info[: -len('.dist-info')]}.data":
            return "purelib", name
        scheme, _, path = rest.partition("/")
        return scheme, path

    def _without_symbols(self, member: Member) -> Member | StrippedFile:
        """Return the member, or its stripped file if the rules remove symbols."""
        found = strip_member(member) if is_stripped(member.name, self._rules) else None
        if found is None:
            return member
        count(self.left_out, SYMBOLS, member.size - found.size)
        return found

    def _add(self, path: str, content: bytes | Member | StrippedFile, mode: int) -> None:
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
            if not found.startswith("sha256=") and content.size < REHASH_LIMIT and isinstance(content, Member):
                found = record_hash(hashlib.sha256(content.read()))
        self.hashes[path] = found

    def _rows(self, record: str) -> Iterator[tuple[str, str, str]]:
        """Yield the rows of the new RECORD: path from site-packages, hash, size. RECORD itself is the last."""
        site = self._venv.site_packages
        names = {
            path[len(site) + 1 :] if path.startswith(f"{site}/") else posixpath.relpath(path, site): path
            for path in self.files
        }
        for name, path in sorted(names.items()):
            yield name, self.hashes[path], str(self.files[path].size)
        yield record, "", ""

    def _warn_of_startup_code(self, path: str, member: Member) -> None:
        name = path.replace(f"{self._venv.site_packages}/", "", 1)
        code = name.endswith(".pth") and re.search(rb"^import[ \t]", member.start(PTH_LIMIT), re.MULTILINE)
        if name == "distutils-precedence.pth" and self._wheel.dist_info.startswith("setuptools-"):
            return  # well known, and without effect unless distutils is imported
        if code or name in ("sitecustomize.py", "usercustomize.py"):
            self._warn(f"wheel {self._wheel.filename} brings {name}, whose code runs at every start of Python")


class StrippedFile(NamedTuple):
    """A program or library without symbols; `size` in bytes, `hash` for RECORD."""

    member: Member
    pieces: list[Piece]
    size: int
    hash: str

    def open(self) -> BinaryIO:
        """Open a stream of the stripped file. The last `read` raises WheelError if the member differs from RECORD."""
        return cast("BinaryIO", PieceReader(strip_parts(self.member(), self.pieces)))


def strip_member(member: Member) -> StrippedFile | None:
    """Return a program or library without symbols; None for other files and those without symbols."""
    if member.start(len(MAGIC)) != MAGIC:
        return None
    with tempfile.SpooledTemporaryFile(SPOOL_LIMIT) as file:
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
    return StrippedFile(member, pieces, length(pieces), record_hash(digest))
