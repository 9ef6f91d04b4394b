"""An image that was built before: out of an archive, a layout, a registry or a daemon."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.build.receipt import Receipt, receipt_beside
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, ImageError
from hatch_docker.core.files import ARCHIVE, temporary_directory
from hatch_docker.engines.model import WheelInfo
from hatch_docker.oci.model import Image, Index, images_of
from hatch_docker.oci.reference import parse_reference
from hatch_docker.plan.model import Plan
from hatch_docker.plan.naming import PREFIX
from hatch_docker.project.git import DIRTY

if TYPE_CHECKING:
    from hatch_docker.engines.model import Excluded

ENDINGS = (".tar", ".tar.gz", ".tgz")  # of a name that is a file's, not a tag's
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]{0,99}")  # a label may say anything, and names files here


@dataclass(frozen=True, slots=True)
class Existing:
    """An image and its names: `image` without a tag, "" where it has none; `repository` is where it came from, ""
    for an archive. `receipt` is that of the archive, where it lies beside it; `wheel` is the project's, if it tells."""

    item: Image | Index
    image: str = ""
    tags: tuple[str, ...] = ()
    repository: str = ""
    wheel: WheelInfo | None = None
    receipt: Receipt | None = None

    @property
    def images(self) -> tuple[Image, ...]:
        """One a platform."""
        return images_of(self.item)

    def label(self, name: str) -> str:
        """A pre-defined label (annotations.md), "" where it is missing."""
        labels = (self.images[0].config_json.get("config") or {}).get("Labels") or {}
        return str(labels.get(PREFIX + name, ""))

    def left_out(self, image: Image) -> tuple[Excluded, ...]:
        """What the wheels of an image have and it has not, as far as the receipt is at hand."""
        platforms = self.receipt.platforms if self.receipt else ()
        return next((one.left_out for one in platforms if one.digest == image.digest), ())

    def plan(self, plan: Plan) -> Plan:
        """A plan of the same project, as of this image: its version, names, platforms and commit."""
        revision, version = self.label("revision"), self.label("version")
        return replace(
            plan,
            version=version if _VERSION.fullmatch(version) else plan.version,
            image=self.image or plan.image,
            tags=self.tags or plan.tags,
            repositories=(self.repository,) if self.repository else plan.repositories,
            platforms=tuple(str(image.platform) for image in self.images),
            revision=revision.removesuffix(DIRTY),
            dirty=(revision,) if revision.endswith(DIRTY) else (),
        )


def open_existing(name: str, ctx: Context) -> Existing:
    """The image in the archive of a path, else the one that a reference names in its registry.

    Raises ConfigError for a path of nothing, ImageError for what is no image, and RegistryError.
    """
    from hatch_docker.oci.archive import archive_names, read_archive

    path = Path(name)
    if path.is_file():
        item = read_archive(path)
        names = [parse_reference(one) for one in archive_names(path)]
        image = _bare(names[0].familiar) if names else ""
        receipt = receipt_beside(path)
        receipt = receipt if receipt and receipt.digest == item.digest else None
        wheel = receipt.wheel if receipt else None
        return Existing(item, image, tuple(one.tag for one in names), wheel=wheel, receipt=receipt)
    if name.endswith(ENDINGS) or name.startswith((".", "/")):
        raise ConfigError(f"there is no archive {name}: build it, or name another")
    from hatch_docker.oci.pull import pull_item
    from hatch_docker.oci.registry import Remote

    try:
        reference = parse_reference(name)
    except ImageError as error:
        raise ConfigError(f"{name} is neither an archive nor an image in a registry: {error}") from error
    item = pull_item(Remote(ctx.client, ctx.environ), reference, ctx.store)
    tags = (reference.tag,) if reference.tag else ()
    return Existing(item, _bare(reference.familiar), tags, reference.name)


SCHEMES = ("oci:", "docker:", "docker-daemon:", "podman:")


@contextlib.contextmanager
def opened(name: str, ctx: Context) -> Iterator[Existing]:
    """As `open_existing`, and also `oci:DIRECTORY`, a layout, and `docker:NAME` and `podman:NAME`, an image that the
    daemon of this machine has. What is opened of it is there while the block runs.

    Raises DaemonError where no daemon answers, or has no such image.
    """
    scheme, _, rest = name.partition(":")
    if scheme == "oci":
        from hatch_docker.oci.layout import read_layout

        yield Existing(read_layout(Path(rest)))
    elif f"{scheme}:" in SCHEMES and not Path(name).is_file():
        with temporary_directory() as directory:
            yield _saved(scheme.removesuffix("-daemon"), rest, directory / "image.tar", ctx)
    else:
        yield open_existing(name, ctx)


def _saved(kind: str, name: str, archive: Path, ctx: Context) -> Existing:
    """The image of a daemon, which gives it away as an archive only."""
    from hatch_docker.oci.archive import read_archive
    from hatch_docker.oci.daemon import find_daemon, save

    reference = parse_reference(name) if not name.startswith("sha256:") else None
    save(find_daemon(ctx.environ, kind), name, archive)
    tags = (reference.tag,) if reference and reference.tag else ()
    return Existing(read_archive(archive), _bare(reference.familiar) if reference else "", tags)


def plan_of(name: str, plans: Sequence[Plan]) -> Plan:
    """Which of a project's images an archive or a reference is of: by a receipt, by its name, else the first.

    Raises ConfigError where the receipt names an image that the project does not have as it is configured now.
    """
    path = Path(name)
    if receipt := receipt_beside(path):
        part = receipt.part
        if part not in {plan.part for plan in plans}:
            raise ConfigError(
                f"{name} is the image {part or 'default'!r} of its project, which has none of that name as it is "
                "configured now (HATCH_DOCKER_DEBUG=true, if that is what it was built with)"
            )
    elif path.is_file():
        part = next((plan.part for plan in plans if plan.part and path.name.endswith(f".{plan.part}{ARCHIVE}")), "")
    else:
        bare = parse_reference(_bare(name)).name
        known = {parse_reference(one).name: plan.part for plan in plans for one in (plan.image, *plan.repositories)}
        part = known.get(bare, "")
    return next((plan for plan in plans if plan.part == part), plans[0])


def _bare(name: str) -> str:
    """A name without digest and tag."""
    name = name.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]
