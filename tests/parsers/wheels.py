"""Parsers of wheels, of the documents in them, and of index pages."""

import base64
import functools
import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from hatch_docker.wheels.index_page import JSON, parse_page
from hatch_docker.wheels.install.compatibility import check_prebuilt
from hatch_docker.wheels.install.venv import wheel_entries
from tests.fakes.damaged_documents import damaged, mapped
from tests.fakes.lock_files import AMD64 as TARGET
from tests.fakes.wheels import VENV
from tests.parsers.parser import PARSERS, of_bytes, of_json, parses, written

INFO = "gadget-1.0.dist-info"
TEXTS: dict[str, bytes] = {
    "METADATA": b"Metadata-Version: 2.3\nName: gadget\nVersion: 1.0\nRequires-Dist: a>1\n\nText\n",
    "WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "entry_points.txt": b"[console_scripts]\nserve = gadget.web:app.main [fast]\n[gui_scripts]\nshow = gadget:show\n",
}


def record_of(files: Mapping[str, bytes]) -> bytes:
    rows = [(path, base64.urlsafe_b64encode(hashlib.sha256(data).digest()), len(data)) for path, data in files.items()]
    return "".join(f"{path},sha256={digest.decode().rstrip('=')},{size}\n" for path, digest, size in rows).encode()


def wheel_of(name: str = "", data: bytes = b"") -> bytes:
    """Return a wheel in which the document `name` is replaced by `data`. RECORD has the new hash, or is replaced."""
    files = {"gadget/__init__.py": b"x = 1\n", "gadget-1.0.data/scripts/tool": b"#!python\n"}
    files |= {f"{INFO}/{text}": TEXTS[text] for text in TEXTS} | ({f"{INFO}/{name}": data} if name in TEXTS else {})
    files[f"{INFO}/RECORD"] = data if name == "RECORD" else record_of(files)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path), content)
    return out.getvalue()


@parses(of_bytes(wheel_of()))
def wheel(data: bytes, directory: Path) -> None:
    path = written(directory, "gadget-1.0-cp313-cp313-linux_x86_64.whl", data)
    check_prebuilt(path, TARGET)
    for entry in wheel_entries(path, VENV, warn=lambda _line: None):
        if callable(entry.content):
            with entry.content() as stream:
                while stream.read(1 << 16):
                    pass


PAGE = {"meta": {"api-version": "1.1"}, "name": "gadget", "files": [
    {"filename": "gadget-1.0-py3-none-any.whl", "url": "gadget-1.0-py3-none-any.whl", "hashes": {"sha256": "0" * 64},
     "requires-python": ">=3.9", "yanked": "broken"},
    {"filename": "gadget-0.9.tar.gz", "url": "gadget-0.9.tar.gz", "hashes": {}, "requires-python": None},
]}  # fmt: skip
HTML = b"""<!DOCTYPE html><html><body>
<a href="../gadget-1.0-py3-none-any.whl#sha256=00" data-requires-python="&gt;=3.9" data-yanked="">gadget</a>
</body></html>"""


@parses(of_json(PAGE))
def index_page(data: bytes, _directory: Path) -> None:
    for file in parse_page(data, JSON, "https://pypi.example/simple/gadget/"):
        file.fits("3.13.5")


@parses(of_bytes(HTML))
def index_page_html(data: bytes, _directory: Path) -> None:
    for file in parse_page(data, "text/html", "https://pypi.example/simple/gadget/"):
        file.fits("3.13.5")


with zipfile.ZipFile(io.BytesIO(wheel_of())) as _valid:
    for _name in (*TEXTS, "RECORD"):
        _damaged = mapped(damaged([_valid.read(f"{INFO}/{_name}")]), functools.partial(wheel_of, _name))
        PARSERS[f"wheel_{_name}"] = (wheel, _damaged, wheel_of())
