"""Debian packages added to an image that has apt: the .debs that its own apt installs without a network.

The packages come from Debian's signed archive, as those of a `debian:` base do, and are pinned by the image lock. Of
their dependencies, only those are added that the base lacks or has in a version that is too old. dpkg runs in the
base, with every maintainer script.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, replace
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
_NO_FILE = {"filename": "", "size": "0", "sha256": "0" * 64}  # fields that a status or control file lacks

Read = Callable[[Sequence[Package]], list[Package]]
"""Function that returns packages with their dependencies, conflicts and provides, read from their control files."""


def has_apt(base: Base, ctx: Context) -> bool:
    """Return whether the base can install packages by itself."""
    return {"apt", "dpkg"} <= {package.name for package in installed(base, ctx)}


def installed(base: Base, ctx: Context) -> tuple[Package, ...]:
    """Return the packages that dpkg has installed in a base, none without dpkg; its layers are read once."""

    def read() -> list[Any]:
        entry = merge_layers(base.image.layers, _look).get(STATUS)
        text = entry.content.decode(errors="replace") if entry and isinstance(entry.content, bytes) else ""
        return [astuple(package) for package in read_status(text)]

    key = key_of("dpkg", RECIPE, [layer.diff_id for layer in base.image.layers])
    return tuple(Package(*row) for row in ctx.store.remembered("dpkg", key, read))


def read_status(text: str) -> list[Package]:
    """Return the installed packages in a status file of dpkg, whose files are not known."""
    stanzas = map(parse_fields, text.split("\n\n"))
    known = (fields for fields in stanzas if fields.get("status", "").endswith(" installed"))
    return [package_of({**_NO_FILE, **fields}, "") for fields in known]


def _look(path: str, stream: BinaryIO) -> bytes | None:
    if path != STATUS:
        return None
    text = stream.read(STATUS_LIMIT + 1)
    if len(text) > STATUS_LIMIT:
        raise BaseImageError(f"/{STATUS} of the base has more than {STATUS_LIMIT >> 20} MB: refused")
    return text


def find_additions(base: Base, step: Step, ctx: Context) -> tuple[Package, ...]:
    """Return the packages that the names of a step add to a base, sorted by name; none if it has them all.

    Raises BaseImageError if they do not fit on the base, and RegistryError.
    """
    suite = Suite(base.plan, base.suite, base.platform.architecture, ctx)

    def found(indexes: Sequence[ArchiveFile]) -> tuple[Package, ...]:
        (offered,) = pin(suite, indexes, [step])
        diff_ids = [layer.diff_id for layer in base.image.layers]
        key = key_of("additions", RECIPE, diff_ids, step.names, [package.digest for package in offered])

        def choose() -> list[Any]:
            packages = needed(step.names, offered, installed(base, ctx), lambda some: _read(suite, some), base.name)
            return [astuple(package)[:7] for package in packages]

        return tuple(Package(*row) for row in ctx.store.remembered("additions", key, choose))

    return with_snapshot(suite, found)


def _read(suite: Suite, packages: Sequence[Package]) -> list[Package]:
    """Return packages with the relations in their own control files."""
    known = []
    for package, deb in zip(packages, open_debs(suite, packages), strict=True):
        fields = parse_fields(deb.control.decode(errors="replace"))
        read = package_of({**fields, **_NO_FILE}, package.archive)
        known.append(replace(package, depends=read.depends, conflicts=read.conflicts, provides=read.provides))
    return known


def needed(
    names: Iterable[str], offered: Sequence[Package], there: Sequence[Package], read: Read, where: str
) -> list[Package]:
    """Return those of the packages `offered` that `names` need beside the packages `there`, sorted by name.

    A package that is there stays as it is, unless another one needs a newer version of it. Raises BaseImageError,
    naming the base `where`, for a dependency that no offered package meets.
    """
    offers = {package.name: package for package in offered}
    have = {package.name: package for package in there}
    chosen: dict[str, Package] = {}
    wanted = {name: offers[name] for name in names if name in offers and name not in have}
    for name in names:
        if name not in have and name not in wanted and not is_met(have, (Relation(name),)):
            package = _offer((Relation(name),), offers, read)
            assert package is not None, name  # the archive's resolution has it
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
        # Packages of the base must be replaced too if an added one conflicts with them, or if they need a replaced one.
        conflicts = [conflict for package in level for conflict, *_ in parse_relations(package.conflicts)]
        disturbed = {item.name for item in conflicts if item.name in have and item.holds(have[item.name].version)}
        for package in have.values():
            if any(name in package.depends for name in before):  # seldom: most depend on any version
                disturbed |= {package.name for group in parse_relations(package.depends) if not is_met(have, group)}
        wanted |= {name: offers[name] for name in sorted(disturbed - set(chosen)) if name in offers}
    return [chosen[name] for name in sorted(chosen)]


def _offer(group: Sequence[Relation], offers: Mapping[str, Package], read: Read) -> Package | None:
    """Return the first alternative that is offered: by its name, else by what a package provides."""
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
    """Return the package found for a dependency; raises BaseImageError if it is none, or older than what is there."""
    old = have.get(found.name) if found else None
    if found is None or found.name in chosen or (old and version_key(old.version) > version_key(found.version)):
        has = f", and the base has {old.name} {old.version}" if old else ""
        needs = " | ".join(map(str, group))
        raise BaseImageError(
            f"package {package.name} {package.version} needs {needs}{has}: base {where} and the mirror are not of the "
            "same age; take a newer base, or another mirror"
        )
    return found


def write_debs(base: Base, packages: Sequence[Package], directory: Path, ctx: Context) -> None:
    """Write the .debs of some packages into a directory, with the times that they have in the store.

    BuildKit does not transfer a file again if it has one with the same name, size and time.
    """
    suite = Suite(base.plan, base.suite, base.platform.architecture, ctx)
    for package, path in zip(packages, fetch_debs(suite, packages).values(), strict=True):
        shutil.copy2(path, directory / package.filename.rpartition("/")[2])
