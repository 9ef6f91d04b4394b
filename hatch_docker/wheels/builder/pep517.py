"""PEP 517 in the builder: the backend builds the wheel of an sdist, or the sdist of a tree.

The target's Python (3.9 or newer) runs this program in the sandbox or in a stage of a Dockerfile; standard library
only. Its argument is a JSON object, or the path of a file with it:

    sdist          path of the sdist; absent if the tree is in `source` already
    source         directory to unpack it to, `project` (default ".") the project's directory below it
    output         directory for the wheel or sdist
    backend        build-backend, with `backend_path`
    known          requirements that are installed
    time           of every file, in seconds since the epoch
    env            variables to set; `secrets`: names of variables whose values are in /run/secrets
    cache          true: compiler_cache.py, beside this program, replaces the system's compilers
    strict         true: fail if the backend requests requirements that are not `known`

The program writes `result.json` to `output`: {"wheel": its file name}, {"sdist": its file name}, or {"requires": [...]}
if the backend requests more requirements.
"""

from __future__ import annotations

import atexit
import importlib
import itertools
import json
import os
import shutil
import sys
import tarfile
import tempfile
import traceback
import zipfile
from pathlib import Path
from typing import Any

MISSING = "the build asks for more requirements: "


def unpack(archive: str, target: str, time: int) -> None:
    """Unpack without the top directory, with fixed owners, modes and times, so that builds are reproducible."""
    if archive.endswith(".zip"):
        unpack_zip(archive, target, time)
        return
    with tarfile.open(archive) as tar:
        members = []
        for member in tar.getmembers():
            _, _, name = member.name.removeprefix("./").partition("/")
            if not name:
                continue
            member.name, member.mtime = name, time
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            if member.islnk():
                member.linkname = member.linkname.removeprefix("./").partition("/")[2]
            members.append(member)
        if hasattr(tarfile, "fully_trusted_filter"):
            tar.extraction_filter = tarfile.fully_trusted_filter  # the sandbox limits the access to files
        tar.extractall(target, members)  # noqa: S202


def unpack_zip(archive: str, target: str, time: int) -> None:
    """Unpack a .zip file; see `unpack`."""
    with zipfile.ZipFile(archive) as files:
        for info in files.infolist():
            name = info.filename.partition("/")[2]
            if not name or info.is_dir():
                continue
            path = Path(target, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.open(info) as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            path.chmod(0o755 if info.external_attr >> 16 & 0o100 else 0o644)
            os.utime(path, (time, time))


def load(spec: dict[str, Any]) -> Any:
    """Return the backend object. With a backend-path it must be in the project's directories."""
    directories = [str(Path(path).absolute()) for path in spec["backend_path"]]
    sys.path[:1] = directories  # instead of the directory of this script
    module, _, names = spec["backend"].partition(":")
    backend: Any = importlib.import_module(module)
    if directories and not any(str(backend.__file__).startswith(path + os.sep) for path in directories):
        raise SystemExit(f"the backend {module} is not in backend-path, but in {backend.__file__}")
    for name in filter(None, names.split(".")):
        backend = getattr(backend, name)
    return backend


def main() -> None:
    """Build the wheel or sdist, or report the requirements that must be installed first."""
    argument = sys.argv[1]
    spec = json.loads(argument if argument.startswith("{") else Path(argument).read_text("utf-8"))
    for path in (spec["output"], os.environ["HOME"]):
        os.makedirs(path, exist_ok=True)  # noqa: PTH103
    os.environ.update(spec.get("env", {}))
    for name in spec.get("secrets", ()):
        os.environ[name] = Path("/run/secrets", name).read_text("utf-8")
    kind = "wheel" if spec.get("sdist") else "sdist"
    if spec.get("sdist"):
        unpack(spec["sdist"], spec["source"], spec["time"])
    os.chdir(Path(spec["source"], spec.get("project", ".")))
    if spec.get("cache"):
        import compiler_cache  # type: ignore[import-not-found]
        import compiler_places  # type: ignore[import-not-found]

        compiler_places.take_places(Path("/"), os.path.realpath(sys.executable), Path(compiler_cache.__file__))
        atexit.register(compiler_places.trim_mounted, compiler_cache.DIRECTORY)
    # The names of temporary files are the same in each build, because backends compile in temporary directories, and
    # some compilers write their names to the output.
    tempfile._name_sequence = map("{:08}".format, itertools.count())  # type: ignore[attr-defined]  # noqa: SLF001
    backend = load(spec)
    sys.argv[1:] = []
    get_requires = getattr(backend, f"get_requires_for_build_{kind}", None)
    requires = [line for line in (get_requires(None) if get_requires else []) if line not in spec["known"]]
    if requires and spec.get("strict"):
        raise SystemExit(f"{MISSING}{json.dumps(requires)}")
    hook = getattr(backend, f"build_{kind}")
    rest = (None, None) if kind == "wheel" else (None,)
    result = {"requires": requires} if requires else {kind: hook(spec["output"], *rest)}
    Path(spec["output"], "result.json").write_text(json.dumps(result), encoding="utf-8")


def run() -> None:
    """Run `main`. Print only the last frames of an exception, so that the compiler's messages remain visible."""
    try:
        main()
    except Exception:  # noqa: BLE001 - a backend may raise anything
        traceback.print_exc(limit=-2)
        raise SystemExit(1) from None


if __name__ == "__main__":
    run()
