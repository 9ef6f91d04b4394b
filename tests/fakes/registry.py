"""A fake registry in this process (distribution-spec 1.1 on loopback), which can inject faults.

    with FakeRegistry() as registry:
        registry.fault("PUT", "/blobs/uploads/", 503, times=2)
        registry.fault("GET", "/blobs/", "cut")
        ...
        assert registry.count("PUT", "/blobs/uploads/") == 3

The action of a fault is a status, a function of the handler that sends the response, or one of: `reset` (RST before
the response), `close` (FIN before the response), `midway` (FIN after half of the request's body), `cut` (half of the
response's body), `lost` (the request is processed, but no response is sent), `hang`, `drip` (the body is sent slowly),
`drip-head` (the whole response is sent slowly), `flip` (one wrong bit in the body), `short` and `long` (a body of
another length, with a matching Content-Length), `early` (an error before the request's body was read).
`tests.fakes.registry_proxy` injects the same faults into the connection to a real registry.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import secrets
import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from hatch_docker.oci.model import Image, Index
from hatch_docker.oci.push import FindRepository, Target, UploadResult, push_blobs, put_tags
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry import Remote
from tests.fakes.captured_output import MARK


@dataclass
class Fault:
    """A fault: the requests that it applies to, its action, and the remaining number of times."""

    method: str
    part: str
    action: Any
    times: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Request:
    """An entry of the request log. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class Repository:
    """The contents of a repository. `manifests`: tag or digest -> (media type, bytes)."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)


class FakeRegistry:
    """A registry. With `password` it requires Bearer tokens (or Basic), which expire after `token_lifetime` seconds."""

    handler: type[Handler]

    def __init__(
        self, *, address: str = "127.0.0.1", port: int = 0, password: str = "", scheme: str = "bearer",
        token_lifetime: float = 60, anonymous_pull: bool = False, referrers: bool = False,
        upload_headers: Mapping[str, str] = {},
    ) -> None:
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.tokens: dict[str, tuple[float, str]] = {}
        self.password, self.scheme, self.token_lifetime = password, scheme, token_lifetime
        self.anonymous_pull, self.referrers, self.upload_headers = anonymous_pull, referrers, upload_headers
        self.page = 100  # referrers in one response
        self.conditions = False  # support of ETag and If-Match for manifests
        self.slowness = 0.0  # seconds before a manifest is stored
        self.redirect_blobs = ""  # an origin to which requests for blobs are redirected
        self.upload_origin = ""  # "relative", or the origin of upload locations
        self.realm = ""  # the realm of tokens, if it is another server
        self.guard = threading.Lock()
        self.released = threading.Event()
        self.server = _Server((address, port), self.handler)
        self.server.registry = self
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def host(self) -> str:
        """The registry's name in a reference."""
        return f"{self.server.server_address[0]}:{self.server.server_address[1]}"

    @property
    def origin(self) -> str:
        """The registry's URL."""
        return f"http://{self.host}"

    def repository(self, name: str) -> Repository:
        """Return a repository, after making it if necessary."""
        return self.repositories.setdefault(name, Repository())

    def fault(self, method: str, part: str, action: Any, *, times: int = 1, headers: Mapping[str, str] = {}) -> None:
        """Inject a fault into the next `times` requests with a method ("PATCH|PUT" for two) and a part of the path."""
        self.faults.append(Fault(method, part, action, times, headers))

    def take_fault(self, method: str, path: str) -> Fault | None:
        """Return the fault for a request, or None."""
        with self.guard:
            for fault in self.faults:
                if fault.times > 0 and method in fault.method.split("|") and fault.part in path:
                    fault.times -= 1
                    return fault
        return None

    def count(self, method: str, part: str) -> int:
        """Return the number of requests with a method and a part of the path."""
        return sum(request.method == method and part in request.path for request in self.requests)

    def put_blob(self, repository: str, data: bytes) -> str:
        """Add a blob, and return its digest."""
        digest = digest_of(data)
        self.repository(repository).blobs[digest] = data
        return digest

    def put_manifest(self, repository: str, tag: str, media_type: str, data: bytes) -> str:
        """Add a manifest under its digest and a tag ("" for none), and return its digest."""
        digest = digest_of(data)
        manifests = self.repository(repository).manifests
        manifests[digest] = (media_type, data)
        if tag:
            manifests[tag] = manifests[digest]
        return digest


