"""The inputs and outputs of a build, recorded while it runs and kept in the cache; see `build/unchanged.py`."""

import contextlib
import stat
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import hatch_docker
from hatch_docker.bases.debian.apt_config import APT
from hatch_docker.build.notes import Notes
from hatch_docker.build.receipt import Receipt, read_receipt, size_table
from hatch_docker.build.summary import closing_lines
from hatch_docker.build.unchanged import (
    KIND,
    Command,
    Facts,
    NotRememberable,
    clock_offset,
    facts,
    names_in,
    revision_row,
    walk,
)
from hatch_docker.core.cache.store import RECENT, file_digest
from hatch_docker.core.context import Context
from hatch_docker.core.errors import HatchDockerError
from hatch_docker.core.secrets import secret_part
from hatch_docker.core.terminal_lines import is_lively
from hatch_docker.core.text import sanitize
from hatch_docker.oci.archive import archive_names, docker_names, read_archive
from hatch_docker.oci.auth import login_files
from hatch_docker.oci.daemon import LoadResult, podman_images
from hatch_docker.oci.find_daemon import find_daemons
from hatch_docker.oci.model import Image, Index, digest_of, images_of
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.referrers import artifact_manifest
from hatch_docker.plan.model import Plan
from hatch_docker.project.model import DIST, Project, Sources
from hatch_docker.project.workspace import may_use_members
from hatch_docker.release.attachments import artifacts_of, read_stored
from hatch_docker.release.push import pushed_line, pushing_line
from hatch_docker.wheels.index import config_files
from hatch_docker.wheels.locks.requirements_txt import requirements_files

Tree = tuple[list[str], dict[str, Facts]]
"""The skipped directories of a tree, and the facts of its files; paths are relative to its top."""

PACKAGE = Path(hatch_docker.__file__).parent
PARENT_FILES = ("pyproject.toml", "hatch.toml", ".gitignore", ".hgignore", ".git")  # read in parent directories too
TIME_FIELDS: Mapping[str, str] = {  # by kind of cached answer: the field with its time
    "debian-snapshot": "time", "pins": "at", "build-pins": "at", "builder-resolution": "time",
}  # fmt: skip
SKIPPED = ("__pycache__", ".git")  # directories, in trees other than the project's, from which no build takes files
RECENT_COARSE = 2.1   # seconds, instead of RECENT, for file systems whose times are whole seconds


def note_image(
    notes: Notes, plan: Plan, receipt: Receipt, item: Image | Index, paths: tuple[Path, Path],
    loaded: LoadResult | None, ctx: Context,
) -> None:  # fmt: skip
    """Add an image to the notes, with the receipt and the output lines of a build in which it is unchanged."""
    archive, path = paths
    platforms = tuple(
        replace(platform, layers=tuple(replace(layer, cached=True) for layer in platform.layers))
        for platform in receipt.platforms
    )
    deliveries = tuple(replace(push, sent=0, mounted=0, seconds=0.0, attached=0) for push in receipt.deliveries)
    unchanged = replace(receipt, platforms=platforms, steps=(), deliveries=deliveries)
    if loaded is not None:
        notes.names |= dict.fromkeys(loaded.references, loaded.image_id)
        notes.lines.append(loaded_line(loaded))
    if deliveries:
        notes.lines += [pushing_line(plan.repositories), *map(pushed_line, deliveries)]
        notes.pushes += _pushes(item, receipt, ctx)
    notes.lines += size_table(unchanged, short=is_lively(sys.stderr, ctx.environ))  # with -q there is no screen
    notes.lines += closing_lines(receipt, unchanged, plan, archive, loaded.daemon.kind if loaded else "", ctx)
    documents = [str(archive.with_name(document.file)) for document in receipt.documents]
    written = [str(archive), str(path)] if plan.archive else [str(path)]
    notes.outputs += [*written, *documents]
    notes.results.append((archive, path, receipt, plan.references))
    names = [*receipt.pushed] if notes.command.pushes else written[:1]
    notes.images.append({"artifacts": names, "path": str(path), "receipt": asdict(unchanged)})
    if plan.base.kind == "registry" and "@" not in plan.base.location and ctx.image_lock is None:
        notes.tags[plan.base.location] = receipt.base["digest"]
    if (builder := plan.base.builder) and ("base", builder.location) in ctx.materials and ctx.image_lock is None:
        notes.tags[builder.location] = ctx.materials["base", builder.location]


