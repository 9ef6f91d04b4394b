"""Provenance: the materials and options of a build, as a SLSA 1.0 predicate in an in-toto statement 1.

https://slsa.dev/spec/v1.0/provenance, https://github.com/in-toto/attestation (Statement, ResourceDescriptor). Its level
is Build L1: it documents the materials of the image, but does not prove that the image was not changed. It contains no
time, host, absolute path, user or value of a variable, so the same build has the same statement on all machines.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from packaging.utils import canonicalize_name

from hatch_docker import __version__
from hatch_docker.bases.model import Base
from hatch_docker.engines.model import BuiltImage
from hatch_docker.oci.model import Image, Index
from hatch_docker.plan.model import BasePlan, Plan
from hatch_docker.plan.naming import PREFIX
from hatch_docker.release.purl import base_purl, purl
from hatch_docker.wheels.target import Pin

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILDER = "pkg:pypi/hatch-docker"
BUILD_TYPE = f"{BUILDER}#image/v1"  # with this type, externalParameters has the options of [tool.hatch-docker]

Resource = dict[str, Any]
Used = tuple[str, ...]


def provenance(
    plan: Plan, item: Image | Index, built: Sequence[BuiltImage], *, locks: Mapping[str, str], used: Mapping[Used, str],
    documents: Mapping[str, str],
) -> dict[str, Any]:
    """Return the statement about an image or index, as parsed JSON.

    `locks`: the digests of the lock files, by file name. `documents`: the digests of the SBOMs, by file name. `used`:
    the packages with which wheels were built, as in `Context.materials`.
    """
    images = item.images if isinstance(item, Index) else ()
    name = plan.image
    wheels = {wheel.filename: wheel.sha256 for image in built for wheel in image.own_wheels if wheel.filename}
    digests = [(name, item.digest), *((f"{name}#{image.platform}", image.digest) for image in images)]
    secrets = {*plan.build.secrets, *(name for step in plan.steps for name in step.secrets)}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": _sha256(digest)} for name, digest in digests],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "project": {"name": canonicalize_name(plan.name), "version": plan.version},
                    "options": _options(plan),
                },
                "internalParameters": {"secrets": sorted(secrets)},
                "resolvedDependencies": _dependencies(plan, built, locks, used),
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"hatch-docker": __version__}},
                "metadata": {},  # without times and without the ID of a run; cosign adds an empty one if it is missing
                "byproducts": [
                    {"name": name, "digest": _sha256(digest)}
                    for name, digest in sorted({**wheels, **documents}.items())
                ],
            },
        },
    }


def _options(plan: Plan) -> dict[str, Any]:
    """Return the options that change the image. Of variables and build arguments only the names are included."""
    config = plan.config
    values = {
        "engine": plan.engine, "base": _base_name(plan.base), "python": plan.python, "platforms": list(plan.platforms),
        "extras": list(plan.lock.extras), "dependency-groups": list(plan.lock.groups),
        "lock": _last(plan.lock.path) or plan.lock.kind, "compression": plan.compression, "created": plan.created,
        "build.base": _base_name(plan.base.builder) if plan.base.builder else "",
        "build.isolated": plan.build.isolated, "build.network": plan.build.network,
        "build.packages": list(plan.build.packages), "build.env": sorted(plan.build.env),
        "build.args": sorted(plan.build.args), "build.ssh": plan.build.ssh or None,
        "runtime.packages": list(plan.base.packages), "debian.slim": plan.base.slim,
        "debug": plan.debug or None, "debug-shell": plan.base.busybox or None,
        "slim.leave-out": list(plan.slim.leave_out), "slim.locales": list(plan.slim.locales),
        "slim.keep": list(plan.slim.keep),
        "files": [{"source": _last(file.source), "target": file.target} for file in plan.files],
        "steps": [
            {
                "command": list(step.command), "outputs": list(step.outputs), "inputs": list(step.inputs),
                "env": sorted(step.env), "network": step.network,
            } for step in plan.steps
        ],
        "ca-certificates": list(map(_last, plan.ca_certificates)), "init": config.init or None,
        "entrypoint": list(config.entrypoint), "cmd": list(config.cmd), "env": sorted(config.env),
        "user": config.user, "workdir": config.workdir,
    }  # fmt: skip
    return {name: value for name, value in values.items() if value not in ("", [], None)}


def _base_name(base: BasePlan) -> str:
    """Return a base as the user typed it, but only the last part of an OCI layout's path."""
    return f"oci:{_last(base.location)}" if base.kind == "oci" else base.name


