"""Bill: what an image consists of, and what of it needs what. The values that every SBOM format is written from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hatch_docker.plan.naming import normalised
from hatch_docker.project.licences import NO_LICENCE, Licence
from hatch_docker.release.purl import purl
from hatch_docker.release.sbom.inventory import RELEASES
from hatch_docker.release.sbom.requirements import Lines, spread
from hatch_docker.wheels.target import Target

if TYPE_CHECKING:
    from hatch_docker.engines.model import BuiltImage
    from hatch_docker.oci.model import Image
    from hatch_docker.plan.model import Plan

    Finds = Mapping[str, tuple[int, Mapping[str, Any]]]

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Component:
    """A package in the image. `ref` is its name in the document, `requires` the refs of what it needs.

    `hashes` are of the file that it came in, by CycloneDX's names; `sdist` is the SHA-256 of what it was built of.
    `inside` is what was compiled into it, `documents` the SBOMs of its own that could not be merged (path, SHA-256).
    """

    ref: str
    type: str
    name: str
    version: str
    purl: str = ""
    licence: Licence = NO_LICENCE
    supplier: str = ""
    hashes: Mapping[str, str] = field(default_factory=lambda: _NONE)
    requires: tuple[str, ...] = ()
    place: str = ""                            # its METADATA, in the image
    sdist: str = ""
    inside: tuple[Component, ...] = ()
    documents: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Bill:
    """An image, which `root` is, and its components. `created` is in seconds since the epoch.

    `complete` is False where the base has system packages that cannot be read.
    """

    root: Component
    digest: str
    created: int
    components: tuple[Component, ...]
    complete: bool


def make_bill(plan: Plan, built: BuiltImage, finds: Finds) -> Bill:
    """The bill of an image, of what its files say and what the engine knows of where they came from."""
    image, own = built.image, len(built.base.image.layers)
    release: Mapping[str, Any] = next((finds[path][1] for path in RELEASES if path in finds), {})
    system = list(_system(finds, release, built.base.hashes))
    python = list(_python(finds, plan, built))
    base = [component for number, component in (*system, *python) if number < own]
    runtime = [component for number, component in python if number >= own]
    added = [component.ref for number, component in system if number >= own]
    below = _base_component(built, release, [component.ref for component in base])
    interpreter = _interpreter(built)
    project = [one.ref for one in runtime if normalised(one.name) == normalised(plan.name)]
    root = Component(
        ref=_image_purl(plan, image), type="container", name=normalised(plan.name), version=plan.version,
        purl=_image_purl(plan, image), hashes={"SHA-256": image.digest.removeprefix("sha256:")},
        supplier=next((one.supplier for one in runtime if one.ref in project), ""),
        licence=next((one.licence for one in runtime if one.ref in project), NO_LICENCE),
        requires=(*(project or (one.ref for one in runtime)), below[0].ref, *added),
    )  # fmt: skip
    if interpreter:
        below[0] = replace(below[0], requires=(*below[0].requires, interpreter.ref))
    components = [*below, *([interpreter] if interpreter else []), *(one for _, one in system), *(c for _, c in python)]
    return Bill(root, image.digest, _created(image), tuple(components), bool(system))


def _created(image: Image) -> int:
    return int(datetime.fromisoformat(image.config_json["created"]).timestamp())


def _image_purl(plan: Plan, image: Image) -> str:
    return purl("oci", normalised(plan.name), image.digest, qualifiers={"arch": image.platform.architecture})


def _base_component(built: BuiltImage, release: Mapping[str, Any], refs: Sequence[str]) -> list[Component]:
    """The base and, where it says which it is, the distribution of Linux that it is made of."""
    base = built.base
    name, package = base.name, ""
    if base.plan.kind == "registry":
        from hatch_docker.oci.reference import parse_reference

        reference = parse_reference(base.plan.location)
        address = {"repository_url": reference.name, "tag": reference.tag}
        package = purl("oci", reference.repository.rpartition("/")[2], base.digest, qualifiers=address)
    elif base.plan.kind == "oci":
        name = "oci:" + name.rstrip("/").rpartition("/")[2].removeprefix("oci:")  # the rest may be somebody's home
    found = [Component(
        ref=package or f"base:{base.digest}", type="container", name=name, version=base.digest, purl=package,
        hashes={"SHA-256": base.digest.removeprefix("sha256:")}, requires=tuple(refs),
    )]  # fmt: skip
    if release.get("ID"):
        title = str(release.get("NAME") or release["ID"])
        version = str(release.get("VERSION_ID") or "")
        system = Component(f"os:{release['ID']}-{version}", "operating-system", release["ID"], version, supplier=title)
        found[0] = replace(found[0], requires=(system.ref, *refs))
        found.append(system)
    return found


def _interpreter(built: BuiltImage) -> Component | None:
    """A Python that no package brought, as that of the official python images."""
    interpreter = built.base.interpreter
    if not interpreter.path.startswith("/usr/local/"):
        return None
    name = purl("generic", "python", interpreter.version)
    return Component(
        name, "application", "python", interpreter.version, name, Licence("Python-2.0"),
        "Python Software Foundation", place=interpreter.path.removeprefix("/"),
    )  # fmt: skip


def _system(
    finds: Finds, release: Mapping[str, Any], hashes: Mapping[str, str]
) -> Iterator[tuple[int, Component]]:
    """The packages of the distribution, each with the number of its layer."""
    packages = [
        (number, find["type"], package)
        for number, find in finds.values() if find["kind"] == "system" for package in find["packages"]
    ]
    distribution = str(release.get("ID") or "")
    refs = {
        package["name"]: purl(
            kind, package["name"], package["version"], namespace=distribution or "debian",
            qualifiers={
                "arch": package["architecture"], "upstream": package["source"],
                "distro": f"{distribution}-{release['VERSION_ID']}" if release.get("VERSION_ID") else "",
            },
        )
        for _, kind, package in packages
    }
    providers = {name: refs[package["name"]] for _, _, package in packages for name in package["provides"]}
    licences = _copyrights(finds)
    for number, _, package in sorted(packages, key=lambda row: row[2]["name"]):
        ref = refs[package["name"]]
        needs = (
            next((target for name in names if (target := refs.get(name) or providers.get(name))), "")
            for names in package["requires"]
        )
        title = f"{package['name']} {package['version']} {package['architecture']}"
        digest = hashes.get(title, "").removeprefix("sha256:")
        licence = _licence(licences.get(package["name"], package["licence"]))
        yield number, Component(
            ref, "library", package["name"], package["version"], ref, licence, package["supplier"],
            {"SHA-256": digest} if digest else _NONE, tuple(sorted({*needs} - {"", ref})),
        )  # fmt: skip


def _licence(value: Mapping[str, Any]) -> Licence:
    return Licence(value["expression"], tuple(value["names"]))


def _copyrights(finds: Finds) -> dict[str, Mapping[str, Any]]:
    """The licence of each package that has a copyright file, or a link to that of another."""
    files = {find["of"]: find for _, find in finds.values() if find["kind"] == "copyright"}
    found = {}
    for name, find in files.items():
        target = files.get(find["like"].rpartition("/")[2], {}) if "like" in find else find
        if "licence" in target:
            found[name] = target["licence"]
    return found


def _python(finds: Finds, plan: Plan, built: BuiltImage) -> Iterator[tuple[int, Component]]:
    """The distributions of Python, each with the number of its layer."""
    own = len(built.base.image.layers)
    files = {normalised(one.name): one for one in built.pins}
    own_wheels = [*built.members, *([built.wheel] if built.wheel else [])]
    made = {normalised(note.filename.partition("-")[0]): note.sha256 for note in own_wheels}
    rows = sorted(
        (normalised(find["name"]), path, number, find) for path, (number, find) in finds.items()
        if find["kind"] == "python" and find["name"]
    )
    installed = {name: (path, find) for name, path, number, find in rows if number >= own}
    needs = _needs(installed, plan, Target(built.base.interpreter.version, built.image.platform, built.base.libc))
    refs: dict[str, str] = {}
    for _, path, _, find in sorted(rows, key=lambda row: (row[2] < own, row[1])):
        ref = purl("pypi", find["name"], find["version"])
        refs[path] = f"{ref}#{path.rpartition('/')[0]}" if ref in refs.values() else ref
    for name, path, number, find in rows:
        pin = files.get(name) if installed.get(name, ("",))[0] == path else None
        digest = pin.sha256 if pin and pin.is_wheel else ""
        if not pin and number >= own:
            digest = made.get(name, "")
        place = path.removesuffix("/METADATA").removesuffix("/PKG-INFO")
        parts, top, documents = _inside(place, refs[path], finds)
        edges = (refs[installed[other][0]] for other in needs.get(name, ()) if other in installed and number >= own)
        yield number, Component(
            refs[path], "library", find["name"], find["version"], purl("pypi", find["name"], find["version"]),
            _licence(find["licence"]), find["supplier"], {"SHA-256": digest} if digest else _NONE,
            (*sorted({*edges} - {refs[path]}), *top), path, pin.sha256 if pin and not pin.is_wheel else "",
            parts, documents,
        )  # fmt: skip


def _needs(
    installed: Mapping[str, tuple[str, Mapping[str, Any]]], plan: Plan, target: Target
) -> dict[str, set[str]]:
    """What each distribution asks for on this target, with the extras that somebody asks it for."""
    environment = {**target.marker_environment()}
    extras: dict[str, set[str]] = {name: set() for name in installed}
    lines = {name: Lines(find["requires"], environment) for name, (_, find) in installed.items()}
    # Expanded already, with the extras and the dependency groups of the plan.
    lines[normalised(plan.name)] = Lines(plan.lock.requirements, environment)
    spread(lines, extras, lambda name: name if name in extras else None)
    return {name: {one.name for one in found.hold(extras.get(name, set()))} for name, found in lines.items()}


def _inside(
    place: str, owner: str, finds: Finds
) -> tuple[tuple[Component, ...], tuple[str, ...], tuple[tuple[str, str], ...]]:
    """What a wheel's own SBOMs name, each once; the refs that it needs itself; the documents nobody understands."""
    parts: dict[tuple[str, str, str], Component] = {}
    top: set[str] = set()
    documents = []
    for path, (_, find) in sorted(finds.items()):
        if find["kind"] != "bundled" or find["of"] != place:
            continue
        if not find["format"]:
            documents.append((path, find["sha256"]))
        keys = [(part["name"], part["version"], part["purl"]) for part in find["parts"]]
        refs = [f"{owner}#{name}@{version}" + (f"?{purl}" if purl else "") for name, version, purl in keys]
        for key, ref, part in zip(keys, refs, find["parts"], strict=True):
            known = parts.get(key)
            needs = {refs[number] for number in part["requires"]} - {ref}
            parts[key] = Component(
                ref, part["type"], part["name"], part["version"], part["purl"],
                _licence(part["licence"]), part["supplier"], {**(known.hashes if known else {}), **part["hashes"]},
                tuple(sorted(needs | set(known.requires if known else ()))),
            )  # fmt: skip
        top |= {refs[number] for number in find["top"]}
    return tuple(parts[key] for key in sorted(parts)), tuple(sorted(top)), tuple(documents)
