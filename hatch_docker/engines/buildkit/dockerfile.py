"""Renderer of the multi-stage Dockerfile of a plan. All values are quoted by one function.

    tools       the installer `stage_install`
    wheels-*    wheels from the context; one stage for each group, so that a change affects one group only
    packages-*  .deb files from the context, in the same way
    build-*     builds a wheel from an sdist, in the compiler's stage with the build requirements; only if necessary
    install-*   installs wheels into a tree, byte-compiled by the base's Python
    system      the base with `runtime.packages`; only if there are any
    tree-*      the base or `system`, the trees, and the outputs of earlier steps; only if there are steps
    step-*      runs a step in tree-*, and contains its outputs
    runtime     the image: the base or `system` and the trees. It has no RUN, so the base needs no shell

Only builds and steps with `network`, and apt without .deb files in the context (an archive other than Debian's), use
the network. No stage needs a package index. COPY has no --link, because Podman does not support it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hatch_docker.core.errors import ConfigError
from hatch_docker.oci.make_image import Settings
from hatch_docker.oci.paths import SOURCE_DATE
from hatch_docker.plan.model import VENV, BuildPlan
from hatch_docker.wheels.builder.compiler_cache import DIRECTORY as COMPILER_CACHE
from hatch_docker.wheels.builder.variables import CERTIFICATES, fixed_env
from hatch_docker.wheels.install.slim import NONE, Rules

TREE = "/out/tree"      # two levels deep, because BuildKit hashes the parent directory of a copied path
WHEEL = "/out/wheel"
HEALTHCHECK_TIMES = {
    "interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod", "start-interval": "StartInterval",
}  # options of HEALTHCHECK and their names in the image's configuration
LEFT_OUT = "/out/slim"  # the report of `stage_install` about files that were left out
EXPORT = "export"
COMPILER = ("ca-certificates", "g++", "gcc", "libc6-dev", "make", "patch", "pkgconf", "xz-utils")
# Files that apt creates and that belong to no package.
APT_LEFTOVERS = (
    "/var/cache/apt/*", "/var/cache/debconf/*-old", "/var/cache/debconf/tmp.ci", "/var/cache/ldconfig/*",
    "/var/lib/apt/lists/*", "/var/lib/dpkg/*-old", "/var/log/alternatives.log",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Group:
    """Wheels that are installed into one tree, which becomes one layer.

    The wheels are in `wheels/NAME/` of the context; with `build`, the wheel is built from the sdist in `build/NAME/`.
    """

    name: str                                 # a package's name, or "packages"
    kind: str                                 # in the receipt: dependencies or project
    contents: tuple[str, ...]
    build: BuildPlan | None = None
    venv: bool = False                        # add the virtual environment's own files
    rules: Rules = NONE                       # the files to leave out
    cache: str = ""                           # the id of the cache mount for the build's compiler cache


@dataclass(frozen=True, slots=True)
class Step:
    """A step in the finished file tree; its files are in `steps/NUMBER/` of the context."""

    number: int                               # from 1
    secrets: tuple[str, ...] = ()
    network: bool = False
    inputs: bool = False                      # files of the project are mounted


@dataclass(frozen=True, slots=True)
class Packages:
    """Debian packages that apt installs in a stage.

    `in_context`: their .deb files are in `packages/STAGE/` of the context; else apt downloads them by name.
    """

    names: tuple[str, ...]
    in_context: bool


@dataclass(frozen=True, slots=True)
class Stages:
    """Values of a Dockerfile. `base` and `compiler` are references of images."""

    base: str
    python: str                               # the absolute path of the base's interpreter
    compiler: str = ""                        # an image with a compiler, "": the base, with `tools` installed
    compiler_python: str = ""                 # the interpreter of `compiler`, "" if it is the base's
    compiler_user: bool = False               # `compiler` has a user other than root
    tools: Packages | None = None             # the compiler's packages
    system: Packages | None = None            # runtime.packages
    user: bool = False                        # the base has a user other than root
    groups: tuple[Group, ...] = ()
    tars: tuple[str, ...] = ()                # names of the context's NAME.tar that are added to the image
    steps: tuple[Step, ...] = ()
    certificates: bool = False                # builds with network trust the context's certificates/


def quoted(text: str, what: str = "the value") -> str:
    """Return a quoted word that BuildKit and buildah read as exactly `text`.

    In double quotes, their lexer accepts a backslash before a backslash, a double quote and a dollar. Raises
    ConfigError for a line break, which always ends an instruction.
    """
    if "\n" in text or "\0" in text:
        raise ConfigError(
            f"a Dockerfile cannot contain {what} {text[:40]!r}: it has a line break; "
            'leave it out, or let hatch-docker set it (engine = "embedded" or "buildkit" builds the image)'
        )
    return '"' + re.sub(r'(["\\$])', r"\\\1", text) + '"'


def key_value(name: str, value: str) -> str:
    """Return NAME="VALUE" for ENV, LABEL and ARG; the name is quoted only if necessary."""
    plain = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name)
    return f"{name if plain else quoted(name)}={quoted(value, f'{name} =')}"


def exec_form(*texts: str) -> str:
    """Return the exec form of an instruction: a JSON list, in which variables are not replaced."""
    return json.dumps(texts, ensure_ascii=False)


def render(stages: Stages, settings: Settings) -> str:
    """Return the whole Dockerfile; raises ConfigError for a value that a Dockerfile cannot contain."""
    return "\n".join([*_build_stages(stages), *_runtime(stages, settings)]) + "\n"


def render_export(stages: Stages) -> str:
    """Return a Dockerfile with the stages up to the trees, and the stage `export` with the trees and built wheels."""
    copies = ["COPY --from=changes /out/system/ /system/"] if stages.system else []
    for group in stages.groups:
        copies.append(f"COPY --from=install-{group.name} {TREE}/ /tree/{group.name}/")
        if group.rules.leave_out:
            copies.append(f"COPY --from=install-{group.name} {LEFT_OUT}/ /slim/{group.name}/")
        if group.build:
            copies.append(f"COPY --from=build-{group.name} {WHEEL}/ /wheel/{group.name}/")
    changes = _changes(stages) if stages.system else ()
    return "\n".join([*_build_stages(stages), *changes, f"FROM scratch AS {EXPORT}", *copies]) + "\n"


def render_step(step: Step, below: str, python: str, *, certificates: bool) -> str:
    """Return a Dockerfile that runs one step on the image `below`, and exports its outputs in the directory `tree`."""
    lines = [f"FROM {below} AS tree-{step.number}", ""]
    lines += _certificates() if certificates else []
    lines += _step(step, python, certificates=certificates)
    return "\n".join([*lines, f"FROM scratch AS {EXPORT}", f"COPY --from=step-{step.number} {TREE}/ /tree/"]) + "\n"


def _certificates() -> list[str]:
    return ["FROM scratch AS certificates", "COPY certificates/ /in/certificates/", ""]


def _step(step: Step, python: str, *, certificates: bool) -> Iterator[str]:
    """Yield the stages of a step: its files, and its command in the file tree below."""
    name, files = f"step-{step.number}", f"files-{step.number}"
    yield from (f"FROM scratch AS {files}", f"COPY steps/{step.number}/ /in/step/", "")
    yield f"FROM tree-{step.number} AS {name}"
    yield "# hadolint ignore=DL3002"  # `stage_step` changes to the image's user
    yield "USER 0:0"
    mounts = {"/step": f"{files}:/in/step", "/before": f"tree-{step.number}:/"}
    if step.inputs:
        mounts["/inputs"] = f"{files}:/in/step/inputs"
    if step.network and certificates:
        mounts[CERTIFICATES] = f"certificates:/in/certificates/{CERTIFICATES.rpartition('/')[2]}"
    command = [python, "-I", "-S", "-B", "/step/step.py", "/step/step.json", "/before", TREE]
    yield _run(command, mounts, network=step.network, secrets=step.secrets, memory=("/tmp",))  # noqa: S108
    yield ""


def _build_stages(stages: Stages) -> Iterator[str]:
    """Yield the lines of all stages before the trees and the runtime stage."""
    yield from (f"FROM {stages.base} AS base", "")
    yield "# Our installer: standard library only, run by the base's own Python."
    yield from ("FROM scratch AS tools", "COPY tools/ /in/tools/", "")
    if any(group.build for group in stages.groups):
        yield "# What compiles, and never reaches the image."
        if stages.tools:
            yield from _apt("compiler", stages.tools, stages)
        else:
            yield f"FROM {stages.compiler or 'base'} AS compiler"
            yield from _as_root(stages.compiler_user)
            yield ""
    if stages.certificates:
        yield from _certificates()
    if stages.system:
        yield "# runtime.packages, with their maintainer scripts."
        yield from _apt("system", stages.system, stages)
    for group in stages.groups:
        if group.build:
            yield from _build(group, group.build, stages)
        else:
            yield from (f"FROM scratch AS wheels-{group.name}", f"COPY wheels/{group.name}/ /in/wheels/", "")
        yield from _install(stages, group)


def _apt(stage: str, packages: Packages, stages: Stages) -> Iterator[str]:
    """Yield a stage that installs packages in the base, without apt's temporary files."""
    yield from (f"FROM scratch AS packages-{stage}", f"COPY packages/{stage}/ /in/packages/", "")
    yield f"FROM base AS {stage}"
    yield from _as_root(stages.user)
    # useradd writes today's date into /etc/shadow; SOURCE_DATE_EPOCH fixes it.
    variables = f"APT_CONFIG=/packages/apt.conf DEBIAN_FRONTEND=noninteractive SOURCE_DATE_EPOCH={SOURCE_DATE}"
    install = "apt-get install --yes --no-install-recommends"
    if packages.in_context:
        commands, options = [f"{install} /packages/*.deb"], ["--network=none"]
    else:
        commands, options = ["apt-get update", f"{install} {' '.join(packages.names)}"], []
        yield "# hadolint ignore=DL3008"
    options += [f"--mount=type=bind,from=packages-{stage},source=/in/packages,target=/packages"]
    steps = " \\\n    && ".join([f"export {variables}", *commands, f"rm -rf {' '.join(APT_LEFTOVERS)}"])
    yield " \\\n    ".join([f"RUN {options[0]}", *options[1:], steps])
    yield ""


