"""Steps: commands that run in the finished file tree; the files that a step writes below its outputs become a layer.

The engine runs a step (`Steps.run`) in the sandbox or in a stage of a Dockerfile. Both give the same layer: only the
files, owned by root, with fixed times and modes. For another architecture than the engine's, the layers of the image
for the engine's architecture are used; machine code in such a layer is an error.
"""

import difflib
import glob
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hatch_docker.bases.image import image_roots
from hatch_docker.bases.model import Base, real_path
from hatch_docker.core.cache.store import file_digest, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.elf import MAGIC
from hatch_docker.core.errors import BuildError, ConfigError
from hatch_docker.core.files import is_output, temporary_tree
from hatch_docker.engines.buildkit.stage_step import find_path
from hatch_docker.engines.image_files import file_entries, layer_path, owner, readable, watched
from hatch_docker.engines.layer_cache import layer_by_key, recall_layer, step_layer_key
from hatch_docker.engines.model import BuiltImage, LayerInfo
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.make_image import Settings, build_image
from hatch_docker.oci.model import History, Image, Layer, Platform, host_platform
from hatch_docker.oci.paths import SOURCE_DATE, WHITEOUT
from hatch_docker.oci.tar import Entry, parent_entries
from hatch_docker.plan.model import FilePlan, Plan, StepPlan
from hatch_docker.plan.steps import check_output
from hatch_docker.project.model import DIST
from hatch_docker.wheels.builder.variables import TRUSTED, secret_variables

KIND = "step"
RESULT = "step-result"  # fact: the diff-id of a step's layer, by its key without the engine
CODE = "step-code"      # fact: the path of a file with machine code, "" for none, by the layer's diff-id
LONGEST = 80            # characters of a command in a message
OPTION = "tool.hatch-docker.steps"
TABLE = "[[tool.hatch-docker.steps]]"
INPUTS = "inputs"       # the directory of the inputs, in the root of the file tree
FIXED: Mapping[str, str] = {
    "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": str(SOURCE_DATE),  # noqa: S108
}  # fmt: skip
"""The environment variables of each step, for reproducible output and a writable home directory."""
_WRITE_ERROR = re.compile(
    r"(?:Read-only file system|Permission denied): '?(/[^'\s:]+)"
    r"|'?(/[^'\s:]+)'?: (?:Read-only file system|Permission denied)"
)


@dataclass(frozen=True, slots=True)
class StepRun:
    """A step with everything that is needed to run it.

    `option`: the step's name in messages. `outputs`: relative to the image's root, with the base's symlinks resolved.
    `env`: without secrets and proxies. `cwd`: / is used if the image does not have it. `root`: the project's directory.
    `roots`: directories with the files of the layers below; for each path, the first directory that has it is used.
    """

    option: str
    plan: StepPlan
    base: Base
    outputs: tuple[str, ...]
    inputs: Mapping[str, Entry]
    env: Mapping[str, str]
    user: tuple[int, int]
    cwd: str
    root: Path
    below: tuple[Layer, ...] = ()             # above the base
    roots: tuple[Path, ...] = ()

    @property
    def title(self) -> str:
        """The command in one line of at most LONGEST characters, for messages."""
        text = " ".join(" ".join(self.plan.command).split())
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."

    def image(self) -> Image:
        """Return the image of the layers below the step, with the user root."""
        additions = [(layer, History("")) for layer in self.below]
        return build_image(self.base.image, additions, Settings(user="0"), SOURCE_DATE, {})


@dataclass(frozen=True, slots=True)
class Steps:
    """An engine's functions for the steps of an image.

    `engine`: its name. `run`: runs a step and returns the entries that it wrote; their contents are in files below the
    directory. `host_image`: builds the image for the engine's architecture; None if the image is for it already.
    """

    engine: str
    run: Callable[[StepRun, Path, Context], list[Entry]]
    host_image: Callable[[], BuiltImage] | None = None


def host_image_of(build: Callable[[Platform], BuiltImage], platform: Platform) -> Callable[[], BuiltImage] | None:
    """Return the function `Steps.host_image` for an image. `build`: builds the image for a platform."""
    host = host_platform()
    return None if platform.architecture == host.architecture else partial(build, host)


def step_layers(
    plan: Plan, base: Base, below: Sequence[tuple[Layer, LayerInfo]], settings: Settings, root: Path,
    compression: Compression, steps: Steps, ctx: Context,
) -> list[tuple[Layer, LayerInfo]]:  # fmt: skip
    """Return the layers of a plan's steps. A step sees the layers `below` and the layers of earlier steps.

    Raises ConfigError and BuildError.
    """
    if steps.host_image is not None:
        host = steps.host_image()
        found = [row for row in zip(host.image.layers, host.notes, strict=True) if row[1].kind == KIND]
        for layer, note in found:
            _check_portable(layer, note, base, host.base, ctx)
        return found
    layers: list[tuple[Layer, LayerInfo]] = []
    for number, step in enumerate(plan.steps):
        run = make_run(number, step, base, settings, root)
        run = replace(run, below=tuple(layer for layer, _ in (*below, *layers)))
        layer, cached = _step_layer(run, settings.workdir, compression, steps, ctx)
        layers.append((layer, LayerInfo(KIND, step.outputs, cached)))
    return layers


