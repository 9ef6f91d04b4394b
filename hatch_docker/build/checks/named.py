"""The check that the image has the modules, attributes and files that its commands name. No code is executed."""

import difflib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hatch_docker.build.checks.references import Reference, references_of
from hatch_docker.core.cache.store import key_of
from hatch_docker.core.context import Context
from hatch_docker.core.errors import ConfigError
from hatch_docker.core.python_names import defined_names, parse_source
from hatch_docker.core.text import abbreviate
from hatch_docker.engines.model import BuiltImage
from hatch_docker.oci.layer import layer_entries
from hatch_docker.oci.model import Layer
from hatch_docker.plan.model import Plan
from hatch_docker.wheels.install.layout import VenvTarget

RECIPE = 1
KIND, FILES = "named", "modules"
MAX_SIZE = 4 << 20  # bytes; larger modules are not read
_ENDINGS = (".py", ".so", ".pyc", ".pth")


def check_references(plan: Plan, built: Sequence[BuiltImage], ctx: Context) -> None:
    """Raise ConfigError if a command of an image names a module, an attribute or a file that the image lacks.

    The commands are entrypoint, cmd and health check. A command passes if the layers do not decide it: a volume may
    contain the module, or the module defines its names at run time. An image that passed is not checked again.
    """
    for result in built:
        config, env = result.image.settings, result.image.env
        for option, words in _commands(plan, config).items():
            references = references_of(words, env)
            if not references:
                continue
            diff_ids = [layer.diff_id for layer in result.image.layers]
            key = key_of(RECIPE, diff_ids, list(words), env, config.get("WorkingDir") or "/", plan.config.volumes)
            if ctx.store.recall(KIND, key):
                continue
            tree = _tree(result, env, config.get("WorkingDir") or "/", ctx)
            if not any(_is_below(place, volume) for volume in plan.config.volumes for place in tree.places):
                for reference in references:
                    if missing := _missing(reference, tree):
                        raise ConfigError(f"tool.hatch-docker.{option}: the image has no {missing}")
            ctx.store.remember(KIND, key, True)


