"""The hatch-docker command line."""
