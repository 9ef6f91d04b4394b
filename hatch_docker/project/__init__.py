"""The Python project."""
