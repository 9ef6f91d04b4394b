"""The colours of the map: a circular gradient."""

from __future__ import annotations

import itertools

COLOURS_PER_OCTAVE = 256  # as in _mandelbrot.c: the number of colours between escape times n and 2n, near the set
OCTAVES = 3  # the colours repeat after this number of octaves

# (position on the circle, red, green, blue)
STOPS = (
    (0.00, 10, 14, 44),
    (0.18, 20, 72, 138),
    (0.40, 92, 190, 214),
    (0.52, 240, 250, 244),
    (0.66, 255, 190, 84),
    (0.82, 176, 54, 62),
    (1.00, 10, 14, 44),
)


def make_palette(count: int = OCTAVES * COLOURS_PER_OCTAVE) -> bytes:
    """Return `count` colours of the circle, three bytes each; the last colour is next to the first."""
    return b"".join(bytes(_colour(index / count)) for index in range(count))


def _colour(position: float) -> list[int]:
    for (start, *one), (end, *other) in itertools.pairwise(STOPS):
        if position <= end:
            part = (position - start) / (end - start)
            eased = part * part * (3 - 2 * part)  # smooth at the stops
            return [round(a + (b - a) * eased) for a, b in zip(one, other, strict=True)]
    raise ValueError(f"{position} is not on the circle from 0 to 1")
