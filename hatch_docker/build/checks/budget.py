"""The size budget of an image (`max-size`, `max-growth`): the build fails if the image exceeds it.

Sizes are the bytes that a registry stores and transfers (compressed layers).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from hatch_docker.core.context import Context
from hatch_docker.core.errors import BuildError, ImageError, TransientError
from hatch_docker.core.http.responses import StatusError
from hatch_docker.core.text import megabytes
from hatch_docker.engines.model import HISTORY_PREFIX, BuiltImage
from hatch_docker.oci.model import Image, Platform
from hatch_docker.oci.pull import pull
from hatch_docker.oci.reference import parse_reference
from hatch_docker.oci.registry import Remote
from hatch_docker.plan.model import BudgetPlan, Plan

MAX_ROWS = 8  # rows in an error message


def check_budget(plan: Plan, built: Sequence[BuiltImage], ctx: Context) -> None:
    """Raise BuildError if an image exceeds the plan's budget. The message lists the largest layers, or those that grew.

    If the registry with the previous image fails, raise TransientError for a build that pushes, otherwise warn.
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
    """Return a line for each of the largest rows. `rows`: title and bytes."""
    rows = sorted(rows, key=lambda row: -row[1])[:MAX_ROWS]
    lines = [f"  {sign}{megabytes(size)}  {title if len(title) <= 90 else title[:87] + '...'}" for title, size in rows]
    return "\n".join(lines)


def last_pushed(plan: Plan, platform: Platform, ctx: Context) -> tuple[str, Image] | None:
    """Return name and image of the previous push: the last of the plan's tags in its first registry, or "latest".

    Downloads no layer. Returns None if there is no such tag. Raises RegistryError, TransientError and ImageError.
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
        f"since {name}, and tool.hatch-docker.max-growth is {limit}:\n{_rows(_growth_rows(before, built), '+')}"
    )


def _growth_rows(before: Image, built: BuiltImage) -> list[tuple[str, int]]:
    """Return a description of each layer that grew, and by how many bytes. Layers are compared by `_by_title`."""
    history = [line for line in before.config_json.get("history") or [] if not line.get("empty_layer")]
    lines: list[Mapping[str, str]] = history if len(history) == len(before.layers) else [{}] * len(before.layers)
    described = []
    for line, layer in zip(lines, before.layers, strict=True):
        maker = line.get("created_by", "")
        ours = maker.startswith(HISTORY_PREFIX)
        contents = tuple(line.get("comment", "").split(", ")) if ours else ()
        described.append((maker.removeprefix(HISTORY_PREFIX) if ours else "base", contents, layer.descriptor.size))
    noted = zip(built.image.layers, built.notes, strict=True)
    old = _by_title(described)
    rows = []
    for title, (contents, size) in _by_title(
        (note.kind, note.contents, layer.descriptor.size) for layer, note in noted
    ).items():
        then, was = old.get(title, ((), 0))
        if size > was:
            added = sorted(set(map(_without_version, contents)) - set(map(_without_version, then)))
            versions = [content for content in contents if content not in then]
            what = f"{title} is new" if not was else f"{title}: {', '.join(versions) or 'other files'}"
            rows.append((what + (f" (with {', '.join(added)})" if was and added else ""), size - was))
    return rows


def _by_title(layers: Iterable[tuple[str, tuple[str, ...], int]]) -> dict[str, tuple[tuple[str, ...], int]]:
    """Return contents and bytes of layers by title: the name of the only wheel in the layer, otherwise its kind."""
    found: dict[str, tuple[tuple[str, ...], int]] = {}
    sizes: Counter[str] = Counter()
    for kind, contents, size in layers:
        kind = "base" if kind == "system" else kind
        is_wheel = kind in ("dependencies", "project") and len(contents) == 1
        title = _without_version(contents[0]) if is_wheel else kind
        sizes[title] += size
        found[title] = ((*found.get(title, ((), 0))[0], *contents), sizes[title])
    return found


def _without_version(content: str) -> str:
    return content.rpartition(" ")[0] or content