def _last(path: str) -> str:
    """Return a path inside the project unchanged, and only the last part of any other path."""
    parts = re.split(r"[/\\]", path.rstrip("/\\"))
    return parts[-1] if path.startswith(("/", "~", "\\")) or ".." in parts or parts[0].endswith(":") else path


def _dependencies(
    plan: Plan, built: Sequence[BuiltImage], locks: Mapping[str, str], used: Mapping[Used, str]
) -> list[Resource]:
    """Return the materials with their digests: sources, lock files, bases, Debian packages, wheels and sdists.

    Packages that were used only to build wheels have the annotation `"stage": "builder"`. A rebased image has the
    original image as a material instead of the sources, because the sources may have changed since.
    """
    found: list[Resource] = []
    if not any(image.origin for image in built):
        if plan.revision:
            url = plan.config.annotations.get(PREFIX + "source", "")
            uri = {"uri": f"git+{url}@{plan.revision}"} if re.fullmatch(r"https?://[^\s@]+", url) else {}
            dirty = {"annotations": {"dirty": bool(plan.dirty)}}
            found.append({"name": "source", **uri, "digest": {"gitCommit": plan.revision}, **dirty})
        found += [{"name": name, "digest": _sha256(digest)} for name, digest in sorted(locks.items())]
    for image in built:
        found += [{"name": plan.image, "digest": _sha256(image.origin)}] if image.origin else []
        base, builder = image.base, image.base.builder
        found.append(_base(base))
        if builder and ("base", builder.name) in used:
            found.append({**_base(builder), "annotations": {"stage": "builder"}})
        if base.archive[0]:
            found.append({
                "uri": purl("generic", "python", base.interpreter.version, qualifiers={"file_name": base.archive[0]}),
                "digest": _sha256(base.archive[1]),
            })
        found += [_deb(title, base.suite, digest) for title, digest in sorted(base.hashes.items())]
        found += [_pin(pin) for pin in image.pins]
    uris = {resource.get("uri") for resource in found}
    for (kind, *parts), digest in sorted(row for row in used.items() if row[0][0] != "base"):
        tool = _deb(parts[0], parts[1], digest) if kind == "deb" else _file(parts[0], parts[1], parts[2], digest)
        if tool["uri"] not in uris:
            found.append({**tool, "annotations": {"stage": "builder"}})
    return [resource for number, resource in enumerate(found) if resource not in found[:number]]


def _base(base: Base) -> Resource:
    uri = {"uri": base_purl(base)} if base_purl(base) else {}
    return {"name": _base_name(base.plan), "digest": _sha256(base.digest), **uri}


def _deb(title: str, suite: str, digest: str) -> Resource:
    name, version, architecture = title.split()
    where = {"arch": architecture, "distro": suite}
    return {"uri": purl("deb", name, version, namespace="debian", qualifiers=where), "digest": _sha256(digest)}


def _pin(pin: Pin) -> Resource:
    address, commit = pin.commit
    if not address:
        return _file(pin.name, pin.version, pin.filename, pin.sha256)
    uri = purl("pypi", pin.name, pin.version, qualifiers={"vcs_url": address})
    return {"uri": uri, "digest": {"gitCommit": commit, **_sha256(pin.sha256)}}


def _file(name: str, version: str, filename: str, digest: str) -> Resource:
    uri = purl("pypi", name, version, qualifiers={"file_name": filename})
    return {"uri": uri, "digest": _sha256(digest)}


def _sha256(digest: str) -> dict[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}
