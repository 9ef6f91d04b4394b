"""The builder stage: the backend builds a wheel from an sdist in a sandbox with a compiler. Only the wheel is kept.

The sandbox's root is Debian of the base's suite with the compiler and the base's Python (`builder_root`). The build
requirements are wheels, which are resolved and downloaded outside the sandbox: it never sees the logins of an index.

    /env      the build requirements, a virtual environment, read-only
    /build    the unpacked sdist and HOME, the same path in every build
    /out      the wheel that the backend makes
    /compiler-cache  compiler output of the project's earlier builds (`compiler_cache.py`)
"""

import contextlib
import functools
import json
import shutil
import signal
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from hatch_docker.bases.debian.base_cache import find_builder
from hatch_docker.bases.image import base_tree, note_builder, running_tree, tree_key
from hatch_docker.bases.model import Base
from hatch_docker.bases.partial_tree import find_partial, note_partial, watch, with_whole_trees
from hatch_docker.core.at_once import at_once
from hatch_docker.core.beside import in_background
from hatch_docker.core.cache.kept_file import KeptFile, existing_file
from hatch_docker.core.cache.store import ChangedTreeError, DamagedBlobError, Store, file_digest, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, HatchDockerError
from hatch_docker.core.files import remove_tree, temporary_tree
from hatch_docker.core.process import ProcessFailed, TimedOut
from hatch_docker.core.text import megabytes
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.plan.model import BuildPlan
from hatch_docker.wheels.builder.environment import build_environment, is_imported_once
from hatch_docker.wheels.builder.failure_hints import NO_MEMORY, hint, remedy
from hatch_docker.wheels.builder.project_cache import cached_compilers
from hatch_docker.wheels.builder.sandbox import Bind, ExhaustedError, run_in
from hatch_docker.wheels.builder.sdist import Sdist, note_table, read_sdist, rust_version, with_table
from hatch_docker.wheels.builder.ssh_agent import SOCKET, forwarded_agent
from hatch_docker.wheels.builder.variables import accounts, build_variables, certificates
from hatch_docker.wheels.fetch import fetch
from hatch_docker.wheels.install.compatibility import check_built
from hatch_docker.wheels.install.layout import VenvTarget
from hatch_docker.wheels.locks.pin import find_hashes, pin_requirements
from hatch_docker.wheels.target import Pin, PinHash, Target, note_used

RECIPE = 1             # increase it if the same sdist must give another wheel
SDIST_RECIPE = 2       # increase it if the same sdist is read differently
RESULT_LIMIT = 1 << 20  # bytes of result.json
KILLED = 128 + signal.SIGKILL
KINDS = ("wheel", "wheel")  # of the tree and of the fact in the cache
FACT = "build-requires"     # requirements of backends in addition to those in pyproject.toml

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BuilderStage:
    """The system that a build runs in: everything that determines the wheel, except the sdist."""

    root: Path                            # the compiler's tree, may not be unpacked; the name is its key
    plan: BuildPlan
    base: Base
    target: Target
    ctx: Context
    project: Path                         # for its index configuration
    image: str = ""                       # build.base, if the root is that image

    @property
    def venv(self) -> VenvTarget:
        """The virtual environment with the build requirements in the sandbox."""
        return VenvTarget(self.base.interpreter, "env")

    @property
    def prefix(self) -> str:
        """The prefix of a base's Python ("/usr/local" in python:3.13-slim); "" if Debian installed it."""
        prefix = self.base.interpreter.path.rpartition("/bin/")[0]
        return "" if prefix == "/usr" else prefix

    def python_tree(self) -> Path:
        """Return the tree that contains the interpreter: the compiler's for Debian's Python, otherwise the base's."""
        return _tree(self.base, self.plan, self.ctx) if self.prefix else self.root

    def compiler_tree(self) -> Path:
        """Return the tree whose Python byte-compiles the build requirements; raise ChangedTreeError.

        For Debian's Python it is the root. For another Python it is the base's tree, which exists earlier than a new
        root.
        """
        tree = _tree(self.base, self.plan, self.ctx) if self.base.interpreter_trust_key else self.root
        self.ctx.store.check_trees()
        return tree

    def pins(self, requires: Sequence[str]) -> tuple[Pin, ...]:
        """Return the pins of build requirements."""
        return pin_requirements(requires, self.project, self.target, self.ctx)

    def hashes(self, requires: Sequence[str]) -> tuple[PinHash, ...] | None:
        """Return the hashes of the pins of build requirements, for cache keys; None if unknown (see `find_hashes`)."""
        return find_hashes(requires, self.project, self.target, self.ctx)

    @property
    def key(self) -> str:
        """A key of everything that determines a wheel, except the sdist and the build requirements."""
        interpreter = self.base.interpreter
        return key_of(
            RECIPE, self.root.name, interpreter.path, interpreter.build, self.base.interpreter_trust_key,
            dict(self.plan.env), dict(self.plan.args), sorted(self.plan.secrets), self.plan.network, self.plan.ssh,
        )

    def key_with(self, source: Sdist, pins: Sequence[Pin | PinHash]) -> str:
        """Return a key of everything that determines the wheel of an sdist, including its build requirements."""
        return key_of(self.key, source.content, [pin.sha256 for pin in pins])


