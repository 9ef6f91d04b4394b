"""Files that are left out of wheels: a file that no rule names stays, one that is imported stays."""

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
from hatch_docker.wheels.install.slim import KINDS, NONE, Rules, choose, is_stripped
from hatch_docker.wheels.install.strip import LEAST
from hatch_docker.wheels.install.venv import wheel_entries, wheel_files
from tests.conftest import need
from tests.fakes.compiled import compile_library, strip_bytes
from tests.fakes.plans import project
from tests.fakes.sbom_images import SITE
from tests.fakes.wheels import VENV, Wheel, read


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compile_library(tmp_path_factory.mktemp("library"))


def segments(data: bytes) -> list[tuple[int, ...]]:
    """The segments of a file of 64 bits: type, flags, offset, address, size in the file, size in memory, alignment."""
    start, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    rows = [struct.unpack_from("<IIQQQQQQ", data, start + 56 * number) for number in range(count)]
    return [(row[0], row[1], row[2], row[3], row[5], row[6], row[7]) for row in rows]


def loaded(data: bytes) -> list[tuple[object, ...]]:
    """The mapping of a loader: each segment but for its place in the file, without the place of the headers."""
    start, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    blank = bytearray(data)
    blank[32:64] = bytes(32)
    blank[start : start + 56 * count] = bytes(56 * count)
    return [(row[0], row[1], *row[3:], bytes(blank[row[2] : row[2] + row[4]])) for row in segments(data)]


def patched(data: bytes) -> bytes:
    """A library as patchelf leaves it: one more segment, behind the sections that are not loaded."""
    end = -(-len(data) // 0x1000) * 0x1000
    table = struct.unpack_from("<Q", data, 32)[0]
    number = next(number for number, row in enumerate(segments(data)) if row[0] == 0x6474E550)  # PT_GNU_EH_FRAME
    address = max(row[3] + row[5] for row in segments(data) if row[0] == 1) + 0x10000 & ~0xFFF
    made = bytearray(data.ljust(end, b"\0") + b"behind everything".ljust(4096, b"."))
    struct.pack_into("<IIQQQQQQ", made, table + 56 * number, 1, 4, end, address, address, 4096, 4096, 0x1000)
    return bytes(made)


def run(data: bytes, directory: Path) -> tuple[int, int]:
    path = directory / f"run-{len(data)}.so"
    path.write_bytes(data)
    found = ctypes.CDLL(str(path))
    return found.answer(1), found.sum(2)


@pytest.mark.parametrize("change", [bytes, patched])
def test_a_stripped_library_is_loaded_as_before(change: type[bytes], library: bytes, tmp_path: Path) -> None:
    """The same segments with the same bytes, aligned as before, and the same answers; a third of the file is gone."""
    before = change(library)
    after = strip_bytes(before)
    assert len(after) < len(before) * 2 / 3
    assert loaded(after) == loaded(before)
    assert all((row[2] - row[3]) % row[6] == 0 for row in segments(after) if row[0] == 1)
    assert run(after, tmp_path) == run(before, tmp_path) == (42, 2 * sum(range(2000)))
    assert strip_bytes(after) == after
    assert read_elf(io.BytesIO(after)) == read_elf(io.BytesIO(before))


def test_a_stripped_library_is_sound_and_has_no_debug_section(library: bytes, tmp_path: Path) -> None:
    """By binutils' own eyes, of which no warning may come."""
    program = need("readelf")
    for number, data in enumerate((library, patched(library))):
        path = tmp_path / f"{number}.so"
        path.write_bytes(strip_bytes(data))
        lines = subprocess.run([program, "-aW", str(path)], capture_output=True, text=True, check=True)
        assert "warning" not in lines.stderr.lower()
        assert ".debug_info" not in lines.stdout
        assert ".symtab" not in lines.stdout
        assert "answer" in lines.stdout  # in the loader's own table


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"no program", b"\x7fELF" + bytes(range(256)) * 40])
def test_what_is_no_library_stays(data: bytes) -> None:
    assert strip_bytes(data) == data


def test_what_carries_something_behind_itself_stays(library: bytes) -> None:
    """As programs do that read their own data from there; and a file that is cut."""
    assert strip_bytes(library + b"data") == library + b"data"
    assert strip_bytes(library[:-100]) == library[:-100]


@settings(max_examples=200)
@given(st.data())
def test_whatever_is_broken_is_left_alone_or_loaded_as_before(library: bytes, data: st.DataObject) -> None:
    """Headers with any bytes changed: no exception, and never another segment."""
    spoiled = bytearray(library)
    table = struct.unpack_from("<Q", library, 40)[0]
    for _ in range(data.draw(st.integers(1, 4))):
        start, end = data.draw(st.sampled_from([(4, 64), (64, 64 + 56 * 9), (table, len(library))]))
        spoiled[data.draw(st.integers(start, end - 1))] = data.draw(st.integers(0, 255))
    after = strip_bytes(bytes(spoiled))
    if after != bytes(spoiled):
        assert loaded(after) == loaded(bytes(spoiled))


EVERYTHING = Rules(KINDS)


