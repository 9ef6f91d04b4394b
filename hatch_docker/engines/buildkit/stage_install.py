"""Inside a stage of the Dockerfile: install wheels into a tree that the image copies, and compile them.

    python -I -S install.py WHEELS OUT ROOT [--venv] [--leave-out=KIND] [--locale=LANGUAGE] [--keep=PATTERN]

A program of its own, run by the base's Python (3.9 or newer), standard library only, so that no installer has
to be in any stage. Every wheel below the directory WHEELS goes into the virtual environment /ROOT, written to
OUT/ROOT; with `--venv` the environment's own files too. It writes what `unpack.py` and `compile.py` write,
byte for byte: `compile.py` beside it is that module's driver. Where something is left out, `slim.py` and `strip.py`
are beside it too, and how much that is of each wheel is written to OUT/../slim/left-out.json.
tests/engines/buildkit/test_stage_install.py holds them together.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import posixpath
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

DATE = 315532800   # 1980-01-01, as SOURCE_DATE
CHUNK = 256 * 1024  # as in compile.py
INSTALLER = b"hatch-docker\n"
LEFT_OUT = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD.jws", "RECORD.p7s")
SCRIPT = """\
#!{python}
import sys
from {module} import {name}
if __name__ == "__main__":
    sys.exit({call}())
"""


class Site:
    """The virtual environment that is written."""

    def __init__(self, out: Path, root: str, options: tuple[str, ...]) -> None:
        self.out = out
        self.root = root
        values = [option.partition("=")[::2] for option in options]
        self.rules = tuple(
            tuple(value for name, value in values if name == wanted) for wanted in ("--leave-out", "--locale", "--keep")
        )
        self.tallies: dict[str, dict[str, list[int]]] = {}
        self.short = f"{sys.version_info[0]}.{sys.version_info[1]}"
        self.site = f"{root}/lib/python{self.short}/site-packages"
        self.python = f"/{root}/bin/python"

    def write(self, path: str, data: bytes, mode: int) -> None:
        """A file at a path in the image; the same file of two wheels must be the same."""
        if path != posixpath.normpath(path) or not path.startswith(f"{self.root}/") or "\0" in path:
            raise SystemExit(f"a wheel names the path {path!r}, which is not in the environment")
        if "/.wh." in path:
            raise SystemExit(f"a wheel brings {path!r}, which would remove what other layers have")
        target = self.out / path
        if target.exists():
            if target.read_bytes() != data:
                raise SystemExit(f"two wheels bring /{path}, with different contents")
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(mode)

    def add_environment(self) -> None:
        """The environment's own files (PEP 405)."""
        # -I -S keeps sys.executable as it was called; its real path is what the links of the base lead to.
        executable = os.path.realpath(sys.executable)
        version = "{}.{}.{}".format(*sys.version_info[:3])
        self.write(f"{self.root}/pyvenv.cfg", (
            f"home = {posixpath.dirname(executable)}\ninclude-system-site-packages = false\n"
            f"version = {version}\nexecutable = {executable}\n"
        ).encode(), 0o644)
        base = self.out / self.root
        (base / "bin").mkdir(parents=True, exist_ok=True)
        (self.out / self.site).mkdir(parents=True, exist_ok=True)
        for link, target in (
            ("bin/python", executable), ("bin/python3", "python"), (f"bin/python{self.short}", "python"),
            ("lib64", "lib"),
        ):
            (base / link).symlink_to(target)


def install(wheel: Path, site: Site) -> list[str]:
    """Install one wheel; returns the paths of its modules. Every file must be as RECORD says."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        info = next(name.split("/")[0] for name in names if re.fullmatch(r"[^/]+\.dist-info/WHEEL", name))
        promised = {
            posixpath.normpath(row[0]): row[1].rstrip("=")
            for row in csv.reader(io.StringIO(archive.read(f"{info}/RECORD").decode(), newline="")) if row
        }
        rows: list[tuple[str, str, str]] = []
        modules = []
        tally = site.tallies[wheel.name] = {}
        names = without(archive, names, site, tally)
        for path, data, mode in files(archive, sorted(names), info, promised, site, tally):
            site.write(path, data, mode)
            rows.append((posixpath.relpath(path, site.site), f"sha256={digest('sha256', data)}", str(len(data))))
            if path.endswith(".py") and path.startswith(site.site):
                modules.append(path)
    record = f"{info}/RECORD"
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows([*sorted(rows), (record, "", "")])
    site.write(f"{site.site}/{record}", out.getvalue().encode(), 0o644)
    return modules


def without(archive: zipfile.ZipFile, names: list[str], site: Site, tally: dict[str, list[int]]) -> list[str]:
    """The names of a wheel's files but those that the rules leave out."""
    if not site.rules[0]:
        return names
    import slim  # type: ignore[import-not-found] # beside this file

    def start(name: str) -> bytes:
        with archive.open(name) as stream:
            return stream.read(slim.LOOKED_AT)

    found = slim.choose(names, start, slim.Rules(*site.rules))
    for name, kind in found.items():
        slim.count(tally, kind, archive.getinfo(name).file_size)
    return [name for name in names if name not in found]


def without_symbols(name: str, data: bytes, site: Site, tally: dict[str, list[int]]) -> bytes:
    """A file as it is installed; an ELF file without its symbols, where the rules say so."""
    if not site.rules[0] or not data.startswith(b"\x7fELF"):
        return data
    import slim
    import strip  # type: ignore[import-not-found]

    found: bytes = strip.strip_bytes(data) if slim.is_stripped(name, slim.Rules(*site.rules)) else data
    if len(found) < len(data):
        slim.count(tally, slim.SYMBOLS, len(data) - len(found))
    return found