def _pushes(item: Image | Index, receipt: Receipt, ctx: Context) -> list[Any]:
    """Return the rows for `Notes.pushes` of an image or index."""
    # An index's images have no tag, and clean-up jobs of registries may delete them: compare them too.
    below = {image.digest: image.digest for image in images_of(item)} if isinstance(item, Index) else {}
    attached = {
        subject.digest: [digest_of(artifact_manifest(artifact, subject)) for artifact in artifacts]
        for subject, artifacts in artifacts_of(item, receipt.documents, partial(read_stored, ctx=ctx))
    }
    return [
        [push.reference.partition("@")[0], {**dict.fromkeys(push.tags, item.digest), **below}, attached]
        for push in receipt.deliveries
    ]


def loaded_line(loaded: LoadResult) -> str:
    """Return the output line about a loaded image: the daemon and the names."""
    return f"{loaded.daemon}: {', '.join(parse_reference(name).familiar for name in loaded.references)}"


def remember(notes: Notes, project: Project, plans: Sequence[Plan], directory: Path, ctx: Context) -> None:
    """Write the record of a successful build to the cache, unless changes since then could not be detected."""
    try:
        record = _make_record(notes, project, plans, directory, ctx)
    except (NotRememberable, HatchDockerError, OSError) as why:
        ctx.progress.detail(f"the next build cannot be skipped, even if nothing changes: {why}")
        return
    with contextlib.suppress(HatchDockerError):  # the disk is full; this build does not need the record
        ctx.store.remember(KIND, notes.command.key, record)


def _make_record(
    notes: Notes, project: Project, plans: Sequence[Plan], directory: Path, ctx: Context
) -> dict[str, Any]:
    """Return the record of a build, as JSON; its parts are described in `build/unchanged.py`."""
    _check_suitable(project, plans, ctx)
    isolated = any(plan.build.isolated for plan in plans)
    sources = sources_of(project, plans)
    dotenvs = [plan.dotenv for plan in plans if plan.dotenv]
    outputs = [*notes.outputs, *(str(project.root / path) for path in dotenvs)]
    trees = _trees(project, plans, sources, outputs)
    skipped, found = trees[str(sources.top)]
    if isolated and any(secret_part(name) for name in found if name not in skipped):
        raise NotRememberable("files that look like secrets are left out, and each build reports them")
    paths = {path: facts(path) for path in [*_paths(project, plans, sources, trees, ctx.environ), *ctx.local_wheels]}
    first = find_daemons(ctx.environ)[:1]
    if notes.names and first and not first[0].url:
        images, settings = podman_images(ctx.environ)
        outputs.append(images)
        paths |= {path: facts(path) for path in settings}
    # Builds and tools write into the project and our checkout: their relevant files are in `trees`.
    known = {"", str(project.root), str(PACKAGE.parent) if _is_checkout() else ""}
    imports = {path: facts(path, entries=True) for path in notes.command.imports if path not in known}
    tables = [paths, imports, *(rows for _, rows in trees.values())]
    _check_age(notes.command, (row for table in tables for row in table.values()))
    _check_directories(notes.command, trees, directory, outputs)
    output_facts = {path: facts(path) for path in outputs}
    _check_outputs(notes)
    repository = any((place / ".git").exists() for place in (project.root, *project.root.parents))
    daemon = {"first": [[daemon.kind, daemon.url] for daemon in first], "names": notes.names}
    return {
        "at": notes.command.started,
        "asked": [[*key, TIME_FIELDS[key[0]], time] for key, time in ctx.response_times.items()],
        "trees": trees, "paths": paths, "imports": imports, "outputs": output_facts,
        "directory": str(directory), "written": [DIST, *dotenvs], "revision": revision_row(notes.revision),
        "repository": repository and not project.wheels,  # an existing wheel has no commit
        "daemon": daemon if any(plan.load != "never" for plan in plans) else None,
        "tags": notes.tags, "pushes": notes.pushes, "lines": [sanitize(line) for line in notes.lines],
        "images": notes.images, "again": False,
    }  # fmt: skip


