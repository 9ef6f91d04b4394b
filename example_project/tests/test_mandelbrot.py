"""Tests of the C extension: properties of the Mandelbrot set and of the pixels."""

from __future__ import annotations

import cmath
import itertools
import math

import pytest
from mandelbrot_tiles import _mandelbrot, palette
from mandelbrot_tiles.tiles import PALETTE, SIZE, Tile, render_pixels

LIMIT = 1024


def plain_escape_time(c: complex, limit: int) -> float:
    """Return the escape time of a point by the definition."""
    z = 0j
    for n in range(1, limit + 1):
        z = z * z + c
        if abs(z) ** 2 > 65536:
            return n - math.log2(math.log2(abs(z) ** 2) / 16)
    return math.inf


@pytest.mark.parametrize("point", [0, -1, -0.1, 0.25, 1j, -2, -1.75488, -0.1226 + 0.7449j, -1.3107])
def test_points_of_the_set_never_escape(point: complex) -> None:
    """Fixed points, cycles and pre-periodic points."""
    assert _mandelbrot.escape(complex(point).real, complex(point).imag, LIMIT) == math.inf


@pytest.mark.parametrize("point", [0.3, -2.001, 1 + 1j, -0.75 + 0.05j, 0.26, -0.7436 + 0.1324j, 8 - 8j])
def test_escape_time_equals_the_definition(point: complex) -> None:
    """Vectors, blocks and shortcuts do not change the result."""
    time = _mandelbrot.escape(complex(point).real, complex(point).imag, LIMIT)
    assert time == pytest.approx(plain_escape_time(point, LIMIT), rel=1e-6)


def test_square_equals_its_points_computed_one_by_one() -> None:
    """A lane that starts with the next point must reset its state."""
    square = _mandelbrot.render(-0.8, 0.2, 2**-9, 40, LIMIT, b"\xff\xff\xff")
    for row in range(40):
        for column in range(40):
            time = plain_escape_time(complex(-0.8 + (column + 0.5) * 2**-9, 0.2 - (row + 0.5) * 2**-9), LIMIT)
            pixel = square[3 * (40 * row + column) :][:3]
            if pixel in (b"\0\0\0", b"\xff\xff\xff"):
                assert (pixel == b"\0\0\0") == math.isinf(time)


def test_escape_time_is_continuous() -> None:
    times = [_mandelbrot.escape(0.5 + step / 10_000, 0.5, LIMIT) for step in range(10_000)]
    assert max(times) - min(times) > 3
    assert max(abs(one - other) for one, other in itertools.pairwise(times)) < 0.01


def test_only_points_of_the_set_are_black() -> None:
    assert set(render_pixels(Tile(6, 31, 31))) == {0}
    assert b"\0\0\0" not in {PALETTE[index : index + 3] for index in range(0, len(PALETTE), 3)}
    assert min(render_pixels(Tile(6, 0, 0))) > 0


@pytest.mark.parametrize(("z", "x", "y"), [(0, 0, 0), (3, 3, 3), (7, 58, 60), (40, 412316860000, 549755813887)])
def test_lower_half_mirrors_the_upper_half(z: int, x: int, y: int) -> None:
    """To the last bit."""
    upper, lower = render_pixels(Tile(z, x, y)), render_pixels(Tile(z, x, 2**z - 1 - y))
    rows = [lower[start : start + 3 * SIZE] for start in range(0, len(lower), 3 * SIZE)]
    assert upper == b"".join(reversed(rows))


@pytest.mark.parametrize(("z", "x", "y"), [(4, 7, 7), (12, 1857, 2014), (40, 498652995092, 540696806774)])
def test_adjacent_tiles_match_at_their_edge(z: int, x: int, y: int) -> None:
    """Two neighbours equal one larger square of both."""
    left, right, corner = Tile(z, x, y), Tile(z, x + 1, y), Tile(z, x, y).corner
    both = _mandelbrot.render(corner.real, corner.imag, left.width / SIZE, 2 * SIZE, left.limit, PALETTE)
    for tile, first in ((left, 0), (right, 3 * SIZE)):
        pixels = render_pixels(tile)
        for row in range(SIZE):
            start = 6 * SIZE * row + first
            assert pixels[3 * SIZE * row : 3 * SIZE * (row + 1)] == both[start : start + 3 * SIZE]


def test_rendering_is_repeatable() -> None:
    """The entity tag requires the same bytes."""
    assert render_pixels(Tile(9, 236, 251)) == render_pixels(Tile(9, 236, 251))


@pytest.mark.parametrize(
    "arguments",
    [
        (0.0, 0.0, 0.1, 0, 10, b"abc"),
        (0.0, 0.0, 0.1, 5000, 10, b"abc"),
        (0.0, 0.0, 0.1, 8, 0, b"abc"),
        (0.0, 0.0, 0.1, 8, 10, b""),
        (0.0, 0.0, 0.1, 8, 10, b"ab"),
        (math.nan, 0.0, 0.1, 8, 10, b"abc"),
        (0.0, math.inf, 0.1, 8, 10, b"abc"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=r"size|palette|finite"):
        _mandelbrot.render(*arguments)
    with pytest.raises(ValueError, match="finite"):
        _mandelbrot.escape(math.nan, 0.0, 10)


def test_palette_is_a_circle_without_jumps() -> None:
    """Neighbouring colours are similar, also the last and the first."""
    colours = [PALETTE[index : index + 3] for index in range(0, len(PALETTE), 3)]
    assert len(colours) == palette.OCTAVES * palette.COLOURS_PER_OCTAVE
    for one, other in zip(colours, colours[1:] + colours[:1], strict=True):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 4


def test_edge_of_the_main_cardioid() -> None:
    """The edge is w/2 - w^2/4 for |w| = 1: points slightly inside do not escape."""
    for turn in range(48):
        w = 0.999 * cmath.exp(2j * math.pi * turn / 48)
        c = w / 2 - w * w / 4
        assert _mandelbrot.escape(c.real, c.imag, LIMIT) == math.inf
    assert _mandelbrot.escape(0.2501, 0.0, LIMIT) < math.inf
