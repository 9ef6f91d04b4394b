"""Proposals of `hatch-docker init`: the lines that a project needs, and no other changes."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from hatch_docker.build.project import open_static
from hatch_docker.cli.init.proposal import NO_PROGRAM, Proposal, propose
from hatch_docker.core.errors import ConfigError
from tests.fakes.init_projects import FASTAPI, HATCHLING, MIRROR
from tests.projects import write_files

SHOP = '[project]\nname = "shop"\nversion = "1"\n'


def proposal_of(root: Path, files: Mapping[str, str]) -> Proposal:
    """Write the proposal for a project and return it; check that a second proposal changes nothing."""
    proposal = propose(write_files(root, files), MIRROR)
    for name in proposal.changed:
        (root / name).write_text(proposal.after[name], newline="")
    again = propose(root, MIRROR)
    assert not again.changed
    assert again.notes in (["everything is there: nothing to add"], [NO_PROGRAM])
    return proposal


def options_of(proposal: Proposal) -> dict[str, object]:
    """Return the proposed [tool.hatch-docker] table."""
    table: dict[str, object] = proposal.config("pyproject.toml")["tool"]["hatch-docker"]
    return table


def test_modules_with_requirements_txt_get_a_minimal_pyproject(tmp_path: Path) -> None:
    """Each build reads requirements.txt, with the files that it includes."""
    root = tmp_path / "My Shop"
    root.mkdir()
    proposal = proposal_of(root, {
        "main.py": FASTAPI,
        "requirements.txt": "fastapi>=0.115  # the web\n-r more.txt\n--index-url https://me:secret@pypi.example/simple\n",
        "more.txt": "httpx==0.28.1 \\\n    --hash=sha256:00\n",
        ".python-version": "3.12.3\n",
        "tests/test_main.py": FASTAPI, "setup_env/pyvenv.cfg": "", "setup_env/lib/app.py": FASTAPI,
    })  # fmt: skip
    assert proposal.after["pyproject.toml"] == """\
[build-system]
requires = ["hatchling>=1.27", "hatch-docker"]
build-backend = "hatchling.build"

[project]
name = "my-shop"
version = "0.1.0"
requires-python = ">=3.12"
dynamic = ["dependencies"]

[tool.hatch.metadata.hooks.docker]
requirements = ["requirements.txt"]

[tool.hatch.build.targets.wheel]
only-include = ["main.py"]

[tool.hatch.build.targets.docker]
dependencies = ["hatch-docker[uv]"]

[tool.hatch-docker]
base = "debian:trixie"
entrypoint = ["uvicorn", "main:app", "--host", "0.0.0.0", "--port", "8000"]
ports = [8000]
"""
    assert not proposal.notes
    assert proposal.changed == ["pyproject.toml", "requirements.txt"]
    assert proposal.after["requirements.txt"].removeprefix(proposal.before["requirements.txt"]) == "uvicorn\n"
    (root / "more.txt").write_text("httpx>1\nanyio; python_version > '3'\n")  # each build reads the file again
    project, whole = open_static(root)
    assert whole
    read = project.read(root, {}, (), print).dependencies
    assert sorted(map(str, read)) == ["anyio; python_version > '3'", "fastapi>=0.115", "httpx>1", "uvicorn"]


@pytest.mark.parametrize(
    ("directory", "name"),
    [("My Shop", "my-shop"), ("Größe und Maß", "grosse-und-mass"), ("店", "app"), ("_x.1", "x-1")],
)
def test_project_name_is_the_normalised_directory_name(directory: str, name: str, tmp_path: Path) -> None:
    proposal = proposal_of(tmp_path / directory, {"main.py": FASTAPI})
    assert proposal.config("pyproject.toml")["project"]["name"] == name


def test_project_name_differs_from_its_dependencies(tmp_path: Path) -> None:
    """Otherwise the project would depend on itself."""
    root = tmp_path / "fastapi"
    proposal = proposal_of(root, {"main.py": FASTAPI, "requirements.txt": "FastAPI\n"})
    assert proposal.config("pyproject.toml")["project"]["name"] == "fastapi-app"


def test_comments_and_order_of_lines_are_kept(tmp_path: Path) -> None:
    """In a pyproject.toml of `uv init`."""
    before = """\
# the shop
[project]
name = "shop"           # its name
version = "1.0"
requires-python = ">=3.11,<3.13"
dependencies = [
    "flask",  # the web
]

