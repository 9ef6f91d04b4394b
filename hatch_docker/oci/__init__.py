"""OCI images: values, formats, and reading and writing them in files, daemons and registries."""
