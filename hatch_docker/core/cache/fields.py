"""The fields that name a cache outside of this machine, as BuildKit's `--cache-from` and `--cache-to` take them."""

import csv
import re

# The fields that each type of a cache needs.
_NEEDS: dict[str, tuple[str, ...]] = {
    "registry": ("ref",), "local": (), "gha": (), "s3": ("region", "bucket"), "azblob": ("name", "account_url"),
}


def read_fields(value: str, *, place: str) -> dict[str, str]:
    """Return the fields of `type=registry,ref=...`; a lone reference means a registry, `none` no cache.

    `place` is the field for the directory of a local cache: `src`, or `dest` of one to write, which holds all stages
    unless it says `mode=min`. Raises ValueError, without the value, for a field that BuildKit would ignore silently,
    and for secrets, which the plan, a log and the list of processes would show.
    """
    if value == "none":
        return {"type": "none"}
    fields = _split(value) if "=" in value else {"type": "registry", "ref": value}
    kind = fields.get("type", "")
    if kind == "inline":
        raise ValueError(
            "inline keeps a cache in an image that BuildKit pushes, and this image is put together here; "
            "use type=registry,ref=REPOSITORY:cache"
        )
    if kind not in _NEEDS:
        raise ValueError(f"must have one of these types: type={', type='.join(_NEEDS)}")
    for name in (place,) if kind == "local" else _NEEDS[kind]:
        if not fields.get(name):
            raise ValueError(f"type={kind} needs {name}=...")
    if fields.get("mode", "max") not in ("min", "max"):
        raise ValueError("mode must be min or max")
    for name, text in fields.items():
        if re.search("token|secret|password|access_key", name) or re.search(r"//[^/]*@", text):
            raise ValueError(f"{name} holds a login; leave it out: BuildKit takes it from the environment")
    return {**fields, "mode": fields.get("mode", "max")} if place == "dest" else fields


def _split(value: str) -> dict[str, str]:
    try:
        (items,) = csv.reader([value], strict=True)
    except (csv.Error, ValueError):
        raise ValueError('must be fields between commas, as in "type=registry,ref=registry.example/app"') from None
    pairs = [item.strip().partition("=") for item in items]
    for bare in (name for name, equals, _ in pairs if not equals):
        raise ValueError(f"the field {bare!r} has no value: NAME=VALUE, between commas")
    return {name.lower(): text for name, _, text in pairs}