def _changes(stages: Stages) -> Iterator[str]:
    """Yield a stage that writes the difference between the base and `system` as a layer's tar."""
    yield from ("FROM scratch AS changes-tools", "COPY changes/ /in/tools/", "")
    yield "FROM base AS changes"
    yield from _as_root(stages.user)
    yield _run(
        [stages.python, "-I", "-S", "/tools/changes.py", "/before", "/after", "/out/system"],
        {"/tools": "changes-tools:/in/tools", "/before": "base:/", "/after": "system:/"},
    )
    yield ""


def _as_root(user: bool) -> Iterator[str]:
    if user:
        yield "# hadolint ignore=DL3002"  # no container runs from this stage
        yield "USER 0:0"


def _build(group: Group, build: BuildPlan, stages: Stages) -> Iterator[str]:
    """Yield the stages that build a wheel: one installs the build requirements, the next one builds the sdist."""
    name = group.name
    multiline = multiline_variables(build)
    yield from (f"FROM scratch AS requires-{name}", f"COPY build/{name}/wheels/ /in/wheels/", "")
    yield from (f"FROM scratch AS sdist-{name}", f"COPY build/{name}/sdist/ /in/sdist/", "")
    yield f"FROM compiler AS environment-{name}"
    yield _run(
        [
            stages.compiler_python or stages.python, "-I", "-S", "/tools/install.py", "/wheels", "/", "env", "--venv",
            "--empty",
        ],
        {"/tools": "tools:/in/tools", "/wheels": f"requires-{name}:/in/wheels"},
    )
    yield ""
    yield f"FROM environment-{name} AS build-{name}"
    for key, value in build.args.items():
        if key not in multiline:
            yield f"ARG {key_value(key, value)}"
    # The variables of the embedded engine's sandbox, except those that ARG sets.
    env = {key: value for key, value in fixed_env(build).items() if key not in build.args and key not in multiline}
    yield "ENV " + " \\\n    ".join(key_value(key, value) for key, value in env.items())
    mounts = {"/tools": "tools:/in/tools", "/sdist": f"sdist-{name}:/in/sdist"}
    if build.network and stages.certificates:
        mounts[CERTIFICATES] = f"certificates:/in/certificates/{CERTIFICATES.rpartition('/')[2]}"
    command = ["/env/bin/python", "/tools/pep517.py", "/sdist/spec.json"]
    yield _run(command, mounts, network=build.network, secrets=build.secrets, ssh=build.ssh, cache=group.cache)
    yield ""


