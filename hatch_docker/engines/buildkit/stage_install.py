"""Program of a stage of the Dockerfile: install wheels into a tree that the image copies, and compile them.

    python -I -S install.py WHEELS OUT ROOT [--venv] [--leave-out=KIND] [--locale=LANGUAGE] [--keep=PATTERN]

The base's Python runs it (3.9 or newer) with the standard library and the modules beside it (`context.STAGE_MODULES`):
those that install wheels in the process of hatch-docker too, so that both write the same bytes. Every wheel below the
directory WHEELS goes into the virtual environment /ROOT, written to OUT/ROOT; with `--venv` the environment's own files
too. `compile.py` beside it is the driver of `bases.bytecode`. Where something is left out, OUT/../slim/left-out.json
says how much that is of each wheel.
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

DATE = 315532800      # 1980-01-01, as SOURCE_DATE
REPAIRED = ".repair"  # after the name of a wheel: an empty file beside it says that its RECORD is put right


def target(root: str) -> VenvTarget:
    """Return the environment at `root` of the Python that runs."""
    from hatch_docker.wheels.install.layout import VenvTarget

    # -I -S keeps sys.executable as it was called; its real path is where the links of the base lead.
    path, version = os.path.realpath(sys.executable), "{}.{}.{}".format(*sys.version_info[:3])
    short = version.rpartition(".")[0]
    name = short + sys.abiflags.replace("d", "")  # as bases.model.Interpreter has it
    interpreter = SimpleNamespace(path=path, version=version, short=short, name=name)
    return VenvTarget(cast("Interpreter", interpreter), root)


def write(file: InstalledFile, out: Path) -> None:
    """Write a file below `out`; raises SystemExit where another wheel brought one with different contents."""
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
    """Write the .pyc of every wheel's modules but its tests; the jobs are those of `bases.bytecode`."""
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
        made = work / str(number)
        if made.exists():
            cache = source.parent / "__pycache__"
            cache.mkdir(exist_ok=True)
            bytecode = cache / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
            bytecode.write_bytes(made.read_bytes())
            bytecode.chmod(0o644)
            made.unlink()


def install(wheels: list[Path], out: Path, root: str, options: tuple[str, ...]) -> None:
    """Install and compile wheels; raises WheelError for one that is not sound."""
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
    # A tree must not depend on the time when it was made.
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
    """Install everything; raises SystemExit with one line where a wheel is not sound."""
    sys.path.append(str(Path(__file__).parent))  # -I keeps it out
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