class MoreRequirementsError(Exception):
    """The backend requests build requirements (the arguments) in addition to those in pyproject.toml."""


def find_wheel(sdist: KeptFile, build: BuildPlan, base: Base, target: Target, ctx: Context, root: Path) -> KeptFile:
    """Return the wheel of an sdist for a target. If its digest is in the cache, nothing is unpacked or built.

    `root`: the project whose index configuration the build requirements come from. Raise BuildError with the last lines
    of a failed build, SandboxError if the kernel denies the sandbox, and WheelError if the sdist cannot be read or its
    wheel does not fit.
    """
    source = cached_sdist(sdist, ctx)
    packed_stage = make_builder_stage(source, build, base, target, ctx, root, unpacked=False)

    @functools.cache
    def read() -> Sdist:  # not from a shared cache: the sdist decides which programs are installed and run
        return cached_sdist(sdist, replace(ctx, store=ctx.store.local))

    def make(ctx: Context = ctx) -> Path:
        return with_whole_trees(
            lambda: build_wheel(read(), make_builder_stage(source, build, base, target, ctx, root))
        )

    def find(pins: Sequence[PinHash]) -> KeptFile | None:
        note_used(pins, ctx)
        return find_cached_file(ctx.store, KINDS, packed_stage.key_with(source, pins), make)

    if (found := find_with_all_requirements(FACT, source, packed_stage, find)) is not None:
        return found

    def prepare(ctx: Context) -> None:
        def install_requirements() -> None:
            pins = packed_stage.pins(read().requires)
            fetch(pins, ctx, root=root)
            new = not packed_stage.image and not (ctx.store.root / "trees/builder" / packed_stage.root.name).is_dir()
            if is_imported_once(ctx) or (new and base.interpreter_trust_key):  # it is made without the root
                with_whole_trees(lambda: stage_environment(replace(packed_stage, ctx=ctx), pins))

        def find_partial_root() -> None:  # most likely the root for the archive's current packages
            if not packed_stage.image and not _has_secrets(build):
                find_partial("builder", packed_stage.root.name, ctx)

        def quietly(work: Callable[[], object]) -> None:
            with contextlib.suppress(HatchDockerError):  # the step that needs the result reports the error
                work()

        steps = (install_requirements, lambda: _tree(base, build, ctx), find_partial_root)
        at_once(*(functools.partial(quietly, work) for work in steps))

    def make_first(ctx: Context) -> KeptFile:
        with in_background(ctx, prepare) as prepared:  # used after the builder's root, and by the wheel's layer
            wheel = existing_file(make(ctx))
            prepared()
        return wheel

    try:
        return make_first(replace(ctx, store=ctx.store.with_deferred_checks()))
    except ChangedTreeError:
        return make_first(ctx)


def build_wheel(source: Sdist, stage: BuilderStage) -> Path:
    """Build the wheel of an sdist in a builder stage and return its file; raise what `find_wheel` raises."""
    copy = "sdist.zip" if source.name.endswith(".zip") else "sdist.tar.gz"
    spec = {"sdist": f"/build/{copy}", **({"project": source.subdirectory} if source.subdirectory else {})}

    def fill(build: Path) -> None:
        # A copy that is owned by the sandbox's user, who may not read the file in the cache.
        shutil.copyfile(source.open(), build / copy)

    def make(known: Sequence[str], pins: Sequence[Pin]) -> Path:
        def write(directory: Path) -> Path:
            wheel = run_backend("wheel", source, stage, known, pins, directory, fill, spec)
            check_built(wheel.name, source.name, stage.target)
            note_table(source, wheel, stage.ctx.store)
            if stage.plan.secrets:
                stage.ctx.secrets.check_wheel(wheel)
            return wheel

        key = stage.key_with(source, pins)
        wheel = make_cached_file(stage.ctx.store, KINDS, key, f"the wheel of {source.name}", write)
        note_used(pins, stage.ctx)
        return wheel

    return with_all_requirements(FACT, source, stage, make)


