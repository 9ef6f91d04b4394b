"""HTTP: one client, its retries and its limits."""
