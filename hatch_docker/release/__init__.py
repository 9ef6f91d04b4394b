"""Release of an image: pushing it to registries, SBOMs, provenance and signatures."""
