"""The command `mandelbrot-tiles`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mandelbrot_tiles import __version__

GRACE = 5  # the maximum seconds that open requests get after SIGTERM


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C, or check this installation; return the exit status."""
    parser = argparse.ArgumentParser(prog="mandelbrot-tiles", description="Serve a map of the Mandelbrot set.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--self-check", action="store_true", help="compute and encode one tile, then exit")
    parser.add_argument("--version", action="version", version=__version__)
    options = parser.parse_args(arguments)
    if options.self_check:
        return self_check()
    import uvicorn

    from mandelbrot_tiles.server import create_app

    uvicorn.run(
        create_app(), host=options.host, port=options.port, server_header=False, timeout_graceful_shutdown=GRACE
    )
    return 0


def self_check() -> int:
    """Create the service and a tile, which uses the C extension and all dependencies; return the exit status."""
    from mandelbrot_tiles.server import create_app
    from mandelbrot_tiles.tiles import Tile, render_png

    create_app()
    png = render_png(Tile(3, 3, 3))
    if not png.startswith(b"\x89PNG\r\n"):
        print("tile 3/3/3 is not a PNG file")
        return 1
    print(f"tile 3/3/3: {len(png)} bytes of PNG")
    return 0
