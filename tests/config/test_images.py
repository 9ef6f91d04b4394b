"""`[tool.hatch-docker.images.NAME]`: the table with some options replaced, as strict as it is, with its own names."""

import re
import tomllib
from pathlib import Path

import jsonschema
import pytest

from hatch_docker.build.plan_context import wanted_images
from hatch_docker.build.plans import open_plans
from hatch_docker.config.load import load_configs
from hatch_docker.config.options import Config
from hatch_docker.config.schema import schema
from hatch_docker.core.errors import ConfigError
from hatch_docker.plan.defaults import make_plan
from hatch_docker.project.hatch import hatchling_project, open_hatchling
from tests.fakes.plans import HOST, project
from tests.projects import write_project

TABLE = """
image = "registry.example/app"
registries = ["registry.example", "other.example/team/app"]
tags = ["1"]
env = { A = "1", B = "2" }
ports = [8000]
entrypoint = ["serve"]
[build]
packages = ["libpq-dev"]
network = false
[healthcheck]
command = ["ok"]
interval = "5s"

[images.worker]
entrypoint = ["work"]
ports = []
env = { A = "3" }
build = { network = true }
[images.worker.healthcheck]
interval = "9s"

[images.admin]
image = "registry.example/panel"
registries = ["other.example/team/panel"]
"""


def load(text: str = TABLE, **environ: str) -> dict[str, Config]:
    return dict(load_configs(tomllib.loads(text), environ, None))


def refusal(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    return str(caught.value).splitlines()


def test_an_option_of_an_image_replaces_the_tables() -> None:
    """Its whole value; of a sub-table option by option; all else is the table's."""
    configs = load()
    assert list(configs) == ["", "worker", "admin"]
    top, worker, admin = configs.values()
    assert (worker.entrypoint, worker.ports, worker.env) == (("work",), (), {"A": "3"})
    assert (worker.build.packages, worker.build.network) == (("libpq-dev",), True)
    assert worker.healthcheck is not None
    assert (worker.healthcheck.command, worker.healthcheck.interval) == (("ok",), 9_000_000_000)
    assert (top.ports, top.build.network) == (("8000/tcp",), False)
    assert admin.entrypoint == top.entrypoint
    assert (worker.tags, admin.tags) == (("1",), ("1",))


def test_names_are_made_from_the_tables_or_said() -> None:
    """No two images of a project have one name, in a registry either."""
    _top, worker, admin = load().values()
    assert worker.image == "registry.example/app-worker"
    assert worker.registries == ("registry.example", "other.example/team/app-worker")
    assert (admin.image, admin.registries) == ("registry.example/panel", ("other.example/team/panel",))
    bare = load("[images.worker]\n")
    plan = make_plan(project(), bare["worker"], HOST, "worker")
    assert (plan.image, plan.stem) == ("my-app-worker", "my_app-1.2.3.worker")
    assert make_plan(project(), bare[""], HOST).stem == "my_app-1.2.3"


def test_variables_go_over_every_image_but_its_names() -> None:
    """HATCH_DOCKER_IMAGE names that of the table, and so those that are named after it."""
    configs = load(HATCH_DOCKER_PORTS="1,2", HATCH_DOCKER_BUILD_NETWORK="no", HATCH_DOCKER_IMAGE="ci.example/x",
                   HATCH_DOCKER_REGISTRIES="ci.example/y")  # fmt: skip
    top, worker, admin = configs.values()
    assert {config.ports for config in configs.values()} == {("1/tcp", "2/tcp")}
    assert not worker.build.network
    assert (top.image, worker.image, admin.image) == ("ci.example/x", "ci.example/x-worker", "registry.example/panel")
    assert (worker.registries, admin.registries) == (("ci.example/y-worker",), ("other.example/team/panel",))


def test_every_problem_is_told_where_it_is() -> None:
    """In the table, in an image, in several: once each, with the path that the user wrote; of variables too."""
    text = """
    user = 3
    [healthcheck]
    interval = "5s"
    [images.worker]
    prots = [1]
    tags = ["a b"]
    [images.worker.build]
    pakages = []
    [images.Loud]
    [images.default]
    [images.other]
    healthcheck = { timeout = "x" }
    """
    lines = refusal(text, HATCH_DOCKER_PORTS="no")
    assert sorted(line.partition(":")[0] for line in lines) == [
        "HATCH_DOCKER_PORTS[0]",
        "tool.hatch-docker.healthcheck.command",
        "tool.hatch-docker.images.Loud",
        "tool.hatch-docker.images.default",
        "tool.hatch-docker.images.other.healthcheck.command",
        "tool.hatch-docker.images.other.healthcheck.timeout",
        "tool.hatch-docker.images.worker.build.pakages",
        "tool.hatch-docker.images.worker.prots",
        "tool.hatch-docker.images.worker.tags[0]",
        "tool.hatch-docker.user",
    ]
    assert any('did you mean "ports"' in line for line in lines)
    assert any('did you mean "build.packages"' in line or 'did you mean "packages"' in line for line in lines)


@pytest.mark.parametrize(("text", "says"), [
    ("images = 3", "tool.hatch-docker.images: must be a table, not 3"),
    ("[images]\nworker = 3", "tool.hatch-docker.images.worker: must be a table, not 3"),
    ("[images.a.images.b]", "tool.hatch-docker.images.a.images: unknown option"),
])  # fmt: skip
def test_what_is_no_table_of_images(text: str, says: str) -> None:
    assert refusal(text) == [says]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.hatch-docker]\n\n[tool.hatch-docker.images.worker]\nuser = 3\n")
    table = tomllib.loads(path.read_text())["tool"]["hatch-docker"]
    with pytest.raises(ConfigError, match=r"pyproject\.toml:4: tool\.hatch-docker\.images\.worker\.user: "):
        load_configs(table, {}, path)


def test_the_schema_for_editors_knows_them() -> None:
    """The schema accepts valid tables and refuses wrong ones."""
    jsonschema.validate(tomllib.loads(TABLE), schema())
    for wrong in ("[images.worker]\nprots = []", "[images.Loud]", "images = 3", "[images.a.images.b]"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(tomllib.loads(wrong), schema())


def test_some_of_the_images_may_be_chosen() -> None:
    """By a variable; a name that is none is told with those that there are."""
    configs = load()

    def chosen(names: str) -> list[str]:
        return wanted_images(configs, {"HATCH_DOCKER_IMAGES": names})

    assert chosen("") == ["", "worker", "admin"]
    assert chosen("worker") == ["worker"]
    assert chosen("admin, default") == ["", "admin"]
    with pytest.raises(ConfigError, match="no image 'wroker'; there are: default, admin, worker"):
        chosen("wroker")


@pytest.mark.parametrize(("table", "own", "name"), [
    ('image = "x"', 'image = "x"', "x"),
    ('registries = ["r.example/x"]', 'registries = ["r.example/x"]', "r.example/x"),
])  # fmt: skip
def test_two_images_of_one_name_are_refused(table: str, own: str, name: str, tmp_path: Path) -> None:
    """The one that comes later would take its tags, in the daemon or in the registry."""
    root = write_project("hello", tmp_path, options=f"{table}\n[tool.hatch-docker.images.worker]\n{own}")
    project = hatchling_project(open_hatchling(root), tmp_path)
    with pytest.raises(ConfigError, match=rf"images\.worker: {re.escape(name)}:1\.0\.0 is another image's name too"):
        open_plans(project, {"HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache")})
