"""Images, layers, registries and daemons: OCI's nouns. Knows nothing of Python projects, hatch or config."""
