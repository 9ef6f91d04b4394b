"""The compiler cache with the host's cc1: hits, misses, and the same output as without the cache."""

import concurrent.futures
import contextlib
import marshal
import os
import shutil
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.wheels.builder import compiler_cache
from hatch_docker.wheels.builder.compiler_cache import SUFFIX
from hatch_docker.wheels.builder.compiler_places import program, trim, trim_mounted
from tests.conftest import need

SOURCE = '#include "a.h"\n#ifdef LATE\n#include <late.h>\n#endif\nint f(int unused) { return VALUE + __LINE__; }\n'


@dataclass
class Compiler:
    """gcc with the compiler cache as cc1; the compiler itself logs each run."""

    directory: Path
    time: int = 0  # SOURCE_DATE_EPOCH, which sources can read

    def run(self, *options: str, cached: bool = True, name: str = "gcc", cwd: Path | None = None) -> str:
        """Compile in `cwd`, by default the directory with the sources, and return the messages."""
        command = [need(name), *([f"-B{self.directory}/bin/"] if cached else []), *options]
        variables = {**os.environ, "TMPDIR": str(self.directory), "SOURCE_DATE_EPOCH": str(self.time)}
        place = cwd or self.directory
        done = subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr

    @property
    def logged(self) -> tuple[int, int]:
        """The number of compilations and of preprocessor runs since the last call."""
        log = self.directory / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines.count("run"), lines.count("preprocess")

    @property
    def runs(self) -> int:
        """The number of compilations since the last call."""
        return self.logged[0]

    @property
    def cache(self) -> Path:
        return self.directory / "cache"

    @property
    def results(self) -> list[Path]:
        """The cached compilations, without the program's bytecode and the entries of `Direct`."""
        return [path for path in self.cache.iterdir() if isinstance(entry_of(path), tuple) and len(entry_of(path)) == 2]


def entry_of(path: Path) -> Any:
    """Return the value in a file of the cache."""
    data = path.read_bytes()[32:]
    with contextlib.suppress(zlib.error):
        data = zlib.decompress(data)
    return marshal.loads(data)


