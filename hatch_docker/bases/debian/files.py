"""The files of a Debian base's layers and of builder roots: from packages, filtered, and generated files."""

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from hatch_docker.bases.bytecode import Sandbox, bytecode_path, compile_sources
from hatch_docker.bases.debian.deb import Deb
from hatch_docker.bases.debian.layer import DebianLayer, LayerContents
from hatch_docker.bases.debian.ldconfig import conf_directories, find_libraries
from hatch_docker.bases.debian.maintainer_scripts import (
    alternatives,
    dpkg_status,
    loader_cache,
    loader_files,
    root_files,
)
from hatch_docker.bases.debian.rootfs import (
    Entries,
    Unpacked,
    unpack,
    wait_for_deb,
    wanted_at_run_time,
    with_parents,
    write_into,
)
from hatch_docker.bases.model import Interpreter, real_path
from hatch_docker.core.cache.tree_digest import FileDigests
from hatch_docker.core.errors import BaseImageError
from hatch_docker.core.progress import Progress
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.oci.tar import Entry

_LIBC_BIN = re.compile(
    r"(usr/sbin/ldconfig|etc/ld\.so\.conf(\.d/.*)?|etc/gai\.conf|usr/lib/locale/C\.utf8/.*"
    r"|usr/share/doc/libc-bin/copyright)"
)
# The most common values of TERM; all descriptions of ncurses-base have 290 kB.
_TERMINALS = "ansi|dumb|linux|screen(-256color)?|tmux(-256color)?|vt100|vt220|xterm(-256color)?"
# gconv: iconv() for rare charsets, while Python has its own codecs. nss_compat: etc/nsswitch.conf does not name it.
# _dbm: its library libdb is left out.
_NOT_SLIM = re.compile(
    r"usr/lib/[^/]+/(gconv|engines-3|ossl-modules)(/.*)?"
    r"|usr/lib/[^/]+/lib(memusage|pcprofile|c_malloc_debug|BrokenLocale|nss_hesiod|nss_compat|thread_db)\.so[.0-9]*"
    r"|usr/(local/)?lib/python3\.\d+t?/(test|idlelib|turtledemo|pydoc_data|lib2to3/tests)(/.*)?"
    r"|usr/(local/)?lib/python3\.\d+t?/(turtle|asyncio/windows_.*|_pyrepl/windows_.*)\.py"
    r"|usr/(local/)?lib/python3\.\d+t?/lib-dynload/(_test|_ctypes_test|_xxtestfuzz|xx|_dbm)[^/]*"
    r"|etc/terminfo(/.*)?|usr/share/tabset(/.*)?"
    rf"|usr/(lib|share)/terminfo/.(/(?!({_TERMINALS})$).*)?"
    r"|usr/share/zoneinfo/((right|posix)(/.*)?|tzdata\.zi)|usr/sbin/update-ca-certificates|etc/ca-certificates(/.*)?"
    r"|usr/share/(base-files|dict|binfmts|misc)(/.*)?|usr/(games|src|include)|usr/lib/binfmt\.d(/.*)?|boot"
    r"|var/(backups|mail|local)|etc/(update-motd\.d|skel|default|profile\.d)(/.*)?"
)
# The Python versions of modules that also exist in C. They are rarely imported, so they get no bytecode, which would
# add half of their size.
_PYTHON_FORMS = re.compile(r"usr/(local/)?lib/python3\.\d+t?/_py(decimal|datetime|io)\.py")
_CERTIFICATES = "usr/share/ca-certificates/"
# Modules that no build backend imports, and frozen modules (since 3.11). Compiling these would take more than half of
# the time for the whole standard library of a builder.
_NOT_BUILDING = re.compile(
    rf"{_PYTHON_FORMS.pattern}|usr/lib/python3\.\d+t?/("
    r"(_pyrepl|asyncio|curses|dbm|html|idlelib|pydoc_data|sqlite3|test|tkinter|unittest|venv|wsgiref|xmlrpc)/.*"
    r"|(bdb|cmd|doctest|ftplib|imaplib|mailbox|modulefinder|pdb|pickletools|poplib|profile|pstats|pydoc|smtplib"
    r"|socketserver|statistics|timeit|trace|tracemalloc|turtle|wave|webbrowser)\.py"
    r"|(http/(cookiejar|cookies|server)|logging/(config|handlers)|multiprocessing/managers|xml/(dom|sax)/.*)\.py"
    r"|(_collections_abc|codecs|importlib/_bootstrap(_external)?|ntpath|os|posixpath|runpy|site|zipimport)\.py"
    r"|encodings/(?!(__init__|aliases|ascii|cp437|idna|latin_1|punycode|utf_8(_sig)?)\.py$).*)"
)
_DUMP = re.compile(r"usr/bin/[^/]*lto-dump[^/]*")  # a debugging tool for object files, 32 MB


