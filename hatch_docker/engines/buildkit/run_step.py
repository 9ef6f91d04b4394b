"""Runner of a step in a stage of a Dockerfile, on the image below the step, which is loaded into the builder."""

import json
import re
import shutil
from pathlib import Path

from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError
from hatch_docker.engines.buildkit import stage_step
from hatch_docker.engines.buildkit.build_request import BuildRequest, PreloadedImage
from hatch_docker.engines.buildkit.builders import find_builder
from hatch_docker.engines.buildkit.context import image_name, local_proxies, write_certificates
from hatch_docker.engines.buildkit.dockerfile import Step, render_step
from hatch_docker.engines.steps import StepRun, removal_error, secrets_of, stray_error, timeout_error, write_error_hint
from hatch_docker.oci.filesystem import tree_entries, write_entries
from hatch_docker.oci.tar import Entry
from hatch_docker.plan.model import CachePlan, StepPlan


def run_in_stage(run: StepRun, work: Path, ctx: Context, builder_name: str) -> list[Entry]:
    """Run a step and return the new and changed files below its outputs; the files are below `work`.

    Raises BuildError if the step fails, and DaemonError if the builder fails.
    """
    builder, platform = find_builder(builder_name, ctx), run.base.platform
    if builder.platforms and str(platform) not in builder.platforms:
        raise BuildError(
            f"the step `{run.title}` has to run on {platform}, and the builder runs {', '.join(builder.platforms)} "
            "only; use a builder with that platform (builder = ...)"
        )
    secrets_of(run, ctx)
    context = work / "context"
    write_step(context, 1, run)
    trusted = write_certificates(context, ctx, network=run.plan.network)
    below = run.image()
    image = PreloadedImage(image_name("below", below), below, keep=False)
    step = step_of(1, run.plan)
    dockerfile = work / "Dockerfile"
    text = render_step(step, image.name, run.base.interpreter.path, certificates=trusted)
    dockerfile.write_text(text, encoding="utf-8")
    request = BuildRequest(
        dockerfile, context, work / "out", platform, (image,), CachePlan(), run.root, run.plan.secrets,
        proxies=local_proxies(ctx.environ) if run.plan.network else {},
    )  # fmt: skip
    try:
        builder.build(request, ctx)
    except BuildError as failure:
        raise _explain(failure, run) from None
    tree = work / "out" / "tree"
    # The step is foreign code: do not follow a symlink in its output, which could point to files of this machine.
    if tree.is_symlink() or not tree.is_dir():
        raise BuildError(f"the builder exported nothing for the step `{run.title}`; is its disk full?")
    return tree_entries(tree)


def _explain(failure: BuildError, run: StepRun) -> BuildError:
    """Return the error of the step for a failed build, from the messages that `stage_step` printed."""
    text = str(failure)
    for prefix, error in ((stage_step.ELSEWHERE, stray_error), (stage_step.REMOVED, removal_error)):
        if found := re.search(rf"^{prefix}(.+)$", text, re.MULTILINE):
            return error(run, found[1])
    if re.search(rf"^{stage_step.LATE}$", text, re.MULTILINE):
        return timeout_error(run)
    return BuildError(f"the step `{run.title}`: {text}{write_error_hint(text, run)}")


def step_of(number: int, plan: StepPlan) -> Step:
    """Return the values for the Dockerfile's stage of a step."""
    return Step(number, plan.secrets, network=plan.network, inputs=bool(plan.inputs))


def write_step(context: Path, number: int, run: StepRun) -> None:
    """Write the files that the stage of a step copies: the program `stage_step`, its SPEC, and the step's inputs."""
    directory = context / "steps" / str(number)
    directory.mkdir(parents=True)
    shutil.copyfile(stage_step.__file__, directory / "step.py")
    spec = {
        "command": run.plan.command, "env": dict(sorted(run.env.items())), "secrets": run.plan.secrets, "cwd": run.cwd,
        "user": run.user, "outputs": [f"/{path}" for path in run.outputs], "timeout": run.plan.timeout,
    }  # fmt: skip
    (directory / "step.json").write_text(json.dumps(spec, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if run.inputs:
        write_entries(run.inputs.values(), directory)