def find_with_all_requirements(
    fact: str, source: Sdist, stage: BuilderStage, find: Callable[[Sequence[PinHash]], KeptFile | None]
) -> KeptFile | None:
    """Call `find` with all build requirements of an sdist and return its result; None if they are unknown.

    See `with_all_requirements`.
    """
    pins = stage.hashes(source.requires)
    if pins is not None and (more := stage.ctx.store.recall(fact, stage.key_with(source, pins))):
        pins = stage.hashes((*source.requires, *more))
    return None if pins is None else find(pins)


def with_all_requirements(
    fact: str, source: Sdist, stage: BuilderStage, make: Callable[[Sequence[str], Sequence[Pin]], Result]
) -> Result:
    """Call `make` with the build requirements and their pins, and return its result.

    The requirements are those of the sdist and those that its backend requests in addition (MoreRequirementsError). The
    latter are stored as `fact` in this machine's cache; those in a shared cache are not installed. Raise BuildError if
    the backend requests more after it got them.
    """
    store = stage.ctx.store
    pins = stage.pins(source.requires)
    key = stage.key_with(source, pins)
    more: Sequence[str] = store.local.recall(fact, key) or ()
    for _ in range(2):
        known = (*source.requires, *more)
        try:
            return make(known, stage.pins(known) if more else pins)
        except MoreRequirementsError as needed:
            more = needed.args
            store.remember(fact, key, list(more))
    raise BuildError(f"{source.name} requests more build requirements each time: {', '.join(more)}")


def cached_sdist(sdist: KeptFile, ctx: Context) -> Sdist:
    """Return `read_sdist` of a file, cached by the file's digest: finding a cached wheel does not unpack the sdist."""

    def read() -> list[Any]:
        found = read_sdist(sdist.open(), sdist.name, sdist.subdirectory)
        return [found.content, found.requires, found.backend, found.backend_path, found.table]

    where = [sdist.subdirectory] if sdist.subdirectory else []
    key = key_of(SDIST_RECIPE, sdist.name, sdist.digest, *where)
    content, requires, backend, backend_path, table = ctx.store.recall_or_make("sdist", key, read)
    system = tuple(requires), backend, tuple(backend_path)
    return with_table(Sdist(sdist.open, sdist.name, content, *system, table, sdist.subdirectory), ctx.store)


def make_builder_stage(
    source: Sdist, build: BuildPlan, base: Base, target: Target, ctx: Context, project: Path, *, unpacked: bool = True
) -> BuilderStage:
    """Return the builder stage for an sdist on a base. Raise BuildError if there is no compiler for the base.

    With `unpacked=False` the root may be missing. Such a stage can find cached wheels and cannot build.
    """
    if not target.builds_here:
        raise BuildError(f"{source.name} cannot be compiled for {base.platform} on this machine; build it there")
    if base.builder and base.builder.plan.kind != "debian":
        note_builder(base.builder, ctx)
        tree = _tree(base.builder, build, ctx) if unpacked else Path(tree_key(base.builder))
        return BuilderStage(tree, build, base.builder, target, ctx, project, base.builder.name)
    base = base.builder or base
    if not base.suite:
        raise BuildError(
            f"{source.name} has to be compiled, and there is no compiler for base {base.name}, which is not "
            "Debian; use debian:<suite>, an image made from Debian, or set build.base to an image with a compiler"
        )
    root = None if unpacked else find_builder(base.plan, base.platform, build.packages, ctx, suite=base.suite)
    if root is None:
        from hatch_docker.bases.debian.base import builder_root

        find = functools.partial(builder_root, base.plan, base.platform, build.packages, ctx, suite=base.suite)
        root = find(unpacked=False)
        if unpacked:
            root = (None if _has_secrets(build) else find_partial("builder", root.name, ctx)) or find()
    note_partial(root.name, ctx)
    return BuilderStage(root, build, base, target, ctx, project)