def write_program(path: Path, cache: Path) -> None:
    """Write the compiler cache as a compiler, with another cache directory."""
    source = Path(compiler_cache.__file__).read_text()
    text = program(str(Path(sys.executable).resolve()), source).replace("/compiler-cache", str(cache))
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def compiler(tmp_path: Path) -> Compiler:
    """A compiler with an empty cache, and sources with a header."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "a.h").write_text("#define VALUE 1\n")
    (tmp_path / "a.c").write_text(SOURCE)
    (tmp_path / "a.cpp").write_text(SOURCE)
    for name in ("cc1", "cc1plus"):
        language = {"cc1": "gcc", "cc1plus": "g++"}[name]
        real = subprocess.check_output([need(language), f"-print-prog-name={name}"], text=True).strip()
        path = tmp_path / "bin" / name
        write_program(path, tmp_path / "cache")
        hidden = path.with_name(f".{name}")
        logged = f'case " $* " in *" -E "*) echo preprocess;; *) echo run;; esac >> {tmp_path}/log'
        hidden.write_text(f'#!/bin/sh\n{logged}\nexec {real} "$@"\n')
        hidden.chmod(0o755)
    return Compiler(tmp_path)


@pytest.mark.parametrize(
    ("options", "cached_options"),
    [
        ("-c a.c -o a.o", True),
        ("-c a.c -o a.o -g -O2 -Wall -Winvalid-pch -Wextra -pipe -flto -frandom-seed=1", True),
        ("-c a.cpp -o a.o -O1 -fPIC -std=c++17 -march=native", True),
        ("-shared -fPIC a.c -o a.o", True),                    # one command compiles and links
        ("-c a.c -o a.o -MD -MP -MF deps -MT a.o", True),
        ("-c a.c -o a.o -MMD", True),
        ("-c a.c -o a.o -Wp,-D_FORTIFY_SOURCE=2 -O2", True),
        ("-S a.c -o a.o", True),
        ("-c a.c -o a.o -g3", False),                          # debug information contains macros
        ("-c a.c -o a.o -ftest-coverage", False),              # writes an additional file
        ("-c a.c -o a.o -save-temps", False),
        ("-c a.c -o a.o -fdump-tree-optimized", False),
        ("-c a.c -o a.o -imacros a.h", False),
        ("-c a.c -o a.o -aux-info deps", False),
    ],
)  # fmt: skip
def test_cache_hit_has_the_same_output_as_the_compiler(options: str, cached_options: bool, compiler: Compiler) -> None:
    """Object, file of dependencies and warnings are equal. Calls with unsupported options are not cached."""
    results = []
    for cached, runs in ((False, 0), (True, 1), (True, 0 if cached_options else 1)):
        messages = compiler.run(*options.split(), cached=cached)
        assert compiler.runs == runs
        files = {path.name: path.read_bytes() for path in compiler.directory.iterdir() if path.suffix in (".o", ".d")}
        results.append((messages, files, (compiler.directory / "deps").exists()))
        for name in [*files, "deps"]:
            (compiler.directory / name).unlink(missing_ok=True)
    assert results[0] == results[1] == results[2]
    assert "unused" in results[0][0] if "-Wextra" in options else not results[0][0]


@pytest.mark.parametrize(
    "change",
    ["source", "column", "header", "macro", "new header before", "directory", "time", "compiler's option"],
)
def test_changed_input_is_compiled(change: str, compiler: Compiler) -> None:
    """Everything that affects the object is in the key. The new object is cached too."""
    top = compiler.directory
    options = ["-c", str(top / "a.c"), "-o", str(top / "a.o"), "-g", "-I", str(top / "first"), "-I", str(top)]
    (top / "first").mkdir()
    if change == "time":
        (top / "a.h").write_text("#define VALUE __TIME__[7]\n")
    compiler.run(*options)
    before, cwd = (top / "a.o").read_bytes(), top
    if change == "source":
        (top / "a.c").write_text(SOURCE.replace("+", "-"))
    elif change == "column":  # in debug information and std::source_location
        (top / "a.c").write_text(SOURCE.replace("VALUE + ", "VALUE + /* */ "))
    elif change in ("header", "new header before"):
        (top / "a.h").unlink()
        (top / ("a.h" if change == "header" else "first/a.h")).write_text("#define VALUE 2\n")
    elif change == "macro":
        options.append("-DVALUE=3")
        (top / "a.h").write_text("")
    elif change == "directory":
        cwd = top / "first"
    elif change == "time":
        compiler.time = 7
    else:
        options.append("-O2")
    assert compiler.runs == 1
    for runs in (1, 0):
        compiler.run(*options, cwd=cwd)
        assert compiler.runs == runs
    after = (top / "a.o").read_bytes()
    compiler.run(*options, cached=False, cwd=cwd)
    assert before != after == (top / "a.o").read_bytes()


NEW_FILES = {
    "header before": {"first/a.h": "#define VALUE 2\n"}, "in a missing directory": {"missing/a.h": "#define VALUE 2\n"},
    "beside": {"a.h": "#define VALUE 2\n"}, "read": {"second/a.h": "#define VALUE 2\n"},
    "of the same size": {"second/a.h": "#define VALUE 7\n"}, "comment": {"second/a.h": "#define VALUE 1 // one\n"},
    "source": {"a.c": SOURCE.replace("+", "-")}, "other": {"b.c": ""}, "object": {"a.o.d": "", "x.o": ""},
    "precompiled": {"second/a.h.gch/x": ""}, "deep": {"second/deep/a.h": "#define VALUE 2\n"},
}


@pytest.mark.parametrize(
    ("new", "found"),
    [(name, (1, 1)) for name in ("header before", "in a missing directory", "beside", "read", "of the same size",
                                 "source")]
    + [(name, (0, 1)) for name in ("comment", "other", "precompiled", "deep")] + [("object", (0, 0))],
)  # fmt: skip
def test_cached_file_is_not_preprocessed(new: str, found: tuple[int, int], compiler: Compiler) -> None:
    """Unless a file that it read was changed, or its search path has a new file that is not an object."""
    top = compiler.directory / "src"
    for path, text in {"a.c": SOURCE, "second/a.h": "#define VALUE 1\n", "first/b.h": ""}.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
    options = ["-c", "a.c", "-o", "../a.o", "-g", "-MMD", "-MF", "../deps"]
    options += [f"-I{name}" for name in ("missing", "first", "second")]
    results = []
    for number in range(5):
        if number == 2:
            for path, text in NEW_FILES[new].items():
                (top / path).parent.mkdir(parents=True, exist_ok=True)
                (top / path).write_text(text)
        time.sleep(0.1)  # calls with files that were written during the call are not cached
        (compiler.directory / "deps").unlink(missing_ok=True)
        compiler.run(*options, cwd=top, cached=number < 4)
        outputs = [(compiler.directory / name).read_bytes() for name in ("a.o", "deps")]
        results.append((compiler.logged, outputs))
    assert [logged for logged, _ in results[:4]] == [(1, 1), (0, 0), found, (0, 0)]
    assert results[0][1] == results[1][1]
    assert results[2][1] == results[3][1] == results[4][1]


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ('#if __has_include("../late.h")\n#endif\n', ""),      # a file outside of the listed directories
        ('#include "../src/a.h"\n', ""),
        ('#pragma GCC system_header\n', ""),
        ('#include "table.d"\n', ""),                          # files with this suffix are not listed
        ("const char *time = __TIMESTAMP__;\n", ""),
        ('#include "a.h"\n#import "b.h"\n', ""),               # b.h has the same bytes as a.h
        ("", "-include a.h"),
        ("", "-isystem ."),
        ("", "-DX=__TIMESTAMP__"),
        ("", "-Ilinks"),                                       # contains a symlink
    ],
)
def test_unsupported_source_is_always_preprocessed(source: str, options: str, compiler: Compiler) -> None:
    top = compiler.directory / "src"
    (top / "links").mkdir(parents=True)
    if "links" in options:
        (top / "links" / "a").symlink_to("../a.h")
    for name in ("a.h", "b.h"):
        (top / name).write_text("#define VALUE 1\n")
    (top / "table.d").write_text("int table;\n")
    (top / "a.c").write_text(source)
    time.sleep(0.1)
    for runs in (1, 0, 0):
        compiler.run("-c", "a.c", "-o", "../a.o", *options.split(), cwd=top)
        assert compiler.logged == (runs, 1)


def test_recently_written_file_is_preprocessed(compiler: Compiler) -> None:
    """The file may have changed between the compilation and the computation of its digest."""
    late = (compiler.directory / "a.h").stat().st_ctime
    for started, cacheable in ((late, False), (late + 1, True)):
        direct = compiler_cache.Direct("cc1", [])
        direct.started = started
        with contextlib.nullcontext() if cacheable else pytest.raises(compiler_cache.NotCacheable):
            direct._deciding([], [str(compiler.directory / "a.h")])


def test_failed_compilation_is_not_cached(compiler: Compiler) -> None:
    (compiler.directory / "a.c").write_text("int f( {\n")
    for _ in range(2):
        with pytest.raises(AssertionError, match="expected"):
            compiler.run("-c", "a.c", "-o", "a.o")
        assert compiler.runs == 1
    assert not compiler.results


@pytest.mark.parametrize("damage", ["bits", "short", "directory", "link", "gone", "read-only"])
def test_damaged_entry_is_compiled_again(damage: str, compiler: Compiler) -> None:
    """No file in the cache can fail a build, and no symlink in it leads to files outside."""
    compiler.run("-c", "a.c", "-o", "a.o")
    good = (compiler.directory / "a.o").read_bytes()
    (entry,) = compiler.results
    data = entry.read_bytes()
    if damage in ("bits", "short"):
        entry.write_bytes(data[:40] + b"??" + data[42:] if damage == "bits" else data[:20])
    else:
        entry.unlink()
    if damage == "directory":
        entry.mkdir()
    elif damage == "link":
        entry.symlink_to("/etc/passwd")
    elif damage == "gone":
        shutil.rmtree(compiler.cache)
    elif damage == "read-only":
        compiler.cache.chmod(0o500)
    assert compiler.runs == 1
    compiler.run("-c", "a.c", "-o", "a.o")
    assert (compiler.runs, (compiler.directory / "a.o").read_bytes()) == (1, good)


def test_concurrent_builds(compiler: Compiler) -> None:
    """All objects are correct, and no unfinished file remains."""
    places = [compiler.directory / f"{number}.o" for number in range(8)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda place: compiler.run("-c", "a.c", "-o", str(place)), places))
    assert len({place.read_bytes() for place in places}) == 1
    assert len(compiler.results) == 1
    assert all(len(path.name) == 64 for path in compiler.cache.iterdir())


def test_trim_removes_least_recently_used_entries(tmp_path: Path) -> None:
    """A new unfinished file is kept: a build may be writing it."""
    now = time.time()
    for age in range(10):
        path = tmp_path / f"{age:064}"
        path.write_bytes(bytes([age + 1]) * 100_000)
        os.utime(path, (now - age, now - age))
    for name, age in ((f"new{SUFFIX}", 0), (f"old{SUFFIX}", 100_000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now - age, now - age))
    trim(str(tmp_path), 450_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"{age:064}" for age in range(4)), f"new{SUFFIX}"]


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_cache_with_unexpected_file_type_is_removed(kind: str, tmp_path: Path) -> None:
    """The entry is not followed, entered or opened."""
    path = tmp_path / "cache" / "x"
    path.parent.mkdir()
    (tmp_path / "mine").touch()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "mine")
    else:
        path.mkdir()
    with pytest.raises(ValueError, match="'x' does not belong into the compiler cache"):
        trim(str(path.parent), 0)
    trim_mounted(str(path.parent))
    assert not path.parent.exists()
    assert (tmp_path / "mine").exists()


RUSTC = """#!/bin/sh
echo run >> {top}/log
name=$2 out=$4
cat "$CARGO_MANIFEST_DIR/lib.rs" > $out/lib$name-1.rlib
echo "$out/lib$name-1.rlib: $CARGO_MANIFEST_DIR/lib.rs $READS" > $out/$name-1.d
echo message >&2
"""


@dataclass
class Rust(Compiler):
    """A fake rustc: it copies the crate's source, and lists the source and $READS in its .d file."""

    def crate(self, name: str, *options: str, reads: str = "", emit: str = "dep-info,link") -> str:
        """Compile a crate like cargo; return the output file's text."""
        out = self.directory / "out"
        command = [self.directory / "bin/rustc", "--crate-name", name, "--out-dir", out, f"--emit={emit}"]
        command += ["-C", "extra-filename=-1"]
        variables = {**os.environ, "CARGO_MANIFEST_DIR": str(self.directory / "src"), "READS": reads}
        done = subprocess.run([*command, *options], env=variables, capture_output=True, text=True, check=True)
        assert done.stderr == "message\n"
        return (out / f"lib{name}-1.rlib").read_text()


