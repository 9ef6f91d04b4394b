"""Files of wheels that are left out, and the removal of symbols from ELF files."""

import csv
import ctypes
import io
import struct
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_docker.config.load import load_config
from hatch_docker.core.elf import read_elf
from hatch_docker.core.errors import ConfigError, WheelError
from hatch_docker.engines.common import slim_rules
from hatch_docker.oci.model import Platform
from hatch_docker.plan.defaults import make_plan
from hatch_docker.plan.model import Plan, SlimPlan
from hatch_docker.wheels.install.slim import KINDS, NONE, Rules, is_stripped, left_out_files
from hatch_docker.wheels.install.strip import LEAST
from hatch_docker.wheels.install.venv import wheel_entries, wheel_files
from tests.conftest import need
from tests.fakes.compiled import compile_library, strip_bytes
from tests.fakes.plans import project
from tests.fakes.sbom_images import SITE
from tests.fakes.wheels import VENV, Wheel, read_entries


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_library(tmp_path_factory.mktemp("library"))


def segments(data: bytes) -> list[tuple[int, ...]]:
    """Return the segments of a 64-bit ELF file: type, flags, offset, address, file size, memory size, alignment."""
    start, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    rows = [struct.unpack_from("<IIQQQQQQ", data, start + 56 * number) for number in range(count)]
    return [(row[0], row[1], row[2], row[3], row[5], row[6], row[7]) for row in rows]


def loaded_segments(data: bytes) -> list[tuple[object, ...]]:
    """Return what a loader maps: each segment without its file offset, and without the offsets of the headers."""
    start, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    blank = bytearray(data)
    blank[32:64] = bytes(32)
    blank[start : start + 56 * count] = bytes(56 * count)
    return [(row[0], row[1], *row[3:], bytes(blank[row[2] : row[2] + row[4]])) for row in segments(data)]


def patched(data: bytes) -> bytes:
    """Return a library like patchelf's output: an additional segment after the sections that are not loaded."""
    end = -(-len(data) // 0x1000) * 0x1000
    table = struct.unpack_from("<Q", data, 32)[0]
    number = next(number for number, row in enumerate(segments(data)) if row[0] == 0x6474E550)  # PT_GNU_EH_FRAME
    address = max(row[3] + row[5] for row in segments(data) if row[0] == 1) + 0x10000 & ~0xFFF
    library_ = bytearray(data.ljust(end, b"\0") + b"behind everything".ljust(4096, b"."))
    struct.pack_into("<IIQQQQQQ", library_, table + 56 * number, 1, 4, end, address, address, 4096, 4096, 0x1000)
    return bytes(library_)


def run(data: bytes, directory: Path) -> tuple[int, int]:
    path = directory / f"run-{len(data)}.so"
    path.write_bytes(data)
    found = ctypes.CDLL(str(path))
    return found.answer(1), found.sum(2)


@pytest.mark.parametrize("change", [bytes, patched])
def test_stripped_library_has_the_same_segments(change: type[bytes], library: bytes, tmp_path: Path) -> None:
    """The same bytes and alignment, and the same results of its functions, in less than two thirds of the size."""
    before = change(library)
    after = strip_bytes(before)
    assert len(after) < len(before) * 2 / 3
    assert loaded_segments(after) == loaded_segments(before)
    assert all((row[2] - row[3]) % row[6] == 0 for row in segments(after) if row[0] == 1)
    assert run(after, tmp_path) == run(before, tmp_path) == (42, 2 * sum(range(2000)))
    assert strip_bytes(after) == after
    assert read_elf(io.BytesIO(after)) == read_elf(io.BytesIO(before))


def test_stripped_library_is_valid_for_readelf(library: bytes, tmp_path: Path) -> None:
    """readelf of binutils prints no warning, no debug section and no .symtab."""
    program = need("readelf")
    for number, data in enumerate((library, patched(library))):
        path = tmp_path / f"{number}.so"
        path.write_bytes(strip_bytes(data))
        lines = subprocess.run([program, "-aW", str(path)], capture_output=True, text=True, check=True)
        assert "warning" not in lines.stderr.lower()
        assert ".debug_info" not in lines.stdout
        assert ".symtab" not in lines.stdout
        assert "answer" in lines.stdout  # in .dynsym


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"no program", b"\x7fELF" + bytes(range(256)) * 40])
def test_other_files_are_not_changed(data: bytes) -> None:
    assert strip_bytes(data) == data


