"""The value Sbom: the components of an image and their dependencies. `formats` writes it as CycloneDX and SPDX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker.engines.model import BuiltImage, LayerInfo
from hatch_docker.oci.model import Image, Layer
from hatch_docker.plan.model import Plan
from hatch_docker.project.licences import NO_LICENCE, Licence
from hatch_docker.release.purl import base_purl, purl
from hatch_docker.release.sbom.inventory import RELEASES
from hatch_docker.release.sbom.requirements import Requirements, spread_extras
from hatch_docker.wheels.target import Target, target_of

Findings = Mapping[str, tuple[int, Mapping[str, Any]]]
"""Findings in an image: path -> (number of the layer, finding), from `read_inventory`."""


@dataclass(frozen=True, slots=True)
class Component:
    """A component of an image, for example a package.

    `ref`: its ID in the document. `requires`: the refs of its dependencies. `hashes`: of its wheel or .deb, by
    CycloneDX's names of algorithms. `sdist`: the SHA-256 of the sdist from which it was built. `inside`: the components
    compiled into it. `documents`: path and SHA-256 of embedded SBOMs that could not be merged.
    """

    ref: str
    type: str
    name: str
    version: str
    purl: str = ""
    licence: Licence = NO_LICENCE
    supplier: str = ""
    hashes: Mapping[str, str] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    place: str = ""                            # the path of its METADATA in the image
    sdist: str = ""
    inside: tuple[Component, ...] = ()
    documents: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Sbom:
    """The SBOM of an image, which is the component `root`. `created` is in seconds since the epoch.

    `complete` is False if the packages of the Linux distribution are not known.
    """

    root: Component
    digest: str
    created: int
    components: tuple[Component, ...]
    complete: bool


def make_sbom(plan: Plan, built: BuiltImage, findings: Findings) -> Sbom:
    """Return the SBOM of an image, from the findings in its files and the origin of its wheels in `built`."""
    image, own = built.image, len(built.base.image.layers)
    release: Mapping[str, Any] = next((findings[path][1] for path in RELEASES if path in findings), {})
    system = list(_system(findings, release, built.base.hashes))
    python = list(_python(findings, plan, built))
    base = [component for number, component in (*system, *python) if number < own]
    runtime = [component for number, component in python if number >= own]
    added = [component.ref for number, component in system if number >= own]
    below = _base_component(built, release, [component.ref for component in base])
    python_path, version = built.base.interpreter.path, built.base.interpreter.version
    interpreter = []  # a Python that is in no package: of an official python image, or standalone
    if python_path.startswith("/usr/local/"):
        name = purl("generic", "python", version)
        interpreter = [Component(
            name, "application", "python", version, name, Licence("Python-2.0"), "Python Software Foundation",
            {"SHA-256": built.base.archive[1].removeprefix("sha256:")} if built.base.archive[1] else {},
            tuple(purl("generic", library, found) for library, found in built.base.bundled.items()),
            place=python_path.removeprefix("/"),
        )]  # fmt: skip
        for library, found in built.base.bundled.items():
            ref = purl("generic", library, found)
            interpreter.append(Component(ref, "library", library, found, ref))
        below[0] = replace(below[0], requires=(*below[0].requires, name))
    written = [_step(layer, note) for layer, note in zip(image.layers, built.notes, strict=True) if note.kind == "step"]
    project = [part.ref for part in runtime if canonicalize_name(part.name) == canonicalize_name(plan.name)]
    root = Component(
        ref=_image_purl(plan, image), type="container", name=canonicalize_name(plan.name), version=plan.version,
        purl=_image_purl(plan, image), hashes={"SHA-256": image.digest.removeprefix("sha256:")},
        supplier=next((part.supplier for part in runtime if part.ref in project), ""),
        licence=next((part.licence for part in runtime if part.ref in project), NO_LICENCE),
        requires=(*(project or (part.ref for part in runtime)), below[0].ref, *added, *(part.ref for part in written)),
    )  # fmt: skip
    components = (*below, *interpreter, *(component for _, component in (*system, *python)), *written)
    created = int(datetime.fromisoformat(image.config_json["created"]).timestamp())
    return Sbom(root, image.digest, created, components, bool(system))


def _step(layer: Layer, note: LayerInfo) -> Component:
    """Return the layer of a step as one component, with the hash of the layer's tar."""
    hashes = {"SHA-256": layer.diff_id.removeprefix("sha256:")}
    return Component(f"step:{layer.diff_id}", "file", ", ".join(note.contents), "", hashes=hashes)


def _image_purl(plan: Plan, image: Image) -> str:
    return purl("oci", canonicalize_name(plan.name), image.digest, qualifiers={"arch": image.platform.architecture})


def _base_component(built: BuiltImage, release: Mapping[str, Any], refs: Sequence[str]) -> list[Component]:
    """Return the components for the base and, if os-release names it, for the Linux distribution."""
    base = built.base
    name, package = base.name, base_purl(base)
    if base.plan.kind == "oci":
        name = "oci:" + name.rstrip("/").rpartition("/")[2].removeprefix("oci:")  # without directories of this machine
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


