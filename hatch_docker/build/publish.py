"""Archives pushed to registries, or loaded into Docker or Podman, with their receipts. Nothing is built again."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from hatch_docker.build.ci_outputs import write_ci_outputs
from hatch_docker.build.receipt import Receipt, bare_receipt, read_receipt, receipt_beside, receipt_path
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, ImageError
from hatch_docker.core.files import ARCHIVE
from hatch_docker.engines.layer_cache import search_layers
from hatch_docker.oci.archive import archive_names, read_archive
from hatch_docker.oci.model import Image, Index, Platform, images_of
from hatch_docker.oci.reference import parse_reference
from hatch_docker.plan.debug import debug_tags, is_variant
from hatch_docker.plan.model import SignPlan
from hatch_docker.plan.naming import repositories_of, tags_of
from hatch_docker.project.git import DIRTY, Revision, read_revision
from hatch_docker.release.attachments import attach_and_sign, document_reader
from hatch_docker.release.push import (
    NO_MOUNT,
    MountSource,
    add_push_secrets,
    check_destinations,
    push_error,
    push_to_all,
)

if TYPE_CHECKING:
    from hatch_docker.config.options import Config
    from hatch_docker.oci.daemon import Loaded

DIST = Path("dist")


def push_archives(
    archives: Iterable[Path], root: Path, table: Mapping[str, Any], options: Mapping[str, str],
    typed: Mapping[str, str], taken: dict[str, Path], ctx: Context,
) -> list[str]:
    """Push some archives, or those of a directory (see `given_archives`); returns their names by digest.

    `table` is [tool.hatch-docker] of the project in `root`, where there is one; `options` are those of a command
    line, which has them as `typed`, and count for more than the environment's variables. `taken` has the names that
    archives are pushed under: none is another's, too.
    """
    from hatch_docker.config.images import wanted
    from hatch_docker.config.options import PREFIX
    from hatch_docker.plan.defaults import sign_plan

    variables = {PREFIX + name.upper().replace("-", "_"): name for name, value in options.items() if value}
    environ = {**ctx.environ, **{variable: options[name] for variable, name in variables.items()}}
    configs = _configs(table, environ, root, {variable: typed[name] for variable, name in variables.items()})
    parts = [part for part, _config in wanted(configs, environ)] if len(configs) > 1 else []
    orders = []
    for archive in [one for path in archives for one in given_archives(path, parts)]:
        receipt = receipt_beside(archive)
        config = configs.get(receipt.part if receipt else "", configs[""])
        # A command line says what it means; templates of the table were filled in when the image was built.
        registries = configs[""].registries if options.get("registries") else config.registries
        tags = config.tags if environ.get(f"{PREFIX}TAGS") else ()
        if tags and receipt:
            typed_here = bool(options.get("tags"))
            tags = _filled(tags, receipt, root, ctx, move=typed_here or config.prereleases_move_tags)
            tags = debug_tags(tags) if is_variant(receipt.tags) and not typed_here else tags
        if receipt:
            _take(archive, receipt, registries, tags, taken)
        orders.append((archive, config, registries, tags))
    names: list[str] = []
    for archive, config, registries, tags in orders:
        dotenv = root / config.dotenv if config.dotenv else None
        done = publish(
            archive, ctx, registries=registries, tags=tags, allow_dirty=config.allow_dirty, dotenv=dotenv,
            sign=sign_plan(config), root=root,
        )  # fmt: skip
        names += done.pushed
    return names


def _configs(
    table: Mapping[str, Any], environ: Mapping[str, str], root: Path, typed: Mapping[str, str]
) -> Mapping[str, Config]:
    """The options of each image; what is wrong with a variable is told of what was `typed` in its place."""
    from hatch_docker.config.load import load_configs

    try:
        return load_configs(table, environ, root / "pyproject.toml")
    except ConfigError as error:
        text = str(error)
        for variable, option in typed.items():
            text = text.replace(variable, option)
        raise ConfigError(text) from error


def _take(
    archive: Path, receipt: Receipt, registries: Sequence[str], tags: Sequence[str], taken: dict[str, Path]
) -> None:
    """Raise ConfigError where an archive would be pushed under the name of another one."""
    repositories = repositories_of(receipt.image, registries) if registries else receipt.repositories
    for name in (f"{repository}:{tag}" for repository in repositories for tag in tags or receipt.tags):
        if (other := taken.setdefault(name, archive)) != archive:
            raise ConfigError(
                f"{archive.name} would be pushed as {name}, and so would {other.name}: name a registry alone, or push "
                "each by itself"
            )


def own_table(root: Path, path: Path) -> Mapping[str, Any]:
    """[tool.hatch-docker] of the project in `root`, where an archive, or all in a directory, are of that project.

    What another project built is none of its business: neither its registries nor its key are meant.
    """
    name = _in_pyproject(root, "project").get("name") or _in_pyproject(root, "tool", "poetry").get("name") or ""
    archives = path.glob(f"*{ARCHIVE}") if path.is_dir() else [path]
    built = {canonicalize_name(receipt.name) if (receipt := receipt_beside(archive)) else "" for archive in archives}
    return project_table(root) if name and built == {canonicalize_name(str(name))} else {}


def project_table(root: Path) -> Mapping[str, Any]:
    """[tool.hatch-docker] of the project in `root` as it stands, empty where there is none that can be read."""
    return _in_pyproject(root, "tool", "hatch-docker")


def _in_pyproject(root: Path, *names: str) -> Mapping[str, Any]:
    import tomllib

    found: Any = {}
    with contextlib.suppress(OSError, ValueError):
        found = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def publish(
    archive: Path, ctx: Context, *, registries: Sequence[str] = (), tags: Sequence[str] = (), allow_dirty: bool = False,
    dotenv: Path | None = None, sign: SignPlan | None = None, root: Path | None = None,
) -> Receipt:
    """Push an archive to the repositories and under the tags of its receipt, or to `registries` and under `tags`.

    The documents of the receipt go with it, and are signed as it is where `sign` says who does; `root` is the project,
    which a key's path is relative to. The receipt then says what became of it. Raises ImageError for what is no image
    of ours, ConfigError where it is not told where to push, or may not be, or a document is not what was made with it,
    SecretError where a login of the push is in a layer; RegistryError or TransientError once the receipt is written.
    """
    item = read_archive(archive)
    receipt, path = receipt_of(archive, item)
    repositories = repositories_of(receipt.image, registries) if registries else receipt.repositories
    if not (tags := tags or receipt.tags):
        raise ConfigError(f"{archive.name} does not say how its image is tagged: set HATCH_DOCKER_TAGS, or --tag")
    check_destinations(repositories, receipt.image, receipt.dirty, allow_dirty=allow_dirty)
    if sign is not None:
        from hatch_docker.release.cosign import check_signing

        check_signing(sign, root or Path(), ctx.environ)
    read = document_reader(archive.parent)
    contents = {document: read(document) for document in receipt.documents}
    add_push_secrets(repositories, sign, ctx)
    base = {layer.digest for one in receipt.platforms for layer in one.layers if layer.kind == "base"}
    layers = [layer for one in images_of(item) for layer in one.layers]
    search_layers([layer for layer in layers if layer.descriptor.digest not in base], ctx)
    started = time.perf_counter()
    on_pushed = attach_and_sign(sign, item, receipt.documents, root or Path(), ctx, contents.__getitem__)
    deliveries = push_to_all(item, repositories, tags, ctx, mount=_mount_source(receipt), on_pushed=on_pushed)
    loaded = [name for name in receipt.references if "@" not in name]
    receipt = replace(
        receipt,
        deliveries=deliveries,
        references=(*(delivery.reference for delivery in deliveries if not delivery.error), *loaded),
        timings={**receipt.timings, "push": round(time.perf_counter() - started, 3)},
    )
    if path is not None:
        receipt.write(path)
    beside_it = (receipt_beside(one) for one in archive.parent.glob(f"*{ARCHIVE}"))
    several = len({one.name for one in beside_it if one}) > 1
    write_ci_outputs(receipt, archive.parent, dotenv, ctx.environ, several=several)
    if error := push_error(deliveries):
        raise error
    return receipt


@dataclass(frozen=True, slots=True)
class _Made:
    """What tags are made of, of an image that was built."""

    version: str
    revision: Revision | None
    source_date: int | None


def _filled(
    templates: tuple[str, ...], receipt: Receipt, root: Path, ctx: Context, *, move: bool
) -> tuple[str, ...]:
    """The tags that templates make, as they would in the build of the image.

    Its branch and date are those of the project in `root`, as long as that has the image's commit checked out.
    """
    from packaging.version import InvalidVersion

    fields = "{" in "".join(templates)
    if move and not fields:
        return templates
    commit = receipt.revision.removesuffix(DIRTY)
    there = read_revision(root, ctx.environ) if fields and commit else None
    same = there if there and there.commit == commit else None
    revision = replace(same or Revision(commit, "", 0), dirty=receipt.dirty) if commit else None
    said = ctx.environ.get("SOURCE_DATE_EPOCH", "")
    date = int(said) if re.fullmatch(r"\d{1,11}", said) else same.time if same else None
    try:
        tags, notes = tags_of(templates, _Made(receipt.version, revision, date), move=move)
    except InvalidVersion as error:
        if not fields:
            return templates
        raise ConfigError(f"{receipt.archive} does not say its version, which tags are made of: name them") from error
    for note in notes:
        ctx.progress.info(note)
    return tags


def given_archive(path: Path) -> Path:
    """The archive that a command line names: the file, or the only one in a directory; see `find_archive`."""
    return path if path.is_file() or (path != DIST and not path.is_dir()) else find_archive(path)


def given_archives(path: Path, parts: Sequence[str]) -> list[Path]:
    """The archives that a push is told of: the file, or those of a directory.

    Of a project with several images all that one build left there, as far as `parts` names them and in that order; else
    the only one.
    """
    archives = sorted(path.glob(f"*{ARCHIVE}")) if path.is_dir() else []
    receipts = {archive: receipt_beside(archive) for archive in archives}
    builds = {(receipt.name, receipt.version) if receipt else None for receipt in receipts.values()}
    if len(builds) == 1:
        found = [one for part in parts for one, receipt in receipts.items() if receipt and receipt.part == part]
        if found:
            return found
    return [given_archive(path)]


def find_archive(directory: Path) -> Path:
    """The only archive in a directory; raises ConfigError where there is none, or which one is not told."""
    found = sorted(path for path in directory.glob(f"*{ARCHIVE}") if path.is_file())
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(f"{directory} holds no {ARCHIVE}: build it first (`hatch-docker build`), or name an archive")
    names = ", ".join(path.name for path in found[:5])
    raise ConfigError(f"{directory} holds {len(found)} archives ({names}): name the one that is meant")


def receipt_of(archive: Path, item: Image | Index) -> tuple[Receipt, Path | None]:
    """The receipt beside an archive, and its path; where there is none, what the archive says of itself."""
    path = receipt_path(archive)
    if not path.is_file():
        names = [parse_reference(name) for name in archive_names(archive)]
        words = "-".join(re.findall(r"[a-z0-9]+", archive.name.removesuffix(ARCHIVE).lower())) or "image"
        image = names[0].familiar.rpartition(":")[0] if names else words
        return bare_receipt(item, archive.name, image, [name.tag for name in names]), None
    receipt = read_receipt(path)
    if receipt.digest != item.digest:
        raise ImageError(
            f"{path} is not the receipt of {archive.name}: it tells of {receipt.digest}, the archive holds "
            f"{item.digest}; build again, or move the receipt away"
        )
    return receipt, path


def _mount_source(receipt: Receipt) -> MountSource:
    """The layers of a base that came from a registry, which has them."""
    name = receipt.base.get("name", "")
    if not name or name.startswith(("debian:", "oci:")):
        return NO_MOUNT
    layers = (layer for platform in receipt.platforms for layer in platform.layers)
    digests = frozenset(layer.digest for layer in layers if layer.kind == "base")
    return MountSource(str(parse_reference(name)), digests)


def load_archive(archive: Path, kind: str, names: Sequence[str], host: Platform, ctx: Context) -> Loaded:
    """Load an archive into the first daemon that answers, or the one of a `kind`, as `names` or those it has itself.

    The receipt beside it then says so. Raises ConfigError for an archive without names, ImageError for what is no
    archive, DaemonError where nobody answers.
    """
    from hatch_docker.oci.daemon import find_daemon, load

    item = read_archive(archive)
    receipt, path = receipt_of(archive, item)
    names = names or archive_names(archive)
    if not names:
        raise ConfigError(f"{archive} does not say what its image is called: name it with --tag NAME:TAG")
    platforms = [image.platform for image in images_of(item)]
    if host not in platforms:
        ctx.progress.warn(f"{archive.name} is for {', '.join(map(str, platforms))}, and this machine is {host}")
    daemon = find_daemon(ctx.environ, kind)
    with ctx.progress.task(f"loading the image into {daemon}", part=True):
        loaded = load(daemon, item, names, archive, host=host, log=ctx.progress.detail)
    if path is not None:
        pushed = [name for name in receipt.references if "@" in name]
        replace(receipt, references=(*pushed, *loaded.references)).write(path)
    return loaded