def left_out(files: dict[str, str], rules: Rules = EVERYTHING) -> dict[str, str]:
    return choose(files, lambda name: files[name].encode(), rules)


PACKAGE = {"a/__init__.py": "import a.b\n", "a/b.py": ""}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/tests/test_b.py", "tests"), ("a/tests/data/big.bin", "tests"), ("a/test/__init__.py", "tests"),
        ("tests/test_a.py", ""), ("a/testing/__init__.py", ""), ("a/tests.py", ""), ("a/latest/x.py", ""),
        ("other/tests/test_x.py", ""),  # of a package with nothing else: it is what the wheel is for
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
def test_a_file_is_left_out_by_its_place_and_name(path: str, kind: str) -> None:
    assert left_out({**PACKAGE, path: ""}) == ({path: kind} if kind else {})


@pytest.mark.parametrize("line", [
    "from .tests.helper import run", "from . import tests", "from a.tests import (\n    helper,\n)",
    "import a.tests", "    import os, a.tests.helper as h", "from a import b, tests", 'load("a.tests.helper")',
    "from a import \\\n tests",
])  # fmt: skip
def test_tests_that_another_module_imports_stay(line: str) -> None:
    """As those of astropy do, which cannot be imported without; what these import stays with them."""
    files = {
        **PACKAGE, "a/c.py": f"{line}\n", "a/tests/__init__.py": "", "a/tests/helper.py": "from a.sub.tests import x\n",
        "a/sub/__init__.py": "", "a/sub/tests/__init__.py": "", "a/more/__init__.py": "", "a/more/tests/test_m.py": "",
    }  # fmt: skip
    assert left_out(files) == {"a/more/tests/test_m.py": "tests"}


def test_imports_between_tests_keep_nothing() -> None:
    files = {**PACKAGE, "a/tests/__init__.py": "", "a/tests/test_b.py": "import a.tests\nfrom ..b import x\n"}
    assert set(left_out(files)) == {"a/tests/__init__.py", "a/tests/test_b.py"}


def test_a_stub_that_its_module_reads_stays() -> None:
    """As scikit-image's do: lazy_loader imports by them."""
    files = {"a/__init__.py": "x = lazy_loader.attach_stub(__name__, __file__)", "a/__init__.pyi": "", "a/b.pyi": ""}
    assert left_out(files) == {"a/b.pyi": "stubs"}


def test_what_is_asked_for_goes_and_what_is_to_be_kept_stays() -> None:
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
def test_a_module_that_is_made_to_be_slow_is_read_as_fast(line: str) -> None:
    """A stranger's wheel must not hold a build up."""
    started = time.process_time()
    left_out({**PACKAGE, "a/c.py": f"test\n{line}", "a/tests/x.py": ""})
    assert time.process_time() - started < 20


def test_record_is_true_of_what_is_there(library: bytes, tmp_path: Path) -> None:
    """Each file of RECORD is there with its hash and size, and no other; the tally says what is missing."""
    files = {"demo/__init__.py": b"", "demo/x.so": library, "demo/tests/t.py": b"pass", "demo/py.typed": b""}
    wheel = Wheel(files=files).write(tmp_path / "demo-1.0-py3-none-any.whl")
    tally: dict[str, list[int]] = {}
    entries = wheel_entries(wheel, VENV, rules=Rules(KINDS), tally=tally)
    found = read(entries)
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


def test_a_library_that_differs_from_record_is_refused_also_when_it_is_stripped(library: bytes, tmp_path: Path) -> None:
    wheel = Wheel(files={"demo/x.so": library})
    wheel.records["demo/x.so"] = f"demo/x.so,sha256={'A' * 43},{len(library)}\n"
    path = wheel.write(tmp_path / "demo-1.0-py3-none-any.whl")
    with pytest.raises(WheelError, match="differs from what RECORD says"):
        read(wheel_entries(path, VENV, rules=Rules(("symbols",))))


def plan_of(**slim: tuple[str, ...]) -> Plan:
    options = {name.replace("_", "-"): value for name, value in slim.items()}
    config = load_config({"entrypoint": ["x"], "base": "debian:trixie", "slim": options}, {}, None)
    return make_plan(project(), config, Platform("linux", "amd64"))


def test_nothing_is_left_out_unless_it_is_asked_for() -> None:
    assert plan_of().slim == SlimPlan()
    assert slim_rules(plan_of(), "dependencies") == NONE


def test_of_a_projects_own_wheel_only_symbols_go() -> None:
    plan = plan_of(leave_out=("tests", "symbols"), keep=("x",))
    assert slim_rules(plan, "dependencies") == Rules(("symbols", "tests"), (), ("x",))
    assert slim_rules(plan, "project") == Rules(("symbols",), (), ("x",))
    assert slim_rules(plan_of(leave_out=("tests",)), "project") == NONE


@pytest.mark.parametrize(
    "slim", [{"locales": ("de",)}, {"keep": ("x",)}, {"leave_out": ("tests",), "locales": ("de",)}]
)
def test_options_that_say_nothing_are_refused(slim: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ConfigError, match=r"tool\.hatch-docker\.slim\.(locales|keep): .*leave-out"):
        plan_of(**slim)
