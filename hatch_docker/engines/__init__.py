"""The engines, which build an image from a plan."""
