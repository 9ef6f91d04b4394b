"""Layers of wheels: each layer contains wheels that are installed into the image's virtual environment."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hatch_docker.bases.model import Base, Interpreter
from hatch_docker.bases.open import compiler_tree
from hatch_docker.bases.partial_tree import watch, with_whole_trees
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import WheelError
from hatch_docker.core.text import abbreviate, plural, sanitize
from hatch_docker.engines.layer_cache import (
    layer_by_key,
    layer_title,
    programs_key,
    recall_layer,
    wheel_facts_key,
    wheels_layer_key,
)
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.model import Layer
from hatch_docker.oci.tar import Entry
from hatch_docker.wheels.install.archive import RecordError, WheelArchive
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.install.slim import NONE, Rules
from hatch_docker.wheels.target import Pin

LEFT_OUT = "left out"
UNCOMPILED = "uncompiled"
RECORD_FAULTS = "record-faults"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel to install. `open`: returns the path of the file, and fetches or builds it first if necessary."""

    title: str                                # "numpy 2.4.0", for receipt and history
    filename: str
    digest: str
    open: Callable[[], Path]
    rules: Rules = NONE                       # the files to leave out
    published: bool = False                   # its digest comes from an index or a lock

    @property
    def identity(self) -> object:
        """The part of a layer's key for this wheel: its digest, and its rules if there are any."""
        return [self.digest, *self.rules] if self.rules.leave_out else self.digest


@dataclass(frozen=True, slots=True)
class Site:
    """The virtual environment of an image: its base, its layout, and the compression of its layers."""

    base: Base
    venv: VenvTarget
    compression: Compression
    ctx: Context


def recall_wheels(site: Site, wheels: Sequence[Wheel], *, venv: bool) -> Layer | None:
    """Return the cached layer of some wheels; None without it, or without the facts that `check_wheels` needs."""
    if any(known_files(site.venv, wheel.digest, site.ctx, wheel.rules) is None for wheel in wheels):
        return None
    return recall_layer(_key(site, wheels, venv), site.compression, site.ctx)


def make_wheels(site: Site, wheels: Sequence[Wheel], *, venv: bool) -> tuple[Layer, bool]:
    """Return the layer of some wheels with their .pyc files, and whether it was cached.

    `venv`: add the virtual environment's own files. Raises WheelError for an invalid wheel; a wrong RECORD of a
    published wheel is corrected.
    """
    if (found := recall_wheels(site, wheels, venv=venv)) is not None:
        return found, True
    with site.ctx.progress.task(layer_title([wheel.title for wheel in wheels]), part=True):
        try:
            return with_whole_trees(lambda: _make_layer(site, wheels, venv))
        except RecordError:
            for wheel in wheels:
                if wheel.published:
                    find_record_faults(wheel.open(), wheel.filename, wheel.digest, site.ctx)
            return with_whole_trees(lambda: _make_layer(site, wheels, venv))


def _make_layer(site: Site, wheels: Sequence[Wheel], venv: bool) -> tuple[Layer, bool]:
    from hatch_docker.wheels.install import venv as install

    key, ctx = _key(site, wheels, venv), site.ctx
    entries: list[list[Entry]] = []           # a list for each wheel
    for wheel in wheels:
        tally: dict[str, list[int]] = {}
        hashes: dict[str, str] = {}
        entries.append(install.wheel_entries(
            wheel.open(), site.venv, filename=wheel.filename, warn=ctx.progress.warn, rules=wheel.rules, tally=tally,
            hashes=hashes, faults=[] if wheel.published and record_faults(wheel.digest, ctx) else None,
        ))
        if wheel.rules.leave_out:
            ctx.store.remember(LEFT_OUT, wheel_facts_key(site.venv, wheel.digest, wheel.rules), tally)
        remember_files(site.venv, wheel.digest, hashes, ctx, wheel.rules)
        hashes.clear()
    compiler = _compiler(site)
    if compiler is None:
        key = key_of(key, "sources only")

    def make() -> list[Entry]:
        from hatch_docker.bases.bytecode import compile_sources
        from hatch_docker.wheels.builder.sandbox import run_at

        by_path = {entry.path: entry for entry in install.venv_entries(site.venv)} if venv else {}
        for group in entries:
            by_path |= {entry.path: entry for entry in group}
        if compiler is not None:
            units = [install.python_sources(group, site.venv) for group in entries]
            trusted = not site.base.interpreter_trust_key and not ctx.store.uses_shared
            total, title = sum(map(len, units)), abbreviate([wheel.title for wheel in wheels])
            with ctx.progress.task(f"compiling {title}", total, unit="modules", part=True) as task:
                compiled = watch(compiler[0], ctx, lambda: compile_sources(
                    units, *compiler, sandbox=run_at, trusted=trusted, advance=task.advance
                ))
            for wheel, group in zip(wheels, entries, strict=True):
                note_uncompiled(site.venv, wheel.digest, group, compiled, ctx, wheel.rules)
                by_path |= {entry.path: entry for entry in install.bytecode_entries(group, compiled, site.venv)}
        return list(by_path.values())

    return layer_by_key(key, site.compression, ctx, make)


