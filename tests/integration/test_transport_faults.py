"""Faults of connections to a registry are retried or reported; the registry is docker-registry behind a proxy.

tests/oci/test_registry_faults.py has the faults that need a fake registry: Retry-After, hanging, upload sessions.
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


def new_image(*words: object) -> Image:
    """Return an image with two unique layers."""
    return small_image(*(small_layer(part, f"{part} {words}".encode() * 300) for part in ("one", "two")))


def push_and_pull(proxy: FaultProxy, recorded: Recording, repository: str, directory: Path) -> None:
    """Push an image and pull it into an empty cache; check the digest and the structure."""
    image = new_image(repository)
    push(recorded.remote, image, [name(proxy, repository)])
    back = pull(recorded.remote, name(proxy, repository), AMD64, open_store(directory / "cache"))
    assert back.digest == image.digest
    validate(back)


def count_blobs(server: Server, repository: str) -> int:
    """Count the blobs of a repository in the registry's data directory."""
    links = server.data / "docker/registry/v2/repositories" / repository / "_layers/sha256"
    return len(list(links.iterdir()))


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("step", STEPS)
def test_error_responses_are_retried(step: str, status: int, times: int, server: Server, tmp_path: Path) -> None:
    """Up to three errors in each step, with one line for each retry; the waits sum up to at most five seconds."""
    with FaultProxy(server.host, password=PASSWORD) as proxy:
        recorded = Recording(login(tmp_path, proxy))
        proxy.fault(*STEPS[step], status, times=times)
        push_and_pull(proxy, recorded, f"a1/{step.replace(' ', '-').lower()}-{status}-{times}", tmp_path)
        assert len(recorded.lines) == len(recorded.sleeps) == times
        assert all(f"{status} " in line and "again in" in line and "/6)" in line for line in recorded.lines)
        assert sum(recorded.sleeps) <= 5


@pytest.mark.parametrize(("step", "fault"), SINGLE)
def test_broken_connections_are_retried(step: str, fault: str, server: Server, tmp_path: Path) -> None:
    """The connection breaks before, during or after a response; no blob is stored twice."""
    with FaultProxy(server.host) as proxy:
        recorded = Recording()
        proxy.fault(*STEPS[step], fault)
        repository = f"a3/{step.replace(' ', '-').lower()}-{fault}"
        push_and_pull(proxy, recorded, repository, tmp_path)
        assert proxy.faults[0].times == 0
        assert len(recorded.lines) == 1
        assert count_blobs(server, repository) == 3


@pytest.mark.parametrize(("step", "answer"), ANSWERS)
def test_single_faulty_response_is_retried(step: str, answer: int | str, server: Server, tmp_path: Path) -> None:
    """The sixteen faults with which benchmarks/registry_faults.py tests other tools too, also wrong content."""
    with FaultProxy(server.host) as proxy:
        recorded = Recording()
        proxy.fault(*STEPS[step], answer)
        push_and_pull(proxy, recorded, f"a16/{step.replace(' ', '-').lower()}-{answer}", tmp_path)
        assert proxy.faults[0].times == 0
        assert len(recorded.lines) == 1


@pytest.mark.parametrize("step", ["HEAD blob", "POST", "PUT blob", "PUT manifest"])
def test_permanent_push_failure_leaves_no_tag(step: str, server: Server) -> None:
    """The error line has the step, the registry's status and the number of uploaded blobs."""
    with FaultProxy(server.host) as proxy:
        recorded = Recording()
        proxy.fault(*STEPS[step], 500, times=999)
        with pytest.raises(TransientError, match="500 Internal Server Error; gave up after 6 tries") as caught:
            push(recorded.remote, new_image("a5", step), [name(proxy, "a5/app:1")])
        lines = {"PUT manifest": "put manifest (all blobs are there)"}.get(step, "push blob sha256:")
        assert lines in str(caught.value)
        assert f"{proxy.host}/a5/app" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert sum(recorded.sleeps) <= 45
        assert not [path for path in (server.data / "docker").rglob("tags/*") if "a5" in str(path)]
        assert proxy.count("PUT", "/manifests/") == (6 if step == "PUT manifest" else 0)


@pytest.mark.parametrize("step", ["GET manifest", "GET blob", "token"])
def test_permanent_pull_failure_leaves_no_layer(step: str, server: Server, tmp_path: Path) -> None:
    """The cache contains at most the manifest."""
    with FaultProxy(server.host, password=PASSWORD) as proxy:
        image = new_image("a5 back", step)
        push(Recording(login(tmp_path, proxy)).remote, image, [name(proxy, "a5/back:1")])
        recorded = Recording(login(tmp_path, proxy))
        proxy.fault(*STEPS[step], 500, times=999)
        with pytest.raises(TransientError, match="500 Internal Server Error; gave up after 6 tries") as caught:
            pull(recorded.remote, name(proxy, "a5/back:1"), AMD64, open_store(tmp_path / "cache")).layers[0].open()
        lines = {"GET manifest": "get manifest", "GET blob": "get blob sha256:"}.get(step, "ask")
        assert str(caught.value).startswith(f"{proxy.host}/a5/back")
        assert lines in str(caught.value)
        assert sum(recorded.sleeps) <= 45
        kept = [path.name for path in (tmp_path / "cache/v1/blobs").iterdir()]
        assert set(kept) <= {image.digest.removeprefix("sha256:")}


