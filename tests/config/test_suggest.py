"""The option that is suggested for a name that is none: the right one, or none at all."""

import pytest

from hatch_docker.config.schema import LISTS, all_options, item_options
from hatch_docker.config.suggest import SYNONYMS, unknown_option

# By the option that is suggested: words of Dockerfiles, compose files and other tools, and typing mistakes.
MEANT = {
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
NONE = (
    "version dockerfile context target workers restart hostname build-stage publish destination description "
    "layers images.worker.images files.owner files.user build.compiler sign.private-key"
)


def sentence(name: str) -> str:
    first, *rest = name.split(".")
    return unknown_option([first, 0, *rest] if first in LISTS and rest else [first, *rest])


@pytest.mark.parametrize(("name", "option"), [(name, option) for option in MEANT for name in MEANT[option].split()])
def test_the_right_option_is_suggested(name: str, option: str) -> None:
    assert sentence(name) == f'unknown option; did you mean "{option}"?'


@pytest.mark.parametrize("name", NONE.split())
def test_nothing_is_suggested_that_leads_astray(name: str) -> None:
    assert sentence(name) == "unknown option"


def test_some_names_have_another_answer() -> None:
    assert sentence("packages") == 'unknown option; did you mean "build.packages" or "runtime.packages"?'
    assert sentence("cache-dir") == "unknown option; there is the variable HATCH_DOCKER_CACHE_DIR"
    assert sentence("shell").startswith('unknown option; "runtime.packages" adds Debian packages, ')


def test_synonyms_are_of_options_and_none_themselves() -> None:
    names = {option.name for option in (*all_options(), *item_options("files"), *item_options("steps"))}
    names = {name.replace("[]", "") for name in names}
    assert SYNONYMS.keys() - {""} <= names
    assert not names & {word for words in SYNONYMS.values() for word in words.split()} - {"images"}
