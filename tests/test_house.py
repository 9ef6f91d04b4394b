"""The architecture: imports between packages, libraries by package, lengths, and docstrings."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.modules import PACKAGE, modules, nodes

# The lowest rank first. A module may import from its own package and from lower ranks.
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

# Packages and modules that may import a library. Libraries with an empty set must not be used.
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
# Separate programs: they run in the builder, a stage or an image, and read its environment.
PROGRAMS = {
    "wheels.builder.compiler_cache", "wheels.builder.pep517", "engines.buildkit.stage_install",
    "engines.buildkit.stage_step", "engines.launch",
}  # fmt: skip

HEAVY = ("pydantic", "pydantic_core", "urllib3", "docker", "rich", "packaging", "tomlkit")
HOOKS_BUDGET = 5000  # microseconds for the modules of hatch_docker
LONGEST_MODULE, LONGEST_FUNCTION = 500, 60
QUESTIONS = ("What ", "Who ", "Whose ", "Whether ", "Which ", "How ")


def imports(path: Path) -> set[str]:
    """Return all imports of a module, also in functions and for type checkers; `from a import b` as a.b."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(imported: str) -> str | None:
    """Return the module of the package that an import names; None for the version and for other libraries."""
    top, _, name = imported.partition(".")
    if top != "hatch_docker":
        return None
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name or None


@functools.cache
def targets(name: str) -> set[str]:
    """Return the other modules of the package that a module imports."""
    return {target for imported in imports(modules()[name]) if (target := own(imported)) and target != name}


def within(name: str, places: set[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def test_modules_import_from_own_package_or_lower_ranks() -> None:
    wrong = [
        f"{name} imports {target}"
        for name in modules() if name != "__init__"
        for target in sorted(targets(name))
        if (other := target.partition(".")[0]) != (package := name.partition(".")[0]) and RANK[other] >= RANK[package]
    ]  # fmt: skip
    assert wrong == []


def test_imports_have_no_cycle() -> None:
    """Lazy imports and imports for type checkers count too."""
    try:
        graphlib.TopologicalSorter({name: targets(name) for name in modules()}).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_package_root_contains_only_packages() -> None:
    found = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert found == set(RANK) - {"__main__"} | {"__init__.py", "__main__.py", "py.typed"}


def test_libraries_are_imported_only_in_their_packages() -> None:
    """For example only one package imports hatch, and one module subprocess."""
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules().items()
        for imported in sorted(imports(path))
        if (library := imported.split(".")[0]) in LIBRARIES and not within(name, LIBRARIES[library])
    ]
    assert wrong == []


def test_lengths_and_first_words_of_docstrings() -> None:
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


def test_environment_is_read_only_in_entry_points() -> None:
    """Other modules get it in a Context."""
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


def test_test_modules_do_not_import_each_other() -> None:
    """Shared code is in a module of its own: a fake or a conftest."""
    tests = Path(__file__).parent
    wrong = [
        f"{path.relative_to(tests)}: {found}"
        for path in sorted(tests.rglob("*.py"))
        for found in re.findall(r"(?m)^ *(?:from|import) +tests\b[^\n(]*(?:\([^)]*\))?", path.read_text("utf-8"))
        if re.search(r"\btest_", found)
    ]
    assert wrong == []


def fresh(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a new interpreter in the project's root."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)


def test_hooks_import_no_heavy_library() -> None:
    """hatch imports the hooks in all builds, also those without hatch-docker."""
    code = (
        "import hatchling.plugin, sys; before = set(sys.modules); import hatch_docker.plugin.hooks;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    assert not set(fresh("-c", code).stdout.split()) & set(HEAVY)


def test_hooks_import_fast() -> None:
    """In less than 5 ms for the modules of hatch_docker, at least once in ten runs: load may disturb a run."""

    def microseconds() -> int:
        report = fresh("-X", "importtime", "-c", "import hatch_docker.plugin.hooks").stderr
        return sum(map(int, re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+hatch_docker", report)))

    assert any(microseconds() < HOOKS_BUDGET for _ in range(10))
