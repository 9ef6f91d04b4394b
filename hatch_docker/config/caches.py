"""The shared caches of [tool.hatch-docker.cache], written as `docker buildx build` takes them."""

from __future__ import annotations

import csv
import re

NEEDS: dict[str, dict[bool, tuple[str, ...]]] = {
    "registry": {True: ("ref",), False: ("ref",)},
    "local": {True: ("dest",), False: ("src",)},
    "gha": {True: (), False: ()},
    "s3": {True: ("region", "bucket"), False: ("region", "bucket")},
    "azblob": {True: ("name", "account_url"), False: ("name", "account_url")},
}
_SECRET = re.compile(r"token|secret|password|access_key")


def parse_cache(value: str, *, target: bool) -> dict[str, str]:
    """The fields of `type=registry,ref=...`; a lone reference is a registry's. A target keeps all stages.

    Raises ValueError, without the value, for what BuildKit would pass over in silence and for secrets, which the
    plan, a log and the list of processes would show.
    """
    if "=" not in value:
        fields = {"type": "registry", "ref": value}
    else:
        try:
            (items,) = csv.reader([value], strict=True)
        except (csv.Error, ValueError):
            raise ValueError('must be fields between commas, as in "type=registry,ref=registry.example/app"') from None
        fields = {}
        for item in items:
            name, equals, text = item.strip().partition("=")
            if not equals:
                raise ValueError(f"the field {name!r} has no value: NAME=VALUE, between commas")
            fields[name.lower()] = text
    _check(fields, target=target)
    return {**fields, "mode": fields.get("mode", "max")} if target else fields


def _check(fields: dict[str, str], *, target: bool) -> None:
    kind = fields.get("type", "")
    if kind == "inline":
        raise ValueError(
            "inline keeps a cache in an image that BuildKit pushes, and this image is put together here; "
            "use type=registry,ref=REPOSITORY:cache"
        )
    if kind not in NEEDS:
        raise ValueError(f"must be of a type that there is: type={', type='.join(NEEDS)}")
    for name in NEEDS[kind][target]:
        if not fields.get(name):
            raise ValueError(f"type={kind} needs {name}=...")
    if fields.get("mode", "max") not in ("min", "max"):
        raise ValueError("mode must be min or max")
    for name, text in fields.items():
        if _SECRET.search(name) or re.search(r"//[^/]*@", text):
            raise ValueError(f"{name} holds a login; leave it out: BuildKit takes it from the environment")
