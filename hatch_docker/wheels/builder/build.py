"""The builder stage: an sdist becomes a wheel in a sandbox that has a compiler, and leaves only the wheel.

The sandbox's root is Debian of the base's suite with the compiler and the base's Python (`builder_root`); the
build requirements are wheels, resolved and fetched out here, so that no login of an index ever gets in.

    /env      the build requirements, a virtual environment, read-only
    /build    the unpacked sdist and HOME, the same path in every build
    /out      where the wheel has to appear
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import stat
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatch_docker.bases.image import base_tree
from hatch_docker.bases.model import Base
from hatch_docker.core.cache.store import file_digest, key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, WheelError
from hatch_docker.core.files import remove_tree, temporary_tree
from hatch_docker.core.process import ProcessFailed
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.plan.model import BuildPlan
from hatch_docker.wheels.builder.environment import build_environment
from hatch_docker.wheels.builder.failure_hints import hint
from hatch_docker.wheels.builder.sandbox import Bind, run_in
from hatch_docker.wheels.builder.sdist import Sdist, read_sdist
from hatch_docker.wheels.builder.ssh_agent import SOCKET, lent
from hatch_docker.wheels.builder.variables import accounts, build_variables, certificates
from hatch_docker.wheels.install.venv import VenvTarget, check_made
from hatch_docker.wheels.locks.pin import pin_requirements
from hatch_docker.wheels.target import Pin, Target, note_used

RECIPE = 1             # raise it when the same sdist shall give another wheel
RESULT_LIMIT = 1 << 20  # bytes that the build may tell us


@dataclass(frozen=True, slots=True)
class Builder:
    """What a build runs in, and everything that decides its wheel but the sdist."""

    root: Path                            # the compiler's tree; its name is its key
    plan: BuildPlan
    base: Base
    target: Target
    ctx: Context
    project: Path                         # whose index configuration holds

    @property
    def venv(self) -> VenvTarget:
        """Where the build requirements are in the sandbox."""
        return VenvTarget(self.base.interpreter, "env")

    @property
    def prefix(self) -> str:
        """Where the base's Python is, if it is one of its own (python:3.13-slim's "/usr/local"), else ""."""
        prefix = self.base.interpreter.path.rpartition("/bin/")[0]
        return "" if prefix == "/usr" else prefix

    def python_tree(self) -> Path:
        """The tree that the interpreter is in: Debian's is the compiler's, another came with the base."""
        return base_tree(self.base, self.ctx) if self.prefix else self.root

    @property
    def key(self) -> str:
        """A key of all that decides a wheel here."""
        interpreter = self.base.interpreter
        return key_of(
            RECIPE, self.root.name, interpreter.path, interpreter.version, self.base.interpreter_trust_key,
            dict(self.plan.env), dict(self.plan.args), sorted(self.plan.secrets), self.plan.network, self.plan.ssh,
        )


def build_wheel(
    sdist: Path, build: BuildPlan, base: Base, target: Target, ctx: Context, *, root: Path, filename: str = ""
) -> Path:
    """The wheel of an sdist for one target, from the store where the same build was done before.

    `filename` is the sdist's own name where `sdist` has another, as in the store; `root` is the project whose
    index configuration the build requirements come from. The path returned ends in the wheel's own name.
    Raises BuildError with the last lines of a failed build, SandboxError where the kernel refuses one, and
    WheelError for an sdist that cannot be read or gives a wheel that does not fit.
    """
    source = known_sdist(sdist, filename, ctx)
    return wheel_of(source, make_builder(source, build, base, target, ctx, root))


def wheel_of(source: Sdist, builder: Builder) -> Path:
    """The wheel of an sdist out of a builder at hand; see `build_wheel`."""
    ctx = builder.ctx
    known = source.requires
    pins = _pins(known, builder)
    asked = key_of(builder.key, source.content, _hashes(pins))
    more = ctx.store.recall("build-requires", asked)
    if more:
        known = (*known, *more)
        pins = _pins(known, builder)
    try:
        return _stored(source, builder, known, pins)
    except MoreNeededError as needed:
        ctx.store.remember("build-requires", asked, list(needed.requires))
        known = (*source.requires, *needed.requires)
        try:
            return _stored(source, builder, known, _pins(known, builder))
        except MoreNeededError as again:
            raise BuildError(f"{source.name} never stops asking for build requirements: {again}") from None


def known_sdist(path: Path, name: str, ctx: Context) -> Sdist:
    """What `read_sdist` reads, remembered by the file's digest: nothing is unpacked to find a wheel again."""
    name = name or path.name
    key = key_of(RECIPE, name, file_digest(path))
    if fact := ctx.store.recall("sdist", key):
        content, requires, backend, backend_path = fact
        return Sdist(path, name, content, tuple(requires), backend, tuple(backend_path))
    found = read_sdist(path, name)
    ctx.store.remember("sdist", key, [found.content, found.requires, found.backend, found.backend_path])
    return found