[tool.ruff]
line-length = 100
"""
    factory = "from flask import Flask\n\n\ndef create_app(config=None):\n    app = Flask(__name__)\n    return app\n"
    proposal = proposal_of(tmp_path, {"pyproject.toml": before, "shop/__init__.py": factory, "uv.lock": ""})
    after = proposal.after["pyproject.toml"]
    lines = iter(after.splitlines())
    assert all(line in lines for line in before.splitlines())
    config = tomllib.loads(after)
    assert config["project"]["dependencies"] == ["flask", "gunicorn"]
    assert config["tool"]["hatch"]["build"]["targets"] == {"docker": {"dependencies": ["hatch-docker[uv]"]}}
    assert options_of(proposal) == {
        "base": "debian:bookworm", "ports": [8000],
        "entrypoint": ["gunicorn", "--bind", "0.0.0.0:8000", "--worker-tmp-dir", "/dev/shm", "shop:create_app()"],
    }  # fmt: skip
    assert proposal.notes == [
        "uv installs the project itself from now on, since it has a [build-system]",
        "uv.lock does not have gunicorn yet: run `uv lock`",
    ]


def test_hatchling_project_with_script_gets_two_tables(tmp_path: Path) -> None:
    project = '[project]\nname = "tool"\nversion = "1"\n[project.scripts]\ntool = "tool:main"\n'
    proposal = proposal_of(tmp_path, {"pyproject.toml": HATCHLING + project, "tool/__init__.py": FASTAPI})
    added = proposal.after["pyproject.toml"].removeprefix(HATCHLING + project)
    assert added == """
[tool.hatch.build.targets.docker]
dependencies = ["hatch-docker[uv]"]

[tool.hatch-docker]
base = "debian:trixie"
"""


def test_application_outside_the_wheel_is_ignored(tmp_path: Path) -> None:
    """A main.py beside the package is not in the image."""
    project = SHOP + 'dependencies = ["fastapi[standard]"]\n'
    files = {"pyproject.toml": HATCHLING + project, "main.py": FASTAPI, "src/shop/__init__.py": "",
             "src/shop/web.py": FASTAPI}
    assert options_of(proposal_of(tmp_path, files))["entrypoint"] == [
        "uvicorn", "shop.web:app", "--host", "0.0.0.0", "--port", "8000",
    ]  # fmt: skip


def test_target_is_added_to_hatch_toml_with_build_table(tmp_path: Path) -> None:
    """If hatch.toml has [build], hatch ignores that of pyproject.toml."""
    project = '[project]\nname = "other"\nversion = "1"\ndependencies = ["quart"]\n'
    app = "import quart\n\napp = quart.Quart(__name__)\n"
    proposal = proposal_of(tmp_path, {
        "pyproject.toml": HATCHLING + project, "hatch.toml": "# ours\n[build]\nexclude = []\n",
        "src/thing/__init__.py": "", "src/thing/app.py": app,
    })  # fmt: skip
    assert tomllib.loads(proposal.after["hatch.toml"])["build"] == {
        "exclude": [],
        "targets": {"wheel": {"packages": ["src/thing"]}, "docker": {"dependencies": ["hatch-docker[uv]"]}},
    }
    assert options_of(proposal)["entrypoint"] == ["hypercorn", "--bind", "0.0.0.0:8000", "thing.app:app"]
    assert "hatch" not in proposal.config("pyproject.toml")["tool"]


def test_hatch_toml_without_build_table_is_unchanged(tmp_path: Path) -> None:
    files = {"pyproject.toml": HATCHLING + SHOP, "hatch.toml": "[envs.default]\n", "shop/__init__.py": ""}
    assert proposal_of(tmp_path, files).changed == ["pyproject.toml"]


@pytest.mark.parametrize("backend", ["setuptools.build_meta", "poetry.core.masonry.api", "maturin", "mesonpy"])
def test_project_of_other_backend_gets_only_options(backend: str, tmp_path: Path) -> None:
    system = f'[build-system]\nrequires = []\nbuild-backend = "{backend}"\n'
    project = SHOP + 'dependencies = ["fastapi", "granian"]\n'
    proposal = proposal_of(tmp_path, {"pyproject.toml": system + project, "shop/main.py": FASTAPI})
    assert list(proposal.config("pyproject.toml")["tool"]) == ["hatch-docker"]
    assert options_of(proposal)["entrypoint"] == [
        "granian", "--interface", "asgi", "--host", "0.0.0.0", "--port", "8000", "shop.main:app",
    ]  # fmt: skip


def test_setup_py_project_gets_no_build_system(tmp_path: Path) -> None:
    """Without [build-system] the legacy backend of PEP 517 is used; such a setup.py may need it."""
    setup = "from setuptools import setup\nsetup(name='pkg', install_requires=['starlette', 'uvicorn[standard]'])\n"
    app = "from starlette.applications import Starlette\napp: Starlette = Starlette()\n"
    proposal = proposal_of(tmp_path, {"setup.py": setup, "pkg/__init__.py": "", "pkg/web.py": app})
    assert proposal.after["pyproject.toml"] == """\
