"""Upload sessions that are opened before an image is made, so that a registry refuses a push at once.

The push sends its first blob in such a session: it costs no further request, and its token and connection stay in use.
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
from hatch_docker.core.process import end_running
from hatch_docker.core.progress import UnwantedError
from hatch_docker.oci.reference import Reference, parse_reference
from hatch_docker.oci.registry import Remote, push_scope, session_url

ACCEPTED = "accepted"  # when a repository accepted a push, in seconds since the epoch
YOUNG = 3600           # seconds; logins of some registries end after hours
TRIES = 6              # connections that are refused, one after the other, as a push takes it


def open_sessions(repositories: Sequence[str], ctx: Context) -> Remote:
    """Open a session in each repository that accepted no push in the last hour, all at once; return what holds them.

    Raises RegistryError, with a line for each repository that refuses. A server that does not answer is left to
    `ended_if_refused` and to the push, which try for longer.
    """
    remote = Remote(ctx.client, ctx.environ)
    names = [name for name in map(parse_reference, repositories) if not _accepted(name, ctx)]
    if names and not is_offline(ctx.environ):
        problems = list(filter(None, at_once(*(partial(_try, remote, name) for name in names))))
        if problems:
            raise RegistryError("\n".join(map(str, problems)))
    return remote


def _accepted(name: Reference, ctx: Context) -> bool:
    return 0 <= time.time() - (ctx.store.recall(ACCEPTED, key_of(name.name)) or 0) < YOUNG


def note_accepted(name: Reference, ctx: Context) -> None:
    """Remember that a repository has just accepted a push."""
    ctx.store.remember(ACCEPTED, key_of(name.name), time.time())


def _try(remote: Remote, name: Reference) -> RegistryError | None:
    """Open a session, and return the error of a repository that refuses, else None."""
    try:
        remote.sessions[name.name] = open_session(remote, name)
    except TransientError:
        pass
    except RegistryError as error:
        return RegistryError(f"{name.name} does not accept the push: {error}")
    return None


@contextlib.contextmanager
def ended_if_refused(remote: Remote, repositories: Sequence[str], ctx: Context) -> Iterator[Context]:
    """Connect to the registries of a push beside the block that makes the image, and end the block if one refuses.

    Yield the context of the block. No request is made. The block waits for nothing, but at its end for the other tries
    of a connection that was refused. Raises TransientError for a registry at whose address nothing listens; every other
    failure is left to the push.
    """
    trying: list[threading.Thread] = []
    refused: list[str] = []
    ended, over = threading.Event(), threading.Event()

    def ask(name: Reference) -> None:
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
            end_running()

    if not is_offline(ctx.environ):
        for name in {name.registry: name for name in map(parse_reference, repositories)}.values():
            if name.name not in remote.sessions:
                threading.Thread(target=ask, args=(name,), daemon=True).start()
    try:
        yield replace(ctx, progress=replace(ctx.progress, ended=ended))
        for thread in trying:
            thread.join()
        if refused:
            raise UnwantedError
    except (HatchDockerError, UnwantedError):
        if refused:
            raise TransientError(
                f"{refused[0]} does not accept the push: nothing listens there (the connection was refused {TRIES} "
                "times); start the registry, or correct its name"
            ) from None
        raise
    finally:
        over.set()


def _refuses(url: str) -> bool:
    """Return whether the host of a URL refuses a connection; raises OSError for another failure."""
    try:
        socket.create_connection(urls.origin(url)[1:], CONNECT).close()
    except ConnectionRefusedError:
        return True
    return False


def open_session(remote: Remote, name: Reference) -> str:
    """Return the URL of a new upload session, in one attempt; raise RegistryError if the repository refuses."""
    return session_url(name, remote.send(name, "POST", remote.url(name, "blobs/uploads/"), (push_scope(name),)))


def close_sessions(remote: Remote) -> None:
    """Cancel the sessions in which nothing was sent."""
    while remote.sessions:
        text, url = remote.sessions.popitem()
        name = parse_reference(text)
        with contextlib.suppress(RegistryError):
            remote.send(name, "DELETE", url, (push_scope(name),))
