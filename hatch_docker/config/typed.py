"""Errors about HATCH_DOCKER_* variables that carry the value of an option of the command line."""

import contextlib
import re
from collections.abc import Iterator, Mapping

from hatch_docker.core.errors import ConfigError


@contextlib.contextmanager
def named_as_typed(typed: Mapping[str, str]) -> Iterator[None]:
    """Name in ConfigErrors of the block the options that the user typed, by the variables that carry their values."""
    try:
        yield
    except ConfigError as error:
        text = str(error)
        for variable, option in typed.items():
            text = re.sub(rf"\b{variable}(?=[:.\[])", option, text)
        error.args = (text,)
        raise