def base_entries(
    pending: Sequence[Deb | Future[Deb]], place: Path, interpreter: Interpreter,
    compiler: tuple[Path, Interpreter] | None, progress: Progress, *, slim: bool, compiled: bool,
) -> LayerContents:
    """Unpack the packages of the base layer in `place`, and return the contents of the layer.

    If `compiled`, add the .pyc of the standard library. `compiler`: the tree and the interpreter that compile them;
    None for `place` itself.
    """

    def keep(package: str, entry: Entry) -> bool:
        if package == "libc-bin" and not _LIBC_BIN.fullmatch(entry.path):
            return False
        return wanted_at_run_time(entry.path) and not (slim and excluded_from_slim(entry.path))

    entries = unpack(pending, place, keep, progress)
    debs = sorted(map(wait_for_deb, pending), key=lambda deb: deb.name)
    added = root_files(debs, entries)
    if slim:  # root_files has put all certificates into one file
        entries = {path: entry for path, entry in entries.items() if not f"{path}/".startswith(_CERTIFICATES)}
    entries = _without_empty_documentation(with_parents({**entries, **_by_path(added)}))
    write_into(place, added)
    search = conf_directories(loader_files(entries))
    libraries = find_libraries(entries, search)
    entries |= _by_path([loader_cache(libraries), *dpkg_status(debs, entries)])
    if compiled:
        entries |= compiled_modules(entries, interpreter, compiler or (place, interpreter), progress)
    return LayerContents(with_parents(entries), libraries, search)


def excluded_from_slim(path: str) -> bool:
    """Return whether slim bases leave out a path."""
    return _NOT_SLIM.fullmatch(path) is not None


def _by_path(entries: Iterable[Entry]) -> Entries:
    return {entry.path: entry for entry in entries}


def _without_empty_documentation(entries: Entries) -> Entries:
    """Return the entries without directories of usr/share that are empty now."""
    used = {path.rpartition("/")[0] for path in entries}
    used |= {path for path in entries if not path.startswith("usr/share/")}
    return {path: entry for path, entry in entries.items() if entry.kind != "directory" or path in used}


def compiled_modules(
    entries: Entries, interpreter: Interpreter, compiler: tuple[Path, Interpreter], progress: Progress,
    sandbox: Sandbox | None = None, *, left_out: re.Pattern[str] = _PYTHON_FORMS,
) -> Entries:
    """Return the .pyc of the standard library. Without them Python would compile modules at each start of a container.

    `sandbox`: None for Debian's own Python, which is trusted. `left_out`: modules without a .pyc.
    """
    modules = _modules(entries, interpreter, left_out)
    sources = [(path, content) for path in modules if isinstance(content := entries[path].content, Path)]
    with progress.task("compiling the modules of Python", len(sources), unit="modules", part=True) as task:
        found = compile_sources([sources], *compiler, sandbox=sandbox, advance=task.advance)
    return {path: found.entry(path) for path in found}


def library_of(interpreter: Interpreter) -> str:
    """Return the directory of an interpreter's standard library, relative to the root: "usr/lib/python3.13"."""
    return f"{interpreter.path.rpartition('/bin/')[0].strip('/')}/lib/python{interpreter.name}"


def _modules(paths: Iterable[str], interpreter: Interpreter, left_out: re.Pattern[str] = _PYTHON_FORMS) -> list[str]:
    """Return the paths of the standard library's modules that are compiled, as one unit of `compile_sources`."""
    prefix = f"{library_of(interpreter)}/"
    return sorted(
        path for path in paths
        if path.startswith(prefix) and path.endswith(".py") and not left_out.fullmatch(path)
    )  # fmt: skip