def make_run(number: int, step: StepPlan, base: Base, settings: Settings, root: Path) -> StepRun:
    """Return the StepRun of a step, with its inputs; raises ConfigError. `number`: the step's index from 0."""
    option = f"{OPTION}[{number}]"
    outputs = tuple(real_path(base.symlinks, layer_path(path, base, f"{option}.outputs")) for path in step.outputs)
    for path in outputs:  # a symlink of the base may point to a directory that cannot be an output
        check_output(f"/{path}", number)
    inputs = _inputs(step, root, base, f"{option}.inputs")
    cwd = f"/{INPUTS}" if inputs else settings.workdir or "/"
    user = owner(settings.user, base)
    return StepRun(option, step, base, outputs, inputs, _variables(step, base, settings), user, cwd, root)


def _step_layer(run: StepRun, workdir: str, compression: Compression, steps: Steps, ctx: Context) -> tuple[Layer, bool]:
    option = f"{run.option}.inputs"
    with readable(option):
        files = {path: item.content for path, item in run.inputs.items() if isinstance(item.content, Path)}
        digests = {path: file_digest(file) for path, file in files.items()}
    layers = (*run.base.image.layers, *run.below)
    key = step_layer_key(layers, run.plan, run.env, run.user, workdir, run.inputs.values(), digests)
    run = replace(run, inputs={path: watched(item, digests, option) for path, item in run.inputs.items()})
    own = key_of(key, steps.engine)
    if recall_layer(own, compression, ctx) is None:
        ctx.store.load_shared()
    with temporary_tree(ctx.store.root / "tmp") as work:

        def write() -> list[Entry]:
            ready = replace(run, roots=tuple(image_roots(run.base, run.below, ctx)))
            _check_paths(ready)
            with ctx.progress.task(f"running {run.title}"):
                return _normalised(steps.run(ready, work, ctx), ready)

        layer, cached = layer_by_key(own, compression, ctx, write)
    if not cached:
        earlier = ctx.store.recall(RESULT, key)
        if earlier not in (None, layer.diff_id):
            ctx.progress.warn(
                f"{run.option}: {run.title} wrote different bytes than last time, with the same image and inputs, so "
                "each machine makes a different image; docs/steps.md has the usual causes"
            )
        ctx.store.remember(RESULT, key, layer.diff_id)
    return layer, cached


def _variables(step: StepPlan, base: Base, settings: Settings) -> dict[str, str]:
    """Return the environment of a step: the base's variables, overridden by the image's, FIXED and the step's own."""
    return {**base.image.env, **settings.env, **FIXED, **(TRUSTED if step.network else {}), **step.env}


def _inputs(step: StepPlan, root: Path, base: Base, option: str) -> dict[str, Entry]:
    """Return the project's files that a step reads, by their paths in the image; raises ConfigError."""
    plans = []
    for pattern in step.inputs:
        with readable(option):
            found = matches(pattern, root)
        if not found:
            raise ConfigError(f"{option}: nothing in {root.name}/ matches {pattern}; correct the pattern")
        paths = [path.relative_to(root).as_posix() for path in found]
        plans += [FilePlan(path, f"/{INPUTS}/{path}") for path in paths]
    return file_entries(plans, root, base, option)


def matches(pattern: str, root: Path) -> list[Path]:
    """Return the project's files and directories for a path or pattern, sorted; a pattern matches no build outputs."""
    if not glob.has_magic(pattern):
        return [root / pattern]
    found = (path for path in sorted(root.glob(pattern)) if path.relative_to(root).parts[:1] not in ((DIST,), ()))
    return [path for path in found if path.name not in ("__pycache__", ".git") and not is_output(path)]


