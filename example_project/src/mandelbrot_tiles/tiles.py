"""Tiles: squares of the complex plane, numbered as in web maps and rendered as PNG.

Zoom 0 is one tile with the whole world, [-8, 8] x [-8i, 8i]; each zoom level splits a tile into four. x grows to the
right, y downwards. All corners and pixels are exact in double precision, up to MAX_ZOOM.
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
MAX_ZOOM = 44  # pixels are 2**-48 apart: four bits of double precision remain for rounding

PALETTE = make_palette()
_NUMBER = re.compile(r"[0-9]{1,14}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tile:
    """A square of the map; `parse_tile` checks that it exists."""

    z: int
    x: int
    y: int

    @property
    def width(self) -> float:
        """Return the length of an edge in the complex plane."""
        return WORLD / 2**self.z

    @property
    def corner(self) -> complex:
        """Return the upper left corner."""
        return complex(self.x * self.width - WORLD / 2, WORLD / 2 - self.y * self.width)

    @property
    def limit(self) -> int:
        """Return the maximum number of iterations for a point of this tile; it grows with the zoom."""
        return 512 + 4 * self.z**2


def parse_tile(z: str, x: str, y: str) -> Tile | None:
    """Return the tile with these numbers, or None if there is no such tile."""
    if not all(_NUMBER.fullmatch(text) for text in (z, x, y)):
        return None
    tile = Tile(int(z), int(x), int(y))
    if tile.z > MAX_ZOOM or max(tile.x, tile.y) >= 2**tile.z:
        return None
    return tile


def render_pixels(tile: Tile) -> bytes:
    """Return the tile's pixels in rows from the upper left, three bytes each. Releases the GIL."""
    corner = tile.corner
    return _mandelbrot.render(corner.real, corner.imag, tile.width / SIZE, SIZE, tile.limit, PALETTE)


def render_png(tile: Tile) -> bytes:
    """Return the tile as a PNG file."""
    stream = io.BytesIO()
    Image.frombytes("RGB", (SIZE, SIZE), render_pixels(tile)).save(stream, "PNG")
    return stream.getvalue()


def recipe() -> str:
    """Return a short hash of everything that determines a tile's bytes, except the coordinates."""
    parts = hashlib.sha256(PALETTE)
    parts.update(f"{__version__} Pillow {PIL.__version__}".encode())
    parts.update(Path(_mandelbrot.__file__).read_bytes())
    return parts.hexdigest()[:12]
