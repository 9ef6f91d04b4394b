"""Wheels: found, fetched, built, installed."""
