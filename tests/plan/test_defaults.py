"""make_plan: options of the user, else the project's metadata, else defaults; each guess has a reason."""

import json
from typing import Any

import pytest

from hatch_docker.core.errors import ConfigError
from hatch_docker.plan.defaults import default_script
from hatch_docker.plan.model import StandalonePlan, plan_json
from tests.fakes.plans import plan


def test_defaults_without_options() -> None:
    found = plan()
    assert found.references == ("my-app:1.2.3", "my-app:latest")
    assert plan({"tags": ["v{version}-{revision}"]}).references == ("my-app:v1.2.3-0123456789ab",)
    assert (found.base.kind, found.base.location) == ("registry", "python:3.14-slim")
    assert found.platforms == ("linux/amd64",)
    assert found.config.entrypoint == ("serve",)
    assert found.config.user == "65532"
    assert found.lock.requirements == ("a", "b>=1")
    assert not found.build.isolated
    assert {guess.option for guess in found.guesses} == {
        "base", "image", "lock", "pins", "platforms", "build.isolated", "entrypoint",
    }  # fmt: skip
    assert plan(scripts=("admin", "my_app")).config.entrypoint == ("my_app",), "the script named like the project"
    assert plan(scripts=("my-appctl", "my-appd")).config.entrypoint == ("my-appd",), "the project's daemon"
    script = default_script("ansible-core", ("ansible-doc", "ansible"))
    assert script == ("ansible", "the script named like the project")


def test_labels_option_overrides_labels_from_metadata() -> None:
    labels = plan({"labels": {"org.opencontainers.image.title": "Mine", "x": "y"}}).config.labels
    prefix = "org.opencontainers.image."
    assert labels[prefix + "title"] == "Mine"
    assert labels[prefix + "licenses"] == "MIT"
    assert labels[prefix + "source"] == "https://s.example"
    assert labels[prefix + "url"] == "https://x.example"
    assert labels[prefix + "revision"] == "0123456789abcdef"
    assert labels["x"] == "y"
    assert list(labels) == sorted(labels)


@pytest.mark.parametrize(
    ("requires", "base"),
    [("", "3.14"), ("<3.13", "3.12"), (">=3.11,<3.12", "3.11"), ("~=3.13.2", "3.13"), ("==3.12.*", "3.12"),
     (">=3.15", "3.15")],
)
def test_default_base_has_the_newest_admitted_python(requires: str, base: str) -> None:
    assert plan(requires_python=requires).base.location == f"python:{base}-slim"
    found = plan({"base": "debian:trixie"})
    assert (found.base.kind, found.base.location, found.python) == ("debian", "trixie", "3.13"), "the suite's Python"


def test_standalone_base_is_a_debian_base_with_another_python() -> None:
    base = plan({"base": "standalone:3.14t", "standalone": {"release": "20261003", "suite": "forky"}}).base
    assert (base.kind, base.location, base.python) == ("debian", "forky", "")
    assert base.standalone == StandalonePlan("3.14t", "", "20261003")


@pytest.mark.parametrize(("python", "requires", "found"), [
    ("", ">=3.11", "3.14"), ("3.15", ">=3.11", "3.15"), ("", "==3.13.*", "3.13"), ("", ">=3.15", "3.15"),
])  # fmt: skip
def test_python_of_a_suite_with_several_pythons(python: str, requires: str, found: str) -> None:
    result = plan({"base": "debian:forky", **({"python": python} if python else {})}, requires_python=requires)
    assert (result.python, result.base.python) == (found, found)
    assert [guess.value for guess in result.guesses if guess.option == "python"] == (
        [] if python or found == "3.14" else [found]
    )


