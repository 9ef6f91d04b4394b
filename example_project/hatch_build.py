"""The build hook that compiles the C extension for a wheel; an sdist needs no compiler."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("src/mandelbrot_tiles/_mandelbrot.c")


class CompileHook(BuildHookInterface):
    """A hook that runs `cc` once, with CC and CFLAGS of the environment and the headers of the build's Python."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the compiled module to the wheel, or write it beside its source for an editable installation."""
        root = Path(self.root)
        filename = "_mandelbrot" + sysconfig.get_config_var("EXT_SUFFIX")
        if version == "editable":
            output = root / SOURCE.parent / filename
        else:
            self._scratch = tempfile.TemporaryDirectory()
            output = Path(self._scratch.name) / filename
            build_data["force_include"][str(output)] = f"mandelbrot_tiles/{filename}"
        self._compile(root, output)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the temporary directory."""
        if version != "editable":
            self._scratch.cleanup()

    def _compile(self, root: Path, output: Path) -> None:
        command = [
            *shlex.split(os.environ.get("CC") or "cc"),
            *("-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra"),
            "-ffp-contract=off",  # the same rounding, and so the same pixels, on every architecture
            f"-ffile-prefix-map={root}=.",  # the result does not depend on the directory
            *(("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()),
            *shlex.split(os.environ.get("CFLAGS", "")),
            f"-I{sysconfig.get_path('include')}",
            *(str(SOURCE), "-o", str(output), "-lm"),
        ]
        try:
            subprocess.run(command, cwd=root, check=True)
        except FileNotFoundError:
            self.app.abort(f"{SOURCE} needs a C compiler, and there is no {command[0]}; install one or set CC")
        except subprocess.CalledProcessError as error:
            self.app.abort(f"{SOURCE} does not compile: {shlex.join(command)} ended with status {error.returncode}")
