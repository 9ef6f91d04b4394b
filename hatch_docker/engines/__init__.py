"""Engines: a plan and a project's sources in, images out. Both make the same image from the same plan."""
