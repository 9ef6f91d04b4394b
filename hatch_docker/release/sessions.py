"""Upload sessions that are opened before the image is built, so that a push without permission fails early.

The push later sends its first blob in this session and reuses token and connection, so there is no additional request.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from hatch_docker.core.at_once import at_once
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import HatchDockerError, RegistryError, TransientError
from hatch_docker.core.http import urls
from hatch_docker.core.http.client import is_offline
from hatch_docker.core.http.responses import CONNECT
from hatch_docker.core.http.retry import pause
from hatch_docker.core.process import kill_running
from hatch_docker.core.progress import CancelledWorkError
from hatch_docker.oci.reference import Reference, parse_reference
from hatch_docker.oci.registry import Remote, push_scope, session_url

ACCEPTED = "accepted"  # facts: the time of the last successful push to a repository, in seconds since the epoch
YOUNG = 3600           # seconds after a push in which no session is opened; some logins expire after hours
TRIES = 6              # attempts to connect, as many as a push makes


def open_sessions(repositories: Sequence[str], ctx: Context) -> Remote:
    """Open a session in each repository without a successful push in the last hour. Return the Remote with them.

    Raises RegistryError, with a line for each repository that denies the push. Servers that do not answer are ignored:
    `stop_if_refused` and the push retry longer.
    """
    remote = Remote(ctx.client, ctx.environ)
    names = [name for name in map(parse_reference, repositories) if not _accepted(name, ctx)]
    if names and not is_offline(ctx.environ):
        problems = list(filter(None, at_once(*(partial(_try_session, remote, name) for name in names))))
        if problems:
            raise RegistryError("\n".join(map(str, problems)))
    return remote


def _accepted(name: Reference, ctx: Context) -> bool:
    return 0 <= time.time() - (ctx.store.recall(ACCEPTED, key_of(name.name)) or 0) < YOUNG


def note_accepted(name: Reference, ctx: Context) -> None:
    """Store the time of a successful push to a repository."""
    ctx.store.remember(ACCEPTED, key_of(name.name), time.time())


def _try_session(remote: Remote, name: Reference) -> RegistryError | None:
    """Open a session. Return an error if the repository denies it, else None."""
    try:
        remote.sessions[name.name] = open_session(remote, name)
    except TransientError:
        pass
    except RegistryError as error:
        return RegistryError(f"{name.name} does not accept the push: {error}")
    return None


@contextlib.contextmanager
def stop_if_refused(remote: Remote, repositories: Sequence[str], ctx: Context) -> Iterator[Context]:
    """Connect to the registries in threads while the block builds the image, and stop the block if one refuses.

    Only connections are opened; no request is sent. Yields the context for the block. At the end of the block, wait for
    the remaining attempts if a connection was refused. Raises TransientError if a registry refuses all connections
    (nothing listens at the address). Other failures are left to the push.
    """
    trying: list[threading.Thread] = []
    refused: list[str] = []
    ended, over = threading.Event(), threading.Event()

    def connect(name: Reference) -> None:
        with contextlib.suppress(HatchDockerError, OSError):
            url = remote.url(name, "")
            if urls.proxy_for(url, ctx.environ) or not _refuses(url):
                return
            trying.append(threading.current_thread())
            ctx.progress.info(f"{name.registry}: the connection is refused; trying it {TRIES - 1} times more")
            for number in range(1, TRIES):
                if over.wait(pause(number)) or not _refuses(url):
                    return
            refused.append(name.name)
            ended.set()
            kill_running()

    if not is_offline(ctx.environ):
        for name in {name.registry: name for name in map(parse_reference, repositories)}.values():
            if name.name not in remote.sessions:
                threading.Thread(target=connect, args=(name,), daemon=True).start()
    try:
        yield replace(ctx, progress=replace(ctx.progress, cancelled=ended))
        for thread in trying:
            thread.join()
        if refused:
            raise CancelledWorkError
    except (HatchDockerError, CancelledWorkError):
        if refused:
            raise TransientError(
                f"{refused[0]} does not accept the push: nothing listens there (the connection was refused {TRIES} "
                "times); start the registry, or correct its name"
            ) from None
        raise
    finally:
        over.set()


def _refuses(url: str) -> bool:
    """Return whether the host of a URL refuses connections. Raises OSError for other failures."""
    try:
        socket.create_connection(urls.origin(url)[1:], CONNECT).close()
    except ConnectionRefusedError:
        return True
    return False


def open_session(remote: Remote, name: Reference) -> str:
    """Open an upload session, without retries, and return its URL. Raises RegistryError if the repository denies it."""
    return session_url(name, remote.send(name, "POST", remote.url(name, "blobs/uploads/"), (push_scope(name),)))


def close_sessions(remote: Remote) -> None:
    """Cancel all sessions that the push did not use."""
    while remote.sessions:
        text, url = remote.sessions.popitem()
        name = parse_reference(text)
        with contextlib.suppress(RegistryError):
            remote.send(name, "DELETE", url, (push_scope(name),))
