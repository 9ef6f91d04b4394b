"""Where FROM comes from: a registry, a layout, or Debian itself; and what others need to know of a base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hatch_docker.errors import BaseImageError
from hatch_docker.oci.model import Image, Platform
from hatch_docker.plan import BasePlan

if TYPE_CHECKING:
    from hatch_docker.context import Context
    from hatch_docker.oci.layer import Compression


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python that runs in the image: its real path there (no symbolic link) and its full version."""

    path: str                                 # "/usr/bin/python3.13"
    version: str                              # "3.13.5"

    @property
    def short(self) -> str:
        """The version as in directory names and `requires-python`: "3.13"."""
        return ".".join(self.version.split(".")[:2])

    @property
    def cache_tag(self) -> str:
        """What stands in the name of a .pyc of this interpreter (PEP 3147): "cpython-313"."""
        return "cpython-" + self.short.replace(".", "")


@dataclass(frozen=True, slots=True)
class Base:
    """An image for one platform and what was read from it. Paths are relative to the root, without "./".

    `digest` is what the name stands for: the index's where there is one, as tools that look for newer bases
    compare it. `contents` and `kinds` have one item a layer, as in the receipt. `plan` and `source` lead to the
    same base for another architecture (`compiler_tree`).
    """

    plan: BasePlan
    name: str                                 # what the user typed: "debian:trixie"
    digest: str
    image: Image
    interpreter: Interpreter
    libc: tuple[str, str]                     # ("glibc", "2.41") or ("musl", "1.2")
    users: Mapping[str, tuple[int, int]]      # name -> user id, group id, from etc/passwd
    directories: frozenset[str]               # "usr", "usr/bin"; never to be written again by a layer of ours
    symlinks: Mapping[str, str] = field(default_factory=dict)  # "lib" -> "usr/lib"
    suite: str = ""                           # Debian's codename, "" where os-release names none
    contents: tuple[tuple[str, ...], ...] = ()           # ("libc6 2.41-12", ...) a layer
    kinds: tuple[str, ...] = ()               # "base" or "system" a layer
    cached: bool = True                       # nothing of it had to be made or downloaded
    hashes: Mapping[str, str] = field(default_factory=dict)    # debian: "libc6 2.41-12 amd64" -> the digest of its .deb
    source: str = ""                          # registry: repository@digest of the index that named this image

    @property
    def platform(self) -> Platform:
        """What the base runs on."""
        return self.image.platform

    @property
    def maker(self) -> str:
        """Whose interpreter compiles: "" for Debian's, which is signed; else the layers that it came with.

        A key for what it made. The interpreter of a stranger's image could make another thing of the same source,
        and says of itself what version it likes: what it makes is for that image only, and made in the sandbox.
        """
        from hatch_docker.store import key_of

        return "" if self.plan.kind == "debian" else key_of([layer.diff_id for layer in self.image.layers])


def open_base(plan: BasePlan, platform: Platform, ctx: Context, *, compression: Compression) -> Base:
    """The base of a plan for one platform; `compression` is that of layers which have to be made.

    Raises BaseImageError where the base cannot be had or holds no Python, RegistryError where a registry or
    a mirror refuses.
    """
    if plan.kind == "debian":
        from hatch_docker.bases.memory import recall_base, remember_base

        known = recall_base(plan, platform, compression, ctx)
        if known is not None:
            return known
        from hatch_docker.bases.debian import make_debian_base

        base = make_debian_base(plan, platform, ctx, compression=compression)
        remember_base(base, compression, ctx)
        return base
    if plan.kind == "registry":
        from hatch_docker.bases.registry import pull_base

        return pull_base(plan, platform, ctx)
    from hatch_docker.bases.layout import read_base

    return read_base(plan, platform, ctx)


