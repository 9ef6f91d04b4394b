"""The environment of a build in the builder stage: variables, user account, the machine's CA certificates."""

from collections.abc import Mapping
from pathlib import Path

from hatch_docker.core.errors import ConfigError
from hatch_docker.core.http.urls import BUNDLES
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.plan.model import BuildPlan
from hatch_docker.wheels.builder.sandbox import BUILD_USER
from hatch_docker.wheels.builder.ssh_agent import SOCKET, VARIABLE

BUILD = "[tool.hatch-docker.build]"
GUARD = "HATCH_DOCKER_BUILDER_STAGE"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
TRUSTED = {"SSL_CERT_FILE": CERTIFICATES, "PIP_CERT": CERTIFICATES, "REQUESTS_CA_BUNDLE": CERTIFICATES}
"""Variables that make programs trust the machine's certificates."""
PROXIES = ("http_proxy", "https_proxy", "no_proxy")


def fixed_env(plan: BuildPlan) -> dict[str, str]:
    """Return the variables of all builds, in the sandbox and in a Dockerfile: fixed values and the plan's."""
    env = {
        "PATH": "/env/bin:/usr/local/bin:/usr/bin:/bin", "HOME": "/build/home", "TMPDIR": "/tmp",  # noqa: S108
        "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", "VIRTUAL_ENV": "/env",
        "SOURCE_DATE_EPOCH": str(SOURCE_DATE), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1",
        # Debian's Python compiles with -g: without this a wheel is mostly debug information.
        "LDFLAGS": "-Wl,--strip-debug",
    }  # fmt: skip
    if plan.network:
        env |= TRUSTED
    return {**env, GUARD: "1", **plan.args, **plan.env}


def build_variables(plan: BuildPlan, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the complete environment of a build in the sandbox. Only secrets and proxies come from `environ`."""
    env = fixed_env(plan)
    if plan.network:
        env = {**proxies(environ), **env}
    if plan.ssh:
        env[VARIABLE] = SOCKET
    return env | secret_variables(plan.secrets, environ)


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the machine's proxies for a build, without those that contain a login: these must be in `secrets`."""
    names = [variable for name in PROXIES for variable in (name, name.upper())]
    return {name: environ[name] for name in names if environ.get(name) and "@" not in environ[name]}


def secret_variables(names: tuple[str, ...], environ: Mapping[str, str], table: str = BUILD) -> dict[str, str]:
    """Return the values of the secrets in a table of options. Raise ConfigError for a secret that is not set."""
    for name in names:
        if name not in environ:
            raise ConfigError(f"{table} secrets: {name} is not set in the environment; set it for this build")
    return {name: environ[name] for name in names}


def accounts(root: Path) -> dict[str, str]:
    """Return the tree's passwd and group files with the build's user added, for programs that look up their user."""
    lines = {"etc/passwd": "builder:x:{}:{}::/build/home:/bin/sh\n", "etc/group": "builder:x:{1}:\n"}
    files = {}
    for name, line in lines.items():
        path = root / name
        text = path.read_text(encoding="utf-8") if path.is_file() and not path.is_symlink() else ""
        files[f"/{name}"] = text + line.format(*BUILD_USER)
    return files


def certificates(environ: Mapping[str, str], *, network: bool) -> dict[str, str]:
    """Return the host's CA certificates by path, so that a build with network trusts private CAs too."""
    if not network:
        return {}
    bundles = [environ[name] for name in BUNDLES if environ.get(name)]
    found = next((path for path in map(Path, [*bundles, CERTIFICATES]) if path.is_file()), None)
    return {} if found is None else {CERTIFICATES: found.read_text(encoding="utf-8", errors="replace")}
