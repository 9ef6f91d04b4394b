"""Golden digests: the images of fixed projects, wheels and bases must not change by accident.

golden.json holds the manifest digests, the diff-ids of layers, the Dockerfile, and the kinds and keys of cache entries.
It stays the same unless a change is meant to change images or to invalidate caches.

The results do not depend on the host. The build backend is part of the project and returns a finished wheel;
dependencies are files beside a pylock.toml; the base is a synthetic OCI layout for arm64, so that no program of it runs
and no module is compiled. The bytecode of a real Python is compared only if there is a network.

    GOLDEN=write python -m pytest -n 0 tests/integration/test_golden.py    rewrites golden.json
"""

import hashlib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.bases.debian.base import make_debian_base
from hatch_docker.oci.archive import read_archive
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.layout import write_layout
from hatch_docker.oci.model import Platform, host_platform, images_of
from hatch_docker.plan.model import BasePlan
from tests.conftest import missing
from tests.fakes.bases import python_image
from tests.fakes.context import context
from tests.fakes.debian_archive import FakeArchive
from tests.fakes.elf import make_elf
from tests.fakes.images import small_index
from tests.fakes.package_index import make_wheel
from tests.integration.builds import run_command
from tests.projects import commit, write_files
from tests.validate import validate

GOLDEN = Path(__file__).with_name("golden.json")
WRITE = os.environ.get("GOLDEN") == "write"

BACKEND = '''
"""A build backend whose wheel is finished before it is asked for."""
import shutil
from pathlib import Path


def build_wheel(directory, config_settings=None, metadata_directory=None):
    (wheel,) = Path(__file__).parent.glob("*.whl")
    return Path(shutil.copy(wheel, directory)).name
'''
PROJECT = """
[build-system]
requires = []
build-backend = "finished"
backend-path = ["backend"]

[project]
name = "golden"
version = "1.2.3"
description = "An example whose image is known."
requires-python = ">=3.11"
license = "MIT"
authors = [{name = "Ann", email = "ann@home.example"}]
urls.Source = "https://source.example/golden"
"""
HELLO = {"golden/__init__.py": b"def main():\n    print('golden')\n"}
SCRIPTS = b"[console_scripts]\ngolden = golden:main\nother = golden:main\n[gui_scripts]\nwindow = golden:main\n"
ARM64, AMD64 = ("manylinux_2_17_aarch64", 183), ("manylinux_2_17_x86_64", 62)


@dataclass(frozen=True)
class Wheel:
    """A dependency; `marker` is for pylock.toml, `requires` for METADATA."""

    name: str
    files: Mapping[str, bytes]
    tag: str = "py3-none-any"
    marker: str = ""
    requires: tuple[str, ...] = ()


PURE = Wheel("pure", {"pure/__init__.py": b"VALUE = 1\n", "pure/py.typed": b""})
SECOND = Wheel("second", {"second.py": b"import pure\n"}, requires=("pure",))
LARGE = Wheel("large", {"large/data.bin": bytes(range(256)) * 6000})
COMPILED = [
    Wheel("compiled", {
        "compiled/_c.cpython-313.so": make_elf("", ["libc.so.6"], machine=machine), "compiled/data.txt": b"",
    }, f"cp313-cp313-{tag}")
    for tag, machine in (ARM64, AMD64)
]  # fmt: skip
TESTED = Wheel("tested", {
    "tested/__init__.py": b"", "tested/tests/test_it.py": b"def test(): pass\n", "tested/__init__.pyi": b"",
    "tested/include/tested.h": b"int x;\n", "tested/locale/de/LC_MESSAGES/tested.mo": b"de",
    "tested/locale/fr/LC_MESSAGES/tested.mo": b"fr",
})  # fmt: skip
OPTIONAL = [Wheel(name, {f"{name}.py": b""}, marker=f"'{name}' in extras") for name in ("fast", "slow")]
DATA = {
    **HELLO, "golden/gruß.txt": "Grüß Gott\n".encode(),
    "golden-1.2.3.data/data/share/golden/poem.txt": b"Roses are red\n",
    "golden-1.2.3.data/scripts/plain": b"#!python\nprint('plain')\n",
    "golden-1.2.3.data/purelib/golden_extra.py": b"",
    "golden-1.2.3.data/headers/golden.h": b"int x;\n",
}


@dataclass(frozen=True)
class Case:
    """A project: the files of its wheel (`own`), its dependencies, lines of [project] and of [tool.hatch-docker]."""

    own: Mapping[str, bytes] = field(default_factory=lambda: HELLO)
    wheels: tuple[Wheel, ...] = ()
    project: str = ""
    options: str = ""
    scripts: bool = True
    tag: str = "py3-none-any"
    base: str = "oci:base"
    platforms: tuple[str, ...] = ("linux/arm64",)
    git: str = ""
    command: str = "build"


