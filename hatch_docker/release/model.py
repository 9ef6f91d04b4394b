"""Values that the modules of a release share."""

from dataclasses import dataclass

from hatch_docker.core.validation import FileName, Line


@dataclass(frozen=True, slots=True)
class Document:
    """A file about an image. `format` is cyclonedx, spdx or slsa; `digest` is its own, `subject` the image's."""

    file: FileName
    format: Line
    media_type: Line
    digest: Line
    subject: Line
