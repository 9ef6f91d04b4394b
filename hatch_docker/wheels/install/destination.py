"""The entries that pypa/installer makes of a wheel.

Apart from install.py because nothing else needs installer: it is imported when a wheel is opened, not when a
build finds that all its layers are there.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from installer import install
from installer.destinations import WheelDestination
from installer.exceptions import InvalidWheelSource
from installer.records import Hash, InvalidRecordEntry, RecordEntry
from installer.utils import Scheme

from hatch_docker.core.errors import ImageError
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.paths import SOURCE_DATE, WHITEOUT, safe_path
from hatch_docker.wheels.install.archive import BadWheelError, Member, Source, open_archive, refusal, text_hash
from hatch_docker.wheels.install.compatibility import ZIP_ERRORS
from hatch_docker.wheels.install.slim import NONE, SYMBOLS, Rules, count, is_stripped

if TYPE_CHECKING:
    import os

    from installer.scripts import ScriptSection

    from hatch_docker.wheels.install.slimming import Stripped
    from hatch_docker.wheels.install.venv import VenvTarget

INSTALLER = b"hatch-docker\n"
AT_HAND = 1 << 20         # bytes from which RECORD keeps the hash that the wheel has
START = 1 << 20           # bytes of a .pth that are looked at
SCRIPTS_LIMIT = 64 << 20  # bytes of scripts whose first line is another one here, and which are held in memory

# Not installer's own: its text may change with its version, and with it the layers of unchanged wheels.
_SCRIPT = """\
#!{python}
import sys
from {module} import {name}
if __name__ == "__main__":
    sys.exit({call}())