OPTIONS = """
env = { MODE = "a b", EMPTY = "" }
labels = { "org.example.team" = "x" }
annotations = { "org.example.note" = "y" }
user = "1000:1001"
workdir = "/srv"
ports = [8000, "53/udp"]
volumes = ["/data", "/var/lib/golden"]
stop-signal = "SIGINT"
entrypoint = ["other", "-v"]
cmd = ["serve"]
tags = ["{version}", "{major}"]
image = "registry.example/team/golden"
[tool.hatch-docker.healthcheck]
command = ["golden"]
interval = "10s"
[[tool.hatch-docker.files]]
source = "conf"
target = "/etc/golden"
[[tool.hatch-docker.files]]
source = "conf/run"
target = "/bin/run"
mode = "0750"
"""
CASES = {
    "hello": Case(),
    "no scripts": Case(scripts=False, options='entrypoint = ["python", "-c", "import golden"]'),
    "data": Case(DATA),
    "dependencies": Case(wheels=(PURE, SECOND)),
    "large dependency": Case(wheels=(PURE, LARGE)),
    "compiled dependency": Case(wheels=(COMPILED[0], PURE)),
    "compiled project": Case({**HELLO, "golden/_c.so": make_elf(machine=183)}, tag=f"cp313-cp313-{ARM64[0]}"),
    "extras": Case(
        wheels=tuple(OPTIONAL), project='optional-dependencies = {fast = ["fast"], slow = ["slow"]}\n',
        options='extras = ["fast"]',
    ),
    "slim": Case(
        wheels=(TESTED,),
        options='[tool.hatch-docker.slim]\nleave-out = ["tests", "stubs", "headers", "locales"]\nlocales = ["de"]',
    ),
    "options": Case(options=OPTIONS),
    "git": Case(git="v1.2.3", options='tags = ["{revision}", "{branch}", "{date}"]'),
    "platforms": Case(  # without modules: those for amd64 would be compiled
        {"golden/data.txt": b""}, (LARGE, *COMPILED), platforms=("linux/amd64", "linux/arm64")
    ),
    "images": Case(
        options='[tool.hatch-docker.images.web]\nentrypoint = ["golden"]\n[tool.hatch-docker.images.worker]\n'
                'entrypoint = ["other"]\nenv = { ROLE = "worker" }'
    ),
    "uncompressed": Case(wheels=(PURE,), options='compression = "none"'),
    "dockerfile": Case(DATA, (PURE, LARGE), options=OPTIONS, command="dockerfile"),
    "plan": Case(wheels=(PURE, SECOND), options=OPTIONS, command="plan"),
}  # fmt: skip


def write_case(case: Case, root: Path) -> Path:
    """Write the project, its locked dependencies and its base; return its directory."""
    info = {"golden-1.2.3.dist-info/entry_points.txt": SCRIPTS} if case.scripts else {}
    own, wheel = make_wheel("golden", "1.2.3", files={**case.own, **info}, tag=case.tag)
    dependencies = [wheel.name for wheel in case.wheels if not wheel.marker]
    scripts = 'scripts = {golden = "golden:main", other = "golden:main"}\n' if case.scripts else ""
    table = f'[tool.hatch-docker]\nbase = "{case.base}"\nload = "never"\nbuild.isolated = "never"\n'
    table += f"platforms = {list(case.platforms)}\n{case.options}"
    write_files(root, {
        "pyproject.toml": f"{PROJECT}dependencies = {dependencies}\n{scripts}{case.project}{table}",
        "backend/finished.py": BACKEND, f"backend/{own}": wheel, "conf/a.toml": "x = 1\n", "conf/run": "#!/bin/sh\n",
    })  # fmt: skip
    write_lock(case.wheels, root)
    (root / "conf/run").chmod(0o755)
    (root / "conf/link").symlink_to("a.toml")
    if case.git:
        write_files(root, {".gitignore": "dist/\nbase/\n"})
        commit(root, case.git)
    bases = (python_image(platform.removeprefix("linux/")) for platform in case.platforms)
    write_layout(small_index(*bases), root / "base")
    return root


