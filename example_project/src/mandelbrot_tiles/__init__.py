"""A map of the Mandelbrot set, served in tiles."""

__version__ = "1.0.0"
