"""Turn a Python project into the smallest container image that runs it."""

__version__ = "0.1.0.dev0"