def write_lock(wheels: Sequence[Wheel], root: Path) -> None:
    """Write wheels and a pylock.toml that names them."""
    text = 'lock-version = "1.0"\ncreated-by = "a test"\nextras = ["fast", "slow"]\n'
    for name, group in itertools.groupby(wheels, lambda wheel: wheel.name):
        files, marker = [], ""
        for wheel in group:
            file, data = make_wheel(name, "1.0", files=wheel.files, tag=wheel.tag, requires=wheel.requires)
            write_files(root / "wheels", {file: data})
            hashes = f'hashes = {{sha256 = "{sha256(data)}"}}'
            files.append(f'{{name = "{file}", path = "wheels/{file}", size = {len(data)}, {hashes}}}')
            marker = f'marker = "{wheel.marker}"\n' if wheel.marker else ""
        text += f'[[packages]]\nname = "{name}"\nversion = "1.0"\nwheels = [{", ".join(files)}]\n{marker}'
    if wheels:
        write_files(root, {"pylock.toml": text})


def run(case: Case, root: Path, **variables: str) -> Path:
    """Write and build a project below `root`; return its directory dist/."""
    write_case(case, root / "p")
    outcome = run_command(root / "p", root / "cache", case.command, **variables)
    assert outcome.status == 0, outcome.output
    return outcome.directory


def record(case: Case, root: Path) -> dict[str, Any]:
    """Build a project; return its digests, and the keys of its cache, as they are in golden.json."""
    dist = run(case, root, HATCH_DOCKER_OFFLINE="1")
    if case.command == "plan":
        plan = json.loads((dist / "golden-1.2.3.plan.json").read_bytes())
        return {key: value for key, value in plan.items() if key not in ("guesses", "notes")}  # texts for users
    if case.command == "dockerfile":
        lines = (dist / "golden-1.2.3.Dockerfile").read_text().splitlines()
        context = dist / "golden-1.2.3.context"
        paths = [path for path in sorted(context.rglob("*")) if path.is_file() and "tools" not in path.parts]
        return {
            "lines": [line for line in lines if not line.startswith("#")],
            "context": {path.relative_to(context).as_posix(): sha256(path.read_bytes()) for path in paths},
        }
    images = {path.name: image(path) for path in sorted(dist.glob("*.oci.tar"))}
    return {"images": images, "cache": keys(root / "cache")}


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def image(archive: Path) -> dict[str, Any]:
    """Return the digest of an archive's image or index, and the diff-ids of the layers by platform."""
    item = read_archive(archive)
    validate(item)
    platforms = {str(image.platform): [layer.diff_id for layer in image.layers] for image in images_of(item)}
    return {"digest": item.digest, **platforms}


def keys(cache: Path) -> dict[str, list[str]]:
    """Return the first 16 digits of each key in the cache, by kind; except kinds whose key has a version or a path."""
    excluded = ("sbom", "unchanged", "config", "sandbox")
    facts = [path for path in (cache / "v1/facts").iterdir() if path.name not in excluded]
    return {kind.name: sorted(path.name[:16] for path in kind.iterdir()) for kind in facts}


def as_text(golden: Mapping[str, Any]) -> str:
    """Return the JSON text of golden.json, with one line for each value of a project."""
    rows = []
    for name, found in sorted(golden.items()):
        lines = [f"  {json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in sorted(found.items())]
        rows.append(f" {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(rows) + "\n}\n"


def check(name: str, found: Mapping[str, Any]) -> None:
    """Compare `found` with golden.json, or write it there."""
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if WRITE:
        GOLDEN.write_text(as_text({**golden, name: found}))
    else:
        assert golden[name] == found


@pytest.mark.parametrize("name", CASES)
def test_image_has_the_golden_digest(name: str, tmp_path: Path) -> None:
    if host_platform().architecture == "arm64":
        missing("a base for arm64 would run here")
    check(name, record(CASES[name], tmp_path))


def test_debian_base_has_the_golden_digest(tmp_path: Path) -> None:
    fake = FakeArchive(tmp_path / "mirror").python()
    fake.add("libadded1", "2.0", {"usr/lib/x86_64-linux-gnu/libadded.so.1": make_elf("libadded.so.1")})
    plan = BasePlan("debian", "debian:trixie", "trixie", mirror=fake.write().url, packages=("libadded1",))
    ctx = context(tmp_path / "cache")
    base = make_debian_base(plan, Platform("linux", "amd64"), ctx, compression=Compression(), keyring=fake.keyring)
    validate(base.image)
    check("debian base", {"digest": base.image.digest, "layers": [layer.diff_id for layer in base.image.layers]})


@pytest.mark.network
def test_bytecode_of_a_real_python_has_the_golden_digest(tmp_path: Path, cache: Path) -> None:
    """The real base changes with Debian's updates, but its bytecode, and so the layers above it, must not."""
    case = Case(wheels=(PURE, SECOND), base="debian:trixie", platforms=("linux/amd64",))
    dist = run(case, tmp_path, HATCH_DOCKER_CACHE_DIR=str(cache))
    (_base, *layers) = image(dist / "golden-1.2.3.oci.tar")["linux/amd64"]
    check("bytecode", {"layers": layers})
