"""Compiled code in an image: which shared libraries its files need, and whether the loader finds them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Need:
    """A library that a file needs and the loader does not find. `path` is the file, `owner` its wheel, if it has one.

    `apart` is where the same wheel has it, "" where no wheel does.
    """

    library: str
    path: str
    owner: str
    layer: int
    apart: str = ""
