"""The uv program: its path, and its resolution of requirements to files for a target.

uv evaluates markers and tags for the target. It must never build: an sdist is part of a resolution only with metadata
that are passed to uv (`dependency-metadata`), so no code of a package runs here.
"""

import re
import shutil
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hatch_docker.core.context import Context
from hatch_docker.core.errors import HatchDockerError, OfflineError, RegistryError, TransientError, WheelError
from hatch_docker.core.files import temporary_directory
from hatch_docker.core.http.client import OFFLINE, is_offline
from hatch_docker.core.http.urls import parse, redact_requirement, redact_url
from hatch_docker.core.process import ProcessFailed, run
from hatch_docker.wheels.index import Indexes
from hatch_docker.wheels.locks.sources import NO_BINDINGS, REQUIREMENTS, Bindings
from hatch_docker.wheels.target import Target, parse_requirement

# Minor versions that uv has names for; for another version the next lower one is used.
_GLIBC = (40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 28, 17)
OLDEST = "0.8.6"  # pip compile --format pylock.toml
# Matches start only at the first letter of a word: otherwise a version with 5000 digits takes seconds.
_NAME = r"(?<![\w.-])([A-Za-z0-9](?:[\w-]|\.(?=\w))*)"
# Permanent HTTP errors; the temporary ones are in `retry.RETRYABLE`.
_PERMANENT = re.compile(
    r"HTTP status client error \(4(?!08|29|99)\d\d |proxy authorization required|is not a valid HTTP URI"
)
_SOURCES_OFF = ("no-sources", "no-sources-package", "UV_NO_SOURCES", "UV_NO_SOURCES_PACKAGE")  # bindings ignore them
_SCHEMES = ("http", "https", "file")
# uv has options that forbid builds. If it builds anyway, its Python finds no standard library. uv runs the Python of
# `--python` with -I, which ignores the variable. It is not set if uv may run `keyring`, a Python program too.
_NO_BUILD = {"PYTHONHOME": "/nonexistent"}
_NOT_FOUND = (
    re.compile(rf"{_NAME} was not found in the package registry"), re.compile(rf"there are no versions of {_NAME}"),
)
_NO_WHEEL = (
    re.compile(rf"Wheels are required for `{_NAME}"),
    re.compile(rf"{_NAME}(?:[=<>!~]=?\S+)? ha(?:s|ve) no (?:usable wheels|wheels with a matching)"),
)