class _Drips(io.RawIOBase):
    """Stream that writes slowly, byte by byte, until `released` is set."""

    def __init__(self, stream: Any, released: threading.Event) -> None:
        self.stream, self.released = stream, released

    def write(self, data: Any) -> int:
        for byte in data:
            if self.released.wait(0.1):
                break
            self.stream.write(bytes([byte]))
        return len(data)


def digest_of(data: bytes) -> str:
    """Return the digest of some bytes, independently of hatch_docker.oci."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    registry: FakeRegistry

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors, because clients close connections in these tests."""


class Handler(BaseHTTPRequestHandler):
    """Handler of one connection."""

    protocol_version = "HTTP/1.1"
    server: _Server
    mode: str | Fault = ""

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""

    def setup(self) -> None:
        super().setup()
        self.registry = self.server.registry

    def handle_one_request(self) -> None:
        self.mode = ""
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def serve(self) -> None:
        """Log the request, then apply a fault or send the response."""
        registry = self.registry
        headers = {name.lower(): value for name, value in self.headers.items()}
        registry.requests.append(Request(self.command, self.path, headers))
        fault = registry.take_fault(self.command, self.path)
        action = fault.action if fault else ""
        if fault and action == "early":
            self.rfile.read1(1000)
            self.error(413, "TOO_LARGE", "blobs of this size are not welcome here")
            self.close_connection = True
            return
        if action == "midway":
            self.read_half(headers)
            self.close_connection = True
            return
        self.body = self.read_body(headers)
        if fault and isinstance(action, int):
            self.reply(action, b"", dict(fault.headers))
        elif action in ("reset", "close"):
            self.disconnect(reset=action == "reset")
        elif action == "hang":
            registry.released.wait(60)
            self.close_connection = True
        elif callable(action):
            action(self)
        else:
            self.mode = action
            self.route()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = serve  # noqa: N815

    def read_body(self, headers: Mapping[str, str]) -> bytes:
        """Return the request's body, of a known length or in chunks (RFC 9112 §7.1)."""
        if headers.get("transfer-encoding", "") != "chunked":
            return self.rfile.read(int(headers.get("content-length", 0)))
        found = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def read_half(self, headers: Mapping[str, str]) -> bytes:
        """Read and return half of the request's raw body, or half of its first chunk."""
        if headers.get("transfer-encoding", "") != "chunked":
            return self.rfile.read(int(headers.get("content-length", 0)) // 2)
        head = self.rfile.readline()
        return head + self.rfile.read(int(head.partition(b";")[0], 16) // 2)

    def disconnect(self, *, reset: bool) -> None:
        """Close the connection, with RST if `reset`."""
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        self.close_connection = True

    def reply(self, status: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
        """Send the response, as changed by the fault in `mode`."""
        mode = self.mode
        if mode == "lost":
            self.close_connection = True
            return
        if mode == "flip":
            body = body[:-1] + bytes([body[-1] ^ 1])
        body = {"short": body[:-1], "long": body + b"x"}.get(str(mode), body)
        if mode == "drip-head":
            self.wfile = _Drips(self.wfile, self.registry.released)
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if mode == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif mode == "drip":
            _Drips(self.wfile, self.registry.released).write(body)
        else:
            self.wfile.write(body)

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] = {}) -> None:
        """Send a response with an error document."""
        document = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.reply(status, document, {"content-type": "application/json", **headers})

    def route(self) -> None:
        """Call the end-point of the distribution-spec."""
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/token":
            self.token(query)
            return
        if parts.path == "/v2/":
            self.reply(200, b"{}")
            return
        match = re.fullmatch(r"/v2/(.+?)/(blobs/uploads|blobs|manifests|referrers)/(.*)", parts.path)
        if not match:
            self.error(404, "NAME_UNKNOWN", "no such end-point")
            return
        name, kind, rest = match.groups()
        if not self.allowed(name):
            return
        answer = {"blobs/uploads": self.upload, "blobs": self.blob, "manifests": self.manifest}
        if kind == "referrers":
            self.list_referrers(name, rest)
        else:
            answer[kind](name, rest, query)

    def allowed(self, name: str) -> bool:
        """Return whether the request is authorized; if not, send a challenge."""
        registry = self.registry
        reading = self.command in ("GET", "HEAD")
        action = "pull" if reading else "push"
        if not registry.password or (registry.anonymous_pull and reading):
            return True
        scheme, _space, value = self.headers.get("authorization", "").partition(" ")
        if registry.scheme == "basic":
            if scheme == "Basic" and base64.b64decode(value).decode() == f"user:{registry.password}":
                return True
            self.error(401, "UNAUTHORIZED", "who are you", {"www-authenticate": 'Basic realm="here"'})
            return False
        expiry, scope = registry.tokens.get(value, (0.0, ""))
        granted = [part.split(":") for part in scope.split()]
        if time.monotonic() < expiry and any(name == g[1] and action in g[2].split(",") for g in granted):
            return True
        realm = registry.realm or f"{registry.origin}/token"
        challenge = f'Bearer realm="{realm}",service="fake",scope="repository:{name}:pull,push"'
        self.error(401, "UNAUTHORIZED", "authentication required", {"www-authenticate": challenge})
        return False

    def token(self, query: Mapping[str, str]) -> None:
        """Send a token for the requested scopes."""
        registry = self.registry
        scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
        form = parse_qs(self.body.decode())
        authorization = self.headers.get("authorization", "")
        basic = base64.b64encode(f"user:{registry.password}".encode()).decode()
        if self.command == "POST":
            scopes = form["scope"][0].split()
            known = form.get("refresh_token") == [registry.password]
        else:
            known = authorization == f"Basic {basic}"
        if not known and not registry.anonymous_pull:
            self.error(401, "UNAUTHORIZED", "wrong user or password")
            return
        value = f"{MARK}-token-{secrets.token_hex(8)}"
        registry.tokens[value] = (time.monotonic() + registry.token_lifetime, " ".join(scopes))
        name = "access_token" if self.command == "POST" else "token"
        self.reply(200, json.dumps({name: value, "expires_in": registry.token_lifetime}).encode())

    def blob(self, name: str, digest: str, _query: Mapping[str, str]) -> None:
        """Process HEAD and GET of a blob."""
        data = self.registry.repository(name).blobs.get(digest)
        if data is None:
            self.error(404, "BLOB_UNKNOWN", "no such blob")
        elif self.registry.redirect_blobs and self.command == "GET":
            self.reply(307, b"", {"location": f"{self.registry.redirect_blobs}{self.path}?signature={MARK}"})
        else:
            self.reply(200, data, {"docker-content-digest": digest})

    def upload(self, name: str, session: str, query: Mapping[str, str]) -> None:
        """Process mounts and uploads."""
        registry = self.registry
        blobs = registry.repository(name).blobs
        if self.command == "POST":
            source = registry.repository(query.get("from", "")).blobs
            if query.get("mount") in source:
                blobs[query["mount"]] = source[query["mount"]]
                self.reply(201, b"", {"location": f"/v2/{name}/blobs/{query['mount']}"})
                return
            session = secrets.token_hex(8)
            registry.uploads[session] = b""
            path = f"/v2/{name}/blobs/uploads/{session}?_state={MARK}"
            origin = {"": registry.origin, "relative": ""}.get(registry.upload_origin, registry.upload_origin)
            self.reply(202, b"", {"location": origin + path, **registry.upload_headers})
            return
        if session not in registry.uploads:
            self.error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload session")
            return
        if self.command == "DELETE":
            del registry.uploads[session]
            self.reply(204, b"")
            return
        registry.uploads[session] += self.body
        if self.command == "PATCH":
            self.reply(202, b"", {"location": self.path})
            return
        data = registry.uploads[session]
        digest = digest_of(data)
        if digest != query.get("digest"):
            self.error(400, "DIGEST_INVALID", "the digest is not that of the content")
            return
        del registry.uploads[session]
        blobs[digest] = data
        self.reply(201, b"", {"docker-content-digest": digest})

    def manifest(self, name: str, tag: str, _query: Mapping[str, str]) -> None:
        """Process HEAD, GET and PUT of a manifest."""
        repository = self.registry.repository(name)
        if self.command == "PUT":
            value = json.loads(self.body)
            wanted = [item["digest"] for item in [value.get("config"), *value.get("layers", [])] if item]
            missing = [digest for digest in wanted if digest not in repository.blobs]
            missing += [m["digest"] for m in value.get("manifests", []) if m["digest"] not in repository.manifests]
            if missing:
                self.error(400, "MANIFEST_BLOB_UNKNOWN", f"{missing[0]} is missing")
                return
            time.sleep(self.registry.slowness)
            media_type = self.headers["content-type"]
            by_digest = tag if tag.startswith("sha256:") else ""
            with self.registry.guard:
                known = f'"{digest_of(repository.manifests[tag][1])}"' if tag in repository.manifests else ""
                stale = self.registry.conditions and self.headers.get("if-match", known) != known
                digest = "" if stale else self.registry.put_manifest(
                    name, "" if by_digest else tag, media_type, self.body
                )
            if stale:
                self.error(412, "UNKNOWN", "somebody was faster")
                return
            if by_digest not in ("", digest):
                self.error(400, "DIGEST_INVALID", "the digest is not that of the manifest")
                return
            headers = {"docker-content-digest": digest}
            if self.registry.referrers and "subject" in value:
                headers["oci-subject"] = value["subject"]["digest"]
            self.reply(201, b"", headers)
        elif tag in repository.manifests:
            media_type, data = repository.manifests[tag]
            digest = digest_of(data)
            entity = {"etag": f'"{digest}"'} if self.registry.conditions else {}
            self.reply(200, data, {"content-type": media_type, "docker-content-digest": digest, **entity})
        else:
            self.error(404, "MANIFEST_UNKNOWN", "manifest unknown")

    def list_referrers(self, name: str, digest: str) -> None:
        """Process the referrers API, if the registry has it."""
        if not self.registry.referrers:
            self.error(404, "NOT_FOUND", "no referrers here")
            return
        found = []
        for key, (media_type, data) in self.registry.repository(name).manifests.items():
            value = json.loads(data)
            if key.startswith("sha256:") and value.get("subject", {}).get("digest") == digest:
                kind = value.get("artifactType") or value.get("config", {}).get("mediaType", "")
                item = {"mediaType": media_type, "digest": key, "size": len(data), "artifactType": kind}
                found.append({**item, "annotations": value.get("annotations", {})})
        start = int(parse_qs(urlsplit(self.path).query).get("last", ["0"])[0])
        end = start + self.registry.page
        more = {"link": f'</v2/{name}/referrers/{digest}?last={end}>; rel="next"'} if found[end:] else {}
        media_type = "application/vnd.oci.image.index.v1+json"
        index = {"schemaVersion": 2, "mediaType": media_type, "manifests": found[start:end]}
        self.reply(200, json.dumps(index).encode(), {"content-type": media_type, **more})


FakeRegistry.handler = Handler


def push(
    remote: Remote, item: Image | Index, references: Sequence[Reference], *, find: FindRepository = lambda _digest: ""
) -> UploadResult:
    """Push an image or index to the repository of some references: blobs, then manifests, then tags."""
    (name,) = {replace(reference, tag="", digest="") for reference in references}
    target = Target(remote, name, find)
    pushed = push_blobs(target, item, remote.client.progress.task(""))
    tagged = put_tags(target, item, [reference.tag for reference in references if reference.tag])
    return replace(pushed, sent=pushed.sent + tagged)
