"""The base `debian:<suite>`: Python and its libraries, unpacked directly from Debian's signed packages.

The base has no shell and no package manager. Maintainer scripts are not executed. The first layer is the same for all
projects; `runtime.packages` are in a layer of their own.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from hatch_docker.bases.debian.archive import KEYRING, ArchiveFile
from hatch_docker.bases.debian.base_cache import LAYER_RECIPE, builder_key, note_builder, note_used
from hatch_docker.bases.debian.files import base_entries, compiled_modules, system_entries, unpack_builder
from hatch_docker.bases.debian.layer import KIND, USERS, Assemble, DebianLayer, LayerContents, layer_of, make_once
from hatch_docker.bases.debian.resolver import Package
from hatch_docker.bases.debian.rootfs import Unpacked
from hatch_docker.bases.debian.standalone import (
    PYTHON_RECIPE,
    PythonArchive,
    archive_entries,
    bundled_libraries,
    fetch_archive,
    find_archive,
    finish_layer,
)
from hatch_docker.bases.debian.steps import base_steps, builder_step, suite_python
from hatch_docker.bases.debian.suite import Suite, open_debs, pending_debs, pin, with_snapshot
from hatch_docker.bases.image import base_tree
from hatch_docker.bases.model import Base, Interpreter, runnable_platform
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.cache.tree_digest import FileDigests
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, SandboxError
from hatch_docker.core.text import plural
from hatch_docker.oci.filesystem import extract
from hatch_docker.oci.layer import Compression
from hatch_docker.oci.make_image import Settings, build_image, scratch
from hatch_docker.oci.model import History, Layer, Platform
from hatch_docker.oci.tar import Entry
from hatch_docker.plan.model import DEBIAN_PYTHONS, DEFAULT_PATH, BasePlan

UNPACKED = "builder-packages"  # facts: the digests and entries of the packages in a builder root, by its name
_FIELDS = attrgetter(*(field.name for field in fields(Entry) if field.name != "content"))  # astuple would copy values
ARCHITECTURES = ("amd64", "arm64")  # Debian's names and Go's (used by the OCI) are the same for these two

ENV: Mapping[str, str] = {
    "LANG": "C.UTF-8",
    "PATH": DEFAULT_PATH,
    "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",  # for libraries that bundle OpenSSL
}


def make_debian_base(
    plan: BasePlan, platform: Platform, ctx: Context, *, compression: Compression, keyring: Path = KEYRING
) -> Base:
    """Make the base of a `debian:` plan; its layers are made once and kept in the store.

    Requests to the mirror are sent once in `base_cache.LIFETIME`. Packages are unpacked only if they have changed.
    Raises BaseImageError and RegistryError.
    """
    if plan.location not in DEBIAN_PYTHONS:
        known = ", ".join(f"debian:{suite}" for suite in DEBIAN_PYTHONS)
        raise BaseImageError(f"base {plan.name!r}: unknown Debian suite; known: {known}")
    if platform.os != "linux" or platform.architecture not in ARCHITECTURES:
        known = ", ".join(f"linux/{architecture}" for architecture in ARCHITECTURES)
        raise BaseImageError(f"base {plan.name} cannot be made for {platform}; it can for {known}")
    suite = Suite(plan, plan.location, platform.architecture, ctx, keyring)
    return with_snapshot(suite, lambda indexes: _base(suite, platform, compression, indexes))


def _base(suite: Suite, platform: Platform, compression: Compression, indexes: Sequence[ArchiveFile]) -> Base:
    plan = suite.plan
    python = suite_python(plan, suite.codename)
    fact_keys: list[tuple[str, str]] = []
    steps = [step for step in pin(suite, indexes, base_steps(plan, suite.codename), fact_keys) if step]
    versions = {package.name: package.version for package in steps[0]}
    archive = find_archive(plan, platform, suite.ctx) if plan.standalone else None
    interpreter = archive.interpreter if archive else Interpreter(
        f"/usr/bin/python{python}", upstream_version(versions[f"python{python}-minimal"])
    )
    contents = [tuple(f"{package.name} {package.version}" for package in step) for step in steps]
    layers: list[DebianLayer] = []
    cached = True
    additions: list[tuple[Layer, History]] = []

    def add(key: str, assemble: Assemble, comment: str) -> None:
        nonlocal cached
        layer, known = make_once(suite.ctx, key, compression, assemble, title=f"making the base {suite.name}")
        cached = cached and known
        layers.append(layer)
        fact_keys.append((KIND, key))
        addition = layer_of(suite.ctx, key, compression, layer, assemble)
        additions.append((addition, History(f"hatch-docker: {plan.name}", comment)))

    add(*_base_layer(suite, steps[0], interpreter, compression), "Python and its libraries")
    bundled: dict[str, str] = {}
    if archive:
        archive, below = with_libraries(archive, plan, suite.ctx), additions[0][0]
        bundled = dict(archive.bundled)
        add_python(suite, archive, platform, compression, layers[0], below, add)
        contents.insert(1, (f"cpython {interpreter.build}",))
    for step in steps[1:]:
        add(*_packages_layer(suite, step, merged(layers), compression), "runtime.packages")
    created = max(item.created for item in layers)
    image = build_image(scratch(platform), additions, Settings(env=ENV), created, {})
    return Base(
        plan=plan, name=plan.name, digest=image.digest, image=image, interpreter=interpreter,
        libc=("glibc", upstream_version(versions["libc6"])),
        users={name: (uid, gid) for name, (uid, gid, _) in USERS.items()},
        directories=frozenset(path for item in layers for path in item.directories),
        symlinks={path: target for item in layers for path, target in item.symlinks.items()},
        suite=suite.codename, kinds=("base",) * (1 + bool(archive)) + ("system",) * (len(steps) - 1), cached=cached,
        contents=tuple(contents), archive=(archive.filename, archive.digest) if archive else ("", ""), bundled=bundled,
        hashes={package.title: package.digest for step in steps for package in step}, fact_keys=tuple(fact_keys),
    )  # fmt: skip


def _base_layer(
    suite: Suite, packages: Sequence[Package], interpreter: Interpreter, compression: Compression
) -> tuple[str, Assemble]:
    """Return the key of the first layer, which is the same for all projects, and the function that assembles it."""
    host = runnable_platform()
    compiled = host is not None and host.architecture in ARCHITECTURES and suite.plan.standalone is None
    slim = suite.plan.slim
    key = key_of("debian base", LAYER_RECIPE, _ids(packages), slim, compiled, compression.identity)

    def assemble(place: Path) -> LayerContents:
        compiler = None
        if suite.plan.standalone:
            pass  # the Python is in the next layer
        elif host is None or not compiled:
            suite.ctx.progress.warn(
                f"this machine cannot run {suite.plan.name}'s Python, so its standard library has no .pyc files"
            )
        elif suite.architecture != host.architecture:
            plan = replace(suite.plan, packages=())
            own = make_debian_base(plan, host, suite.ctx, compression=compression, keyring=suite.keyring)
            compiler = base_tree(own, suite.ctx), own.interpreter
        with pending_debs(suite, packages) as debs:
            return base_entries(debs, place, interpreter, compiler, suite.ctx.progress, slim=slim, compiled=compiled)

    return key, assemble


def add_python(
    suite: Suite, archive: PythonArchive, platform: Platform, compression: Compression, base_layer: DebianLayer,
    below: Layer, add: Callable[[str, Assemble, str], None],
) -> None:
    """Add the layer with the files of an archive, and with .pyc files if its Python can run in the sandbox here."""
    ctx, slim = suite.ctx, suite.plan.slim
    key = key_of("python layer", LAYER_RECIPE, PYTHON_RECIPE, base_layer.facts.diff_id, archive.digest, slim)

    def assemble(place: Path, *, compiled: bool = True) -> LayerContents:
        extract([below], place)
        place.chmod(0o755)  # for the user of the sandbox
        entries = archive_entries(fetch_archive(archive, suite.plan, ctx), archive, place, slim=slim)
        if compiled:
            host, compiler = runnable_platform(), (place, archive.interpreter)
            if host is None or ctx.sandbox is None:
                raise SandboxError("no program of the image runs on this machine")
            if platform.architecture != host.architecture:
                own = make_debian_base(
                    replace(suite.plan, packages=()), host, ctx, compression=compression, keyring=suite.keyring
                )
                compiler = base_tree(own, ctx), own.interpreter
            entries |= compiled_modules(entries, archive.interpreter, compiler, ctx.progress, ctx.sandbox)
        return finish_layer(entries, archive, base_layer)

    try:
        add(key_of(key, compression.identity, True), assemble, f"Python of {archive.filename}")
    except SandboxError as error:
        ctx.progress.warn(f"no .pyc of {suite.plan.name}'s standard library, so the image starts more slowly: {error}")
        plain = functools.partial(assemble, compiled=False)
        add(key_of(key, compression.identity, False), plain, f"Python of {archive.filename}")


def with_libraries(archive: PythonArchive, plan: BasePlan, ctx: Context) -> PythonArchive:
    """Return an archive with its field `bundled` set. The archive is read once, and the result kept in the store."""
    key = key_of("bundled libraries", PYTHON_RECIPE, archive.digest)

    def read() -> dict[str, str]:
        return bundled_libraries(fetch_archive(archive, plan, ctx), archive.filename)

    return replace(archive, bundled=tuple(ctx.store.recall_or_make("bundled-libraries", key, read).items()))


def merged(layers: Sequence[DebianLayer]) -> DebianLayer:
    """Return the last layer with the directories and links of all `layers`, for the layer above."""
    return replace(
        layers[-1], directories=tuple(sorted({path for layer in layers for path in layer.directories})),
        symlinks={path: target for layer in layers for path, target in layer.symlinks.items()},
    )


def _packages_layer(
    suite: Suite, packages: Sequence[Package], below: DebianLayer, compression: Compression
) -> tuple[str, Assemble]:
    """Return the key of the layer with `runtime.packages`, and the function that assembles it."""
    shell = suite.plan.busybox
    more = ("shell",) if shell else ()
    key = key_of("debian system", LAYER_RECIPE, below.facts.diff_id, _ids(packages), compression.identity, *more)

    def assemble(place: Path) -> LayerContents:
        return system_entries(open_debs(suite, packages), place, below, suite.ctx.progress, shell=shell)

    return key, assemble


def builder_root(
    plan: BasePlan, platform: Platform, packages: Sequence[str], ctx: Context, *, suite: str, keyring: Path = KEYRING,
    unpacked: bool = True,
) -> Path:
    """Make a tree of the store with a compiler, the suite's Python and its headers, and `packages`; return its path.

    `plan` names the mirrors; its base may be of another kind. The tree is made once, and its name is a key of its
    contents. Without `unpacked` the tree is not made, and only the name is returned. Raises BaseImageError and
    RegistryError.
    """
    if suite not in DEBIAN_PYTHONS or platform.architecture not in ARCHITECTURES:
        known = ", ".join(DEBIAN_PYTHONS)
        raise BaseImageError(f"there is no compiler for {platform} of {suite or plan.name!r}; there is for {known}")
    target = Suite(plan, suite, platform.architecture, ctx, keyring)
    python = suite_python(plan, suite)
    step = builder_step(plan, suite, packages)
    fact_keys: list[tuple[str, str]] = []

    def tree_of(indexes: Sequence[ArchiveFile]) -> tuple[Path, Sequence[Package]]:
        (found,) = pin(target, indexes, [step], fact_keys)
        key = builder_key(_ids(found))
        if not unpacked:
            return Path(key), found
        version = next(package.version for package in found if package.name == f"python{python}")
        interpreter = Interpreter(f"/usr/bin/python{python}", upstream_version(version))

        def make(place: Path) -> FileDigests:
            digests = {package.name: package.digest for package in found}
            rows: dict[str, Any] = {}

            def note(name: str, entries: Sequence[Entry]) -> None:
                rows[name] = [digests[name], [(*_FIELDS(entry), None) for entry in entries]]

            known = _unpacked(digests, ctx)
            new = plural(len(found) - len(known), "package")
            with (
                ctx.progress.task(f"making the builder of {target.name}, {new} to unpack"),
                pending_debs(target, found) as debs,
            ):
                written = unpack_builder(debs, place, interpreter, ctx.progress, known, note)
            ctx.store.remember(UNPACKED, key, rows)
            return written

        return ctx.store.tree("builder", key, make), found

    tree, found = with_snapshot(target, tree_of)
    note_used(((package.title, package.digest) for package in found), suite, ctx)
    if fact_keys:
        note_builder(step, suite, platform, fact_keys[-1][1], ctx)
    return tree


def _unpacked(digests: Mapping[str, str], ctx: Context) -> Unpacked:
    """Return packages that are already unpacked, in the builder root with most of them. `digests`: those wanted."""
    best: dict[str, tuple[Path, list[Entry]]] = {}
    directory = ctx.store.root / "trees/builder"
    for tree in sorted(directory.iterdir()) if directory.is_dir() else ():
        rows = ctx.store.recall(UNPACKED, tree.name) or {}
        shared = [name for name, (digest, _) in rows.items() if digests.get(name) == digest]
        if len(shared) > len(best) and ctx.store.is_intact(tree, deep=False):
            best = {name: (tree, [Entry(*row) for row in rows[name][1]]) for name in shared}
    return best


def _ids(packages: Sequence[Package]) -> list[list[str]]:
    return [[package.name, package.digest] for package in packages]


def upstream_version(version: str) -> str:
    """Return the upstream part of a Debian version: "3.13.5" for "3.13.5-2+deb13u5", "2.41" for "2.41-12"."""
    match = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", version)
    if match is None:
        raise BaseImageError(f"{version!r} of a Debian package contains no version to compare")
    return match[1]
