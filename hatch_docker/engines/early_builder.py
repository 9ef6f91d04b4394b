"""Early start of the builder root: it is unpacked in parallel to other work if the base is new on this machine.

Unpacking it is the longest part of a first build. A failure is ignored here: the step that needs the root reports it.
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

VERSION = "etc/debian_version"  # one of the first files of a Debian image; os-release comes after /usr/bin
LONGEST = 64  # bytes to read of it


@contextlib.contextmanager
def early_builder(plan: Plan, platform: Platform, ctx: Context) -> Iterator[Context]:
    """Unpack the builder root in parallel to the `with` block if the base is new; yield the context for the block."""
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
                _set_suite(suite, "")  # the base was in the cache, or is not Debian
    else:
        yield ctx


def _is_new(base: BasePlan, platform: Platform, plan: Plan, ctx: Context) -> bool:
    """Return whether a Debian base is not cached on this machine and there is no shared cache with the wheels."""
    if recall_snapshot(ctx.store, base.location, platform.architecture):
        return False
    return not recall_base(base, platform, Compression(plan.compression), ctx) and not ctx.store.load_shared()


def _set_suite(suite: Future[str], found: str) -> None:
    """Set the suite, unless it is set already (layers are read in several threads)."""
    with contextlib.suppress(InvalidStateError):
        suite.set_result(found)


class _SuiteReader:
    """Layer reader that sets the suite of a new base as soon as debian_version or os-release is unpacked.

    A later layer may contain another version: then the early root is not used.
    """

    def __init__(self, suite: Future[str]) -> None:
        self._suite = suite

    def read_entry(self, entry: Entry, stream: BinaryIO | None) -> None:
        """Read the suite from os-release, or from the version of a stable Debian: "13.1"."""
        if stream is None or self._suite.done():
            return
        if entry.path == VERSION:
            if found := DEBIAN_VERSIONS.get(stream.read(LONGEST).partition(b".")[0].decode(errors="replace")):
                _set_suite(self._suite, found)
        elif entry.path in RELEASES:
            _set_suite(self._suite, suite_of(stream.read().decode(errors="replace")))

    def store_fact(self) -> None:
        """Do nothing: `read_entry` has set the suite."""
