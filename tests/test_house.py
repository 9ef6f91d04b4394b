"""The architecture: who may import whom, which library belongs where, and what the docstrings look like."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.modules import PACKAGE, modules, nodes

# From the ground up. A module imports from its own package and from the ranks below.
RANKS = (
    {"core"},
    {"oci", "project", "config"},
    {"plan"},
    {"bases"},
    {"wheels"},
    {"engines"},
    {"release"},
    {"build"},
    {"plugin", "cli"},
    {"__main__"},
)
RANK = {package: rank for rank, packages in enumerate(RANKS) for package in packages}

# Where a library may be imported: a package or a module. Nowhere, for those that have a better answer here.
LIBRARIES: dict[str, set[str]] = {
    "hatchling": {"plugin", "project"},
    "hatch": {"plugin.publisher"},
    "pydantic": {"config"},
    "subprocess": {"core.process", "engines.buildkit.stage_install"},
    "urllib3": {"core.http"},
    "docker": {"oci.daemon"},
    "pysequoia": {"bases"},
    "rich": {"core.terminal"},
    "setuptools": {"plugin.setup_command"},
    "watchfiles": {"build.watch"},
    "argcomplete": {"cli"},
    "pydantic_core": set(),
    "requests": set(),
    "httpx": set(),
    "click": set(),
    "jinja2": set(),
}
# Programs of their own: they run in the builder, a stage or an image, and read its environment.
PROGRAMS = {
    "wheels.builder.compiler_cache", "wheels.builder.pep517", "engines.buildkit.stage_install",
    "engines.buildkit.stage_step", "engines.launch",
}  # fmt: skip

HEAVY = ("pydantic", "pydantic_core", "urllib3", "docker", "rich", "packaging", "tomlkit")
HOOKS_BUDGET = 5000  # microseconds for our own modules
LONGEST_MODULE, LONGEST_FUNCTION = 500, 60
QUESTIONS = ("What ", "Who ", "Whose ", "Whether ", "Which ", "How ")


def imports(path: Path) -> set[str]:
    """Return what a module imports anywhere: at its top, in functions, for type checkers; `from a import b` as a.b."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(imported: str) -> str | None:
    """Return the module of the package that an import names, None for the version and for another library."""
    top, _, name = imported.partition(".")
    if top != "hatch_docker":
        return None
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name or None


@functools.cache
def targets(name: str) -> set[str]:
    """Return the other modules that a module imports."""
    return {target for imported in imports(modules()[name]) if (target := own(imported)) and target != name}


def within(name: str, places: set[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def test_a_module_imports_from_its_package_and_from_ranks_below() -> None:
    wrong = [
        f"{name} imports {target}"
        for name in modules() if name != "__init__"
        for target in sorted(targets(name))
        if (other := target.partition(".")[0]) != (package := name.partition(".")[0]) and RANK[other] >= RANK[package]
    ]  # fmt: skip
    assert wrong == []


def test_no_import_goes_in_a_circle() -> None:
    """Lazy imports and imports for type checkers count too."""
    try:
        graphlib.TopologicalSorter({name: targets(name) for name in modules()}).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_the_root_of_the_package_holds_packages_alone() -> None:
    found = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert found == set(RANK) - {"__main__"} | {"__init__.py", "__main__.py", "py.typed"}


def test_a_library_is_imported_where_it_belongs() -> None:
    """One package for hatch, one module for programs, one package for HTTP."""
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules().items()
        for imported in sorted(imports(path))
        if (library := imported.split(".")[0]) in LIBRARIES and not within(name, LIBRARIES[library])
    ]
    assert wrong == []


def test_modules_and_functions_are_short_and_their_docstrings_no_questions() -> None:
    """A docstring starts with a verb or a noun."""
    for name, path in modules().items():
        lines = path.read_text("utf-8").count("\n")
        assert lines <= LONGEST_MODULE, f"{name} has {lines} lines"
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node, clean=False) or ""
                assert not text.lstrip().startswith(QUESTIONS), f"{name}: {text}"
            if isinstance(node, ast.FunctionDef) and node.end_lineno:
                assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{name}.{node.name}"


def test_the_environment_is_read_at_the_entry_points() -> None:
    """Everything below gets it handed over in a Context: no variable is read deep inside."""
    readers = {
        name
        for name, path in modules().items()
        for node in nodes(path)
        if isinstance(node, ast.Attribute)
        and node.attr in ("environ", "environb", "getenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    }
    places = {"plugin", "cli.common", "cli.commands", "cli.main", "cli.parser"}
    assert {name for name in readers if not within(name, places)} <= PROGRAMS


def test_no_module_of_tests_stands_on_another() -> None:
    """Code that several need lies beside them in a module of its own: a fake, a fixture of a conftest."""
    tests = Path(__file__).parent
    wrong = [
        f"{path.relative_to(tests)}: {found}"
        for path in sorted(tests.rglob("*.py"))
        for found in re.findall(r"(?m)^ *(?:from|import) +tests\b[^\n(]*(?:\([^)]*\))?", path.read_text("utf-8"))
        if re.search(r"\btest_", found)
    ]
    assert wrong == []


def fresh(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter at the project's root."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)


def test_hooks_import_nothing_heavy() -> None:
    """hatch imports the hooks on builds that are not ours: they bring no library along."""
    code = (
        "import hatchling.plugin, sys; before = set(sys.modules); import hatch_docker.plugin.hooks;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    assert not set(fresh("-c", code).stdout.split()) & set(HEAVY)


def test_hooks_import_fast() -> None:
    """Our own modules under the hooks take less than 5 ms, the best of ten: other work may disturb one."""

    def microseconds() -> int:
        report = fresh("-X", "importtime", "-c", "import hatch_docker.plugin.hooks").stderr
        return sum(map(int, re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+hatch_docker", report)))

    assert any(microseconds() < HOOKS_BUDGET for _ in range(10))
