"""PEP 517 in the builder: have the backend of an sdist make the wheel, or that of a tree make the sdist.

A program that the target's Python (3.9 or newer) runs in the sandbox or in a stage of a Dockerfile; standard library
only. Its argument is a JSON object, or the path of one, with

    sdist          path of the sdist; left out if the tree is in `source` already
    source         directory to unpack it to, `project` (default ".") the project's directory below it
    output         directory for the wheel or sdist
    backend        build-backend, with `backend_path`
    known          requirements that are installed
    time           of every file, in seconds since the epoch
    env            variables to set; `secrets`: names of variables whose values are in /run/secrets
    cache          true if compiler_cache.py, beside this program, is to take the places of the system's compilers
    strict         true to fail if the backend asks for requirements that are not `known`

It writes `result.json` to `output`: {"wheel": its file name}, {"sdist": its file name}, or {"requires": [...]} if the
backend asks for more requirements.
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
    """Unpack without the top directory, with fixed owners, modes and times, so that two builds are alike."""
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
            tar.extraction_filter = tarfile.fully_trusted_filter  # the sandbox confines it
        tar.extractall(target, members)  # noqa: S202


def unpack_zip(archive: str, target: str, time: int) -> None:
    """Unpack a .zip as `unpack` does."""
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
    """Return the backend object, from the project's directories if there is a backend-path."""
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
    """Make the file, or list the requirements that have to be installed first."""
    given = sys.argv[1]
    spec = json.loads(given if given.startswith("{") else Path(given).read_text("utf-8"))
    for path in (spec["output"], os.environ["HOME"]):
        os.makedirs(path, exist_ok=True)  # noqa: PTH103
    os.environ.update(spec.get("env", {}))
    for name in spec.get("secrets", ()):
        os.environ[name] = Path("/run/secrets", name).read_text("utf-8")
    made = "wheel" if spec.get("sdist") else "sdist"
    if spec.get("sdist"):
        unpack(spec["sdist"], spec["source"], spec["time"])
    os.chdir(Path(spec["source"], spec.get("project", ".")))
    if spec.get("cache"):
        import compiler_cache  # type: ignore[import-not-found]
        import compiler_places  # type: ignore[import-not-found]

        compiler_places.take_places(Path("/"), os.path.realpath(sys.executable), Path(compiler_cache.__file__))
        atexit.register(compiler_places.trim_mounted, compiler_cache.DIRECTORY)
    # Names of temporary files are the same in each build: backends compile in directories of such names, and some
    # compilers write them into what they make.
    tempfile._name_sequence = map("{:08}".format, itertools.count())  # type: ignore[attr-defined]  # noqa: SLF001
    backend = load(spec)
    sys.argv[1:] = []
    ask = getattr(backend, f"get_requires_for_build_{made}", None)
    requires = [line for line in (ask(None) if ask else []) if line not in spec["known"]]
    if requires and spec.get("strict"):
        raise SystemExit(f"{MISSING}{json.dumps(requires)}")
    hook = getattr(backend, f"build_{made}")
    rest = (None, None) if made == "wheel" else (None,)
    result = {"requires": requires} if requires else {made: hook(spec["output"], *rest)}
    Path(spec["output"], "result.json").write_text(json.dumps(result), encoding="utf-8")


def run() -> None:
    """Run `main`; of a failure print only the innermost frames, so that the compiler's messages above stay visible."""
    try:
        main()
    except Exception:  # noqa: BLE001 - a backend may raise anything
        traceback.print_exc(limit=-2)
        raise SystemExit(1) from None


if __name__ == "__main__":
    run()
