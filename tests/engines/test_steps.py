"""Steps: the layer of a command's outputs, other architectures, inputs, and errors."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hatch_docker.bases.image import base_of
from hatch_docker.bases.model import Base
from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, ConfigError
from hatch_docker.engines.model import BuiltImage, LayerInfo
from hatch_docker.engines.step_sandbox import make_readable, run_in_sandbox
from hatch_docker.engines.steps import KIND, StepRun, Steps, step_layers, write_error_hint
from hatch_docker.oci.compression import Compression
from hatch_docker.oci.filesystem import write_entries
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.make_image import Settings
from hatch_docker.oci.model import Layer
from hatch_docker.oci.tar import Entry
from hatch_docker.plan.model import BasePlan
from tests.fakes.bases import debian_layer, directory, file, link, python_layer
from tests.fakes.context import context
from tests.fakes.images import image_of, layer_of
from tests.fakes.plans import plan
from tests.fakes.sandbox_roots import need_sandbox, program_root
from tests.projects import write_files

SETTINGS = Settings(user="65532", env={"PATH": "/usr/local/bin:/usr/bin"})
COMMAND = ["python3.13", "-m", "collect"]


def base(tmp_path: Path) -> Base:
    extra = layer_of([directory("srv", 0o700), file("srv/file", "x"), link("lib", "usr/lib"), link("scratch", "/tmp")])
    image = image_of(debian_layer(), python_layer(), extra)
    return base_of(BasePlan("registry", "test", "test"), image, context(tmp_path / "store"))


def layers(
    tmp_path: Path, written: list[Entry], *, host_image: BuiltImage | None = None, lines: list[str] | None = None,
    runs: list[StepRun] | None = None, engine: str = "embedded", **step: Any,
) -> list[tuple[Layer, LayerInfo]]:  # fmt: skip
    """Return the layers of a plan with one step that writes the entries `written`; `step`: its options."""

    def run(step: StepRun, work: Path, _ctx: Context) -> list[Entry]:
        assert list(work.iterdir()) == []
        (runs if runs is not None else []).append(step)
        return written

    with_step = plan({"steps": [{"command": COMMAND, "outputs": ["/srv/static/"], **step}]})
    steps = Steps(engine, run, (lambda: host_image) if host_image else None)
    ctx = context(tmp_path / "store", lines)
    return step_layers(with_step, base(tmp_path), [], SETTINGS, tmp_path, Compression(), steps, ctx)


def file_entry(path: str, content: bytes = b"x") -> Entry:
    return Entry(path, "file", 0o644, 0, size=len(content), content=content)


def test_layer_has_new_files_and_missing_directories(tmp_path: Path) -> None:
    """It has no directories of the base; the second build does not run the step."""
    runs: list[StepRun] = []
    written = [Entry("srv", "directory", 0o777, 0), file_entry("srv/static/b/a"), Entry("srv/c", "directory", 0o777, 0)]
    for cached in (False, True):
        ((layer, note),) = layers(tmp_path, written, runs=runs)
        assert note == LayerInfo(KIND, ("/srv/static",), cached)
    found = {entry.path: entry.mode for entry, _ in layer_entries(layer)}
    assert found == {"srv/c": 0o755, "srv/static": 0o755, "srv/static/b": 0o755, "srv/static/b/a": 0o644}
    (run,) = runs
    assert (run.outputs, run.user, run.cwd, run.env["HOME"]) == (("srv/static",), (65532, 0), "/", "/tmp")


def test_changed_input_runs_the_step_again(tmp_path: Path) -> None:
    runs: list[StepRun] = []
    (tmp_path / "assets/deep").mkdir(parents=True)
    (tmp_path / "dist").mkdir()
    for name in ("manage.py", "assets/deep/a.css", "assets/b.css", "dist/c.css"):
        (tmp_path / name).write_text(name)
    for text in ("one", "one", "two"):
        (tmp_path / "manage.py").write_text(text)
        layers(tmp_path, [file_entry("srv/x")], runs=runs, inputs=["manage.py", "**/*.css"])
    assert len(runs) == 2
    found = {path for path, entry in runs[0].inputs.items() if entry.kind == "file"}
    assert found == {"inputs/manage.py", "inputs/assets/deep/a.css", "inputs/assets/b.css"}
    assert runs[0].cwd == "/inputs"


def test_input_changed_during_the_step_is_an_error(tmp_path: Path) -> None:
    """Otherwise the layer would be cached under the key of the unchanged file."""
    (tmp_path / "a.css").write_text("before")
    with_step = plan({"steps": [{"command": COMMAND, "outputs": ["/srv"], "inputs": ["a.css"]}]})

    def run(step: StepRun, work: Path, _ctx: Context) -> list[Entry]:
        (tmp_path / "a.css").write_text("after")
        write_entries(step.inputs.values(), work)
        return [file_entry("srv/x")]

    ctx = context(tmp_path / "store")
    with pytest.raises(ConfigError, match=r"steps\[0\].inputs: .*a.css changed during the build"):
        step_layers(with_step, base(tmp_path), [], SETTINGS, tmp_path, Compression(), Steps("embedded", run), ctx)


def test_make_readable_adds_read_permission(tmp_path: Path) -> None:
    """The targets of symlinks are not changed."""
    write_files(tmp_path, {"mine": "", "top/d/f": "f", "top/d/deep/g": "g"})
    (tmp_path / "top/d/link").symlink_to(tmp_path / "mine")
    (tmp_path / "top/d/deep/g").chmod(0o644)
    for path in ("mine", "top/d/f", "top/d/deep", "top/d", "top"):
        (tmp_path / path).chmod(0o100)
    make_readable(tmp_path / "top")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"mine": 0o100, "link": 0o100, "top": 0o755, "d": 0o700, "deep": 0o700, "f": 0o500, "g": 0o644}


def test_step_that_is_not_reproducible_gives_a_warning(tmp_path: Path) -> None:
    lines: list[str] = []
    layers(tmp_path, [file_entry("srv/x", b"1")])
    layers(tmp_path, [file_entry("srv/x", b"2")], engine="buildkit", lines=lines)
    assert "wrote different bytes than last time" in "".join(lines)


@pytest.mark.parametrize(("step", "written", "message"), [
    ({"inputs": ["*.css"]}, [], "inputs: nothing in .* matches"),
    ({"outputs": ["/srv/file/below"]}, [], "/srv/file is a file in the image"),
    ({"command": ["pyton3.13"]}, [], r"'pyton3.13' is not a program in the image; did you mean 'python3.13'\?"),
    ({"command": ["/bin/sh"]}, [], "'/bin/sh' is not a program in the image; use one"),
    ({}, [], "wrote nothing below /srv/static"),
    ({}, [file_entry("srv/.wh.x")], "a layer cannot contain this name"),
    ({}, [file_entry("srv/\udcff")], "whose name or target is not UTF-8"),
    ({}, [link("srv/x", "\udcff")], "whose name or target is not UTF-8"),
])
def test_invalid_step_is_reported(step: dict[str, Any], written: list[Entry], message: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, BuildError), match=message):
        layers(tmp_path, written, **step)


def run_in_real_sandbox(
    tmp_path: Path, program: str, argument: str, output: str, *below: list[Entry]
) -> list[tuple[Layer, LayerInfo]]:
    """Return the layers of a step on the layers `below`, run in the sandbox with a program of this machine."""
    need_sandbox()
    root = tmp_path / "root"
    if not root.exists():
        root.mkdir()
        program_root(root, [program])
        (root / "usr/local/bin").mkdir(parents=True)
        (root / "bin" / program).rename(root / "usr/local/bin/python3.13")

    def run(step: StepRun, work: Path, ctx: Context) -> list[Entry]:
        return run_in_sandbox(replace(step, roots=(*step.roots[:-1], root, step.roots[-1])), work, ctx)

    with_step = plan({"steps": [{"command": ["python3.13", *argument.split()], "outputs": [output]}]})
    layers = [(layer_of(entries), LayerInfo(KIND, (), True)) for entries in below]
    steps, ctx = Steps("embedded", run), context(tmp_path / "store")
    return step_layers(with_step, base(tmp_path), layers, SETTINGS, tmp_path, Compression(), steps, ctx)


def test_symlinks_of_earlier_steps_are_not_followed(tmp_path: Path) -> None:
    """In the unpacked layers, they point to files of this machine, which must be neither read nor written."""
    host = tmp_path / "host"
    write_files(host, {"f": "of this machine"})
    links = [link("srv/d", str(host)), link("srv/f", str(host / "f"))]
    instead = [Entry("srv/d", "directory", 0o755, 0), file_entry("srv/d/f"), file_entry("srv/f")]
    ((layer, _),) = run_in_real_sandbox(tmp_path, "touch", "/srv/d/g", "/srv", links, instead)
    assert [entry.path for entry, _ in layer_entries(layer)] == ["srv/d/g"]
    assert {path.name: path.read_text() for path in host.iterdir()} == {"f": "of this machine"}
    with pytest.raises(ConfigError, match="/srv/d is a link in the image"):
        run_in_real_sandbox(tmp_path, "touch", "/srv/d/g", "/srv/d", links)


def test_too_deep_directories_are_reported(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot be read: its directories are too deep"):
        run_in_real_sandbox(tmp_path, "mkdir", f"-p /srv/x/{'d/' * 1500}", "/srv/x")


@pytest.mark.parametrize(("content", "rejected"), [(b"text", False), (b"\x7fELF\x02", True)])
def test_layer_for_another_architecture_has_no_machine_code(content: bytes, rejected: bool, tmp_path: Path) -> None:
    """Another architecture gets the layer of the host's image."""
    (layer,) = layers(tmp_path, [file_entry("srv/x"), file_entry("srv/y", content)])
    here = base(tmp_path)
    image = replace(here.image, layers=(*here.image.layers, layer[0]))
    host_image = BuiltImage(image, here, (*(LayerInfo("base", (), True) for _ in here.image.layers), layer[1]))
    if rejected:
        with pytest.raises(BuildError, match="wrote machine code, /srv/y, for linux/amd64"):
            layers(tmp_path, [], host_image=host_image)
    else:
        assert layers(tmp_path, [], host_image=host_image) == [layer]


