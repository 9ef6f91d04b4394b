"""Layers of files that hatch-docker writes itself: the trusted CA certificates, and the launcher."""

import re
import ssl
import time
from hashlib import sha256
from pathlib import Path

from hatch_docker.bases.image import base_tree
from hatch_docker.bases.model import Base, real_path
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError
from hatch_docker.engines import launch
from hatch_docker.engines.layer_cache import files_layer_key, layer_by_key
from hatch_docker.engines.model import LayerInfo
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.model import Layer
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.oci.tar import parent_entries
from hatch_docker.plan.model import CA_BUNDLE, Plan

OPTION = "tool.hatch-docker.ca-certificates"
# The files with the public CA certificates: in Debian and Alpine, in Red Hat, in SUSE.
BUNDLES = (CA_BUNDLE[1:], "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "var/lib/ca-certificates/ca-bundle.pem")
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def certificates_layer(
    plan: Plan, root: Path, base: Base, compression: Compression, ctx: Context
) -> tuple[Layer, LayerInfo]:
    """Return the layer of the base's CA certificates, with the certificates of `ca-certificates` appended.

    Raises ConfigError for a file without certificates, and BaseImageError or ConfigError for a base without any.
    """
    found = [(path, text) for path in plan.ca_certificates for text in _read_certificates(root, path)]
    for path, text in found:
        if end := _expiry(text):
            ctx.progress.warn(f"{OPTION}: {path} has a certificate that expired on {end}; replace it with the new one")
    own = "".join(f"{text}\n" for _, text in found)
    key = key_of("certificates", 1, [layer.diff_id for layer in base.image.layers])
    public: dict[str, str] = ctx.store.recall_or_make("base", key, lambda: _read_bundles(base, ctx))
    if not public:
        places = " or ".join(f"/{path}" for path in BUNDLES)
        raise ConfigError(
            f"{OPTION}: base {base.name} has no public certificates in {places} to add these to; choose a base that "
            "has them"
        )
    contents = {path: text.rstrip("\n") + "\n" + own for path, text in public.items()}
    directory, _, name = CA_BUNDLE[1:].rpartition("/")  # SSL_CERT_FILE and REQUESTS_CA_BUNDLE contain this path
    contents.setdefault(f"{real_path(base.symlinks, directory)}/{name}", next(iter(contents.values())))
    return _layer({path: text.encode() for path, text in contents.items()}, base, compression, ctx)


def launcher_layer(base: Base, compression: Compression, ctx: Context) -> tuple[Layer, LayerInfo]:
    """Return the layer of `launch`, the program that replaces variables in the command."""
    return _layer({launch.PATH[1:]: Path(launch.__file__).read_bytes()}, base, compression, ctx)


def _layer(contents: dict[str, bytes], base: Base, compression: Compression, ctx: Context) -> tuple[Layer, LayerInfo]:
    files = [Entry(path, "file", 0o644, SOURCE_DATE, size=len(data), content=data) for path, data in contents.items()]
    parents = parent_entries(list(contents), base.directories)
    entries = sorted([*files, *parents], key=lambda entry: entry.path)
    digests = {path: f"sha256:{sha256(data).hexdigest()}" for path, data in contents.items()}
    layer, cached = layer_by_key(files_layer_key(entries, digests), compression, ctx, lambda: entries)
    return layer, LayerInfo("files", tuple(f"/{path}" for path in contents), cached)


def _read_bundles(base: Base, ctx: Context) -> dict[str, str]:
    """Return the CA bundles of a base: path to text. A bundle that is a symlink is not included."""
    tree = base_tree(base, ctx).resolve()  # the cache's path may contain a symlink
    places = [tree / path for path in BUNDLES]
    found = [path for path in places if path.is_file() and path.resolve() == path]
    return {str(path.relative_to(tree)): path.read_text("utf-8", "replace") for path in found}


def _expiry(certificate: str) -> str:
    """Return the date when a CA certificate expired, "" if it is still valid."""
    store = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    store.load_verify_locations(cadata=certificate)
    ends = [str(known["notAfter"]) for known in store.get_ca_certs()]  # at most one
    return next((end for end in ends if ssl.cert_time_to_seconds(end) < time.time()), "")


def _read_certificates(root: Path, name: str) -> list[str]:
    """Return the PEM certificates in a file of the project; raises ConfigError."""
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ConfigError(f"{OPTION}: {name} is a link that leads out of the project")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{OPTION}: cannot read {name}: {error.strerror}") from error
    text = data.decode("latin-1")
    if "PRIVATE KEY-----" in text:
        raise ConfigError(
            f"{OPTION}: {name} has a private key, which must not be in an image; keep only the certificates"
        )
    found = _CERTIFICATE.findall(text)
    try:
        for certificate in found:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{OPTION}: {name} has a certificate that is not valid: {error}") from error
    if not found:
        raise ConfigError(
            f"{OPTION}: {name} has no certificate in PEM; "
            + (f"convert it: openssl x509 -inform der -in {name} -out NAME.pem" if data[:1] == b"\x30" else
               "name a text file with lines -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----")
        )  # fmt: skip
    return found
