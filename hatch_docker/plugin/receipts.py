"""The receipts of one `hatch build`: what one target or hook made, another one need not make again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from hatch_docker.build.receipt import Receipt

# By hatchling's metadata object, which all targets of one `hatch build` share.
_receipts: WeakKeyDictionary[Any, dict[str, Receipt]] = WeakKeyDictionary()


def receipts_of(metadata: Any) -> dict[str, Receipt]:
    """Return the receipts of a project's images, by the image's name; whoever makes one adds it."""
    return _receipts.setdefault(metadata, {})