def metadata_of(wheel: Path) -> bytes:
    """The core metadata of a wheel (METADATA), for a resolver; raises WheelError, naming the wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
            if len(names) == 1 and archive.getinfo(names[0]).file_size <= RESULT_LIMIT:
                return archive.read(names[0])
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise WheelError(f"cannot read the wheel {wheel.name}: {error}") from error
    raise WheelError(f"the wheel {wheel.name} has no METADATA of its own")


class MoreNeededError(Exception):
    """The backend asks for requirements beside those of pyproject.toml."""

    def __init__(self, requires: Sequence[str]) -> None:
        super().__init__(", ".join(requires))
        self.requires = tuple(requires)


def make_builder(
    source: Sdist, build: BuildPlan, base: Base, target: Target, ctx: Context, project: Path
) -> Builder:
    """The builder for an sdist on a base; raises BuildError where there can be none."""
    from hatch_docker.wheels.locks.pylock import builds_here

    if not builds_here(target):
        raise BuildError(f"{source.name} cannot be compiled for {base.platform} on this machine; build it there")
    if not base.suite:
        raise BuildError(
            f"{source.name} has to be compiled, and there is no compiler for base {base.name}, which is not "
            "Debian; use debian:<suite> or an image made from Debian"
        )
    from hatch_docker.bases.debian.base import builder_root

    tree = builder_root(base.plan, base.platform, build.packages, ctx, suite=base.suite)
    return Builder(tree, build, base, target, ctx, project)


def _pins(requires: Sequence[str], builder: Builder) -> tuple[Pin, ...]:
    return pin_requirements(requires, builder.project, builder.target, builder.ctx)


def _hashes(pins: Sequence[Pin]) -> list[str]:
    return [pin.sha256 for pin in pins]


def _stored(source: Sdist, builder: Builder, known: Sequence[str], pins: Sequence[Pin]) -> Path:
    """The wheel as the store has it, verified; built where it has none. Raises MoreNeededError."""
    store = builder.ctx.store
    key = key_of(builder.key, source.content, _hashes(pins))

    def make(directory: Path) -> None:
        wheel = _build(source, builder, known, pins, directory)
        if builder.plan.secrets:
            builder.ctx.secrets.check_wheel(wheel)
        store.remember("wheel", key, {"name": wheel.name, "digest": file_digest(wheel)})

    for _ in range(2):
        directory = store.tree("wheel", key, make)
        fact = store.recall("wheel", key) or {}
        wheel = directory / str(fact.get("name", "missing"))
        if wheel.is_file() and file_digest(wheel) == fact["digest"]:
            note_used(pins, builder.ctx)
            return wheel
        remove_tree(directory)  # damaged: made once more
    raise BuildError(f"the cache loses the wheel of {source.name}; is its disk full or failing?")


def _build(
    source: Sdist, builder: Builder, known: Sequence[str], pins: Sequence[Pin], directory: Path
) -> Path:
    """Build into `directory` and return the wheel there."""
    spec = {
        "sdist": "/build/sdist.tar.gz", "backend": source.backend, "backend_path": source.backend_path,
        "known": list(known),
    }  # fmt: skip

    def fill(build: Path) -> None:
        # A copy, which becomes the sandbox's user's: in the store it may be ours alone.
        shutil.copyfile(source.path, build / "sdist.tar.gz")

    def take(result: Mapping[str, Any], output: Path) -> Path:
        return _take(result, output, directory, source, builder.target)

    return in_builder(source.name, spec, builder, pins, fill, take)


def in_builder(
    name: str, spec: Mapping[str, Any], builder: Builder, pins: Sequence[Pin], fill: Callable[[Path], None],
    take: Callable[[Mapping[str, Any], Path], Path], binds: Sequence[Bind] = (),
) -> Path:
    """Have the driver (pep517.py) do what `spec` says, with the pinned build requirements; what `take` gives of it.

    `fill` puts into /build what the driver works on; `take` gets its result and the directory of its output, which
    are gone afterwards. Raises BuildError with the last lines of a failed build.
    """
    ctx = builder.ctx
    env = build_variables(builder.plan, ctx.environ)
    environment = build_environment(
        pins, builder.venv, builder.project, ctx, compiler=builder.python_tree,
        trust_key=builder.base.interpreter_trust_key,
    )
    with ctx.progress.task(f"building {name} in the builder"), temporary_tree(ctx.store.root / "tmp") as work:
        for path in ("build/src", "build/home", "out"):
            (work / path).mkdir(parents=True)
        shutil.copyfile(Path(__file__).with_name("pep517.py"), work / "build/pep517.py")
        fill(work / "build")
        mounts = [
            Bind(environment / "env", "/env"),
            Bind(work / "build", "/build", writable=True), Bind(work / "out", "/out", writable=True), *binds,
        ]  # fmt: skip
        if builder.prefix:
            mounts.append(Bind(builder.python_tree() / builder.prefix[1:], builder.prefix))
        whole = {**spec, "source": "/build/src", "output": "/out", "time": SOURCE_DATE}
        with lent(ctx.environ, work) if builder.plan.ssh else contextlib.nullcontext() as agent:
            _run(name, builder, whole, [*mounts, *([Bind(agent, SOCKET)] if agent else [])], env)
        return take(_result(work / "out"), work / "out")


def _run(name: str, builder: Builder, spec: Mapping[str, Any], binds: Sequence[Bind], env: Mapping[str, str]) -> None:
    ctx = builder.ctx
    try:
        run_in(
            builder.root, ["/env/bin/python", "/build/pep517.py", json.dumps(spec)],
            env=env, binds=binds, files={**accounts(builder.root), **certificates(builder.plan, ctx.environ)},
            network=builder.plan.network, cwd="/build",
            log=ctx.progress.detail, secrets=[env[name] for name in builder.plan.secrets], merge=True,
            environ=ctx.environ,
        )  # fmt: skip
    except ProcessFailed as failure:
        told = hint(failure.output, network=builder.plan.network)
        raise BuildError(f"building {name} failed with status {failure.status}{told}:\n{failure.output}") from None


def _result(output: Path) -> dict[str, Any]:
    """What the build says it did. Written by foreign code: nothing but a small file is read."""
    path = output / "result.json"
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or path.lstat().st_size > RESULT_LIMIT:
            raise ValueError("not a small file")
        result = json.loads(path.read_bytes())
        if isinstance(result, dict):
            return result
    except (OSError, ValueError, RecursionError) as error:
        raise BuildError(f"the build ended without its result: {error}") from error
    raise BuildError("the build ended without its result")


def _take(result: Mapping[str, Any], output: Path, directory: Path, source: Sdist, target: Target) -> Path:
    """Move the wheel out of the sandbox's directory once it is one that fits. Raises MoreNeededError."""
    name = made_file(result, "wheel", output, source.name)
    check_made(name, source.name, target)
    shutil.copyfile(output / name, directory / name, follow_symlinks=False)
    return directory / name


def made_file(result: Mapping[str, Any], kind: str, output: Path, source: str) -> str:
    """The name of the file that a hook says it made, once it is there. Raises MoreNeededError and BuildError."""
    requires = result.get("requires")
    if isinstance(requires, list) and requires:
        raise MoreNeededError([str(line) for line in requires])
    name = str(result.get(kind, ""))
    made = output / name
    if not name or "/" in name or not made.exists() or not stat.S_ISREG(made.lstat().st_mode):
        raise BuildError(f"building {source}: its backend says that it made {name!r}, and there is no such file")
    return name
