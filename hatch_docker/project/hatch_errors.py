"""Conversion of hatchling's exceptions about a project into ConfigError."""

import contextlib
import re
import sys
from collections.abc import Iterator

from hatch_docker.core.errors import ConfigError


@contextlib.contextmanager
def hatchling_errors() -> Iterator[None]:
    """Convert exceptions about a project's metadata or files into ConfigError, which is printed in one line.

    Only exceptions raised in hatchling, or in the standard library called by hatchling, are converted: exceptions of
    plugins and of hatch-docker keep their traceback.
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
        text = re.sub(r"\n[ ~^]+$", "", str(error))  # the line of packaging that underlines a part of the line above
        raise ConfigError(f"pyproject.toml: {' '.join(text.split())}") from error