def test_push_after_an_unreachable_registry(server: Server, tmp_path: Path) -> None:
    """A push fails while no server listens; the next push sends each blob once."""
    with FaultProxy(server.host) as proxy:
        port = int(proxy.host.rpartition(":")[2])
    recorded, image = Recording(), new_image("a11", tmp_path)
    names = [name(proxy, "a11/before:1")]
    with pytest.raises(TransientError, match=r"Connection refused.*gave up after 6 tries"):
        push(recorded.remote, image, names)
    with FaultProxy(server.host, port=port) as proxy:
        push(recorded.remote, image, names)
        assert count_sent_blobs(proxy) == 3


def test_push_after_a_lost_network_continues(server: Server, tmp_path: Path) -> None:
    """After the first blob all connections break; the next push does not send uploaded blobs again."""
    with FaultProxy(server.host) as proxy:
        recorded = Recording()
        image = small_image(*(small_layer(f"{number}", f"{tmp_path} {number}".encode()) for number in range(9)))

        def break_connections(handler: Handler) -> None:
            for method in ("HEAD", "POST", "PUT"):
                proxy.fault(method, "", "reset", times=999)
            handler.route()

        proxy.fault("PUT", "/blobs/", break_connections)
        with pytest.raises(TransientError, match=r"gave up after 6 tries \(\d of 10 blobs are there"):
            push(recorded.remote, image, [name(proxy, "a11/in:1")])
        arrived = count_blobs(server, "a11/in")
        proxy.faults.clear()
        proxy.requests.clear()
        pushed = push(recorded.remote, image, [name(proxy, "a11/in:1")])
        assert len(pushed.added) == count_sent_blobs(proxy) == 10 - arrived
        assert count_blobs(server, "a11/in") == 10


def count_sent_blobs(proxy: FaultProxy) -> int:
    """Count the blobs that were sent, after a check that none was sent twice."""
    paths = [request.path for request in proxy.requests if (request.method, "/blobs/" in request.path) == ("PUT", True)]
    digests = [path.rpartition("digest=")[2] for path in paths]
    assert len(digests) == len(set(digests))
    return len(digests)


def test_twenty_parallel_pushes(server: Server) -> None:
    """All succeed, though docker-registry sometimes returns 500 for parallel uploads of the same blob."""
    with FaultProxy(server.host) as proxy:
        allowed = re.compile(r"(500 Internal Server Error|400 Bad Request \(DIGEST_INVALID .*\)); again in")
        assert all(allowed.search(line) for line in push_twenty(proxy, Policy()))
        assert count_blobs(server, "a10") == 41
        assert len(pull_digests(proxy)) == 20


def test_twenty_parallel_pushes_with_a_rate_limit(server: Server) -> None:
    """The registry accepts ten manifests a second, then returns 429 without Retry-After, as ECR does. All succeed."""
    scale = 0.1  # the test runs ten times faster
    with FaultProxy(server.host) as proxy:
        accepted: list[float] = []

        def limit_rate(handler: Handler) -> None:
            with proxy.guard:
                now = time.monotonic()
                accepted[:] = [then for then in accepted if now - then < scale]
                allowed = len(accepted) < 10
                accepted.extend([now] * allowed)
            handler.route() if allowed else handler.error(429, "TOOMANYREQUESTS", "Rate exceeded")

        proxy.fault("PUT", "/manifests/", limit_rate, times=9999)
        lines = push_twenty(proxy, Policy(sleep=lambda seconds: time.sleep(seconds * scale)))
        assert lines
        assert all("429 Too Many Requests (TOOMANYREQUESTS Rate exceeded); again in" in line for line in lines)
        assert len(pull_digests(proxy)) == 20


def push_twenty(proxy: FaultProxy, policy: Policy) -> list[str]:
    """Run twenty pushes in parallel; return their log lines."""
    start, lines = Barrier(20), list[str]()
    shared = small_layer("shared", b"shared by all" * 5000)

    def one(number: int) -> None:
        remote = Remote(Client({}, Progress(lines.append, 2), policy), {})
        image = small_image(shared, small_layer("own", f"{number} {proxy.host}".encode()))
        start.wait()
        push(remote, image, [name(proxy, f"a10:{number}")])

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(20)))
    return lines


def pull_digests(proxy: FaultProxy) -> set[str]:
    """Return the digests of the twenty tags."""
    with tempfile.TemporaryDirectory() as directory:
        store = open_store(Path(directory))
        return {pull(Recording().remote, name(proxy, f"a10:{number}"), AMD64, store).digest for number in range(20)}
