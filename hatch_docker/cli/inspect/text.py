"""Text of `inspect` for a terminal. Names may contain control characters: print the lines with `print_lines`."""

import shlex
from collections.abc import Iterable, Iterator, Sequence

from hatch_docker.build.receipt import left_out_lines
from hatch_docker.cli.inspect.model import TITLES, ImageContents, largest_files, largest_packages
from hatch_docker.cli.inspect.reader import NamedImage
from hatch_docker.core.text import megabytes, percentage, plural
from hatch_docker.plan.naming import PREFIX

MAX_ROWS = 20         # packages, files or paths in a list without --all
WIDTH = 60            # characters of a layer's title
TYPES = {"python": "Python", "deb": "Debian", "apk": "Alpine", "interpreter": "-"}


def inspect_lines(named: NamedImage, *, files: bool, show_all: bool) -> Iterator[str]:
    """Yield the contents of an image as lines. `files`: also list files. `show_all`: do not shorten lists."""
    contents = named.contents
    yield f"{named.name}  {contents.image.platform}  {contents.created}".rstrip()
    yield contents.image.digest
    if len(named.platforms) > 1:
        platforms = ", ".join(str(platform) for platform, _, _ in named.platforms)
        yield f"one of {platforms}; together {named.digest}"
    stored = f" ({megabytes(contents.size)} compressed)" if contents.compressed else ""
    yield from ("", f"{megabytes(contents.unpacked_size)}{stored}, {megabytes(contents.yours)} of it yours", "")
    yield from _settings(contents)
    yield ""
    yield from _layers(contents)
    yield from (f"     {line}" for line in left_out_lines(named.left_out))
    yield ""
    yield from _packages(contents, show_all=show_all)
    yield ""
    yield from _permissions(contents, show_all=show_all)
    if files:
        largest = largest_files(contents)
        yield from ("", plural(len(largest), "file"))
        for file in largest if show_all else largest[:MAX_ROWS]:
            package = contents.package_of(file, "-" if file.present else "(removed again)")
            yield size_line(file.size, f"layer {file.layer + 1:<3} {package:<20} /{file.path}")


def size_line(size: int, text: str) -> str:
    """Return a line of a table with a size in its first column."""
    return f"{megabytes(size):>14}  {text}".rstrip()


def _settings(contents: ImageContents) -> Iterator[str]:
    settings = contents.settings
    yield from _row("runs", contents.command)
    yield from _row("as", contents.user)
    for title, name in (("ports", "ExposedPorts"), ("volumes", "Volumes")):
        if settings.get(name):
            yield from _row(title, ", ".join(sorted(settings[name])))
    yield from _row("env", *map(shlex.quote, settings.get("Env") or ()))
    labels = (f"{name.removeprefix(PREFIX)} {_cut(value)}" for name, value in contents.labels.items())
    yield from _row("labels", *labels)
    yield from _row("system", contents.platform_text or "not named in the image")


def _row(title: str, *lines: str) -> Iterator[str]:
    """Yield lines, the first one with a title."""
    for number, line in enumerate(lines):
        yield f"{'' if number else title:<10}{line}"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."


def _layers(contents: ImageContents) -> Iterator[str]:
    stored = contents.compressed
    yield f"{'layers':<10}{'unpacked':>26}{'share':>9}" + (f"{'compressed':>13}" if stored else "")
    for number, layer in enumerate(contents.layers, 1):
        compressed = f"{megabytes(layer.size):>13}" if stored else ""
        removed = f" ({megabytes(layer.removed_size)} of it removed again)" if layer.removed_size else ""
        sizes = _kind_columns(contents, layer.kind, layer.unpacked_size)
        yield f"{number:>3}  {sizes}{compressed}  {_cut(layer.title)}{removed}".rstrip()
    if not contents.by_hatch_docker:
        yield from ("", "what it is, by its files")
        yield from (f"     {_kind_columns(contents, kind.kind, kind.unpacked_size)}" for kind in contents.kinds)


def _kind_columns(contents: ImageContents, kind: str, size: int) -> str:
    return f"{TITLES[kind]:<20}{megabytes(size):>11}{percentage(size, contents.unpacked_size):>9}"


def _packages(contents: ImageContents, *, show_all: bool) -> Iterator[str]:
    packages = largest_packages(contents.packages)
    if not packages:
        yield "packages  none that can be read"
        return
    yield plural(len(packages), "package")
    listed = packages if show_all else packages[:MAX_ROWS]
    width = min(max(len(package.title) for package in listed), 44)
    for package in listed:
        layer = f"layer {package.layer + 1}" if package.layer >= 0 else ""
        yield size_line(package.size, f"{package.title:<{width}}  {TYPES[package.type]:<7} {layer}")
    yield from rest_line(package.size for package in packages[len(listed) :])


def rest_line(sizes: Iterable[int]) -> Iterator[str]:
    """Yield a line with number and sum of the sizes that a table leaves out; no line if it leaves out none."""
    if rest := [*sizes]:
        yield size_line(sum(rest), f"in {len(rest)} more (--all)")


def _permissions(contents: ImageContents, *, show_all: bool) -> Iterator[str]:
    facts = contents.permissions
    owners = (f"{name} {megabytes(owned.size)} in {plural(owned.files, 'file')}" for name, owned in contents.owners)
    yield from _row("owners", ", ".join(owners) or "no files")
    yield from _row("setuid", *_shortened(facts.setuid, show_all=show_all) or ["none"])
    if facts.user == 0:
        yield from _row("writable", "everything: it runs as root")
        return
    user = contents.settings.get("User")
    own = [f"{path} by {user}" for path in _shortened(facts.writable, show_all=show_all)]
    everybody = [f"{path} by everybody" for path in _shortened(facts.writable_by_everybody, show_all=show_all)]
    yield from _row("writable", *[*own, *everybody] or ["nothing"])


def _shortened(paths: Sequence[str], *, show_all: bool) -> list[str]:
    rest = 0 if show_all else max(0, len(paths) - MAX_ROWS)
    return [*paths[:MAX_ROWS], f"{rest} more (--all)"] if rest else [*paths]
