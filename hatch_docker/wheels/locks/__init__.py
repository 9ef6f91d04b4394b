"""Readers of lock files, and the resolution of requirements."""
