"""The option `check`: a command that runs in the finished image; the build fails if the command fails."""

import re
from collections.abc import Sequence
from pathlib import Path

from hatch_docker.bases.image import image_roots
from hatch_docker.bases.model import Base
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, SandboxError
from hatch_docker.core.process import ProcessFailed, TimedOut
from hatch_docker.oci.find_daemon import find_daemons
from hatch_docker.oci.model import Image, digest_of
from hatch_docker.plan.model import DEFAULT_PATH
from hatch_docker.wheels.builder.sandbox import run_in

RECIPE = 1
_NUMBER = re.compile(r"[0-9]{1,10}")


def run_check(image: Image, base: Base, command: Sequence[str], ctx: Context, *, timeout: float) -> None:
    """Run a command in the image with the image's environment, working directory and user.

    The command has no network, and only /tmp is writable. An image that passed is not checked again. The sandbox mounts
    the unpacked layers as one tree; if the kernel does not allow the sandbox, a Docker or Podman daemon runs the
    command. Raises BuildError with the last lines of the output if the command fails or takes more than `timeout`
    seconds, and SandboxError without sandbox and daemon.
    """
    key = key_of(RECIPE, digest_of(image.config), list(command))
    if ctx.store.recall("check", key):
        ctx.progress.detail("the check passed earlier for the same image")
        return
    with ctx.progress.task(f"checking the image: {' '.join(command)}"):
        try:
            status, output = _in_sandbox(image, base, command, ctx, timeout)
        except SandboxError as refused:
            from hatch_docker.oci.run import run_once

            daemons = find_daemons(ctx.environ)
            if not daemons:
                raise
            ctx.progress.detail(f"no sandbox here ({refused}): {daemons[0]} runs the check")
            status, output = run_once(daemons[0], image, command, ctx.progress.detail, timeout=timeout)
        except TimedOut:
            text = f"the check `{' '.join(command)}` did not finish within {timeout:g} s; check.timeout allows more"
            raise BuildError(text) from None
    if status != 0:
        from hatch_docker.build.checks.wants import advice_after

        printed = f":\n{output}{advice_after(output, base, ctx)}" if output else " and printed nothing"
        raise BuildError(f"the check failed: {' '.join(command)} ended with status {status} in the image{printed}")
    ctx.store.remember("check", key, True)


def _in_sandbox(image: Image, base: Base, command: Sequence[str], ctx: Context, timeout: float) -> tuple[int, str]:
    """Return the exit status of a command and the last lines of its output."""
    config = image.settings
    roots = image_roots(base, image.layers[len(base.image.layers):], ctx)
    user, home = find_user(config.get("User") or "", roots)
    env = {"PATH": DEFAULT_PATH, "HOME": home, **image.env}
    try:
        run_in(
            roots, command, env=env, cwd=config.get("WorkingDir") or "/", user=user, merge=True,
            log=ctx.progress.detail, environ=ctx.environ, timeout=timeout,
        )  # fmt: skip
    except ProcessFailed as failure:
        return failure.status, failure.output
    return 0, ""


def find_user(text: str, roots: Sequence[Path]) -> tuple[tuple[int, int], str]:
    """Return UID, GID and home of an image's `User` (OCI config.md): "65532", "app", "app:web", or "" for root.

    Names are looked up in the image's etc/passwd and etc/group. Raises BuildError for an unknown name.
    """
    user, _, group = (text or "0").partition(":")
    accounts = [row for row in _records(roots, "etc/passwd", 7) if _NUMBER.fullmatch(row[3])]
    found = next((row for row in accounts if user in (row[0], row[2])), None)
    if found is None and not user.isdigit():
        raise BuildError(f"the image has no user {user!r}; write a number, or a name of the base's /etc/passwd")
    uid = int(found[2]) if found else int(user)
    gid = int(found[3]) if found else 0
    if group:
        groups = {row[0]: row[2] for row in _records(roots, "etc/group", 4)}
        if not group.isdigit() and group not in groups:
            raise BuildError(f"the image has no group {group!r}; write a number, or a name of the base's /etc/group")
        gid = int(groups.get(group, group))
    return (uid, gid), (found[5] if found else "") or "/"


def _records(roots: Sequence[Path], name: str, fields: int) -> list[list[str]]:
    """Return the rows of an account file in the first root that has it, without invalid rows: field 3 is a number."""
    for root in roots:
        path = root / name
        if path.is_file() and not path.is_symlink() and not path.parent.is_symlink():
            rows = [line.split(":") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
            return [row for row in rows if len(row) == fields and _NUMBER.fullmatch(row[2])]
    return []
