"""Wheels into layers: the entries of a virtual environment, and of each wheel that is installed into it.

A wheel's entries depend on the wheel, on "3.13" and on the environment's root, on nothing else: the same wheel
is the same layer in every image, and a pure one on every architecture. Only `venv_entries` know the base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.bases.model import Interpreter
from hatch_docker.core.errors import WheelError
from hatch_docker.oci.paths import SOURCE_DATE, parents
from hatch_docker.plan.model import VENV
from hatch_docker.wheels.install.slim import NONE, Rules

if TYPE_CHECKING:
    from hatch_docker.bases.bytecode import Compiled, SourceFile
    from hatch_docker.oci.layer import Entry
    from hatch_docker.wheels.target import Target


@dataclass(frozen=True, slots=True)
class VenvTarget:
    """A virtual environment in an image (PEP 405): the base's interpreter, and where it is, without "/"."""

    interpreter: Interpreter
    root: str = VENV

    @property
    def site_packages(self) -> str:
        """Where modules go, relative to the image's root."""
        return f"{self.root}/lib/python{self.interpreter.short}/site-packages"

    @property
    def python(self) -> str:
        """The absolute path of the environment's interpreter, for the first line of scripts."""
        return f"/{self.root}/bin/python"


def venv_entries(venv: VenvTarget) -> list[Entry]:
    """The environment's own files: pyvenv.cfg, the links to the interpreter, directories from the root down."""
    from hatch_docker.oci.tar import Entry, parent_entries

    interpreter = venv.interpreter
    settings = (
        f"home = {interpreter.path.rpartition('/')[0]}\n"
        "include-system-site-packages = false\n"
        f"version = {interpreter.version}\n"
        f"executable = {interpreter.path}\n"
    )
    links = {
        "bin/python": interpreter.path, "bin/python3": "python", f"bin/python{interpreter.short}": "python",
        "lib64": "lib",
    }
    entries = [Entry(f"{venv.root}/pyvenv.cfg", "file", 0o644, SOURCE_DATE, content=settings.encode())]
    entries += [
        Entry(f"{venv.root}/{path}", "symlink", 0o777, SOURCE_DATE, target=to) for path, to in links.items()
    ]
    paths = [*(entry.path for entry in entries), f"{venv.site_packages}/."]
    return [*parent_entries(paths, set(parents(venv.root))), *entries]


def wheel_entries(
    wheel: Path, venv: VenvTarget, *, filename: str = "", warn: Callable[[str], object] = lambda _line: None,
    rules: Rules = NONE, tally: dict[str, list[int]] | None = None,
) -> list[Entry]:
    """What installing a wheel writes into an environment, directories included, .pyc not (PEP 427, PEP 376).

    `filename` is the wheel's own name where `wheel` has another, as in the store. Files are opened, and compared
    with RECORD, only when they are read: none is held in memory. `warn` is told of modules that will run at
    every start of Python. What `rules` leave out is missing in RECORD too, and is added to `tally`: kind -> files and
    bytes. Raises WheelError, naming the wheel and the entry, for everything that is not a
    sound wheel: names that leave their directory, files that differ from RECORD or are not in it, links,
    setuid bits, archives that unpack to far more than they hold, files of the environment itself.
    """
    from hatch_docker.oci.tar import parent_entries
    from hatch_docker.wheels.install.destination import unpack

    entries = unpack(wheel, venv, filename or wheel.name, warn, rules, tally)
    return [*parent_entries((entry.path for entry in entries), set(parents(venv.root))), *entries]


def python_sources(entries: Iterable[Entry], venv: VenvTarget) -> list[SourceFile]:
    """The modules among a wheel's entries: one unit for `compile_sources`.

    Those of packages' tests are left out: they are not imported in a service, and with numpy the .pyc of its
    tests would be 6 % of the image.
    """
    modules = [
        entry for entry in entries
        if entry.kind == "file" and entry.path.endswith(".py") and entry.path.startswith(venv.site_packages)
        and "/tests/" not in entry.path
    ]
    return [(entry.path, entry.content or b"") for entry in modules]


def bytecode_entries(entries: Iterable[Entry], compiled: Compiled, venv: VenvTarget) -> list[Entry]:
    """The .pyc of a wheel's modules and their directories, out of what `compile_sources` gave for all wheels.

    RECORD does not name them: files that can be made again may be left out (PEP 376).
    """
    from hatch_docker.bases.bytecode import bytecode_path
    from hatch_docker.oci.tar import Entry

    files = [
        compiled.entry(path)
        for entry in entries
        if (path := bytecode_path(entry.path, venv.interpreter)) in compiled and entry.path.endswith(".py")
    ]
    directories = sorted({entry.path.rpartition("/")[0] for entry in files})
    return [*(Entry(path, "directory", 0o755, SOURCE_DATE) for path in directories), *files]


def wheel_files(entries: Iterable[Entry], venv: VenvTarget) -> dict[str, str]:
    """The files of an installed wheel, from its RECORD: path in the image -> hash ("sha256=...", "" if none)."""
    import csv
    import io
    import posixpath

    for entry in entries:
        if entry.path.endswith(".dist-info/RECORD") and isinstance(entry.content, bytes):
            rows = csv.reader(io.StringIO(entry.content.decode(), newline=""))
            return {posixpath.normpath(f"{venv.site_packages}/{row[0]}"): row[1] for row in rows}
    return {}


def check_owners(wheels: Mapping[str, Mapping[str, str]]) -> None:
    """Raise WheelError where two wheels bring one path with different contents; `wheels`: name -> its files.

    An installer would let the last one win, and which one is last is an accident. The same contents twice, as
    an empty `__init__.py`, do no harm.
    """
    owners: dict[str, tuple[str, str]] = {}
    for name, files in sorted(wheels.items()):
        for path, digest in files.items():
            owner, known = owners.setdefault(path, (name, digest))
            if owner != name and known != digest:
                raise WheelError(
                    f"{owner} and {name} both bring /{path}, with different contents; "
                    "depend on one of them, or exclude the other"
                )
    directories = {path.rpartition("/")[0]: name for path, (name, _) in owners.items()}
    for directory, name in directories.items():
        for parent in (directory, *parents(directory)):
            if parent in owners:
                raise WheelError(f"/{parent} is a file in {owners[parent][0]} and a directory in {name}")


def check_fits(filename: str, target: Target) -> None:
    """Raise WheelError, naming both sides, where a wheel's tags (PEP 425) are not among those of the target."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename as error:
        raise WheelError(f"{filename} is not the name of a wheel: {error}") from None
    if tags.isdisjoint(target.tags()):
        raise WheelError(
            f"wheel {filename} does not fit the base, which is {target}; "
            "choose another version or base, or let the builder make the wheel"
        )


TREE = "source.tar.gz"  # a project's tree, whose name and version its backend alone knows


def check_made(filename: str, sdist: str, target: Target) -> None:
    """Raise WheelError where a wheel does not fit the target, or is not of the package and version of its sdist."""
    from packaging.utils import InvalidSdistFilename, parse_sdist_filename, parse_wheel_filename

    check_fits(filename, target)
    if sdist == TREE:
        return
    try:
        wanted = parse_sdist_filename(sdist)
    except InvalidSdistFilename as error:
        raise WheelError(f"{sdist} is not the name of an sdist: {error}") from None
    if parse_wheel_filename(filename)[:2] != wanted:
        raise WheelError(f"building {sdist} gave {filename}, which is another package or version; tell its makers")
