"""Tiles: squares of the complex plane in the numbering that web maps use, each rendered as a PNG.

Zoom 0 is one tile that shows the whole world, [-8, 8] x [-8i, 8i]; every further zoom cuts each tile in four.
x grows to the right, y downwards. All corners and pixels are exact in double precision, down to MAX_ZOOM.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

import PIL
from PIL import Image

from mandelbrot_tiles import __version__, _mandelbrot
from mandelbrot_tiles.palette import make_palette

WORLD = 16.0  # the width of the world in the complex plane
SIZE = 256  # the width of a tile in pixels
MAX_ZOOM = 44  # pixels are 2**-48 apart, which leaves double precision four bits for rounding

PALETTE = make_palette()
_NUMBER = re.compile(r"[0-9]{1,14}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tile:
    """One square of the map; `parse_tile` makes sure that it exists."""

    z: int
    x: int
    y: int

    @property
    def width(self) -> float:
        """The length of an edge in the complex plane."""
        return WORLD / 2**self.z

    @property
    def corner(self) -> complex:
        """The upper left corner."""
        return complex(self.x * self.width - WORLD / 2, WORLD / 2 - self.y * self.width)

    @property
    def limit(self) -> int:
        """How many iterations a point of this tile may take to escape: more, the closer we look."""
        return 512 + 4 * self.z**2


def parse_tile(z: str, x: str, y: str) -> Tile | None:
    """The tile with these numbers, None if there is no such tile."""
    if not all(_NUMBER.fullmatch(text) for text in (z, x, y)):
        return None
    tile = Tile(int(z), int(x), int(y))
    if tile.z > MAX_ZOOM or max(tile.x, tile.y) >= 2**tile.z:
        return None
    return tile


def render_pixels(tile: Tile) -> bytes:
    """The tile's pixels from the upper left, three bytes each. Releases the GIL."""
    corner = tile.corner
    return _mandelbrot.render(corner.real, corner.imag, tile.width / SIZE, SIZE, tile.limit, PALETTE)


def render_png(tile: Tile) -> bytes:
    """The tile as a PNG file."""
    stream = io.BytesIO()
    Image.frombytes("RGB", (SIZE, SIZE), render_pixels(tile)).save(stream, "PNG")
    return stream.getvalue()


def recipe() -> str:
    """A short name for everything but the coordinates that decides a tile's bytes."""
    parts = hashlib.sha256(PALETTE)
    parts.update(f"{__version__} Pillow {PIL.__version__}".encode())
    parts.update(Path(_mandelbrot.__file__).read_bytes())
    return parts.hexdigest()[:12]