def _tree(base: Base, build: BuildPlan, ctx: Context) -> Path:
    """Return a base's tree for a builder stage; it may be partial."""
    return (base_tree if _has_secrets(build) else running_tree)(base, ctx)


def _has_secrets(build: BuildPlan) -> bool:
    """Return whether a build has secrets. Programs from a shared cache must not run in such a build."""
    return bool(build.secrets or build.ssh)


def find_cached_file(store: Store, kinds: tuple[str, str], key: str, make: Callable[[], Path]) -> KeptFile | None:
    """Return the file that `make_cached_file` made, None if it is not in the cache. `make` makes its bytes again."""
    known = store.recall(kinds[1], key)
    if known is None:
        return None

    def open_again() -> Path:
        path = make()
        if file_digest(path) != known["digest"]:
            raise DamagedBlobError(f"{path.name} was made again and differs: the build uses the new one")
        return path

    return KeptFile(known["name"], known["digest"], open_again)


def make_cached_file(store: Store, kinds: tuple[str, str], key: str, name: str, make: Callable[[Path], Path]) -> Path:
    """Return the verified file that `make` writes to a directory, from the cache if possible.

    `kinds`: of the tree and of the fact in the cache. `name`: for messages. Raise BuildError if the file is damaged
    again directly after it was made again.
    """
    tree, fact = kinds

    def keep(directory: Path) -> None:
        made = make(directory)
        store.remember(fact, key, {"name": made.name, "digest": file_digest(made)})

    for _ in range(2):
        directory = store.tree(tree, key, keep)
        known = store.recall(fact, key) or {}
        path = directory / str(known.get("name", "missing"))
        if path.is_file() and file_digest(path) == known["digest"]:
            return path
        remove_tree(directory)  # damaged: make it again
    raise BuildError(f"{name} disappeared from the cache; is its disk full or failing?")


def run_backend(
    kind: str, source: Sdist, stage: BuilderStage, known: Sequence[str], pins: Sequence[Pin], directory: Path,
    fill: Callable[[Path], None], spec: Mapping[str, str], binds: Sequence[Bind] = (),
) -> Path:
    """Have the backend of `source` make a `kind`, "wheel" or "sdist", in the sandbox. Return its copy in `directory`.

    `pins`: those of the `known` (installed) requirements. `fill` writes the backend's input to the directory that
    becomes /build. `spec`: additional input of pep517.py. Raise BuildError with the last lines of a failed build, and
    MoreRequirementsError.
    """
    ctx = stage.ctx
    env = build_variables(stage.plan, ctx.environ)
    environment = stage_environment(stage, pins)
    with ctx.progress.task(f"building {source.name} in the builder"), temporary_tree(ctx.store.root / "tmp") as work:
        for path in ("build/src", "build/home", "out"):
            (work / path).mkdir(parents=True)
        shutil.copyfile(Path(__file__).with_name("pep517.py"), work / "build/pep517.py")
        fill(work / "build")
        mounts = [
            Bind(environment / "env", "/env"),
            Bind(work / "build", "/build", writable=True), Bind(work / "out", "/out", writable=True), *binds,
        ]  # fmt: skip
        python = stage.python_tree()
        if stage.prefix:
            mounts.append(Bind(python / stage.prefix[1:], stage.prefix))
        whole = {
            "backend": source.backend, "backend_path": source.backend_path, "known": list(known), **spec,
            "source": "/build/src", "output": "/out", "time": SOURCE_DATE,
        }  # fmt: skip
        with (
            forwarded_agent(ctx.environ, work) if stage.plan.ssh else contextlib.nullcontext() as agent,
            _compiler_cache(source, stage, pins, work) if kind == "wheel" else contextlib.nullcontext([]) as cached,
        ):
            binds = [*mounts, *([Bind(agent, SOCKET)] if agent else []), *cached]
            run: Callable[[], None] = functools.partial(_run, source, stage, whole, binds, env)
            for tree in {stage.root, python}:
                run = functools.partial(watch, tree, ctx, run)
            _run_and_check(run, ctx)
        file = _result_file(work / "out", kind, source.name)
        return Path(shutil.copyfile(file, directory / file.name, follow_symlinks=False))


