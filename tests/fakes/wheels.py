"""Wheels with any contents, and the entries that their installation makes."""

import base64
import csv
import hashlib
import io
import shutil
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from hatch_docker.bases.model import Interpreter
from hatch_docker.oci.layer import Entry
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.install.venv import wheel_entries

VENV = VenvTarget(Interpreter("/usr/bin/python3.13", "3.13.5"))
INFO = "demo-1.0.dist-info"


@dataclass
class Wheel:
    """A wheel to be written. It is valid, unless a test changes the defaults."""

    files: dict[str, bytes] = field(default_factory=lambda: {"demo/__init__.py": b"name = 'demo'\n"})
    modes: dict[str, int] = field(default_factory=dict)
    scripts: str = ""
    unrecorded: set[str] = field(default_factory=set)
    records: dict[str, str] = field(default_factory=dict)  # path -> its line in RECORD
    metadata: str = "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
    record: bool = True
    twice: tuple[str, bytes] | None = None

    def write(self, path: Path) -> Path:
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        files = {**self.files, f"{INFO}/METADATA": self.metadata.encode(), f"{INFO}/WHEEL": tag.encode()}
        if self.scripts:
            files[f"{INFO}/entry_points.txt"] = self.scripts.encode()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, data in [*files.items(), *([self.twice] if self.twice else [])]:
                info = zipfile.ZipInfo(name)
                info.external_attr = self.modes.get(name, stat.S_IFREG | 0o644) << 16
                archive.writestr(info, data, zipfile.ZIP_DEFLATED)
            if self.record:
                archive.writestr(f"{INFO}/RECORD", self._record(files))
        return path

    def _record(self, files: dict[str, bytes]) -> str:
        out = io.StringIO()
        for name, data in files.items():
            if name in self.records:
                out.write(self.records[name])
            elif name not in self.unrecorded:
                csv.writer(out, lineterminator="\n").writerow([name, record_hash(data), len(data)])
        return out.getvalue() + f"{INFO}/RECORD,,\n"


def record_hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def read_entries(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Return entries by path with their contents. Reading the contents compares the files with RECORD."""
    return {entry.path: replace(entry, content=content(entry) if entry.kind == "file" else None) for entry in entries}


def content(entry: Entry) -> bytes:
    if entry.content is None or isinstance(entry.content, bytes):
        return entry.content or b""
    assert callable(entry.content)
    out = io.BytesIO()
    with entry.content() as stream:
        shutil.copyfileobj(stream, out)
    assert entry.size == len(out.getvalue())
    return out.getvalue()


def install(wheel: Wheel, directory: Path, warn: Callable[[str], object] = print) -> dict[str, Entry]:
    path = wheel.write(directory / "demo-1.0-py3-none-any.whl")
    return read_entries(wheel_entries(path, VENV, warn=warn))


def with_file(name: str, data: bytes = b"x = 1\n", mode: int = 0o644, kind: int = stat.S_IFREG) -> Wheel:
    wheel = Wheel()
    wheel.files[name] = data
    wheel.modes[name] = kind | mode
    return wheel
