"""Outputs of a build for CI pipelines: GitHub's outputs and step summary, GitLab's dotenv report."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from packaging.utils import canonicalize_name

from hatch_docker.build.receipt import Receipt, size_rows
from hatch_docker.core.errors import StoreError
from hatch_docker.core.files import write_file
from hatch_docker.core.text import megabytes, sanitize
from hatch_docker.project.workspace import is_member, writable_path


def write_ci_outputs(
    receipt: Receipt, directory: Path, dotenv: Path | None, environ: Mapping[str, str], *, several: bool = False
) -> None:
    """Write the outputs of a build to the files that the CI pipeline names; do nothing without such files.

    `directory`: the directory of the archive. `several`: the step builds several projects, so that each output is also
    written with the project's name as prefix. Raises StoreError for a file that cannot be written.
    """
    if dotenv is not None:
        write_file(dotenv, dotenv_text(receipt, directory, dotenv).encode())
    if environ.get("GITHUB_OUTPUT"):
        _append(Path(environ["GITHUB_OUTPUT"]), github_text(receipt, directory, several=several))
    if environ.get("GITHUB_STEP_SUMMARY"):
        _append(Path(environ["GITHUB_STEP_SUMMARY"]), markdown(receipt))


def report_path(root: Path, dotenv: str, environ: Mapping[str, str]) -> Path | None:
    """Return the path of the dotenv report, None if the option is empty. Raises ConfigError (see `writable_path`)."""
    return writable_path(root, dotenv, "tool.hatch-docker.dotenv", "HATCH_DOCKER_DOTENV", environ) if dotenv else None


def is_one_of_several(root: Path, environ: Mapping[str, str]) -> bool:
    """Return whether a step of a GitHub workflow may also build other projects: those of the project's workspace."""
    if not environ.get("GITHUB_OUTPUT"):
        return False
    return is_member(root)


def outputs(receipt: Receipt, directory: Path) -> dict[str, tuple[str, ...]]:
    """Return the items of each output by its name; `size` is in bytes, compressed."""
    first = receipt.pushed or receipt.references
    return {
        "name": (receipt.name,), "version": (receipt.version,), "digest": (receipt.digest,),
        "reference": first[:1], "references": receipt.references, "tags": receipt.tags,
        "archive": (str(directory / receipt.archive),) if receipt.archive else (), "size": (str(receipt.size),),
    }  # fmt: skip


def github_text(receipt: Receipt, directory: Path, *, several: bool = False) -> str:
    """Return lines for GITHUB_OUTPUT. The delimiter is a hash of the value, so no value can define another output."""
    parts = []
    for name, items in outputs(receipt, directory).items():
        text = "\n".join(items)
        delimiter = "end-" + hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
        name = f"{receipt.part}-{name}" if receipt.part else name
        names = (name, f"{canonicalize_name(receipt.name)}-{name}")[: 2 if several else 1]
        parts += [f"{output}<<{delimiter}\n{text}\n{delimiter}\n" for output in names]
    return "".join(parts)


def dotenv_text(receipt: Receipt, directory: Path, path: Path) -> str:
    """Return the contents of GitLab's dotenv report: no quotes, each value in one line.

    Lines of the file at `path` about other images are kept, but the default image (built first) replaces the file.
    """
    prefix = f"IMAGE_{receipt.part.upper().replace('-', '_')}_" if receipt.part else "IMAGE_"
    own = {f"{prefix}{name.upper()}": " ".join(items) for name, items in outputs(receipt, directory).items()}
    lines = path.read_text("utf-8").splitlines(keepends=True) if receipt.part and path.is_file() else []
    others = [line for line in lines if line.partition("=")[0] not in own]
    return "".join([*others, *(f"{name}={' '.join(text.split())}\n" for name, text in own.items() if text.split())])


def markdown(receipt: Receipt) -> str:
    """Return the step summary as Markdown: the image, its repositories, the size of each kind of layer, hints."""
    heading = " ".join(filter(None, [receipt.name, receipt.version, receipt.part]))
    lines = [f"### {_inline(heading)}", "", f"`{receipt.digest}`", ""]
    for delivery in receipt.deliveries:
        if delivery.error:
            lines.append(f"- **not pushed** to `{delivery.reference}`")
        else:
            tags = ", ".join(f"`{tag}`" for tag in delivery.tags)
            sent = f"{megabytes(delivery.sent)} sent" if delivery.sent else "nothing new to send"
            lines.append(f"- `{delivery.reference}` as {tags}, {sent}")
    for platform in receipt.platforms:
        lines += ["", f"| {platform.platform} | unpacked | compressed | |", "|---|--:|--:|---|"]
        for title, unpacked, stored, state in size_rows(platform):
            lines.append(f"| {title} | {megabytes(unpacked)} | {megabytes(stored)} | {state} |")
        if platform.left_out:
            kinds = ", ".join(f"{part.kind} {megabytes(part.size)}" for part in platform.left_out)
            lines += ["", f"left out: {kinds}"]
    lines += ["", *(f"- {_inline(hint)}" for hint in receipt.hints)] if receipt.hints else []
    return "\n".join(lines) + "\n\n"


def _inline(text: str) -> str:
    """Escape text for Markdown. File names in wheels may contain links or HTML."""
    return re.sub(r"([\\`\[\]<>|])", r"\\\1", " ".join(sanitize(text).split()))


def _append(path: Path, text: str) -> None:
    try:
        with path.open("ab") as stream:
            stream.write(text.encode(errors="surrogateescape"))
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
