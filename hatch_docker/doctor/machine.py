"""What the machine brings along: programs, their versions, namespaces, certificates."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

from hatch_docker import __version__, urls
from hatch_docker.doctor.check import Finding, Look, Said
from hatch_docker.errors import ConfigError, ProgramError, SandboxError, WheelError
from hatch_docker.process import run
from hatch_docker.wheels.sandbox import why_not
from hatch_docker.wheels.uv import OLDEST, find_uv

PATIENCE = 10.0  # seconds for a program to say its version
COSIGNS = (2, 3)


def python(look: Look) -> Said:
    """Who runs this; zstd, which an older Python needs a package for."""
    yield (
        f"hatch-docker {__version__}, hatchling {version('hatchling')}, Python {platform.python_version()} on "
        f"{sys.platform}/{platform.machine()}"
    )
    zstd = ("compression.zstd",) if sys.version_info >= (3, 14) else ("backports", "backports.zstd")
    if look.some(lambda plan: plan.compression == "zstd", else_=False) and not all(map(importlib.util.find_spec, zstd)):
        yield Finding("problem", "python", 'compression = "zstd" needs a package: install hatch-docker[zstd]')


def hatch(look: Look) -> Said:
    """hatch itself, which brings the target of its name; our own program does without."""
    path = shutil.which("hatch", path=look.ctx.environ.get("PATH", ""))
    if path is None:
        raise ProgramError("not in PATH; `hatch-docker build` does what `hatch build -t docker` does")
    yield f"{_version([path, '--version'], look)}, {path}"


def git(look: Look) -> Said:
    """The commit, which the image is named after."""
    from hatch_docker.revision import read_revision

    told: list[str] = []
    revision = read_revision(look.root, look.ctx.environ, warn=told.append)
    if told:
        yield Finding("problem", "git", told[0])
    elif revision is None:
        yield Finding("unneeded", "git", "no commit: the image will name none")
    else:
        yield f"commit {revision.commit[:12]}" + (", with changes that no commit has" if revision.dirty else "")


def uv(look: Look) -> Said:
    """uv, which resolves where no lock does."""
    path = find_uv(look.ctx.environ)
    said = _version([path, "--version"], look)
    found = re.search(r"\d+\.\d+\.\d+", said)
    if found and Version(found[0]) < Version(OLDEST):
        raise WheelError(f"{said} at {path} is too old: {OLDEST} or newer is needed; install hatch-docker[uv]")
    yield f"{said}, {path}"


def needs_uv(look: Look) -> bool:
    """Whether something is resolved: what the project needs, or what its wheel is made with."""
    resolved = look.some(lambda plan: plan.lock.kind == "resolve" and plan.lock.requirements, else_=True)
    return (resolved or look.isolated or not look.whole) and look.ctx.pins is None


def cosign(look: Look) -> Said:
    """cosign, and the key or identity that it signs with."""
    from hatch_docker.release.cosign import check_signing

    path = shutil.which("cosign", path=look.ctx.environ.get("PATH", ""))
    signs = [plan.sign for plan in look.plans if plan.sign]
    for sign in signs:
        check_signing(sign, look.root, look.ctx.environ)
    if path is None:
        raise ProgramError("not in PATH; nothing is signed here")
    said = run([path, "version"], env=look.ctx.environ, timeout=PATIENCE)
    found = re.search(r"GitVersion:\s*(v?(\d+)\.\S+)", said)
    if found and int(found[2]) not in COSIGNS:
        raise ProgramError(f"cosign {found[1]} at {path} is not one that is known to fit: install version 2 or 3")
    yield f"cosign {found[1] if found else 'of an unnamed version'}, {path}" + (", signs what is pushed" * bool(signs))


def needs_cosign(look: Look) -> bool:
    """Whether what is pushed is signed."""
    return look.some(lambda plan: plan.sign, else_=False)


def sandbox(look: Look) -> Said:
    """The builder's namespaces, entered once."""
    import getpass

    if reason := why_not(look.ctx.environ):
        raise SandboxError(reason)
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a number without a name
        user = "this user"
    yield f"namespaces can be entered by {user}"


def needs_sandbox(look: Look) -> bool:
    """Whether code is compiled here, or the check of an image runs."""
    return look.some(lambda plan: plan.engine == "embedded" and (plan.check or look.isolated), else_=False)


def certificates(look: Look) -> Said:
    """Whom https trusts."""
    import ssl

    environ = look.ctx.environ
    found = urls.trust(environ)
    name = next((name for name in urls.BUNDLES if environ.get(name)), "")
    path = next(iter(found.values()), "") or ssl.get_default_verify_paths().cafile or ""
    try:
        context = ssl.create_default_context(
            cafile=found.get("ca_certs"), capath=found.get("ca_cert_dir")
        )
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error.strerror or error
        raise ConfigError(
            f"{name or 'the system'} names {path}, which holds no certificates ({reason}); name a PEM file that does"
        ) from error
    count = f"{len(context.get_ca_certs())} authorities in {path}" if Path(path).is_file() else path or "the system's"
    yield f"{count}, by {name}" if name else count


def _version(command: list[str], look: Look) -> str:
    """What a program says of its version: the first line, of the last whole words where there is a lot."""
    lines = run(command, env=look.ctx.environ, timeout=PATIENCE).strip().splitlines() or [command[0]]
    return re.sub(r"\s+\(.*\)$|, version", "", lines[0])
