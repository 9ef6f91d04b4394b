"""Hints for a failed build: the Debian package or the network that it lacked, by the output of compilers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatch_docker.bases.debian.suite import Suite

LONGEST = 1000  # characters of a line that are read
# Pattern of the output, and the missing thing, after ";" the file or the Debian packages that have it, if they are
# named otherwise. "{}" is the name found.
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
    (r"ERROR: Dependency \"([^\"]+)\" not found", "{}.pc"),  # meson; without ERROR it goes on
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
    """A thing that a build lacked, as people call it; the file to search, "" if its Debian `packages` are known."""

    what: str
    file: str
    packages: tuple[str, ...] = ()


def find_missing(output: str) -> Missing | None:
    """Return what a build lacked by its output, None if that is not known."""
    from hatch_docker.bases.debian.find_package import KNOWN

    for pattern, words in _WORDS:
        if match := re.search(pattern, _shortened(output)):
            named = next(filter(None, match.groups()), "")
            what, _, packages = words.replace("{}", named).partition("; ")
            if packages or what in KNOWN:
                return Missing(what, "", tuple(packages.split(", ")) if packages else (KNOWN[what],))
            return Missing(what, what)
    return None


def hint(output: str, *, network: bool, image: str = "") -> str:
    """Return what to try after a failed build, "" if unknown; `network` is True if the build may use the network.

    `image` is `build.base`, if the project names one.
    """
    if re.search(_KILLED, _shortened(output)):
        return NO_MEMORY
    if missing := find_missing(output):
        if image:
            return f" because {missing.what} is missing; choose a build.base that has it, which {image} does not"
        listed = ", ".join(f'"{package}"' for package in missing.packages)
        return f" because {missing.what} is missing; add {listed or 'the Debian package that has it'} to {_WHERE}"
    if not network and re.search(_NETWORK, _shortened(output)):
        return "; it needs the network, which [tool.hatch-docker.build] network = false forbids"
    return ""


def remedy(
    output: str, packages: Sequence[str], suite: Suite | None, rust: Callable[[], str] = lambda: ""
) -> tuple[str, str]:
    """Return why a build failed, and the lines of configuration that mend it, both "" if no package is known.

    `packages` are those that the builder stage has already; `suite` is searched for a package that is not well known.
    `rust` returns the version of Rust that the sources ask for, "" for any.
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
    kept = {name for name in packages if f"{name}-web" not in found}  # Debian has one of both at a time
    names = ", ".join(f'"{name}"' for name in sorted({*kept, *found}))
    lines = f"add to pyproject.toml:\n  [tool.hatch-docker.build]\n  packages = [{names}]"
    return f" because {missing.what} is missing", f"{', '.join(found)} of Debian has {missing.what}; {lines}"


def _shortened(output: str) -> str:
    return "\n".join(line[:LONGEST] for line in output.splitlines())
