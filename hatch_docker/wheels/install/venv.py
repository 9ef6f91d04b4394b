"""Entries of a layer for a virtual environment and for each wheel that is installed into it.

A wheel's entries depend only on the wheel, Python's minor version and the environment's root: the same wheel is the
same layer in every image, and a pure wheel on every architecture. Only `venv_entries` depend on the base.
"""

import posixpath
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from hatch_docker.bases.bytecode import Compiled, SourceFile, bytecode_path
from hatch_docker.core.errors import WheelError
from hatch_docker.oci.paths import SOURCE_DATE, parents
from hatch_docker.oci.tar import Entry, parent_entries
from hatch_docker.wheels.install.archive import WheelArchive, record_rows
from hatch_docker.wheels.install.compatibility import check_identity
from hatch_docker.wheels.install.destination import Installation
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.install.slim import NONE, Rules


def venv_entries(venv: VenvTarget) -> list[Entry]:
    """Return the environment's own files: pyvenv.cfg, symlinks to the interpreter, and directories."""
    entries = [Entry(f"{venv.root}/pyvenv.cfg", "file", 0o644, SOURCE_DATE, content=venv.settings)]
    entries += [
        Entry(f"{venv.root}/{path}", "symlink", 0o777, SOURCE_DATE, target=target)
        for path, target in venv.links.items()
    ]
    paths = [*(entry.path for entry in entries), f"{venv.site_packages}/."]
    return [*parent_entries(paths, set(parents(venv.root))), *entries]


def wheel_entries(
    wheel: Path, venv: VenvTarget, *, filename: str = "", warn: Callable[[str], object] = lambda _line: None,
    rules: Rules = NONE, tally: dict[str, list[int]] | None = None, faults: list[str] | None = None,
    hashes: dict[str, str] | None = None,
) -> list[Entry]:
    """Return the files of an installed wheel in an environment, and their directories, without .pyc files.

    `filename`: the wheel's file name if `wheel` has another, as in the store. Files that `rules` leave out are missing
    in RECORD too, and are added to `tally`: kind -> number of files and bytes. With `faults` a wrong RECORD is
    repaired, and its errors are appended to `faults`. `hashes` receives the rows of the new RECORD, as `wheel_files`
    returns them. Errors and `warn`: see `Installation`. Also raise WheelError if names or metadata are those of another
    package.
    """
    archive = WheelArchive(wheel, filename or wheel.name, repair=faults is not None)
    if faults is not None:
        faults += archive.faults
    check_identity(archive)
    installed = Installation(archive, venv, rules, warn)
    if tally is not None:
        tally |= installed.left_out
    if hashes is not None:
        hashes |= installed.hashes
    entries = parent_entries(installed.files, set(parents(venv.root)))
    while installed.files:  # 100 000 files are not stored twice
        path, file = installed.files.popitem()
        entries.append(Entry(path, "file", file.mode, SOURCE_DATE, size=file.size, content=file.content))
    return entries


def python_sources(entries: Iterable[Entry], venv: VenvTarget) -> list[SourceFile]:
    """Return the modules among a wheel's entries, as one unit for `compile_sources`."""
    modules = (entry for entry in entries if entry.kind == "file" and venv.has_module(entry.path))
    return [(entry.path, entry.content or b"") for entry in modules]


def bytecode_entries(entries: Iterable[Entry], compiled: Compiled, venv: VenvTarget) -> list[Entry]:
    """Return the .pyc files of a wheel's modules and their directories, from the result of `compile_sources`.

    They are not in RECORD, which may omit files that can be made again (PEP 376).
    """
    files = [
        compiled.entry(path) for entry in entries
        if (path := bytecode_path(entry.path, venv.interpreter)) in compiled and entry.path.endswith(".py")
    ]
    directories = sorted({entry.path.rpartition("/")[0] for entry in files})
    return [*(Entry(path, "directory", 0o755, SOURCE_DATE) for path in directories), *files]


def wheel_files(entries: Iterable[Entry], venv: VenvTarget) -> dict[str, str]:
    """Return the files in the RECORD of an installed wheel: path in the image -> hash ("sha256=...", "" if none)."""
    for entry in entries:
        if venv.is_metadata(entry.path, "RECORD") and isinstance(entry.content, bytes):
            rows = record_rows(entry.content)
            return {posixpath.normpath(f"{venv.site_packages}/{row[0]}"): row[1] for row in rows}
    return {}


def check_owners(wheels: Mapping[str, Mapping[str, str]]) -> None:
    """Raise WheelError if two wheels contain the same path with different contents. `wheels`: name -> its files.

    An installer would keep the last file, and the order is arbitrary. Equal files, such as an empty `__init__.py`, are
    allowed.
    """
    owners: dict[str, tuple[str, str]] = {}
    for name, files in sorted(wheels.items()):
        for path, digest in files.items():
            owner, known = owners.setdefault(path, (name, digest))
            if owner != name and known != digest:
                raise WheelError(
                    f"{owner} and {name} both contain /{path}, with different contents; "
                    "depend on one of them, or exclude the other"
                )
    directories = {path.rpartition("/")[0]: name for path, (name, _) in owners.items()}
    for directory, name in directories.items():
        for parent in (directory, *parents(directory)):
            if parent in owners:
                raise WheelError(f"/{parent} is a file in {owners[parent][0]} and a directory in {name}")