"""


def unpack(
    wheel: Path, venv: VenvTarget, filename: str, warn: Callable[[str], object], rules: Rules = NONE,
    tally: dict[str, list[int]] | None = None,
) -> list[Entry]:
    """The files of an installed wheel; see `install.wheel_entries`."""
    try:
        archive = open_archive(wheel)  # kept open by the entries that are read later
    except ZIP_ERRORS as error:
        raise refusal(filename, f"it is no zip file that can be read ({error})") from error
    try:
        source = Source(archive, filename, wheel.stat().st_size)
        destination = _Destination(venv, source, lambda what: warn(f"wheel {filename} {what}"), rules)
        if rules.leave_out:
            destination.tally |= source.leave_out(rules)
        install(source, destination, {"INSTALLER": INSTALLER})
    except (BadWheelError, ImageError, InvalidWheelSource, InvalidRecordEntry, csv.Error) as error:
        raise refusal(filename, str((error.args or (error,))[-1])) from error  # installer's first is an object
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, UnicodeDecodeError) as error:
        raise refusal(filename, f"the archive is damaged ({error})") from error
    if tally is not None:
        tally |= destination.tally
    return list(destination.entries.values())


class _Destination(WheelDestination):
    """Installs into entries of a layer."""

    def __init__(self, venv: VenvTarget, source: Source, warn: Callable[[str], object], rules: Rules) -> None:
        self._venv = venv
        self._source = source
        self._warn = warn
        self._rules = rules
        self.tally: dict[str, list[int]] = {}
        self.entries: dict[str, Entry] = {}
        self._held = 0
        root, site = venv.root, venv.site_packages
        package = source.dist_info_dir.partition("-")[0]
        self._places = {
            "purelib": site, "platlib": site, "scripts": f"{root}/bin", "data": root,
            "headers": f"{root}/include/site/python{venv.interpreter.short}/{package}",
        }
        python = re.escape(f"{root}/bin/python")
        self._reserved = re.compile(rf"{re.escape(root)}/(pyvenv\.cfg|bin|lib|lib64)|{python}[0-9.]*")

    def write_script(
        self, name: str, module: str, attr: str, section: ScriptSection  # noqa: ARG002
    ) -> RecordEntry:
        if "/" in name:
            raise BadWheelError(f"the entry point {name!r} is no file name")
        text = _SCRIPT.format(
            python=self._venv.python, module=module, name=attr.partition(".")[0], call=attr
        )
        return self._add(f"{self._venv.root}/bin/{safe_path(name, backslash=False)}", text.encode(), 0o755)

    def write_file(
        self, scheme: Scheme, path: str | os.PathLike[str], stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        target = f"{self._places[scheme]}/{safe_path(str(path), backslash=False)}"
        library = f"{self._venv.root}/lib64/"
        if target.startswith(library):  # a link to lib
            target = f"{self._venv.root}/lib/{target.removeprefix(library)}"
        inside = target.removeprefix(f"{self._venv.site_packages}/").split("/")
        if len(inside) == 2 and inside[0].endswith(".dist-info") and inside[0] != self._source.dist_info_dir:
            raise BadWheelError(f"it brings {inside[0]}, the metadata of another package")
        mode = 0o755 if is_executable or scheme == "scripts" else 0o644
        member = stream if isinstance(stream, Member) else None
        script = scheme == "scripts" and member is not None and member.start(8) == b"#!python"
        if member is not None and not script:
            self._warn_of_start(target, member)
            return self._add(target, self._stripped(member), mode)
        self._held += member.size if member is not None else 0
        if self._held > SCRIPTS_LIMIT:
            raise BadWheelError(f"its scripts have more than {SCRIPTS_LIMIT} bytes")
        data = stream.read()
        if script:
            data = f"#!{self._venv.python}\n".encode() + data.partition(b"\n")[2]
        return self._add(target, data, mode)

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str,  # noqa: ARG002
        records: Iterable[tuple[Scheme, RecordEntry]],
    ) -> None:
        out = io.StringIO(newline="")
        rows = sorted(record.to_row() for _, record in records if record.path != record_file_path)
        csv.writer(out, lineterminator="\n").writerows([*rows, (record_file_path, "", "")])
        self._add(f"{self._venv.site_packages}/{record_file_path}", out.getvalue().encode(), 0o644)
        for path in self.entries:
            parent = path.rpartition("/")[0]
            while parent:
                if parent in self.entries:
                    raise BadWheelError(f"/{parent} would be a file and a directory")
                parent = parent.rpartition("/")[0]

    def _stripped(self, member: Member) -> Member | Stripped:
        """A member, or what takes its place where symbols are left out."""
        if not is_stripped(member.name, self._rules):
            return member
        from hatch_docker.wheels.install.slimming import stripped

        found = stripped(member)
        if found is None:
            return member
        count(self.tally, SYMBOLS, member.size - found.size)
        return found

    def _add(self, path: str, content: bytes | Member | Stripped, mode: int) -> RecordEntry:
        if path in self.entries:
            raise BadWheelError(f"it brings /{path} twice")
        if f"/{WHITEOUT}" in path:
            raise BadWheelError(f"it brings /{path}, which would remove what other layers have")
        if self._reserved.fullmatch(path):
            raise BadWheelError(f"it would overwrite /{path}, which is the environment's own")
        if isinstance(content, bytes):
            self.entries[path] = Entry(path, "file", mode, SOURCE_DATE, size=len(content), content=content)
            promise, size = Hash("sha256", text_hash("sha256", content)), len(content)
        else:
            size, promise = content.size, content.hash
            if promise.name != "sha256" and size < AT_HAND and isinstance(content, Member):
                promise = Hash("sha256", text_hash("sha256", content.read()))
            self.entries[path] = Entry(path, "file", mode, SOURCE_DATE, size=size, content=content.open)
        return RecordEntry(posixpath.relpath(path, self._venv.site_packages), promise, size)

    def _warn_of_start(self, path: str, member: Member) -> None:
        name = path.removeprefix(self._venv.site_packages + "/")
        code = name.endswith(".pth") and re.search(rb"^import[ \t]", member.start(START), re.MULTILINE)
        if code or name in ("sitecustomize.py", "usercustomize.py"):
            self._warn(f"brings {name}, whose code runs at every start of Python")
