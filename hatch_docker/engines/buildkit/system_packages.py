"""Debian packages that apt installs in stages: the compiler's, and `runtime.packages` on a base that is not `debian:`.

apt runs all maintainer scripts. If the base has a known suite of Debian, the .deb files are in the context: the stages
need no mirror, and the versions are those of the image lock or of the archive's current snapshot. On other bases, such
as Ubuntu, apt downloads from the archives in the base's own configuration.
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
from hatch_docker.engines.model import HISTORY_PREFIX
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
    """Packages that apt installs in a stage. `packages`: those to install `names`; None if apt itself resolves them."""

    names: tuple[str, ...]
    packages: tuple[Package, ...] | None

    @property
    def to_install(self) -> Packages:
        """The packages for the Dockerfile."""
        return Packages(self.names, in_context=self.packages is not None)

    @property
    def contents(self) -> tuple[str, ...]:
        """The packages for the receipt."""
        packages = self.packages
        return self.names if packages is None else tuple(f"{found.name} {found.version}" for found in packages)

    def key(self, base: Base) -> str:
        """Return the cache key of the base with these packages."""
        found: Sequence[str] = self.names if self.packages is None else [package.digest for package in self.packages]
        return with_packages_key(base, found, digests=self.packages is not None)


@dataclass(frozen=True, slots=True)
class Compiler:
    """Root file system in which sdists are compiled: exactly one of `tree`, `debs` and `base` is set."""

    key: str
    tree: Path | None = None                  # a builder root, which is loaded as an image
    debs: Debs | None = None                  # packages to install in the image's base
    base: Base | None = None                  # build.base


def find_compiler(base: Base, packages: Sequence[str], ctx: Context) -> Compiler:
    """Return the compiler for a base, with `build.packages`; raises BuildError if there is none.

    It is `build.base`, if that is set. Else, on a base with apt, apt installs the compiler with maintainer scripts. For
    another base of a known suite, the builder root of the embedded engine is used.
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
            debs = _resolved_by_apt(base, (*COMPILER, *headers, *packages), ctx)
        return Compiler(debs.key(base), debs=debs)
    if not base.suite:
        raise BuildError(
            f"there is no compiler for base {base.name}, which is not Debian; use debian:<suite>, an image made from "
            "Debian, or set build.base to an image with a compiler"
        )
    if host_platform().architecture != base.platform.architecture:
        raise BuildError(
            f"the compiler for base {base.name} can be made only for this machine's architecture, not for "
            f"{base.platform}; use a base with apt, on which the compiler can be installed, or build on such a machine"
        )
    tree = builder_root(base.plan, base.platform, packages, ctx, suite=base.suite)
    return Compiler(tree.name, tree=tree)


def system_step(packages: Sequence[str]) -> Step:
    """Return `runtime.packages` as a step of the resolution, for a base that is not `debian:`."""
    return Step(tuple(packages), purpose="system")


def find_system(base: Base, ctx: Context) -> Debs | None:
    """Return the packages that `runtime.packages` adds to a base that is not `debian:`; None if there are none.

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
        return _resolved_by_apt(base, names, ctx)
    found = find_additions(base, system_step(names), ctx)
    return Debs(names, found) if found else None


def _resolved_by_apt(base: Base, names: Sequence[str], ctx: Context) -> Debs:
    """Return packages that the base's own apt resolves; raises ConfigError if there is an image lock."""
    if ctx.image_lock is not None:
        raise ConfigError(
            f"{ctx.image_lock.name} cannot pin {', '.join(sorted(set(names))[:3])}, ... for base {base.name}: "
            'its archive is not one of the known suites of Debian; set pins = "none" to use its current versions'
        )
    return Debs(tuple(sorted(set(names))), None)


def write_packages(debs: Debs, base: Base, directory: Path, ctx: Context) -> None:
    """Write the files that a stage with packages copies: apt's configuration, and the .deb files."""
    directory.mkdir(parents=True)
    (directory / "apt.conf").write_text(APT_CONF, encoding="utf-8")
    write_debs(base, debs.packages or (), directory, ctx)


def read_changes(directory: Path, base: Base, ctx: Context) -> list[Entry]:
    """Return the entries of the layer that `stage_diff` wrote; their contents are unpacked into `directory`."""
    outputs = [directory, directory / "capabilities", directory / "layer.tar"]
    # The stage ran foreign code: do not follow a symlink in its output, which could point to files of this machine.
    if any(path.is_symlink() or not path.exists() for path in outputs):
        raise BuildError(f"the builder exported nothing for {', '.join(base.plan.packages)}; is its disk full?")
    if capable := outputs[1].read_text(encoding="utf-8", errors="replace").split():
        ctx.progress.warn(f"{', '.join(capable)} on base {base.name}: file capabilities are not kept in the image")
    entries: list[Entry] = []
    with outputs[2].open("rb") as stream:
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
    """Return the facts about a layer of packages that `with_system` needs: directories, symlinks and users."""
    passwd = [entry.content for entry in entries if entry.path == "etc/passwd" and isinstance(entry.content, Path)]
    return {
        "directories": [entry.path for entry in entries if entry.kind == "directory"],
        "symlinks": {entry.path: entry.target for entry in entries if entry.kind == "symlink"},
        "users": read_users(passwd[0].read_text(encoding="utf-8", errors="replace")) if passwd else {},
    }


def with_system(base: Base, layer: Layer, fact: Mapping[str, Any], debs: Debs, created: int) -> Base:
    """Return the base with the layer of `runtime.packages` added; `fact`: from `layer_facts`."""
    addition = (layer, History(f"{HISTORY_PREFIX}system", ", ".join(debs.contents)))
    return replace(
        base, image=build_image(base.image, [addition], Settings(), created, {}),
        directories=base.directories.union(fact["directories"]), symlinks={**base.symlinks, **fact["symlinks"]},
        users={**base.users, **{name: (user, group) for name, (user, group) in fact["users"].items()}},
        kinds=(*base.kinds, "system"), contents=(*base.contents, debs.contents),
        hashes={**base.hashes, **{package.title: package.digest for package in debs.packages or ()}},
    )  # fmt: skip
