"""Values that the modules of a release share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A file about an image. `format` is cyclonedx, spdx or slsa; `digest` is its own, `subject` the image's."""

    file: str
    format: str
    media_type: str
    digest: str
    subject: str
