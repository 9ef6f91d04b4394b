"""Checks of this machine: programs and their versions, daemons, builders, namespaces, certificates."""

import getpass
import importlib.util
import platform
import re
import shutil
import ssl
import sys
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

from hatch_docker import __version__
from hatch_docker.cli.doctor.check import Finding, Report, Setup
from hatch_docker.core.errors import ConfigError, DaemonError, ProgramError, SandboxError, WheelError
from hatch_docker.core.http import urls
from hatch_docker.core.process import run
from hatch_docker.engines.buildkit.builders import find_builder
from hatch_docker.engines.buildkit.buildx import Buildx
from hatch_docker.oci.daemon import open_client
from hatch_docker.oci.engine_api import Daemon, connect
from hatch_docker.oci.find_daemon import docker_daemon, find_daemons
from hatch_docker.project.git import read_revision
from hatch_docker.release.cosign import check_signing
from hatch_docker.wheels.builder.sandbox import sandbox_error
from hatch_docker.wheels.locks.uv import OLDEST, find_uv

TIMEOUT = 10.0  # seconds for a program to print its version
COSIGN_VERSIONS = (2, 3)


def check_python(setup: Setup) -> Report:
    """Report versions of hatch-docker, hatchling and Python. Check zstd, which needs a package before Python 3.14."""
    yield (
        f"hatch-docker {__version__}, hatchling {version('hatchling')}, Python {platform.python_version()} on "
        f"{sys.platform}/{platform.machine()}"
    )
    zstd = ("compression.zstd",) if sys.version_info >= (3, 14) else ("backports", "backports.zstd")
    if setup.any_plan(lambda plan: plan.compression == "zstd") and not all(map(importlib.util.find_spec, zstd)):
        yield Finding("problem", "python", 'compression = "zstd" needs a package: install hatch-docker[zstd]')


def check_hatch(setup: Setup) -> Report:
    """Check that the program hatch is installed."""
    path = shutil.which("hatch", path=setup.ctx.environ.get("PATH", ""))
    if path is None:
        raise ProgramError("not in PATH; `hatch-docker build` does what `hatch build -t docker` does")
    yield f"{_version([path, '--version'], setup)}, {path}"


def check_git(setup: Setup) -> Report:
    """Check that git can read the commit, which image labels contain."""
    warnings: list[str] = []
    revision = read_revision(setup.root, setup.ctx.environ, warn=warnings.append)
    if warnings:
        yield Finding("problem", "git", warnings[0])
    elif revision is None:
        yield Finding("unneeded", "git", "no commit: the image will have no revision")
    else:
        yield f"commit {revision.commit[:12]}" + (", with uncommitted changes" if revision.dirty else "")


def check_uv(setup: Setup) -> Report:
    """Check uv and its version. uv resolves requirements if there is no lock."""
    path = find_uv(setup.ctx.environ)
    text = _version([path, "--version"], setup)
    match = re.search(r"\d+\.\d+\.\d+", text)
    if match and Version(match[0]) < Version(OLDEST):
        raise WheelError(f"{text} at {path} is too old: {OLDEST} or newer is needed; install hatch-docker[uv]")
    yield f"{text}, {path}"


def check_cosign(setup: Setup) -> Report:
    """Check cosign and its version, and the keys or identities for signing."""
    path = shutil.which("cosign", path=setup.ctx.environ.get("PATH", ""))
    signs = [plan.sign for plan in setup.plans if plan.sign]
    for sign in signs:
        check_signing(sign, setup.root, setup.ctx.environ)
    if path is None:
        raise ProgramError("not in PATH; without it nothing can be signed")
    text = run([path, "version"], env=setup.ctx.environ, timeout=TIMEOUT)
    match = re.search(r"GitVersion:\s*(v?(\d+)\.\S+)", text)
    if match and int(match[2]) not in COSIGN_VERSIONS:
        raise ProgramError(f"cosign {match[1]} at {path} is not supported: install version 2 or 3")
    yield f"cosign {match[1] if match else 'of an unknown version'}, {path}" + (", signs what is pushed" * bool(signs))


