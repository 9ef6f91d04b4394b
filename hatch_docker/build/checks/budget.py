"""The size budget of an image: the build fails if it is exceeded, and names the largest or newest wheels and packages.

Sizes are in bytes as a registry stores them: those are pushed, pulled and paid for.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, ImageError, TransientError
from hatch_docker.core.http.responses import StatusError
from hatch_docker.core.text import megabytes
from hatch_docker.engines.model import OURS, BuiltImage
from hatch_docker.oci.model import Image, Platform
from hatch_docker.oci.pull import pull
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.registry import Remote
from hatch_docker.plan.model import BudgetPlan, Plan

SHOWN = 8  # rows of a message


def check_budget(plan: Plan, built: Sequence[BuiltImage], ctx: Context) -> None:
    """Raise BuildError if an image exceeds the plan's budget; it names the largest layers, or those that grew.

    A registry that keeps failing is an error (TransientError) only for a build that pushes, else a warning.
    """
    budget = plan.budget
    assert budget is not None
    for result in built:
        image = result.image
        if budget.size is not None and image.size > budget.size:
            noted = zip(image.layers, result.notes, strict=True)
            rows = [(", ".join(note.contents) or note.kind, layer.descriptor.size) for layer, note in noted]
            raise BuildError(
                f"the image for {image.platform} takes {megabytes(image.size)} compressed, and "
                f"tool.hatch-docker.max-size is {megabytes(budget.size)}:\n{_rows(rows)}"
            )
    if budget.growth is None and budget.share is None:
        return
    for result in built:
        try:
            found = last_pushed(plan, result.image.platform, ctx)
        except TransientError as error:
            if plan.push:
                raise
            ctx.progress.warn(f"the growth of the image is unknown: {error}")
            continue
        if found is None:
            ctx.progress.detail(f"{plan.repositories[0]} has no image to compare with")
            continue
        _check_growth(budget, *found, result)


def _rows(rows: Sequence[tuple[str, int]], sign: str = "") -> str:
    """Return a line for each of the largest rows."""
    rows = sorted(rows, key=lambda row: -row[1])[:SHOWN]
    lines = [f"  {sign}{megabytes(size)}  {title if len(title) <= 90 else title[:87] + '...'}" for title, size in rows]
    return "\n".join(lines)


def last_pushed(plan: Plan, platform: Platform, ctx: Context) -> tuple[str, Image] | None:
    """Return the image that a push would replace or follow, with its name: the last of the tags that the registry has.

    No layer is downloaded. Raises RegistryError, TransientError and ImageError.
    """
    remote = Remote(ctx.client, ctx.environ)
    for tag in dict.fromkeys([*reversed(plan.tags), "latest"]):
        name = f"{plan.repositories[0]}:{tag}"
        try:
            return name, pull(remote, parse_reference(name), platform, ctx.store)
        except StatusError as error:
            if error.response.status != 404:
                raise
        except ImageError:
            continue  # the tag exists, but not for this platform
    return None


def _check_growth(budget: BudgetPlan, name: str, before: Image, built: BuiltImage) -> None:
    size, now = before.size, built.image.size
    allowed = budget.growth if budget.growth is not None else round(size * (budget.share or 0))
    if now - size <= allowed:
        return
    limit = megabytes(allowed) if budget.growth is not None else f"{100 * (budget.share or 0):g}%"
    share = f", {100 * (now - size) / size:.1f} %" if size else ""
    raise BuildError(
        f"the image for {built.image.platform} grew by {megabytes(now - size)}{share}, to {megabytes(now)} compressed, "
        f"since {name}, and tool.hatch-docker.max-growth is {limit}:\n{_rows(_grown(before, built), '+')}"
    )


def _grown(before: Image, built: BuiltImage) -> list[tuple[str, int]]:
    """Return what grew and by how many bytes: a layer with one wheel under its name, others under their kind."""
    history = [line for line in before.config_json.get("history") or [] if not line.get("empty_layer")]
    lines: list[Mapping[str, str]] = history if len(history) == len(before.layers) else [{}] * len(before.layers)
    described = []
    for line, layer in zip(lines, before.layers, strict=True):
        maker = line.get("created_by", "")
        ours = maker.startswith(OURS)
        contents = tuple(line.get("comment", "").split(", ")) if ours else ()
        described.append((maker.removeprefix(OURS) if ours else "base", contents, layer.descriptor.size))
    noted = zip(built.image.layers, built.notes, strict=True)
    old = _by_title(described)
    rows = []
    for title, (contents, size) in _by_title(
        (note.kind, note.contents, layer.descriptor.size) for layer, note in noted
    ).items():
        then, was = old.get(title, ((), 0))
        if size > was:
            added = sorted(set(map(_name, contents)) - set(map(_name, then)))
            versions = [content for content in contents if content not in then]
            what = f"{title} is new" if not was else f"{title}: {', '.join(versions) or 'other files'}"
            rows.append((what + (f" (with {', '.join(added)})" if was and added else ""), size - was))
    return rows


def _by_title(layers: Iterable[tuple[str, tuple[str, ...], int]]) -> dict[str, tuple[tuple[str, ...], int]]:
    """Return contents and size by the title of a layer: its only wheel, else its kind."""
    found: dict[str, tuple[tuple[str, ...], int]] = {}
    sizes: Counter[str] = Counter()
    for kind, contents, size in layers:
        kind = "base" if kind == "system" else kind
        title = _name(contents[0]) if kind in ("dependencies", "project") and len(contents) == 1 else kind
        sizes[title] += size
        found[title] = ((*found.get(title, ((), 0))[0], *contents), sizes[title])
    return found


def _name(content: str) -> str:
    return content.rpartition(" ")[0] or content
