"""OCI images: values, formats and the places where they are kept."""
