"""Engines: from a plan to an image."""
