"""Wheels: pinned, fetched, installed into layers; and the builder stage that makes them."""
