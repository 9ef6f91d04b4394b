"""Compiled code in an image: the shared libraries that its files need."""
