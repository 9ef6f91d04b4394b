"""An image that was built before, from an archive, a layout, a registry or a daemon."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hatch_docker.build.receipt import Receipt, receipt_beside
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, ImageError
from hatch_docker.core.files import ARCHIVE, temporary_directory
from hatch_docker.engines.model import Excluded
from hatch_docker.oci.archive import archive_names, read_archive
from hatch_docker.oci.daemon import save
from hatch_docker.oci.find_daemon import find_daemon
from hatch_docker.oci.layout import read_layout
from hatch_docker.oci.model import Image, Index, images_of
from hatch_docker.oci.pull import pull_item
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.registry import Remote
from hatch_docker.plan.model import Plan
from hatch_docker.plan.naming import PREFIX
from hatch_docker.project.git import DIRTY

SCHEMES = ("docker", "docker-daemon", "podman")  # prefixes of images in a daemon
ENDINGS = (".tar", ".tar.gz", ".tgz")  # a name with such an ending is a path
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]{0,99}")  # a version label that may become part of file names


@dataclass(frozen=True, slots=True)
class ExistingImage:
    """An image and its names. `image`: the name without a tag, "" if it has no name.

    `repository`: the repository that it was pulled from, "" for an archive. `receipt`: the receipt beside the archive.
    """

    item: Image | Index
    image: str = ""
    tags: tuple[str, ...] = ()
    repository: str = ""
    receipt: Receipt | None = None

    @property
    def images(self) -> tuple[Image, ...]:
        """The image of each platform."""
        return images_of(self.item)

    def label(self, name: str) -> str:
        """Return a pre-defined label (annotations.md), "" if it is missing."""
        return str((self.images[0].settings.get("Labels") or {}).get(PREFIX + name, ""))

    def left_out(self, image: Image) -> tuple[Excluded, ...]:
        """Return the files of wheels that the image for one platform does not contain; () without a receipt."""
        platforms = self.receipt.platforms if self.receipt else ()
        return next((platform.left_out for platform in platforms if platform.digest == image.digest), ())

    def plan(self, plan: Plan) -> Plan:
        """Return a plan of the same project with the version, names, platforms and commit of this image."""
        revision, version = self.label("revision"), self.label("version")
        return replace(
            plan, version=version if _VERSION.fullmatch(version) else plan.version, image=self.image or plan.image,
            tags=self.tags or plan.tags, repositories=(self.repository,) if self.repository else plan.repositories,
            platforms=tuple(str(image.platform) for image in self.images), revision=revision.removesuffix(DIRTY),
            dirty=(revision,) if revision.endswith(DIRTY) else (),
        )  # fmt: skip


def open_existing(name: str, ctx: Context, *, foreign: bool = False) -> ExistingImage:
    """Return the image of an archive if `name` is a path, otherwise of a registry.

    `foreign`: also accept archives of other programs. Raises ConfigError for a path that does not exist, ImageError for
    an invalid image, and RegistryError.
    """
    path = Path(name)
    if path.is_file():
        item = read_archive(path, foreign=foreign)
        names = [parse_reference(text) for text in archive_names(path)]
        image = _repository(names[0].familiar) if names else ""
        receipt = receipt_beside(path)
        receipt = receipt if receipt and receipt.digest == item.digest else None
        return ExistingImage(item, image, tuple(name.tag for name in names), receipt=receipt)
    if name.endswith(ENDINGS) or name.startswith((".", "/")):
        raise ConfigError(f"there is no archive {name}: build it, or give another path")

    try:
        reference = parse_reference(name)
    except ImageError as error:
        raise ConfigError(f"{name} is neither an archive nor an image in a registry: {error}") from error
    item = pull_item(Remote(ctx.client, ctx.environ), reference, ctx.store)
    tags = (reference.tag,) if reference.tag else ()
    return ExistingImage(item, _repository(reference.familiar), tags, reference.name)


@contextlib.contextmanager
def existing_image(name: str, ctx: Context) -> Iterator[ExistingImage]:
    """Yield the image of an archive or registry (`open_existing`), a layout (`oci:DIRECTORY`), or a daemon.

    Names of images in a daemon are `docker:NAME` and `podman:NAME`. The layers can be read inside the block only.
    Raises DaemonError if no daemon is running, or it has no such image.
    """
    scheme, _, rest = name.partition(":")
    if scheme == "oci":
        yield ExistingImage(read_layout(Path(rest)))
    elif scheme in SCHEMES and not Path(name).is_file():
        with temporary_directory() as directory:
            reference = parse_reference(rest) if not rest.startswith("sha256:") else None
            saved = directory / "image.tar"
            save(find_daemon(ctx.environ, scheme.removesuffix("-daemon")), rest, saved)
            image = _repository(reference.familiar) if reference else ""
            tags = (reference.tag,) if reference and reference.tag else ()
            yield ExistingImage(read_archive(saved, foreign=True), image, tags)
    else:
        yield open_existing(name, ctx, foreign=True)


def matching_plan(name: str, plans: Sequence[Plan]) -> Plan:
    """Return the plan of an archive or a reference: by its receipt, otherwise by its name, otherwise the first plan.

    Raises ConfigError if the receipt names an image that the project's configuration no longer has.
    """
    path = Path(name)
    if receipt := receipt_beside(path):
        part = receipt.part
        if part not in {plan.part for plan in plans}:
            raise ConfigError(
                f"{name} is the image {part or 'default'!r} of its project, whose configuration now has no image of "
                "that name (set HATCH_DOCKER_DEBUG=true if it was built with that)"
            )
    elif path.is_file():
        part = next((plan.part for plan in plans if plan.part and path.name.endswith(f".{plan.part}{ARCHIVE}")), "")
    else:
        bare = parse_reference(_repository(name)).name
        known = {parse_reference(text).name: plan.part for plan in plans for text in (plan.image, *plan.repositories)}
        part = known.get(bare, "")
    return next((plan for plan in plans if plan.part == part), plans[0])


def _repository(name: str) -> str:
    """Return a name without digest and tag."""
    name = name.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]