@pytest.mark.parametrize(("output", "path"), [
    ("OSError: [Errno 30] Read-only file system: '/opt/x'", "/opt/x"),
    ("PermissionError: [Errno 13] Permission denied: '/opt/x y'", "/opt/x"),
    ("mkdir: cannot create directory '/var/x': Read-only file system", "/var/x"),
    ("Permission denied: '/srv/static/x'", ""), ("all is well", ""),
])
def test_hint_for_a_write_error(output: str, path: str, tmp_path: Path) -> None:
    runs: list[StepRun] = []
    layers(tmp_path, [file_entry("srv/x")], runs=runs)
    hint = write_error_hint(output, runs[0])
    assert hint.startswith(f"\n{path} is not below outputs (/srv/static)") if path else not hint


@pytest.mark.parametrize(("step", "message"), [
    ({"outputs": ["//"]}, None),
    ({"outputs": ["/./."]}, "outputs: / is the whole image"),
    ({"outputs": ["/tmp/x"]}, "/tmp/x belongs to the container's runtime or to the step"),
    ({"outputs": ["/etc"]}, "/etc contains files of the step's container"),
    ({"outputs": ["/srv"], "env": {"A": "1"}, "secrets": ["A"]}, "env: A is also one of its secrets"),
])
def test_impossible_outputs_are_rejected(step: dict[str, Any], message: str | None) -> None:
    with pytest.raises(ConfigError, match=message):
        plan({"steps": [{"command": COMMAND, **step}]})


def test_output_through_a_symlink_of_the_base_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"steps\[0\]\.outputs: /tmp/x belongs to the container's runtime"):
        layers(tmp_path, [], outputs=["/scratch/x"])


def test_places_of_inputs_and_nested_outputs() -> None:
    """A pattern is replaced by the directory above it; an output below another output is dropped."""
    inputs = ["a/b.txt", "a/*/c", "stat?c/x", "conf/[ab]*.toml"]
    (step,) = plan({"steps": [{"command": COMMAND, "outputs": ["/srv/x/", "/srv"], "inputs": inputs}]}).steps
    assert set(step.places) == {"a/b.txt", "a", "", "conf"}
    assert step.outputs == ("/srv",)