def _check_paths(run: StepRun) -> None:
    """Raise ConfigError for an output that is not a directory, and for a command that is not a program in the image."""
    trees = [str(tree) for tree in run.roots]
    for output, shown in zip(run.outputs, run.plan.outputs, strict=True):
        for part in (*reversed(Path(output).parents), output):
            place, directories = find_path(trees, str(part))
            if place and not directories:
                what = "link" if Path(place).is_symlink() else "file"
                raise ConfigError(f"{run.option}.outputs: {shown}: /{part} is a {what} in the image; name a directory")
    word = run.plan.command[0]
    above, slash, name = word.rpartition("/")
    places = [above if above.startswith("/") else f"{run.cwd}/{above}"] if slash else run.env.get("PATH", "").split(":")
    real = {real_path(run.base.symlinks, place) for place in places}
    inputs = any(f"{place}/".startswith(f"{INPUTS}/") for place in real)
    if inputs or any(_may_have(trees, f"{place}/{name}") for place in real):
        return
    on_path = [Path(tree, place) for place in real for tree in find_path(trees, place)[1]]
    programs = {path.name for place in on_path for path in place.iterdir()}
    close = difflib.get_close_matches(name, sorted(programs), 1)
    meant = f"did you mean {close[0]!r}?" if close else "use one that the wheels or the base contain, or a path"
    raise ConfigError(f"{run.option}.command: {word!r} is not a program in the image; {meant}")


def _may_have(trees: Sequence[str], path: str) -> bool:
    """Return whether a path is in the image, or contains a symlink, which can be resolved in the container only."""
    places = {str(part): find_path(trees, str(part))[0] for part in (path, *Path(path).parents)}
    return bool(places[path]) or any(place and Path(place).is_symlink() for place in places.values())


def _normalised(entries: Sequence[Entry], run: StepRun) -> list[Entry]:
    """Return a step's entries with fixed modes, and with missing directories above them; raises BuildError."""
    for entry in entries:
        if any("\udc80" <= character <= "\udcff" for character in entry.path + entry.target):
            raise BuildError(f"{run.option}: {run.title} wrote {entry.path!r}, whose name or target is not UTF-8")
        if entry.path.rpartition("/")[2].startswith(WHITEOUT):
            raise BuildError(f"{run.option}: {run.title} wrote /{entry.path}, but a layer cannot contain this name")
    found = {
        entry.path: replace(entry, mode=0o755) if entry.kind == "directory" else entry
        for entry in entries if entry.kind != "directory" or not _has(run.roots, entry.path)
    }  # fmt: skip
    if not found:
        raise BuildError(f"{run.title} wrote nothing below {', '.join(run.plan.outputs)}; correct {run.option}.outputs")
    above = [entry for entry in parent_entries(found) if not _has(run.roots, entry.path)]
    return [*({entry.path: entry for entry in above} | found).values()]


def _has(roots: Sequence[Path], path: str) -> bool:
    return bool(find_path([str(tree) for tree in roots], path)[1])


def _check_portable(layer: Layer, note: LayerInfo, base: Base, host: Base, ctx: Context) -> None:
    """Raise BuildError if a step's layer contains machine code, which runs on one architecture only."""
    def find() -> str:
        found = (entry.path for entry, stream in layer_entries(layer) if stream and stream.read(4) == MAGIC)
        return next(found, "")

    if path := ctx.store.recall_or_make(CODE, key_of(layer.diff_id), find):
        raise BuildError(
            f"the step that fills {', '.join(note.contents)} wrote machine code, /{path}, for {host.platform}, which "
            f"does not run on {base.platform}; build it there, or remove that platform"
        )


def write_error_hint(output: str, run: StepRun) -> str:
    """Return the hint for a write error in a step's output, "" if the output contains none."""
    found = _WRITE_ERROR.search(output)
    path = (found[1] or found[2]) if found else ""
    if not path or any(path.startswith(f"/{output}/") for output in run.outputs):
        return ""
    return f"\n{path} is not below outputs ({', '.join(run.plan.outputs)}): add its directory, or write to /tmp"


def step_error(run: StepRun, reason: str, output: str) -> BuildError:
    """Return the error for a step that failed. `output`: the last lines that it printed."""
    text = f":\n{output}{write_error_hint(output, run)}" if output else " and printed nothing"
    return BuildError(f"the step `{run.title}` {reason}{text}")


def timeout_error(run: StepRun) -> BuildError:
    """Return the error for a step that exceeds its timeout."""
    return BuildError(f"the step `{run.title}` did not finish within {run.plan.timeout:g} s; its timeout allows more")


def stray_error(run: StepRun, paths: str) -> BuildError:
    """Return the error for a step that wrote `paths`, which are not below its outputs."""
    return BuildError(
        f"the step `{run.title}` wrote {paths}, which is not below outputs ({', '.join(run.plan.outputs)}): add the "
        "directory, or write to /tmp"
    )


def removal_error(run: StepRun, paths: str) -> BuildError:
    """Return the error for a step that removed files of the image."""
    return BuildError(f"the step `{run.title}` removed {paths} of the image; a step only adds and changes files")


def secrets_of(run: StepRun, ctx: Context) -> dict[str, str]:
    """Return the values of a step's secrets by name; raises ConfigError for a variable that is not set."""
    return secret_variables(run.plan.secrets, ctx.environ, TABLE)
