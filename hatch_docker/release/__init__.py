"""What a release adds to an image."""
