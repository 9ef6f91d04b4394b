"""Loading images into the daemons of Docker and Podman, and saving images from them."""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from hatch_docker.core.errors import DaemonError, ProgramError
from hatch_docker.core.files import temporary_directory
from hatch_docker.core.process import run
from hatch_docker.core.progress import Task, undo_on_failure
from hatch_docker.oci.archive import child_for, docker_names, write_partial
from hatch_docker.oci.engine_api import LOAD_TIMEOUT, Daemon, EngineApi, connect, open_socket
from hatch_docker.oci.manifest import parse_manifest
from hatch_docker.oci.model import Image, Index, Platform, images_of

if TYPE_CHECKING:
    from docker import APIClient

COMPARED_IMAGES = 20        # newest images whose layers are compared if no image has one of the names
COMPARED_IMAGES_BY_SSH = 3  # the same for a daemon by ssh, where requests are slow


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Result of `load`: the image's ID in the daemon, its names, and the bytes sent (0 if the daemon had it)."""

    daemon: Daemon
    image_id: str
    references: tuple[str, ...]
    sent: int


@contextlib.contextmanager
def open_client(daemon: Daemon) -> Iterator[APIClient]:
    """Yield a client of the `docker` library. Errors of the library and OSErrors in the block become DaemonError."""
    from docker import APIClient
    from docker.errors import APIError, DockerException
    from docker.tls import TLSConfig

    with _daemon_errors(daemon), open_socket(daemon) as path:
        if not daemon.by_ssh:
            connect(daemon).close()  # its error message is better than the library's
        try:
            tls: Any = False
            if daemon.certificates is not None:
                place = daemon.certificates
                tls = TLSConfig((place / "cert.pem", place / "key.pem"), place / "ca.pem", verify=True)
            url = f"unix://{path}" if path else daemon.url
            with contextlib.closing(APIClient(url, "auto", LOAD_TIMEOUT, tls)) as client:
                yield client
        except APIError as error:
            raise DaemonError(f"{daemon} failed: {str(error.explanation or error).strip()}") from error
        except DockerException as error:
            raise OSError(str(error).strip()) from error


@contextlib.contextmanager
def _daemon_errors(daemon: Daemon) -> Iterator[None]:
    """Turn an OSError in the block into DaemonError. Exceptions of `requests` are OSErrors, too."""
    try:
        yield
    except OSError as error:
        raise DaemonError(f"cannot talk to {daemon}: {error}") from error


def load(
    daemon: Daemon, item: Image | Index, references: Sequence[str], archive: Path | Callable[[], Path], *,
    host: Platform, log: Callable[[str], None], task: Task | None = None,
) -> LoadResult:
    """Load an image into a daemon under its names.

    `archive`: the file that `write_archive` wrote for `host`, or a function that writes it when it is needed. An image
    that the daemon has is only tagged. Otherwise the missing layers are sent; if that fails, `log` gets a line, and the
    whole archive is sent. `task` counts the bytes. Raises DaemonError.
    """
    names = tuple(docker_names(references))
    configs = [parse_manifest(image.manifest, "the manifest").config.digest for image in images_of(item)]
    # The image ID is the digest of the configuration, or with containerd the digest of the manifest.
    ids = [item.digest, *configs, *(image.digest for image in images_of(item))]
    if not daemon.url:
        return _load_by_program(daemon, item, ids, names, archive, log)
    with _daemon_errors(daemon), open_socket(daemon) as path:
        api = EngineApi(daemon, path)
        named = [api.inspect_image(name) for name in names]
        if named and all(found.get("Id") in ids for found in named):
            return LoadResult(daemon, str(named[-1]["Id"]), names, 0)
        found, sent = _tag(api, ids, names), 0
        if not found:
            found, sent = _load_missing(api, item, references, ids, named, host, log, task)
        if not found:
            whole = _file(archive)
            sent = whole.stat().st_size
            with whole.open("rb") as stream:
                _send(api, stream, sent, task)
            found = _tag(api, ids, names)
    if not found:
        raise DaemonError(f"{daemon} took the archive {_file(archive)}, but does not have the image: look at its log")
    return LoadResult(daemon, found, names, sent)


