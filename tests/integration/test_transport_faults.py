"""Faults on the way to a registry and back are retried, or reported; Debian's docker-registry behind a proxy.

What this registry cannot play (Retry-After, hanging, upload sessions of all kinds, TLS) is in test_registry and
test_transport, with the fake one.
"""

import re
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from hatch_docker.core.cache.store import open_store
from hatch_docker.core.errors import TransientError
from hatch_docker.core.http.client import Client
from hatch_docker.core.http.retry import Policy
from hatch_docker.core.progress import Progress
from hatch_docker.oci.model import Image
from hatch_docker.oci.pull import pull
from hatch_docker.oci.registry import Remote
from tests.fakes.images import AMD64, small_image, small_layer
from tests.fakes.network import PASSWORD, Recording, login, name
from tests.fakes.registry import Handler, push
from tests.fakes.registry_proxy import ANSWERS, SINGLE, STEPS, FaultProxy
from tests.integration.docker_registry import Server
from tests.validate import validate

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("check_no_secret_leaks")]


def image(*words: object) -> Image:
    """An image of two layers that no other test has."""
    return small_image(*(small_layer(part, f"{part} {words}".encode() * 300) for part in ("one", "two")))


def journey(proxy: FaultProxy, recorded: Recording, repository: str, directory: Path) -> None:
    """Push an image and pull it into an empty cache: the same digest, every invariant computed anew."""
    made = image(repository)
    push(recorded.remote, made, [name(proxy, repository)])
    back = pull(recorded.remote, name(proxy, repository), AMD64, open_store(directory / "cache"))
    assert back.digest == made.digest
    validate(back)


def blobs(server: Server, repository: str) -> int:
    """Return the number of blobs of a repository, as the registry's own files tell."""
    links = server.data / "docker/registry/v2/repositories" / repository / "_layers/sha256"
    return len(list(links.iterdir()))


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("step", STEPS)
def test_bad_answers_pass(step: str, status: int, times: int, server: Server, tmp_path: Path) -> None:
    """Up to three bad answers on each step are survived, with a line for each retry, in five seconds at most."""
    with FaultProxy(server.host, password=PASSWORD) as proxy:
        recorded = Recording(login(tmp_path, proxy))
        proxy.fault(*STEPS[step], status, times=times)
        journey(proxy, recorded, f"a1/{step.replace(' ', '-').lower()}-{status}-{times}", tmp_path)
        assert len(recorded.lines) == len(recorded.sleeps) == times
        assert all(f"{status} " in line and "again in" in line and "/6)" in line for line in recorded.lines)
        assert sum(recorded.sleeps) <= 5


@pytest.mark.parametrize(("step", "fault"), SINGLE)
def test_broken_connections_pass(step: str, fault: str, server: Server, tmp_path: Path) -> None:
    """A connection that breaks before, in and after an answer is survived, and nothing is there twice."""
    with FaultProxy(server.host) as proxy:
        recorded = Recording()
        proxy.fault(*STEPS[step], fault)
        repository = f"a3/{step.replace(' ', '-').lower()}-{fault}"
        journey(proxy, recorded, repository, tmp_path)
        assert proxy.faults[0].times == 0
        assert len(recorded.lines) == 1
        assert blobs(server, repository) == 3


@pytest.mark.parametrize(("step", "answer"), ANSWERS)
def test_single_bad_answers_pass(step: str, answer: int | str, server: Server, tmp_path: Path) -> None:
    """Sixteen that benchmarks/registry_faults.py shows to other tools as well, wrong bytes among them."""
    with FaultProxy(server.host) as proxy:
        recorded = Recording()
        proxy.fault(*STEPS[step], answer)
        journey(proxy, recorded, f"a16/{step.replace(' ', '-').lower()}-{answer}", tmp_path)
        assert proxy.faults[0].times == 0
        assert len(recorded.lines) == 1


@pytest.mark.parametrize("step", ["HEAD blob", "POST", "PUT blob", "PUT manifest"])
def test_what_stays_broken_is_told_and_nothing_is_tagged(step: str, server: Server) -> None:
    """One line has the step, the registry's status and what is there already; the tag does not exist."""
    with FaultProxy(server.host) as proxy:
        recorded = Recording()
        proxy.fault(*STEPS[step], 500, times=999)
        with pytest.raises(TransientError, match="500 Internal Server Error; gave up after 6 tries") as caught:
            push(recorded.remote, image("a5", step), [name(proxy, "a5/app:1")])
        lines = {"PUT manifest": "put manifest (all blobs are there)"}.get(step, "push blob sha256:")
        assert lines in str(caught.value)
        assert f"{proxy.host}/a5/app" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert sum(recorded.sleeps) <= 45
        assert not [path for path in (server.data / "docker").rglob("tags/*") if "a5" in str(path)]
        assert proxy.count("PUT", "/manifests/") == (6 if step == "PUT manifest" else 0)