def test_library_with_trailing_data_is_not_changed(library: bytes) -> None:
    """Some programs read their own data from there. A truncated library is not changed either."""
    assert strip_bytes(library + b"data") == library + b"data"
    assert strip_bytes(library[:-100]) == library[:-100]


@settings(max_examples=200)
@given(st.data())
def test_damaged_library_keeps_its_segments(library: bytes, data: st.DataObject) -> None:
    """With random changes of the headers: no exception, and no changed segment."""
    damaged = bytearray(library)
    table = struct.unpack_from("<Q", library, 40)[0]
    for _ in range(data.draw(st.integers(1, 4))):
        start, end = data.draw(st.sampled_from([(4, 64), (64, 64 + 56 * 9), (table, len(library))]))
        damaged[data.draw(st.integers(start, end - 1))] = data.draw(st.integers(0, 255))
    after = strip_bytes(bytes(damaged))
    if after != bytes(damaged):
        assert loaded_segments(after) == loaded_segments(bytes(damaged))


ALL_KINDS = Rules(KINDS)


def left_out(files: dict[str, str], rules: Rules = ALL_KINDS) -> dict[str, str]:
    return left_out_files(files, lambda name: files[name].encode(), rules)


PACKAGE = {"a/__init__.py": "import a.b\n", "a/b.py": ""}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/tests/test_b.py", "tests"), ("a/tests/data/big.bin", "tests"), ("a/test/__init__.py", "tests"),
        ("tests/test_a.py", ""), ("a/testing/__init__.py", ""), ("a/tests.py", ""), ("a/latest/x.py", ""),
        ("other/tests/test_x.py", ""),  # the package has no other modules, so the tests are its purpose
        ("a/b.pyi", "stubs"), ("a/py.typed", "stubs"), ("a-stubs/b.pyi", "stubs"),
        ("a/include/a.h", "headers"), ("a/lib/liba.a", "headers"), ("a/b.pxd", "headers"),
        ("cupy/_core/include/x.cuh", ""), ("a/b.hdf5", ""),
        ("a-1.0.data/headers/a.h", "headers"), ("a-1.0.data/data/include/a/config", "headers"),
        ("a-1.0.data/purelib/a/tests/x.py", "tests"), ("a-1.0.data/scripts/tool.h", ""),
        ("a-1.0.dist-info/licenses/tests/COPYING.h", ""),
        ("a/locale/fr/LC_MESSAGES/a.mo", "locales"), ("a/locale/pt_BR/LC_MESSAGES/a.po", "locales"),
        ("a/locale/en_GB/LC_MESSAGES/a.mo", ""), ("a/locale/fr/formats.py", ""), ("a/locale/fr.mo", ""),
        ("babel/locale-data/fr_CA.dat", "locales"), ("babel/locale-data/root.dat", ""),
    ],
)  # fmt: skip
def test_kind_of_file_by_path(path: str, kind: str) -> None:
    assert left_out({**PACKAGE, path: ""}) == ({path: kind} if kind else {})


@pytest.mark.parametrize("line", [
    "from .tests.helper import run", "from . import tests", "from a.tests import (\n    helper,\n)",
    "import a.tests", "    import os, a.tests.helper as h", "from a import b, tests", 'load("a.tests.helper")',
    "from a import \\\n tests",
])  # fmt: skip
def test_imported_tests_are_kept(line: str) -> None:
    """astropy cannot be imported without its tests. Modules that kept tests import are kept too."""
    files = {
        **PACKAGE, "a/c.py": f"{line}\n", "a/tests/__init__.py": "", "a/tests/helper.py": "from a.sub.tests import x\n",
        "a/sub/__init__.py": "", "a/sub/tests/__init__.py": "", "a/more/__init__.py": "", "a/more/tests/test_m.py": "",
    }  # fmt: skip
    assert left_out(files) == {"a/more/tests/test_m.py": "tests"}


def test_imports_between_tests_do_not_keep_them() -> None:
    files = {**PACKAGE, "a/tests/__init__.py": "", "a/tests/test_b.py": "import a.tests\nfrom ..b import x\n"}
    assert set(left_out(files)) == {"a/tests/__init__.py", "a/tests/test_b.py"}


def test_stub_that_its_module_reads_is_kept() -> None:
    """scikit-image reads its stubs with lazy_loader."""
    files = {"a/__init__.py": "x = lazy_loader.attach_stub(__name__, __file__)", "a/__init__.pyi": "", "a/b.pyi": ""}
    assert left_out(files) == {"a/b.pyi": "stubs"}