class MissingWheelError(WheelError):
    """uv found no wheels for the packages `names`."""

    def __init__(self, message: str, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.names = names


class NotFoundError(WheelError):
    """No index has the packages `names`."""

    def __init__(self, message: str, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.names = names


def find_uv(environ: Mapping[str, str]) -> str:
    """Return the path of the uv program. Raise WheelError, which names the searched places, if there is none.

    Order: HATCH_UV (hatch sets it), UV (uv sets it), PATH, the uv package in hatch-docker's environment.
    """
    for name in ("HATCH_UV", "UV"):
        if value := environ.get(name):
            if found := shutil.which(value, path=environ.get("PATH", "")):
                return found
            raise WheelError(f"{name} names {value}, which is not a program; correct it or unset it")
    if found := shutil.which("uv", path=environ.get("PATH", "")):
        return found
    try:
        import uv

        return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise WheelError(
            "resolving dependencies needs uv, and none is in HATCH_UV, UV, PATH or this Python; install it "
            '(dependencies = ["hatch-docker[uv]"]) or add a pylock.toml or uv.lock to the project'
        ) from None


def platform_name(target: Target) -> str:
    """Return the target's name for `uv --python-platform`. Raise WheelError if uv has none."""
    kind, version = target.libc
    if target.machine == "riscv64" and kind == "glibc":
        return "riscv64-unknown-linux"
    if target.machine not in ("x86_64", "aarch64"):
        raise WheelError(f"uv cannot resolve for {target.platform}; add a pylock.toml or uv.lock")
    if kind == "musl":
        return f"{target.machine}-unknown-linux-musl"
    minor = int(version.split(".")[1])
    newest = next((known for known in _GLIBC if known <= minor), _GLIBC[-1])
    return f"{target.machine}-manylinux_2_{newest}"


def compile_lock(
    lines: Sequence[str], target: Target, root: Path, indexes: Indexes, ctx: Context, *,
    metadata: Mapping[str, Mapping[str, Sequence[str]]], bindings: Bindings = NO_BINDINGS,
    pinned: Sequence[str] = (), every_file: bool = False,
) -> dict[str, Any]:
    """Return uv's resolution as the table of a pylock.toml (PEP 751).

    `metadata`: `requires-dist` and `provides-extra` of the packages that may be sdists. `bindings`: indexes and
    addresses of packages. `pinned`: constraints (`name==version`). With `every_file`, list all files of the lines,
    which must be pins, without their dependencies. Raise MissingWheelError, RegistryError, TransientError, or
    WheelError with uv's explanation.
    """
    if is_offline(ctx.environ):
        raise OfflineError(f"what {', '.join(lines)[:200]} needs is not in the cache, and {OFFLINE} is set")
    program = find_uv(ctx.environ)
    _check_lines(lines)
    for link in indexes.missing_links:
        line = f"find-links {link} does not exist and is ignored: make the directory, or correct the configuration"
        if line not in ctx.progress.warnings:
            ctx.progress.warn(line)
    command = [
        program, "pip", "compile", "--format", "pylock.toml", "--quiet", "--no-header",
        "--python", sys.executable, "--python-version", target.python,
    ]
    command += ["--no-index"] if indexes.no_index else []  # uv has no variable for it
    command += ["--universal", "--no-deps"] if every_file else ["--python-platform", platform_name(target)]
    if not every_file:
        command += ["--only-binary", ":all:"]
        for name in sorted(metadata):
            command += ["--no-binary", name]
    env = indexes.uv_environment(ctx.environ) | ({} if indexes.keyring else _NO_BUILD)
    with temporary_directory() as directory:
        free = [line for line in lines if not bindings.has(line)]
        if metadata or indexes.source in ("poetry", "pdm") or indexes.settings.keys() & {*_SOURCES_OFF}:
            # The user's settings and the metadata in one file: with --config-file uv reads no other settings.
            users = indexes.settings.get("dependency-metadata", [])
            tables = [{"name": name, **table} for name, table in sorted(metadata.items())]
            tables += [entry for entry in users if entry.get("name") not in metadata]
            settings = {name: value for name, value in indexes.settings.items() if name not in _SOURCES_OFF}
            config = _write(directory / "uv.toml", {**settings, "dependency-metadata": tables})
            command += ["--config-file", config]
        if pinned:
            (directory / "pinned.txt").write_text("".join(f"{line}\n" for line in pinned), encoding="utf-8")
            command += ["-c", str(directory / "pinned.txt")]
        if len(free) < len(lines):
            table, logins = bindings.project([line for line in lines if bindings.has(line)], root)
            command.append(_write(directory / "pyproject.toml", table))
            env = {name: value for name, value in env.items() if name not in _SOURCES_OFF} | logins
        try:
            output = run(
                [*command, "-"], env=env, cwd=root, secrets=indexes.secrets,
                stdin="".join(f"{line}\n" for line in free).encode(), log=ctx.progress.detail,
            )
        except ProcessFailed as error:
            raise _error_for(error.output, target, indexes.note) from error
    try:
        return tomllib.loads(output)
    except tomllib.TOMLDecodeError as error:
        raise WheelError(f"{program} gave no pylock.toml ({error}); uv {OLDEST} or newer is needed") from error


def _write(path: Path, table: Mapping[str, Any]) -> str:
    import tomlkit

    path.write_text(tomlkit.dumps(table), encoding="utf-8")
    return str(path)


def _check_lines(lines: Sequence[str]) -> None:
    """Raise WheelError unless each line is a requirement: an sdist's metadata must not add options or files for uv."""
    for line in lines:
        url = parse(parse_requirement(line, "the dependency").url or "file:///.whl")
        if url.scheme not in _SCHEMES or not url.path.endswith(".whl"):
            raise WheelError(
                f"{line.partition('@')[0].strip()[:100]} is at {redact_url(url.geturl())[:200]}, which is no wheel, "
                "no sdist and no git repository: correct the address"
            )
        if "\n" in line or "\r" in line:
            raise WheelError(
                f"the dependency {redact_requirement(line)[:100]!r} is more than one line; correct the package that "
                "requires it"
            )


def _error_for(output: str, target: Target, note: str = "") -> HatchDockerError:
    """Return the error for uv's output in one line. `note`: about indexes that are not used."""
    lines = [re.sub(r"^(?:error|cause)\b:?|^\W+", "", line.strip()).strip() for line in output.splitlines()]
    text = " ".join(line for line in lines if line).replace(f"{REQUIREMENTS} depends on", "you require")
    if "unexpected argument" in text or "invalid value" in text:
        return WheelError(f"this version of uv cannot be used ({OLDEST} or newer is needed): {text}")
    if re.search(r"401 Unauthorized|403 Forbidden", text):
        return RegistryError(
            f"the package index refuses uv: {text}; put the user and password into UV_INDEX_<NAME>_USERNAME and "
            "_PASSWORD, the index's URL or ~/.netrc"
        )
    if "invalid peer certificate" in text:
        return RegistryError(
            f"uv does not trust the package index: {text}; for a private CA set HATCH_DOCKER_CA_BUNDLE"
        )
    if _PERMANENT.search(text):
        return RegistryError(f"the package index refuses uv: {text}")
    if re.search(r"Request failed|[Ff]ailed to fetch|error sending request", text):
        return TransientError(f"the package index does not answer uv: {text}")
    # Other errors may quote a package's files, such as an invalid line of its pyproject.toml.
    patterns = _NO_WHEEL if text.startswith("No solution found") else ()
    names = tuple(sorted({name for pattern in patterns for name in pattern.findall(text)}))
    sentence = text.partition(" hint: ")[0].rstrip(".")
    message = f"cannot resolve the dependencies for {target}: {sentence}{note and f'; {note}'}"
    if names:
        return MissingWheelError(message, names)
    unknown = tuple(sorted({name for pattern in _NOT_FOUND for name in pattern.findall(text)}))
    return NotFoundError(message, unknown) if unknown else WheelError(message)
