"""The receipt of a build that was pushed to two registries."""

from hatch_docker.build.receipt import LayerReceipt, PlatformReceipt, Receipt
from hatch_docker.release.push import PushResult

DIGEST = "sha256:" + "0" * 64
LAYERS = (
    LayerReceipt("sha256:1", "sha256:2", 20_000_000, 50_000_000, "base", (), True),
    LayerReceipt("sha256:3", "sha256:4", 1_000, 2_000, "project", ("app 1.0",), False),
)
ONE, TWO = (
    PushResult(f"{host}.example/app@{DIGEST}", ("1.0", "latest"), sent)
    for host, sent in (("one", 1_234_567), ("two", 0))
)
RECEIPT = Receipt(
    schema=1, name="app", version="1.0", digest=DIGEST, references=(ONE.reference, TWO.reference),
    archive="app-1.0.oci.tar", image="app", tags=("1.0", "latest"), repositories=("one.example/app", "two.example/app"),
    deliveries=(ONE, TWO), revision="", dirty=(),
    platforms=(PlatformReceipt("linux/amd64", DIGEST, 20_001_000, 50_002_000, LAYERS),),
    base={"name": "debian:trixie", "digest": DIGEST}, python="3.13.5", wheel=None, sbom=(), provenance=None, timings={},
)  # fmt: skip
