"""The compiled files of a wheel that the first import of their package loads, found without executing code."""

import pytest

from hatch_docker.build.checks.imports import files_loaded_by_import
from hatch_docker.core.elf import Elf

SUFFIX = ".cpython-313-x86_64-linux-gnu.so"


def elf(*needed: str, soname: str = "") -> Elf:
    return Elf("amd64", 64, True, True, soname, needed, "", "", "")


@pytest.mark.parametrize(("sources", "path"), [
    ({}, f"pyodbc{SUFFIX}"),                                         # a top-level extension module
    ({"a/__init__.py": "from a._c import x"}, f"a/_c{SUFFIX}"),
    ({"a/__init__.py": "from . import _c"}, "a/_c.abi3.so"),
    ({"a/__init__.py": "from .b import x", "a/b.py": "import a.c._d as d"}, "a/c/_d.so"),
    ({"a/__init__.py": "from .b import x", "a/b/__init__.py": "from ..c import _d"}, "a/c/_d.so"),
    ({"a.py": "import _a"}, "_a.so"),
    ({"a/__init__.py": "try:\n import a._c\nexcept ImportError as e:\n raise RuntimeError from e"}, "a/_c.so"),
    ({"a/__init__.py": "try:\n import a._c\nexcept KeyError:\n pass"}, "a/_c.so"),
    ({"a/__init__.py": "try:\n import a._c\nfinally:\n pass"}, "a/_c.so"),
    ({"a/__init__.py": "with x:\n import a._c"}, "a/_c.so"),
    ({"a/__init__.py": "name = 'a'\nimport_module(name)"}, "a/a.abi3.so"),  # like cv2
    ({"a/__init__.py": "from .l import y", "a/l.py": "y = ctypes.CDLL(d / 'lib' / 'lib_a.so')"}, "a/lib/lib_a.so"),
    ({"a/__init__.py": "N = 'x/lib_a.so.1'\ndef f(): ffi.dlopen(N)\nf()"}, "a/lib_a.so.1"),
])  # fmt: skip
def test_unconditional_import_loads_file_and_its_libraries(sources: dict[str, str], path: str) -> None:
    """Libraries of the wheel are followed over several levels."""
    code = {
        path: elf("libown-1.so"), "a.libs/libown-1.so": elf("libnext.so", "libc.so.6"),
        "a.libs/libnext-2.so": elf(soname="libnext.so"), "a.libs/libother.so": elf(),
    }  # fmt: skip
    modules = {name: text.encode() for name, text in sources.items()}
    assert files_loaded_by_import(modules, code) == {path, "a.libs/libown-1.so", "a.libs/libnext-2.so"}


@pytest.mark.parametrize("sources", [
    {},
    {"a/__init__.py": ""},
    {"a/__init__.py": "def f():\n import a._c"},
    {"a/__init__.py": "if x:\n import a._c"},
    {"a/__init__.py": "try:\n import a._c\nexcept ImportError:\n pass"},
    {"a/__init__.py": "try:\n import a._c\nexcept:\n pass"},
    {"a/__init__.py": "try:\n import a._c\nexcept (KeyError, Exception):\n pass"},
    {"a/__init__.py": "", "a/b.py": "import a._c"},
    {"a/__init__.py": "print 'Python 2'\nimport a._c"},
    {"a/__init__.py": "from .... import _c\nfrom . import *"},
    {"a/__init__.py": "N = '_c.so'"},                               # no call opens the file
    {"_b/__init__.py": "import a._c"},                              # a private top-level package
])  # fmt: skip
def test_conditional_import_does_not_count(sources: dict[str, str]) -> None:
    modules = {name: text.encode() for name, text in sources.items()}
    assert files_loaded_by_import(modules, {"a/_c.so": elf()}) == frozenset()