def files(
    archive: zipfile.ZipFile, names: list[str], info: str, promised: dict[str, str], site: Site,
    tally: dict[str, list[int]],
) -> Iterator[tuple[str, bytes, int]]:
    """Path, contents and mode of every file but RECORD."""
    places = {
        "purelib": site.site, "platlib": site.site, "scripts": f"{site.root}/bin", "data": site.root,
        "headers": f"{site.root}/include/site/python{site.short}/{info.partition('-')[0]}",
    }
    data_directory = info[: -len(".dist-info")] + ".data"
    for name in names:
        parts = name.split("/")
        data = archive.read(name)
        if name == f"{info}/entry_points.txt":
            yield from entry_points(data.decode(), site)
        if name == f"{info}/RECORD" or (parts[0] == info and parts[-1] in LEFT_OUT) or "__pycache__" in parts:
            continue
        algorithm, _, value = promised.get(posixpath.normpath(name), "").partition("=")
        if algorithm not in ("sha256", "sha384", "sha512") or digest(algorithm, data) != value:
            raise SystemExit(f"{Path(archive.filename or '').name}: {name} is not as RECORD says")
        scheme, path = ("purelib", name) if parts[0] != data_directory else (parts[1], "/".join(parts[2:]))
        mode = 0o755 if scheme == "scripts" or archive.getinfo(name).external_attr >> 16 & 0o111 else 0o644
        if scheme == "scripts" and data.startswith(b"#!python"):
            data = f"#!{site.python}\n".encode() + data.partition(b"\n")[2]
        data = without_symbols(name, data, site, tally)
        target = f"{places[scheme]}/{path}"
        library = f"{site.root}/lib64/"
        yield (f"{site.root}/lib/{target[len(library):]}" if target.startswith(library) else target), data, mode
    yield f"{site.site}/{info}/INSTALLER", INSTALLER, 0o644


def entry_points(text: str, site: Site) -> Iterator[tuple[str, bytes, int]]:
    """The programs of an entry_points.txt."""
    import configparser

    parser = configparser.ConfigParser(delimiters="=", interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    for section in ("console_scripts", "gui_scripts"):
        for name, value in parser.items(section) if parser.has_section(section) else ():
            found = re.match(r"(?P<module>[\w.]+)\s*(:\s*(?P<call>[\w.]+))?", value)
            if found is None or "/" in name or not found["call"]:
                raise SystemExit(f"the entry point {name} = {value} cannot be called")
            script = SCRIPT.format(
                python=site.python, module=found["module"], name=found["call"].partition(".")[0], call=found["call"]
            )
            yield f"{site.root}/bin/{name}", script.encode(), 0o755


def digest(algorithm: str, data: bytes) -> str:
    """A hash as RECORD writes it (PEP 376)."""
    return base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest()).decode().rstrip("=")


def compile_modules(units: list[list[str]], site: Site, driver: Path, work: Path) -> None:
    """The .pyc of every wheel's modules but its tests; jobs and chunks as compile.py cuts them."""
    jobs = bytearray()
    paths = []
    chunk, room = 0, 0
    for unit in units:
        room = 0
        for path in sorted(name for name in unit if "/tests/" not in name):
            source = site.out / path
            if room <= 0:
                chunk, room = chunk + 1, CHUNK
            size = source.stat().st_size
            room -= size
            jobs += b"%d\0/%b\0%b\0%d\0%d\0" % (chunk, path.encode(), os.fsencode(source), 0, size)
            paths.append(source)
    command = [sys.executable, "-S", "-s", "-W", "ignore", str(driver), str(os.cpu_count() or 1)]
    environment = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
    subprocess.run(command, input=bytes(jobs), cwd=work, env=environment, check=True)
    for number, source in enumerate(paths):
        made = work / str(number)
        if made.exists():
            cache = source.parent / "__pycache__"
            cache.mkdir(exist_ok=True)
            target = cache / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
            target.write_bytes(made.read_bytes())
            target.chmod(0o644)
            made.unlink()


def settle(out: Path, root: str) -> None:
    """Directories 0755, and one time for everything: a tree must not tell when it was made."""
    top = out / root.split("/", maxsplit=1)[0]
    for directory, directories, names in os.walk(top, topdown=False):
        for name in [*names, *directories]:
            os.utime(os.path.join(directory, name), (DATE, DATE), follow_symlinks=False)  # noqa: PTH118
        Path(directory).chmod(0o755)
        os.utime(directory, (DATE, DATE))


def main(wheels: str, out: str, root: str, *options: str) -> None:
    """Install everything; SystemExit with one line where a wheel is not sound."""
    os.umask(0o022)
    found = sorted(Path(wheels).rglob("*.whl"), key=lambda path: path.name)
    if not found and "--empty" not in options:
        raise SystemExit(f"no wheel in {wheels}")
    site = Site(Path(out), root, options)
    if site.rules[0]:
        sys.path.append(str(Path(__file__).parent))  # -I keeps it out
    if "--venv" in options:
        site.add_environment()
    units = [install(wheel, site) for wheel in found]
    with tempfile.TemporaryDirectory() as work:
        compile_modules(units, site, Path(__file__).with_name("compile.py"), Path(work))
    settle(site.out, root)
    if site.rules[0]:
        report = site.out.parent / "slim" / "left-out.json"
        report.parent.mkdir(exist_ok=True)
        report.write_text(json.dumps(site.tallies))


if __name__ == "__main__":
    main(*sys.argv[1:])