def existing_bytecode(entries: Entries, interpreter: Interpreter, unpacked: Unpacked) -> Entries:
    """Return the .pyc of the standard library from the builder root of `unpacked`; none if its modules differ."""
    known = {entry.path for _, members in unpacked.values() for entry in members}
    modules = _modules(entries, interpreter, _NOT_BUILDING)
    if not modules or not known.issuperset(modules):
        return {}
    tree = next(tree for tree, _ in unpacked.values())
    found = [path for path in (tree / library_of(interpreter)).rglob("*.py*") if not path.is_symlink()]
    names = {str(path.relative_to(tree)): path for path in found}
    if _modules(names, interpreter, _NOT_BUILDING) != [path for path in modules if entries[path].kind == "file"]:
        return {}
    wanted = {bytecode_path(path, interpreter) for path in modules}
    return {
        name: Entry(name, "file", 0o644, SOURCE_DATE, size=path.stat().st_size, content=path)
        for name, path in names.items() if name in wanted
    }  # fmt: skip


def system_entries(
    debs: Sequence[Deb], place: Path, below: DebianLayer, progress: Progress, *, shell: bool = False
) -> LayerContents:
    """Return the layer of some packages on a base. With `shell`, BusyBox is /bin/sh.

    It has no entries for the base's directories. Raises BaseImageError if a package would replace such a directory.
    """
    members = unpack(debs, place, lambda _package, entry: wanted_at_run_time(entry.path), progress)
    entries: Entries = {}
    for entry in members.values():
        parent, _, name = entry.path.rpartition("/")
        path = f"{real_path(below.symlinks, parent)}/{name}" if parent else name
        if entry.kind != "directory" or path not in below.symlinks:  # else the base's link is already a directory
            entries[path] = replace(entry, path=path)
    existing = frozenset(below.directories)
    entries |= _by_path(alternatives(debs, entries))
    if shell:
        entries.setdefault("usr/bin/sh", Entry("usr/bin/sh", "symlink", 0o777, SOURCE_DATE, target="busybox"))
    entries = _without_empty_documentation(with_parents(entries))
    entries = {path: entry for path, entry in entries.items() if entry.kind != "directory" or path not in existing}
    if replaced := next((path for path in entries if path in existing), None):
        raise BaseImageError(f"a package of `runtime.packages` has /{replaced}, which is a directory of the base")
    search = list(dict.fromkeys((*below.search, *conf_directories(loader_files(entries)))))
    known = {item.soname: item for item in below.libraries}
    known |= {item.soname: item for item in find_libraries(entries, search) if item.soname not in known}
    libraries = sorted(known.values())
    entries |= _by_path([loader_cache(libraries), *dpkg_status(debs, entries)])
    return LayerContents(entries, libraries, search)


def unpack_builder(
    pending: Sequence[Deb | Future[Deb]], place: Path, interpreter: Interpreter, progress: Progress,
    unpacked: Unpacked, note: Callable[[str, Sequence[Entry]], object],
) -> FileDigests:
    """Unpack a builder root for this machine's architecture: all files but documentation.

    Returns the SHA256 of the packages' files by path. See `unpack` for `pending`, `unpacked` and `note`.
    """

    def keep(_package: str, entry: Entry) -> bool:
        return wanted_at_run_time(entry.path) and not _DUMP.fullmatch(entry.path)

    written: dict[str, bytes] = {}
    entries = unpack(pending, place, keep, progress, unpacked, note, written)
    debs = sorted(map(wait_for_deb, pending), key=lambda deb: deb.name)
    added = root_files(debs, entries)
    write_into(place, added)
    entries = with_parents({**entries, **_by_path(added)})
    libraries = find_libraries(entries, conf_directories(loader_files(entries)))
    compiled = existing_bytecode(entries, interpreter, unpacked)
    if not compiled:
        compiled = compiled_modules(entries, interpreter, (place, interpreter), progress, left_out=_NOT_BUILDING)
    generated = [loader_cache(libraries), *compiled.values()]
    write_into(place, generated)
    # The sandbox's user must be able to enter all directories, whatever the umask of this process is.
    everything = with_parents({**entries, **compiled})
    write_into(place, [entry for entry in everything.values() if entry.kind == "directory"])
    for entry in (*added, *generated):  # these may have replaced files of packages
        written.pop(entry.path, None)
    return written
