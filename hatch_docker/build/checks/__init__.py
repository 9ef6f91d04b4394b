"""Checks of a finished image."""
