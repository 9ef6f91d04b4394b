"""`[tool.hatch-docker.images.NAME]`: further images, whose options override the table's."""

import re
import tomllib
from pathlib import Path

import jsonschema
import pytest

from hatch_docker.build.plan_context import selected_images
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


def error_lines(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    return str(caught.value).splitlines()


def test_image_options_override_the_table() -> None:
    """An option replaces the whole value; a sub-table is merged option by option."""
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


def test_image_names_are_derived_or_set() -> None:
    """The images of a project have different names, also in a registry."""
    _top, worker, admin = load().values()
    assert worker.image == "registry.example/app-worker"
    assert worker.registries == ("registry.example", "other.example/team/app-worker")
    assert (admin.image, admin.registries) == ("registry.example/panel", ("other.example/team/panel",))
    bare = load("[images.worker]\n")
    plan = make_plan(project(), bare["worker"], HOST, "worker")
    assert (plan.image, plan.stem) == ("my-app-worker", "my_app-1.2.3.worker")
    assert make_plan(project(), bare[""], HOST).stem == "my_app-1.2.3"


def test_variables_override_all_images_except_names() -> None:
    """HATCH_DOCKER_IMAGE sets the table's name, from which the images' names are derived."""
    configs = load(HATCH_DOCKER_PORTS="1,2", HATCH_DOCKER_BUILD_NETWORK="no", HATCH_DOCKER_IMAGE="ci.example/x",
                   HATCH_DOCKER_REGISTRIES="ci.example/y")  # fmt: skip
    top, worker, admin = configs.values()
    assert {config.ports for config in configs.values()} == {("1/tcp", "2/tcp")}
    assert not worker.build.network
    assert (top.image, worker.image, admin.image) == ("ci.example/x", "ci.example/x-worker", "registry.example/panel")
    assert (worker.registries, admin.registries) == (("ci.example/y-worker",), ("other.example/team/panel",))


def test_each_problem_is_reported_once_with_its_path() -> None:
    """A problem of the table or of a variable is not repeated for each image."""
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
    lines = error_lines(text, HATCH_DOCKER_PORTS="no")
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


@pytest.mark.parametrize(("text", "message"), [
    ("images = 3", "tool.hatch-docker.images: must be a table, not 3"),
    ("[images]\nworker = 3", "tool.hatch-docker.images.worker: must be a table, not 3"),
    ("[images.a.images.b]", "tool.hatch-docker.images.a.images: unknown option"),
])  # fmt: skip
def test_wrong_images_table_is_reported(text: str, message: str) -> None:
    assert error_lines(text) == [message]


def test_message_has_the_line_number_of_the_image_option(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.hatch-docker]\n\n[tool.hatch-docker.images.worker]\nuser = 3\n")
    table = tomllib.loads(path.read_text())["tool"]["hatch-docker"]
    with pytest.raises(ConfigError, match=r"pyproject\.toml:4: tool\.hatch-docker\.images\.worker\.user: "):
        load_configs(table, {}, path)


def test_schema_validates_images() -> None:
    jsonschema.validate(tomllib.loads(TABLE), schema())
    for wrong in ("[images.worker]\nprots = []", "[images.Loud]", "images = 3", "[images.a.images.b]"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(tomllib.loads(wrong), schema())


def test_variable_selects_images() -> None:
    configs = load()

    def chosen(names: str) -> list[str]:
        return selected_images(configs, {"HATCH_DOCKER_IMAGES": names})

    assert chosen("") == ["", "worker", "admin"]
    assert chosen("worker") == ["worker"]
    assert chosen("admin, default") == ["", "admin"]
    with pytest.raises(ConfigError, match="no image 'wroker'; there are: default, admin, worker"):
        chosen("wroker")


@pytest.mark.parametrize(("table", "own", "name"), [
    ('image = "x"', 'image = "x"', "x"),
    ('registries = ["r.example/x"]', 'registries = ["r.example/x"]', "r.example/x"),
])  # fmt: skip
def test_two_images_with_the_same_name_are_rejected(table: str, own: str, name: str, tmp_path: Path) -> None:
    """The second image would replace the first one's tags in the daemon or the registry."""
    root = write_project("hello", tmp_path, options=f"{table}\n[tool.hatch-docker.images.worker]\n{own}")
    project = hatchling_project(open_hatchling(root), tmp_path)
    with pytest.raises(ConfigError, match=rf"images\.worker: {re.escape(name)}:1\.0\.0 is another image's name too"):
        open_plans(project, {"HATCH_DOCKER_CACHE_DIR": str(tmp_path / "cache")})
