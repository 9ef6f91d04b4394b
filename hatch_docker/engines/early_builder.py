"""The root of the builder, unpacked beside everything else where a base was never used on this machine.

It takes longest of all that a first build makes. A failure is left to the step that needs the root.
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from dataclasses import replace
from typing import BinaryIO

from hatch_docker.bases.debian.base_cache import recall_base, recall_snapshot
from hatch_docker.bases.inspection import RELEASES, suite_of
from hatch_docker.bases.model import runnable_platform
from hatch_docker.core.beside import in_background
from hatch_docker.core.context import Context
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.model import Platform
from hatch_docker.plan.model import DEBIAN_PYTHONS, DEBIAN_VERSIONS, BasePlan, Plan

VERSION = "etc/debian_version"  # among the first files of a Debian image; os-release comes after /usr/bin
LONGEST = 64  # bytes that are read of it


@contextlib.contextmanager
def early_builder(plan: Plan, platform: Platform, ctx: Context) -> Iterator[Context]:
    """Unpack the root of the builder beside the block if its base is new; yield the context of the block."""
    base, host = plan.base.builder or plan.base, runnable_platform()
    suite = Future[str]()

    def make(ctx: Context) -> None:
        if (found := suite.result()) in DEBIAN_PYTHONS:
            from hatch_docker.bases.debian.base import builder_root

            builder_root(base, platform, plan.build.packages, ctx, suite=found)


    if not plan.build.isolated or host is None or host.architecture != platform.architecture:
        yield ctx
    elif base.kind == "debian" and _is_new(base, platform, plan, ctx):
        suite.set_result(base.location)
        with in_background(ctx, make):
            yield ctx
    elif base.kind != "debian" and plan.base.builder is None:
        with in_background(ctx, make):
            try:
                yield replace(ctx, layer_readers=(*ctx.layer_readers, lambda _ctx, _layer: _SuiteReader(suite)))
            finally:
                _tell(suite, "")  # the base is known
    else:
        yield ctx


def _is_new(base: BasePlan, platform: Platform, plan: Plan, ctx: Context) -> bool:
    """Tell whether this machine knows neither a Debian base nor, by a shared cache, the wheels."""
    if recall_snapshot(ctx.store, base.location, platform.architecture):
        return False
    return not recall_base(base, platform, Compression(plan.compression), ctx) and not ctx.store.load_shared()


def _tell(suite: Future[str], found: str) -> None:
    """Set the suite, unless another layer, perhaps in another thread, did."""
    with contextlib.suppress(InvalidStateError):
        suite.set_result(found)


class _SuiteReader:
    """The reader that tells the suite of a new base as soon as its version of Debian or its os-release is unpacked.

    What comes later may say otherwise: then the root that was made is not used.
    """

    def __init__(self, suite: Future[str]) -> None:
        self._suite = suite

    def read_entry(self, entry: Entry, stream: BinaryIO | None) -> None:
        """Read the suite in an os-release, or the version of a stable Debian: "13.1"."""
        if stream is None or self._suite.done():
            return
        if entry.path == VERSION:
            if found := DEBIAN_VERSIONS.get(stream.read(LONGEST).partition(b".")[0].decode(errors="replace")):
                _tell(self._suite, found)
        elif entry.path in RELEASES:
            _tell(self._suite, suite_of(stream.read().decode(errors="replace")))

    def store_fact(self) -> None:
        """Do nothing: the suite is known already."""
