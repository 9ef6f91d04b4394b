"""Errors, files, subprocesses, secrets, progress, the cache and HTTP. Every other package may import from here."""
