"""Base images: opened, inspected, described."""
