"""`hatch-docker outdated`: list newer versions of the pins in a lock, or of the contents of an image."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatch_docker.cli.commands.inspect import IMAGE
from hatch_docker.cli.common import (
    Commands,
    add_json,
    add_project,
    declare,
    print_json,
    print_lines,
    project_root,
    stderr_context,
)
from hatch_docker.core.context import REFRESH, Context
from hatch_docker.core.files import temporary_directory

if TYPE_CHECKING:
    from hatch_docker.build.outdated import Outdated, Pinned
    from hatch_docker.cli.inspect.reader import NamedImage

EXAMPLES = (
    ("hatch-docker outdated", "check hatch-docker.lock; without a lock, the image in dist/"),
    ("hatch-docker outdated registry.example/shop:1.2 --exit-code", "in a pipeline: fail if there is something newer"),
)
TITLES = {"base": "base", "debian": "Debian", "wheel": "Python"}


def add(commands: Commands) -> None:
    """Declare the command."""
    summary = "list what is newer than in the lock or the image: base, Debian packages, wheels"
    outdated = declare(commands, "outdated", summary, run, verbosity=True, examples=EXAMPLES)
    outdated.add_argument("image", nargs="?", default="", metavar="IMAGE",
                          help=IMAGE.replace("default: the only one", "default: the lock, else the only image"))
    add_project(outdated, option=True)
    outdated.add_argument("--platform", default="", help="the platform of the image; default: that of this machine")
    add_json(outdated, "docs/pins.md")
    outdated.add_argument("--exit-code", action="store_true", help="exit with status 1 if something is outdated")


def run(options: argparse.Namespace) -> int:
    """Run the command; with --exit-code return 1 if a version is outdated."""
    from hatch_docker.build.outdated import count_pins, find_outdated
    from hatch_docker.cli.inspect.reader import open_image
    from hatch_docker.config.load import load_config
    from hatch_docker.plan.model import BasePlan
    from hatch_docker.project.pyproject import read_pyproject

    root = project_root(options)
    tables = read_pyproject(root) if (root / "pyproject.toml").is_file() else {}
    config = load_config(tables.get("tool", {}).get("hatch-docker", {}), os.environ, root / "pyproject.toml")
    ctx = stderr_context(options)
    ctx = replace(ctx, environ={**ctx.environ, REFRESH: "1"})  # use no cached answers of earlier builds
    no_lock = options.image or not tables or config.pins == "none"
    source, pinned = ("", None) if no_lock else _pins_of_project(root, tables, ctx)
    if pinned is None:
        with open_image(options.image or str(root / "dist"), options.platform, ctx) as named:
            source, pinned = named.name, list(_pins_of_image(named, ctx))
    debian = config.debian
    mirrors = BasePlan("debian", "", "", debian.mirror, debian.security_mirror,
                       check_valid_until=debian.check_valid_until)  # fmt: skip
    found = find_outdated(pinned, mirrors, root, ctx)
    if options.json:
        rows = [{**asdict(item.pinned), "newest": item.newest, "reason": item.reason} for item in found]
        print_json({"schema": 1, "of": source, "compared": count_pins(pinned), "outdated": rows})
    else:
        print_lines(_lines(source, count_pins(pinned), found))
    return int(bool(found) and options.exit_code)


def _pins_of_project(root: Path, tables: Any, ctx: Context) -> tuple[str, list[Pinned] | None]:
    """Return the name of the image lock, its pins and those of the dependency lock; "" and None without image lock."""
    from hatch_docker.build.lock import open_lock
    from hatch_docker.build.outdated import pins_of_lock, pins_of_plans
    from hatch_docker.build.plans import open_plans
    from hatch_docker.build.project import open_project

    lock = open_lock(root, tables, os.environ)
    if not lock.entries:
        return "", None
    with temporary_directory() as temporary:
        project = open_project(root, os.environ, temporary)
        plans, locked = open_plans(project, os.environ, all_images=True)
        pinned = [*pins_of_lock(lock.entries),
                  *pins_of_plans(plans, lock.entries, root, replace(ctx, image_lock=locked.image_lock))]  # fmt: skip
    return lock.path.name, pinned


def _pins_of_image(named: NamedImage, ctx: Context) -> Iterator[Pinned]:
    """Yield the versions in an image: the base (from labels) and the packages, without the project itself."""
    from packaging.utils import canonicalize_name

    from hatch_docker.build.outdated import Pinned
    from hatch_docker.cli.inspect.model import BASE, PROJECT
    from hatch_docker.oci.model import DIGEST
    from hatch_docker.plan.naming import PREFIX

    contents = named.contents
    labels = {**contents.labels, **(contents.image.manifest_json.get("annotations") or {})}
    base, digest = labels.get(f"{PREFIX}base.name", ""), str(labels.get(f"{PREFIX}base.digest", ""))
    rebuild = "hatch-docker build" if contents.by_hatch_docker else "build the image again"
    rebase = "hatch-docker rebase" if contents.by_hatch_docker else rebuild
    suite = re.fullmatch(r"debian:([a-z]+)", base) or re.match(r"Debian .*?\b([a-z]+)(?:/sid)?\)?$", contents.system)
    if "/" in base and DIGEST.fullmatch(digest):  # the base is in a registry; other bases consist of packages
        yield Pinned("base", "", base, digest, rebase)
    packages = [package for package in contents.packages if package.type == "deb"]
    if packages and not suite:
        system = contents.system or "an unknown system"
        ctx.progress.warn(f"{named.name} has packages of {system}: only those of Debian are compared")
    for package in packages if suite else ():
        place = f"{suite[1]} {contents.image.platform.architecture}" if suite else ""
        yield Pinned("debian", place, package.name, package.version, rebase if package.kind == BASE else rebuild)
    for package in contents.packages:
        if package.type == "python" and package.kind != PROJECT and package.version:
            yield Pinned("wheel", contents.python, canonicalize_name(package.name), package.version, rebuild)


def _lines(source: str, compared: int, found: Sequence[Outdated]) -> Iterator[str]:
    """Yield the table of outdated versions, and the commands that update them. `source`: the lock or image."""
    from hatch_docker.build.outdated import count_pins

    if not found:
        yield f"{source}: nothing is outdated ({compared} compared)"
        return
    rows = [("", "NAME", "HAS", "NEWEST", "WHY")]
    for item in found:
        has, newest = (text[:19] if item.pinned.kind == "base" else text for text in (item.pinned.version, item.newest))
        title = f"{TITLES[item.pinned.kind]} {item.pinned.place}".rstrip()
        rows.append((title, item.pinned.name, has, newest or "-", item.reason))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in dict.fromkeys(rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        yield "  ".join([*cells, row[-1]]).rstrip()
    number = count_pins(item.pinned for item in found)
    urgent = count_pins(item.pinned for item in found if item.reason == "security")
    yield f"{source}: {number} of {compared} outdated{f', {urgent} with a security fix' if urgent else ''}"
    for remedy in dict.fromkeys(item.pinned.remedy for item in found):
        yield f"  {remedy}"
