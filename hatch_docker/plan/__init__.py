"""The plan of an image."""
