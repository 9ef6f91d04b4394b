"""The value Document."""

from dataclasses import dataclass

from hatch_docker.core.validation import FileName, Line


@dataclass(frozen=True, slots=True)
class Document:
    """An SBOM or provenance. `format` is cyclonedx, spdx or slsa. `subject` is the digest of the image or index."""

    file: FileName
    format: Line
    media_type: Line
    digest: Line                               # of the document
    subject: Line