@pytest.mark.parametrize("step", ["GET manifest", "GET blob", "token"])
def test_what_stays_broken_on_the_way_back_is_told(step: str, server: Server, tmp_path: Path) -> None:
    """The same of a pull, and the cache has nothing of it."""
    with FaultProxy(server.host, password=PASSWORD) as proxy:
        made = image("a5 back", step)
        push(Recording(login(tmp_path, proxy)).remote, made, [name(proxy, "a5/back:1")])
        recorded = Recording(login(tmp_path, proxy))
        proxy.fault(*STEPS[step], 500, times=999)
        with pytest.raises(TransientError, match="500 Internal Server Error; gave up after 6 tries") as caught:
            pull(recorded.remote, name(proxy, "a5/back:1"), AMD64, open_store(tmp_path / "cache")).layers[0].open()
        lines = {"GET manifest": "get manifest", "GET blob": "get blob sha256:"}.get(step, "ask")
        assert str(caught.value).startswith(f"{proxy.host}/a5/back")
        assert lines in str(caught.value)
        assert sum(recorded.sleeps) <= 45
        kept = [path.name for path in (tmp_path / "cache/v1/blobs").iterdir()]
        assert set(kept) <= {made.digest.removeprefix("sha256:")}


def test_the_network_is_cut_before_a_push(server: Server, tmp_path: Path) -> None:
    """While no server listens a push fails; run again, it sends each blob once."""
    with FaultProxy(server.host) as proxy:
        port = int(proxy.host.rpartition(":")[2])
    recorded, made = Recording(), image("a11", tmp_path)
    names = [name(proxy, "a11/before:1")]
    with pytest.raises(TransientError, match=r"Connection refused.*gave up after 6 tries"):
        push(recorded.remote, made, names)
    with FaultProxy(server.host, port=port) as proxy:
        push(recorded.remote, made, names)
        assert sent(proxy) == 3


def test_the_network_is_cut_in_a_push(server: Server, tmp_path: Path) -> None:
    """Once a blob is there, all connections break; what arrived is not sent again, not even in part."""
    with FaultProxy(server.host) as proxy:
        recorded = Recording()
        made = small_image(*(small_layer(f"{number}", f"{tmp_path} {number}".encode()) for number in range(9)))

        def last(handler: Handler) -> None:
            for method in ("HEAD", "POST", "PUT"):
                proxy.fault(method, "", "reset", times=999)
            handler.route()

        proxy.fault("PUT", "/blobs/", last)
        with pytest.raises(TransientError, match=r"gave up after 6 tries \(\d of 10 blobs are there"):
            push(recorded.remote, made, [name(proxy, "a11/in:1")])
        arrived = blobs(server, "a11/in")
        proxy.faults.clear()
        proxy.requests.clear()
        pushed = push(recorded.remote, made, [name(proxy, "a11/in:1")])
        assert len(pushed.arrived) == sent(proxy) == 10 - arrived
        assert blobs(server, "a11/in") == 10


def sent(proxy: FaultProxy) -> int:
    """Return the number of blobs that were sent; each of them once."""
    paths = [request.path for request in proxy.requests if (request.method, "/blobs/" in request.path) == ("PUT", True)]
    digests = [path.rpartition("digest=")[2] for path in paths]
    assert len(digests) == len(set(digests))
    return len(digests)


def test_twenty_pushes_at_once(server: Server) -> None:
    """20 of 20 are there, though this registry answers 500 now and then when several bring it the same blob."""
    with FaultProxy(server.host) as proxy:
        allowed = re.compile(r"(500 Internal Server Error|400 Bad Request \(DIGEST_INVALID .*\)); again in")
        assert all(allowed.search(line) for line in twenty(proxy, Policy()))
        assert blobs(server, "a10") == 41
        assert len(pulled(proxy)) == 20


def test_twenty_pushes_at_once_to_a_registry_with_a_limit(server: Server) -> None:
    """It takes ten manifests a second and answers 429 without a hint to more, as ECR does: 20 of 20."""
    tenth = 0.1  # all waits are a tenth of what they are
    with FaultProxy(server.host) as proxy:
        taken: list[float] = []

        def limited(handler: Handler) -> None:
            with proxy.guard:
                now = time.monotonic()
                taken[:] = [then for then in taken if now - then < tenth]
                allowed = len(taken) < 10
                taken.extend([now] * allowed)
            handler.route() if allowed else handler.error(429, "TOOMANYREQUESTS", "Rate exceeded")

        proxy.fault("PUT", "/manifests/", limited, times=9999)
        lines = twenty(proxy, Policy(sleep=lambda seconds: time.sleep(seconds * tenth)))
        assert lines
        assert all("429 Too Many Requests (TOOMANYREQUESTS Rate exceeded); again in" in line for line in lines)
        assert len(pulled(proxy)) == 20


def twenty(proxy: FaultProxy, policy: Policy) -> list[str]:
    """Twenty pushes that begin at once; what they told."""
    start, lines = Barrier(20), list[str]()
    shared = small_layer("shared", b"shared by all" * 5000)

    def one(number: int) -> None:
        remote = Remote(Client({}, Progress(lines.append, 2), policy), {})
        made = small_image(shared, small_layer("own", f"{number} {proxy.host}".encode()))
        start.wait()
        push(remote, made, [name(proxy, f"a10:{number}")])

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(20)))
    return lines


def pulled(proxy: FaultProxy) -> set[str]:
    """The digests under the twenty tags."""
    with tempfile.TemporaryDirectory() as directory:
        store = open_store(Path(directory))
        return {pull(Recording().remote, name(proxy, f"a10:{number}"), AMD64, store).digest for number in range(20)}
