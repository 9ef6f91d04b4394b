"""Additions of a release to an image: push, SBOM, provenance, signatures."""
