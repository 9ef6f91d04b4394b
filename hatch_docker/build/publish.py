"""Push archives to registries or load them into Docker or Podman, and update their receipts. Builds nothing."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from hatch_docker.build.ci_outputs import report_path, write_ci_outputs
from hatch_docker.build.failures import naming_typed_options
from hatch_docker.build.receipt import Receipt, read_receipt, receipt_beside, receipt_from_image, receipt_path
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError, ImageError
from hatch_docker.core.files import ARCHIVE
from hatch_docker.core.tables import read_tables, table_at
from hatch_docker.engines.layer_cache import search_layers
from hatch_docker.oci.archive import archive_names, docker_names, read_archive
from hatch_docker.oci.daemon import LoadResult, load
from hatch_docker.oci.find_daemon import find_daemon
from hatch_docker.oci.model import Image, Index, Platform, images_of
from hatch_docker.oci.reference import parse_reference
from hatch_docker.plan.debug import debug_tags, is_debug_variant
from hatch_docker.plan.defaults import sign_plan
from hatch_docker.plan.model import SignPlan
from hatch_docker.plan.naming import TagValues, repositories_of, tags_of
from hatch_docker.project.git import DIRTY, Revision, read_revision
from hatch_docker.release.attachments import attach_and_sign, document_reader
from hatch_docker.release.push import check_push, push_error, push_to_all

DIST = Path("dist")


def push_archives(
    archives: Iterable[Path], root: Path, table: Mapping[str, Any], options: Mapping[str, str],
    spellings: Mapping[str, str], archives_by_name: dict[str, Path], ctx: Context,
) -> list[str]:
    """Push archives, or those of a directory (see `resolve_archives`); return their references by digest.

    `table`: [tool.hatch-docker] of the project in `root`, {} without a project. `options`: options of the command line,
    which override the environment. `spellings`: for each option the spelling on the command line, for error messages.
    `archives_by_name`: the names under which archives are pushed; two archives must not have the same name.
    """
    from hatch_docker.build.plan_context import selected_images
    from hatch_docker.config import PREFIX
    from hatch_docker.config.load import load_configs

    variables = {PREFIX + name.upper().replace("-", "_"): name for name, value in options.items() if value}
    environ = {**ctx.environ, **{variable: options[name] for variable, name in variables.items()}}
    with naming_typed_options({variable: spellings[name] for variable, name in variables.items()}):
        configs = load_configs(table, environ, root / "pyproject.toml")
    parts = selected_images(configs, environ) if len(configs) > 1 else []
    pushes = []
    for archive in [found for path in archives for found in resolve_archives(path, parts)]:
        receipt = receipt_beside(archive)
        config = configs.get(receipt.part if receipt else "", configs[""])
        # Options of the command line take precedence. The table's templates were expanded when the image was built.
        registries = configs[""].registries if options.get("registries") else config.registries
        tags = config.tags if environ.get(f"{PREFIX}TAGS") else ()
        if tags and receipt:
            typed_here = bool(options.get("tags"))
            tags = _filled_tags(tags, receipt, root, ctx, move=typed_here or config.prereleases_move_tags)
            tags = debug_tags(tags) if is_debug_variant(receipt.tags) and not typed_here else tags
        if receipt:
            _check_names(archive, receipt, registries, tags, archives_by_name)
        pushes.append((archive, config, registries, tags))
    names: list[str] = []
    for archive, config, registries, tags in pushes:
        dotenv = report_path(root, config.dotenv, environ)
        result = push_archive(
            archive, ctx, registries=registries, tags=tags, allow_dirty=config.allow_dirty, dotenv=dotenv,
            sign=sign_plan(config), root=root,
        )  # fmt: skip
        names += result.pushed
    return names


def _check_names(
    archive: Path, receipt: Receipt, registries: Sequence[str], tags: Sequence[str], archives_by_name: dict[str, Path]
) -> None:
    """Raise ConfigError if an archive would be pushed under the name of another one."""
    repositories = repositories_of(receipt.image, registries) if registries else receipt.repositories
    for name in (f"{repository}:{tag}" for repository in repositories for tag in tags or receipt.tags):
        if (other := archives_by_name.setdefault(name, archive)) != archive:
            raise ConfigError(
                f"{archive.name} would be pushed as {name}, and so would {other.name}: name only a registry, or push "
                "them one by one"
            )


def table_for_archives(root: Path, path: Path) -> Mapping[str, Any]:
    """Return [tool.hatch-docker] of the project in `root`, if it built the archive, or all archives in `path`; else {}.

    Archives of another project must not use this project's registries and keys.
    """
    tables = read_tables(root / "pyproject.toml")
    name = table_at(tables, "project").get("name") or table_at(tables, "tool", "poetry").get("name") or ""
    archives = path.glob(f"*{ARCHIVE}") if path.is_dir() else [path]
    built = {canonicalize_name(receipt.name) if (receipt := receipt_beside(archive)) else "" for archive in archives}
    return project_table(root) if name and built == {canonicalize_name(str(name))} else {}


def project_table(root: Path) -> Mapping[str, Any]:
    """Return [tool.hatch-docker] of the project in `root`, {} if there is none or it cannot be read."""
    return table_at(read_tables(root / "pyproject.toml"), "tool", "hatch-docker")


def push_archive(
    archive: Path, ctx: Context, *, registries: Sequence[str], tags: Sequence[str], allow_dirty: bool,
    dotenv: Path | None, sign: SignPlan | None, root: Path,
) -> Receipt:
    """Push an archive to the repositories and tags of its receipt, or to `registries` and `tags` if they are not empty.

    Also pushes the documents of the receipt. `sign`: sign image and documents, with a key in the project's directory
    `root`. Returns the receipt with the results, which is also written. Raises ImageError for an invalid archive,
    ConfigError without a repository, for an image with uncommitted changes, or for a changed document, SecretError if a
    layer contains a password of the push; after the receipt is written, RegistryError or TransientError.
    """
    item = read_archive(archive)
    receipt, path = receipt_of(archive, item)
    repositories = repositories_of(receipt.image, registries) if registries else receipt.repositories
    if not (tags := tags or receipt.tags):
        raise ConfigError(f"{archive.name} has no tags for its image: set HATCH_DOCKER_TAGS, or add --tag")
    check_push(repositories, receipt.image, receipt.dirty, sign, root, ctx, allow_dirty=allow_dirty)
    read = document_reader(archive.parent)
    contents = {document: read(document) for document in receipt.documents}
    base = [layer.digest for platform in receipt.platforms for layer in platform.layers if layer.kind == "base"]
    name = receipt.base.get("name", "")
    # Layers of the base can be mounted from the repository of the base.
    mount = {} if not name or name.startswith(("debian:", "oci:")) else dict.fromkeys(base, name)
    layers = [layer for image in images_of(item) for layer in image.layers]
    search_layers([layer for layer in layers if layer.descriptor.digest not in base], ctx)
    started = time.perf_counter()
    on_pushed = attach_and_sign(sign, item, receipt.documents, root, ctx, contents.__getitem__)
    deliveries = push_to_all(item, repositories, tags, ctx, mount=mount, on_pushed=on_pushed)
    loaded = [name for name in receipt.references if "@" not in name]
    receipt = replace(
        receipt,
        deliveries=deliveries,
        references=(*(delivery.reference for delivery in deliveries if not delivery.error), *loaded),
        timings={**receipt.timings, "push": round(time.perf_counter() - started, 3)},
    )
    if path is not None:
        receipt.write(path)
    receipts = map(receipt_beside, archive.parent.glob(f"*{ARCHIVE}"))
    several = len({other.name for other in receipts if other}) > 1
    write_ci_outputs(receipt, archive.parent, dotenv, ctx.environ, several=several)
    if error := push_error(deliveries):
        raise error
    return receipt


def _filled_tags(
    templates: tuple[str, ...], receipt: Receipt, root: Path, ctx: Context, *, move: bool
) -> tuple[str, ...]:
    """Return the tags of templates, with the same values as in the build of the image.

    Branch and date are read from the repository in `root`, if the image's commit is checked out there. `move`:
    pre-releases also get tags such as "latest".
    """
    fields = "{" in "".join(templates)
    if move and not fields:
        return templates
    commit = receipt.revision.removesuffix(DIRTY)
    present = read_revision(root, ctx.environ) if fields and commit else None
    same = present if present and present.commit == commit else None
    revision = replace(same or Revision(commit, "", 0), dirty=receipt.dirty) if commit else None
    epoch = ctx.environ.get("SOURCE_DATE_EPOCH", "")
    date = int(epoch) if re.fullmatch(r"\d{1,11}", epoch) else same.time if same else None
    try:
        tags, notes = tags_of(templates, TagValues(receipt.version, revision, date), move=move)
    except InvalidVersion as error:
        if not fields:
            return templates
        raise ConfigError(f"{receipt.archive} has no version, which the tags need: set the tags with --tag") from error
    for note in notes:
        ctx.progress.info(note)
    return tags


def resolve_archive(path: Path) -> Path:
    """Return the archive at a path: the file, or the only archive in a directory.

    Raises ConfigError if the directory has no archive or more than one.
    """
    if path.is_file() or (path != DIST and not path.is_dir()):
        return path
    found = sorted(archive for archive in path.glob(f"*{ARCHIVE}") if archive.is_file())
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(f"{path} contains no {ARCHIVE}: build it first (`hatch-docker build`), or name an archive")
    names = ", ".join(archive.name for archive in found[:5])
    raise ConfigError(f"{path} contains {len(found)} archives ({names}): choose one of them")


def resolve_archives(path: Path, parts: Sequence[str]) -> list[Path]:
    """Return the archives at a path: the file, or those in a directory.

    `parts`: names of images. If all archives in the directory are of one build, return those of `parts`, in that order;
    otherwise the directory must have only one archive.
    """
    receipts = {archive: receipt_beside(archive) for archive in sorted(path.glob(f"*{ARCHIVE}"))}
    builds = {(receipt.name, receipt.version) if receipt else None for receipt in receipts.values()}
    found = [path for part in parts for path, receipt in receipts.items() if receipt and receipt.part == part]
    return found if found and len(builds) == 1 else [resolve_archive(path)]


def receipt_of(archive: Path, item: Image | Index) -> tuple[Receipt, Path | None]:
    """Return an archive's receipt and its path, or a new one and None. Raises ImageError for one of another image."""
    path, named = receipt_path(archive), archive_names(archive)
    if not path.is_file():
        names = [parse_reference(name) for name in named]
        words = "-".join(re.findall(r"[a-z0-9]+", archive.name.removesuffix(ARCHIVE).lower())) or "image"
        image = names[0].familiar.rpartition(":")[0] if names else words
        return receipt_from_image(item, archive.name, image, [name.tag for name in names]), None
    receipt = read_receipt(path)
    if receipt.digest != item.digest:
        raise ImageError(
            f"{path} is not the receipt of {archive.name}: it describes {receipt.digest}, and the archive contains "
            f"{item.digest}; build again, or move the receipt away"
        )
    if named and named != docker_names(f"{receipt.image}:{tag}" for tag in receipt.tags):
        raise ImageError(
            f"{archive.name} is named {' '.join(named)}, and its receipt names another image or other tags; "
            "build again, or move the receipt away"
        )
    return receipt, path


