"""What a release adds to an image: names before the engine, proofs after it."""
