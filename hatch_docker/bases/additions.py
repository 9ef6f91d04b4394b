"""Debian packages for a base that somebody else made: what its own apt has to be handed to ask nobody.

The packages come from Debian's signed archive, as those of a `debian:` base do, and by the project's lock; of what
they need, only what the base lacks, or has too old. dpkg runs there, with every maintainer script.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from hatch_docker.bases.apt import parse_fields
from hatch_docker.bases.archive import package_of
from hatch_docker.bases.model import Base
from hatch_docker.bases.resolve import Package, Relation, is_met, parse_relations, version_key
from hatch_docker.bases.suite import Archive, Step, fetch_debs, pin, with_snapshot
from hatch_docker.errors import BaseImageError
from hatch_docker.plan import DEBIAN_PYTHONS
from hatch_docker.store import key_of

if TYPE_CHECKING:
    from hatch_docker.bases.archive import IndexFile
    from hatch_docker.context import Context

RECIPE = 1
STATUS = "var/lib/dpkg/status"
STATUS_LIMIT = 16 << 20  # bytes; a desktop has 5 MB

Read = Callable[[Sequence[Package]], list[Package]]
"""Packages with what they depend on, conflict with and provide, as their own control files say."""


def has_apt(base: Base, ctx: Context) -> bool:
    """Whether the base can install packages by itself."""
    return {"apt", "dpkg"} <= {package.name for package in installed(base, ctx)}


def knows_archive(base: Base) -> bool:
    """Whether the base is of a suite whose packages can be handed to it."""
    return base.suite in DEBIAN_PYTHONS


def installed(base: Base, ctx: Context) -> tuple[Package, ...]:
    """What dpkg has installed in a base; nothing where there is no dpkg. Read once from its layers."""
    key = key_of("dpkg", RECIPE, [layer.diff_id for layer in base.image.layers])
    known = ctx.store.recall("dpkg", key)
    if known is None:
        from hatch_docker.oci.tree import listing

        entry = listing(base.image.layers, _look).get(STATUS)
        text = entry.content.decode(errors="replace") if entry and isinstance(entry.content, bytes) else ""
        known = [astuple(package) for package in _read_status(text)]
        ctx.store.remember("dpkg", key, known)
    return tuple(Package(*row) for row in known)


def _look(path: str, stream: BinaryIO) -> bytes | None:
    if path != STATUS:
        return None
    text = stream.read(STATUS_LIMIT + 1)
    if len(text) > STATUS_LIMIT:
        raise BaseImageError(f"/{STATUS} of the base has more than {STATUS_LIMIT >> 20} MB: refused")
    return text


def _read_status(text: str) -> Iterator[Package]:
    for stanza in text.split("\n\n"):
        fields = parse_fields(stanza)
        if fields.get("status", "").endswith(" installed"):
            yield package_of({"filename": "", "size": "0", "sha256": "0" * 64, **fields}, "")


def find_additions(base: Base, step: Step, ctx: Context) -> tuple[Package, ...]:
    """The packages that a step's names come to on a base, by name; nothing where it has them all.

    Raises BaseImageError where they do not fit on it, and RegistryError.
    """
    archive = Archive(base.plan, base.suite, base.platform.architecture, ctx)

    def found(indexes: Sequence[IndexFile]) -> tuple[Package, ...]:
        (offered,) = pin(archive, indexes, [step])
        diff_ids = [layer.diff_id for layer in base.image.layers]
        key = key_of("additions", RECIPE, diff_ids, step.names, [one.digest for one in offered])
        known = ctx.store.recall("additions", key)
        if known is None:
            packages = needed(step.names, offered, installed(base, ctx), lambda some: _read(archive, some), base.name)
            known = [astuple(package)[:7] for package in packages]
            ctx.store.remember("additions", key, known)
        return tuple(Package(*row) for row in known)

    return with_snapshot(archive, found)


def _read(archive: Archive, packages: Sequence[Package]) -> list[Package]:
    from hatch_docker.bases.deb import open_deb

    paths = fetch_debs(archive, packages)
    return [_with_relations(one, open_deb(paths[one.name], one.name).control) for one in packages]


def _with_relations(package: Package, control: bytes) -> Package:
    fields = {**parse_fields(control.decode(errors="replace")), "filename": "", "size": "0", "sha256": "0" * 64}
    read = package_of(fields, package.archive)
    return replace(package, depends=read.depends, conflicts=read.conflicts, provides=read.provides)


def needed(
    names: Iterable[str], offered: Sequence[Package], there: Sequence[Package], read: Read, where: str
) -> list[Package]:
    """Of the packages that are offered those that some names need beside what is there, sorted by name.

    What is there stays as it is, unless something needs a newer version of it. Raises BaseImageError, naming the
    base `where`, for a need that what is offered cannot meet.
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
        wanted |= _disturbed(have, chosen, level, before, offers)
    return [chosen[name] for name in sorted(chosen)]


def _offer(group: Sequence[Relation], offers: Mapping[str, Package], read: Read) -> Package | None:
    """The first alternative that is offered: by its name, else by what it provides."""
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
    """What is found for a need, if it is no step back."""
    old = have.get(found.name) if found else None
    if found is None or found.name in chosen or (old and version_key(old.version) > version_key(found.version)):
        has = f", and the base has {old.name} {old.version}" if old else ""
        needs = " | ".join(map(str, group))
        raise BaseImageError(
            f"package {package.name} {package.version} needs {needs}{has}: base {where} and the mirror are not of the "
            "same age; take a newer base, or another mirror"
        )
    return found


def _disturbed(
    have: Mapping[str, Package], chosen: Mapping[str, Package], level: Sequence[Package], replaced: Iterable[str],
    offers: Mapping[str, Package],
) -> dict[str, Package]:
    """What was there and goes neither with what is added nor with what was replaced, as it is newly offered."""
    conflicts = [conflict for package in level for conflict, *_ in parse_relations(package.conflicts)]
    found = {item.name for item in conflicts if item.name in have and item.holds(have[item.name].version)}
    for package in have.values():
        if any(name in package.depends for name in replaced):  # seldom: most depend on any version
            found |= {package.name for group in parse_relations(package.depends) if not is_met(have, group)}
    return {name: offers[name] for name in sorted(found - set(chosen)) if name in offers}


def write_debs(base: Base, packages: Sequence[Package], directory: Path, ctx: Context) -> None:
    """Write the .debs of some packages into a directory, with the times that they have in the store.

    A builder that has a file of the same name, size and time is not sent it again.
    """
    archive = Archive(base.plan, base.suite, base.platform.architecture, ctx)
    for package, path in zip(packages, fetch_debs(archive, packages).values(), strict=True):
        shutil.copy2(path, directory / package.filename.rpartition("/")[2])
