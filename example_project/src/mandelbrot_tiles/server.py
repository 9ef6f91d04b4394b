"""The web service: a page, its tiles and a health check. It writes no file: any user and a read-only root suffice."""

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

CACHED_TILES = 1024  # tens of kilobytes each
CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that has disconnected

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
    """An LRU cache of tiles. Only the event loop uses it, so it needs no lock."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tiles: OrderedDict[Tile, bytes] = OrderedDict()

    def get(self, tile: Tile) -> bytes | None:
        """Return a tile's PNG, or None if it is not in the cache."""
        png = self._tiles.get(tile)
        if png is not None:
            self._tiles.move_to_end(tile)
        return png

    def put(self, tile: Tile, png: bytes) -> None:
        """Add a tile; if the cache is full, remove the least recently used one."""
        self._tiles[tile] = png
        self._tiles.move_to_end(tile)
        if len(self._tiles) > self._capacity:
            self._tiles.popitem(last=False)


def create_app(capacity: int = CACHED_TILES) -> Starlette:
    """Return the ASGI application, with a new cache and a limit of parallel computations."""
    page = resources.files("mandelbrot_tiles").joinpath("index.html").read_bytes()
    page_tag = _entity_tag(hashlib.sha256(page).hexdigest()[:12])
    tile_recipe = recipe()
    cache = TileCache(capacity)
    # Compute at most one tile per processor at a time: more would only delay each of them.
    processors = anyio.CapacityLimiter(os.cpu_count() or 1)

    async def show_page(request: Request) -> Response:
        headers = {**PAGE_HEADERS, "etag": page_tag}
        if _matches(request, page_tag):
            return Response(status_code=304, headers=headers)
        return Response(page, media_type="text/html", headers=headers)

    async def show_tile(request: Request) -> Response:
        tile = parse_tile(*(request.path_params[name] for name in ("z", "x", "y")))
        if tile is None:
            return PlainTextResponse("There is no such tile.\n", 404)
        # The tag does not depend on the pixels, so that a conditional request never computes the tile.
        tag = _entity_tag(f"{tile_recipe}-{tile.z}-{tile.x}-{tile.y}")
        headers = {"cache-control": "public, max-age=86400", "etag": tag}
        if _matches(request, tag):
            return Response(status_code=304, headers=headers)
        png = cache.get(tile)
        if png is None:
            png = await compute(request, tile)
        if png is None:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        return Response(png, media_type="image/png", headers=headers)

    async def compute(request: Request, tile: Tile) -> bytes | None:
        async with processors:
            # While this request waited, its client may have disconnected, or another request computed the tile.
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


def _matches(request: Request, tag: str) -> bool:
    """Return whether `If-None-Match` has the tag (RFC 9110, section 13.1.2)."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or tag in [part.strip().removeprefix("W/") for part in known.split(",")]