[tool.hatch-docker]
base = "debian:trixie"
entrypoint = ["uvicorn", "pkg.web:app", "--host", "0.0.0.0", "--port", "8000"]
ports = [8000]
"""
    assert not proposal.notes


def test_console_scripts_in_setup_py_get_a_note(tmp_path: Path) -> None:
    setup = "from setuptools import setup\nsetup(name='pkg', entry_points={'console_scripts': ['pkg=pkg:main']})\n"
    proposal = proposal_of(tmp_path, {"setup.py": setup, "pkg/__init__.py": FASTAPI})
    assert options_of(proposal) == {"base": "debian:trixie"}
    assert proposal.notes == ["only its backend knows its scripts: set entrypoint if there are several"]


@pytest.mark.parametrize(("block", "project"), [
    ("# dependencies = [\n#   'click',\n# ]\n#\n# requires-python = '>=3.12'\n", ("['click']", ">=3.12")),
    ("# dependencies = 'click'\n", ("[]", "")), ("# dependencies = [\n", ("[]", "")),
])  # fmt: skip
def test_inline_script_metadata_gives_dependencies(block: str, project: tuple[str, str], tmp_path: Path) -> None:
    """PEP 723. Invalid metadata are ignored."""
    text = f"#!/usr/bin/env python3\n# /// script\n{block}# ///\nimport click\nclick.echo('hi')\n"
    proposal = proposal_of(tmp_path / "demo", {"report.py": text})
    table = proposal.config("pyproject.toml")["project"]
    assert str(table["dependencies"]) == project[0]
    assert table["requires-python"] == project[1] or not project[1]
    assert ("dependencies: those in the script metadata of report.py" in proposal.guesses) is bool(project[1])


def test_data_directories_are_copied_to_working_directory(tmp_path: Path) -> None:
    proposal = proposal_of(tmp_path, {"app.py": FASTAPI, "templates/index.html": "", "static/site.css": ""})
    assert options_of(proposal)["workdir"] == "/srv"
    assert options_of(proposal)["files"] == [
        {"source": "static", "target": "/srv/static"}, {"source": "templates", "target": "/srv/templates"},
    ]  # fmt: skip


def test_module_with_main_block_or_script_is_the_program(tmp_path: Path) -> None:
    """Without both, a comment in the table shows the option."""
    proposal = proposal_of(tmp_path / "one", {"work.py": 'if __name__ == "__main__":\n    print(1)\n', "other.py": ""})
    assert options_of(proposal)["entrypoint"] == ["python", "-m", "work"]
    script = proposal_of(tmp_path / "script", {"work.py": "print(1)\n"})
    assert options_of(script)["entrypoint"] == ["python", "-m", "work"]
    files = {"main.py": "for one in ():\n    pass\n", "setup_logs.py": "print(1)\n"}
    assert options_of(proposal_of(tmp_path / "loop", files))["entrypoint"] == ["python", "-m", "main"]
    long = proposal_of(tmp_path / "long", {"work.py": f"print({'ж' * 190!r}, {chr(0xD800)!r})\n"})
    assert options_of(long)["entrypoint"] == ["python", "-m", "work"]
    proposal = proposal_of(tmp_path / "two", {"work.py": "def main(): ...\n"})
    assert proposal.after["pyproject.toml"].endswith('# entrypoint = ["python", "-m", "MODULE"]\n')
    assert proposal.notes == ["no program was found: set entrypoint to the command that the image runs"]


def test_several_scripts_get_a_note_and_a_comment(tmp_path: Path) -> None:
    project = SHOP + '[project.scripts]\nweb = "shop:a"\nworker = "shop:b"\n'
    proposal = propose(write_files(tmp_path, {"pyproject.toml": HATCHLING + project, "shop/__init__.py": ""}), MIRROR)
    assert proposal.after["pyproject.toml"].endswith('\n# entrypoint = ["SCRIPT"]\n')
    assert proposal.notes == [
        "no script has the project's name: set entrypoint to the script that the image runs (web, worker)"
    ]


def test_django_uses_the_interface_of_the_required_server(tmp_path: Path) -> None:
    files = {
        f"site1/{kind}.py": f"from django.core.{kind} import get_{kind}_application\n"
        f"application = get_{kind}_application()\n"
        for kind in ("asgi", "wsgi")
    } | {"manage.py": ""}
    cases = (("django\n", "gunicorn"), ("django\nuvicorn\n", "uvicorn"), ("Django\nWaitress\n", "waitress-serve"))
    for needs, server in cases:
        root = tmp_path / server
        entrypoint = options_of(proposal_of(root, {**files, "requirements.txt": needs}))["entrypoint"]
        assert isinstance(entrypoint, list)
        assert entrypoint[0] == server
        assert f"site1.{'asgi' if server == 'uvicorn' else 'wsgi'}:application" in entrypoint


def test_base_has_a_python_that_the_project_supports(tmp_path: Path) -> None:
    """A Debian base if one of its Pythons is supported, otherwise the default base."""
    project = SHOP + 'requires-python = "{}"\n'
    cases = ((">=3.13", "debian:trixie"), ("<3.13", "debian:bookworm"), (">=3.14", None))
    for number, (requires, base) in enumerate(cases):
        root = tmp_path / str(number)
        files = {"pyproject.toml": HATCHLING + project.format(requires), "shop/__init__.py": FASTAPI}
        assert options_of(proposal_of(root, files)).get("base") == base
    for number, (python, base) in enumerate([("^3.11", "debian:trixie"), ("~3.11", "debian:bookworm"), ("^4", None)]):
        text = '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
        text += f"{SHOP.replace('[project]', '[tool.poetry]')}[tool.poetry.dependencies]\npython = '{python}'\n"
        files = {"pyproject.toml": text, "shop/__init__.py": FASTAPI}
        assert options_of(proposal_of(tmp_path / f"poetry-{number}", files)).get("base") == base


def test_existing_options_are_kept(tmp_path: Path) -> None:
    """hatch-docker is added to the existing dependencies of the target."""
    table = '[tool.hatch-docker]\nentrypoint = ["x"]\n'
    target = '[tool.hatch.build.targets.docker]\ndependencies = ["other"]\n'
    proposal = proposal_of(tmp_path, {"pyproject.toml": HATCHLING + SHOP + table + target, "shop/__init__.py": FASTAPI})
    config = proposal.config("pyproject.toml")["tool"]
    assert config["hatch-docker"] == {"entrypoint": ["x"]}
    assert config["hatch"]["build"]["targets"]["docker"]["dependencies"] == ["other", "hatch-docker[uv]"]


@pytest.mark.parametrize(
    ("table", "after"),
    [
        ("[tool.hatch-docker]  # ours\nbase = 'x'\n", "[tool.hatch-docker]  # ours\nbase = 'x'\n+"),
        ("[tool.hatch-docker]\n\n[tool.hatch-docker.env]\n", "[tool.hatch-docker]\n+\n[tool.hatch-docker.env]\n"),
        ("[tool.hatch-docker]\r\nbase = 'x'\r\n\r\n[tool.x]\r\n", "[tool.hatch-docker]\r\nbase = 'x'\r\n+\r\n[tool.x]"),
        ("[tool.hatch-docker]\nextras = [\n\n]\n", "[tool.hatch-docker]\nextras = [\n\n]\n+"),
        ("[tool.hatch-docker.env]\nA = '1'\n", ""),
        ("[tool.hatch-docker]\nentrypoint = []\n", ""),
        ("[tool.hatch-docker.images.a]\n", ""),
    ],
)
def test_entrypoint_is_added_to_existing_table(table: str, after: str, tmp_path: Path) -> None:
    """If the table has no header line, a note shows the lines to add."""
    project = SHOP + 'dependencies = ["fastapi", "uvicorn"]\n'
    target = '[tool.hatch.build.targets.docker]\ndependencies = ["hatch-docker"]\n'
    before = HATCHLING + target + project + table
    proposal = propose(write_files(tmp_path, {"pyproject.toml": before, "shop/__init__.py": FASTAPI}), MIRROR)
    lines = 'entrypoint = ["uvicorn", "shop:app", "--host", "0.0.0.0", "--port", "8000"]\nports = [8000]\n'
    assert after.replace("+", lines) in proposal.after["pyproject.toml"]
    assert bool(proposal.changed) is bool(after)
    if "env" in table and not after:
        note = lines.strip().replace("\n", "; ")
        assert proposal.notes == [f"[tool.hatch-docker] has no command to run; add to it: {note}"]


@pytest.mark.parametrize("tool", [
    "tool = {ruff = {}}\n", "[tool]\nhatch = {build = {targets = {}}}\n",
    "[tool.hatch.build]\ntargets = {sdist = {}}\n",
    "[tool.hatch.build.targets]\ndocker = {}\n", "[tool]\nhatch.build.targets.sdist.only-include = ['x']\n",
    "tool.hatch.build.dev-mode-dirs = ['.']\n",
])  # fmt: skip
def test_inline_tables_and_dotted_keys_are_extended(tool: str, tmp_path: Path) -> None:
    before = (tool + HATCHLING + SHOP) if tool.startswith("tool") else (HATCHLING + SHOP + tool)
    proposal = proposal_of(tmp_path, {"pyproject.toml": before, "shop/__init__.py": "", "shop/__main__.py": ""})
    config = proposal.config("pyproject.toml")["tool"]
    assert config["hatch"]["build"]["targets"]["docker"] == {"dependencies": ["hatch-docker[uv]"]}
    assert options_of(proposal)["entrypoint"] == ["python", "-m", "shop"]


def test_invalid_pyproject_is_an_error(tmp_path: Path) -> None:
    for number, (text, lines) in enumerate([
        (b"[project]\nname = '\xe9'\n", "cannot read .*pyproject.toml: 'utf-8' codec"),
        (b"\xef\xbb\xbf[project]\n", "cannot read .*pyproject.toml: it begins with a byte order mark"),
        (b"project = 3\n", "pyproject.toml: project must be a table"),
        (b"tool = []\n", "pyproject.toml: tool must be a table"),
        (b"[build-system]\nrequires = 'setuptools'\n", r"is not valid \(PEP 518\): requires must be a list of strings"),
    ]):  # fmt: skip
        write_files(tmp_path / f"wrong{number}", {"a.py": ""}).joinpath("pyproject.toml").write_bytes(text)
        with pytest.raises(ConfigError, match=lines):
            propose(tmp_path / f"wrong{number}", MIRROR)
        with pytest.raises(ConfigError, match=lines):
            open_static(tmp_path / f"wrong{number}")


def test_directory_without_project_or_code_fails(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="contains no Python project and no Python file"):
        propose(tmp_path, MIRROR)
    files = {f"services/api/{name}": "" for name in ("pyproject.toml", "x.py")}
    with pytest.raises(ConfigError, match=r"no Python project; there are projects below it \(services/api\): go to"):
        propose(write_files(tmp_path / "m", files), MIRROR)
    with pytest.raises(ConfigError, match=r"go to the project's directory \(services/api\), or have"):
        open_static(tmp_path / "m")
    with pytest.raises(ConfigError, match=r"has \[tool.poetry\] and no \[build-system\]"):
        propose(write_files(tmp_path / "a", {"pyproject.toml": "[tool.poetry]\n", "x.py": ""}), MIRROR)
    with pytest.raises(ConfigError, match=r"cannot read .*pyproject.toml"):
        propose(write_files(tmp_path / "b", {"pyproject.toml": "[", "x.py": ""}), MIRROR)


def test_workspace_root_without_project_fails(tmp_path: Path) -> None:
    """The error names its members, which are the projects."""
    member = "[project]\nname = 'a'\nversion = '1'\n"
    files = {"pyproject.toml": "[tool.uv.workspace]\nmembers = ['packages/*']\n", "packages/a/pyproject.toml": member,
             "packages/a/a.py": ""}  # fmt: skip
    with pytest.raises(ConfigError, match=r"is a workspace and not a project: .* \(packages/a\)"):
        propose(write_files(tmp_path, files), MIRROR)
