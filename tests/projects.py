"""Small projects of all kinds for tests.

    write_project("hello", tmp_path)              -> tmp_path, ready to be built
    KINDS["hello"].command, KINDS["hello"].output -> a command in the image, and its standard output

The files are the same on every machine. The projects have no locks.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

BUILD_SYSTEM = '[build-system]\nrequires = ["hatchling>=1.27"]\nbuild-backend = "hatchling.build"\n'


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of project: its files, a command, and the expected standard output of the command."""

    files: Mapping[str, str]
    command: tuple[str, ...]
    output: str
    tag: str = ""  # git tag of the only commit; "" for no repository


def write_project(kind: str, directory: Path, *, base: str = "debian:trixie", options: str = "") -> Path:
    """Write a project and return its directory. `options`: additional lines of [tool.hatch-docker].

    In `options`, keys come before tables: `'user = "1000"\\n[tool.hatch-docker.check]\\ncommand = ["hello"]'`.
    """
    chosen = KINDS[kind]
    write_files(directory, {name: dedent(text).lstrip("\n") for name, text in chosen.files.items()})
    table = f'\n[tool.hatch-docker]\nbase = "{base}"\n{options}\n'
    with (directory / "pyproject.toml").open("a", encoding="utf-8") as stream:
        stream.write(table)
    if chosen.tag:
        commit(directory, chosen.tag)
    return directory


def write_files(directory: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files below a directory by their paths; return the directory."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return directory


def git(directory: Path, *arguments: str) -> None:
    """Run git in a directory with a fixed author."""
    settings = ("user.name=A", "user.email=a@example.org", "init.defaultBranch=main", "protocol.file.allow=always")
    options = (word for setting in settings for word in ("-c", setting))
    subprocess.run(["git", *options, *arguments], cwd=directory, check=True, capture_output=True)


def commit(directory: Path, tag: str) -> None:
    """Commit all files and tag the commit; the object ids are the same everywhere."""
    day = "2024-02-29T12:00:00+00:00"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
           for what, value in (("NAME", "A"), ("EMAIL", "a@example.invalid"), ("DATE", day))},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }
    commit = ("commit", "--quiet", "--message=All of it")
    for arguments in (("init", "--quiet", "--initial-branch=main"), ("add", "."), commit, ("tag", tag)):
        subprocess.run(("git", *arguments), cwd=directory, env=environment, check=True)


# One console script, no dependencies: the smallest image.
HELLO = Kind(
    {
        "pyproject.toml": BUILD_SYSTEM + """
[project]
name = "hello"
version = "1.0.0"
description = "Says hello."
requires-python = ">=3.11"

[project.scripts]
hello = "hello:main"
""",
        "hello.py": '''
            """Says hello."""


            def main() -> None:
                print("hello, world")
        ''',
    },
    ("hello",), "hello, world\n",
)

# C code that a build hook compiles: the wheel is built in the builder stage.
C_EXTENSION = Kind(
    {
        "pyproject.toml": BUILD_SYSTEM + """
[project]
name = "c-extension"
version = "1.0.0"
requires-python = ">=3.11"

[project.scripts]
c-extension = "c_extension:main"

[tool.hatch.build.targets.wheel.hooks.custom]
""",
        "hatch_build.py": '''
            import subprocess
            import sysconfig
            from pathlib import Path

            from hatchling.builders.hooks.plugin.interface import BuildHookInterface


            class CompileHook(BuildHookInterface):
                def initialize(self, version, build_data):
                    name = "c_extension/_answer" + sysconfig.get_config_var("EXT_SUFFIX")
                    include = "-I" + sysconfig.get_path("include")
                    command = ["cc", "-O2", "-fPIC", "-shared", include, "c_extension/_answer.c", "-o", name]
                    subprocess.run(command, cwd=self.root, check=True)
                    build_data["force_include"][str(Path(self.root, name))] = name
                    build_data["pure_python"] = False
                    build_data["infer_tag"] = True
        ''',
        "c_extension/__init__.py": '''
            from c_extension._answer import answer


            def main() -> None:
                print(answer())
        ''',
        "c_extension/_answer.c": '''
            #include <Python.h>

            static PyObject *
            answer(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arguments))
            {
                return PyLong_FromLong(42);
            }

            static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
            static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_answer", .m_methods = methods};

            PyMODINIT_FUNC
            PyInit__answer(void)
            {
                return PyModule_Create(&module);
            }
        ''',
    },
    ("c-extension",), "42\n",
)

