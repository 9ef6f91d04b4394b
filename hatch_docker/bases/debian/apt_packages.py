"""`runtime.packages` on a base with apt: selecting and downloading the .debs, which apt then installs offline.

The packages come from Debian's signed archive, as for a `debian:` base, and the image lock pins them. Only those
dependencies are added that the base does not have, or that it has in too old a version. apt and dpkg run in the base
and execute all maintainer scripts.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from hatch_docker.bases.debian.apt_config import parse_fields
from hatch_docker.bases.debian.archive import ArchiveFile, package_of
from hatch_docker.bases.debian.resolver import Package, Relation, is_met, parse_relations, version_key
from hatch_docker.bases.debian.steps import Step
from hatch_docker.bases.debian.suite import Suite, fetch_debs, open_debs, pin, with_snapshot
from hatch_docker.bases.model import Base
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError
from hatch_docker.oci.filesystem import merge_layers

RECIPE = 1
STATUS = "var/lib/dpkg/status"
STATUS_LIMIT = 16 << 20  # bytes; a desktop has 5 MB
_NO_FILE = {"filename": "", "size": "0", "sha256": "0" * 64}  # fields that status and control files do not have

Read = Callable[[Sequence[Package]], list[Package]]
"""Function that returns packages with their dependencies, conflicts and provides, read from their control files."""


def has_apt(base: Base, ctx: Context) -> bool:
    """Return whether the base has apt and dpkg."""
    return {"apt", "dpkg"} <= {package.name for package in installed(base, ctx)}


def installed(base: Base, ctx: Context) -> tuple[Package, ...]:
    """Return the packages in the dpkg database of a base, none if it has no dpkg. The result is kept in the store."""

    def read() -> list[Any]:
        entry = merge_layers(base.image.layers, _read_status_file).get(STATUS)
        text = entry.content.decode(errors="replace") if entry and isinstance(entry.content, bytes) else ""
        return [astuple(package) for package in read_status(text)]

    key = key_of("dpkg", RECIPE, [layer.diff_id for layer in base.image.layers])
    return tuple(Package(*row) for row in ctx.store.recall_or_make("dpkg", key, read))


def read_status(text: str) -> list[Package]:
    """Return the installed packages in the text of dpkg's status file; their `filename` is empty."""
    stanzas = map(parse_fields, text.split("\n\n"))
    known = (fields for fields in stanzas if fields.get("status", "").endswith(" installed"))
    return [package_of({**_NO_FILE, **fields}, "") for fields in known]


def _read_status_file(path: str, stream: BinaryIO) -> bytes | None:
    if path != STATUS:
        return None
    text = stream.read(STATUS_LIMIT + 1)
    if len(text) > STATUS_LIMIT:
        raise BaseImageError(f"/{STATUS} of the base has more than {STATUS_LIMIT >> 20} MB: refused")
    return text


def find_additions(base: Base, step: Step, ctx: Context) -> tuple[Package, ...]:
    """Return the packages that have to be added to a base for the names of a step, sorted by name.

    Raises BaseImageError if their dependencies cannot be met on the base, and RegistryError.
    """
    suite = Suite(base.plan, base.suite, base.platform.architecture, ctx)

    def found(indexes: Sequence[ArchiveFile]) -> tuple[Package, ...]:
        (offered,) = pin(suite, indexes, [step])
        diff_ids = [layer.diff_id for layer in base.image.layers]
        key = key_of("additions", RECIPE, diff_ids, step.names, [package.digest for package in offered])

        def choose() -> list[Any]:
            packages = select_additions(step.names, offered, installed(base, ctx), partial(_read, suite), base.name)
            return [astuple(package)[:7] for package in packages]

        return tuple(Package(*row) for row in ctx.store.recall_or_make("additions", key, choose))

    return with_snapshot(suite, found)


