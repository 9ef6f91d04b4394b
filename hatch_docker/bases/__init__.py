"""Bases: the images that a project's image starts from."""
