"""Who may import whom: the house's plan, kept by reading every import of every module."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.modules import PACKAGE, modules

# What a module, or every module of a package, may import of ours. A package includes its modules.
HANDS = {
    "context", "errors", "faults", "leaks", "outputs", "pins", "process", "progress", "records", "retry", "store",
    "streams", "transport", "urls",
}  # fmt: skip
MAY_IMPORT: dict[str, set[str]] = {
    # leaves and what every step is handed
    "__init__": set(),
    "elf": set(),
    "errors": set(),
    "progress": {"screen"},
    "screen": {"progress"},
    "plan": set(),
    "shape": set(),
    "streams": set(),
    "records": {"shape"},
    "urls": {"errors"},
    "process": {"ending", "errors", "leaks"},
    "faults": {"errors"},
    "outputs": {"errors", "faults"},
    "store": {"errors", "faults", "outputs", "seal", "streams"},
    "prune": {"errors", "outputs", "store"},
    "retry": {"errors", "progress"},
    "pace": set(),
    "answers": {"errors", "pace", "retry"},
    "transport": {"__init__", "answers", "errors", "pace", "progress", "retry", "store", "urls"},
    "pins": {"errors", "pins_text", "shape", "store"},
    "pins_text": {"pins", "progress"},
    "leaks": {"errors"},
    "context": {"leaks", "outputs", "pins", "progress", "store", "transport"},
    # what the user said, what the project is, and what follows from both
    "config": {"config", "errors"},
    "project": {"errors", "outputs", "process", "progress", "release.licences", "revision", "leaks"},
    "revision": {"errors", "process"},
    "release": {
        "layers", "release", "__init__", "answers", "engines", "errors", "oci", "plan", "project", "revision", "wheels",
        *HANDS,
    },
    "needs": {"errors", "project", "release.names", "urls"},
    "workspace": {"errors", "project", "release.names"},
    "defaults": {"config", "errors", "needs", "oci.model", "plan", "project", "release.names", "variants"},
    "variants": {"config", "errors", "plan"},
    # the parts of an image
    "oci": {"oci", "answers", "errors", "outputs", "process", "progress", "retry", "streams", "transport", "urls"},
    "layers": {"context", "errors", "leaks", "oci", "progress", "store", "streams"},
    "bases": {"bases", "elf", "wheels.compile", "layers", "oci", "plan", *HANDS},
    "wheels": {"wheels", "bases", "elf", "layers", "oci", "plan", "shape", *HANDS},
    # the story
    "engines": {"engines", "bases", "wheels", "layers", "oci", "plan", "project", "release.names", *HANDS},
    "native": {"native", "bases", "elf", "engines", "oci", "plan", "release.names", *HANDS},
    "check": {"bases", "wheels.sandbox", "oci", "plan", *HANDS},
    "receipt": {"records", "engines", "oci", "plan", "release", "revision", "shape", *HANDS},
    "report": {"receipt", "release.names", *HANDS},
    "hints": {"engines", "native.layers", "plan", "wheels.install", *HANDS},
    "afterword": {
        "bases", "engines.frame", "engines.site", "oci.model", "plan", "receipt", "wheels.install", "wheels.slim",
        *HANDS,
    },
    "pipeline": {
        "afterword", "check", "engines", "hints", "native", "oci", "plan", "project", "receipt", "release", "report",
        "workspace", *HANDS,
    },
    "publish": {
        "config", "defaults", "layers", "oci", "plan", "receipt", "release", "report", "revision", "variants", *HANDS,
    },
    "contents": {"contents", "engines", "existing", "oci", "publish", "receipt", "release", "wheels", *HANDS},
    "doctor": {
        "doctor", "__init__", "answers", "backend", "bases", "doors", "engines", "oci", "plan", "prune", "release",
        "revision", "wheels", *HANDS,
    },
    # the doors
    "ending": set(),
    "doors": {
        "config", "defaults", "ending", "engines", "existing", "members", "oci.model", "pipeline", "plan", "project",
        "prune", "receipt", *HANDS,
    },
    "members": {"backend", "builder", "plan", "project", "revision", "workspace", *HANDS},
    "lock": {"bases", "config", "engines", "oci", "plan", "pins_text", "project", "wheels", *HANDS},
    "builder": {"doors", "engines.eject", "members", "plan", "project", "workspace", *HANDS},
    "build_hook": {"doors", "plan", "project", *HANDS},
    "watch": {
        "afterword", "backend", "builder", "doors", "oci", "pipeline", "plan", "project", "receipt", "wheels.tree",
        *HANDS,
    },
    "verify": {"oci", *HANDS},
    "existing": {"engines", "oci", "plan", "receipt", "release.names", "revision", *HANDS},
    "remake": {"builder", "doors", "errors", "project"},
    "cli": {"__init__", "doors", "ending", "errors", "faults", "progress", "verbs"},
    "start": {"start", "backend", "bases.apt", "config", "plan", "release.names", "workspace", *HANDS},
    "verbs": {
        "verbs", "backend", "config", "contents", "doctor", "doors", "lock", "members", "oci", "plan",
        "project", "prune", "publish", "release", "start", "verify", "watch", *HANDS,
    },
    "backend": {"bases", "builder", "doors", "engines.frame", "oci", "plan", "project", "wheels", "workspace", *HANDS},
    "publisher": {"doors", "publish", *HANDS},
    "hooks": {"builder", "build_hook", "publisher"},
    "__main__": {"cli"},
}

LIBRARIES: dict[str, set[str]] = {
    "hatchling": {"hooks", "backend", "builder", "build_hook", "doors", "project", "start.layout"},
    "hatch": {"publisher"},
    "subprocess": {"process", "wheels.stage"},
    "urllib3": {"pace", "transport", "answers"},  # answers: what the client's exceptions mean
    "docker": {"oci.docker_api"},
    "installer": {"wheels"},
    "pysequoia": {"bases"},
    "rich": {"screen"},
    "watchfiles": {"watch"},
    # never: each has a better answer in this house
    "pydantic": set(),
    "pydantic_core": set(),
    "requests": set(),
    "httpx": set(),
    "click": set(),
    "jinja2": set(),
}

HEAVY = ("pydantic", "pydantic_core", "urllib3", "docker", "rich", "packaging", "installer", "tomlkit")
HOOKS_BUDGET = 5000  # microseconds for our own modules


def imports(path: Path) -> Iterator[str]:
    """What a module imports anywhere: at its top, in functions, for type checkers; `from a import b` as a.b."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(imported: str) -> str | None:
    """The module of ours that an import names, None for others'."""
    top, _, name = imported.partition(".")
    if top != "hatch_docker":
        return None
    first = name.partition(".")[0]
    known = modules()
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or ("__init__" if first in ("", "__version__") else first)