def _read(suite: Suite, packages: Sequence[Package]) -> list[Package]:
    """Download packages and return them with the relations in their control files."""
    known = []
    for package, deb in zip(packages, open_debs(suite, packages), strict=True):
        fields = parse_fields(deb.control.decode(errors="replace"))
        read = package_of({**fields, **_NO_FILE}, package.archive)
        known.append(replace(package, depends=read.depends, conflicts=read.conflicts, provides=read.provides))
    return known


def select_additions(
    names: Iterable[str], offered: Sequence[Package], base: Sequence[Package], read: Read, where: str
) -> list[Package]:
    """Return the packages to install for `names` and their dependencies, sorted by name.

    `offered`: the packages that can be installed. `base`: the packages of the base; they stay, unless another package
    needs a newer version. `where`: the name of the base, for errors. Raises BaseImageError if no offered package meets
    a dependency.
    """
    offers = {package.name: package for package in offered}
    have = {package.name: package for package in base}
    chosen: dict[str, Package] = {}
    wanted = {name: offers[name] for name in names if name in offers and name not in have}
    for name in names:
        if name not in have and name not in wanted and not is_met(have, (Relation(name),)):
            package = _offer((Relation(name),), offers, read)
            assert package is not None, name  # `offered` has a provider of every requested name
            wanted[package.name] = package
    while wanted:
        level = read([wanted[name] for name in sorted(wanted)])
        before = {package.name for package in level if package.name in have}
        have |= {package.name: package for package in level}
        chosen |= {package.name: package for package in level}
        wanted = {}
        for package in level:
            for group in parse_relations(package.depends):
                if not is_met(have, group):
                    found = _newer(package, group, _offer(group, offers, read), have, chosen, where)
                    wanted[found.name] = found
        # Other packages of the base must also be replaced: those that an added package conflicts with, and those that
        # need the old version of a replaced package.
        conflicts = [conflict for package in level for conflict, *_ in parse_relations(package.conflicts)]
        disturbed = {item.name for item in conflicts if item.name in have and item.holds(have[item.name].version)}
        for package in have.values():
            if any(name in package.depends for name in before):  # a quick test before parsing
                disturbed |= {package.name for group in parse_relations(package.depends) if not is_met(have, group)}
        wanted |= {name: offers[name] for name in sorted(disturbed - set(chosen)) if name in offers}
    return [chosen[name] for name in sorted(chosen)]


def _offer(group: Sequence[Relation], offers: Mapping[str, Package], read: Read) -> Package | None:
    """Return the package for the first alternative that is offered, else any offered package that provides one."""
    for option in group:
        package = offers.get(option.name)
        if package is not None and option.holds(package.version):
            return package
    for package in read(list(offers.values())):
        if is_met({package.name: package}, group):
            return package
    return None


def _newer(
    package: Package, group: Sequence[Relation], found: Package | None, have: Mapping[str, Package],
    chosen: Mapping[str, Package], where: str,
) -> Package:
    """Return `found`, the package for a dependency. Raises BaseImageError if it is None or would be a downgrade."""
    old = have.get(found.name) if found else None
    if found is None or found.name in chosen or (old and version_key(old.version) > version_key(found.version)):
        has = f", and the base has {old.name} {old.version}" if old else ""
        needs = " | ".join(map(str, group))
        raise BaseImageError(
            f"package {package.name} {package.version} needs {needs}{has}: base {where} and the mirror are of "
            "different dates; use a newer base, or another mirror"
        )
    return found


def write_debs(base: Base, packages: Sequence[Package], directory: Path, ctx: Context) -> None:
    """Copy the .debs of some packages into a directory, with their modification times.

    BuildKit transfers a file only if its name, size or time has changed.
    """
    suite = Suite(base.plan, base.suite, base.platform.architecture, ctx)
    for package, path in zip(packages, fetch_debs(suite, packages).values(), strict=True):
        shutil.copy2(path, directory / package.filename.rpartition("/")[2])
