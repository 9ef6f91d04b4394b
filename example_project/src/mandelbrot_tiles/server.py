"""The web service: one page, its tiles, and a health check. Writes nothing, so any user and a read-only root do."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from importlib import resources

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mandelbrot_tiles.tiles import Tile, parse_tile, recipe, render_png

CACHED_TILES = 1024  # some tens of kilobytes each
NOBODY_WAITS = 499  # nginx's status for a client that has gone; nobody reads it

PAGE_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'none'; img-src 'self' blob: data:; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class TileCache:
    """The tiles asked for last. Lives in the event loop, so it needs no lock."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tiles: OrderedDict[Tile, bytes] = OrderedDict()

    def get(self, tile: Tile) -> bytes | None:
        """A tile's PNG, None if it is not here (any more)."""
        png = self._tiles.get(tile)
        if png is not None:
            self._tiles.move_to_end(tile)
        return png

    def put(self, tile: Tile, png: bytes) -> None:
        """Keep a tile; the one that nobody wanted for the longest time makes room."""
        self._tiles[tile] = png
        self._tiles.move_to_end(tile)
        if len(self._tiles) > self._capacity:
            self._tiles.popitem(last=False)


def create_app(capacity: int = CACHED_TILES) -> Starlette:
    """The ASGI application, with a cache and a pool of its own."""
    page = resources.files("mandelbrot_tiles").joinpath("index.html").read_bytes()
    page_tag = _entity_tag(hashlib.sha256(page).hexdigest()[:12])
    tile_recipe = recipe()
    cache = TileCache(capacity)
    # As many tiles at once as there are processors: one more would only make each of them later.
    processors = anyio.CapacityLimiter(os.cpu_count() or 1)

    async def show_page(request: Request) -> Response:
        headers = {**PAGE_HEADERS, "etag": page_tag}
        if _has_it(request, page_tag):
            return Response(status_code=304, headers=headers)
        return Response(page, media_type="text/html", headers=headers)

    async def show_tile(request: Request) -> Response:
        tile = parse_tile(*(request.path_params[name] for name in ("z", "x", "y")))
        if tile is None:
            return PlainTextResponse("There is no such tile.\n", 404)
        # The tag is known before the tile is, so that asking again for a tile never computes it.
        tag = _entity_tag(f"{tile_recipe}-{tile.z}-{tile.x}-{tile.y}")
        headers = {"cache-control": "public, max-age=86400", "etag": tag}
        if _has_it(request, tag):
            return Response(status_code=304, headers=headers)
        png = cache.get(tile)
        if png is None:
            png = await compute(request, tile)
        if png is None:
            return Response(status_code=NOBODY_WAITS)
        return Response(png, media_type="image/png", headers=headers)

    async def compute(request: Request, tile: Tile) -> bytes | None:
        async with processors:
            # While this request queued, its reader may have moved on, or another one been served.
            if await request.is_disconnected():
                return None
            png = cache.get(tile)
            if png is None:
                png = await anyio.to_thread.run_sync(render_png, tile)
                cache.put(tile, png)
            return png

    async def show_health(_request: Request) -> Response:
        return PlainTextResponse("ok\n", headers={"cache-control": "no-store"})

    return Starlette(
        routes=[
            Route("/", show_page),
            Route("/tiles/{z}/{x}/{y}.png", show_tile),
            Route("/healthz", show_health),
        ]
    )


def _entity_tag(text: str) -> str:
    return f'"{text}"'


def _has_it(request: Request, tag: str) -> bool:
    """Whether the client's copy is this one (RFC 9110, section 13.1.2)."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or tag in [part.strip().removeprefix("W/") for part in known.split(",")]