def stage_environment(stage: BuilderStage, pins: Sequence[Pin]) -> Path:
    """Return the directory with the environment of build requirements; see `build_environment`."""
    return build_environment(
        pins, stage.venv, stage.project, stage.ctx, compiler=stage.compiler_tree,
        trust_key=stage.base.interpreter_trust_key,
    )  # fmt: skip


def _run_and_check(run: Callable[[], None], ctx: Context) -> None:
    """Call `run`, which uses trees of the store that were not verified before, and verify them at the same time.

    Raise ChangedTreeError if a tree was changed, also if `run` fails.
    """
    with in_background(ctx, lambda ctx: ctx.store.check_trees()) as checked:
        try:
            run()
        except HatchDockerError:
            checked()
            raise
        checked()


def _compiler_cache(
    source: Sdist, stage: BuilderStage, pins: Sequence[Pin], work: Path
) -> contextlib.AbstractContextManager[list[Bind]]:
    """Return the binds of the project's compiler cache as a context manager; no binds if the cache is disabled.

    It is disabled with a shared cache, whose contents must not affect the compiler's output.
    """
    ctx, interpreter = stage.ctx, stage.base.interpreter
    if not stage.plan.compiler_cache or ctx.no_cache or ctx.store.uses_shared:
        return contextlib.nullcontext([])
    project = str(stage.project.resolve()), source.name.rpartition("-")[0]
    system = stage.root.name, interpreter.path, stage.base.interpreter_trust_key, [pin.sha256 for pin in pins]
    return cached_compilers(key_of("compilers", *project, *system), stage.root, interpreter.path, work, ctx)


def _run(
    source: Sdist, stage: BuilderStage, spec: Mapping[str, Any], binds: Sequence[Bind], env: Mapping[str, str]
) -> None:
    ctx, plan, name = stage.ctx, stage.plan, source.name
    try:
        run_in(
            stage.root, ["/env/bin/python", "/build/pep517.py", json.dumps(spec)],
            env=env, binds=binds, files={**accounts(stage.root), **certificates(ctx.environ, network=plan.network)},
            network=plan.network, cwd="/build", log=ctx.progress.detail,
            secrets=[*(env[name] for name in plan.secrets), *ctx.secrets.values()],
            merge=True, environ=ctx.environ, timeout=plan.timeout, memory=plan.memory,
        )  # fmt: skip
    except TimedOut:
        raise BuildError(
            f"building {name} took longer than {plan.timeout:g} s and was stopped; increase [tool.hatch-docker.build] "
            "timeout"
        ) from None
    except ExhaustedError as error:
        raise BuildError(f"building {name}: {error}") from None
    except ProcessFailed as failure:
        from hatch_docker.bases.debian.suite import Suite

        suite = Suite(stage.base.plan, stage.base.suite, stage.base.platform.architecture, ctx)
        rust = functools.partial(rust_version, source)
        cause, lines = ("", "") if stage.image else remedy(failure.output, plan.packages, suite, rust)
        cause = cause or hint(failure.output, network=plan.network, image=stage.image)
        if failure.status == KILLED and not cause:
            cause = NO_MEMORY
        text = "\n".join(filter(None, [failure.output or "(its build printed nothing)", lines]))
        raise BuildError(f"building {name} failed with status {failure.status}{cause}:\n{text}") from None


def _result_file(output: Path, kind: str, source: str) -> Path:
    """Return the file that the backend made, named in result.json. The backend could have written result.json itself.

    Raise MoreRequirementsError, and BuildError if result.json or the file is not a regular file.
    """
    path = output / "result.json"
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or path.lstat().st_size > RESULT_LIMIT:
            raise ValueError("not a small file")
        result = json.loads(path.read_bytes())
        if not isinstance(result, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise BuildError(f"the build ended without its result: {error}") from error
    requires = result.get("requires")
    if isinstance(requires, list) and requires:
        raise MoreRequirementsError(*map(str, requires))
    name = str(result.get(kind, ""))
    made = output / name
    if not name or "/" in name or not made.exists() or not stat.S_ISREG(made.lstat().st_mode):
        raise BuildError(f"building {source}: its backend reported the result {name!r}, but there is no such file")
    if made.stat().st_size > shutil.disk_usage(output).free:  # a sparse file takes its full size when it is copied
        raise BuildError(f"building {source}: {name} has {megabytes(made.stat().st_size)}, more than the disk has free")
    return made