def find_record_faults(path: Path, filename: str, digest: str, ctx: Context) -> Sequence[str]:
    """Return the faults of a wheel's RECORD. All files of the wheel are read; the result is cached by its digest."""
    return ctx.store.recall_or_make(
        RECORD_FAULTS, key_of(digest), lambda: WheelArchive(path, filename, repair=True).faults
    )


def record_faults(digest: str, ctx: Context) -> Sequence[str]:
    """Return the cached faults of a wheel's RECORD, () if there are none or it was not checked."""
    return ctx.store.recall(RECORD_FAULTS, key_of(digest)) or ()


def check_records(pins: Iterable[Pin], ctx: Context, *, refuse: bool) -> None:
    """Print a warning for each wheel with a wrong RECORD; with `refuse`, raise WheelError instead.

    Call it after the layers are made, because that finds the faults.
    """
    for pinned in pins:
        faults = record_faults(f"sha256:{pinned.sha256}", ctx)
        if not faults:
            continue
        others = f", and {plural(len(faults) - 1, 'other fault')}" if len(faults) > 1 else ""
        line = f"wheel {pinned.filename} has a wrong RECORD: {sanitize(faults[0])}{others}"
        if refuse:
            raise WheelError(f'{line}; pin another version, or leave out wheel-records = "refuse"')
        ctx.progress.warn(f"{line}; its own hash is correct, and the image has a corrected RECORD")


def _compiler(site: Site) -> tuple[Path, Interpreter] | None:
    """Return the tree and interpreter that byte-compile; None, with a warning, if they need a missing sandbox."""
    from hatch_docker.wheels.builder.sandbox import cached_sandbox_error

    compiler = compiler_tree(site.base, site.ctx, compression=site.compression)
    if compiler is not None and site.base.interpreter_trust_key and (reason := cached_sandbox_error(site.ctx)):
        site.ctx.progress.warn(
            f"no .pyc, so the image will start more slowly: the Python of {site.base.name} runs in the sandbox only; "
            f"{reason}"
        )
        return None
    return compiler


def _key(site: Site, wheels: Sequence[Wheel], venv: bool) -> str:
    return wheels_layer_key(site.base, site.venv, [wheel.identity for wheel in wheels], own_files=venv)


def remember_files(venv: VenvTarget, digest: str, files: Mapping[str, str], ctx: Context, rules: Rules = NONE) -> None:
    """Store the files of a wheel, without those that `rules` leave out, as path to hash."""
    ctx.store.remember("files", wheel_facts_key(venv, digest, rules), files)


def known_files(venv: VenvTarget, digest: str, ctx: Context, rules: Rules = NONE) -> Mapping[str, str] | None:
    """Return the files of a wheel as path to hash, None if they are not in the cache."""
    files: Mapping[str, str] | None = ctx.store.recall("files", wheel_facts_key(venv, digest, rules))
    return files


def note_uncompiled(
    venv: VenvTarget, digest: str, entries: Sequence[Entry], compiled: Container[str], ctx: Context, rules: Rules = NONE
) -> None:
    """Store the modules of a wheel that the base's Python cannot compile. `compiled`: the paths of all .pyc files."""
    from hatch_docker.bases.bytecode import bytecode_path
    from hatch_docker.wheels.install.venv import python_sources

    sources = (path for path, _ in python_sources(entries, venv))
    if lacking := [path for path in sources if bytecode_path(path, venv.interpreter) not in compiled]:
        ctx.store.remember(UNCOMPILED, wheel_facts_key(venv, digest, rules), sorted(lacking))


def uncompiled(venv: VenvTarget, digest: str, ctx: Context, rules: Rules = NONE) -> Sequence[str]:
    """Return the modules of a wheel whose compilation failed (SyntaxError), from the cache."""
    return ctx.store.recall(UNCOMPILED, wheel_facts_key(venv, digest, rules)) or ()


def left_out(site: Site, wheel: Wheel) -> Mapping[str, Sequence[int]]:
    """Return the files left out of a wheel as kind to (files, bytes). Call it after the wheel's layer is made."""
    if not wheel.rules.leave_out:
        return {}
    return site.ctx.store.recall(LEFT_OUT, wheel_facts_key(site.venv, wheel.digest, wheel.rules)) or {}


def check_wheels(site: Site, wheels: Sequence[Wheel]) -> frozenset[str]:
    """Return the names of the environment's programs; raises WheelError if two wheels contain the same path.

    Call it after the layers are made, because that stores the files of each wheel.
    """

    def find() -> list[str]:
        from hatch_docker.wheels.install.venv import check_owners

        files: dict[str, Mapping[str, str]] = {}
        for wheel in wheels:
            known = known_files(site.venv, wheel.digest, site.ctx, wheel.rules)
            if known is None:
                raise WheelError(f"the cache no longer has the files of {wheel.filename}; build again")
            files[wheel.title] = known
        check_owners(files)
        directory, paths = f"{site.venv.root}/bin/", {path for known in files.values() for path in known}
        return sorted(path.removeprefix(directory) for path in paths if path.startswith(directory))

    key = programs_key(site.venv, [wheel.identity for wheel in wheels])
    return frozenset(site.ctx.store.recall_or_make("programs", key, find))
