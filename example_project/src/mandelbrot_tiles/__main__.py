"""`python -m mandelbrot_tiles`."""

import sys

from mandelbrot_tiles.cli import main

sys.exit(main())
