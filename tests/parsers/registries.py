"""Parsers of references, of responses of registries, and of Docker's configuration."""

import io
import json
from pathlib import Path

from hatch_docker.core.http import urls
from hatch_docker.core.http.responses import Response, explain
from hatch_docker.core.http.retry import retry_after
from hatch_docker.oci.auth import check_realm, credential_for, parse_challenges
from hatch_docker.oci.find_daemon import find_daemons
from hatch_docker.oci.layout import read_item
from hatch_docker.oci.make_image import Settings, build_image
from hatch_docker.oci.manifest import assemble, choose, media_type_of, parse_index
from hatch_docker.oci.model import Platform, digest_of
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.referrers import _items, _next
from tests.fakes.damaged_documents import damaged_text, tuple_of
from tests.fakes.images import AMD64, small_image, small_index
from tests.parsers.parser import of_bytes, of_json, of_text, parses, written


@parses(of_text(f"registry.example:5000/team/app:1.0@sha256:{'a' * 64}", "python", "[::1]:5/a__b/c-d.e:t"))
def reference(text: str, _directory: Path) -> None:
    found = parse_reference(text)
    assert parse_reference(str(found)) == found


@parses(of_text(
    'Bearer realm="https://r.example/token",service="r",scope="repository:a/b:pull,push",error="x"',
    'Basic realm="here", Bearer realm=x,service=\\"q\\"', 'Negotiate, NTLM abc==, Digest a="b\\"c",d=e',
))  # fmt: skip
def www_authenticate(text: str, _directory: Path) -> None:
    for _scheme, parameters in parse_challenges(text):
        check_realm("https://r.example/v2/", parameters.get("realm", ""))


@parses(of_text('</v2/a/referrers/x?last=1&n=5>; rel="next"', '<https://x.example/>; rel=next, <a>; rel="prev"'))
def link(text: str, _directory: Path) -> None:
    urls.follow("https://r.example/v2/a/referrers/x", _next(text))


@parses(of_text("https://u:p@r.example:1/a?b#c", "//10.0.0.1/x", "http://[::1]:80/", "http://0x7f.1/", "/v2/"))
def location(text: str, _directory: Path) -> None:
    urls.redact_url(text)
    urls.origin(urls.follow("http://127.0.0.1:5/v2/", text))
    urls.with_credentials(text, {})


DATES = ("120", "Fri, 31 Dec 1999 23:59:59 GMT", "31 Dec 1999 23:59:59 -9999", "Fri, 31 Dec 9999 23:59:59 +0000")


@parses((tuple_of(damaged_text(DATES), damaged_text(DATES)), DATES[:2]))
def retry_after_header(texts: tuple[str, str], _directory: Path) -> None:
    retry_after({"retry-after": texts[0], "date": texts[1]})


@parses(of_bytes(b'{"errors": [{"code": "DENIED", "message": "no\\u001b[2J"}]}', b"plain text", b'{"errors": [[]]}'))
def registry_error(data: bytes, _directory: Path) -> None:
    assert explain(Response(400, {"content-type": "text/plain"}, data, "")).isprintable()


@parses(of_json({
    "auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}, "r.example/a": {"username": "u", "password": "p"},
              "r.example": {"auth": "dTpw", "identitytoken": "t"}},
    "credHelpers": {"h.example": "no-such-helper"}, "credsStore": "nor-this", "currentContext": "remote",
}))  # fmt: skip
def docker_config(data: bytes, directory: Path) -> None:
    written(directory, "config.json", data)
    environ = {"DOCKER_CONFIG": str(directory), "PATH": "", "DOCKER_HOST": "unix:///nonexistent"}
    for registry in ("r.example", "docker.io"):
        found = credential_for(registry, environ, "a/b")
        if found:
            urls.basic(found.username, found.password)
    find_daemons(environ)


IMAGE, INDEX = small_image(), small_index()


@parses(of_json(IMAGE.manifest_json))
def manifest(data: bytes, _directory: Path) -> None:
    media_type_of(data, "application/vnd.oci.image.manifest.v1+json; charset=utf-8", "it")
    assemble(IMAGE.descriptor, data, IMAGE.config, lambda _layer: io.BytesIO, "it")


@parses(of_json(json.loads(INDEX.index)))
def index(data: bytes, _directory: Path) -> None:
    media_type_of(data, "application/vnd.oci.image.index.v1+json", "it")
    _items(data, "it")
    for platform in ("linux/arm64", "linux/amd64"):
        choose(parse_index(data, "it"), Platform.parse(platform), "it")


@parses(of_json({
    **IMAGE.config_json, "variant": "", "history": [{"created_by": "x"}, {"empty_layer": True}],
    "config": {"Env": ["PATH=/bin"], "Entrypoint": ["a"], "Cmd": [], "Labels": {"a": "b"}, "Volumes": {"/x": {}},
               "ExposedPorts": {"1/tcp": {}}, "User": "1:2", "WorkingDir": "/", "StopSignal": "9",
               "Healthcheck": {"Test": ["x"]}},
}))  # fmt: skip
def image_config(data: bytes, _directory: Path) -> None:
    found = assemble(IMAGE.descriptor, IMAGE.manifest, data, lambda _layer: IMAGE.layers[0].open, "it")
    assert build_image(found, [], Settings(env={"A": "b"}, labels={"c": "d"}, ports=("1/tcp",)), 0, {}).platform


@parses(of_json({"schemaVersion": 2, "manifests": [{**IMAGE.descriptor.to_json(), "annotations": {"a": "b"}}]}))
def layout_index(data: bytes, _directory: Path) -> None:
    blobs = {digest_of(blob): blob for blob in (IMAGE.manifest, IMAGE.config)}
    read_item(data, b'{"imageLayoutVersion": "1.0.0"}', lambda name: io.BytesIO(blobs.get(name, b"")), AMD64, "it")