@pytest.fixture
def rust(tmp_path: Path) -> Rust:
    for name in ("bin", "cache", "out", "src"):
        (tmp_path / name).mkdir()
    (tmp_path / "src/lib.rs").write_text("fn main() {}\n")
    (tmp_path / "src/a.py").write_text("")
    path = tmp_path / "bin/rustc"
    write_program(path, tmp_path / "cache")
    path.with_name(".rustc").write_text(RUSTC.format(top=tmp_path))
    path.with_name(".rustc").chmod(0o755)
    return Rust(tmp_path)


def test_changed_crate_and_its_dependents_are_compiled(rust: Rust) -> None:
    """A changed Python module matters only if a Rust source names one."""
    source, module = rust.directory / "src/lib.rs", rust.directory / "src/a.py"
    used = f"a={rust.directory}/out/liba-1.rlib"
    for text, python, runs in (
        ("one", "", 2), ("one", "edited", 0), ("two", "edited", 2), ("two", "", 0),
        ('include_str!("a.py")', "", 2), ('include_str!("a.py")', "edited", 2), ("one", "", 0),
    ):  # fmt: skip
        source.write_text(text)
        module.write_text(python)
        assert rust.crate("a") == rust.crate("b", "--extern", used) == text
        assert rust.runs == runs


@pytest.mark.parametrize(
    "options",
    ["-C incremental=x", "-C target-cpu=native", "-Z threads=2", "--extern x={out}/libunknown-1.rlib", "-o x",
     "--extern=x=y"],
)
def test_unsupported_rustc_options_are_not_cached(options: str, rust: Rust) -> None:
    for _ in range(2):
        rust.crate("a", *options.format(out=rust.directory / "out").split())
        assert rust.runs == 1


def test_crate_without_dep_info_is_not_cached(rust: Rust) -> None:
    """Build scripts run such commands to test the compiler's features."""
    for emit in ("link", "metadata"):
        rust.crate("a", emit=emit)
    assert not rust.results


def test_crates_that_read_untracked_files_are_not_cached(rust: Rust) -> None:
    """After one such crate, no crate of the project is cached, because it may use that crate."""
    rust.crate("a")
    rust.crate("b", reads=f"{rust.directory}/a\\ file")
    for _ in range(2):
        rust.crate("a")
    assert rust.runs == 4