def _system(
    findings: Findings, release: Mapping[str, Any], hashes: Mapping[str, str]
) -> Iterator[tuple[int, Component]]:
    """Yield number of the layer and component for each package of the Linux distribution. `hashes`: of the .debs."""
    packages = [
        (number, finding["type"], package)
        for number, finding in findings.values() if finding["kind"] == "system" for package in finding["packages"]
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
    files = {finding["of"]: finding for _, finding in findings.values() if finding["kind"] == "copyright"}
    licences = {}
    for name, finding in files.items():  # a copyright file, or a link to the copyright file of another package
        whole = files.get(finding["like"].rpartition("/")[2], {}) if "like" in finding else finding
        if "licence" in whole:
            licences[name] = whole["licence"]
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
            {"SHA-256": digest} if digest else {}, tuple(sorted({*needs} - {"", ref})),
        )  # fmt: skip


def _licence(value: Mapping[str, Any]) -> Licence:
    return Licence(value["expression"], tuple(value["names"]))


def _python(findings: Findings, plan: Plan, built: BuiltImage) -> Iterator[tuple[int, Component]]:
    """Yield number of the layer and component for each Python distribution."""
    own = len(built.base.image.layers)
    files = {canonicalize_name(pin.name): pin for pin in built.pins}
    built_wheels = {canonicalize_name(wheel.filename.partition("-")[0]): wheel.sha256 for wheel in built.own_wheels}
    rows = sorted(
        (canonicalize_name(finding["name"]), path, number, finding) for path, (number, finding) in findings.items()
        if finding["kind"] == "python" and finding["name"]
    )
    installed: dict[str, tuple[str, Mapping[str, Any]]] = {
        name: (path, finding) for name, path, number, finding in rows if number >= own
    }
    needs = _needs(installed, plan, target_of(built.base))
    refs: dict[str, str] = {}
    for _, path, _, finding in sorted(rows, key=lambda row: (row[2] < own, row[1])):
        ref = purl("pypi", finding["name"], finding["version"])
        refs[path] = f"{ref}#{path.rpartition('/')[0]}" if ref in refs.values() else ref
    for name, path, number, finding in rows:
        pin = files.get(name) if installed.get(name, ("",))[0] == path else None
        digest = pin.sha256 if pin and pin.is_wheel else ""
        if not pin and number >= own:
            digest = built_wheels.get(name, "")
        place = path.removesuffix("/METADATA").removesuffix("/PKG-INFO")
        origin = {"vcs_url": pin.commit[0]} if pin else {}
        parts, top, documents = _embedded(place, refs[path], findings)
        edges = (refs[installed[other][0]] for other in needs.get(name, ()) if other in installed and number >= own)
        yield number, Component(
            refs[path], "library", finding["name"], finding["version"],
            purl("pypi", finding["name"], finding["version"], qualifiers=origin), _licence(finding["licence"]),
            finding["supplier"], {"SHA-256": digest} if digest else {},
            (*sorted({*edges} - {refs[path]}), *top), path, pin.sha256 if pin and not pin.is_wheel else "",
            parts, documents,
        )  # fmt: skip


def _needs(installed: Mapping[str, tuple[str, Mapping[str, Any]]], plan: Plan, target: Target) -> dict[str, set[str]]:
    """Return the names that each distribution requires on a target, including the extras with which it is required."""
    environment = {**target.marker_environment()}
    extras: dict[str, set[str]] = {name: set() for name in installed}
    required = {name: Requirements(finding["requires"], environment) for name, (_, finding) in installed.items()}
    # The plan's requirements already include its extras and dependency groups.
    required[canonicalize_name(plan.name)] = Requirements(plan.lock.requirements, environment)
    spread_extras(required, extras, lambda name: name if name in extras else None)
    return {
        name: {requirement.name for requirement in found.applying(extras.get(name, set()))}
        for name, found in required.items()
    }


def _embedded(
    place: str, owner: str, findings: Findings
) -> tuple[tuple[Component, ...], tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the components in a wheel's embedded SBOMs, the refs that the wheel requires, and its unreadable SBOMs.

    `place`: the path of the .dist-info directory. `owner`: the ref of the wheel.
    """
    parts: dict[tuple[str, str, str], Component] = {}
    top: set[str] = set()
    documents = []
    for path, (_, finding) in sorted(findings.items()):
        if finding["kind"] != "bundled" or finding["of"] != place:
            continue
        if not finding["format"]:
            documents.append((path, finding["sha256"]))
        keys = [(part["name"], part["version"], part["purl"]) for part in finding["parts"]]
        refs = [f"{owner}#{name}@{version}" + (f"?{purl}" if purl else "") for name, version, purl in keys]
        for key, ref, part in zip(keys, refs, finding["parts"], strict=True):
            known = parts.get(key)
            needs = {refs[number] for number in part["requires"]} - {ref}
            parts[key] = Component(
                ref, part["type"], part["name"], part["version"], part["purl"],
                _licence(part["licence"]), part["supplier"], {**(known.hashes if known else {}), **part["hashes"]},
                tuple(sorted(needs | set(known.requires if known else ()))),
            )  # fmt: skip
        top |= {refs[number] for number in finding["top"]}
    return tuple(parts[key] for key in sorted(parts)), tuple(sorted(top)), tuple(documents)
