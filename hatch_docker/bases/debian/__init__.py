"""Bases made of Debian packages: the package archive, the dependency resolver, the root file system."""
