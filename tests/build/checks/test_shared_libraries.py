"""Missing shared libraries: found by simulating the dynamic loader, reported with the Debian package."""

import io
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatch_docker.bases.debian.find_library import find_providers
from hatch_docker.build.checks.shared_libraries import check_native
from hatch_docker.config.load import load_config
from hatch_docker.core.context import Context
from hatch_docker.core.elf import Elf, read_elf
from hatch_docker.core.errors import BuildError
from hatch_docker.engines.model import LayerInfo
from hatch_docker.wheels.target import Pin
from tests.conftest import need
from tests.fakes.bases import directory, file, link
from tests.fakes.context import context
from tests.fakes.debian_archive import library_archive, suite_of
from tests.fakes.elf import make_elf
from tests.fakes.images import image_of, layer_of
from tests.fakes.library_images import LIB, built_image, plan, record, so, unreadable
from tests.fakes.plans import plan as plan_of
from tests.fakes.sbom_images import SITE

# reading ELF files

def readelf(path: Path) -> dict[str, list[str]]:
    output = subprocess.run(["readelf", "-dlW", path], capture_output=True, text=True, check=True).stdout
    found = {
        name: re.findall(rf"\({tag}\).*\[(.*)\]", output)
        for name, tag in (("needed", "NEEDED"), ("soname", "SONAME"), ("rpath", "RPATH"), ("runpath", "RUNPATH"))
    }
    return found | {"interpreter": re.findall(r"program interpreter: (.*)\]", output)}