def base_of(plan: BasePlan, image: Image, ctx: Context, *, digest: str = "", source: str = "") -> Base:
    """The base that an image is which somebody else made; `digest` is what its name stands for, if not it.

    Raises BaseImageError where there is no Python in it that can be used.
    """
    from hatch_docker.bases.facts import read_facts

    facts = read_facts(image, plan.name, ctx)
    sizes = zip(image.layers, facts.unpacked_sizes, strict=True)
    layers = tuple(replace(layer, unpacked_size=size) for layer, size in sizes)
    return Base(
        plan=plan, name=plan.name, digest=digest or image.digest, image=replace(image, layers=layers),
        interpreter=facts.interpreter, libc=facts.libc, users=facts.users, directories=facts.directories,
        symlinks=facts.symlinks, suite=facts.suite, contents=((),) * len(layers),
        kinds=("base",) * len(layers), source=source,
    )  # fmt: skip


def check_pinned(image: Image, plan: BasePlan, platform: Platform, ctx: Context) -> None:
    """Raise BaseImageError where a base is another image for a platform than the project's lock says."""
    entry = ctx.pins.find("base", {"name": plan.name}) if ctx.pins is not None and not ctx.pins.ask else None
    if entry is None:
        return
    rows = {one["platform"]: one for one in entry["platforms"]}
    pinned = rows.get(str(platform), {}).get("digest", "nothing")
    by_index = "digest" in entry and str(platform) not in rows  # such as of the sibling that compiles for another
    if pinned != image.digest and not by_index:
        raise BaseImageError(
            f"base {plan.name} is {image.digest} for {platform}, and {pinned} in the project's lock; "
            "put back what was there, or run `hatch-docker lock --upgrade`"
        )


def check_python(base: Base, requires_python: str) -> None:
    """Raise BaseImageError, naming both sides, where the base's Python is not one the project runs on."""
    from packaging.specifiers import SpecifierSet

    if not SpecifierSet(requires_python).contains(base.interpreter.version, prereleases=True):
        raise BaseImageError(
            f"the project needs Python {requires_python}, but base {base.name} has "
            f"{base.interpreter.version}; choose another `base` (or `python`), or widen `requires-python`"
        )


def base_tree(base: Base, ctx: Context) -> Path:
    """The base's files in a directory of the store, to run its interpreter from; made once."""
    from hatch_docker.oci.tree import extract
    from hatch_docker.store import key_of

    layers = base.image.layers
    key = key_of("base tree", 1, [layer.diff_id for layer in layers])
    return ctx.store.tree("base", key, lambda root: extract(layers, root))


def compiler_tree(base: Base, ctx: Context, *, compression: Compression) -> tuple[Path, Interpreter] | None:
    """A tree whose interpreter runs on this machine and compiles for `base`, and that interpreter.

    The base itself where the architectures agree, else the same base for this machine's architecture; None,
    with a warning, where there is no such thing: then the image goes without .pyc.
    """
    from hatch_docker.bases.sibling import compiler_base

    found = compiler_base(base, ctx, compression)
    return None if found is None else (base_tree(found, ctx), found.interpreter)


def real_path(symlinks: Mapping[str, str], path: str) -> str:
    """`path` (relative to the root) with the symbolic links of the base followed: "lib/x" -> "usr/lib/x".

    A layer that wrote "lib/x" would put a directory in the place of the base's link. Raises BaseImageError
    for a loop.
    """
    for _ in range(40):  # as many as Linux follows
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            head = "/".join(parts[:count])
            if head in symlinks:
                path = _joined(head, symlinks[head], parts[count:])
                break
        else:
            return path
    raise BaseImageError(f"/{path} leads through a loop of symbolic links in the base")


def _joined(link: str, target: str, rest: list[str]) -> str:
    start = [] if target.startswith("/") else link.split("/")[:-1]
    result: list[str] = []
    for part in [*start, *target.split("/"), *rest]:
        if part == "..":
            del result[-1:]
        elif part not in ("", "."):
            result.append(part)
    return "/".join(result)