def _file(archive: Path | Callable[[], Path]) -> Path:
    return archive if isinstance(archive, Path) else archive()


def podman_images(environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return Podman's file with the IDs and names of its images, and the configuration files that determine its path.

    Podman rewrites the file when an image or name is added or removed. Raises DaemonError if `podman info` fails.
    """
    try:
        place = run(["podman", "info", "--format", "{{.Store.GraphRoot}}/{{.Store.GraphDriverName}}-images"]).strip()
    except ProgramError as error:
        raise DaemonError(str(error)) from error
    user = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '')}/.config"
    return f"{place}/images.json", [f"{top}/containers/storage.conf" for top in ("/etc", "/usr/share", user)]


def save(daemon: Daemon, name: str, path: Path) -> None:
    """Write an image of a daemon as an OCI archive. Raises DaemonError, also if there is no image of that name."""
    if daemon.kind == "podman":  # Podman's API returns the old format of Docker only
        remote = ["--url", daemon.url] if daemon.url else []
        try:
            run(["podman", *remote, "save", "--quiet", "--format", "oci-archive", "--output", str(path), "--", name])
        except ProgramError as error:
            last = str(error).strip().splitlines()[-1].removeprefix("Error: ")
            raise DaemonError(f"podman cannot save {name}: {last}; look at `podman image ls`, or pull it") from error
        return
    with open_client(daemon) as client:
        from docker.errors import ImageNotFound

        try:
            client.inspect_image(name)
        except ImageNotFound as error:
            raise DaemonError(f"{daemon} has no image {name}: look at `docker image ls`, or pull it") from error
        with path.open("wb") as out:
            out.writelines(client.get_image(name))


def _tag(api: EngineApi, ids: Sequence[str], names: Sequence[str]) -> str:
    """Tag the image with all names and return its ID, "" if the daemon does not have it."""
    for image_id in ids:
        if found := api.inspect_image(image_id):
            for name in names:
                api.tag(found["Id"], name)
            return str(found["Id"])
    return ""


def _load_missing(
    api: EngineApi, item: Image | Index, references: Sequence[str], ids: Sequence[str],
    named: Sequence[Mapping[str, Any]], host: Platform, log: Callable[[str], None], task: Task | None,
) -> tuple[str, int]:
    """Load only the layers that the daemon lacks; return the image's ID and the bytes sent, ("", 0) on failure."""
    info, names = api.info(), docker_names(references)
    containerd = any("containerd" in str(value) for _, value in info.get("DriverStatus") or [])
    if containerd or api.daemon.kind == "podman":
        # They need an archive with every blob (containerd does not report a missing one). They can pull the missing
        # blobs from this process if they share its loopback interface. From an index they would pull one image only.
        isolated = "Desktop" in str(info.get("OperatingSystem")) or "rootless" in str(info.get("SecurityOptions"))
        if isinstance(item, Index) or not api.daemon.socket or isolated:
            return "", 0
        return _pull(api, item, ids, names, log)
    image = item if isinstance(item, Image) else child_for(item, host)
    present = _count_present(api, image, named)
    sent = _load_partial(api, image, references, present, log, task) if present else 0
    return (_tag(api, ids, names), sent) if sent else ("", 0)


def _pull(
    api: EngineApi, image: Image, ids: Sequence[str], names: Sequence[str], log: Callable[[str], None]
) -> tuple[str, int]:
    """Make a daemon pull an image from this process; return its ID and the bytes sent, ("", 0) on failure."""
    from hatch_docker.oci.serve import serve_image

    try:
        with serve_image(image) as served:
            api.pull(served.reference, served.login)
    except (DaemonError, OSError) as error:
        log(f"pulling only the new layers failed ({error}): loading all of them")
        return "", 0
    found = _tag(api, ids, names)
    with contextlib.suppress(DaemonError):
        api.untag(served.reference)
    return found, served.sent


def _count_present(api: EngineApi, image: Image, named: Sequence[Mapping[str, Any]]) -> int:
    """Return how many of the image's lowest layers Docker's own store has.

    The image is compared with the images of the same names (`named`), then with the newest images.
    """
    wanted = [layer.diff_id for layer in image.layers]

    def common(other: Mapping[str, Any]) -> int:
        layers = (other.get("RootFS") or {}).get("Layers") or []
        pairs = zip(wanted, layers, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    if most := max(map(common, named), default=0):
        return most
    others = api.image_ids()[:COMPARED_IMAGES_BY_SSH if api.daemon.by_ssh else COMPARED_IMAGES]
    return max((common(api.inspect_image(other)) for other in others), default=0)


def _load_partial(
    api: EngineApi, image: Image, references: Sequence[str], present: int, log: Callable[[str], None],
    task: Task | None,
) -> int:
    """Load an image without its `present` lowest layers; return the bytes sent, 0 on failure.

    It fails if one of these layers was removed meanwhile.
    """
    with tempfile.TemporaryFile() as stream:
        write_partial(image, references, present, stream)
        size = stream.tell()
        stream.flush()
        try:
            _send(api, stream, size, task)
        except DaemonError as error:
            log(f"loading only the new layers failed ({error}): loading all of them")
            return 0
        return size


def _send(api: EngineApi, stream: BinaryIO, size: int, task: Task | None) -> None:
    if task is None:
        api.load_image(stream)
        return
    with undo_on_failure(task.advance) as advance:
        task.expect(size)
        api.load_image(stream, advance)


def _load_by_program(
    daemon: Daemon, item: Image | Index, ids: Sequence[str], names: tuple[str, ...],
    archive: Path | Callable[[], Path], log: Callable[[str], None],
) -> LoadResult:
    known = {image_id.removeprefix("sha256:") for image_id in ids}

    def find_image() -> str:
        try:
            lines = run(["podman", "image", "inspect", "--format", "{{.Id}}", *names]).split()
        except ProgramError:
            return ""
        return lines[0] if lines and set(lines) <= known else ""

    found = find_image()
    if found:
        return LoadResult(daemon, f"sha256:{found}", names, 0)
    if isinstance(item, Image):
        try:
            sent = _pull_by_program(item, names)
        except (ProgramError, OSError) as error:
            log(f"pulling only the new layers failed ({error}): loading all of them")
        else:
            if found := find_image():
                return LoadResult(daemon, f"sha256:{found}", names, sent)
    path = _file(archive)
    try:
        run(["podman", "load", "--quiet", "--input", str(path)])
    except ProgramError as error:
        raise DaemonError(str(error)) from error
    found = find_image()
    if not found:
        raise DaemonError(f"podman took the archive {path}, but does not have the image: look at `podman image ls`")
    return LoadResult(daemon, f"sha256:{found}", names, path.stat().st_size)


def _pull_by_program(image: Image, names: Sequence[str]) -> int:
    """Run `podman pull` of an image from this process, and `podman tag`; return the bytes sent."""
    from hatch_docker.oci.serve import serve_image

    with serve_image(image) as served, temporary_directory() as directory:
        login = {"auths": {served.reference.partition("/")[0]: {"auth": served.login.decode()}}}
        (directory / "auth.json").write_text(json.dumps(login), encoding="utf-8")
        options = ["--quiet", "--tls-verify=false", f"--authfile={directory / 'auth.json'}"]
        run(["podman", "pull", *options, served.reference])
    run(["podman", "tag", served.reference, *names])
    run(["podman", "untag", served.reference, served.reference])
    return served.sent
