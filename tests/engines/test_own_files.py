"""The layer of the option `ca-certificates`, and errors for wrong files."""

from pathlib import Path

import pytest
import trustme

from hatch_docker.bases.open import open_base
from hatch_docker.core.errors import ConfigError
from hatch_docker.engines.own_files import _read_certificates, certificates_layer
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.layer import Entry, layer_entries
from hatch_docker.oci.layout import write_layout
from hatch_docker.plan.model import CA_BUNDLE, BasePlan
from tests.fakes.bases import debian_layer, directory, file, link, python_layer
from tests.fakes.context import context
from tests.fakes.images import AMD64, image_of, layer_of
from tests.fakes.plans import plan

PEM = trustme.CA().cert_pem.bytes().decode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("junk", "has no certificate in PEM; name a text file"), ("0\x82", "in PEM; convert it: openssl"),
        ("-----BEGIN PRIVATE KEY-----\n", "has a private key"),
        (PEM.replace("MII", "MIJ", 1), "has a certificate that is not valid"),
        (None, "cannot read company.crt: No such"),
    ],
)  # fmt: skip
def test_file_without_certificates_is_rejected(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "company.crt").write_text(text)
    with pytest.raises(ConfigError, match=message):
        _read_certificates(tmp_path, "company.crt")


def test_symlink_out_of_the_project_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "company.crt").symlink_to("/etc/hostname")
    with pytest.raises(ConfigError, match="leads out of the project"):
        _read_certificates(tmp_path, "company.crt")


RED_HAT = "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"


@pytest.mark.parametrize(
    ("files", "paths"),
    [
        ([file(CA_BUNDLE[1:], "PUBLIC")], [CA_BUNDLE[1:]]),
        ([file(RED_HAT, "PUBLIC\n"), directory("etc/ssl"), link("etc/ssl/certs", "../pki/certs")],
         ["etc/pki/certs/ca-certificates.crt", RED_HAT]),
        ([], []),
    ],
)  # fmt: skip
def test_certificates_are_added_to_bundles_of_the_base(files: list[Entry], paths: list[str], tmp_path: Path) -> None:
    """The file in SSL_CERT_FILE is written too, also if its directory is a symlink."""
    (tmp_path / "company.crt").write_text(PEM)
    layers = debian_layer("amd64"), python_layer(), *([layer_of(files)] if files else [])
    write_layout(image_of(*layers), tmp_path / "base")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linked").symlink_to("elsewhere")  # for instance, a home directory on another disk
    ctx = context(tmp_path / "linked/cache")
    base = open_base(BasePlan("oci", "oci:base", str(tmp_path / "base")), AMD64, ctx, compression=Compression())
    with_certificates = plan({"ca-certificates": ["company.crt"]})
    env = with_certificates.config.env
    assert {env[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")} == {CA_BUNDLE}
    if not files:
        with pytest.raises(ConfigError, match="has no public certificates in"):
            certificates_layer(with_certificates, tmp_path, base, Compression(), ctx)
        return
    layer, note = certificates_layer(with_certificates, tmp_path, base, Compression(), ctx)
    found = {entry.path: stream.read().decode() for entry, stream in layer_entries(layer) if stream is not None}
    assert found == dict.fromkeys(paths, f"PUBLIC\n{PEM}")
    assert sorted(note.contents) == sorted(f"/{path}" for path in paths)
