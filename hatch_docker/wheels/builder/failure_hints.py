"""Hints for a failed build: the Debian package or the network that was missing, by the output of compilers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatch_docker.bases.debian.suite import Suite

LONGEST = 1000  # characters of a line that are read
# Pattern in the output; the missing program or file ("{}": the group of the pattern), and after ";" the Debian
# packages that contain it if their names differ.
_WORDS = (
    (r"fatal error: '?([^\s']+?)'?(?:: No such file| file not found)", "{}"),
    (r"rustc ([\d.]+) is not supported by the following package", "a Rust that is newer than {}; rustc-web, cargo-web"),
    (
        r"Rust not found|[Cc]argo, the Rust package manager, is not installed|puccinialin|can't find Rust compiler",
        "Rust; cargo",
    ),
    (r"Unknown compiler\(s\): \[\['gfortran|No CMAKE_Fortran_COMPILER could be found", "Fortran; gfortran"),
    (r"Git program not found", "git"),
    (r"Unable to find libclang", "libclang; libclang-dev"),
    (r"Could not detect Ninja|Unable to find `?ninja", "ninja"),
    (r"Could not find `protoc`", "protoc"),
    (r"pg_config executable not found", "pg_config"),
    (r"Can not find valid pkg-config name", "mysqlclient.pc"),
    (r"is `(cmake)` not installed", "{}"),
    (r"Please make sure the libxml2 and libxslt development packages are installed",
     "libxml2 and libxslt; libxml2-dev, libxslt1-dev"),
    (r"The headers or library files could not be found for (\w+)", "{}"),  # Pillow
    (r"The file `([\w.+-]+\.pc)` needs to be installed", "{}"),  # Rust's pkg-config
    (r"ERROR: Dependency \"([^\"]+)\" not found", "{}.pc"),  # meson; without ERROR meson continues
    (r"Package '?([\w.+-]+?)'?,? (?:was not found in the pkg-config|required by '[^']*', not found)", "{}.pc"),
    (r"No package '([\w.+-]+)' found", "{}.pc"),
    (r"CMake Error[^\n]*\n(?:[^\n]*\n){0,5}? *(?:Could NOT find|Could not find a[^\"]*provided by \"?)\s*(\w+)", "{}"),
    (r"cannot find -l([\w.+-]+)", "lib{}.so"),
    (r"(?:No such file or directory: '|command not found: |error: command ')([\w.+-]+)'", "{}"),
    (r": line \d+: ([\w.+-]+): command not found|: \d+: ([\w.+-]+): not found", "{}"),  # shells
)  # fmt: skip
_NETWORK = r"Name or service|name resolution|unreachable|ConnectionError|Could not resolve host"
_KILLED = r"exit (?:code:|status) 137\b|Killed signal terminated program|(?i:cannot allocate memory)"
NO_MEMORY = "; something killed it; perhaps the memory ran out"
_WHERE = "[tool.hatch-docker.build] packages"


@dataclass(frozen=True, slots=True)
class Missing:
    """A missing program or library: its name in messages, and the `file` to search or its known Debian `packages`."""

    name: str
    file: str
    packages: tuple[str, ...] = ()


def find_missing(output: str) -> Missing | None:
    """Return the missing program or library that the output of a build names; None if unknown."""
    from hatch_docker.bases.debian.find_package import KNOWN

    for pattern, words in _WORDS:
        if match := re.search(pattern, _shortened(output)):
            named = next(filter(None, match.groups()), "")
            name, _, packages = words.replace("{}", named).partition("; ")
            if packages or name in KNOWN:
                return Missing(name, "", tuple(packages.split(", ")) if packages else (KNOWN[name],))
            return Missing(name, name)
    return None


def hint(output: str, *, network: bool, image: str = "") -> str:
    """Return a remedy after a failed build, "" if unknown. `network`: whether the build may use the network.

    `image`: `build.base`, if the project names one.
    """
    if re.search(_KILLED, _shortened(output)):
        return NO_MEMORY
    if missing := find_missing(output):
        if image:
            return f" because {missing.name} is missing; choose a build.base that has it, which {image} does not"
        packages = ", ".join(f'"{package}"' for package in missing.packages)
        return f" because {missing.name} is missing; add {packages or 'the Debian package that has it'} to {_WHERE}"
    if not network and re.search(_NETWORK, _shortened(output)):
        return "; it needs the network, which [tool.hatch-docker.build] network = false forbids"
    return ""


def remedy(
    output: str, packages: Sequence[str], suite: Suite | None, rust: Callable[[], str] = lambda: ""
) -> tuple[str, str]:
    """Return the cause of a failed build and the lines of configuration that fix it; both "" if no package is known.

    `packages`: those already in the builder stage. `suite`: searched for a package that is not well known. `rust`
    returns the version of Rust that the sources require, "" for any.
    """
    from hatch_docker.bases.debian.find_package import find_package, packages_of_rust

    missing = None if re.search(_KILLED, _shortened(output)) else find_missing(output)
    if missing is None:
        return "", ""
    found = missing.packages or tuple(filter(None, [find_package(missing.file, suite)]))
    if found == ("cargo",) and suite is not None and (version := rust()):
        found = packages_of_rust(version, suite)
    if not set(found) - set(packages):
        return "", ""
    kept = {name for name in packages if f"{name}-web" not in found}  # Debian can install only one of the two
    names = ", ".join(f'"{name}"' for name in sorted({*kept, *found}))
    lines = f"add to pyproject.toml:\n  [tool.hatch-docker.build]\n  packages = [{names}]"
    return f" because {missing.name} is missing", f"{', '.join(found)} of Debian has {missing.name}; {lines}"


def _shortened(output: str) -> str:
    return "\n".join(line[:LONGEST] for line in output.splitlines())
