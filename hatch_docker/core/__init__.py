"""Errors, files, programs, secrets, progress, the cache and the network: everything above imports from here."""
