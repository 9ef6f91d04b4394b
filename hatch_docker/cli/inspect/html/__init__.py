"""HTML page of an image's contents."""