def sources_of(project: Project, plans: Sequence[Plan]) -> Sources:
    """Return the sources of the project's artifacts; raise NotRememberable if code decides which files they contain."""
    found = [project.sources(isolated) for isolated in sorted({plan.build.isolated for plan in plans})]
    if any(sources is None for sources in found) or found[-1] is None:
        raise NotRememberable("code of the project or of a plugin decides what the project contains")
    return found[-1]


def _check_suitable(project: Project, plans: Sequence[Plan], ctx: Context) -> None:
    """Raise NotRememberable for a build that cannot be skipped even if no file changes."""
    budgets = [plan.budget for plan in plans if plan.budget]
    needs = any(plan.lock.requirements or plan.lock.path for plan in plans)
    reasons = {
        "this build gave a warning": bool(ctx.progress.warnings),
        "HATCH_DOCKER_REFRESH is set": ctx.refresh,
        "it signs the image": any(plan.push and plan.sign for plan in plans),
        "it writes a cache directory": any(to["type"] == "local" for plan in plans for to in plan.cache.targets),
        "BuildKit makes the image": any(plan.engine != "embedded" for plan in plans),
        "its size is compared with an image in a registry": any(budget.growth or budget.share for budget in budgets),
        "it needs other projects": any(plan.members for plan in plans) or may_use_members(project.root, needs),
    }
    for reason, holds in reasons.items():
        if holds:
            raise NotRememberable(reason)


def _trees(project: Project, plans: Sequence[Plan], sources: Sources, outputs: Container[str]) -> dict[str, Tree]:
    """Return the directories from which the build takes files, and their contents."""
    top, own = sources.top, _tree(sources.top, sources.is_skipped, outputs)
    if sources.marker_names and any(name.endswith("/.git") for name in own[1]):
        raise NotRememberable("the project contains another repository")
    places = [*sources.extra_paths, *(project.root / path for plan in plans for path in copied_paths(plan)), APT]
    places += [project.root / base.location for plan in plans for base in plan.bases if base.kind == "oci"]
    if _is_checkout():
        places.append(PACKAGE)

    def is_known(path: Path) -> bool:
        name = str(path.relative_to(top)) if path.is_relative_to(top) else ""
        skipped = [f"{directory}/" for directory in own[0] if not _is_skipped(directory)]
        partial = any(gap.startswith(f"{name}/".removeprefix("./")) or f"{name}/".startswith(gap) for gap in skipped)
        return (name in own[1] or path == top) and not partial

    others = [path for path in dict.fromkeys(places) if path.is_dir() and not is_known(path)]
    return {str(top): own} | {str(path): _tree(path, _is_skipped, outputs) for path in others}


def _is_skipped(name: str) -> bool:
    return name.rpartition("/")[2] in SKIPPED


def _is_checkout() -> bool:
    """Return whether hatch-docker runs from a checkout, where its files change and its version does not."""
    return (PACKAGE.parent / ".git").exists()


def _tree(top: Path, is_skipped: Callable[[str], bool], outputs: Container[str]) -> Tree:
    skipped: list[str] = []

    def skips(name: str) -> bool:
        if skip := is_skipped(name):
            skipped.append(name)
        return skip

    return skipped, walk(str(top), skips, outputs)


