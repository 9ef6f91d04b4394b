"""Checks of this machine and of a project: the command `doctor`."""