def _commands(plan: Plan, config: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """Return the commands of an image, by the option that sets them."""
    option = "entrypoint" if plan.config.entrypoint else "cmd"
    words = {option: [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]}
    health = (config.get("Healthcheck") or {}).get("Test") or []
    return words | ({"healthcheck.command": health[1:]} if health[:1] == ["CMD"] else {})


def _is_below(place: str, volume: str) -> bool:
    return f"{place}/".startswith(f"{volume.strip('/')}/")


@dataclass(frozen=True, slots=True)
class _Tree:
    """The files of an image that may be modules, and the directories where Python searches modules."""

    layers: Sequence[Layer]                   # the last first
    places: Sequence[str]                     # directories without leading "/", the working directory first
    own: int                                  # the number of layers above the base
    ctx: Context

    def files(self, layer: Layer) -> frozenset[str]:
        """Return the files of a layer that may be modules."""
        key = key_of(RECIPE, layer.diff_id)
        return frozenset(self.ctx.store.recall_or_make(FILES, key, partial(_module_files, layer)))

    def find(self, paths: Sequence[str]) -> tuple[str, Layer] | None:
        """Return the first of `paths` in the last layer with one, and the layer. Paths that end in "/" are prefixes."""
        for layer in self.layers:
            files = self.files(layer)
            for path in paths:
                if path in files:
                    return path, layer
                if path.endswith(("/", ".")) and any(file.startswith(path) for file in files):
                    return path, layer
        return None

    def find_module(self, module: str) -> tuple[str, Layer] | None:
        """Return the path of a module and its layer, None if the image lacks it."""
        stems = [posixpath.join(place, module.replace(".", "/")) for place in self.places]
        return self.find([f"{stem}{end}" for end in ("/__init__.py", ".py", ".", "/") for stem in stems])

    def modules(self) -> Iterator[str]:
        """Yield the names of the modules in the layers above the base."""
        for layer in self.layers[: self.own]:
            for path in sorted(self.files(layer)):
                place = next((place for place in self.places if path.startswith(f"{place}/")), None)
                if place is not None and path.endswith(".py"):
                    name = path[len(place) + 1 : -3].removesuffix("/__init__").removesuffix("/__main__")
                    yield name.replace("/", ".")

    def has_pth_files(self) -> bool:
        """Return whether there is a .pth file, which may add directories to the search path."""
        return any(path.endswith(".pth") for layer in self.layers[: self.own] for path in self.files(layer))


def _tree(built: BuiltImage, env: Mapping[str, str], workdir: str, ctx: Context) -> _Tree:
    interpreter = built.base.interpreter
    prefix = interpreter.path.rpartition("/bin/")[0].strip("/")
    library = posixpath.join(prefix, f"lib/python{interpreter.name}")
    variable = [place for place in env.get("PYTHONPATH", "").split(":") if place]
    first = [posixpath.normpath(posixpath.join(workdir, place)).strip("/") for place in ("", *variable)]
    places = [*first, VenvTarget(interpreter).site_packages, library]
    own = len(built.image.layers) - len(built.base.image.layers)
    return _Tree(tuple(reversed(built.image.layers)), places, own, ctx)


def _module_files(layer: Layer) -> list[str]:
    return [entry.path for entry, _ in layer_entries(layer) if entry.kind in ("file", "hardlink", "symlink")
            and entry.path.endswith(_ENDINGS)]  # fmt: skip


def _missing(reference: Reference, tree: _Tree) -> str:
    """Return the part of a reference that the image lacks, with a suggestion; "" if none, or not decidable."""
    if reference.file:
        path = posixpath.normpath(posixpath.join("/", tree.places[0], reference.file)).strip("/")
        exists = not path.endswith(".py") or tree.find([path])
        return "" if exists else f"file /{path}, which {reference.text!r} names{_files_hint(path, tree)}"
    found = tree.find_module(reference.module)
    if found is None and not reference.attribute and not reference.runs and "." in reference.module:
        parent, _, name = reference.module.rpartition(".")  # celery's -A proj.app
        found = tree.find_module(parent)
        reference = Reference(reference.text, parent, name)
    if found is None:
        if tree.has_pth_files():
            return ""
        close = difflib.get_close_matches(reference.module, sorted(set(tree.modules())), 1, 0.6)
        return f"module {reference.module!r}{_suggestion(close)}"
    path, layer = found
    package = path.endswith("/__init__.py")
    if reference.runs and package and not tree.find([path.replace("__init__", "__main__")]):
        return f"module '{reference.module}.__main__': `python -m` cannot run the package {reference.module}"
    if not reference.attribute or not path.endswith(".py"):
        return ""
    module = f"{reference.module}.{reference.attribute}"
    names = _module_names(layer, path)
    if names is None or reference.attribute in names or (package and tree.find_module(module)):
        return ""
    close = difflib.get_close_matches(reference.attribute, sorted(names), 1, 0.5)
    targets = [f"{reference.module}:{name}" for name in close]
    return f"{reference.attribute!r} in the module {reference.module!r}{_suggestion(targets)}"


def _suggestion(names: Sequence[str]) -> str:
    return f"; did you mean {names[0]}?" if names else ""


def _files_hint(path: str, tree: _Tree) -> str:
    end = f"/{posixpath.basename(path)}"
    files = {f"/{file}" for layer in tree.layers[: tree.own] for file in tree.files(layer) if f"/{file}".endswith(end)}
    return f"; it is at {abbreviate(sorted(files))}" if files else "; add it with `files`"


def _module_names(layer: Layer, path: str) -> frozenset[str] | None:
    """Return the names that a module defines, None if its source does not decide that."""
    for entry, content in layer_entries(layer):
        if entry.path == path and content is not None and entry.size <= MAX_SIZE:
            tree = parse_source(content.read())
            return defined_names(tree) if tree else None
    return None
