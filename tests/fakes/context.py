"""Build contexts whose cache is a directory of the test, whose lines are kept and whose retries do not wait."""

from collections.abc import Mapping
from pathlib import Path

from hatch_docker.core.cache.store import open_store
from hatch_docker.core.context import Context
from hatch_docker.core.http.client import Client
from hatch_docker.core.http.retry import Policy
from hatch_docker.core.progress import Progress


def context(cache: Path, lines: list[str] | None = None, /, *, verbosity: int = 1, **environ: str) -> Context:
    """Return a context with a cache and an environment; what the user reads goes to `lines`."""
    progress = Progress((lines if lines is not None else []).append, verbosity)
    client = Client(environ, progress, Policy(sleep=lambda _seconds: None))
    return Context(open_store(cache), progress, lambda: client, environ)


def with_environ(ctx: Context, environ: Mapping[str, str]) -> Context:
    """Return the context with another environment, its cache and its lines."""
    return Context(ctx.store, ctx.progress, lambda: Client(environ, ctx.progress, ctx.client.policy), environ)