def _paths(
    project: Project, plans: Sequence[Plan], sources: Sources, trees: Mapping[str, Tree], environ: Mapping[str, str]
) -> list[str]:
    """Return the paths of the other files that a build reads if they exist."""
    root, top = project.root, sources.top
    named = [place / name for place in root.parents for name in PARENT_FILES]
    named += [path for plan in plans for path in lock_files(root, plan)]
    named += [path for path in sources.extra_paths if not path.is_dir()]
    named += [root / path for plan in plans for path in copied_paths(plan)]
    named += [root / base.location for plan in plans for base in plan.bases if base.kind == "oci"]
    named += [top / place / name for place in trees[str(top)][0] for name in sources.marker_names]
    named += [Path(environ.get("NETRC") or Path(environ.get("HOME", "/"), ".netrc"))]
    return [*map(str, [*named, *login_files(environ)]), *config_files(root, environ)]


def lock_files(root: Path, plan: Plan) -> Iterator[Path]:
    """Yield the paths of a plan's locks: dependency lock with included requirements files, and image lock."""
    yield from (root / path for path in (plan.lock.path, plan.lock.pinned, plan.pins) if path)
    for path in (plan.lock.path if plan.lock.kind == "requirements" else "", plan.lock.pinned):
        yield from requirements_files(root / path, root) if path else ()


def copied_paths(plan: Plan) -> list[str]:
    """Return the project's files and directories that are copied into an image or a step, relative to the root."""
    return [*(path for _, path in plan.copied_files), *(path for step in plan.steps for path in step.places)]


def _check_age(command: Command, rows: Iterable[Facts]) -> None:
    """Raise NotRememberable if a file may have changed after the build read it."""
    if clock_offset() < command.offset - RECENT / 2:
        raise NotRememberable("the clock was set back while it ran")
    times = (time for row in rows if row for time in (*row[5:7], *row[13:15]))
    if any(_is_recent(time, command) for time in times):
        raise NotRememberable("a file was written while it ran, or just before")


def _is_recent(nanoseconds: int, command: Command) -> bool:
    return nanoseconds / 1e9 > command.started - (RECENT if nanoseconds % 1_000_000_000 else RECENT_COARSE)


def _check_directories(command: Command, trees: Mapping[str, Tree], directory: Path, outputs: Iterable[str]) -> None:
    """Raise NotRememberable if a file may have been created or removed while the build ran.

    The times of directories show it, except of those with outputs. For the project's directory, names are compared.
    """
    written = (directory, *map(Path, outputs))
    inside = [path.relative_to(command.root) for path in written if path.is_relative_to(command.root)]
    ours = {part for path in inside for part in path.parts[:1]}
    apart = {command.root, directory, *(path.parent for path in written)}
    times = (
        time for top, (skipped, found) in trees.items() if top != str(PACKAGE)
        for name in ("", *(name for name, row in found.items() if _is_directory(row) and name not in set(skipped)))
        if (path := Path(top, name)) not in apart and (status := path.stat())
        for time in (status.st_mtime_ns, status.st_ctime_ns)
    )
    if (command.names ^ names_in(command.root)) - ours or any(_is_recent(time, command) for time in times):
        raise NotRememberable("a file was made or removed while it ran, or just before")


def _is_directory(row: Facts) -> bool:
    return any(stat.S_ISDIR(mode) for mode in (*row[:1], *row[8:9])) if row else False


def _check_outputs(notes: Notes) -> None:
    """Raise NotRememberable if another build replaced this build's files at the same time."""
    for archive, path, receipt, names in notes.results:
        documents = {document.file: document.digest for document in receipt.documents}
        found = {name: file_digest(archive.with_name(name)) for name in documents}
        read, ours = (replace(item, timings={}, platforms=(), steps=()) for item in (read_receipt(path), receipt))
        expected = receipt.digest, docker_names(names)
        image = (read_archive(archive).digest, archive_names(archive)) if receipt.archive else expected
        if (found, read, image) != (documents, ours, expected):
            raise NotRememberable("another build wrote its files at the same time")