@pytest.mark.parametrize(("table", "facts", "message"), [
    ({"base": "debian:trixie"}, {"requires_python": ">=3.14"}, r"Python 3.13, but My.App requires-python '>=3.14'"),
    ({"base": "debian:woody"}, {}, "known: debian:bookworm, debian:trixie, debian:forky, debian:sid"),
    ({"base": "debian:trixie", "python": "3.11"}, {}, "whose Python is 3.13; .*debian:bookworm"),
    ({"base": "debian:sid", "python": "3.12"}, {}, "whose Python is 3.14 or 3.13 or 3.15; .* python:3.12-slim"),
    ({"build": {"base": "debian:woody"}}, {}, "base 'debian:woody': unknown Debian suite; known: debian:"),
    ({"build": {"base": "dev:1", "packages": ["gcc"]}}, {}, "gcc cannot be installed into build.base 'dev:1'; name an"),
    ({"base": "standalone:slim"}, {}, "write a Python after the colon, such as standalone:3.14t"),
    ({"base": "standalone:3.14t", "python": "3.14"}, {}, "does not fit base 'standalone:3.14t'; remove `python`"),
    ({"base": "standalone:3.14t"}, {"requires_python": "<3.14"}, "Python 3.14t, but My.App requires-python '<3.14'"),
    ({"base": "standalone:3.14", "standalone": {"suite": "woody"}}, {}, "standalone.suite: 'woody' is unknown"),
    ({"python": "3.14t"}, {}, 'free-threaded: set base = "standalone:3.14t" instead'),
    ({"base": "debian:trixie", "python": "3.14"}, {}, "or set base to debian:forky or python:3.14-slim"),
    ({"base": "debian:trixie", "python": "3.14t"}, {}, 'or set base to "standalone:3.14t"'),
    ({"build": {"base": "standalone:3.14"}}, {}, "build.base: standalone:3.14 has no compiler; leave it out"),
    ({}, {"requires_python": ">=4"}, "does not allow any known Python"),
    ({}, {"scripts": ()}, r'has no script; .*\["python", "-m", "MODULE"\], or run .*init`, which searches for it$'),
    ({"base": "debian:trixie"}, {"scripts": ()}, r'has no script; set the program to run: .*"MODULE"\]$'),
    ({}, {"scripts": ("a", "b")}, r'several scripts: a, b; set the program to run: entrypoint = \["SCRIPT"\]$'),
    ({"extras": ["slow"]}, {}, "has no 'slow'; it has: fast"),
    ({"dependency-groups": ["dev"]}, {}, "has no 'dev'; it has: prod"),
    ({"lock": "Pipfile.lock.json"}, {}, "is not a lock that can be read"),
    ({"runtime": {"packages": ["libpq5"]}}, {}, r'only its own apt can install libpq5; set engine = "buildkit"'),
    ({"build": {"args": {"A": "1"}, "env": {"A": "2"}}}, {}, r"build\.args: A is also in build\.env;"),
    ({"build": {"args": {"A": "1"}, "secrets": ["A"]}}, {}, r"A is also in build\.secrets;"),
    ({"build": {"args": {"A": "1"}, "isolated": "never"}}, {}, r"build\.args: is for the builder stage"),
    ({"build": {"ssh": True, "isolated": "never"}}, {}, r"build\.ssh: is for the builder stage"),
    ({"build": {"env": {"A": "1"}, "isolated": "never"}}, {}, r"build\.env: is for the builder stage"),
    ({"build": {"ssh": True, "network": False}}, {}, "network = false forbids it"),
    ({"tags": ["{branch}"]}, {"revision": None}, "no branch is checked out"),
    ({"tags": ["{date}"]}, {"source_date": None}, "SOURCE_DATE_EPOCH is not set"),
])  # fmt: skip
def test_contradicting_options_are_rejected(table: dict[str, Any], facts: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        plan(table, **facts)
    assert "\n" not in str(error.value)


def test_extras_and_groups_match_by_normalised_name() -> None:
    lock = plan({"extras": ["Fast"], "dependency-groups": ["prod"]}).lock
    assert lock.requirements == ("a", "b>=1", "c", "d")
    assert (lock.extras, lock.groups) == (("fast",), ("prod",))


def test_group_that_requires_extras_of_the_project() -> None:
    """Cycles are allowed; the project itself is not a requirement."""
    lock = plan(
        {"dependency-groups": ["prod"]},
        extras={"fast": ("c", "my_app[slow]"), "slow": ("e", "my.app[fast]")},
        groups={"prod": ("d", "My-App[FAST]")},
    ).lock
    assert lock.requirements == ("a", "b>=1", "c", "d", "e")


@pytest.mark.parametrize(("locks", "option", "kind"), [
    (("pylock.toml", "uv.lock"), "auto", "pylock"),
    (("uv.lock",), "auto", "uv"),
    (("poetry.lock",), "auto", "poetry"),
    ((), "old/pdm.lock", "pdm"),
    (("requirements.txt",), "auto", "requirements"),
    ((), "auto", "resolve"),
    (("uv.lock",), "none", "resolve"),
    ((), "locks/pylock.prod.toml", "pylock"),
    ((), "locks/prod.txt", "requirements"),
])  # fmt: skip
def test_lock_kind_from_files_or_option(locks: tuple[str, ...], option: str, kind: str) -> None:
    assert plan({"lock": option}, locks=locks).lock.kind == kind


@pytest.mark.parametrize(("hooks", "build", "isolated"), [
    ((), {}, False),
    (("vcs", "version"), {}, False),
    (("custom",), {}, True),
    ((), {"packages": ["libpq-dev"]}, True),
    ((), {"env": {"A": "1"}}, True),
    ((), {"args": {"A": "1"}}, True),
    ((), {"secrets": ["A"]}, True),
    ((), {"ssh": True}, True),
    (("custom",), {"isolated": "never"}, False),
    ((), {"isolated": "always"}, True),
    ((), {"base": "dev:1"}, True),
])  # fmt: skip
def test_isolated_build_by_default(hooks: tuple[str, ...], build: dict[str, Any], isolated: bool) -> None:
    """A wheel that may contain compiled code is built in the builder stage."""
    assert plan({"build": build}, hooks=hooks).build.isolated is isolated


def test_plan_json_is_reproducible() -> None:
    text = json.dumps(plan_json(plan({"env": {"B": "1", "A": "2"}})))
    assert text == json.dumps(plan_json(plan({"env": {"A": "2", "B": "1"}})))
    assert json.loads(text)["schema"] == 1
