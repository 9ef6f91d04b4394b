"""The last lines of a build: changes since the previous build, hints, and the command that runs the image."""

import contextlib
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from hatch_docker.bases.model import Interpreter, split_build
from hatch_docker.build.receipt import KINDS, TITLES, PlatformReceipt, Receipt, read_receipt
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ImageError
from hatch_docker.core.files import RECEIPT
from hatch_docker.core.text import abbreviate, plural
from hatch_docker.engines.common import slim_rules
from hatch_docker.engines.wheel_layers import known_files
from hatch_docker.oci.diff import changed_items
from hatch_docker.oci.model import Platform, host_platform
from hatch_docker.plan.model import DEBUG_PORT, Plan
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.install.slim import NONE, Rules


def previous_receipt(path: Path, plan: Plan) -> Receipt | None:
    """Return the receipt of the previous build: the one at `path`, or the newest of another version, or None."""
    ending = f".{plan.part}{RECEIPT}" if plan.part else RECEIPT
    found = [path] if path.is_file() else path.parent.glob(f"{plan.name}-*{ending}")
    times: list[tuple[float, Path]] = []
    for other in found:
        with contextlib.suppress(OSError):
            times.append((other.stat().st_mtime, other))
    for _, other in sorted(times, reverse=True):
        with contextlib.suppress(ImageError):
            receipt = read_receipt(other)
            if (receipt.name, receipt.part) == (plan.name, plan.part):
                return receipt
    return None


def changes(before: Receipt, after: Receipt, ctx: Context, rules: Rules = NONE) -> list[str]:
    """Return the differences between two builds of an image, a line for each kind of layer.

    `rules`: the rules by which files of the project's wheel are left out.
    """
    if before.digest == after.digest:
        return ["nothing changed since the previous build"]
    known = {platform.platform: platform for platform in before.platforms}
    pairs = [(known[now.platform], now) for now in after.platforms if now.platform in known]
    lines: list[str] = []
    if before.python and before.python != after.python:
        lines.append(f"{'Python':<16}  {before.python} -> {after.python}")
    if text := _packages(dict.fromkeys(known, ""), {platform.platform: "" for platform in after.platforms}):
        lines.append(f"{'platforms':<16}  {text}")
    for then, now in pairs:
        found = ((TITLES[kind], _change(kind, then, now, before, after, ctx, rules)) for kind in KINDS)
        lines += [f"{title:<16}  {text}" for title, text in found if text]
    if not lines:
        first, second = (receipt.revision[:12] for receipt in (before, after))
        why = f"commit {first} -> {second}" if first and second and first != second else "settings, labels or time"
        lines.append(f"{'configuration':<16}  {why}")
    return ["changed since the previous build:", *(f"  {line}" for line in dict.fromkeys(lines))]


def _change(
    kind: str, then: PlatformReceipt, now: PlatformReceipt, before: Receipt, after: Receipt, ctx: Context, rules: Rules
) -> str:
    """Return the difference between the layers of one kind, "" if they are the same."""
    was, layers = ([layer.digest for layer in side.layers if layer.kind == kind] for side in (then, now))
    if was == layers:
        return ""
    text = _packages(_contents(kind, then), _contents(kind, now))
    if kind == "base":
        names = [receipt.base.get("name", "") for receipt in (before, after)]
        if names[0] != names[1]:
            return " -> ".join(names)
        digests = [receipt.base.get("digest", "")[:19] for receipt in (before, after)]
        return text or (f"{names[1]} {' -> '.join(digests)}" if digests[0] != digests[1] else "made differently")
    if kind == "project":
        return "; ".join(filter(None, [text, _files(before, after, ctx, rules)])) or "changed"
    return text or ("changed" if kind in ("files", "step") else "the same packages, made differently")


def _contents(kind: str, platform: PlatformReceipt) -> dict[str, str]:
    """Return the contents of all layers of a kind: versions by name, "" for paths."""
    return {
        name: version for layer in platform.layers if layer.kind == kind
        for name, _, version in (content.partition(" ") for content in layer.contents)
    }