def load_archive(archive: Path, kind: str, names: Sequence[str], host: Platform, ctx: Context) -> LoadResult:
    """Load an archive into a daemon, under `names` or those in the archive; add the names to the receipt beside it.

    `kind`: "docker" or "podman", or "" for the first that is running. Raises ConfigError for an archive without names,
    ImageError for an invalid archive, and DaemonError if no daemon is running.
    """
    item = read_archive(archive)
    receipt, path = receipt_of(archive, item)
    names = names or archive_names(archive)
    if not names:
        raise ConfigError(f"{archive} has no name for its image: set one with --tag NAME:TAG")
    platforms = [image.platform for image in images_of(item)]
    if host not in platforms:
        ctx.progress.warn(f"{archive.name} is for {', '.join(map(str, platforms))}, and this machine is {host}")
    for layer in {layer.descriptor.digest: layer for image in images_of(item) for layer in image.layers}.values():
        layer.open().close()  # verifies the digest
    daemon = find_daemon(ctx.environ, kind)
    with ctx.progress.task(f"loading the image into {daemon}", part=True) as task:
        loaded = load(daemon, item, names, archive, host=host, log=ctx.progress.detail, task=task)
    if path is not None:
        pushed = [name for name in receipt.references if "@" in name]
        replace(receipt, references=(*pushed, *loaded.references)).write(path)
    return loaded
