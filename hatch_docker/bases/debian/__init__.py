"""The base of Debian packages: archive, resolver, root file system."""
