"""Suggestions for unknown option names: words from Dockerfiles and other tools, and typing mistakes."""

import difflib
from collections.abc import Mapping, Sequence

from hatch_docker.config import PREFIX
from hatch_docker.config.schema import LISTS, all_options, item_options
from hatch_docker.core.context import IMAGES_VARIABLE, VARIABLES

# Option to the words for it in Dockerfiles, compose files and other tools.
SYNONYMS: Mapping[str, str] = {
    "base": "from from-image base-image image-base parent parent-image",
    "image": "name image-name repository repo",
    "tags": "tag",
    "registries": "registry",
    "engine": "backend buildkit buildx driver",
    "ports": "port expose exposed-ports",
    "env": "environ environment environment-variables",
    "volumes": "mounts",
    "cmd": "command args arguments",
    "entrypoint": "script",
    "user": "uid user-id run-as",
    "workdir": "cwd working-dir working-directory",
    "stop-signal": "signal",
    "files": "add copy include",
    "extras": "features optional-dependencies",
    "dependency-groups": "group groups",
    "lock": "lockfile requirements",
    "platforms": "arch archs architecture architectures platform",
    "python": "python-version requires-python",
    "build.base": "build-base build-image build.from build.image builder-base builder-image builder.base",
    "build.packages": "build.apt build-dependencies build-deps build-system-packages",
    "build.args": "arg build-arg",
    "runtime.packages": "apt apt-packages debian-packages run-packages runtime.apt system-packages",
    "healthcheck": "health",
    "healthcheck.command": "healthcheck.test healthcheck.cmd",
    "check.command": "check.test check.cmd",
    "files.source": "files.from files.src",
    "files.target": "files.dest files.destination files.dst files.path files.to",
    "files.mode": "chmod permissions files.chmod files.permissions",
    "steps": "commands run step",
    "steps.command": "steps.cmd steps.run",
    "steps.outputs": "steps.output steps.paths",
    "": "images no-cache build.compiler",  # similar to an option's name, but without an equivalent
}
_STEPS = ("onbuild", "scripts", "shell")


def _normalise(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


_OPTION_BY_WORD = {_normalise(word): option for option, words in SYNONYMS.items() for word in words.split()}


def is_option(name: str) -> bool:
    """Return whether a name is a top-level option or a synonym of an option."""
    return _normalise(name) in _OPTION_BY_WORD or any(option.path == (name,) for option in all_options())


def unknown_option_message(location: Sequence[str | int]) -> str:
    """Return the message for an unknown option. `location`: its path below the table."""
    path = [part for part in location if isinstance(part, str)]
    path = path[2:] if path[0] == "images" and path[2:] else path
    name, variable = path[-1], PREFIX + path[-1].replace("-", "_").upper()
    if path[:-1] == [] and name.lower() in _STEPS:
        return (
            'unknown option; "runtime.packages" adds Debian packages, "files" adds files, "steps" runs commands in the '
            "finished image, and what a build hook of the project makes goes into its wheel"
        )
    if variable in VARIABLES.keys() - {IMAGES_VARIABLE}:
        return f"unknown option; there is the variable {variable}"
    names = " or ".join(f'"{option}"' for option in _suggest(path))
    return f"unknown option; did you mean {names}?" if names else "unknown option"


def suggest_options(name: str) -> Sequence[str]:
    """Return the dotted names of options to suggest for an unknown option on the command line."""
    return _suggest([name])


def _suggest(path: Sequence[str]) -> Sequence[str]:
    """Return the options to suggest: options of this name in other tables, else the most similar name."""
    above, name = path[:-1], _normalise(path[-1])
    in_item = len(above) == 1 and above[0] in LISTS
    options = item_options(above[0]) if in_item else (item for item in all_options() if list(item.path[:-1]) == above)
    beside = {_normalise(option.path[-1]): option.path[-1] for option in options}
    synonym = _OPTION_BY_WORD.get(_normalise(".".join(path)))
    for found in (beside.get(name), synonym, beside.get(_OPTION_BY_WORD.get(name, name))):
        if found is not None:
            return [found] if found else []
    names = ((option.name, option.path[-1], "".join(option.path)) for option in all_options())
    elsewhere = [full for full, last, joined in names if name in (_normalise(last), _normalise(joined))]
    if elsewhere and not in_item:
        return elsewhere
    close = [beside[word] for word in difflib.get_close_matches(name, beside, 1, 0.75)]
    words = difflib.get_close_matches(name, _OPTION_BY_WORD, 1, 0.85)
    return close or [_OPTION_BY_WORD[word] for word in words if not above]
