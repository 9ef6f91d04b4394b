"""Contents of images: what `inspect`, `why` and `diff` read and print."""