def check_docker(setup: Setup) -> Report:
    """Check Docker's daemon, at the address that the docker command would use."""
    daemon = docker_daemon(setup.ctx.environ)
    if setup.offline and not daemon.socket:
        yield Finding("unneeded", "docker", "not asked, since it is on another machine: offline")
        return
    try:
        if not daemon.by_ssh:  # for ssh, its own error message is the best explanation
            connect(daemon).close()
    except PermissionError as error:
        raise DaemonError(
            f"{daemon.socket}: this user may not talk to Docker; join the group docker (and log in again), or use "
            "rootless Docker"
        ) from error
    except OSError as error:
        address, reason = daemon.socket or urls.redact_url(daemon.url), error.strerror or str(error) or "no answer"
        raise DaemonError(f"nothing answers at {address} ({reason}); start Docker, or set DOCKER_HOST") from error
    program = shutil.which("docker", path=setup.ctx.environ.get("PATH", ""))
    yield _describe(daemon) + ("" if program else "; the program docker is not in PATH, and not needed to load images")


def check_podman(setup: Setup) -> Report:
    """Check Podman's socket or program."""
    environ = setup.ctx.environ
    daemon = next((daemon for daemon in find_daemons(environ, "podman") if daemon.kind == "podman"), None)
    program = shutil.which("podman", path=environ.get("PATH", ""))
    if daemon and daemon.url:
        yield _describe(daemon)
    elif daemon and program:
        version = run([program, "--version"], env=environ, timeout=TIMEOUT).strip().removeprefix("podman version ")
        yield f"version {version}, by its program {program}"
    else:
        raise DaemonError("neither its socket nor its program was found")


def check_builder(setup: Setup) -> Report:
    """Check the builders of engine = "buildkit"."""
    names = {plan.builder for plan in setup.plans if plan.engine == "buildkit"} or {""}
    for name in sorted(names):
        found = find_builder(name, setup.ctx)
        platforms = ", ".join(found.platforms) or "not started yet"
        if isinstance(found, Buildx):
            version = ".".join(map(str, found.version))
            yield f"buildx {version}, builder {found.name!r} (driver {found.driver}): {platforms}"
        else:
            yield f"podman build: {platforms}"


def _describe(daemon: Daemon) -> str:
    """Return a daemon's version, address, platform and image store."""
    with open_client(daemon) as client:
        info = client.info()
    store = "containerd's store" if "containerd" in str(info.get("DriverStatus")) else str(info.get("Driver", "?"))
    rootless = ", rootless" if "rootless" in str(info.get("SecurityOptions")) else ""
    version, system, machine = (info.get(name, "?") for name in ("ServerVersion", "OSType", "Architecture"))
    return f"version {version} at {daemon.socket or urls.redact_url(daemon.url)}{rootless}, {system}/{machine}, {store}"


def check_sandbox(setup: Setup) -> Report:
    """Check that the sandbox's namespaces can be created; report limits of the sandbox that this machine lacks."""
    missing: list[str] = []
    if reason := sandbox_error(setup.ctx.environ, missing.append):
        raise SandboxError(reason)
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # the UID has no name
        user = "this user"
    yield "; ".join([f"namespaces can be entered by {user}", *missing])


def check_certificates(setup: Setup) -> Report:
    """Check the certificate authorities for HTTPS."""
    environ = setup.ctx.environ
    trust = urls.trust(environ)
    variable = next((name for name in urls.BUNDLES if environ.get(name)), "")
    path = next(iter(trust.values()), "") or ssl.get_default_verify_paths().cafile or ""
    try:
        context = ssl.create_default_context(cafile=trust.get("ca_certs"), capath=trust.get("ca_cert_dir"))
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error.strerror or error
        raise ConfigError(
            f"{variable or 'the system'} names {path}, which contains no certificates ({reason}); set it to a PEM file "
            "with certificates"
        ) from error
    text = f"{len(context.get_ca_certs())} authorities in {path}" if Path(path).is_file() else path or "the system's"
    yield f"{text}, by {variable}" if variable else text


def _version(command: list[str], setup: Setup) -> str:
    """Return the first line of a program's version output, without text in parentheses at its end."""
    lines = run(command, env=setup.ctx.environ, timeout=TIMEOUT).strip().splitlines() or [command[0]]
    return re.sub(r"\s+\(.*\)$|, version", "", lines[0])