def _install(stages: Stages, group: Group) -> Iterator[str]:
    options = ["--venv"] if group.venv else []
    options += [f"--leave-out={kind}" for kind in group.rules.leave_out]
    options += [f"--locale={language}" for language in group.rules.locales]
    options += [f"--keep={pattern}" for pattern in group.rules.keep]
    source = f"build-{group.name}:{WHEEL}" if group.build else f"wheels-{group.name}:/in/wheels"
    yield f"FROM base AS install-{group.name}"
    yield from _as_root(stages.user)
    yield _run(
        [stages.python, "-I", "-S", "/tools/install.py", "/wheels", TREE, VENV, *options],
        {"/tools": "tools:/in/tools", "/wheels": source},
    )
    yield ""


def _run(
    command: Sequence[str], mounts: Mapping[str, str], *, network: bool = False, secrets: Sequence[str] = (),
    ssh: bool = False, cache: str = "", memory: Sequence[str] = (),
) -> str:
    options = [] if network else ["--network=none"]
    for target, source in mounts.items():
        stage, _, path = source.partition(":")
        options.append(f"--mount=type=bind,from={stage},source={path},target={target}")
    options += [f"--mount=type=cache,id={cache},target={COMPILER_CACHE}"] if cache else []
    options += [f"--mount=type=tmpfs,target={target}" for target in memory]
    # Secrets are mounted as files: BuildKit before 0.15 and buildah cannot set them as variables.
    options += [f"--mount=type=secret,id={name},required=true" for name in secrets]
    options += ["--mount=type=ssh,required=true"] if ssh else []
    return " \\\n    ".join([f"RUN {options[0]}", *options[1:], exec_form(*command)])


