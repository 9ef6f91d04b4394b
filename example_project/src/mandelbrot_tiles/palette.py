"""The colours of the map: stops on a circle, and everything between them."""

from __future__ import annotations

import itertools

COLOURS_PER_OCTAVE = 256  # as in _mandelbrot.c: near the set, times n and 2n are that many colours apart
OCTAVES = 3  # after which the colours begin anew

# (where on the circle, red, green, blue): night, sea, ice, sand, ember, and night again
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
    """`count` colours once around the circle, three bytes each; the last one meets the first."""
    return b"".join(bytes(_colour(index / count)) for index in range(count))


def _colour(position: float) -> list[int]:
    for (start, *one), (end, *other) in itertools.pairwise(STOPS):
        if position <= end:
            part = (position - start) / (end - start)
            eased = part * part * (3 - 2 * part)  # no kink at a stop
            return [round(a + (b - a) * eased) for a, b in zip(one, other, strict=True)]
    raise ValueError(f"{position} is not on the circle from 0 to 1")
