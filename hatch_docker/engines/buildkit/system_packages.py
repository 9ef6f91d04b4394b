"""Debian packages in stages: those that make a base a compiler, and `runtime.packages` on a base of others.

apt installs them there, with every maintainer script. Where Debian's archive is known, their .debs are in the
context: no stage asks a mirror, and versions are those of the lock or of the day's snapshot. On another base, such as
one made from Ubuntu, apt asks the archives that the base itself names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hatch_docker.bases.debian.apt_packages import find_additions, has_apt, write_debs
from hatch_docker.bases.debian.base import builder_root
from hatch_docker.bases.debian.base_cache import note_used
from hatch_docker.bases.debian.resolver import Package
from hatch_docker.bases.debian.steps import Step, builder_step
from hatch_docker.bases.image import note_builder, tree_key
from hatch_docker.bases.inspection import read_users
from hatch_docker.bases.model import Base
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BaseImageError, BuildError, ConfigError
from hatch_docker.core.streams import pieces
from hatch_docker.engines.buildkit.dockerfile import COMPILER, Packages
from hatch_docker.engines.layer_cache import with_packages_key
from hatch_docker.engines.model import OURS
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.make_image import Settings, build_image
from hatch_docker.oci.model import History, Layer, host_platform
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.oci.tar import read_tar
from hatch_docker.plan.model import DEBIAN_PYTHONS

APT_CONF = """\
// For apt-get in a stage: no documentation, no index of packages, no log.
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Log::Terminal "";
Dir::Log::History "";
Dir::Log::Planner "";
DPkg::Options {
    "--log=/dev/null"; "--force-unsafe-io"; "--force-confold";
    "--path-exclude=/usr/share/doc/*"; "--path-include=/usr/share/doc/*/copyright";
    "--path-exclude=/usr/share/man/*"; "--path-exclude=/usr/share/info/*"; "--path-exclude=/usr/share/locale/*";
    "--path-exclude=/usr/share/lintian/*";
};
"""


@dataclass(frozen=True, slots=True)
class Debs:
    """Packages that apt installs in a stage: the names asked for, and the packages; None if apt finds them itself."""

    names: tuple[str, ...]
    packages: tuple[Package, ...] | None

    @property
    def rendered(self) -> Packages:
        """The packages as the Dockerfile has them."""
        return Packages(self.names, given=self.packages is not None)

    @property
    def contents(self) -> tuple[str, ...]:
        """The packages as the receipt has them."""
        packages = self.packages
        return self.names if packages is None else tuple(f"{found.name} {found.version}" for found in packages)

    def key(self, base: Base) -> str:
        """Return the key of the base with them."""
        found: Sequence[str] = self.names if self.packages is None else [package.digest for package in self.packages]
        return with_packages_key(base, found, given=self.packages is not None)


@dataclass(frozen=True, slots=True)
class Compiler:
    """Place where sdists are compiled: a builder root that is loaded as an image, the base with packages, or another.
    """

    key: str
    tree: Path | None = None
    debs: Debs | None = None
    base: Base | None = None                  # build.base


def find_compiler(base: Base, packages: Sequence[str], ctx: Context) -> Compiler:
    """Return the compiler for a base, with `build.packages`; raises BuildError where there is none.

    It is `build.base`, if the project names one. A base with apt becomes one itself, so that maintainer scripts run;
    any other of a known suite gets the builder root of the embedded engine.
    """
    if base.builder and base.builder.plan.kind != "debian":
        note_builder(base.builder, ctx)
        return Compiler(tree_key(base.builder), base=base.builder)
    base = base.builder or base
    if base.plan.kind != "debian" and has_apt(base, ctx):
        if base.suite in DEBIAN_PYTHONS:
            step = builder_step(base.plan, base.suite, packages)
            debs = Debs(step.names, find_additions(base, step, ctx))
            note_used(((package.title, package.digest) for package in debs.packages or ()), base.suite, ctx)
        else:
            headers = [] if base.interpreter.path.startswith("/usr/local/") else [f"python{base.interpreter.short}-dev"]
            debs = _by_itself(base, (*COMPILER, *headers, *packages), ctx)
        return Compiler(debs.key(base), debs=debs)
    if not base.suite:
        raise BuildError(
            f"there is no compiler for base {base.name}, which is not Debian; use debian:<suite>, an image made from "
            "Debian, or name an image with a compiler: build.base"
        )
    if host_platform().architecture != base.platform.architecture:
        raise BuildError(
            f"the compiler for base {base.name} can be made only for this machine's architecture, not for "
            f"{base.platform}; use a base with apt, on which the compiler can be installed, or build on such a machine"
        )
    tree = builder_root(base.plan, base.platform, packages, ctx, suite=base.suite)
    return Compiler(tree.name, tree=tree)


def system_step(packages: Sequence[str]) -> Step:
    """Return `runtime.packages` on a base of others as a step of the resolution."""
    return Step(tuple(packages), purpose="system")


def find_system(base: Base, ctx: Context) -> Debs | None:
    """Return the packages that `runtime.packages` add to a base of others; None if they add nothing.

    Raises BaseImageError for a base without apt.
    """
    names = base.plan.packages
    if base.plan.kind == "debian" or not names:
        return None
    if not has_apt(base, ctx):
        raise BaseImageError(
            f"tool.hatch-docker.runtime.packages: base {base.name} has no apt to install them; use "
            'base = "debian:trixie", which needs none, or an image made from Debian'
        )
    if base.suite not in DEBIAN_PYTHONS:
        return _by_itself(base, names, ctx)
    found = find_additions(base, system_step(names), ctx)
    return Debs(names, found) if found else None


def _by_itself(base: Base, names: Sequence[str], ctx: Context) -> Debs:
    if ctx.image_lock is not None:
        raise ConfigError(
            f"{ctx.image_lock.name} cannot pin {', '.join(sorted(set(names))[:3])}, ... for base {base.name}: "
            'its archive is not one of the known suites of Debian; set pins = "none" to use its current versions'
        )
    return Debs(tuple(sorted(set(names))), None)


def write_packages(debs: Debs, base: Base, directory: Path, ctx: Context) -> None:
    """Write the files that a stage with packages copies."""
    directory.mkdir(parents=True)
    (directory / "apt.conf").write_text(APT_CONF, encoding="utf-8")
    write_debs(base, debs.packages or (), directory, ctx)


def read_changes(directory: Path, base: Base, ctx: Context) -> list[Entry]:
    """Return the entries of a layer that `stage_diff` wrote, their contents in files beside it."""
    made = [directory, directory / "capabilities", directory / "layer.tar"]
    # Foreign code ran where this was made: a link in it must not lead to files of this machine.
    if any(path.is_symlink() or not path.exists() for path in made):
        raise BuildError(f"the builder exported nothing for {', '.join(base.plan.packages)}; is its disk full?")
    if capable := made[1].read_text(encoding="utf-8", errors="replace").split():
        ctx.progress.warn(f"{', '.join(capable)} on base {base.name}: file capabilities are not kept in the image")
    entries: list[Entry] = []
    with made[2].open("rb") as stream:
        for number, (entry, content) in enumerate(read_tar(stream)):
            entry = replace(entry, mtime=SOURCE_DATE)
            if content is not None:
                place = directory / str(number)
                with place.open("wb") as out:
                    out.writelines(pieces(content))
                entry = replace(entry, content=place)
            entries.append(entry)
    return entries


def layer_facts(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the facts that a base remembers of a layer on it."""
    passwd = [entry.content for entry in entries if entry.path == "etc/passwd" and isinstance(entry.content, Path)]
    return {
        "directories": [entry.path for entry in entries if entry.kind == "directory"],
        "symlinks": {entry.path: entry.target for entry in entries if entry.kind == "symlink"},
        "users": read_users(passwd[0].read_text(encoding="utf-8", errors="replace")) if passwd else {},
    }


def with_system(base: Base, layer: Layer, fact: Mapping[str, Any], debs: Debs, created: int) -> Base:
    """Return the base with the layer of `runtime.packages`, which is one of the base's layers from here on."""
    addition = (layer, History(f"{OURS}system", ", ".join(debs.contents)))
    return replace(
        base, image=build_image(base.image, [addition], Settings(), created, {}),
        directories=base.directories.union(fact["directories"]), symlinks={**base.symlinks, **fact["symlinks"]},
        users={**base.users, **{name: (user, group) for name, (user, group) in fact["users"].items()}},
        kinds=(*base.kinds, "system"), contents=(*base.contents, debs.contents),
        hashes={**base.hashes, **{package.title: package.digest for package in debs.packages or ()}},
    )  # fmt: skip
