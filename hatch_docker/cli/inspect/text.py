"""What `inspect` tells: lines for a terminal. Names are a stranger's: whoever prints a line makes it `plain`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from hatch_docker.cli.inspect.model import TITLES, Contents, Package
from hatch_docker.cli.inspect.subject import Subject
from hatch_docker.core.text import counted, megabytes, share
from hatch_docker.oci.model import LAYER_TYPES
from hatch_docker.plan.naming import PREFIX

SHOWN = 20            # packages, files and paths that are told unless all are asked for
WIDTH = 60            # characters of what is in a layer
TYPES = {"python": "Python", "deb": "Debian", "apk": "Alpine", "interpreter": "-"}


def told(subject: Subject, *, files: bool, every: bool) -> Iterator[str]:
    """All about an image, the answer first: what it weighs, and what of that is the project."""
    contents = subject.contents
    image = contents.image
    yield f"{subject.name}  {image.platform}  {image.config_json.get('created') or ''}".rstrip()
    yield image.digest
    if len(subject.platforms) > 1:
        others = (str(platform) for platform, _, _ in subject.platforms)
        yield f"one of {', '.join(others)}; together {subject.digest}"
    yield ""
    yield headline(contents)
    yield ""
    yield from _settings(contents)
    yield ""
    yield from _layers(contents)
    if subject.left_out:
        from hatch_docker.build.receipt import left_out_lines

        yield from (f"     {line}" for line in left_out_lines(subject.left_out))
    yield ""
    yield from _packages(contents, every=every)
    yield ""
    yield from _permissions(contents, every=every)
    if files:
        yield ""
        yield from _files(contents, every=every)


def compressed(contents: Contents) -> bool:
    """Whether the layers are stored compressed; a daemon gives them away as plain tars."""
    return any(LAYER_TYPES[layer.descriptor.media_type] for layer in contents.image.layers)


def headline(contents: Contents) -> str:
    """The question that everybody has: how large is it, and how much of it is the project?"""
    stored = f" ({megabytes(contents.stored)} compressed)" if compressed(contents) else ""
    return f"{megabytes(contents.unpacked)}{stored}, {megabytes(contents.yours)} of it yours"


def _settings(contents: Contents) -> Iterator[str]:
    settings = contents.settings
    command = [*(settings.get("Entrypoint") or ()), *(settings.get("Cmd") or ())]
    yield _row("runs", shlex.join(command) if command else "nothing that it names itself")
    user = settings.get("User") or "root"
    yield _row("as", f"{user} in {settings.get('WorkingDir') or '/'}")
    for title, name in (("ports", "ExposedPorts"), ("volumes", "Volumes")):
        if settings.get(name):
            yield _row(title, ", ".join(sorted(settings[name])))
    yield from _rows("env", [shlex.quote(line) for line in settings.get("Env") or ()])
    labels = (f"{name.removeprefix(PREFIX)} {_cut(value, WIDTH)}" for name, value in sorted(contents.labels.items()))
    yield from _rows("labels", list(labels))
    system = filter(None, [contents.system, contents.python and f"Python {contents.python}"])
    yield _row("system", ", ".join(system) or "none that it names")


def _row(title: str, text: str) -> str:
    return f"{title:<10}{text}"


def _rows(title: str, lines: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield _row("" if number else title, line)


def _cut(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 3] + "..."


def _layers(contents: Contents) -> Iterator[str]:
    stored = compressed(contents)
    yield f"{'layers':<10}{'unpacked':>26}{'share':>9}" + (f"{'compressed':>13}" if stored else "")
    for number, layer in enumerate(contents.layers, 1):
        packed = f"{megabytes(layer.stored):>13}" if stored else ""
        gone = f" ({megabytes(layer.removed)} of it removed again)" if layer.removed else ""
        title = TITLES[layer.kind]
        size, percent = megabytes(layer.unpacked), share(layer.unpacked, contents.unpacked)
        yield f"{number:>3}  {title:<20}{size:>11}{percent:>9}{packed}  {_cut(layer.title, WIDTH)}{gone}".rstrip()
    if not contents.ours:
        yield ""
        yield "what it is, by its files"
        for part in contents.parts:
            yield f"     {TITLES[part.kind]:<20}{megabytes(part.size):>11}{share(part.size, contents.unpacked):>9}"


def by_size(packages: Iterable[Package]) -> list[Package]:
    """The largest first."""
    return sorted(packages, key=lambda one: (-one.size, one.name, one.type))


def _packages(contents: Contents, *, every: bool) -> Iterator[str]:
    found = by_size(contents.packages)
    if not found:
        yield "packages  none that can be read"
        return
    yield counted(len(found), "package")
    chosen = found if every else found[:SHOWN]
    width = min(max(len(one.title) for one in chosen), 44)
    for one in chosen:
        layer = f"layer {one.layer + 1}" if one.layer >= 0 else ""
        yield f"{megabytes(one.size):>14}  {one.title:<{width}}  {TYPES[one.type]:<7} {layer}".rstrip()
    if len(chosen) < len(found):
        rest = sum(one.size for one in found[SHOWN:])
        yield f"{megabytes(rest):>14}  in {len(found) - SHOWN} more (--all)"


def _permissions(contents: Contents, *, every: bool) -> Iterator[str]:
    facts = contents.permissions
    owners = sorted(facts.owners.items(), key=lambda row: (-row[1][1], row[0]))
    yield _row("owners", ", ".join(
        f"{name} {megabytes(size)} in {counted(files, 'file')}" for name, (files, size) in owners if files
    ) or "no files")  # fmt: skip
    yield from _rows("setuid", _some(facts.privileged, every=every) or ["none"])
    if facts.user == 0:
        yield _row("writable", "everything: it runs as root")
    else:
        who = contents.settings.get("User")
        own = [f"{path} by {who}" for path in _some(facts.writable, every=every)]
        anybody = [f"{path} by everybody" for path in _some(facts.open, every=every)]
        yield from _rows("writable", [*own, *anybody] or ["nothing"])


def _some(paths: Sequence[str], *, every: bool) -> list[str]:
    return [*paths] if every or len(paths) <= SHOWN else [*paths[:SHOWN], f"{len(paths) - SHOWN} more (--all)"]


def _files(contents: Contents, *, every: bool) -> Iterator[str]:
    files = sorted((one for one in contents.files if not one.link), key=lambda one: (-one.size, one.path))
    yield counted(len(files), "file")
    for one in files if every else files[:SHOWN]:
        of = contents.packages[one.package].name if one.package >= 0 else "-" if one.shown else "(removed again)"
        yield f"{megabytes(one.size):>14}  layer {one.layer + 1:<3} {of:<20} /{one.path}"
