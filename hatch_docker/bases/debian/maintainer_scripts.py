"""The files that Debian's maintainer scripts would make, as entries. The scripts are not executed."""

import re
from collections.abc import Iterable, Mapping, Sequence

from hatch_docker.bases.debian.deb import Deb
from hatch_docker.bases.debian.layer import USERS
from hatch_docker.bases.debian.ldconfig import Library, write_cache
from hatch_docker.bases.debian.rootfs import MERGED, directory, merged_path, symlink, text_file
from hatch_docker.oci.layer import Entry
from hatch_docker.oci.model import open_content

_GROUPS = {"root": 0, "tty": 5, "staff": 50, "nonroot": 65532, "nogroup": 65534}
_NSSWITCH = """\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
"""
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
_ALTERNATIVE = re.compile(r"--install\s+(/\S+)\s+(\S+)\s+(/\S+)\s+(\d+)")


def root_files(debs: Sequence[Deb], entries: Mapping[str, Entry]) -> list[Entry]:
    """Return the generated files of a root: merged /usr, users, name service, certificates, time zone, alternatives."""
    users = [f"{name}:x:{uid}:{gid}:{name}:{home}:/sbin/nologin" for name, (uid, gid, home) in USERS.items()]
    groups = [f"{name}:x:{gid}:" for name, gid in _GROUPS.items()]
    merged = [name for name in MERGED if any(path.startswith(f"usr/{name}/") for path in entries)]
    return [
        *(symlink(name, f"usr/{name}") for name in merged),
        text_file("etc/passwd", "\n".join(users) + "\n"),
        text_file("etc/group", "\n".join(groups) + "\n"),
        text_file("etc/nsswitch.conf", _NSSWITCH),
        directory("home/nonroot", 0o700, USERS["nonroot"][0]),
        directory("tmp", 0o1777),
        symlink("var/run", "/run"),
        directory("run/lock"),
        symlink("var/lock", "/run/lock"),
        symlink("etc/localtime", "/usr/share/zoneinfo/Etc/UTC"),
        text_file("etc/timezone", "Etc/UTC\n"),
        *certificates(entries),
        *alternatives(debs, entries),
    ]


def certificates(entries: Mapping[str, Entry]) -> list[Entry]:
    """Return one file with all of Mozilla's certificates, and links to it at OpenSSL's default paths."""
    paths = sorted(path for path in entries if re.fullmatch(r"usr/share/ca-certificates/mozilla/.*\.crt", path))
    if not paths:
        return []
    bundle = b"".join(_content(entries[path]).strip() + b"\n" for path in paths)
    return [
        text_file(BUNDLE, bundle),
        symlink("usr/lib/ssl/cert.pem", f"/{BUNDLE}"),
        symlink("usr/lib/ssl/certs", "/etc/ssl/certs"),
    ]


def _content(entry: Entry) -> bytes:
    with open_content(entry.content) as stream:
        return stream.read()


def alternatives(debs: Sequence[Deb], entries: Mapping[str, Entry]) -> list[Entry]:
    """Return the links that update-alternatives(1) would make, each to the alternative with the highest priority.

    The calls are found in the text of the postinst scripts: cc, c++ and awk in the builder, libblas.so.3 at run time.
    """
    best: dict[str, tuple[int, str]] = {}
    for deb in debs:
        for link, _name, target, priority in _ALTERNATIVE.findall(deb.postinst.replace("\\\n", " ")):
            path, file = merged_path(link.strip("/")), merged_path(target.strip("/"))
            if file in entries and path not in entries:
                best[path] = max(best.get(path, (-1, "")), (int(priority), file))
    return [symlink(path, f"/{file}") for path, (_, file) in sorted(best.items())]


def loader_files(entries: Mapping[str, Entry]) -> dict[str, bytes]:
    """Return the contents of the dynamic loader's configuration files, by path."""
    paths = (path for path in entries if path == "etc/ld.so.conf" or path.startswith("etc/ld.so.conf.d/"))
    return {path: _content(entries[path]) for path in paths}


def loader_cache(libraries: Iterable[Library]) -> Entry:
    """Return etc/ld.so.cache, which ctypes.util.find_library needs."""
    return text_file("etc/ld.so.cache", write_cache(libraries))


def dpkg_status(debs: Sequence[Deb], entries: Mapping[str, Entry]) -> list[Entry]:
    """Return var/lib/dpkg/status.d with each package's control file and md5sums, for vulnerability scanners.

    Syft finds the packages of a layer only if the layer has an entry for the directory.
    """
    found = [directory("var/lib/dpkg/status.d")]
    for deb in sorted(debs, key=lambda item: item.name):
        rows = sorted((path, value) for path, value in deb.sums.items() if merged_path(path) in entries)
        sums = "".join(f"{value}  {path}\n" for path, value in rows).encode(errors="surrogateescape")
        found.append(text_file(f"var/lib/dpkg/status.d/{deb.name}", deb.control))
        found.append(text_file(f"var/lib/dpkg/status.d/{deb.name}.md5sums", sums))
    return found
