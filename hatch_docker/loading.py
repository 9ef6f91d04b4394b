"""Load what was built into Docker or Podman: an archive, under the names that it has. Nothing is built again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hatch_docker.context import Context
from hatch_docker.errors import ConfigError
from hatch_docker.oci.archive import archive_names, read_archive
from hatch_docker.oci.daemon import Loaded, find_daemon, load
from hatch_docker.oci.model import Platform, images_of
from hatch_docker.outputs import replacing
from hatch_docker.publish import receipt_of


def load_archive(archive: Path, kind: str, names: Sequence[str], host: Platform, ctx: Context) -> Loaded:
    """Load an archive into the first daemon that answers, or the one of a `kind`, as `names` or those it has itself.

    The receipt beside it then says so. Raises ConfigError for an archive without names, ImageError for what is no
    archive, DaemonError where nobody answers.
    """
    item = read_archive(archive)
    receipt, path = receipt_of(archive, item)
    names = names or archive_names(archive)
    if not names:
        raise ConfigError(f"{archive} does not say what its image is called: name it with --tag NAME:TAG")
    platforms = [image.platform for image in images_of(item)]
    if host not in platforms:
        ctx.progress.warn(f"{archive.name} is for {', '.join(map(str, platforms))}, and this machine is {host}")
    daemon = find_daemon(ctx.environ, kind)
    with ctx.progress.task(f"loading the image into {daemon}", part=True):
        loaded = load(daemon, item, names, archive, host=host, log=ctx.progress.detail)
    if path is not None:
        pushed = [name for name in receipt.references if "@" in name]
        with replacing(path) as stream:
            stream.write(replace(receipt, references=(*pushed, *loaded.references)).to_json())
    return loaded
