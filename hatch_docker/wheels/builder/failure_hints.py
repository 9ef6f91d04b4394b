"""Hints for a failed build: the Debian package or the network that it lacked, by the output of compilers."""

import re

LONGEST = 1000  # characters of a line that are read
# Pattern of the output, and the missing thing; the Debian packages that have it, if known. "{}" is the name found.
_WORDS = (
    (r"fatal error: (\S+): No such file", "{}"),
    (r"rustc ([\d.]+) is not supported by the following package", "a Rust that is newer than {}; rustc-web, cargo-web"),
    (r"Rust not found|[Cc]argo, the Rust package manager, is not installed|puccinialin", "Rust; cargo"),
    (r"Unknown compiler\(s\): \[\['gfortran|No CMAKE_Fortran_COMPILER could be found", "Fortran; gfortran"),
    (r"Git program not found", "git; git"),
    (r"ERROR: Dependency \"([^\"]+)\" not found", "{}.pc"),  # meson; without ERROR it goes on
    (r"Package ([\w.+-]+) was not found in the pkg-config", "{}.pc"),
    (r"CMake Error[^\n]*\n(?:[^\n]*\n){0,5}? *(?:Could NOT find|Could not find a[^\"]*provided by \"?)\s*(\w+)", "{}"),
    (r"cannot find -l([\w.+-]+)", "lib{}.so"),
    (r"(?:No such file or directory: '|command not found: |error: command ')([\w.+-]+)'", "{}"),
    (r": line \d+: ([\w.+-]+): command not found|: \d+: ([\w.+-]+): not found", "{}"),  # shells
)
_NETWORK = r"Name or service|name resolution|unreachable|ConnectionError|Could not resolve host"
_KILLED = r"exit (?:code:|status) 137\b|Killed signal terminated program|(?i:cannot allocate memory)"
NO_MEMORY = "; something killed it; perhaps the memory ran out"
_WHERE = "[tool.hatch-docker.build] packages"


def hint(output: str, *, network: bool) -> str:
    """Return what to try after a failed build, "" if unknown; `network` is True if the build may use the network."""
    output = "\n".join(line[:LONGEST] for line in output.splitlines())
    if re.search(_KILLED, output):
        return NO_MEMORY
    for pattern, words in _WORDS:
        if match := re.search(pattern, output):
            named = next(filter(None, match.groups()), "")
            lacking, _, packages = words.replace("{}", named).partition("; ")
            listed = ", ".join(f'"{package}"' for package in packages.split(", ")) if packages else ""
            return f" because {lacking} is missing; add {listed or 'the Debian package that has it'} to {_WHERE}"
    if not network and re.search(_NETWORK, output):
        return "; it needs the network, which [tool.hatch-docker.build] network = false forbids"
    return ""
