"""Suggestions for unknown option names."""

import pytest

from hatch_docker.config.schema import LISTS, all_options, item_options
from hatch_docker.config.suggest import SYNONYMS, unknown_option_message

# Suggested option to wrong names: words of Dockerfiles, compose files and other tools, and typing mistakes.
WRONG_NAMES = {
    "base": "from FROM base-image base_image baseimage parent build.base bse",
    "ports": "expose EXPOSE port prots images.worker.prots",
    "env": "environment environ ENV enviroment build.environment",
    "image": "name repository image-name repo imgae",
    "tags": "tag build.tags",
    "cmd": "command args CMD",
    "extras": "features optional-dependencies",
    "dependency-groups": "groups group dependency_groups depedency-groups",
    "platforms": "archs arch platform architecture",
    "runtime.packages": "apt apt-packages system-packages runtime-packages runtime.apt",
    "build.packages": "build-deps build-dependencies build.apt",
    "build.args": "build-args buildargs build-arg ARG",
    "cache.from": "cache-from build.cache-from",
    "cache.to": "cache-to",
    "steps": "run commands",
    "steps.outputs": "steps.output",
    "files": "copy COPY include add",
    "files.source": "files.src",
    "files.target": "files.dest files.to",
    "files.mode": "chmod files.permissions",
    "healthcheck": "health health-check",
    "healthcheck.command": "healthcheck.test healthcheck-command",
    "healthcheck.retries": "retries",
    "check.command": "check.cmd",
    "start-period": "healthcheck.start_period",
    "entrypoint": "entry-point script entrypiont",
    "engine": "buildx buildkit",
    "registries": "registry",
    "labels": "LABEL lables",
    "user": "uid USER",
    "workdir": "cwd working-dir workingdir",
    "stop-signal": "signal stopsignal",
    "volumes": "volume mounts",
    "debian.security-mirror": "security-mirror",
    "python": "python-version",
    "max-size": "max_size maxsize",
    "mode": "files.mdoe",
}
WITHOUT_SUGGESTION = (
    "version dockerfile context target workers restart hostname build-stage publish destination description "
    "layers images.worker.images files.owner files.user build.compiler sign.private-key"
)


def message(name: str) -> str:
    first, *rest = name.split(".")
    return unknown_option_message([first, 0, *rest] if first in LISTS and rest else [first, *rest])


@pytest.mark.parametrize(("name", "option"), [
    (name, option) for option, names in WRONG_NAMES.items() for name in names.split()
])  # fmt: skip
def test_similar_option_is_suggested(name: str, option: str) -> None:
    assert message(name) == f'unknown option; did you mean "{option}"?'


@pytest.mark.parametrize("name", WITHOUT_SUGGESTION.split())
def test_no_wrong_option_is_suggested(name: str) -> None:
    assert message(name) == "unknown option"


def test_special_messages() -> None:
    assert message("packages") == 'unknown option; did you mean "build.packages" or "runtime.packages"?'
    assert message("cache-dir") == "unknown option; there is the variable HATCH_DOCKER_CACHE_DIR"
    assert message("shell").startswith('unknown option; "runtime.packages" adds Debian packages, ')


def test_synonyms_name_options_and_are_not_options() -> None:
    names = {option.name for option in (*all_options(), *item_options("files"), *item_options("steps"))}
    names = {name.replace("[]", "") for name in names}
    assert SYNONYMS.keys() - {""} <= names
    assert not names & {word for words in SYNONYMS.values() for word in words.split()} - {"images"}