# Several scripts (the one with the project's name is the entry point), data in the package and outside of it.
SCRIPTS_AND_DATA = Kind(
    {
        "pyproject.toml": BUILD_SYSTEM + """
[project]
name = "scripts-and-data"
version = "2.0.0rc1"
requires-python = ">=3.11"

[project.scripts]
greet = "scripts_and_data:greet"
scripts-and-data = "scripts_and_data:main"

[project.gui-scripts]
greet-window = "scripts_and_data:greet"

[tool.hatch.build.targets.wheel]
packages = ["src/scripts_and_data"]

[tool.hatch.build.targets.wheel.shared-data]
"shared/poem.txt" = "share/scripts-and-data/poem.txt"

[tool.hatch.build.targets.wheel.shared-scripts]
"bin/plain-script" = "plain-script"
""",
        "src/scripts_and_data/__init__.py": '''
            import sys
            from importlib import resources
            from pathlib import Path


            def greet() -> None:
                print(resources.files("scripts_and_data").joinpath("data/gruß.txt").read_text(encoding="utf-8"), end="")


            def main() -> None:
                greet()
                print(Path(sys.prefix, "share/scripts-and-data/poem.txt").read_text(encoding="utf-8"), end="")
        ''',
        "src/scripts_and_data/data/gruß.txt": "Grüß Gott\n",
        "shared/poem.txt": "Roses are red\n",
        "bin/plain-script": '''
            #!python
            print("a script without an entry point")
        ''',
    },
    ("scripts-and-data",), "Grüß Gott\nRoses are red\n",
)

# Dependencies of an extra or a group, one of them with a marker.
EXTRAS_AND_GROUPS = Kind(
    {
        "pyproject.toml": BUILD_SYSTEM + """
[project]
name = "extras-and-groups"
version = "1.0.0"
requires-python = ">=3.11"
dependencies = ["idna>=3"]

[project.optional-dependencies]
colour = ["colorama>=0.4", "pywin32>=300; sys_platform == 'win32'"]
all = ["extras-and-groups[colour]"]

[project.scripts]
extras-and-groups = "extras_and_groups:main"

[dependency-groups]
serve = ["h11>=0.14"]
production = [{include-group = "serve"}, "click>=8"]
""",
        "extras_and_groups.py": '''
            from importlib.util import find_spec

            NAMES = ("idna", "colorama", "h11", "click", "win32api")


            def main() -> None:
                print(*[name for name in NAMES if find_spec(name)])
        ''',
    },
    ("extras-and-groups",), "idna\n",
)

# A namespace package: no __init__.py in the top directory.
NAMESPACE = Kind(
    {
        "pyproject.toml": BUILD_SYSTEM + """
[project]
name = "acme.tools"
version = "1.0.0"
requires-python = ">=3.11"

[project.scripts]
acme-tools = "acme.tools.cli:main"

[tool.hatch.build.targets.wheel]
packages = ["src/acme"]
""",
        "src/acme/tools/__init__.py": "",
        "src/acme/tools/cli.py": '''
            import acme


            def main() -> None:
                print(acme.__file__)
        ''',
    },
    ("acme-tools",), "None\n",
)

# The version comes from git, which is needed to build the wheel and is not in the image.
VCS_VERSION = Kind(
    {
        "pyproject.toml": """
[build-system]
requires = ["hatchling>=1.27", "hatch-vcs>=0.4"]
build-backend = "hatchling.build"

[project]
name = "vcs-version"
dynamic = ["version"]
requires-python = ">=3.11"

[project.scripts]
vcs-version = "vcs_version:main"

[tool.hatch.version]
source = "vcs"
""",
        ".gitignore": "dist/\n",
        "vcs_version/__init__.py": '''
            from importlib.metadata import version


            def main() -> None:
                print(version("vcs-version"))
        ''',
    },
    ("vcs-version",), "1.2.3\n", tag="v1.2.3",
)

# A web service with a large compiled dependency, a small one, and pure ones.
FASTAPI_NUMPY = Kind(
    {
        "pyproject.toml": BUILD_SYSTEM + """
[project]
name = "fastapi-numpy"
version = "1.0.0"
requires-python = ">=3.11"
dependencies = ["fastapi>=0.110", "numpy>=2", "uvicorn>=0.30"]

[project.scripts]
fastapi-numpy = "fastapi_numpy.app:main"
""",
        "fastapi_numpy/__init__.py": "",
        "fastapi_numpy/app.py": '''
            import sys

            import numpy
            import uvicorn
            from fastapi import FastAPI

            app = FastAPI()


            @app.get("/mean")
            def mean(values: str) -> float:
                return float(numpy.mean([float(value) for value in values.split(",")]))


            def main() -> None:
                if sys.argv[1:] == ["--check"]:
                    print(mean("1,2,6"))
                else:
                    uvicorn.run(app, host="0.0.0.0", port=8000)
        ''',
    },
    ("fastapi-numpy", "--check"), "3.0\n",
)

KINDS: Mapping[str, Kind] = {
    "hello": HELLO,
    "c-extension": C_EXTENSION,
    "scripts-and-data": SCRIPTS_AND_DATA,
    "extras-and-groups": EXTRAS_AND_GROUPS,
    "namespace": NAMESPACE,
    "vcs-version": VCS_VERSION,
    "fastapi-numpy": FASTAPI_NUMPY,
}
