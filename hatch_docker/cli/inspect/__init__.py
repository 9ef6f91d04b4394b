"""`hatch-docker inspect`, `why` and `diff`: the contents of an image."""
