"""Build contexts for tests: the cache is a directory of the test, output is recorded, and retries do not wait."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hatch_docker.core.cache.shared import CacheData, Fact, SharedCache, SharedStore
from hatch_docker.core.cache.store import open_store
from hatch_docker.core.context import Context
from hatch_docker.core.http.client import Client
from hatch_docker.core.http.retry import Policy
from hatch_docker.core.progress import Progress
from hatch_docker.core.validation import first_mismatch
from hatch_docker.release.cache_artifact import COSTLY, KINDS


def context(cache: Path, lines: list[str] | None = None, /, *, verbosity: int = 1, **environ: str) -> Context:
    """Return a context with a cache directory and an environment. `lines`: gets the output."""
    progress = Progress((lines if lines is not None else []).append, verbosity)
    client = Client(environ, progress, Policy(sleep=lambda _seconds: None))
    return Context(open_store(cache), progress, lambda: client, environ)


def with_environ(ctx: Context, environ: Mapping[str, str]) -> Context:
    """Return the same context with another environment."""
    return Context(ctx.store, ctx.progress, lambda: Client(environ, ctx.progress, ctx.client.policy), environ)


def with_shared_cache(ctx: Context, facts: Sequence[Fact] = ()) -> tuple[Context, SharedCache]:
    """Return a context with a shared cache that has some facts, and the shared cache.

    If there are facts, the build counts as having used the shared cache (`used`).
    """
    shared = SharedCache("a registry", lambda _: CacheData(facts, {}), KINDS, COSTLY, ctx.progress, used=bool(facts))
    shared.load(ctx.store)
    return replace(ctx, store=SharedStore(ctx.store.root, ctx.store.verified, shared=shared)), shared


def facts_of(shared: SharedCache) -> list[Fact]:
    """Return the facts that a build writes to its shared cache, after checking their shapes with KINDS."""
    facts = [(kind, key, json.loads(json.dumps(value))) for (kind, key), value in sorted(shared.written_facts.items())]
    assert [kind for kind, _, value in facts if first_mismatch(KINDS[kind], value) is not None] == []
    return facts