def _tree(stages: Stages, name: str) -> Iterator[str]:
    """Yield a stage with the base, the trees, the files and the volumes."""
    yield f"FROM {'system' if stages.system else 'base'} AS {name}"
    for group in stages.groups:
        yield f"COPY --from=install-{group.name} {TREE}/ /"
    # ADD unpacks a tar. COPY would change mode and owner of the base's directories, such as /tmp and /root.
    yield from (f"ADD {name}.tar /" for name in stages.tars)


def multiline_variables(build: BuildPlan) -> dict[str, str]:
    """Return the variables of a build with line breaks; they are in the context's spec.json, not in the Dockerfile."""
    return {name: value for name, value in {**build.args, **build.env}.items() if "\n" in value}


def _runtime(stages: Stages, settings: Settings) -> Iterator[str]:
    """Yield the stages of the steps and the last stage, whose configuration equals that of `oci.make_image`."""
    if stages.steps:
        yield "# The finished file tree, in which the steps run."
        yield from _tree(stages, "tree-1")
    for step in stages.steps:
        yield ""
        yield from _step(step, stages.python, certificates=stages.certificates)
        if step is not stages.steps[-1]:
            yield f"FROM tree-{step.number} AS tree-{step.number + 1}"
            yield f"COPY --from=step-{step.number} {TREE}/ /"
    yield "# The image: the base and the trees, and nothing that made them."
    if stages.steps:
        last = stages.steps[-1].number
        yield from (f"FROM tree-{last} AS runtime", f"COPY --from=step-{last} {TREE}/ /")
    else:
        yield from _tree(stages, "runtime")
    for instruction, values in (("ENV", settings.env), ("LABEL", settings.labels)):
        if values:
            yield f"{instruction} " + " \\\n    ".join(key_value(key, value) for key, value in sorted(values.items()))
    for port in settings.ports:
        yield f"EXPOSE {port}"
    if settings.volumes:
        yield f"VOLUME {exec_form(*(quoted(volume) for volume in settings.volumes))}"
    if settings.workdir:
        yield f"WORKDIR {quoted(settings.workdir)}"
    if settings.stop_signal:
        yield f"STOPSIGNAL {settings.stop_signal}"
    if check := settings.healthcheck:
        options = []
        for option, key in HEALTHCHECK_TIMES.items():
            if key in check:
                seconds, rest = divmod(check[key], 10**9)  # linters accept the units s, m and h only
                options.append(f"--{option}={check[key] // 10**6}ms" if rest else f"--{option}={seconds}s")
        options += [f"--retries={check['Retries']}"] if "Retries" in check else []
        yield " ".join(["HEALTHCHECK", *options, "CMD", exec_form(*check["Test"][1:])])
    if settings.user.partition(":")[0] == "0":
        yield "# hadolint ignore=DL3002"  # the user has configured it
    yield f"USER {settings.user}"
    if settings.entrypoint or settings.cmd:
        yield f"ENTRYPOINT {exec_form(*settings.entrypoint)}"
        yield f"CMD {exec_form(*settings.cmd)}"
