"""Command line options of `build`, `plan` and `dockerfile` for options of the table, named like docker's options.

Each one sets the HATCH_DOCKER_* variable of its option for one run. So its value is validated like the table, and it is
part of the inputs of an unchanged build.
"""

import argparse
import json
import re
from collections.abc import Mapping, Sequence

from hatch_docker.config import PREFIX
from hatch_docker.core.cache.store import NO_CACHE
from hatch_docker.core.errors import ConfigError

TAG_ONLY = re.compile(r"v?[0-9]|latest$|.*\{")  # the start of a value of -t that is a tag, not a name
WITH_REGISTRY = re.compile(r"(localhost|[\w-]+(\.[\w-]+)+|([\w.-]+|\[[0-9a-f:]+\]):[0-9]+)/[a-z0-9._/-]+")
# By the value of --load: the value of the option `load`, and the words for another command line.
LOAD_VALUES: dict[bool | None, tuple[str, list[str]]] = {
    True: ("always", ["--load"]), False: ("never", ["--no-load"]), None: ("", []),
}  # fmt: skip
HATCH_TARGETS = {
    "docker": "hatch-docker build", "docker:image": "hatch-docker build", "docker:push": "hatch-docker build --push",
    "docker:plan": "hatch-docker plan", "docker:dockerfile": "hatch-docker dockerfile",
}  # fmt: skip


def add_flags(command: argparse.ArgumentParser, *, builds: bool) -> None:
    """Add the options to a command. `builds`: also add --load, --no-cache and --progress."""
    group = command.add_argument_group("options of [tool.hatch-docker], for this run")
    add = group.add_argument
    add(
        "-t", "--tag", action="append", default=[], metavar="NAME:TAG",
        help="the image's name and tag, as with docker: NAME, NAME:TAG, or :TAG alone; may be repeated",
    )
    add("--image", default="", metavar="NAME", help="the image's name, with its registry if it has one")
    add("--base", default="", help="the base image, such as debian:trixie or python:3.13-slim")
    add("--platform", action="append", default=[], help="linux/amd64 or linux/arm64; may be repeated")
    add("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="a value for build.args")
    if builds:
        add("--load", action=argparse.BooleanOptionalAction, help="always or never load it into Docker or Podman")
        add("--no-cache", action="store_true", help="use no results of earlier builds, not even downloads")
        add("--progress", choices=("auto", "plain"), default="auto", help="plain: lines without colours or a display")


def flag_variables(options: argparse.Namespace, environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the environment variables that the options set, and the option that the user typed for each variable.

    Raises ConfigError for two different names, and for a build argument without a value.
    """
    name, tags = _name_and_tags(options.tag, options.image)
    named = "--image" if options.image else "--tag"
    platforms = [item.strip() for text in options.platform for item in text.split(",")]
    table: list[tuple[str, str, str]] = [
        ("IMAGE", named, name),
        ("REGISTRIES", named, json.dumps([name]) if WITH_REGISTRY.fullmatch(name) else ""),
        ("TAGS", "--tag", json.dumps(tags) if tags else ""),
        ("BASE", "--base", options.base),
        ("PLATFORMS", "--platform", json.dumps(platforms) if platforms else ""),
        ("BUILD_ARGS", "--build-arg", _build_args(options.build_arg, environ)),
        ("LOAD", "--load", LOAD_VALUES[getattr(options, "load", None)][0]),
    ]
    variables = {PREFIX + option: value for option, _, value in table if value}
    spellings = {PREFIX + option: flag for option, flag, value in table if value}
    if getattr(options, "no_cache", False):
        variables[NO_CACHE] = "1"
    if getattr(options, "progress", "auto") == "plain":
        variables["NO_COLOR"] = "1"
    return variables, spellings


def flag_words(options: argparse.Namespace) -> list[str]:
    """Return the same options as words for the command line of another `hatch-docker build`."""
    words = [f"--{name}={value}" for name, value in (("image", options.image), ("base", options.base)) if value]
    for name in ("tag", "platform", "build_arg"):
        words += [f"--{name.replace('_', '-')}={value}" for value in getattr(options, name)]
    words += LOAD_VALUES[options.load][1]
    words += ["--no-cache"] if options.no_cache else []
    return [*words, f"--progress={options.progress}"]


def _name_and_tags(values: Sequence[str], image: str) -> tuple[str, list[str]]:
    """Return the image's name ("": the default one) and the tags ([]: those of the table)."""
    names, tags = [image] if image else [], []
    bare = False
    for text in values:
        if text in HATCH_TARGETS:
            raise ConfigError(
                f"--tag {text}: this is a target of hatch; here -t names the image: type `{HATCH_TARGETS[text]}`, or "
                f"`hatch build -t {text}`"
            )
        path, slash, last = text.rpartition("/")
        name, colon, tag = ("", ":", last) if TAG_ONLY.match(text) and ":" not in text else last.partition(":")
        if path or name:
            names.append(f"{path}{slash}{name}")
        if colon:
            tags.append(tag)
        bare |= not colon
    if len(set(names)) > 1:
        raise ConfigError(
            f"--tag: an image has one name, and there are two: {' and '.join(sorted(set(names)))}; to push it to more "
            "places, set `registries` in [tool.hatch-docker]"
        )
    return (names or [""])[0], [*tags, "latest"] if tags and bare and "latest" not in tags else tags


def _build_args(values: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the value of HATCH_DOCKER_BUILD_ARGS, whose "+" adds the build arguments to those of the table."""
    found = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals and name not in environ:
            raise ConfigError(f"--build-arg {name}: it has no value: type {name}=VALUE, or set the variable {name}")
        found[name] = value if equals else environ[name]
    return f"+{json.dumps(found)}" if found else ""
