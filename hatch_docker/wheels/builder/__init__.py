"""The builder stage: sdists are built into wheels in a sandbox."""