def within(name: str, allowed: set[str]) -> bool:
    """Whether a module is one of those allowed, in one of those packages, or a config_* of config."""
    if name.startswith("config_"):
        name = "config"
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


def rule(name: str) -> set[str]:
    """What a module may import."""
    top = "config" if name.startswith("config_") else name.partition(".")[0]
    assert top in MAY_IMPORT, f"{name} is new: say in {Path(__file__).name} what it may import"
    return MAY_IMPORT[top]


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_what_the_plan_allows(name: str) -> None:
    """The arrows of the design: nobody reaches up, and oci/ knows nothing of Python projects."""
    targets = {own(imported) for imported in imports(modules()[name])} - {None, name}
    wrong = sorted(target for target in targets if target is not None and not within(target, rule(name)))
    assert not wrong, f"{name} imports {', '.join(wrong)}"


@pytest.mark.parametrize("name", modules())
def test_a_library_is_imported_where_it_belongs(name: str) -> None:
    """One file for hatch, one for programs, one for HTTP."""
    for imported in imports(modules()[name]):
        library = imported.split(".")[0]
        if library in LIBRARIES:
            assert within(name, LIBRARIES[library]), f"{name} imports {library}"


def test_the_environment_is_read_at_the_doors() -> None:
    """Everything below gets it handed over in a Context: no variable is read deep inside."""
    readers = {
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in ("environ", "environb", "getenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    }
    # pep517 is a program of its own, in the builder.
    readers = {name for name in readers if name.partition(".")[0] != "verbs"}
    assert readers <= {"builder", "build_hook", "publisher", "wheels.pep517"}


def test_no_module_of_tests_stands_on_another() -> None:
    """What several need lies beside them under a name of its own: a fake, a fixture of a conftest."""
    tests = Path(__file__).parent
    wrong = [
        f"{path.relative_to(tests)} imports {imported}"
        for path in sorted(tests.rglob("*.py"))
        for imported in sorted(imports(path))
        if re.match(r"tests\.([a-z]+\.)?test_", imported)
    ]
    assert wrong == []


def fresh(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter at the project's root."""
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )


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

    assert min(microseconds() for _ in range(10)) < HOOKS_BUDGET
