"""Mistakes in a project that hatchling finds, as errors of one line."""

import contextlib
import re
import sys
from collections.abc import Iterator

from hatch_docker.core.errors import ConfigError


@contextlib.contextmanager
def hatchling_errors() -> Iterator[None]:
    """Turn what hatchling finds wrong in a project's metadata or files into a ConfigError.

    Only where hatchling, or the standard library for it, raised it: an error of a plugin or of ours keeps its
    traceback.
    """
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        import traceback

        modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
        while modules and modules[-1].partition(".")[0] in sys.stdlib_module_names:
            modules.pop()
        if not modules or modules[-1].partition(".")[0] != "hatchling":
            raise
        if isinstance(error, OSError) and error.filename:
            raise ConfigError(f"cannot read or write {error.filename}: {error.strerror}") from error
        text = re.sub(r"\n[ ~^]+$", "", str(error))  # packaging points at a place in the line above
        raise ConfigError(f"pyproject.toml: {' '.join(text.split())}") from error
