"""Program for a stage of the Dockerfile: it installs wheels into a tree that becomes a layer, and byte-compiles them.

    python -I -S install.py WHEELS OUT ROOT [--venv] [--leave-out=KIND] [--locale=LANGUAGE] [--keep=PATTERN]

The base's Python runs it (3.9 or newer) with the standard library and the modules beside it (`context.STAGE_MODULES`).
The embedded engine uses the same modules, so both engines write the same bytes. All wheels below the directory WHEELS
are installed into the virtual environment /ROOT, written to OUT/ROOT; `--venv` adds the environment's own files.
`compile.py` is the driver of `bases.bytecode`. With --leave-out, OUT/../slim/left-out.json contains the number and the
size of the files left out of each wheel.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from hatch_docker.bases.model import Interpreter
    from hatch_docker.wheels.install.destination import InstalledFile
    from hatch_docker.wheels.install.layout import VenvTarget

DATE = 315532800      # 1980-01-01, the same as SOURCE_DATE
REPAIRED = ".repair"  # an empty file with this suffix beside a wheel: its wrong RECORD is corrected


def target(root: str) -> VenvTarget:
    """Return the layout of a virtual environment at `root`, for the running Python."""
    from hatch_docker.wheels.install.layout import VenvTarget

    # sys.executable may be a symlink of the base; the real path is the interpreter's path in `bases.model`.
    path, version = os.path.realpath(sys.executable), "{}.{}.{}".format(*sys.version_info[:3])
    short = version.rpartition(".")[0]
    name = short + sys.abiflags.replace("d", "")  # the same as bases.model.Interpreter.name
    interpreter = SimpleNamespace(path=path, version=version, short=short, name=name)
    return VenvTarget(cast("Interpreter", interpreter), root)


def write(file: InstalledFile, out: Path) -> None:
    """Write a file below `out`; raises SystemExit if another wheel contains the path with different contents."""
    place = out / file.path
    with file.open() as stream:
        if place.exists():
            if place.read_bytes() != stream.read():
                raise SystemExit(f"two wheels bring /{file.path}, with different contents")
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as written:
            shutil.copyfileobj(stream, written)
    place.chmod(file.mode)


def compile_modules(units: list[list[str]], out: Path, driver: Path, work: Path) -> None:
    """Write the .pyc files of each wheel's modules; the jobs on stdin have the format of `bases.bytecode`."""
    paths = [(number, path) for number, unit in enumerate(units) for path in sorted(unit)]
    jobs = b"".join(
        b"%d\0/%b\0%b\0%d\0%d\0" % (number, path.encode(), os.fsencode(out / path), 0, (out / path).stat().st_size)
        for number, path in paths
    )
    command = [sys.executable, "-S", "-s", "-W", "ignore", str(driver), str(os.cpu_count() or 1)]
    environment = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
    subprocess.run(command, input=jobs, cwd=work, env=environment, check=True)
    for number, (_, path) in enumerate(paths):
        source = out / path
        compiled = work / str(number)
        if compiled.exists():
            cache = source.parent / "__pycache__"
            cache.mkdir(exist_ok=True)
            bytecode = cache / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
            bytecode.write_bytes(compiled.read_bytes())
            bytecode.chmod(0o644)
            compiled.unlink()


def install(wheels: list[Path], out: Path, root: str, options: tuple[str, ...]) -> None:
    """Install and byte-compile wheels; raises WheelError for an invalid wheel."""
    from hatch_docker.wheels.install.archive import WheelArchive
    from hatch_docker.wheels.install.destination import Installation
    from hatch_docker.wheels.install.slim import Rules

    venv = target(root)
    values = [option.partition("=")[::2] for option in options]
    rules = Rules(*(
        tuple(value for name, value in values if name == wanted) for wanted in ("--leave-out", "--locale", "--keep")
    ))
    if "--venv" in options:
        (out / venv.root / "bin").mkdir(parents=True)  # the environment's own files (PEP 405)
        (out / venv.site_packages).mkdir(parents=True)
        settings = out / venv.root / "pyvenv.cfg"
        settings.write_bytes(venv.settings)
        settings.chmod(0o644)
        for link, end in venv.links.items():
            (out / venv.root / link).symlink_to(end)
    units, tallies = [], {}
    for wheel in wheels:
        repair = Path(f"{wheel}{REPAIRED}").exists()
        installed = Installation(WheelArchive(wheel, wheel.name, repair=repair), venv, rules, print)
        tallies[wheel.name] = installed.left_out
        for file in installed.files.values():
            write(file, out)
        units.append([path for path in installed.files if venv.has_module(path)])
    with tempfile.TemporaryDirectory() as work:
        compile_modules(units, out, Path(__file__).with_name("compile.py"), Path(work))
    # Set fixed times and modes, so that the tree is reproducible.
    for directory, directories, names in os.walk(out / root.split("/", maxsplit=1)[0], topdown=False):
        for name in [*names, *directories]:
            os.utime(os.path.join(directory, name), (DATE, DATE), follow_symlinks=False)  # noqa: PTH118
        Path(directory).chmod(0o755)
        os.utime(directory, (DATE, DATE))
    if rules.leave_out:
        report = out.parent / "slim" / "left-out.json"
        report.parent.mkdir(exist_ok=True)
        report.write_text(json.dumps(tallies))


def main(wheels: str, out: str, root: str, *options: str) -> None:
    """Install all wheels; raises SystemExit with one line for an invalid wheel."""
    sys.path.append(str(Path(__file__).parent))  # -I has removed it
    from hatch_docker.core.errors import HatchDockerError

    os.umask(0o022)
    found = sorted(Path(wheels).rglob("*.whl"), key=lambda path: path.name)
    if not found and "--empty" not in options:
        raise SystemExit(f"no wheel in {wheels}")
    try:
        install(found, Path(out), root, options)
    except HatchDockerError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main(*sys.argv[1:])