def test_leave_out_locales_and_keep() -> None:
    files = {**PACKAGE, "a/tests/x.py": "", "a/b.pyi": "", "a/locale/de_AT/LC_MESSAGES/a.mo": ""}
    assert set(left_out(files, Rules(("stubs",)))) == {"a/b.pyi"}
    assert set(left_out(files, Rules(KINDS, ("de",)))) == {"a/tests/x.py", "a/b.pyi"}
    for pattern in ("a/tests", "a/tests/", "*/tests", "a/t*/x.py", "a"):
        assert "a/tests/x.py" not in left_out(files, Rules(KINDS, (), (pattern,)))
    assert is_stripped("a/x.so", Rules(("symbols",)))
    assert not is_stripped("a/x.so", Rules(("symbols",), (), ("a/*.so",)))
    assert not is_stripped("a/x.so", Rules(("tests",)))


@pytest.mark.parametrize(
    "line", ["from" + " " * 200_000, "from " + "." * 200_000, "from " + "a" * 200_000, "from a import (\n" * 20_000,
             "import a\\\n" * 50_000, '"' + "a." * 100_000, "from a.tests" * 20_000, "'a.tests" * 20_000],
)  # fmt: skip
def test_search_for_imports_has_no_quadratic_time(line: str) -> None:
    """An untrusted wheel must not stop a build."""
    started = time.process_time()
    left_out({**PACKAGE, "a/c.py": f"test\n{line}", "a/tests/x.py": ""})
    assert time.process_time() - started < 20


def test_record_matches_the_remaining_files(library: bytes, tmp_path: Path) -> None:
    """RECORD lists exactly the installed files with hash and size; the tally counts the others."""
    files = {"demo/__init__.py": b"", "demo/x.so": library, "demo/tests/t.py": b"pass", "demo/py.typed": b""}
    wheel = Wheel(files=files).write(tmp_path / "demo-1.0-py3-none-any.whl")
    tally: dict[str, list[int]] = {}
    entries = wheel_entries(wheel, VENV, rules=Rules(KINDS), tally=tally)
    found = read_entries(entries)
    record = next(entry.content for path, entry in found.items() if path.endswith("/RECORD"))
    assert isinstance(record, bytes)
    rows = {row[0]: (row[1], row[2]) for row in csv.reader(io.StringIO(record.decode()))}
    assert {f"{SITE}/{path}" for path in rows} == {path for path, entry in found.items() if entry.kind == "file"}
    after = strip_bytes(library)
    assert found[f"{SITE}/demo/x.so"].content == after
    assert rows["demo/x.so"][1] == str(len(after))
    assert tally == {"tests": [1, 4], "stubs": [1, 0], "symbols": [1, len(library) - len(after)]}
    assert len(library) - len(after) > LEAST
    assert set(wheel_files(entries, VENV)) == {f"{SITE}/{path}" for path in rows}


def test_stripped_library_is_compared_with_record(library: bytes, tmp_path: Path) -> None:
    wheel = Wheel(files={"demo/x.so": library})
    wheel.records["demo/x.so"] = f"demo/x.so,sha256={'A' * 43},{len(library)}\n"
    path = wheel.write(tmp_path / "demo-1.0-py3-none-any.whl")
    with pytest.raises(WheelError, match="differs from what RECORD says"):
        read_entries(wheel_entries(path, VENV, rules=Rules(("symbols",))))


def plan_of(**slim: tuple[str, ...]) -> Plan:
    options = {name.replace("_", "-"): value for name, value in slim.items()}
    config = load_config({"entrypoint": ["x"], "base": "debian:trixie", "slim": options}, {}, None)
    return make_plan(project(), config, Platform("linux", "amd64"))


def test_default_leaves_no_file_out() -> None:
    assert plan_of().slim == SlimPlan()
    assert slim_rules(plan_of(), "dependencies") == NONE


def test_projects_wheel_loses_only_symbols() -> None:
    plan = plan_of(leave_out=("tests", "symbols"), keep=("x",))
    assert slim_rules(plan, "dependencies") == Rules(("symbols", "tests"), (), ("x",))
    assert slim_rules(plan, "project") == Rules(("symbols",), (), ("x",))
    assert slim_rules(plan_of(leave_out=("tests",)), "project") == NONE


@pytest.mark.parametrize(
    "slim", [{"locales": ("de",)}, {"keep": ("x",)}, {"leave_out": ("tests",), "locales": ("de",)}]
)
def test_slim_options_without_effect_are_rejected(slim: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ConfigError, match=r"tool\.hatch-docker\.slim\.(locales|keep): .*leave-out"):
        plan_of(**slim)