def test_elf_files_are_read_like_readelf() -> None:
    need("readelf")
    places = [Path("/usr/bin"), *Path("/usr/lib").glob("*-linux-gnu")]
    paths = [path for place in places for path in sorted(place.iterdir()) if path.is_file() and not path.is_symlink()]
    checked = 0
    for path in paths[:: max(1, len(paths) // 80)]:
        with path.open("rb") as stream:
            found = read_elf(stream)
        if found is not None:
            checked += 1
            expected = readelf(path)
            assert list(found.needed) == expected["needed"], path
            for name in ("soname", "rpath", "runpath", "interpreter"):
                assert getattr(found, name) == "".join(expected[name][:1]), (path, name)
    assert checked > 10


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_elf_of_any_word_size_and_byte_order_is_read(bits: int, order: str) -> None:
    data = make_elf("libx.so.1", ("liba.so", "libb.so"), runpath="$ORIGIN", interpreter="/lib/ld.so", bits=bits,
                    order=order, machine=22, kind=2)  # fmt: skip
    assert read_elf(io.BytesIO(data)) == Elf(
        "s390x", bits, order == "<", False, "libx.so.1", ("liba.so", "libb.so"), "", "$ORIGIN", "/lib/ld.so"
    )


@settings(max_examples=300)
@given(st.binary(max_size=300), st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_damaged_elf_raises_no_exception(junk: bytes, place: int, patch: bytes) -> None:
    read_elf(io.BytesIO(junk))
    data = bytearray(make_elf("libx.so.1", ("liba.so",), runpath="/x", interpreter="/lib/ld.so"))
    data[place : place + len(patch)] = patch
    read_elf(io.BytesIO(bytes(data)))


# the search of the dynamic loader


def warnings_of(tmp_path: Path, *arguments: Any, value: str = "warn", **options: Any) -> list[str]:
    """Return the warnings of a check. `value`: the option native-libraries."""
    lines: list[str] = []
    ctx = context(tmp_path / "store", lines)
    check_native(plan(value), [built_image(ctx, *arguments, **options)], ctx)
    return [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]


LIBPQ = [directory("usr/lib/x86_64-linux-gnu"), file(f"{LIB}/libpq.so.5.17", make_elf("libpq.so.5")),
         link(f"{LIB}/libpq.so.5", "libpq.so.5.17")]  # fmt: skip


def test_missing_library_is_reported_with_its_user(tmp_path: Path) -> None:
    wheel = record("psycopg_c", "3.2", so("psycopg_c/pq.so", "libpq.so.5", "libc.so.6"))
    (line,) = warnings_of(tmp_path, wheel)
    assert line == (
        "libpq.so.5: no Debian package that contains it was found: use a base that has it, or a wheel that includes "
        "it; "
        "psycopg_c/pq.so of psycopg-c 3.2 needs it"
    )
    assert warnings_of(tmp_path, wheel, system=LIBPQ) == []


def test_files_with_the_same_missing_library_share_a_line(tmp_path: Path) -> None:
    files = [so(f"cv/{name}.so", "libGL.so.1") for name in "abc"]
    (line,) = warnings_of(tmp_path, record("cv", "1", *files))
    assert line.endswith("; cv/a.so of cv 1 needs it, and 2 other files")
    (line,) = warnings_of(tmp_path, record("cv", "1", *files[:2]))
    assert line.endswith("; cv/a.so of cv 1 needs it, and another file")


@pytest.mark.parametrize(("module", "where"), [
    ({"runpath": "$ORIGIN/../pkg.libs"}, f"{SITE}/pkg.libs"),
    ({"rpath": "${ORIGIN}/../pkg.libs"}, f"{SITE}/pkg.libs"),
    ({"rpath": "/nowhere:/opt/lib"}, "opt/lib"),
    ({}, "usr/lib/x86_64-linux-gnu"),
    ({}, "usr/lib64"),
    ({}, "opt/configured"),
    ({}, "opt/variable"),
])  # fmt: skip
def test_loader_search_path(tmp_path: Path, module: dict[str, str], where: str) -> None:
    """Libraries are searched in RPATH/RUNPATH, LD_LIBRARY_PATH, ld.so.conf and the default directories only."""
    library = file(f"{where}/libz.so.9", make_elf("libz.so.9"))
    configured = file("etc/ld.so.conf.d/x.conf", "# where\n/opt/configured\n")
    wheel = record("pkg", "1", so("pkg/a.so", "libz.so.9", **module))
    system = [configured] if where.startswith(SITE) else [configured, library]
    wheel = [*wheel, library] if where.startswith(SITE) else wheel
    env = {"LD_LIBRARY_PATH": "/opt/variable"}
    assert warnings_of(tmp_path, wheel, system=system, env=env) == []
    other = [replace(entry, path=entry.path.replace("libz.so.9", "libz.so.8")) for entry in system]
    wheel = [entry for entry in wheel if entry is not library]
    assert len(warnings_of(tmp_path, wheel, system=other, env=env)) == 1


def test_rpath_is_ignored_with_runpath(tmp_path: Path) -> None:
    library = file("opt/lib/libz.so.9", make_elf("libz.so.9"))
    wheel = record("pkg", "1", so("pkg/a.so", "libz.so.9", rpath="/opt/lib", runpath="/nowhere"))
    assert len(warnings_of(tmp_path, wheel, system=[library])) == 1


def test_rpath_of_python_applies_to_files_without_runpath(tmp_path: Path) -> None:
    """conda's environments need it."""
    python = file("usr/local/bin/python3.13", make_elf(rpath="$ORIGIN/../own", kind=2, rest=b"\0" + b"3.13.5\0"))
    system = [python, file("usr/local/own/libz.so.9", make_elf("libz.so.9"))]
    assert warnings_of(tmp_path, record("pkg", "1", so("pkg/a.so", "libz.so.9")), system=system) == []
    wheel = record("pkg", "1", so("pkg/a.so", "libz.so.9", runpath="/x"))
    assert len(warnings_of(tmp_path, wheel, system=system)) == 1


def test_library_in_another_wheel_is_not_missing(tmp_path: Path) -> None:
    """Packages may load it first, such as torch the libraries of nvidia's wheels."""
    wheels = [*record("torch", "2", so("torch/c.so", "libcudart.so.12")),
              *record("nvidia_cuda", "12", so("nvidia/lib/libcudart.so.12", soname="libcudart.so.12"))]  # fmt: skip
    assert warnings_of(tmp_path, wheels) == []


def test_project_library_outside_the_search_path_is_a_warning(tmp_path: Path) -> None:
    """No warning if the search path of another file in the wheel has its directory."""
    own = record("app", "1", so("app/x.so", "libown.so"), so("app/lib/libown.so", soname="libown.so"))
    (line,) = warnings_of(tmp_path, [], own, value="auto")
    assert line.startswith("libown.so: app/x.so of app 1 needs it, and the wheel has it as app/lib/libown.so, where")
    assert warnings_of(tmp_path, own, value="auto") == []
    own = record("app", "1", so("app/x.so", "libown.so"), so("app/lib/libown.so", soname="libown.so"),
                 so("app/y.so", "libown.so", rpath="$ORIGIN/lib"))  # fmt: skip
    assert warnings_of(tmp_path, [], own, value="auto") == []


def test_drivers_and_foreign_elf_files_are_not_checked(tmp_path: Path) -> None:
    """Also object files and text files with the name of a library."""
    wheel = record(
        "pkg", "1", so("pkg/arm.so", "libmissing.so.1", machine=183), so("pkg/gpu.so", "libcuda.so.1"),
        so("pkg/object.o", "libmissing.so.1", kind=1), file(f"{SITE}/pkg/a.so", b"GROUP(libmissing.so.1)"),
    )
    assert warnings_of(tmp_path, wheel) == []


def test_library_removed_by_a_layer_is_missing(ctx: Context, lines: list[str]) -> None:
    whole = built_image(ctx, record("pkg", "1", so("pkg/pq.so", "libpq.so.5")), system=LIBPQ)
    gone = layer_of([file(f"{LIB}/.wh.libpq.so.5.17")])
    image = image_of(*whole.image.layers[:3], gone, *whole.image.layers[3:])
    notes = (*whole.notes[:3], LayerInfo("dependencies", (), True), *whole.notes[3:])
    check_native(plan("warn"), [replace(whole, image=image, notes=notes)], ctx)
    assert [line for line in lines if line.startswith("warning: libpq.so.5")]


def test_program_for_another_libc_is_reported(tmp_path: Path) -> None:
    tool = file("opt/venv/bin/tool", make_elf(interpreter="/lib64/ld-linux-x86-64.so.2", kind=2), 0o755)
    (line,) = warnings_of(tmp_path, [tool], libc="musl")
    assert line.startswith("/lib64/ld-linux-x86-64.so.2: the loader of another C library than the base's musl")
    loader = file("usr/lib64/ld-linux-x86-64.so.2", make_elf("ld-linux-x86-64.so.2"))
    assert warnings_of(tmp_path, [tool], system=[loader, link("lib64", "usr/lib64")]) == []


def test_search_of_musl_loader(tmp_path: Path) -> None:
    """musl contains libc, libm and libpthread, and has its own configuration file. Advice names Alpine's packages."""
    wheel = record("pkg", "1", so("pkg/a.so", "libc.musl-x86_64.so.1", "libpthread.so.0", "libpq.so.5", "libo.so.1"))
    (first, second) = warnings_of(tmp_path, wheel, libc="musl")
    assert first.startswith("libo.so.1: take a base that has it (`apk add so:libo.so.1`); pkg/a.so")
    listed = [file("etc/ld-musl-x86_64.path", "/opt/a:/opt/b\n"), file("opt/b/libo.so.1", make_elf("libo.so.1"))]
    assert warnings_of(tmp_path, wheel, libc="musl", system=listed) == [second]
    assert warnings_of(tmp_path, wheel, libc="musl", system=[file("usr/local/lib/libo.so.1")]) == [second]


def test_missing_library_is_error_hint_or_warning(tmp_path: Path, ctx: Context) -> None:
    """With "auto": an error for compiled code of this build and for first imports, a hint for other files of wheels."""
    wheel = record("Some_Pkg", "1", so("pkg/a.so", "libx.so.1"))
    own = record("app", "1", so("app/a.so", "libx.so.1"))
    assert warnings_of(tmp_path, wheel, value="auto") == []
    (hint,) = check_native(plan(), [built_image(ctx, wheel)], ctx)
    assert re.fullmatch(r"libx\.so\.1: .*; pkg/a\.so of Some-Pkg 1 needs it, only if this file is imported", hint)
    module = file(f"{SITE}/pkg/__init__.py", "from .b import x\n")
    sure = [so("pkg/a.so", "libx.so.1"), so("pkg/b.so", "libx.so.1"), module]
    with pytest.raises(BuildError, match=r"libx\.so\.1: .*; pkg/b\.so of Some-Pkg 1 needs it, and another file"):
        warnings_of(tmp_path, record("Some_Pkg", "1", *sure), value="auto")
    with pytest.raises(BuildError, match=r"lacks shared libraries \(.*native-libraries = \"warn\" .*\n  libx\.so\.1: "):
        warnings_of(tmp_path, [], own, value="auto")
    with pytest.raises(BuildError, match=r"libx\.so\.1: .*pkg/a\.so of Some-Pkg 1 needs it"):
        warnings_of(tmp_path, wheel, value="error")
    assert len(warnings_of(tmp_path, [], own, value="warn")) == 1
    built_here = Pin("some.pkg", "1", "some_pkg-1.tar.gz", "https://index.example/x", "0" * 64, 1, None)
    with pytest.raises(BuildError, match=r"libx\.so\.1"):
        warnings_of(tmp_path, wheel, value="auto", pins=(built_here,))


def test_layers_of_an_unchanged_image_are_not_read_again(ctx: Context, lines: list[str]) -> None:
    image = built_image(ctx, record("pkg", "1", so("pkg/a.so", "libx.so.1")))
    for again in (image, unreadable(image)):
        check_native(plan("warn"), [again], ctx)
    assert [line for line in lines if line.startswith("warning")] == 2 * [lines[-1]]


def test_native_libraries_option() -> None:
    assert plan_of().native_libraries == "auto"
    assert load_config({"native-libraries": "off"}, {}, None).native_libraries == "off"


def test_advice_depends_on_engine_and_base(tmp_path: Path) -> None:
    mirror = library_archive(tmp_path / "mirror")
    lines: list[str] = []
    ctx = context(tmp_path / "store", lines, HATCH_DOCKER_DEBIAN_MIRROR=mirror.url)
    find_providers(["libpq.so.5", "libother.so.3", "libz.so.1"], suite_of(mirror, ctx))
    image = built_image(ctx, record("pkg", "1", so("pkg/pq.so", "libpq.so.5")), suite="trixie")
    for engine, kind, advice in (
        ("embedded", "debian", 'add "libpq5" to runtime.packages'),
        ("buildkit", "registry", 'add "libpq5" to runtime.packages'),
        ("embedded", "registry", 'take a base with Debian\'s "libpq5", or engine = "buildkit" and add it to'),
    ):
        base = replace(image.base, plan=replace(image.base.plan, kind=kind))
        check_native(plan("warn", engine=engine), [replace(image, base=base)], ctx)
        assert lines[-1].startswith(f"warning: libpq.so.5: {advice}")
    base = replace(image.base, plan=replace(image.base.plan, kind="debian"))
    several = record("pkg", "1", so("pkg/pq.so", "libpq.so.5", "libother.so.3", "libz.so.1", "libno.so.1"))
    other = built_image(ctx, several, suite="trixie")
    first, second = check_native(plan(), [replace(other, base=replace(base, image=other.base.image))], ctx)
    assert first.startswith("libno.so.1: no Debian package that contains it was found")
    assert first.endswith("; pkg/pq.so of pkg 1 needs it, only if this file is imported")
    assert second == (
        'libother.so.3, libpq.so.5, libz.so.1: add "libpq5", "zlib1g" to runtime.packages; '
        "files of pkg 1 need them, only if these files are imported"
    )
    with pytest.raises(BuildError, match=r'\n  \[tool.hatch-docker.runtime\]\n  packages = \["libpq5"\]$'):
        check_native(plan("error"), [replace(image, base=base)], ctx)
