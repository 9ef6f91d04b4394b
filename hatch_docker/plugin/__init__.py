"""The entry points that hatch calls."""
