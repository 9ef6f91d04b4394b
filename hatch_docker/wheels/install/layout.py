"""Layout of a virtual environment in an image: paths, symlinks and pyvenv.cfg (PEP 405).

Standard library only, for Python 3.9: a stage of the Dockerfile runs this file too.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatch_docker.bases.model import Interpreter


@dataclass(frozen=True)
class VenvTarget:
    """A virtual environment in an image (PEP 405): the base's interpreter, and the directory without leading "/"."""

    interpreter: Interpreter
    root: str = "opt/venv"

    @property
    def site_packages(self) -> str:
        """The site-packages directory, relative to the image's root."""
        return f"{self.root}/lib/python{self.interpreter.name}/site-packages"

    def has_module(self, path: str) -> bool:
        """Return whether a path is a module that is byte-compiled.

        Modules of packages' tests are not compiled: services do not import them, and the .pyc files of numpy's tests
        are 6 % of an image.
        """
        return path.endswith(".py") and path.startswith(self.site_packages) and "/tests/" not in path

    def is_metadata(self, path: str, name: str) -> bool:
        """Return whether a path is the file `name` in an installed package's .dist-info directory.

        Only directories directly in site-packages count; a deeper one belongs to a vendored package.
        """
        directory, _, file = path.rpartition("/")
        return file == name and directory.endswith(".dist-info") and posixpath.dirname(directory) == self.site_packages

    @property
    def python(self) -> str:
        """The absolute path of the environment's interpreter, for the shebang of scripts."""
        return f"/{self.root}/bin/python"

    @property
    def links(self) -> dict[str, str]:
        """The environment's symlinks and their targets, relative to `root`."""
        names = {f"bin/python{name}": "python" for name in ("3", self.interpreter.short, self.interpreter.name)}
        return {"bin/python": self.interpreter.path, **names, "lib64": "lib"}

    @property
    def settings(self) -> bytes:
        """The contents of pyvenv.cfg."""
        return (
            f"home = {posixpath.dirname(self.interpreter.path)}\ninclude-system-site-packages = false\n"
            f"version = {self.interpreter.version}\nexecutable = {self.interpreter.path}\n"
        ).encode()
