"""Runner of a step in the sandbox: it sees the image's files read-only, and writable copies of its outputs."""

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError
from hatch_docker.core.process import ProcessFailed, TimedOut
from hatch_docker.engines.buildkit.stage_step import changed_paths, find_path, merged_paths
from hatch_docker.engines.steps import INPUTS, StepRun, removal_error, secrets_of, step_error, timeout_error
from hatch_docker.oci.filesystem import path_entry, write_entries
from hatch_docker.oci.tar import Entry
from hatch_docker.wheels.builder.sandbox import Bind, run_in
from hatch_docker.wheels.builder.variables import certificates, proxies


def run_in_sandbox(run: StepRun, work: Path, ctx: Context) -> list[Entry]:
    """Run a step and return the new and changed files below its outputs; the files are in `work`.

    Raises BuildError if the step fails, and SandboxError if the kernel does not allow the sandbox.
    """
    binds, trees = [], [str(tree) for tree in run.roots]
    for output in run.outputs:
        place = work / "tree" / output
        place.mkdir(parents=True)
        for path, source in merged_paths(find_path(trees, output)[1], output):
            _copy(Path(source), work / "tree" / path)
        binds.append(Bind(place, f"/{output}", writable=True))
    if run.inputs:
        write_entries(run.inputs.values(), work)
        binds.append(Bind(work / INPUTS, f"/{INPUTS}"))
    secrets = secrets_of(run, ctx)
    env = {**(proxies(ctx.environ) if run.plan.network else {}), **run.env, **secrets}
    cwd = run.cwd if run.inputs or any((tree / run.cwd[1:]).is_dir() for tree in run.roots) else "/"
    try:
        run_in(
            run.roots, run.plan.command, env=env, binds=binds, network=run.plan.network, cwd=cwd, user=run.user,
            files=certificates(ctx.environ, network=run.plan.network), log=ctx.progress.detail, merge=True,
            secrets=[*secrets.values(), *ctx.secrets.values()], timeout=run.plan.timeout, environ=ctx.environ,
        )  # fmt: skip
    except TimedOut:
        raise timeout_error(run) from None
    except ProcessFailed as failure:
        raise step_error(run, f"ended with status {failure.status}", failure.output) from None
    try:
        return [entry for output in run.outputs for entry in _read_output(output, work / "tree", trees, run)]
    except (OSError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "its directories are too deep"
        raise BuildError(f"the files that the step `{run.title}` wrote cannot be read: {why}") from error


def _read_output(output: str, tree: Path, before: Sequence[str], run: StepRun) -> Iterator[Entry]:
    make_readable(tree / output)
    new, removed = changed_paths(before, str(tree), output)
    if removed:
        raise removal_error(run, ", ".join(f"/{path}" for path in removed[:5]))
    yield from (entry for path in new if (entry := path_entry(tree / path, path)) is not None)


def _copy(source: Path, place: Path) -> None:
    """Copy a file or symlink, or create a directory, at `place`, which must not exist: no symlink is followed."""
    if source.is_dir() and not source.is_symlink():
        place.mkdir()
    else:
        shutil.copy2(source, place, follow_symlinks=False)


def make_readable(top: Path) -> None:
    """Give the current user read access to all files in a directory; symlinks are not followed."""
    top.chmod(0o755)
    for directory, subdirectories, files in os.walk(top):
        for names, needed in ((subdirectories, stat.S_IRWXU), (files, stat.S_IRUSR)):
            for path in (Path(directory, name) for name in names):
                mode = path.lstat().st_mode
                if not stat.S_ISLNK(mode) and mode & needed != needed:
                    path.chmod(stat.S_IMODE(mode) | needed)