def _packages(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return the differences between two mappings of names to versions."""
    found = []
    for name, was, new in changed_items(then, now):
        if was is None or new is None:
            found.append(f"{name} {was or new or ''} {'added' if was is None else 'removed'}".replace("  ", " "))
        else:
            found.append(f"{name} {was} -> {new}")
    return abbreviate(found)


def _files(before: Receipt, after: Receipt, ctx: Context, rules: Rules) -> str:
    """Return the changed files of the project's wheels, "" if the cache does not have both lists."""
    then, now = (_own_files(receipt, ctx, rules) for receipt in (before, after))
    if then is None or now is None:
        return ""
    differ = sorted(path for path in {*then, *now} if then.get(path) != now.get(path))
    code = [path for path in differ if ".dist-info/" not in path]
    if not code:
        return "its metadata" if differ else "the same files, made differently"
    return f"{plural(len(code), 'file')} changed: {abbreviate(code)}"


def _own_files(receipt: Receipt, ctx: Context, rules: Rules) -> dict[str, str] | None:
    """Return the hashes of the files in the wheels of the project and its members; None if the cache lacks a wheel.

    Keys are paths relative to site-packages, so that they do not depend on the version of Python.
    """
    found: dict[str, str] = {}
    for wheel in (*receipt.members, receipt.wheel):
        venv = VenvTarget(Interpreter("", *split_build(receipt.python)))
        files = known_files(venv, f"sha256:{wheel.sha256}", ctx, rules) if wheel else None
        if files is None:
            return None
        found |= {path.partition("/site-packages/")[2] or path: hashed for path, hashed in files.items()}
    return found


def how_to_run(
    receipt: Receipt, plan: Plan, archive: Path, daemon: str, host: Platform, environ: Mapping[str, str]
) -> list[str]:
    """Return the commands that run the new image. `daemon`: "docker" or "podman" if it was loaded there, else ""."""
    path = environ.get("PATH", "")
    podman = not shutil.which("docker", path=path) and shutil.which("podman", path=path)
    program = daemon or ("podman" if podman else "docker")
    name = plan.references[0]
    if not daemon and receipt.pushed and not receipt.archive:
        name = f"{receipt.pushed[0].partition('@')[0]}:{plan.tags[0]}"
    lines = [shlex.join(run_command(plan, program, name, host))]
    if not daemon and receipt.archive:
        shown = os.path.relpath(archive) if archive.is_relative_to(Path.cwd()) else str(archive)
        lines.insert(0, shlex.join([program, "load", "-i", shown]))
    elif not daemon and not receipt.pushed:
        return []
    here = bool(daemon or shutil.which(program, path=path))
    return ["run it:" if here else "run it on a machine with Docker:", *(f"  {line}" for line in lines)]


def run_command(plan: Plan, program: str, name: str, host: Platform, *more: str) -> list[str]:
    """Return the command that runs an image by its name. `more`: further options."""
    foreign = [] if str(host) in plan.platforms else ["--platform", plan.platforms[0]]
    here = f"{DEBUG_PORT}/tcp" if plan.debug else ""  # the debugger's port is published on the loopback address only
    options = [
        word for port in plan.config.ports
        for word in ("-p", f"127.0.0.1:{_published(port)}" if port == here else _published(port))
    ]
    return [program, "run", "--rm", *more, *foreign, *options, name]


def _published(port: str) -> str:
    number, _, protocol = port.partition("/")
    return f"{number}:{number}" + (f"/{protocol}" if protocol not in ("", "tcp") else "")


def closing_lines(
    before: Receipt | None, receipt: Receipt, plan: Plan, archive: Path, daemon: str, ctx: Context
) -> Iterator[str]:
    """Yield the lines after the table of sizes. `before`: the previous receipt. `daemon`: as in `how_to_run`."""
    if before is not None:
        yield from changes(before, receipt, ctx, slim_rules(plan, "project"))
    yield from (f"hint: {hint}" for hint in receipt.hints)
    yield from how_to_run(receipt, plan, archive, daemon, host_platform(), ctx.environ)
