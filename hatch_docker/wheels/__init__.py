"""Wheels: package indexes, readers of locks, the builder stage and the wheel installer."""
