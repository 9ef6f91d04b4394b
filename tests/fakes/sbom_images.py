"""Images with the metadata of installed distributions and packages, and with embedded SBOMs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hatch_docker.bases.image import base_of
from hatch_docker.config.load import load_config
from hatch_docker.core.context import Context
from hatch_docker.engines.model import BuiltImage, LayerInfo, WheelInfo
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.make_image import Settings, build_image
from hatch_docker.oci.model import Layer
from hatch_docker.plan.defaults import make_plan
from hatch_docker.plan.model import BasePlan, Plan
from hatch_docker.project.git import Revision
from hatch_docker.project.metadata import Metadata
from hatch_docker.wheels.target import Pin
from tests.fakes import plans
from tests.fakes.bases import directory, file, python_image
from tests.fakes.images import image_of, layer_of

SITE = "opt/venv/lib/python3.13/site-packages"
CREATED = 1_700_000_000

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.41-12
Maintainer: GNU Libc Maintainers <libc@lists.example>
Depends: libgcc-s1 (>= 4.2), libcrypt1 | libxcrypt
Provides: libc6-2.41

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: libgcc-s1
Status: install ok installed
Architecture: amd64
Source: gcc-14 (14.2.0-18)
Version: 14.2.0-19
Maintainer: Debian GCC Maintainers <gcc@lists.example>
Depends: gcc-14-base (= 14.2.0-19), libc6-2.41
Description: the support library
 of GCC: everything
"""
EXPAT = """\
Format: https://format.example/1.0/
Files: *
License: LGPL-2.1+ or Expat

License: GPL-2
 The text.
"""


def project(**facts: Any) -> Metadata:
    """Return the metadata of the project that is installed in the images."""
    revision = Revision("0123456789abcdef0123456789abcdef01234567", "main", CREATED)
    own: dict[str, Any] = {"authors": (), "urls": {}, "extras": {}, "groups": {}, "revision": revision}
    return plans.project(**{**own, "dependencies": ("alpha[fast]", "beta"), **facts})


def plan(table: Mapping[str, Any] | None = None, **facts: Any) -> Plan:
    """Return the plan for some options of this project."""
    return make_plan(project(**facts), load_config(table or {}, {}, None), plans.HOST)


def metadata(name: str, version: str, *lines: str, site: str = SITE) -> Entry:
    """Return the entry of an installed distribution's METADATA."""
    text = "\n".join(("Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines, "", "Name: not this"))
    return file(f"{site}/{name.replace('-', '_')}-{version}.dist-info/METADATA", text)


def embedded_sbom(name: str, version: str, document: Mapping[str, Any] | bytes, file_name: str = "sbom.json") -> Entry:
    """Return the entry of an SBOM in a distribution (PEP 770)."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return file(f"{SITE}/{name}-{version}.dist-info/sboms/{file_name}", data)


def system_layer(status: str = STATUS) -> Layer:
    return layer_of([
        file("var/lib/dpkg/status", status), file("usr/share/doc/libc6/copyright", EXPAT),
        file("etc/os-release", 'ID=debian\nVERSION_ID="13"\nNAME="Debian GNU/Linux"\n'),
        directory("usr/local/lib"), metadata("pip", "25.0", site="usr/local/lib/python3.13/site-packages"),
    ])  # fmt: skip


OWN = metadata("my_app", "1.2.3", "License-Expression: MIT", "Author-email: Ann <ann@home.example>")
DEPENDENCIES = (
    metadata(
        "alpha", "1.0", "Classifier: License :: OSI Approved :: Apache Software License", "Author: Bob",
        "Requires-Dist: beta>=1", "Requires-Dist: gamma; extra == 'fast'", "Requires-Dist: delta; extra == 'slow'",
        "Requires-Dist: winreg; sys_platform == 'win32'",
    ),
    metadata("beta", "2.0+local", "License: BSD"),
    metadata("gamma", "3", "License: MIT/X"),
    metadata("delta", "4"),
)  # fmt: skip


def plan_and_image(
    ctx: Context, dependencies: Sequence[Entry] = DEPENDENCIES, own: Sequence[Entry] = (OWN,),
    table: Mapping[str, Any] | None = None, system: Layer | None = None, **facts: Any,
) -> tuple[Plan, BuiltImage]:
    """Return a plan and an image that fits it, on a base like python:3.13-slim."""
    own_plan = plan(table, **facts)
    python = python_image()
    base = base_of(
        BasePlan("registry", "python:3.13-slim", "python:3.13-slim"),
        image_of(*python.layers, system or system_layer()), ctx, digest=f"sha256:{'b' * 64}",
    )
    layers = [layer_of(entries) for entries in (dependencies, own)]
    image = build_image(base.image, [(layer, _history()) for layer in layers], Settings(), CREATED, {})
    notes = [LayerInfo("base", (), True)] * 3 + [LayerInfo("dependencies", (), False), LayerInfo("project", (), False)]
    pins = tuple(
        Pin(name, version, f"{name}-{version}{end}", f"https://index.example/{name}", digit * 64, 1, CREATED)
        for name, version, digit, end in (
            ("alpha", "1.0", "a", "-py3-none-any.whl"), ("beta", "2.0+local", "e", ".tar.gz"),
        )
    )
    wheel = WheelInfo("my_app-1.2.3-py3-none-any.whl", "c" * 64)
    return own_plan, BuiltImage(image, base, tuple(notes), wheel, pins)


def _history() -> Any:
    from hatch_docker.oci.model import History

    return History("test")
