"""Hints for failed builds, for real output of compilers and build systems."""

import pytest

from hatch_docker.wheels.builder.failure_hints import NO_MEMORY, hint

ANY = "; add the Debian package that has it"
ADD = "to [tool.hatch-docker.build] packages"
MESON = """\
Found pkg-config: YES (/usr/bin/pkg-config) 1.8.1
Run-time dependency cairo found: NO  (tried pkg-config)

../cairo/meson.build:31:12: ERROR: Dependency "cairo" not found (tried pkg-config)
"""
CMAKE = """\
CMake Error at /usr/share/cmake-3.31/Modules/FindPackageHandleStandardArgs.cmake:233 (message):
  Could NOT find ZLIB (missing: ZLIB_LIBRARY ZLIB_INCLUDE_DIR)
"""
CONFIG = """\
CMake Error at CMakeLists.txt:12 (find_package):
  By not providing "FindEigen3.cmake" in CMAKE_MODULE_PATH this project has
  asked CMake to find a package configuration file provided by "Eigen3", but
  CMake did not find one.

  Could not find a package configuration file provided by "Eigen3" with any
"""
RUST = """\
error: rustc 1.85.1 is not supported by the following packages:
  orjson@3.13.0 requires rustc 1.95
"""


@pytest.mark.parametrize(("output", "missing"), [
    ("x.c:1:10: fatal error: libpq-fe.h: No such file or directory", 'libpq-fe.h; add "libpq-dev"'),
    (MESON, f"cairo.pc{ANY}"),
    (CMAKE, 'ZLIB; add "zlib1g-dev"'),
    (CONFIG, 'Eigen3; add "libeigen3-dev"'),
    ("Package libffi was not found in the pkg-config search path.", f"libffi.pc{ANY}"),
    ("/usr/bin/ld: cannot find -lpq: No such file or directory", f"libpq.so{ANY}"),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'pg_config'", 'pg_config; add "libpq-dev"'),
    ("/bin/sh: 1: protoc: not found", 'protoc; add "protobuf-compiler"'),
    ("Error: pg_config executable not found.", 'pg_config; add "libpq-dev"'),
    ("Exception: Can not find valid pkg-config name.", 'mysqlclient.pc; add "default-libmysqlclient-dev"'),
    ("error: can't find Rust compiler", 'Rust; add "cargo"'),
    ("Error: Please make sure the libxml2 and libxslt development packages are installed.",
     'libxml2 and libxslt; add "libxml2-dev", "libxslt1-dev"'),
    ("The headers or library files could not be found for jpeg,", 'jpeg; add "libjpeg-dev"'),
    ("The file `openssl.pc` needs to be installed and the PKG_CONFIG_PATH", 'openssl.pc; add "libssl-dev"'),
    ("No package 'odd' found", f"odd.pc{ANY}"),
    ("x.c:1:10: fatal error: 'odd.h' file not found", f"odd.h{ANY}"),
    (RUST, 'a Rust that is newer than 1.85.1; add "rustc-web", "cargo-web"'),
    ("Rust not found, installing into a temporary directory", 'Rust; add "cargo"'),
    ("meson.build:1:0: ERROR: Unknown compiler(s): [['gfortran'], ['flang-new']]", 'Fortran; add "gfortran"'),
    ("ERROR: Git program not found, cannot download x.wrap via git.", 'git; add "git"'),
])  # fmt: skip
def test_missing_package_is_named(output: str, missing: str) -> None:
    name, _, remedy = missing.partition("; ")
    assert hint(output, network=True) == f" because {name} is missing; {remedy} {ADD}"


@pytest.mark.parametrize("output", [
    "-- Could NOT find Doxygen (missing: DOXYGEN_EXECUTABLE)\nerror: expected ';'",
    "Run-time dependency qhull found: NO (tried pkg-config)\nx.c:1: error: expected ';'",
    "error: command '/usr/bin/gcc' failed with exit code 1",
    "socket.gaierror: [Errno -2] Name or service not known",
])  # fmt: skip
def test_optional_dependency_is_not_reported(output: str) -> None:
    assert hint(output, network=True) == ""


def test_disabled_network_is_named() -> None:
    assert "network = false forbids" in hint("Name or service not known", network=False)


@pytest.mark.parametrize("output", [
    "c++: fatal error: Killed signal terminated program cc1plus", "virtual memory exhausted: Cannot allocate memory",
    'process "/bin/sh -c make" did not complete successfully: exit code: 137',
])  # fmt: skip
def test_exhausted_memory_is_named(output: str) -> None:
    assert hint(output, network=True) == NO_MEMORY
